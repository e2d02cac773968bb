//! How much somebody may have, and how much they have: a user, a source address, a domain. Who has nothing is not known
//! here, and what is metered for very many takes the same little room however many there are.

use crate::rate::{Meter, Rate};
use crate::slab::Slab;
use crate::table::Table;
use crate::time::Time;

/// How much each may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// None: as many as there is room for.
    pub subscriptions: Option<u32>,
    pub publications: Option<u32>,
    /// Requests in a second.
    pub requests: Option<Rate>,
}

/// So many times as many requests as in a second may come at once: a phone with all its keys after a power cut.
pub const BURST: u32 = 10;

impl Quota {
    /// Whether one more is one too many, with so many there.
    pub fn is_reached(limit: Option<u32>, count: u32) -> bool {
        limit.is_some_and(|limit| count >= limit)
    }

    /// What each of so many shards keeps to, where what is counted is spread over them by chance: its share, and a quarter
    /// more as chance is not even.
    pub fn share(&self, shards: u16) -> Quota {
        let part = |limit: u32| match shards {
            0 | 1 => limit,
            shards => {
                let more = u64::from(limit) + u64::from(limit / 4);
                more.div_ceil(u64::from(shards)) as u32
            }
        };
        Quota {
            subscriptions: self.subscriptions.map(part),
            publications: self.publications.map(part),
            requests: self.requests,
        }
    }
}

/// Who has how many.
pub struct Tally {
    holders: Slab<Holder>,
    by_name: Table,
}

struct Holder {
    name: u64,
    count: u32,
}

impl Tally {
    /// Of at most so many things.
    pub fn new(limit: usize) -> Self {
        Tally {
            holders: Slab::with_limit(limit),
            by_name: Table::new(),
        }
    }

    /// How many who bears this name has.
    pub fn count(&self, name: u64) -> u32 {
        self.find(name).map_or(0, |at| self.holders[at].count)
    }

    /// One more for who bears this name: what to give it back by.
    pub fn take(&mut self, name: u64) -> u32 {
        let at = self.find(name).unwrap_or_else(|| {
            let Ok(at) = self.holders.insert(Holder { name, count: 0 }) else {
                unreachable!("a holder has something, and that has a limit")
            };
            self.by_name.insert(name, at);
            at
        });
        self.holders[at].count += 1;
        at
    }

    /// The name that what was taken counts under.
    pub fn name(&self, at: u32) -> u64 {
        self.holders[at].name
    }

    /// One less.
    pub fn give(&mut self, at: u32) {
        let holder = &mut self.holders[at];
        holder.count -= 1;
        if holder.count == 0 {
            let gone = self.holders.remove(at);
            self.by_name.remove(gone.name, |other| other == at);
        }
    }

    /// How many have something.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, name: u64) -> Option<u32> {
        self.by_name.find(name, |at| self.holders[at].name == name)
    }
}

/// Meters for anybody, in a room that never grows. A name, a keyed hash, has one meter in each of two rows and shares them
/// with others; it has to wait only where both are used up. So who floods under one name, or sprays under very many, takes
/// another one's turn only by being lucky twice, and nobody can choose whose.
#[derive(Default)]
pub struct Meters {
    cells: Vec<Meter>,
}

/// In each row: a power of two. 256 KiB for both.
const CELLS: usize = 16_384;

impl Meters {
    /// Takes one for who bears this name, if one may be taken now.
    pub fn take(&mut self, now: Time, name: u64, rate: &Rate) -> bool {
        if self.cells.is_empty() {
            self.cells.resize(2 * CELLS, Meter::default());
        }
        let first = name as usize % CELLS;
        let second = CELLS + (name >> 32) as usize % CELLS;
        let one = self.cells[first].take(now, rate);
        let other = self.cells[second].take(now, rate);
        one || other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn nothing_is_known_of_who_has_nothing() {
        let mut tally = Tally::new(10);
        let (one, two, other) = (tally.take(7), tally.take(7), tally.take(8));
        assert_eq!((tally.count(7), tally.count(8), tally.count(9)), (2, 1, 0));
        assert_eq!((one, tally.len()), (two, 2));
        assert_eq!((tally.name(one), tally.name(other)), (7, 8));
        tally.give(one);
        tally.give(other);
        assert_eq!((tally.count(7), tally.count(8), tally.len()), (1, 0, 1));
        tally.give(two);
        assert!(tally.is_empty());
    }

    #[test]
    fn a_share_is_a_part_and_a_quarter_more() {
        let quota = Quota {
            subscriptions: Some(1_000),
            ..Quota::default()
        };
        let shared = |shards| quota.share(shards).subscriptions;
        assert_eq!(
            [shared(1), shared(2), shared(4)],
            [Some(1_000), Some(625), Some(313)]
        );
        assert_eq!(quota.share(4).publications, None);
    }

    #[test]
    fn who_floods_waits_and_a_spray_of_names_takes_no_memory_and_hardly_a_turn() {
        let (rate, mut meters) = (Rate::new(100, 100), Meters::default());
        let mut rng = Rng::new([5; 16]);
        let (flood, phone) = (rng.next_u64(), rng.next_u64());
        let mut kept = [0, 0];
        for millis in 10_000..20_000 {
            let now = Time::from_millis(millis);
            // 100,000 a second under one name, 100,000 under others, and a phone with ten.
            for _ in 0..100 {
                kept[0] += u32::from(meters.take(now, flood, &rate));
                meters.take(now, rng.next_u64(), &rate);
            }
            if millis % 100 == 0 {
                kept[1] += u32::from(meters.take(now, phone, &rate));
            }
        }
        assert_eq!(meters.cells.len(), 2 * CELLS);
        assert_eq!(kept[1], 100, "nobody takes the turn of another");
        // A cell in either row, and what the spray takes of them.
        assert!((1_000..2_300).contains(&kept[0]), "{}", kept[0]);
    }
}
