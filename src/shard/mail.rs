//! What shards send to each other, and what the control thread asks of them.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;
use std::sync::Arc;

use crate::hint::{ResourceKey, Snapshot};
use crate::partition::ShardId;
use crate::shard::control::{Changed, Reply, Request};
use crate::shard::edges::Introduced;
use crate::shard::effects::SendTag;
use crate::store::rewrite::StoreNews;
use crate::time::Time;
use crate::transport::locate::{Located, Question};
use crate::transport::{ConnectionId, Flow, ListenerId};

/// Mail between shards, and between a shard and the control thread.
#[derive(Debug)]
pub enum Mail {
    /// A shard has its first watcher of a resource of yours, or has missed a mail: answer with its state,
    /// and mail it every change from now on.
    Watch {
        resource: ResourceKey,
        shard: ShardId,
    },
    /// A shard has no watcher of a resource of yours any more.
    Unwatch {
        resource: ResourceKey,
        shard: ShardId,
    },
    /// What a resource that you watch is now; `serial` rises by one with each change.
    Hint {
        resource: ResourceKey,
        serial: u64,
        snapshot: Arc<Snapshot>,
    },
    /// From the store: of the records that you gave out, all up to this serial are kept; `kept` of them since this
    /// was last said, and `lost` that it could not keep.
    Written { serial: u64, kept: u64, lost: u64 },
    /// From the store: how it is from now on.
    Store(StoreNews),
    /// What became of a connection that you send on and this shard has.
    Connection {
        connection: ConnectionId,
        news: ConnectionNews,
    },
    /// This shard has got a connection of an edge, or another name for one.
    Edge(Box<Introduced>),
    /// To the control thread: look this name up.
    Resolve(Arc<Question>),
    /// From the control thread: what came of it.
    Resolved(Box<Resolution>),
    /// From the control thread.
    Request(Request),
    /// To the control thread.
    Reply(Reply),
    /// To the control thread, while it asked for them.
    Changed(Changed),
}

/// What a name has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    pub question: Arc<Question>,
    pub located: Located,
    /// How long it is good, as its records say.
    pub lasts: Duration,
}

/// What the shard that has a connection tells the others that send on it, and what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionNews {
    /// It takes no NOTIFY for now, and this one was not sent: there will be `Free` when it does.
    Full(SendTag),
    /// It takes NOTIFYs again.
    Free,
    /// What is written to it may wait for long.
    Slow,
    /// What waited has been taken.
    Caught,
    /// It is closed, or never was.
    Gone,
    /// Nothing has come by it for long: is anybody told by it?
    Idle,
    /// To the shard that has it: this one tells somebody by it.
    Used(ShardId),
}

/// The size of a block of forwarded messages: one per pair of shards and turn.
pub const BLOCK_SIZE: usize = 64 * 1024;
/// What stands before each message of a block: which kind it is; listener, local address (or `::`), whether there is
/// one, peer address, whether it is IPv4, peer port, interface of a link-local peer; connection (or 0), tag, length.
pub const BLOCK_HEADER: usize = 1 + FLOW_BYTES + 8 + 8 + 2;
const FLOW_BYTES: usize = 4 + 16 + 1 + 16 + 1 + 2 + 4;
/// The kinds: one for the owner to handle, and one for a connection of the reader.
const RECEIVED: u8 = 0;
const TO_SEND: u8 = 1;
const _: () = assert!(
    crate::config::limits::HEADER_BYTES + crate::config::limits::STREAM_BODY_BYTES + BLOCK_HEADER
        <= BLOCK_SIZE,
    "every message can be forwarded"
);

/// One message of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried<'a> {
    /// It came in at the sender of the block, and its reader owns it.
    Received { flow: Flow, bytes: &'a [u8] },
    /// The reader of the block has the connection that it is to be written to.
    ToSend {
        connection: ConnectionId,
        tag: SendTag,
        bytes: &'a [u8],
    },
}

/// Messages that concern another shard, copied one after the other.
/// Holds no memory until the first one is pushed.
#[derive(Default)]
pub struct Block {
    bytes: Vec<u8>,
    /// When the first one was.
    since: Time,
}

impl Block {
    /// Whether no message is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are still free; each message takes `BLOCK_HEADER` more than its own.
    pub fn room(&self) -> usize {
        BLOCK_SIZE - self.bytes.len()
    }

    /// How long the first of its messages has been waiting.
    pub fn waited(&self, now: Time) -> Duration {
        now.since(self.since)
    }

    /// Forgets its messages and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends a message that came in here; false if it does not fit.
    #[must_use]
    pub fn push(&mut self, now: Time, flow: &Flow, bytes: &[u8]) -> bool {
        let (local, has_local) = match flow.local {
            Some(address) => (octets(address), 1),
            None => ([0; 16], 0),
        };
        let scope = match flow.peer {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(peer) => peer.scope_id(),
        };
        let mut header = [RECEIVED; BLOCK_HEADER];
        let mut rest = &mut header[1..];
        put(&mut rest, &flow.listener.0.to_le_bytes());
        put(&mut rest, &local);
        put(&mut rest, &[has_local]);
        put(&mut rest, &octets(flow.peer.ip()));
        put(&mut rest, &[u8::from(flow.peer.is_ipv4())]);
        put(&mut rest, &flow.peer.port().to_le_bytes());
        put(&mut rest, &scope.to_le_bytes());
        let connection = flow.connection.map_or(0, ConnectionId::number);
        self.append(now, header, connection, SendTag::NONE, bytes)
    }

    /// Appends a message for a connection that the reader has; false if it does not fit.
    #[must_use]
    pub fn push_to_send(
        &mut self,
        now: Time,
        connection: ConnectionId,
        tag: SendTag,
        bytes: &[u8],
    ) -> bool {
        let mut header = [0; BLOCK_HEADER];
        header[0] = TO_SEND;
        self.append(now, header, connection.number(), tag, bytes)
    }

    fn append(
        &mut self,
        now: Time,
        mut header: [u8; BLOCK_HEADER],
        connection: u64,
        tag: SendTag,
        bytes: &[u8],
    ) -> bool {
        if self.bytes.len() + BLOCK_HEADER + bytes.len() > BLOCK_SIZE {
            return false;
        }
        if self.bytes.is_empty() {
            self.since = now;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(BLOCK_SIZE);
        }
        let mut rest = &mut header[1 + FLOW_BYTES..];
        put(&mut rest, &connection.to_le_bytes());
        put(&mut rest, &tag.0.to_le_bytes());
        put(&mut rest, &(bytes.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// The messages, in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = Carried<'_>> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let kind = take::<1>(&mut rest)[0];
            let (flow, after) = rest.split_at(FLOW_BYTES);
            rest = after;
            let connection = ConnectionId::from_number(u64::from_le_bytes(take(&mut rest)));
            let tag = SendTag(u64::from_le_bytes(take(&mut rest)));
            let length = usize::from(u16::from_le_bytes(take(&mut rest)));
            let (bytes, after) = rest.split_at(length);
            rest = after;
            Some(match (kind, connection) {
                (TO_SEND, Some(connection)) => Carried::ToSend {
                    connection,
                    tag,
                    bytes,
                },
                _ => Carried::Received {
                    flow: read_flow(flow, connection),
                    bytes,
                },
            })
        })
    }
}

fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    let (here, after) = core::mem::take(rest).split_at_mut(bytes.len());
    here.copy_from_slice(bytes);
    *rest = after;
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (here, after) = rest.split_first_chunk().expect("a block of our own making");
    *rest = after;
    *here
}

fn read_flow(mut rest: &[u8], connection: Option<ConnectionId>) -> Flow {
    let listener = ListenerId(u32::from_le_bytes(take(&mut rest)));
    let local: [u8; 16] = take(&mut rest);
    let has_local = take::<1>(&mut rest)[0] == 1;
    let peer: [u8; 16] = take(&mut rest);
    let v4 = take::<1>(&mut rest)[0] == 1;
    let port = u16::from_le_bytes(take(&mut rest));
    let scope = u32::from_le_bytes(take(&mut rest));
    Flow {
        listener,
        local: has_local.then(|| address(local, v4)),
        peer: match address(peer, v4) {
            IpAddr::V4(address) => SocketAddr::from((address, port)),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
        },
        connection,
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.bytes.len())
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A flow's two addresses are always of one family.
fn address(octets: [u8; 16], v4: bool) -> IpAddr {
    let v6 = Ipv6Addr::from(octets);
    match v6.to_ipv4_mapped() {
        Some(address) if v4 => IpAddr::V4(address),
        _ => IpAddr::V6(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000);

    fn flow(listener: u32, local: Option<&str>, peer: &str) -> Flow {
        Flow {
            listener: ListenerId(listener),
            local: local.map(|local| local.parse().unwrap()),
            peer: peer.parse().unwrap(),
            connection: None,
        }
    }

    #[test]
    fn a_block_gives_back_every_message_with_its_flow_in_order() {
        let connection = ConnectionId::new(ShardId(3), 1);
        let streamed = Flow {
            connection: Some(connection),
            ..flow(4, None, "192.0.2.1:40000")
        };
        let received = |flow, bytes| Carried::Received { flow, bytes };
        let messages = [
            received(flow(1, None, "192.0.2.1:5060"), &b"first"[..]),
            received(flow(2, Some("127.0.0.2"), "192.0.2.1:65535"), b""),
            received(flow(u32::MAX, Some("fe80::1"), "[fe80::2%7]:1"), b"third"),
            Carried::ToSend {
                connection,
                tag: SendTag(7),
                bytes: b"to send",
            },
            received(flow(3, None, "[::ffff:192.0.2.1]:5060"), b"fourth"),
            received(streamed, b"by a connection"),
        ];
        let mut block = Block::default();
        for round in 0..2 {
            for message in &messages {
                assert!(match message {
                    Carried::Received { flow, bytes } => block.push(NOW, flow, bytes),
                    Carried::ToSend {
                        connection,
                        tag,
                        bytes,
                    } => block.push_to_send(NOW, *connection, *tag, bytes),
                });
            }
            let given: Vec<_> = block.iter().collect();
            assert_eq!(given, messages, "round {round}");
            block.clear();
            assert!(block.is_empty());
        }
    }

    #[test]
    fn a_full_block_refuses_and_keeps_what_it_has() {
        let mut block = Block::default();
        let from = flow(1, None, "192.0.2.1:5060");
        let bytes = [7; 4096];
        let mut count = 0;
        while block.push(NOW, &from, &bytes) {
            count += 1;
        }
        assert_eq!(count, BLOCK_SIZE / (BLOCK_HEADER + bytes.len()));
        assert_eq!(block.iter().count(), count);
        assert!(block.iter().all(|given| given
            == Carried::Received {
                flow: from,
                bytes: &bytes
            }));
        let rest = block.room() - BLOCK_HEADER;
        assert!(block.push(NOW, &from, &bytes[..rest]));
        assert_eq!(block.room(), 0);
    }
}
