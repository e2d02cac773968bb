//! A set of shards, small enough to be copied.

use crate::config::limits::SHARDS_MAX;

/// Some of the shards of a process, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// None of them.
    pub const EMPTY: ShardSet = ShardSet([0; SHARDS_MAX / 64]);

    /// Adds a shard; false if it was in the set.
    pub fn insert(&mut self, shard: u16) -> bool {
        let (word, bit) = place(shard);
        let added = self.0[word] & bit == 0;
        self.0[word] |= bit;
        added
    }

    /// Takes a shard out; false if it was not in the set.
    pub fn remove(&mut self, shard: u16) -> bool {
        let (word, bit) = place(shard);
        let taken = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        taken
    }

    /// Whether a shard is in the set.
    pub fn contains(&self, shard: u16) -> bool {
        let (word, bit) = place(shard);
        self.0[word] & bit != 0
    }

    /// Whether all of those shards are in the set.
    pub fn includes(&self, others: &ShardSet) -> bool {
        self.with(others) == *self
    }

    /// With those shards.
    pub fn with(mut self, others: &ShardSet) -> ShardSet {
        for (word, other) in self.0.iter_mut().zip(others.0) {
            *word |= other;
        }
        self
    }

    /// Whether no shard is in the set.
    pub fn is_empty(&self) -> bool {
        *self == ShardSet::EMPTY
    }

    /// How many shards are in the set.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The shards, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let words = self.0;
        (0..words.len()).flat_map(move |word| {
            let mut rest = words[word];
            core::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                Some(word as u16 * 64 + bit as u16)
            })
        })
    }
}

fn place(shard: u16) -> (usize, u64) {
    assert!(
        usize::from(shard) < SHARDS_MAX,
        "a process has at most {SHARDS_MAX} shards"
    );
    (usize::from(shard / 64), 1 << (shard % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_come_back_in_order_until_they_are_taken_out() {
        let mut set = ShardSet::EMPTY;
        for shard in [255, 0, 64, 63] {
            assert!(set.insert(shard));
        }
        assert!(!set.insert(64));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 255]);
        assert_eq!(set.len(), 4);
        for shard in [0, 63, 64] {
            assert!(set.remove(shard));
        }
        assert!(!set.remove(0));
        assert!(set.contains(255) && !set.is_empty());
        assert!(set.remove(255));
        assert!(set.is_empty());
    }
}
