//! The subscriptions that are to be told, in two queues: what a phone waits for goes before what fans out. Each has another
//! beside it for phones that are not known to answer, while the window has no place for those.
//! A number may stand here after its subscription has gone; whoever takes it looks.

use std::collections::VecDeque;

use crate::subscription::record::{self, Queued};

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The NOTIFY after a subscribe, a refresh or an end.
    Prompt,
    /// The NOTIFY after a change.
    FanOut,
}

/// The queues.
#[derive(Debug, Default)]
pub struct Ready {
    prompt: Queue,
    fan_out: Queue,
    prompt_held: Queue,
    fan_out_held: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<u32>,
    /// How many have been taken from it so far, and so the number of the first that waits. It wraps.
    taken: u32,
}

impl Ready {
    /// Appends a subscription, and says where it stands now.
    pub fn push(&mut self, urgency: Urgency, subscription: u32) -> Queued {
        let (waiting, queue) = match urgency {
            Urgency::Prompt => (&mut self.prompt, record::Queue::Prompt),
            Urgency::FanOut => (&mut self.fan_out, record::Queue::FanOut),
        };
        let number = waiting.push(subscription);
        Queued { queue, number }
    }

    /// Takes the next one, with the place that it stood in. `held`: those that were held back have their turn too.
    pub fn pop(&mut self, held: bool) -> Option<(u32, Queued)> {
        let queues = [
            (held, &mut self.prompt_held, record::Queue::PromptHeld),
            (true, &mut self.prompt, record::Queue::Prompt),
            (held, &mut self.fan_out_held, record::Queue::FanOutHeld),
            (true, &mut self.fan_out, record::Queue::FanOut),
        ];
        for (has_turn, waiting, queue) in queues {
            if has_turn && let Some((subscription, number)) = waiting.pop() {
                return Some((subscription, Queued { queue, number }));
            }
        }
        None
    }

    /// Holds back who stood in that queue, until there is a place for those that may not answer. Says where it stands now.
    pub fn hold(&mut self, queue: record::Queue, subscription: u32) -> Queued {
        let (waiting, queue) = match queue {
            record::Queue::Prompt | record::Queue::PromptHeld => {
                (&mut self.prompt_held, record::Queue::PromptHeld)
            }
            record::Queue::FanOut | record::Queue::FanOutHeld | record::Queue::Line => {
                (&mut self.fan_out_held, record::Queue::FanOutHeld)
            }
        };
        let number = waiting.push(subscription);
        Queued { queue, number }
    }

    /// Whether somebody has a turn.
    pub fn has_next(&self, held: bool) -> bool {
        let has_some = |queue: &Queue| !queue.waiting.is_empty();
        has_some(&self.prompt)
            || has_some(&self.fan_out)
            || held && (has_some(&self.prompt_held) || has_some(&self.fan_out_held))
    }

    /// Whether the subscription stands in that place.
    pub fn holds(&self, place: Queued, subscription: u32) -> bool {
        let queue = match place.queue {
            record::Queue::Prompt => &self.prompt,
            record::Queue::FanOut => &self.fan_out,
            record::Queue::PromptHeld => &self.prompt_held,
            record::Queue::FanOutHeld => &self.fan_out_held,
            record::Queue::Line => return false,
        };
        let position = place.number.wrapping_sub(queue.taken) as usize;
        queue.waiting.get(position) == Some(&subscription)
    }

    /// How many wait for what they have asked for.
    pub fn prompt_len(&self) -> usize {
        self.prompt.waiting.len() + self.prompt_held.waiting.len()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.prompt_len() + self.fan_out.waiting.len() + self.fan_out_held.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the memory of a large fan-out back once it is over.
    pub fn shrink(&mut self) {
        self.prompt.shrink();
        self.fan_out.shrink();
        self.prompt_held.shrink();
        self.fan_out_held.shrink();
    }
}

impl Queue {
    fn push(&mut self, subscription: u32) -> u32 {
        let number = self.taken.wrapping_add(self.waiting.len() as u32);
        self.waiting.push_back(subscription);
        number
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        let subscription = self.waiting.pop_front()?;
        let number = self.taken;
        self.taken = number.wrapping_add(1);
        Some((subscription, number))
    }

    fn shrink(&mut self) {
        const KEPT: usize = 1024;
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting.shrink_to(KEPT);
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
        let mut next = || ready.pop(true).map(|(subscription, _)| subscription);
        assert_eq!(
            [next(), next(), next(), next()],
            [Some(3), Some(1), Some(2), None]
        );
    }

    #[test]
    fn who_may_not_answer_lets_others_go_first_until_it_has_a_turn() {
        let mut ready = Ready::default();
        ready.push(Urgency::Prompt, 1);
        ready.push(Urgency::FanOut, 2);
        for _ in 0..2 {
            let (subscription, place) = ready.pop(false).expect("somebody");
            let held = ready.hold(place.queue, subscription);
            assert!(ready.holds(held, subscription));
        }
        assert!(!ready.has_next(false) && ready.has_next(true));
        assert_eq!((ready.prompt_len(), ready.len()), (1, 2));
        ready.push(Urgency::Prompt, 3);
        ready.push(Urgency::FanOut, 4);
        let mut next = |held| ready.pop(held).map(|(subscription, _)| subscription);
        assert_eq!(
            [next(false), next(true), next(true), next(true), next(true)],
            [Some(3), Some(1), Some(2), Some(4), None]
        );
    }

    #[test]
    fn a_place_is_held_until_it_is_taken_and_by_nobody_else() {
        let mut ready = Ready::default();
        // The numbers of places come round.
        ready.fan_out.taken = u32::MAX - 1;
        let places: Vec<_> = (10..14)
            .map(|subscription| ready.push(Urgency::FanOut, subscription))
            .collect();
        for (first, place) in places.iter().enumerate() {
            for (which, other) in places.iter().enumerate() {
                assert_eq!(ready.holds(*other, 10 + which as u32), which >= first);
                assert!(!ready.holds(*other, 99));
            }
            assert_eq!(ready.pop(true), Some((10 + first as u32, *place)));
        }
        assert!(ready.is_empty() && !ready.holds(places[0], 10));
    }
}
