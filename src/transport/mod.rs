//! Where a message came from and where the answer goes. Pure: it names sockets, it holds none.

mod address;
pub mod generations;
mod hop;
mod listeners;
mod local;
pub mod locate;
pub mod stream;
pub mod stun;

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU64;

use crate::partition::ShardId;
use crate::time::Time;

pub use address::{Class, Own, Undialable, check_address as may_dial, classify, dialable};
pub use hop::{Hop, NatMode, Path, Way, next_hop};
pub use listeners::{Leases, Lessee, ListenerTable, Listeners, Row, Stage};
pub use local::Local;

/// The port of SIP over UDP and TCP where none is named (RFC 3261 19.1.2).
pub const DEFAULT_PORT: u16 = 5060;
/// The same over TLS.
pub const DEFAULT_PORT_SECURE: u16 = 5061;

/// One listener of one generation; numbers are never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// What messages travel by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    #[default]
    Udp,
    Tcp,
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// As a listener's address begins.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// As the `transport` parameter of a URI names it.
    pub const fn parameter(self) -> &'static str {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Ws => self.name(),
            //= RFC 7118 5.2
            Transport::Wss => Transport::Ws.name(),
        }
    }

    /// As a Via names it, behind `SIP/2.0/`.
    pub const fn via(self) -> &'static [u8] {
        match self {
            Transport::Udp => b"UDP",
            Transport::Tcp => b"TCP",
            Transport::Tls => b"TLS",
            //= RFC 7118 5.1
            Transport::Ws => b"WS",
            Transport::Wss => b"WSS",
        }
    }

    /// Whether messages come by connections, whole and in order.
    pub const fn is_stream(self) -> bool {
        match self {
            Transport::Udp => false,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => true,
        }
    }

    /// Whether nobody on the way can read along.
    pub const fn is_secure(self) -> bool {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Ws => false,
            Transport::Tls | Transport::Wss => true,
        }
    }

    /// Whether messages come in the frames of WebSocket.
    pub const fn is_web(self) -> bool {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Tls => false,
            Transport::Ws | Transport::Wss => true,
        }
    }
}

/// Where something is listened on, as people write it: `udp:127.0.0.1:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub transport: Transport,
    pub address: SocketAddr,
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.transport.name(), self.address)
    }
}

/// One connection of a process, named by the shard that accepted it: numbers are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(NonZeroU64);

/// What of a connection's number counts; its shard stands above.
const SERIAL_BITS: u32 = 48;
/// A shard may accept so many connections in a millisecond before its numbers run ahead of time; and a host may be up for
/// 34 years.
const SERIAL_BITS_BELOW_MILLIS: u32 = 8;
/// No shard has this number.
const NOBODY: ShardId = ShardId(u16::MAX);

impl ConnectionId {
    /// Stands for any connection of a process before this one.
    pub const FORMER: ConnectionId = ConnectionId::new(ShardId(0), (1 << SERIAL_BITS) - 1);

    /// Stands for whichever connection an edge has next: `name` is a hash of what it is called.
    pub const fn of_edge(name: u64) -> Self {
        let serial = name & ((1 << SERIAL_BITS) - 1);
        ConnectionId::new(NOBODY, if serial == 0 { 1 } else { serial })
    }

    /// Whether it is no connection, but stands for an edge's.
    pub const fn is_of_edge(self) -> bool {
        self.shard().0 == NOBODY.0
    }

    /// The one with this serial number, from 1, among those that `shard` accepted; a later one has a higher number.
    pub const fn new(shard: ShardId, serial: u64) -> Self {
        assert!(serial != 0 && serial >> SERIAL_BITS == 0);
        match NonZeroU64::new((shard.0 as u64) << SERIAL_BITS | serial) {
            Some(number) => ConnectionId(number),
            None => unreachable!(),
        }
    }

    /// The shard that has it.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0.get() >> SERIAL_BITS) as u16)
    }

    /// The serial number of one that is accepted at `now`, after the one with that number: what one shard accepts comes
    /// in order, and what several do in the order of time.
    pub fn serial_at(now: Time, last: u64) -> u64 {
        (last + 1).max(now.millis() << SERIAL_BITS_BELOW_MILLIS)
    }

    /// Whether it was accepted after another one.
    pub const fn is_later_than(self, other: ConnectionId) -> bool {
        self.serial() > other.serial()
    }

    const fn serial(self) -> u64 {
        self.0.get() & ((1 << SERIAL_BITS) - 1)
    }

    /// Both in one number.
    pub const fn number(self) -> u64 {
        self.0.get()
    }

    /// The one of that number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(ConnectionId(number)),
            None => None,
        }
    }
}

impl core::fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Connection({}/{})", self.shard().0, self.serial())
    }
}

/// Where a message came from, and so where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub listener: ListenerId,
    /// The local address of the datagram: set for wildcard listeners only, which must send from it.
    pub local: Option<IpAddr>,
    pub peer: SocketAddr,
    /// What it came by where that is no datagram: the answer goes back the same way, or nowhere.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// Whether it leads to a host name, which is looked up for each message: the peer is whoever sent the last request,
    /// without a port.
    pub fn is_by_name(&self) -> bool {
        self.connection.is_none() && self.peer.port() == 0
    }
}

/// What a listener is, as far as messages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub id: ListenerId,
    pub transport: Transport,
    /// The address that its socket is bound to.
    pub local: SocketAddr,
    /// Bound to every address of the host: the flow's local address stands in for [`Listener::local`].
    pub wildcard: bool,
    /// Host and port for Via and Contact where phones reach us by another address than our own.
    pub advertise: Option<(Box<str>, u16)>,
    /// Who may open a WebSocket connection to it, if it takes any.
    pub web: stream::WebRules,
    /// What it demands of who sends to it: an index into `policy::PolicySettings::gates`.
    pub gate: u16,
}

impl Listener {
    /// A listener that advertises its own address.
    pub fn new(id: ListenerId, local: SocketAddr, gate: u16) -> Self {
        Listener {
            id,
            transport: Transport::Udp,
            local,
            wildcard: local.ip().is_unspecified(),
            advertise: None,
            web: stream::WebRules::default(),
            gate,
        }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            transport: self.transport,
            address: self.local,
        }
    }

    /// The address that a datagram of this flow was sent to, and that its answer leaves from.
    pub fn address(&self, flow: &Flow) -> SocketAddr {
        SocketAddr::new(flow.local.unwrap_or(self.local.ip()), self.local.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_connections_the_later_one_is_known_whichever_shards_have_them() {
        let second = Time::from_millis(1_000);
        let mut last = 0;
        let mut accepted = |now| {
            last = ConnectionId::serial_at(now, last);
            last
        };
        let early = ConnectionId::new(ShardId(5), accepted(second));
        let burst = ConnectionId::new(ShardId(5), accepted(second));
        let other = ConnectionId::serial_at(second + core::time::Duration::from_millis(1), 7);
        let late = ConnectionId::new(ShardId(0), other);
        assert!(burst.is_later_than(early) && late.is_later_than(burst));
        assert!(!early.is_later_than(late) && !early.is_later_than(early));
        assert!(
            ConnectionId::serial_at(second, other) > other,
            "no number is used twice"
        );
    }
}
