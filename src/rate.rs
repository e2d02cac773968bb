//! How often something may happen: a rate with a burst, and a meter that is held against it.

use core::time::Duration;

use crate::time::Time;

/// So many in a second, and so many at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between one and the next in the long run.
    interval: Duration,
    /// How far a meter may run ahead.
    tolerance: Duration,
}

impl Rate {
    /// At least one in a second, and one at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        let interval = 1_000_000_000 / per_second as u64;
        let ahead = burst.saturating_sub(1) as u64;
        Rate {
            interval: Duration::from_nanos(interval),
            tolerance: Duration::from_nanos(interval.saturating_mul(ahead)),
        }
    }
}

/// When all that was taken is paid for at the rate: 8 bytes for each who is metered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter(Time);

impl Meter {
    /// Takes one, if one may be taken now.
    #[inline]
    pub fn take(&mut self, now: Time, rate: &Rate) -> bool {
        let may = self.next(rate) <= now;
        if may {
            self.0 = self.0.max(now) + rate.interval;
        }
        may
    }

    /// When the next one may be taken.
    pub fn next(&self, rate: &Rate) -> Time {
        self.0 - rate.tolerance
    }

    /// Whether everything is paid for: a new meter would say the same.
    pub fn is_at_rest(&self, now: Time) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of one try in each millisecond succeed until then.
    fn taken(meter: &mut Meter, rate: &Rate, from: u64, until: u64) -> usize {
        (from..until)
            .filter(|&millis| meter.take(Time::from_millis(millis), rate))
            .count()
    }

    #[test]
    fn a_burst_and_then_the_rate_and_after_a_rest_the_burst_again() {
        let (rate, mut meter) = (Rate::new(10, 5), Meter::default());
        assert_eq!(taken(&mut meter, &rate, 10_000, 10_001), 1);
        assert_eq!(taken(&mut meter, &rate, 10_001, 10_010), 4);
        assert_eq!(taken(&mut meter, &rate, 10_010, 15_000), 49);
        assert!(!meter.is_at_rest(Time::from_millis(15_000)));
        assert!(meter.is_at_rest(Time::from_millis(15_500)));
        assert_eq!(taken(&mut meter, &rate, 20_000, 20_010), 5);
    }

    #[test]
    fn without_a_burst_no_second_has_more_than_the_rate() {
        let (rate, mut meter) = (Rate::new(10, 1), Meter::default());
        for second in 0..5 {
            let from = 30_000 + second * 1_000;
            assert_eq!(taken(&mut meter, &rate, from, from + 1_000), 10);
        }
    }

    #[test]
    fn it_says_when_the_next_may_be_taken() {
        let (rate, mut meter) = (Rate::new(4, 2), Meter::default());
        let now = Time::from_millis(1_000);
        assert!(meter.take(now, &rate) && meter.take(now, &rate) && !meter.take(now, &rate));
        let next = meter.next(&rate);
        assert_eq!(next, Time::from_millis(1_250));
        assert!(!meter.take(next - Duration::from_nanos(1), &rate));
        assert!(meter.take(next, &rate));
    }
}
