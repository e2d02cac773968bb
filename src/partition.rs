//! Partitions: the unit of ownership. Everything of one phone, and everything of one resource,
//! belongs to one of 4096 partitions; a table says which shard holds each.

use core::hash::Hasher;

use siphasher::sip::{SipHasher13, SipHasher24};
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13Wide};

use crate::hex;

/// How many partitions there are.
pub const PARTITIONS: u16 = 4096;

/// One of [`PARTITIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u16);

impl Partition {
    /// The partition of that number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < PARTITIONS {
            Some(Partition(number))
        } else {
            None
        }
    }

    /// Its number, below [`PARTITIONS`].
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The keys behind partitions, tags, branches, nonces and entity tags. They outlive the process,
/// so that what phones were told stays valid.
#[derive(Clone)]
pub struct Secrets {
    master: [u8; 32],
    partition: [u8; 16],
    table: [u8; 16],
    refusal: [u8; 16],
}

impl Secrets {
    /// Derives every key from 256 random bits.
    pub fn new(master: [u8; 32]) -> Self {
        let mut secrets = Secrets {
            master,
            partition: [0; 16],
            table: [0; 16],
            refusal: [0; 16],
        };
        secrets.partition = secrets.derive(b"partition");
        secrets.table = secrets.derive(b"table");
        secrets.refusal = secrets.derive(b"refusal");
        secrets
    }

    /// The random bits, for whoever keeps them.
    pub fn master(&self) -> &[u8; 32] {
        &self.master
    }

    /// A key of its own for one purpose.
    pub fn derive(&self, purpose: &[u8]) -> [u8; 16] {
        let (first, second) = self.master.split_at(16);
        let half = |key: &[u8]| {
            let mut hasher =
                SipHasher24::new_with_key(key.try_into().expect("half of the master key"));
            hasher.write(purpose);
            hasher.finish().to_le_bytes()
        };
        let mut key = [0; 16];
        key[..8].copy_from_slice(&half(first));
        key[8..].copy_from_slice(&half(second));
        key
    }

    /// The partition of a phone, by its From address-of-record, or by the Call-ID of one that is anonymous.
    pub fn phone(&self, address_of_record: &[u8]) -> Partition {
        let mut hasher = SipHasher13::new_with_key(&self.partition);
        hasher.write(b"phone ");
        hasher.write(address_of_record);
        Partition((hasher.finish() % u64::from(PARTITIONS)) as u16)
    }

    /// The partition of a resource, by its canonical key `user@domain`.
    pub fn resource(&self, key: &str) -> Partition {
        let mut hasher = SipHasher13::new_with_key(&self.partition);
        hasher.write(b"resource ");
        hasher.write(key.as_bytes());
        Partition((hasher.finish() % u64::from(PARTITIONS)) as u16)
    }

    /// A keyed hash for tables that peers could otherwise fill with collisions.
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.table);
        write_parts(&mut hasher, parts);
        hasher.finish()
    }

    /// The same, wide enough to stand for what was hashed.
    pub fn hash_wide(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = SipHasher13Wide::new_with_key(&self.table);
        write_parts(&mut hasher, parts);
        hasher.finish128().as_u128()
    }

    /// The tag of a refusal that nothing remembers: a check value of its request.
    pub fn refusal_tag(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.refusal);
        write_parts(&mut hasher, parts);
        hasher.finish()
    }
}

impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// Each part is closed by its length, so that no two lists of parts are one string.
fn write_parts(hasher: &mut impl Hasher, parts: &[&[u8]]) {
    for part in parts {
        hasher.write(part);
        hasher.write_u32(part.len() as u32);
    }
}

/// A shard's number, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Which shard holds which partition.
#[derive(Clone, Debug)]
pub struct Owners {
    shards: u16,
}

impl Owners {
    /// Spreads the partitions over so many shards.
    pub fn new(shards: u16) -> Self {
        assert!(shards > 0, "there is at least one shard");
        Owners { shards }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that holds the partition.
    pub fn of(&self, partition: Partition) -> ShardId {
        ShardId(partition.0 % self.shards)
    }
}

/// A name that we wrote into a message and find again: partition, slot and check value in hexadecimal.
/// It is our To tag, and what follows the magic cookie in our Via branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub partition: Partition,
    /// Where the record stood when the mark was written; the check value says whether it still does.
    pub slot: u32,
    pub check: u64,
}

impl Mark {
    /// Its length in bytes.
    pub const LENGTH: usize = 27;

    /// As text.
    pub fn text(&self) -> [u8; Mark::LENGTH] {
        let mut out = [0; Mark::LENGTH];
        hex::write(u64::from(self.partition.0), &mut out[..3]);
        hex::write(u64::from(self.slot), &mut out[3..11]);
        hex::write(self.check, &mut out[11..]);
        out
    }

    /// Reads what [`Mark::text`] wrote; anything else is not ours.
    pub fn read(text: &[u8]) -> Option<Mark> {
        if text.len() != Mark::LENGTH {
            return None;
        }
        Some(Mark {
            partition: Partition::new(hex::read(&text[..3])? as u16)?,
            slot: hex::read(&text[3..11])? as u32,
            check: hex::read(&text[11..])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_as_it_was_written() {
        let mark = Mark {
            partition: Partition::new(4095).unwrap(),
            slot: 0xdead_beef,
            check: 0x0123_4567_89ab_cdef,
        };
        assert_eq!(Mark::read(&mark.text()), Some(mark));
        assert_eq!(&mark.text(), b"fffdeadbeef0123456789abcdef");
    }

    #[test]
    fn what_we_did_not_write_is_no_mark() {
        assert_eq!(Mark::read(b""), None);
        assert_eq!(Mark::read(b"fffdeadbeef0123456789abcdeF"), None);
        assert_eq!(Mark::read(b"fffdeadbeef0123456789abcde"), None);
        assert_eq!(Mark::read(b"fffdeadbeef0123456789abcdef0"), None);
    }

    #[test]
    fn parts_that_join_to_the_same_bytes_hash_differently() {
        let secrets = Secrets::new([7; 32]);
        assert_ne!(secrets.hash(&[b"ab", b"c"]), secrets.hash(&[b"a", b"bc"]));
        assert_ne!(
            secrets.hash_wide(&[b"ab", b"c"]),
            secrets.hash_wide(&[b"a", b"bc"])
        );
    }

    #[test]
    fn every_partition_has_a_shard_and_every_shard_has_partitions() {
        let owners = Owners::new(3);
        let mut counts = [0; 3];
        for number in 0..PARTITIONS {
            counts[usize::from(owners.of(Partition::new(number).unwrap()).0)] += 1;
        }
        assert!(counts.iter().all(|&count| count >= 1365));
    }
}
