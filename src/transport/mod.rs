//! Where a message came from and where the answer goes. Pure: it names sockets, it holds none.

use core::net::{IpAddr, SocketAddr};

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
