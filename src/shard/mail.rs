//! What shards send to each other, and what the control thread asks of them.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use crate::hint::{ResourceKey, Snapshot};
use crate::partition::ShardId;
use crate::shard::control::{Changed, Reply, Request};
use crate::transport::{Flow, ListenerId};

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
    /// From the control thread.
    Request(Request),
    /// To the control thread.
    Reply(Reply),
    /// To the control thread, while it asked for them.
    Changed(Changed),
}

/// The size of a block of forwarded datagrams: one per pair of shards and turn.
pub const BLOCK_SIZE: usize = 64 * 1024;
/// What stands before each datagram of a block: listener, local address (or `::`), whether there is
/// one, peer address, whether it is IPv4, peer port, interface of a link-local peer, length.
pub const BLOCK_HEADER: usize = 4 + 16 + 1 + 16 + 1 + 2 + 4 + 2;

/// Datagrams that another shard owns, copied one after the other.
/// Holds no memory until the first one is pushed.
#[derive(Default)]
pub struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// Whether no datagram is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are still free; each datagram takes `BLOCK_HEADER` more than its own.
    pub fn room(&self) -> usize {
        BLOCK_SIZE - self.bytes.len()
    }

    /// Forgets its datagrams and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends one datagram; false if it does not fit.
    #[must_use]
    pub fn push(&mut self, flow: &Flow, datagram: &[u8]) -> bool {
        if self.bytes.len() + BLOCK_HEADER + datagram.len() > BLOCK_SIZE {
            return false;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(BLOCK_SIZE);
        }
        let (local, has_local) = match flow.local {
            Some(address) => (octets(address), 1),
            None => ([0; 16], 0),
        };
        self.bytes.extend_from_slice(&flow.listener.0.to_le_bytes());
        self.bytes.extend_from_slice(&local);
        self.bytes.push(has_local);
        self.bytes.extend_from_slice(&octets(flow.peer.ip()));
        self.bytes.push(u8::from(flow.peer.is_ipv4()));
        self.bytes
            .extend_from_slice(&flow.peer.port().to_le_bytes());
        let scope = match flow.peer {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(peer) => peer.scope_id(),
        };
        self.bytes.extend_from_slice(&scope.to_le_bytes());
        self.bytes
            .extend_from_slice(&(datagram.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(datagram);
        true
    }

    /// The datagrams, in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = (Flow, &[u8])> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (header, after) = rest.split_at(BLOCK_HEADER);
            let v4 = header[37] == 1;
            let length = usize::from(u16::from_le_bytes([header[44], header[45]]));
            let (datagram, after) = after.split_at(length);
            rest = after;
            let port = u16::from_le_bytes([header[38], header[39]]);
            let scope = u32::from_le_bytes([header[40], header[41], header[42], header[43]]);
            let flow = Flow {
                listener: ListenerId(u32::from_le_bytes([
                    header[0], header[1], header[2], header[3],
                ])),
                local: (header[20] == 1).then(|| address(&header[4..20], v4)),
                peer: match address(&header[21..37], v4) {
                    IpAddr::V4(address) => SocketAddr::from((address, port)),
                    IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
                },
            };
            Some((flow, datagram))
        })
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
fn address(octets: &[u8], v4: bool) -> IpAddr {
    let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("16 octets"));
    match v6.to_ipv4_mapped() {
        Some(address) if v4 => IpAddr::V4(address),
        _ => IpAddr::V6(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(listener: u32, local: Option<&str>, peer: &str) -> Flow {
        Flow {
            listener: ListenerId(listener),
            local: local.map(|local| local.parse().unwrap()),
            peer: peer.parse().unwrap(),
        }
    }

    #[test]
    fn a_block_gives_back_every_datagram_with_its_flow_in_order() {
        let datagrams = [
            (flow(1, None, "192.0.2.1:5060"), &b"first"[..]),
            (flow(2, Some("127.0.0.2"), "192.0.2.1:65535"), b""),
            (flow(u32::MAX, Some("fe80::1"), "[fe80::2%7]:1"), b"third"),
            (flow(3, None, "[::ffff:192.0.2.1]:5060"), b"fourth"),
        ];
        let mut block = Block::default();
        for round in 0..2 {
            for (flow, bytes) in &datagrams {
                assert!(block.push(flow, bytes));
            }
            let given: Vec<_> = block.iter().collect();
            assert_eq!(given, datagrams, "round {round}");
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
        while block.push(&from, &bytes) {
            count += 1;
        }
        assert_eq!(count, BLOCK_SIZE / (BLOCK_HEADER + bytes.len()));
        assert_eq!(block.iter().count(), count);
        assert!(
            block
                .iter()
                .all(|(flow, given)| flow == from && given == bytes)
        );
        let rest = block.room() - BLOCK_HEADER;
        assert!(block.push(&from, &bytes[..rest]));
        assert_eq!(block.room(), 0);
    }
}
