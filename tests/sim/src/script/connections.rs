//! Phones of a scenario that come by connections. One is opened by the first thing that is sent by it; what is sent is cut
//! at places that the seed chooses, or as the scenario says; it ends as the scenario says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lampfield::partition::ShardId;
use lampfield::shard::input::Input;
use lampfield::transport::{ConnectionId, Flow, ListenerId};

use super::stage::Stage;
use crate::edge::Streamed;
use crate::random::Random;

/// Pieces are no longer than this.
const PIECE: u64 = 300;

/// Who is connected.
#[derive(Debug)]
pub struct Connections {
    /// By both ends, as long as neither side has closed it.
    open: BTreeMap<(ListenerId, SocketAddr), ConnectionId>,
    /// Every one that the server has not closed.
    ends: BTreeMap<ConnectionId, (ListenerId, SocketAddr)>,
    serial: u64,
    random: Random,
    /// The length of each piece, where the scenario says so.
    pub cut: Option<usize>,
}

impl Connections {
    pub fn new(seed: u64) -> Self {
        Connections {
            open: BTreeMap::new(),
            ends: BTreeMap::new(),
            serial: 0,
            random: Random::new(seed),
            cut: None,
        }
    }
}

/// How a phone ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At once, both directions.
    Closes,
    /// It says nothing more, and reads.
    Ends,
}

impl Stage {
    /// Whether messages come to a listener by connections.
    pub(super) fn is_stream(&self, listener: ListenerId) -> bool {
        let found = self.listeners.iter().find(|one| one.id == listener);
        found.is_some_and(|one| one.transport.is_stream())
    }

    /// Something is sent by the connection between two ends.
    pub(super) fn reach_by_connection(
        &mut self,
        listener: ListenerId,
        source: SocketAddr,
        local: Option<std::net::IpAddr>,
        shard: ShardId,
        bytes: &[u8],
    ) {
        let known = self.connections.open.get(&(listener, source)).copied();
        let id = known.unwrap_or_else(|| {
            self.connections.serial += 1;
            let id = ConnectionId::new(shard, self.connections.serial);
            self.connections.open.insert((listener, source), id);
            self.connections.ends.insert(id, (listener, source));
            let flow = Flow {
                listener,
                local,
                peer: source,
                connection: Some(id),
            };
            let now = self.now;
            self.edge.connection(shard, now, Input::Opened { flow });
            id
        });
        let mut rest = bytes;
        while !rest.is_empty() {
            let random = &mut self.connections.random;
            let length = match self.connections.cut {
                Some(length) => length,
                None => random.between(1, PIECE) as usize,
            };
            let (bytes, after) = rest.split_at(length.min(rest.len()));
            let input = Input::Stream {
                connection: id,
                bytes,
            };
            self.edge.connection(id.shard(), self.now, input);
            rest = after;
        }
    }

    /// `alice closes`, `alice ends`: the connection that this phone sends by.
    pub fn end_connection(&mut self, name: &str, end: End) -> Result<(), String> {
        let phone = self.phone(name);
        let ends = (phone.listener, phone.address);
        let Some(connection) = self.connections.open.remove(&ends) else {
            return Err(format!("{name} has no connection"));
        };
        let input = match end {
            End::Closes => {
                self.connections.ends.remove(&connection);
                Input::Closed { connection }
            }
            End::Ends => Input::Ended { connection },
        };
        self.edge.connection(connection.shard(), self.now, input);
        match self.held {
            true => Ok(()),
            false => self.settle(),
        }
    }

    /// `alice closed`: the server has closed the connection that this phone sent by.
    pub fn is_closed(&mut self, name: &str) -> Result<(), String> {
        let phone = self.phone(name);
        let ends = (phone.listener, phone.address);
        match self.connections.ends.values().any(|other| *other == ends) {
            false => Ok(()),
            true => Err(format!("the connection of {name} is open")),
        }
    }

    /// A shard writes to a connection, or closes it.
    pub(super) fn write(&mut self, streamed: Streamed) -> Result<(), String> {
        let connection = streamed.connection;
        let Some(&(listener, peer)) = self.connections.ends.get(&connection) else {
            return Err(format!("{connection:?} has ended, and {streamed:?}"));
        };
        let Some(bytes) = streamed.bytes else {
            self.connections.ends.remove(&connection);
            self.connections.open.retain(|_, open| *open != connection);
            return Ok(());
        };
        let input = Input::Written {
            connection,
            bytes: bytes.len(),
        };
        self.edge.connection(connection.shard(), self.now, input);
        if bytes == b"\r\n" {
            return Ok(());
        }
        self.judge(&bytes)?;
        self.arrive(listener, peer, &bytes)
    }
}
