//! Points in time, as the pure code sees them. Nothing here reads a clock: a `Time` is always given.

use core::ops::{Add, Sub};
use core::time::Duration;

/// SIP timer T1: the estimate of a round trip (RFC 3261 17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// SIP timer T2: the longest interval between retransmissions of a non-INVITE request.
pub const T2: Duration = Duration::from_secs(4);
/// The life of a non-INVITE transaction: timers F and J (RFC 3261 17.1.2.2, 17.2.2).
pub const T64: Duration = Duration::from_secs(32);

/// Nanoseconds of `CLOCK_BOOTTIME`: the same for every process of a host, and right after a suspend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(0);

    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// From milliseconds since boot.
    pub const fn from_millis(millis: u64) -> Self {
        Time(millis * 1_000_000)
    }

    /// Nanoseconds since boot.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since boot, rounded down: the wheel's tick.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is before.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration.as_nanos() as u64))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(duration.as_nanos() as u64))
    }
}

/// The wall clock, as an offset to [`Time`]: only for records, documents and nonces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallOffset(pub u64);

impl WallOffset {
    /// Seconds since the Unix epoch at `now`.
    pub const fn unix_seconds(self, now: Time) -> u64 {
        (self.0 + now.0) / 1_000_000_000
    }

    /// Milliseconds since the Unix epoch at `at`.
    pub const fn unix_millis(self, at: Time) -> u64 {
        self.0.saturating_add(at.0) / 1_000_000
    }

    /// The point in time so many milliseconds after the Unix epoch; the start of the clock for what was before.
    pub const fn time(self, unix_millis: u64) -> Time {
        Time(unix_millis.saturating_mul(1_000_000).saturating_sub(self.0))
    }
}
