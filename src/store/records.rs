//! Records on their way: what a shard wants written in one turn, and what was read for it at a start.

use core::fmt;

use crate::store::format::{Key, Record};

/// Stands for the length of a value where there is none: the record is to be removed.
const REMOVED: u32 = u32::MAX;
/// What stands before each record: the lengths of key and value.
const HEADER: usize = 2 + 4;

/// Records that are to be written or removed, in order, one after the other in one allocation.
/// Holds no memory until the first one is put in.
#[derive(Default)]
pub struct Records {
    /// Which one of its shard this is, counted from 1. 0: nothing was put in yet.
    pub serial: u64,
    /// With this its shard has given out all that it knows, as it was asked to under this number. 0: it was not.
    pub whole: u32,
    bytes: Vec<u8>,
    len: usize,
}

impl Records {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none, and nothing else that has to be said.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.whole == 0
    }

    /// How many bytes they take.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory held.
    pub fn bytes_held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets its records and keeps its memory.
    pub fn clear(&mut self) {
        self.serial = 0;
        self.whole = 0;
        self.len = 0;
        self.bytes.clear();
    }

    /// This record is to stand under the key from now on.
    pub fn put(&mut self, key: &Key<'_>, record: &Record<'_>) {
        let start = self.begin();
        key.write(&mut self.bytes);
        let middle = self.bytes.len();
        record.write(start + HEADER, &mut self.bytes);
        let value = (self.bytes.len() - middle) as u32;
        self.end(start, middle, value);
    }

    /// Nothing is to stand under the key from now on.
    pub fn remove(&mut self, key: &Key<'_>) {
        let start = self.begin();
        key.write(&mut self.bytes);
        let middle = self.bytes.len();
        self.end(start, middle, REMOVED);
    }

    /// A record as it was read; it may be damaged.
    pub fn copy(&mut self, key: &[u8], value: &[u8]) {
        let start = self.begin();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.end(start, middle, value.len() as u32);
    }

    /// Keys and values in order; without a value the record is to be removed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (header, after) = rest.split_at(HEADER);
            let key = usize::from(u16::from_le_bytes([header[0], header[1]]));
            let value = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
            let (key, after) = after.split_at(key);
            if value == REMOVED {
                rest = after;
                return Some((key, None));
            }
            let (value, after) = after.split_at(value as usize);
            rest = after;
            Some((key, Some(value)))
        })
    }

    fn begin(&mut self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        self.len += 1;
        start
    }

    fn end(&mut self, start: usize, middle: usize, value: u32) {
        let key = middle - start - HEADER;
        assert!(key <= usize::from(u16::MAX), "keys are short");
        self.bytes[start..start + 2].copy_from_slice(&(key as u16).to_le_bytes());
        self.bytes[start + 2..start + HEADER].copy_from_slice(&value.to_le_bytes());
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Records {
            serial,
            whole,
            bytes,
            len,
        } = self;
        let size = bytes.len();
        write!(f, "Records({len}, {size} bytes, number {serial}, {whole})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_the_order_in_which_they_were_put() {
        let mut records = Records::default();
        let epoch = |source| Key::Epoch { source };
        for round in 1..3 {
            records.put(&epoch("pbx"), &Record::Epoch(round));
            records.remove(&epoch("bus"));
            records.copy(b"", b"");
            let read: Vec<_> = records.iter().collect();
            assert_eq!((read.len(), records.len()), (3, 3));
            let (key, value) = (read[0].0, read[0].1.unwrap());
            let key = Key::read(key).unwrap();
            assert_eq!(Record::read(&key, value).unwrap(), Record::Epoch(round));
            assert_eq!((Key::read(read[1].0), read[1].1), (Ok(epoch("bus")), None));
            assert_eq!(read[2], (&b""[..], Some(&b""[..])));
            records.clear();
            assert!(records.is_empty() && records.bytes_held() > 0);
        }
    }
}
