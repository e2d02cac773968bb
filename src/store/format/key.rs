//! The names under which records stand. Sorted, what others need to know comes first: sources, hints and
//! publications before the subscriptions that show them, a refresh right before its subscription.

use super::Fault;
use super::code::Reader;
use crate::partition::Partition;

/// The name of one record. Numbers of partitions are those of the resource or of the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// How often the store has been opened.
    Incarnation,
    /// A source that numbers what it says.
    Epoch { source: &'a str },
    /// What a source says of a resource.
    Hint {
        partition: Partition,
        resource: &'a str,
        source: &'a str,
    },
    /// What a publisher says, under its entity tag.
    Publication { partition: Partition, tag: u64 },
    /// Until when that holds, if it is longer than was first granted.
    Renewal { partition: Partition, tag: u64 },
    /// A subscription, by the numbers in our tag.
    Subscription { partition: Partition, check: u64 },
    /// What its refreshes have changed.
    Refresh { partition: Partition, check: u64 },
}

const INCARNATION: u8 = b'a';
const EPOCH: u8 = b'e';
const HINT: u8 = b'h';
const PUBLICATION: u8 = b'p';
const SUBSCRIPTION: u8 = b's';

/// The last byte of a key that stands for what has changed since, and of one that stands for the whole: who reads
/// the whole has seen what became of it.
const SINCE: u8 = 0;
const WHOLE: u8 = 1;

impl<'a> Key<'a> {
    /// The first byte of all keys of subscriptions; no other key sorts behind it.
    pub const SUBSCRIPTIONS: u8 = SUBSCRIPTION;
    /// The first byte of all keys that concern the store itself and no shard.
    pub const OWN: u8 = INCARNATION;

    /// Whose record it is; None: it concerns every shard.
    pub fn partition(&self) -> Option<Partition> {
        match *self {
            Key::Incarnation | Key::Epoch { .. } => None,
            Key::Hint { partition, .. }
            | Key::Publication { partition, .. }
            | Key::Renewal { partition, .. }
            | Key::Subscription { partition, .. }
            | Key::Refresh { partition, .. } => Some(partition),
        }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Key::Incarnation => out.push(INCARNATION),
            Key::Epoch { source } => {
                out.push(EPOCH);
                out.extend_from_slice(source.as_bytes());
            }
            Key::Hint {
                partition,
                resource,
                source,
            } => {
                out.push(HINT);
                out.extend_from_slice(&partition.number().to_be_bytes());
                out.extend_from_slice(resource.as_bytes());
                // No resource has one in its name.
                out.push(0);
                out.extend_from_slice(source.as_bytes());
            }
            Key::Publication { partition, tag } => put(PUBLICATION, partition, tag, WHOLE, out),
            Key::Renewal { partition, tag } => put(PUBLICATION, partition, tag, SINCE, out),
            Key::Subscription { partition, check } => {
                put(SUBSCRIPTION, partition, check, WHOLE, out)
            }
            Key::Refresh { partition, check } => put(SUBSCRIPTION, partition, check, SINCE, out),
        }
    }

    /// Reads what [`Key::write`] wrote.
    pub fn read(bytes: &'a [u8]) -> Result<Key<'a>, Fault> {
        let mut from = Reader::new(bytes);
        let class = from.take(1)?[0];
        let rest = &bytes[1..];
        match class {
            INCARNATION if rest.is_empty() => Ok(Key::Incarnation),
            EPOCH => Ok(Key::Epoch {
                source: text(rest)?,
            }),
            HINT => {
                let partition = partition(&mut from)?;
                let names = text(&rest[2..])?;
                let (resource, source) = names.split_once('\0').ok_or(Fault::Key)?;
                Ok(Key::Hint {
                    partition,
                    resource,
                    source,
                })
            }
            PUBLICATION | SUBSCRIPTION => numbered(class, &mut from),
            _ => Err(Fault::Key),
        }
    }
}

fn put(class: u8, partition: Partition, number: u64, part: u8, out: &mut Vec<u8>) {
    out.push(class);
    out.extend_from_slice(&partition.number().to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.push(part);
}

fn numbered<'a>(class: u8, from: &mut Reader<'a>) -> Result<Key<'a>, Fault> {
    let partition = partition(from)?;
    let number = from.take(8)?.try_into().map_err(|_| Fault::Key)?;
    let number = u64::from_be_bytes(number);
    let part = from.take(1)?[0];
    from.end()?;
    match (class, part) {
        (PUBLICATION, WHOLE) => Ok(Key::Publication {
            partition,
            tag: number,
        }),
        (PUBLICATION, SINCE) => Ok(Key::Renewal {
            partition,
            tag: number,
        }),
        (SUBSCRIPTION, WHOLE) => Ok(Key::Subscription {
            partition,
            check: number,
        }),
        (SUBSCRIPTION, SINCE) => Ok(Key::Refresh {
            partition,
            check: number,
        }),
        _ => Err(Fault::Key),
    }
}

fn partition(from: &mut Reader<'_>) -> Result<Partition, Fault> {
    let bytes = from.take(2)?;
    Partition::new(u16::from_be_bytes([bytes[0], bytes[1]])).ok_or(Fault::Key)
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    core::str::from_utf8(bytes).map_err(|_| Fault::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: Key<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        key.write(&mut out);
        out
    }

    #[test]
    fn keys_read_back_and_sort_in_the_order_in_which_they_are_needed() {
        let partition = Partition::new(513).unwrap();
        let hint = Key::Hint {
            partition,
            resource: "1001@example.com",
            source: "pbx",
        };
        let (tag, check) = (u64::MAX, 0);
        let keys = [
            Key::Incarnation,
            Key::Epoch { source: "pbx" },
            hint,
            Key::Renewal { partition, tag },
            Key::Publication { partition, tag },
            Key::Refresh { partition, check },
            Key::Subscription { partition, check },
        ];
        let written = keys.map(bytes);
        assert!(written.is_sorted());
        for (key, written) in keys.iter().zip(&written) {
            assert_eq!(Key::read(written), Ok(*key));
        }
        assert_eq!(written[5][0], Key::SUBSCRIPTIONS);
    }

    #[test]
    fn what_is_no_key_of_ours_is_told_apart() {
        for bytes in [
            &b""[..],
            b"x",
            b"aa",
            b"h\xff\xff1001",
            b"h\x00\x011001",
            b"s\x00\x01\0\0\0\0\0\0\0\0\x02",
            b"s\x00\x01\0\0\0\0\0\0\0\0\0\0",
            b"e\xff",
        ] {
            assert!(Key::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
