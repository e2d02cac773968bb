//! Where a message came from and where the answer goes. Pure: it names sockets, it holds none.

mod address;
pub mod generations;
mod hop;
mod listeners;
mod local;
pub mod stream;

use core::net::{IpAddr, SocketAddr};

pub use address::{Class, Own, Undialable, classify, dialable};
pub use hop::{Hop, NatMode, Path, Way, next_hop};
pub use listeners::{Leases, Lessee, ListenerTable, Listeners, Row, Stage};
pub use local::Local;

/// The port of SIP over UDP and TCP where none is named (RFC 3261 19.1.2).
pub const DEFAULT_PORT: u16 = 5060;

/// One listener of one generation; numbers are never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// Where a message came from, and so where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub listener: ListenerId,
    /// The local address of the datagram: set for wildcard listeners only, which must send from it.
    pub local: Option<IpAddr>,
    pub peer: SocketAddr,
}

/// What a listener is, as far as messages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub id: ListenerId,
    /// The address that its socket is bound to.
    pub local: SocketAddr,
    /// Bound to every address of the host: the flow's local address stands in for [`Listener::local`].
    pub wildcard: bool,
    /// Host and port for Via and Contact where phones reach us by another address than our own.
    pub advertise: Option<(Box<str>, u16)>,
    /// What it demands of who sends to it: an index into `policy::PolicySettings::gates`.
    pub gate: u16,
}

impl Listener {
    /// A listener that advertises its own address.
    pub fn new(id: ListenerId, local: SocketAddr, gate: u16) -> Self {
        Listener {
            id,
            local,
            wildcard: local.ip().is_unspecified(),
            advertise: None,
            gate,
        }
    }

    /// The address that a datagram of this flow was sent to, and that its answer leaves from.
    pub fn address(&self, flow: &Flow) -> SocketAddr {
        SocketAddr::new(flow.local.unwrap_or(self.local.ip()), self.local.port())
    }
}
