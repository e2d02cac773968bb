//! Which uses of a nonce have been seen: a window of counts per identity and nonce, on the phone's shard.
//! Its memory is fixed; the least recently used of eight neighbours makes room for a new one.

use crate::config::limits::NONCE_WINDOW_WIDTH;

const WAYS: usize = 8;
const FREE: u64 = 0;

const _: () = assert!(NONCE_WINDOW_WIDTH == u64::BITS);

/// The windows of one shard.
#[derive(Clone, Debug)]
pub struct NonceWindows {
    /// Sets of [`WAYS`] windows each: key, the 64 counts up to the highest as bits (the highest is bit 0),
    /// highest count and second of the last use. Numbers and not a struct, so that the zeroed memory
    /// is not touched before it is used.
    sets: Vec<[u64; 3 * WAYS]>,
}

/// What became of one use of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Accepted,
    /// This count was used before.
    Replayed,
    /// There is no window, and the count or the nonce's age says that this is not its first use:
    /// the window was evicted, or lost with the process.
    Unknown,
    /// Below the window: nobody knows any more whether it was used.
    TooOld,
}

impl NonceWindows {
    /// Room for about so many windows.
    pub fn new(limit: usize) -> NonceWindows {
        NonceWindows {
            sets: vec![[0; 3 * WAYS]; limit.div_ceil(WAYS).max(1)],
        }
    }

    /// One use of the nonce that, with its user, hashes to `key`. `fresh`: the challenge is so young that this
    /// may be its first answer. Where that is not so, the first use is not accepted either: a window that
    /// was evicted must not let a recorded request pass again.
    pub fn admit(&mut self, key: u64, count: u32, fresh: bool, seconds: u32) -> Use {
        let key = if key == FREE { 1 } else { key };
        let sets = self.sets.len() as u64;
        let set = &mut self.sets[(((key >> 32) * sets) >> 32) as usize];
        let Some(way) = (0..WAYS).find(|way| set[*way] == key) else {
            if count != 1 || !fresh {
                return Use::Unknown;
            }
            let way = victim(set);
            set[way] = key;
            set[WAYS + way] = 1;
            set[2 * WAYS + way] = pack(count, seconds);
            return Use::Accepted;
        };
        let (highest, _) = unpack(set[2 * WAYS + way]);
        let bits = &mut set[WAYS + way];
        let outcome = mark(bits, highest, count);
        if outcome == Use::Accepted {
            set[2 * WAYS + way] = pack(highest.max(count), seconds);
        }
        outcome
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
fn victim(set: &[u64; 3 * WAYS]) -> usize {
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

    fn opened(key: u64) -> NonceWindows {
        let mut windows = NonceWindows::new(64);
        assert_eq!(windows.admit(key, 1, true, 0), Use::Accepted);
        windows
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
            assert_eq!(windows.admit(9, count, false, 1), expected, "nc={count}");
        }
    }

    #[test]
    fn an_unknown_nonce_is_accepted_only_as_the_fresh_first_use() {
        let mut windows = NonceWindows::new(64);
        assert_eq!(windows.admit(5, 2, true, 0), Use::Unknown);
        assert_eq!(windows.admit(5, 1, false, 0), Use::Unknown);
        assert_eq!(windows.admit(5, 1, true, 0), Use::Accepted);
    }

    #[test]
    fn the_least_recently_used_window_makes_room() {
        let mut windows = NonceWindows::new(WAYS);
        for key in 1..=WAYS as u64 {
            assert_eq!(windows.admit(key, 1, true, key as u32), Use::Accepted);
        }
        assert_eq!(windows.admit(1, 2, false, 100), Use::Accepted);
        assert_eq!(windows.admit(99, 1, true, 101), Use::Accepted);
        assert_eq!(windows.admit(2, 2, false, 102), Use::Unknown);
        assert_eq!(windows.admit(1, 3, false, 102), Use::Accepted);
        assert_eq!(windows.admit(3, 2, false, 102), Use::Accepted);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut windows = NonceWindows::new(64);
        for key in 0..100_000u64 {
            let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(windows.admit(key, 1, true, 0), Use::Accepted);
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
                let outcome = windows.admit(7, count, false, 1);
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
