//! The two clocks of the edge. The only place where a shard's thread reads them.

use crate::time::{Time, WallOffset};

/// Nanoseconds since boot, suspended time included.
pub fn now() -> Time {
    Time::from_nanos(read(libc::CLOCK_BOOTTIME))
}

/// What has to be added to `now` to get nanoseconds since the Unix epoch.
pub fn wall_offset() -> WallOffset {
    WallOffset(read(libc::CLOCK_REALTIME).saturating_sub(read(libc::CLOCK_BOOTTIME)))
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec; both clocks exist on every kernel that has io_uring.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clock_gettime({clock}) failed");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward_and_the_offset_leads_to_the_wall_clock() {
        let before = now();
        let after = now();
        assert!(before <= after);
        assert!(before > Time::ZERO);

        // 2020 has passed, and the offset is good for a date, not merely for an uptime.
        assert!(wall_offset().unix_seconds(now()) > 1_577_836_800);
    }
}
