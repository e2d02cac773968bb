//! A store that fell behind is made whole: each shard gives out everything that it knows, and what stands in the store
//! beside that belongs to something that ended meanwhile. This knows which is which; it touches no disk.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::records::Records;
use crate::partition::ShardId;

/// What shards are told of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreNews {
    /// It cannot be written: from here on nothing outlives the process.
    Failed,
    /// It can be written again, and does not have everything: give it out, and name this number with the last of it.
    Back { number: u32 },
    /// It has everything again.
    Whole,
}

/// One attempt at it.
pub struct Rewrite {
    number: u32,
    /// Shards that have not given out everything yet.
    open: Vec<ShardId>,
    /// Hashes of the keys that were written since it began; sorted when the last shard is done.
    keys: Vec<u64>,
    sorted: bool,
}

impl Rewrite {
    /// Nobody has given out anything yet.
    pub fn new(number: u32, shards: u16) -> Self {
        Rewrite {
            number,
            open: (0..shards).map(ShardId).collect(),
            keys: Vec::new(),
            sorted: false,
        }
    }

    /// What shards are told when it begins.
    pub fn news(&self) -> StoreNews {
        let number = self.number;
        StoreNews::Back { number }
    }

    /// A block has been written. Whether it was the last that was missing.
    pub fn take(&mut self, shard: ShardId, block: &Records) -> bool {
        let put = block.iter().filter(|(_, value)| value.is_some());
        self.keys.extend(put.map(|(key, _)| hash(key)));
        self.sorted = false;
        if block.whole != self.number || self.open.is_empty() {
            return false;
        }
        self.open.retain(|open| *open != shard);
        self.open.is_empty()
    }

    /// Everybody has given out everything: from now on it can say what is left over.
    pub fn sort(&mut self) {
        if !self.sorted {
            // What was sorted before is one long run, to which this sort only adds.
            self.keys.sort();
            self.keys.dedup();
            self.sorted = true;
        }
    }

    /// Whether nobody has written that key since it began. To be asked once everything was given out and sorted.
    pub fn is_left_over(&self, key: &[u8]) -> bool {
        assert!(self.open.is_empty() && self.sorted, "not before that");
        self.keys.binary_search(&hash(key)).is_err()
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(b"lampfield record");
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::format::{Key, Record};

    fn block(whole: u32, sources: &[&str]) -> Records {
        let mut block = Records::default();
        block.whole = whole;
        for source in sources {
            block.put(&Key::Epoch { source }, &Record::Epoch(1));
        }
        block
    }

    fn name(source: &str) -> Vec<u8> {
        let mut name = Vec::new();
        Key::Epoch { source }.write(&mut name);
        name
    }

    #[test]
    fn what_nobody_gave_out_is_left_over_once_every_shard_has_given_out_everything() {
        let mut rewrite = Rewrite::new(3, 2);
        assert!(!rewrite.take(ShardId(0), &block(0, &["a"])));
        assert!(!rewrite.take(ShardId(0), &block(3, &["b"])));
        assert!(!rewrite.take(ShardId(1), &block(2, &["of an earlier attempt"])));
        let mut last = block(3, &[]);
        last.remove(&Key::Epoch { source: "c" });
        assert!(rewrite.take(ShardId(1), &last));
        assert!(
            !rewrite.take(ShardId(1), &block(0, &["d"])),
            "it was whole before"
        );
        rewrite.sort();
        for source in ["a", "b", "d", "of an earlier attempt"] {
            assert!(!rewrite.is_left_over(&name(source)), "{source}");
        }
        for source in ["c", "e"] {
            assert!(rewrite.is_left_over(&name(source)), "{source}");
        }
    }
}
