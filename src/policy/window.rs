//! Which uses of a nonce have been seen: a window of counts per identity and nonce, on the phone's shard.
//! Its memory is fixed; the least recently used of eight neighbours makes room for a new one.

use crate::config::limits::NONCE_WINDOW_WIDTH;

const WAYS: usize = 8;
const FREE: u64 = 0;
/// How long a sender may repeat a request that got no answer: the life of its transaction.
//= RFC 3261 17.1.2.2
const REPEAT_SECONDS: u32 = 32;

const _: () = assert!(NONCE_WINDOW_WIDTH == u64::BITS);

/// The windows of one shard.
#[derive(Clone, Debug)]
pub struct NonceWindows {
    /// Sets of [`WAYS`] windows each: key, the 64 counts up to the highest as bits (the highest is bit 0),
    /// highest count and second of the last use, hash of the request that was the last use. Numbers and not
    /// a struct, so that the zeroed memory is not touched before it is used.
    sets: Vec<[u64; 4 * WAYS]>,
}

/// One use of a nonce.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Hash of nonce and user.
    pub(super) key: u64,
    pub(super) count: u32,
    /// The challenge is so young that this may be its first answer, or its second that overtook the first.
    /// Where that is not so, no count opens a window: one that was evicted must not let a recorded request pass again.
    pub(super) fresh: bool,
    /// The wall clock.
    pub(super) seconds: u32,
    /// Hash of every byte of the request. A refusal is not remembered, so a request whose refusal was lost
    /// comes here again, to be refused for the same reason and not as a replay.
    pub(super) request: u64,
}

/// What became of one use of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Accepted,
    /// This count was used before.
    Replayed,
    /// There is no window, and the nonce's age says that this is not its first use: the window was evicted,
    /// or lost with the process.
    Unknown,
    /// Below the window: nobody knows any more whether it was used.
    TooOld,
}

impl NonceWindows {
    /// Room for about so many windows.
    pub fn new(limit: usize) -> NonceWindows {
        NonceWindows {
            sets: vec![[0; 4 * WAYS]; limit.div_ceil(WAYS).max(1)],
        }
    }

    /// Whether this use is good, and if so, marks it.
    pub(super) fn admit(&mut self, attempt: Attempt) -> Use {
        let Attempt {
            count,
            fresh,
            seconds,
            request,
            ..
        } = attempt;
        let key = attempt.key.max(FREE + 1);
        let sets = self.sets.len() as u64;
        let set = &mut self.sets[(((key >> 32) * sets) >> 32) as usize];
        let Some(way) = (0..WAYS).find(|way| set[*way] == key) else {
            if !fresh || count == 0 {
                return Use::Unknown;
            }
            let way = victim(set);
            set[way] = key;
            set[WAYS + way] = 1;
            set[2 * WAYS + way] = pack(count, seconds);
            set[3 * WAYS + way] = request;
            return Use::Accepted;
        };
        let (highest, last_use) = unpack(set[2 * WAYS + way]);
        match mark(&mut set[WAYS + way], highest, count) {
            Use::Accepted => {
                set[2 * WAYS + way] = pack(highest.max(count), seconds);
                set[3 * WAYS + way] = request;
                Use::Accepted
            }
            Use::Replayed
                if set[3 * WAYS + way] == request
                    && seconds.wrapping_sub(last_use) <= REPEAT_SECONDS =>
            {
                Use::Accepted
            }
            other @ (Use::Replayed | Use::Unknown | Use::TooOld) => other,
        }
    }
}

/// Sets the bit of `count` in the window that ends at `highest`, and moves the window where it lies beyond.
fn mark(bits: &mut u64, highest: u32, count: u32) -> Use {
    if count > highest {
        *bits = bits.checked_shl(count - highest).unwrap_or(0) | 1;
        return Use::Accepted;
    }
    let behind = highest - count;
    if count == 0 || behind >= NONCE_WINDOW_WIDTH {
        return Use::TooOld;
    }
    let bit = 1 << behind;
    if *bits & bit != 0 {
        return Use::Replayed;
    }
    *bits |= bit;
    Use::Accepted
}

/// A free way, or the least recently used one.
fn victim(set: &[u64; 4 * WAYS]) -> usize {
    (0..WAYS)
        .min_by_key(|way| match set[*way] {
            FREE => 0,
            _ => 1 + u64::from(unpack(set[2 * WAYS + way]).1),
        })
        .expect("a set has ways")
}

fn pack(highest: u32, seconds: u32) -> u64 {
    u64::from(highest) << 32 | u64::from(seconds)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    impl NonceWindows {
        /// Each request is another one.
        fn try_once(&mut self, key: u64, count: u32, fresh: bool, seconds: u32) -> Use {
            thread_local!(static REQUEST: core::cell::Cell<u64> = const { core::cell::Cell::new(0) });
            let request = REQUEST.with(|next| next.replace(next.get() + 1));
            self.admit(Attempt {
                key,
                count,
                fresh,
                seconds,
                request,
            })
        }
    }

    fn opened(key: u64) -> NonceWindows {
        let mut windows = NonceWindows::new(64);
        assert_eq!(windows.try_once(key, 1, true, 0), Use::Accepted);
        windows
    }

    #[test]
    fn the_very_same_request_may_be_repeated_as_long_as_its_transaction_lives() {
        let mut windows = opened(9);
        let mut attempt = Attempt {
            key: 9,
            count: 2,
            fresh: false,
            seconds: 100,
            request: 77,
        };
        assert_eq!(windows.admit(attempt), Use::Accepted);
        attempt.seconds = 132;
        assert_eq!(windows.admit(attempt), Use::Accepted);
        attempt.seconds = 133;
        assert_eq!(windows.admit(attempt), Use::Replayed);
        attempt.seconds = 110;
        attempt.request = 78;
        assert_eq!(windows.admit(attempt), Use::Replayed);
        attempt.seconds = 99;
        attempt.request = 77;
        assert_eq!(windows.admit(attempt), Use::Replayed);
    }

    //= RFC 7616 3.3 type=test
    #[test]
    fn each_count_is_accepted_once_in_any_order_within_the_window() {
        let mut windows = opened(9);
        for (count, expected) in [
            (1, Use::Replayed),
            (3, Use::Accepted),
            (2, Use::Accepted),
            (2, Use::Replayed),
            (3, Use::Replayed),
            (66, Use::Accepted),
            (3, Use::Replayed),
            (2, Use::TooOld),
            (4, Use::Accepted),
            (0, Use::TooOld),
            (u32::MAX, Use::Accepted),
            (66, Use::TooOld),
            (u32::MAX, Use::Replayed),
            (u32::MAX - 63, Use::Accepted),
            (u32::MAX - 64, Use::TooOld),
        ] {
            assert_eq!(windows.try_once(9, count, false, 1), expected, "nc={count}");
        }
    }

    #[test]
    fn an_unknown_nonce_is_accepted_only_while_it_is_fresh() {
        let mut windows = NonceWindows::new(64);
        assert_eq!(windows.try_once(5, 1, false, 0), Use::Unknown);
        assert_eq!(windows.try_once(5, 0, true, 0), Use::Unknown);
        assert_eq!(windows.try_once(5, 1, true, 0), Use::Accepted);
    }

    #[test]
    fn the_second_use_of_a_fresh_nonce_may_overtake_the_first() {
        let mut windows = NonceWindows::new(64);
        assert_eq!(windows.try_once(5, 3, true, 0), Use::Accepted);
        assert_eq!(windows.try_once(5, 1, true, 0), Use::Accepted);
        assert_eq!(windows.try_once(5, 3, true, 0), Use::Replayed);
        assert_eq!(windows.try_once(5, 1, true, 0), Use::Replayed);
    }

    #[test]
    fn the_least_recently_used_window_makes_room() {
        let mut windows = NonceWindows::new(WAYS);
        for key in 1..=WAYS as u64 {
            assert_eq!(windows.try_once(key, 1, true, key as u32), Use::Accepted);
        }
        assert_eq!(windows.try_once(1, 2, false, 100), Use::Accepted);
        assert_eq!(windows.try_once(99, 1, true, 101), Use::Accepted);
        assert_eq!(windows.try_once(2, 2, false, 102), Use::Unknown);
        assert_eq!(windows.try_once(1, 3, false, 102), Use::Accepted);
        assert_eq!(windows.try_once(3, 2, false, 102), Use::Accepted);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut windows = NonceWindows::new(64);
        for key in 0..100_000u64 {
            let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(windows.try_once(key, 1, true, 0), Use::Accepted);
        }
        assert_eq!(windows.sets.len() * WAYS, 64);
    }

    proptest! {
        #[test]
        fn no_count_is_ever_accepted_twice(counts in proptest::collection::vec(1u32..200, 1..300)) {
            let mut windows = opened(7);
            let mut accepted = HashSet::from([1]);
            let mut highest = 1;
            for count in counts {
                let outcome = windows.try_once(7, count, false, 1);
                if outcome == Use::Accepted {
                    prop_assert!(accepted.insert(count), "nc={} twice", count);
                } else {
                    prop_assert!(accepted.contains(&count) || count + 64 <= highest);
                }
                highest = highest.max(count);
            }
        }
    }
}
