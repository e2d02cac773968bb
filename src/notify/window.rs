//! How many NOTIFYs may be on their way at once: so few that neither our socket buffer nor the peers'
//! overflows with a burst of answers, so many that the line is never idle.
//!
//! Only those younger than T1 count: what a dead phone does not answer leaves the count after T1 and
//! costs the living nothing. An answer in time widens the window; a request that was answered only
//! after it had been sent again, or that the kernel refused, halves it, at most once in T1.

use crate::config::limits;
use crate::time::{T1, Time};

/// So many answers in time, for each that fits in the window, widen it by one: 2 doubles it in two rounds.
const IN_FLIGHT_GROWTH: usize = 2;

/// The window of one shard.
#[derive(Debug)]
pub struct Window {
    size: usize,
    /// Answers in time since the window last grew.
    answered: usize,
    halved_at: Option<Time>,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            size: limits::IN_FLIGHT_START,
            answered: 0,
            halved_at: None,
        }
    }
}

impl Window {
    /// Whether one more may go out while `young` are on their way.
    pub fn is_open(&self, young: usize) -> bool {
        young < self.size
    }

    /// How many may be on their way.
    pub fn size(&self) -> usize {
        self.size
    }

    /// An answer came before the request had to be sent again.
    pub fn answered(&mut self) {
        self.answered += 1;
        if self.answered * IN_FLIGHT_GROWTH >= self.size {
            self.answered = 0;
            self.size = (self.size + 1).min(limits::IN_FLIGHT_MAX);
        }
    }

    /// A living peer was heard only after a retransmission, or our own socket was full.
    pub fn lost(&mut self, now: Time) {
        if self
            .halved_at
            .is_some_and(|halved_at| now.since(halved_at) < T1)
        {
            return;
        }
        self.halved_at = Some(now);
        self.answered = 0;
        self.size = (self.size / 2).max(limits::IN_FLIGHT_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn answers_widen_it_to_its_limit() {
        let mut window = Window::default();
        for _ in 0..limits::IN_FLIGHT_MAX * limits::IN_FLIGHT_MAX {
            window.answered();
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_MAX);
        assert!(window.is_open(limits::IN_FLIGHT_MAX - 1));
        assert!(!window.is_open(limits::IN_FLIGHT_MAX));
    }

    #[test]
    fn one_burst_of_losses_halves_it_once() {
        let mut window = Window::default();
        let now = Time::from_millis(1_000);
        for millis in 0..500 {
            window.lost(now + Duration::from_millis(millis));
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_START / 2);
        for _ in 0..100 {
            window.lost(now + T1);
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_START / 4);
    }

    #[test]
    fn it_never_closes() {
        let mut window = Window::default();
        for second in 0..100 {
            window.lost(Time::from_millis(second * 1000));
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_MIN);
        assert!(window.is_open(0));
    }
}
