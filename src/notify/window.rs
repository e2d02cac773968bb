//! How many NOTIFYs may be on their way at once: so few that neither our socket buffer nor the peers'
//! overflows with a burst of answers, so many that the line is never idle.
//!
//! Only those younger than T1 count: what a dead phone does not answer leaves the count after T1. Each answer
//! in time lets one more out than it frees, so the living get on however many dead are among them, until
//! datagrams are lost. Then the window halves and grows slowly. One phone with a slow line is no loss: what
//! counts is how many of the answers of late came only after the request had been sent again. A late answer
//! comes when the rest of its burst has long been answered, so the counts fade by half every T1: forgotten
//! at once, a few late ones after a burst would look like all of it.

use crate::config::limits;
use crate::time::{T1, Time};

/// One late answer in so many is a loss: more than a line that loses one datagram in ten each way makes late.
const LATE_SHARE: usize = 4;
/// Fewer late answers than this within T1 are nobody's loss but their own.
const LATE_MIN: usize = 4;

/// One place in so many is for phones that answer: without it, those that do not could hold every place for T1.
const RESERVE: usize = 4;

/// The window of one shard.
#[derive(Debug)]
pub struct Window {
    size: usize,
    /// Never more: what our receive buffers take if all answers come at once.
    max: usize,
    /// Up to here it grows by one with each answer, beyond it by one with each windowful of answers.
    threshold: usize,
    /// Answers since it last grew beyond the threshold.
    credit: usize,
    /// When the counts last faded.
    epoch: Time,
    in_time: usize,
    late: usize,
    /// It has been halved since the counts last faded.
    halved: bool,
}

impl Default for Window {
    fn default() -> Self {
        Window::new(limits::IN_FLIGHT_MAX)
    }
}

impl Window {
    /// At most `max` on their way, within the limits.
    pub fn new(max: usize) -> Self {
        let max = bounded(max);
        Window {
            size: limits::IN_FLIGHT_START.min(max),
            max,
            threshold: max,
            credit: 0,
            epoch: Time::ZERO,
            in_time: 0,
            late: 0,
            halved: false,
        }
    }

    /// From now on at most `max` on their way, within the limits.
    pub fn limit(&mut self, max: usize) {
        self.max = bounded(max);
        self.size = self.size.min(self.max);
        self.threshold = self.threshold.min(self.max);
    }

    /// Whether one more may go out while `young` are on their way.
    pub fn is_open(&self, young: usize) -> bool {
        young < self.size
    }

    /// Whether one more may go out to a phone that is not known to answer, while `young` of that kind are on their way: a
    /// quarter is kept for those that are.
    pub fn is_open_for_doubted(&self, young: usize) -> bool {
        young < self.size - self.size / RESERVE
    }

    /// How many may be on their way.
    pub fn size(&self) -> usize {
        self.size
    }

    /// An answer came before the request had to be sent again.
    pub fn answered(&mut self, now: Time) {
        self.turn(now);
        self.in_time += 1;
        self.credit += 1;
        if self.size < self.threshold || self.credit >= self.size {
            self.credit = 0;
            self.size = (self.size + 1).min(self.max);
        }
    }

    /// An answer came only after the request had been sent again.
    pub fn late(&mut self, now: Time) {
        self.turn(now);
        self.late += 1;
        if self.late >= LATE_MIN && self.late * LATE_SHARE > self.in_time + self.late {
            self.halve();
        }
    }

    /// The kernel took no more.
    pub fn refused(&mut self, now: Time) {
        self.turn(now);
        self.halve();
    }

    fn turn(&mut self, now: Time) {
        let intervals = now.since(self.epoch).as_nanos() / T1.as_nanos();
        if intervals > 0 {
            self.epoch = now;
            let halvings = u32::try_from(intervals).unwrap_or(u32::MAX);
            let faded = |count: usize| count.checked_shr(halvings).unwrap_or(0);
            self.in_time = faded(self.in_time);
            self.late = faded(self.late);
            self.halved = false;
        }
    }

    fn halve(&mut self) {
        if !self.halved {
            self.halved = true;
            self.credit = 0;
            self.size = (self.size / 2).max(limits::IN_FLIGHT_MIN);
            self.threshold = self.size;
        }
    }
}

fn bounded(max: usize) -> usize {
    max.clamp(limits::IN_FLIGHT_MIN, limits::IN_FLIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const NOW: Time = Time::from_millis(1_000);

    #[test]
    fn each_answer_widens_it_until_something_is_lost() {
        let mut window = Window::default();
        for _ in 0..limits::IN_FLIGHT_START {
            window.answered(NOW);
        }
        assert_eq!(window.size(), 2 * limits::IN_FLIGHT_START);
        window.refused(NOW);
        assert_eq!(window.size(), limits::IN_FLIGHT_START);
        for _ in 0..limits::IN_FLIGHT_START {
            window.answered(NOW);
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_START + 1);
    }

    #[test]
    fn it_stays_within_its_limits() {
        let mut window = Window::default();
        for _ in 0..2 * limits::IN_FLIGHT_MAX {
            window.answered(NOW);
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_MAX);
        assert!(
            window.is_open(limits::IN_FLIGHT_MAX - 1) && !window.is_open(limits::IN_FLIGHT_MAX)
        );
        for second in 2..100 {
            window.refused(Time::from_millis(second * 1000));
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_MIN);
        assert!(window.is_open(0));
    }

    #[test]
    fn it_stays_within_what_a_receive_buffer_takes() {
        let mut window = Window::new(200);
        for _ in 0..1_000 {
            window.answered(NOW);
        }
        assert_eq!(window.size(), 200);
        assert_eq!(Window::new(0).size(), limits::IN_FLIGHT_MIN);
    }

    #[test]
    fn one_burst_of_losses_halves_it_once() {
        let mut window = Window::default();
        for millis in 0..500 {
            window.late(NOW + Duration::from_millis(millis));
        }
        assert_eq!(window.size(), limits::IN_FLIGHT_START / 2);
    }

    #[test]
    fn a_few_phones_with_a_slow_line_change_nothing() {
        let mut window = Window::default();
        for round in 0..100u64 {
            let now = Time::from_millis(1_000 + round * 500);
            for _ in 0..90 {
                window.answered(now);
            }
            for _ in 0..10 {
                window.late(now);
            }
        }
        assert!(window.size() > limits::IN_FLIGHT_START);
    }

    #[test]
    fn a_line_that_loses_one_datagram_in_ten_each_way_does_not_close_it() {
        let mut window = Window::default();
        for round in 0..100u64 {
            let now = Time::from_millis(1_000 + round * 500);
            for _ in 0..81 {
                window.answered(now);
            }
            for _ in 0..19 {
                window.late(now);
            }
        }
        assert!(window.size() > limits::IN_FLIGHT_START);
    }

    #[test]
    fn the_late_answers_of_a_burst_that_was_answered_are_no_loss() {
        let mut window = Window::default();
        let phones = 1_000;
        for _ in 0..phones {
            window.answered(NOW);
        }
        let size = window.size();
        // One in fifty was lost once, one in 2,500 twice: after 0.5 s and 1.5 s nothing else is answered.
        for _ in 0..phones / 50 {
            window.late(NOW + T1 + Duration::from_millis(20));
        }
        window.late(NOW + 3 * T1);
        assert_eq!(window.size(), size);
        // A burst of which one in four was lost is one.
        let later = NOW + Duration::from_secs(60);
        for _ in 0..phones * 3 / 4 {
            window.answered(later);
        }
        for _ in 0..phones / 4 {
            window.late(later + T1);
        }
        assert!(window.size() <= size);
    }
}
