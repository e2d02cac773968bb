//! Opens the SIP sockets: for each listener one per shard.

use core::net::SocketAddr;

use crate::config::Config;
use crate::config::limits;
use crate::transport::{Listener, ListenerId};
use crate::uring::socket::{self, ListenerSocket, OpenError, SocketOptions};

/// What was opened.
pub struct Opened {
    /// As shards see them.
    pub listeners: Vec<Listener>,
    /// By shard.
    pub sockets: Vec<Vec<(ListenerId, ListenerSocket)>>,
    /// Addresses that this host does not have and nobody had asked for.
    pub left_out: Vec<SocketAddr>,
}

impl Opened {
    /// The addresses, with the ports that they really have.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(|listener| listener.local);
        addresses.collect()
    }
}

/// How many answers fit into the smallest receive buffer of a shard's sockets.
pub fn answers_max(sockets: &[(ListenerId, ListenerSocket)]) -> usize {
    sockets
        .iter()
        .map(|(_, socket)| socket.receive_buffer() / limits::RECEIVE_BUFFER_BYTES_PER_ANSWER)
        .min()
        .unwrap_or(limits::IN_FLIGHT_MAX)
}

/// Opens all of them, or none.
pub fn open(config: &Config, shards: u16) -> Result<Opened, OpenError> {
    let mut opened = Opened {
        listeners: Vec::new(),
        sockets: (0..shards).map(|_| Vec::new()).collect(),
        left_out: Vec::new(),
    };
    for (gate, wanted) in config.listeners.iter().enumerate() {
        let sockets = match socket::open(wanted.address, shards, &SocketOptions::default()) {
            Ok(sockets) => sockets,
            Err(error) if wanted.optional && error.is_absent() => {
                opened.left_out.push(wanted.address);
                continue;
            }
            Err(error) => return Err(error),
        };
        let id = ListenerId(gate as u32);
        let local = sockets[0].address();
        let mut listener = Listener::new(id, local, gate as u16);
        listener.advertise = wanted.advertise.as_ref().map(|advertise| {
            let port = advertise.port.unwrap_or(local.port());
            (advertise.host.clone(), port)
        });
        opened.listeners.push(listener);
        for (of_shard, socket) in opened.sockets.iter_mut().zip(sockets) {
            of_shard.push((id, socket));
        }
    }
    Ok(opened)
}
