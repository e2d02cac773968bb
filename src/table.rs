//! Finds the index of a record by a keyed hash that the caller gives. The records themselves are elsewhere.
//!
//! It is cut into 256 segments, each of which grows alone: no step rehashes more than one 256th of a table of a
//! million, and growing never touches a record, because 32 bits of each hash are kept beside the index.

use hashbrown::HashTable;

const SEGMENTS: usize = 256;

/// Below this capacity a segment is never made smaller.
const SEGMENT_CAPACITY_MIN: usize = 28;

/// Indices of records, found by hash. Several records may have the same hash.
pub struct Table {
    segments: Box<[HashTable<Slot>]>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The low half of the hash; the segment is chosen by its highest bits.
    hash: u32,
    index: u32,
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Table {
            segments: (0..SEGMENTS).map(|_| HashTable::new()).collect(),
            len: 0,
        }
    }

    /// How many indices it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an index. The caller has made sure that no equal record is in the table.
    pub fn insert(&mut self, hash: u64, index: u32) {
        let slot = Slot {
            hash: hash as u32,
            index,
        };
        self.segments[segment(hash)]
            .insert_unique(spread(slot.hash), slot, |slot| spread(slot.hash));
        self.len += 1;
    }

    /// The index whose record is equal in the eyes of `is_equal`.
    pub fn find(&self, hash: u64, mut is_equal: impl FnMut(u32) -> bool) -> Option<u32> {
        let low = hash as u32;
        self.segments[segment(hash)]
            .find(spread(low), |slot| slot.hash == low && is_equal(slot.index))
            .map(|slot| slot.index)
    }

    /// Takes out the index whose record is equal in the eyes of `is_equal`.
    pub fn remove(&mut self, hash: u64, mut is_equal: impl FnMut(u32) -> bool) -> Option<u32> {
        let low = hash as u32;
        let segment = &mut self.segments[segment(hash)];
        let found = segment
            .find_entry(spread(low), |slot| slot.hash == low && is_equal(slot.index))
            .ok()?;
        let (slot, _) = found.remove();
        self.len -= 1;
        if segment.capacity() > SEGMENT_CAPACITY_MIN && segment.len() * 8 < segment.capacity() {
            let room = segment.len() * 2;
            segment.shrink_to(room, |slot| spread(slot.hash));
        }
        Some(slot.index)
    }

    /// Bytes of memory held by the segments.
    pub fn bytes_held(&self) -> usize {
        self.segments.iter().map(HashTable::allocation_size).sum()
    }
}

impl Default for Table {
    fn default() -> Self {
        Table::new()
    }
}

impl core::fmt::Debug for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Table({} indices)", self.len)
    }
}

fn segment(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// hashbrown takes its bucket from the low bits and its tag from the high ones: both come from the kept half.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn an_index_is_found_by_hash_and_equality_until_it_is_removed() {
        let mut table = Table::new();
        table.insert(7, 1);
        table.insert(7, 2);
        assert_eq!(table.find(7, |index| index == 2), Some(2));
        assert_eq!(table.find(7, |_| false), None);
        assert_eq!(table.find(8, |_| true), None);
        assert_eq!(table.remove(7, |index| index == 1), Some(1));
        assert_eq!(table.remove(7, |index| index == 1), None);
        assert_eq!((table.len(), table.find(7, |_| true)), (1, Some(2)));
    }

    #[test]
    fn a_hundred_thousand_records_are_all_found_and_memory_goes_back() {
        let mut rng = Rng::new([9; 16]);
        let hashes: Vec<u64> = (0..100_000).map(|_| rng.next_u64()).collect();
        let mut table = Table::new();
        for (index, hash) in hashes.iter().enumerate() {
            table.insert(*hash, index as u32);
        }
        let full = table.bytes_held();
        for (index, hash) in hashes.iter().enumerate() {
            let found = table.find(*hash, |candidate| hashes[candidate as usize] == *hash);
            assert_eq!(found, Some(index as u32));
        }
        for (index, hash) in hashes.iter().enumerate() {
            let removed = table.remove(*hash, |candidate| candidate == index as u32);
            assert_eq!(removed, Some(index as u32));
        }
        assert!(table.is_empty());
        assert!(
            table.bytes_held() < full / 16,
            "{} of {full}",
            table.bytes_held()
        );
    }

    #[test]
    fn one_growth_step_rehashes_one_segment_only() {
        let mut rng = Rng::new([4; 16]);
        let mut table = Table::new();
        for index in 0..50_000 {
            let before: Vec<usize> = table.segments.iter().map(HashTable::capacity).collect();
            table.insert(rng.next_u64(), index);
            if index % 101 == 0 {
                let grown = table
                    .segments
                    .iter()
                    .zip(before)
                    .filter(|(segment, before)| segment.capacity() != *before)
                    .count();
                assert!(grown <= 1, "{grown} segments grew at once");
            }
        }
    }
}
