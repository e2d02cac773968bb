//! The turns of one phone: how many changes it takes, and which of its subscriptions wait to be told one. In the order
//! in which they came, so that a key that changes all the time takes no other key's turn.

use std::collections::VecDeque;

use crate::rate::{Meter, Rate};
use crate::time::Time;
use crate::wheel::TimerId;

/// The turns of a phone. What waits takes memory for phones only that had to wait once.
#[derive(Default)]
pub struct Turns {
    meter: Meter,
    line: Option<Box<Line>>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<u32>,
    /// How many have left it so far, and so the number of the first that waits. It wraps.
    left: u32,
    /// Runs while somebody waits.
    timer: Option<TimerId>,
}

impl Turns {
    /// Whether a change may be told now: nobody waits, and the rate allows it.
    pub fn take(&mut self, now: Time, rate: &Rate) -> bool {
        let free = self
            .line
            .as_ref()
            .is_none_or(|line| line.waiting.is_empty());
        free && self.meter.take(now, rate)
    }

    /// A subscription waits: the number of its place.
    pub fn wait(&mut self, subscription: u32) -> u32 {
        let line = self.line.get_or_insert_default();
        let number = line.left.wrapping_add(line.waiting.len() as u32);
        line.waiting.push_back(subscription);
        number
    }

    /// When a timer must fire for those who wait; None: one runs already.
    pub fn needs_timer(&self, rate: &Rate) -> Option<Time> {
        let runs = self.line.as_ref().is_some_and(|line| line.timer.is_some());
        (!runs).then(|| self.meter.next(rate))
    }

    /// The timer runs.
    pub fn set_timer(&mut self, timer: TimerId) {
        self.line.get_or_insert_default().timer = Some(timer);
    }

    /// The timer that runs.
    pub fn timer(&self) -> Option<TimerId> {
        self.line.as_ref()?.timer
    }

    /// The timer that runs, no longer known here: it has fired, or the phone is gone.
    pub fn take_timer(&mut self) -> Option<TimerId> {
        self.line.as_mut()?.timer.take()
    }

    /// Who has waited longest, with the number of the place.
    pub fn first(&self) -> Option<(u32, u32)> {
        let line = self.line.as_ref()?;
        Some((*line.waiting.front()?, line.left))
    }

    /// Whether the subscription stands in that place.
    pub fn holds(&self, number: u32, subscription: u32) -> bool {
        self.line.as_ref().is_some_and(|line| {
            let position = number.wrapping_sub(line.left) as usize;
            line.waiting.get(position) == Some(&subscription)
        })
    }

    /// The turn of the first has come, if the rate allows it; without a rate it always has. When it is, if not.
    pub fn call(&mut self, now: Time, rate: Option<&Rate>) -> Result<(), Time> {
        match rate {
            Some(rate) if !self.meter.take(now, rate) => Err(self.meter.next(rate)),
            Some(_) | None => {
                self.leave();
                Ok(())
            }
        }
    }

    /// Who has waited longest waits no longer.
    pub fn leave(&mut self) {
        if let Some(line) = &mut self.line
            && line.waiting.pop_front().is_some()
        {
            line.left = line.left.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_goes_first_and_the_rate_holds() {
        let rate = Rate::new(10, 1);
        let mut turns = Turns::default();
        let now = Time::from_millis(1_000);
        assert!(turns.take(now, &rate));
        assert!(!turns.take(now, &rate));
        assert_eq!(turns.wait(7), 0);
        assert_eq!(turns.needs_timer(&rate), Some(Time::from_millis(1_100)));
        let later = Time::from_millis(1_100);
        assert!(!turns.take(later, &rate), "another one waits");
        assert_eq!(turns.wait(8), 1);
        assert!(turns.holds(0, 7) && turns.holds(1, 8) && !turns.holds(0, 8));
        assert_eq!(turns.first(), Some((7, 0)));
        assert_eq!(turns.call(later, Some(&rate)), Ok(()));
        assert_eq!(turns.first(), Some((8, 1)));
        assert!(!turns.holds(0, 7) && turns.holds(1, 8));
        assert_eq!(
            turns.call(later, Some(&rate)),
            Err(Time::from_millis(1_200))
        );
        assert_eq!(turns.call(later, None), Ok(()));
        assert_eq!((turns.first(), turns.take_timer()), (None, None));
    }
}
