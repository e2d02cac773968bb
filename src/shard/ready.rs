//! The subscriptions that are to be told, in two queues: what a phone waits for goes before what fans out.
//! A number may stand here after its subscription has gone; whoever takes it looks.

use std::collections::VecDeque;

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The NOTIFY after a subscribe, a refresh or an end.
    Prompt,
    /// The NOTIFY after a change.
    FanOut,
}

/// The two queues.
#[derive(Debug, Default)]
pub struct Ready {
    prompt: VecDeque<u32>,
    fan_out: VecDeque<u32>,
}

impl Ready {
    /// Appends a subscription.
    pub fn push(&mut self, urgency: Urgency, subscription: u32) {
        match urgency {
            Urgency::Prompt => self.prompt.push_back(subscription),
            Urgency::FanOut => self.fan_out.push_back(subscription),
        }
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<u32> {
        self.prompt.pop_front().or_else(|| self.fan_out.pop_front())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.fan_out.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.prompt.is_empty() && self.fan_out.is_empty()
    }

    /// Gives the memory of a large fan-out back once it is over.
    pub fn shrink(&mut self) {
        const KEPT: usize = 1024;
        if self.fan_out.is_empty() && self.fan_out.capacity() > KEPT {
            self.fan_out.shrink_to(KEPT);
        }
        if self.prompt.is_empty() && self.prompt.capacity() > KEPT {
            self.prompt.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_does_not_wait_behind_a_fan_out() {
        let mut ready = Ready::default();
        ready.push(Urgency::FanOut, 1);
        ready.push(Urgency::FanOut, 2);
        ready.push(Urgency::Prompt, 3);
        assert_eq!(
            [ready.pop(), ready.pop(), ready.pop(), ready.pop()],
            [Some(3), Some(1), Some(2), None]
        );
    }
}
