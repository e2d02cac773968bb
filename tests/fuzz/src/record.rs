//! Records that a disk gives back: whatever stands there is read or refused, and what was read can be written again.

use lampfield::store::format::{Key, Record};
use lampfield::store::records::Records;

/// One length, a key of that length, and a record without its check value. No disk can do more than that.
pub fn record(data: &[u8]) {
    let Some((name, body)) = split(data) else {
        return;
    };
    let Ok(key) = Key::read(name) else { return };
    let _ = Record::read(&key, body);
    let Ok(record) = Record::read_body(&key, body) else {
        return;
    };
    let mut records = Records::default();
    records.put(&key, &record);
    let (name_again, value) = records.iter().next().expect("a record was put in");
    assert_eq!(name_again, name, "a key is written as it was read");
    let again = Record::read(&key, value.expect("it is not removed"));
    assert_eq!(again.as_ref(), Ok(&record));
}

/// Whether a record is read from it.
pub fn is_read(data: &[u8]) -> bool {
    split(data).is_some_and(|(name, body)| {
        Key::read(name).is_ok_and(|key| Record::read_body(&key, body).is_ok())
    })
}

fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// The kept inputs, one of each kind of record.
pub fn seeds() -> Vec<Vec<u8>> {
    const LINES: &str = include_str!("../../../src/store/format/version-1.txt");
    let seed = |line: &str| {
        let (key, value) = line.split_once(' ').expect("key and value");
        let (key, value) = (bytes(key), bytes(value));
        let check = 4;
        [&[key.len() as u8], &*key, &value[..value.len() - check]].concat()
    };
    LINES.lines().map(seed).collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2);
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
    pairs.map(byte).collect()
}
