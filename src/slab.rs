//! Records under small numbers, in chunks that never move: a table of a million grows without copying one of them.
//!
//! New records go into the lowest chunk with room, so that the high chunks run empty after a storm; memory of an
//! empty chunk is given back, but for one that is kept for the next record. It never grows past its limit.

use core::ops::{Index, IndexMut};

use crate::bits::Bits;

/// Records per chunk.
pub const CHUNK: usize = 1024;

/// No vacant entry of this chunk is linked.
const END: u32 = u32::MAX;

/// Records of one type, found by the key that `insert` gave.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with at least one vacant or unused entry.
    open: Bits,
    /// The one empty chunk whose memory is kept.
    spare: Option<usize>,
    len: usize,
    limit: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// At most `CHUNK` long, and either without memory or with room for all of them.
    entries: Vec<Entry<T>>,
    /// The first vacant entry within the chunk.
    vacant: u32,
    used: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Occupied(T),
    /// The next vacant entry within the chunk.
    Vacant(u32),
}

impl<T> Slab<T> {
    /// An empty slab for at most `limit` records; it holds no memory yet.
    pub fn with_limit(limit: usize) -> Self {
        assert!(limit <= END as usize, "keys have 32 bits");
        Slab {
            chunks: Vec::new(),
            open: Bits::new(),
            spare: None,
            len: 0,
            limit,
        }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many records there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the next `insert` will be refused.
    pub fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    /// Puts a record in and says its key; gives it back if the limit is reached.
    pub fn insert(&mut self, record: T) -> Result<u32, T> {
        if self.is_full() {
            return Err(record);
        }
        let number = match self.open.first() {
            Some(number) => number,
            None => self.add_chunk(),
        };
        if self.spare == Some(number) {
            self.spare = None;
        }
        let chunk = &mut self.chunks[number];
        let position = chunk.insert(record);
        if chunk.used as usize == CHUNK {
            self.open.remove(number);
        }
        self.len += 1;
        Ok((number * CHUNK) as u32 + position)
    }

    /// Takes the record out. The key must be in use; it will be given to another record later.
    pub fn remove(&mut self, key: u32) -> T {
        let (number, position) = split(key);
        let chunk = &mut self.chunks[number];
        let record = chunk.remove(position);
        let used = chunk.used as usize;
        self.len -= 1;
        if used == CHUNK - 1 {
            self.open.insert(number);
        }
        if used == 0 {
            self.keep_one_spare(number);
        }
        record
    }

    /// The record under `key`, if there is one.
    pub fn get(&self, key: u32) -> Option<&T> {
        let (number, position) = split(key);
        match self.chunks.get(number)?.entries.get(position)? {
            Entry::Occupied(record) => Some(record),
            Entry::Vacant(_) => None,
        }
    }

    /// The record under `key`, if there is one.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let (number, position) = split(key);
        match self.chunks.get_mut(number)?.entries.get_mut(position)? {
            Entry::Occupied(record) => Some(record),
            Entry::Vacant(_) => None,
        }
    }

    /// Whether a record has this key.
    pub fn contains(&self, key: u32) -> bool {
        self.get(key).is_some()
    }

    /// All records in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().enumerate().flat_map(|(number, chunk)| {
            let first = (number * CHUNK) as u32;
            (first..)
                .zip(&chunk.entries)
                .filter_map(|(key, entry)| match entry {
                    Entry::Occupied(record) => Some((key, record)),
                    Entry::Vacant(_) => None,
                })
        })
    }

    /// The smallest key in use that is not below `from`: a walk that survives changes between its steps.
    pub fn next_key(&self, from: u32) -> Option<u32> {
        let (mut number, mut position) = split(from);
        while let Some(chunk) = self.chunks.get(number) {
            if chunk.used > 0 {
                let rest = chunk.entries.get(position..).unwrap_or_default();
                if let Some(found) = rest
                    .iter()
                    .position(|entry| matches!(entry, Entry::Occupied(_)))
                {
                    return Some((number * CHUNK + position + found) as u32);
                }
            }
            number += 1;
            position = 0;
        }
        None
    }

    /// Bytes of memory held for records, used or not.
    pub fn bytes_held(&self) -> usize {
        let entries: usize = self
            .chunks
            .iter()
            .map(|chunk| chunk.entries.capacity())
            .sum();
        entries * size_of::<Entry<T>>()
    }

    fn add_chunk(&mut self) -> usize {
        let number = self.chunks.len();
        self.chunks.push(Chunk {
            entries: Vec::new(),
            vacant: END,
            used: 0,
        });
        self.open.insert(number);
        number
    }

    /// Of two empty chunks the higher one gives its memory back.
    fn keep_one_spare(&mut self, emptied: usize) {
        let Some(spare) = self.spare.replace(emptied) else {
            return;
        };
        self.spare = Some(spare.min(emptied));
        let chunk = &mut self.chunks[spare.max(emptied)];
        chunk.entries = Vec::new();
        chunk.vacant = END;
    }
}

impl<T> Chunk<T> {
    fn insert(&mut self, record: T) -> u32 {
        self.used += 1;
        if self.vacant == END {
            if self.entries.capacity() == 0 {
                self.entries.reserve_exact(CHUNK);
            }
            self.entries.push(Entry::Occupied(record));
            return self.entries.len() as u32 - 1;
        }
        let position = self.vacant;
        match core::mem::replace(
            &mut self.entries[position as usize],
            Entry::Occupied(record),
        ) {
            Entry::Vacant(next) => self.vacant = next,
            Entry::Occupied(_) => unreachable!("a vacant entry was occupied"),
        }
        position
    }

    fn remove(&mut self, position: usize) -> T {
        let entry = &mut self.entries[position];
        assert!(
            matches!(entry, Entry::Occupied(_)),
            "nothing is stored under this key"
        );
        match core::mem::replace(entry, Entry::Vacant(self.vacant)) {
            Entry::Occupied(record) => {
                self.vacant = position as u32;
                self.used -= 1;
                record
            }
            Entry::Vacant(_) => unreachable!("checked above"),
        }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, key: u32) -> &T {
        self.get(key).expect("nothing is stored under this key")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, key: u32) -> &mut T {
        self.get_mut(key).expect("nothing is stored under this key")
    }
}

fn split(key: u32) -> (usize, usize) {
    (key as usize / CHUNK, key as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_record_is_found_under_its_key_until_it_is_removed() {
        let mut slab = Slab::with_limit(10);
        let a = slab.insert("a").unwrap();
        let b = slab.insert("b").unwrap();
        assert_eq!((slab[a], slab[b], slab.len()), ("a", "b", 2));
        slab[b] = "c";
        assert_eq!(slab.remove(a), "a");
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.get(99_999), None);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(b, &"c")]);
    }

    #[test]
    fn at_the_limit_the_record_is_given_back() {
        let mut slab = Slab::with_limit(2);
        let first = slab.insert(1).unwrap();
        slab.insert(2).unwrap();
        assert_eq!(slab.insert(3), Err(3));
        slab.remove(first);
        assert!(slab.insert(3).is_ok());
    }

    #[test]
    #[should_panic(expected = "nothing is stored under this key")]
    fn removing_twice_panics() {
        let mut slab = Slab::with_limit(2);
        let key = slab.insert(1).unwrap();
        slab.remove(key);
        slab.remove(key);
    }

    #[test]
    fn records_never_move_while_the_slab_grows() {
        let mut slab = Slab::with_limit(100_000);
        let first = slab.insert(7_u64).unwrap();
        let address = &raw const slab[first];
        for number in 0..50_000 {
            slab.insert(number).unwrap();
        }
        assert_eq!(&raw const slab[first], address);
    }

    #[test]
    fn memory_goes_back_when_chunks_run_empty_and_one_is_kept() {
        let mut slab = Slab::with_limit(100_000);
        let keys: Vec<u32> = (0..10 * CHUNK).map(|n| slab.insert(n).unwrap()).collect();
        let one = slab.bytes_held() / 10;
        for key in keys {
            slab.remove(key);
        }
        assert_eq!(slab.bytes_held(), one);
        slab.insert(1).unwrap();
        assert_eq!(slab.bytes_held(), one);
    }

    #[test]
    fn random_operations_agree_with_an_ordered_map() {
        let mut rng = crate::rng::Rng::new([3; 16]);
        let mut slab = Slab::with_limit(6_000);
        let mut model = BTreeMap::new();
        let mut keys = Vec::new();
        for step in 0..200_000_u64 {
            // Waves of growth and of decay, so that chunks fill and run empty.
            let growing = (step / 20_000) % 2 == 0;
            if rng.below(10) < if growing { 7 } else { 2 } {
                match slab.insert(step) {
                    Ok(key) => {
                        assert_eq!(model.insert(key, step), None, "key {key} given twice");
                        keys.push(key);
                    }
                    Err(_) => assert_eq!(model.len(), 6_000),
                }
            } else if !keys.is_empty() {
                let key = keys.swap_remove(rng.below(keys.len() as u64) as usize);
                assert_eq!(Some(slab.remove(key)), model.remove(&key));
            }
            assert_eq!(slab.len(), model.len());
        }
        let expected: Vec<(u32, &u64)> = model.iter().map(|(key, value)| (*key, value)).collect();
        assert_eq!(slab.iter().collect::<Vec<_>>(), expected);
        let mut walked = Vec::new();
        let mut from = 0;
        while let Some(key) = slab.next_key(from) {
            walked.push(key);
            from = key + 1;
        }
        assert!(walked.iter().eq(model.keys()));
    }
}
