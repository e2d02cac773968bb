//! What was written by a connection and has not been taken by its peer: how much, and whether it waits for long. It looks at
//! one stretch after the other: all that waited when it began to look.

use core::time::Duration;

use crate::config::limits;
use crate::time::Time;

/// A stretch that takes so long is slow.
const SLOW: Duration = Duration::from_secs(limits::STREAM_SLOW_SECONDS);

/// Of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    bytes: usize,
    /// Some were taken, or began to wait.
    moved: Time,
    /// What is left of the present stretch, and when it began.
    stretch: usize,
    begun: Time,
    /// The stretch before was slow.
    slow: bool,
    /// When nothing was slow any more, for the last time.
    slow_until: Time,
}

impl Backlog {
    /// Nothing waits.
    pub fn new(now: Time) -> Self {
        Backlog {
            bytes: 0,
            moved: now,
            stretch: 0,
            begun: now,
            slow: false,
            slow_until: Time::ZERO,
        }
    }

    /// How much waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when nothing has been taken; None: nothing waits.
    pub fn still_since(&self) -> Option<Time> {
        (self.bytes > 0).then_some(self.moved)
    }

    /// So many bytes more.
    pub fn add(&mut self, now: Time, bytes: usize) {
        if self.bytes == 0 {
            self.moved = now;
            self.begin(now, bytes);
        }
        self.bytes += bytes;
    }

    /// So many are taken.
    pub fn take(&mut self, now: Time, bytes: usize) {
        let was_slow = self.is_slow(now);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.moved = now;
        if bytes < self.stretch {
            self.stretch -= bytes;
            return;
        }
        self.slow = self.bytes > 0 && now.since(self.begun) >= SLOW;
        self.begin(now, self.bytes);
        if was_slow && !self.slow {
            self.slow_until = now;
        }
    }

    /// Whether what is written now, or was written lately, may wait for long.
    pub fn is_slow(&self, now: Time) -> bool {
        self.slow || self.slow_at().is_some_and(|when| when <= now)
    }

    /// When the present stretch will be slow, unless it is taken before; None: nothing waits.
    pub fn slow_at(&self) -> Option<Time> {
        (self.bytes > 0).then(|| self.begun + SLOW)
    }

    /// Whether what was written at that time may have waited for longer than two stretches that are not slow.
    pub fn has_been_slow(&self, now: Time, since: Time) -> bool {
        self.is_slow(now) || self.slow_until > since
    }

    fn begin(&mut self, now: Time, bytes: usize) {
        self.stretch = bytes;
        self.begun = now;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::rng::Rng;
    use crate::time::T64;

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_000_000 + seconds * 1_000)
    }

    #[test]
    fn what_is_taken_at_once_is_never_slow() {
        let mut backlog = Backlog::new(at(0));
        for second in 0..100 {
            backlog.add(at(second), 1_000);
            assert!(!backlog.has_been_slow(at(second), at(0)));
            backlog.take(at(second), 1_000);
        }
        // Nor is what always waits, and never for long.
        for second in 100..200 {
            backlog.add(at(second), 1_000);
            assert!(!backlog.has_been_slow(at(second), at(0)), "{second}");
            backlog.take(at(second), if second == 100 { 500 } else { 1_000 });
        }
    }

    #[test]
    fn whatever_has_waited_for_long_is_known_to_have() {
        let mut rng = Rng::new(*b"of the backlogs.");
        for _ in 0..200 {
            let mut backlog = Backlog::new(at(0));
            // By when it was written, and up to which byte.
            let mut waiting: VecDeque<(Time, u64)> = VecDeque::new();
            let (mut written, mut taken) = (0, 0);
            let (each, rate) = (1 + rng.below(3_000), 1 + rng.below(3_000));
            for second in 0..300 {
                let now = at(second);
                if rng.below(3) > 0 {
                    written += each;
                    waiting.push_back((now, written));
                    backlog.add(now, each as usize);
                }
                let takes = rng.below(rate + 1).min(written - taken);
                taken += takes;
                backlog.take(now, takes as usize);
                // What is taken now has waited until now, and the rest waits still.
                for &(when, _) in &waiting {
                    let long = now.since(when) >= 2 * SLOW;
                    assert!(!long || backlog.has_been_slow(now, when), "{each} {rate}");
                }
                waiting.retain(|&(_, end)| end > taken);
            }
        }
        assert!(2 * SLOW < T64);
    }

    #[test]
    fn what_was_taken_late_is_remembered_and_what_comes_after_is_not_taken_for_it() {
        let mut backlog = Backlog::new(at(0));
        backlog.add(at(0), 1_000);
        backlog.take(at(31), 1_000);
        assert!(!backlog.is_slow(at(31)));
        assert!(backlog.has_been_slow(at(32), at(0)));
        assert!(!backlog.has_been_slow(at(60), at(31)));
        assert_eq!(
            (backlog.bytes(), backlog.still_since(), backlog.slow_at()),
            (0, None, None)
        );
    }
}
