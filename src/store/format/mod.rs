//! How a record looks on the disk: a version, the fields, and a check value over all of it and its key. A record
//! that is damaged, or that a newer program wrote, is told apart and never believed.

mod code;
mod content;
mod key;

use core::fmt;
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};
use std::borrow::Cow;

use siphasher::sip::SipHasher13;

use crate::hint::{HintContent, Order, Published};
use code::{Code, Reader, fields, numbered, put_bytes};

pub use content::{put_calls, put_mailbox, put_presence};
pub use key::Key;

/// The newest version that is written. Every one since 1 is read, and a record has the oldest that can say it:
/// 2 for a refresh with the state that was told, 3 for what names whose quotas it counts against, 4 for what names
/// the request that it came by.
pub const VERSION: u8 = 4;

/// Bytes of the check value at the end of each record.
const CHECK: usize = 4;

/// Why a record is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The key is none of ours.
    Key,
    /// It ends too early.
    Short,
    /// It goes on where it ought to end.
    Long,
    /// The check value is that of another record.
    Check,
    /// It has a version that this program does not know.
    Version(u8),
    /// A field holds what it cannot hold: its name.
    Value(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Key => f.write_str("its key is none of this program"),
            Fault::Short => f.write_str("it ends too early"),
            Fault::Long => f.write_str("it is too long"),
            Fault::Check => f.write_str("its check value is wrong"),
            Fault::Version(version) => write!(f, "it has the unknown version {version}"),
            Fault::Value(field) => write!(f, "its {field} cannot be read"),
        }
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

/// What stands under a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    Incarnation(u32),
    Epoch(u64),
    Hint(HintRecord<'a>),
    Publication(PublicationRecord<'a>),
    Renewal(UnixMillis),
    Subscription(SubscriptionRecord<'a>),
    Refresh {
        standing: Standing,
        /// The state that the watcher has taken, as a number that no other state has; of a process that ended in order.
        told: Option<u64>,
    },
}

/// What a source says of the resource in the key.
#[derive(Clone, Debug, PartialEq)]
pub struct HintRecord<'a> {
    pub order: Option<Order>,
    /// The source's epoch when it said so.
    pub epoch: u64,
    /// Later arrivals on one shard have higher numbers.
    pub arrival: u64,
    /// When it goes: what is said, or the memory that it was taken back.
    pub expires: Option<UnixMillis>,
    /// None: it was taken back.
    pub content: Option<Cow<'a, HintContent>>,
}

/// What a publisher says.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicationRecord<'a> {
    pub resource: &'a str,
    pub arrival: u64,
    pub expires: UnixMillis,
    pub content: Cow<'a, Published>,
    /// Whom it is counted under: the hashed names of a user, a source and a domain. None: it was written by version 1.
    pub publisher: Option<[u64; 3]>,
    /// Which request has made or last changed it, and by which way that came (0: nobody can say), hashed. None: it was written by an earlier
    /// version.
    pub asked: Option<(u64, u16)>,
}

/// How many texts a dialog has.
pub const TEXTS: usize = 7;

/// One subscription with its dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord<'a> {
    /// Who watches, hashed.
    pub identity: u64,
    /// With what, hashed; and whether that tells an instance.
    pub device: u64,
    pub by_instance: bool,
    /// The slot in our tag.
    pub slot: u32,
    /// The CSeq of the document with version 0.
    pub first_cseq: u32,
    /// By which way its first request came, hashed. 0: nobody can say.
    pub way: u16,
    pub resource: &'a str,
    pub package: &'a str,
    pub content_type: &'a str,
    /// The header text that is the dialog's own, in the order in which a dialog keeps it.
    pub texts: [&'a [u8]; TEXTS],
    pub standing: Standing,
}

/// What carries a dialog's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// What of a subscription changes with a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub expires: UnixMillis,
    /// So many seconds before that the watcher was told to be back.
    pub spared_seconds: u16,
    pub over: Over,
    /// The address of the listener that the watcher's last request came in on.
    pub listener: SocketAddr,
    /// The local address of that request where the listener has many.
    pub local: Option<IpAddr>,
    pub peer: SocketAddr,
    /// Of the last SUBSCRIBE.
    pub remote_cseq: u32,
    /// No NOTIFY of the process that wrote this has a higher CSeq.
    pub reserved: u32,
    /// Which process that was; the one after it where it ended in order, and left nothing open.
    pub incarnation: u32,
    /// None: it was written by version 1 or 2.
    pub terms: Option<Terms>,
}

/// On which terms a watcher is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whose quota it counts against: where its last request came from, hashed.
    pub source: u64,
    /// How often it wants to be told, in ten-thousandths of a NOTIFY per second: at most, at least, and at least where
    /// that adapts.
    pub rates: [Option<u32>; 3],
}

impl Standing {
    /// Whether the whole record was written after this, which came from a refresh: a process counts on from the one
    /// before, refreshes count up, and one that needs a whole record writes no other.
    pub fn is_outdated_by(&self, whole: &Standing) -> bool {
        (whole.incarnation, whole.remote_cseq) > (self.incarnation, self.remote_cseq)
    }
}

numbered! { Over { Udp = 0 Tcp = 1 Tls = 2 Ws = 3 Wss = 4 } }
fields! { Terms { source rates } }

impl Standing {
    /// All but the terms, which came later and stand at the end of a record.
    fn put(&self, out: &mut Vec<u8>) {
        self.expires.put(out);
        self.spared_seconds.put(out);
        self.over.put(out);
        self.listener.put(out);
        self.local.put(out);
        self.peer.put(out);
        self.remote_cseq.put(out);
        self.reserved.put(out);
        self.incarnation.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Standing {
            expires: Code::get(from)?,
            spared_seconds: Code::get(from)?,
            over: Code::get(from)?,
            listener: Code::get(from)?,
            local: Code::get(from)?,
            peer: Code::get(from)?,
            remote_cseq: Code::get(from)?,
            reserved: Code::get(from)?,
            incarnation: Code::get(from)?,
            terms: None,
        })
    }
}

impl Code for UnixMillis {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(UnixMillis(Code::get(from)?))
    }
}

impl<'a> Record<'a> {
    /// Appends it. Its key stands in `out` already, from `key` to the end.
    pub fn write(&self, key: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(self.version());
        match self {
            Record::Incarnation(number) => number.put(out),
            Record::Epoch(epoch) => epoch.put(out),
            Record::Hint(hint) => hint.write(out),
            Record::Publication(publication) => publication.write(out),
            Record::Renewal(expires) => expires.put(out),
            Record::Subscription(subscription) => subscription.write(out),
            Record::Refresh { standing, told } => {
                standing.put(out);
                match (told, &standing.terms) {
                    (told, Some(terms)) => {
                        told.put(out);
                        terms.put(out);
                    }
                    (Some(told), None) => told.put(out),
                    (None, None) => {}
                }
            }
        }
        let check = check(&out[key..start], &out[start..]);
        out.extend_from_slice(&check);
    }

    /// Reads what stands under the key.
    pub fn read(key: &Key<'_>, bytes: &'a [u8]) -> Result<Record<'a>, Fault> {
        let end = bytes.len().checked_sub(CHECK).ok_or(Fault::Short)?;
        let (body, found) = bytes.split_at(end);
        let mut written = Vec::new();
        key.write(&mut written);
        if check(&written, body) != found {
            return Err(Fault::Check);
        }
        Record::read_body(key, body)
    }

    /// The same without the check value: the part that must hold against any bytes.
    pub fn read_body(key: &Key<'_>, body: &'a [u8]) -> Result<Record<'a>, Fault> {
        let mut from = Reader::new(body);
        let version = u8::get(&mut from)?;
        if !(1..=VERSION).contains(&version) {
            return Err(Fault::Version(version));
        }
        let record = Record::fields(key, version, &mut from)?;
        from.end()?;
        Ok(record)
    }

    fn version(&self) -> u8 {
        match self {
            Record::Incarnation(_) | Record::Epoch(_) | Record::Hint(_) | Record::Renewal(_) => 1,
            Record::Publication(record) => match (record.publisher, record.asked) {
                (Some(_), Some(_)) => 4,
                (Some(_), None) => 3,
                (None, _) => 1,
            },
            Record::Subscription(record) => match (&record.standing.terms, record.way) {
                (Some(_), 1..) => 4,
                (Some(_), 0) => 3,
                (None, _) => 1,
            },
            Record::Refresh { standing, told } => match (&standing.terms, told) {
                (Some(_), _) => 3,
                (None, Some(_)) => 2,
                (None, None) => 1,
            },
        }
    }

    fn fields(key: &Key<'_>, version: u8, from: &mut Reader<'a>) -> Result<Record<'a>, Fault> {
        Ok(match key {
            Key::Incarnation => Record::Incarnation(Code::get(from)?),
            Key::Epoch { .. } => Record::Epoch(Code::get(from)?),
            Key::Hint { .. } => Record::Hint(HintRecord::read(from)?),
            Key::Publication { .. } => Record::Publication(PublicationRecord::read(version, from)?),
            Key::Renewal { .. } => Record::Renewal(Code::get(from)?),
            Key::Subscription { .. } => {
                Record::Subscription(SubscriptionRecord::read(version, from)?)
            }
            Key::Refresh { .. } => {
                let mut standing = Standing::get(from)?;
                let told = match version {
                    1 => None,
                    2 => Some(Code::get(from)?),
                    _ => Code::get(from)?,
                };
                if version >= 3 {
                    standing.terms = Some(Code::get(from)?);
                }
                Record::Refresh { standing, told }
            }
        })
    }
}

impl<'a> HintRecord<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        self.order.put(out);
        self.epoch.put(out);
        self.arrival.put(out);
        self.expires.put(out);
        self.content.is_some().put(out);
        if let Some(content) = &self.content {
            content.put(out);
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Self, Fault> {
        Ok(HintRecord {
            order: Code::get(from)?,
            epoch: Code::get(from)?,
            arrival: Code::get(from)?,
            expires: Code::get(from)?,
            content: Option::<HintContent>::get(from)?.map(Cow::Owned),
        })
    }
}

impl<'a> PublicationRecord<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self.resource.as_bytes(), out);
        self.arrival.put(out);
        self.expires.put(out);
        self.content.put(out);
        if let Some(publisher) = &self.publisher {
            publisher.put(out);
            if let Some(asked) = &self.asked {
                asked.put(out);
            }
        }
    }

    fn read(version: u8, from: &mut Reader<'a>) -> Result<Self, Fault> {
        Ok(PublicationRecord {
            resource: from.text()?,
            arrival: Code::get(from)?,
            expires: Code::get(from)?,
            content: Cow::Owned(Code::get(from)?),
            publisher: match version {
                1 | 2 => None,
                _ => Some(Code::get(from)?),
            },
            asked: match version {
                1..=3 => None,
                _ => Some(Code::get(from)?),
            },
        })
    }
}

impl<'a> SubscriptionRecord<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        self.identity.put(out);
        self.device.put(out);
        self.by_instance.put(out);
        self.slot.put(out);
        self.first_cseq.put(out);
        for name in [self.resource, self.package, self.content_type] {
            put_bytes(name.as_bytes(), out);
        }
        for text in self.texts {
            put_bytes(text, out);
        }
        self.standing.put(out);
        if let Some(terms) = &self.standing.terms {
            terms.put(out);
            if self.way > 0 {
                self.way.put(out);
            }
        }
    }

    fn read(version: u8, from: &mut Reader<'a>) -> Result<Self, Fault> {
        let mut record = SubscriptionRecord {
            identity: Code::get(from)?,
            device: Code::get(from)?,
            by_instance: Code::get(from)?,
            slot: Code::get(from)?,
            first_cseq: Code::get(from)?,
            way: 0,
            resource: from.text()?,
            package: from.text()?,
            content_type: from.text()?,
            texts: {
                let mut texts = [&[][..]; TEXTS];
                for text in &mut texts {
                    *text = from.bytes()?;
                }
                texts
            },
            standing: {
                let mut standing = Standing::get(from)?;
                if version >= 3 {
                    standing.terms = Some(Code::get(from)?);
                }
                standing
            },
        };
        if version >= 4 {
            record.way = Code::get(from)?;
        }
        Ok(record)
    }
}

/// Over the key too: a record under another's key is as wrong as a damaged one. The key of the hash is no secret,
/// since nothing here is meant to hold against who can write to the disk.
fn check(key: &[u8], body: &[u8]) -> [u8; CHECK] {
    let mut hasher = SipHasher13::new_with_key(b"lampfield record");
    hasher.write_u32(key.len() as u32);
    hasher.write(key);
    hasher.write(body);
    (hasher.finish() as u32).to_le_bytes()
}

#[cfg(test)]
mod tests;
