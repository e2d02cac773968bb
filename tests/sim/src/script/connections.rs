//! Phones of a scenario that come by connections. One is opened by the first thing that is sent by it; what is sent is cut
//! at places that the seed chooses, or as the scenario says; it ends as the scenario says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use lampfield::partition::ShardId;
use lampfield::shard::input::Input;
use lampfield::transport::{ConnectionId, Flow, ListenerId, Transport};

use super::stage::Stage;
use crate::edge::Streamed;
use crate::random::Random;
use crate::web::{self, Page, Said};

/// Pieces are no longer than this.
const PIECE: u64 = 300;

/// What enciphers a connection: both of its ends. The runner of scenarios knows none; who has one lends it.
pub trait Cover {
    /// The phone sends something. The server gets pieces of so many bytes as `cut` says, and makes of them what is
    /// returned.
    fn up(&mut self, plain: &[u8], cut: &mut dyn FnMut() -> usize) -> Result<Vec<Vec<u8>>, String>;

    /// The server sends something; what the phone makes of it.
    fn down(&mut self, plain: &[u8], cut: &mut dyn FnMut() -> usize) -> Result<Vec<u8>, String>;

    /// The phone says that it says nothing more, and the server must hear it.
    fn end(&mut self) -> Result<(), String>;

    /// The same from the server to the phone.
    fn close(&mut self) -> Result<(), String>;
}

/// Makes a cover for each connection.
pub type Covers = Rc<dyn Fn() -> Box<dyn Cover>>;

/// How the phones of a case come where it does not say.
#[derive(Clone)]
pub struct Way {
    pub transport: Transport,
    /// Where what they send by connections is cut, and how it is framed.
    pub seed: u64,
    /// What enciphers the connections of a transport that is secure; without, their bytes are in the clear.
    pub covers: Option<Covers>,
}

/// Who is connected.
pub struct Connections {
    /// By both ends, as long as neither side has closed it.
    open: BTreeMap<(ListenerId, SocketAddr), ConnectionId>,
    /// Every one that the server has not closed.
    ends: BTreeMap<ConnectionId, Line>,
    serial: u64,
    cut: Cut,
    covers: Option<Covers>,
}

/// One connection.
struct Line {
    listener: ListenerId,
    peer: SocketAddr,
    /// It speaks WebSocket.
    page: Option<Page>,
    cover: Option<Box<dyn Cover>>,
}

/// Where what is sent is cut.
struct Cut {
    random: Random,
    /// The length of each piece, where the scenario says so.
    length: Option<usize>,
}

impl Cut {
    fn next(&mut self) -> usize {
        match self.length {
            Some(length) => length,
            None => self.random.between(1, PIECE) as usize,
        }
    }
}

impl Connections {
    pub fn new(way: &Way) -> Self {
        Connections {
            open: BTreeMap::new(),
            ends: BTreeMap::new(),
            serial: 0,
            cut: Cut {
                random: Random::new(way.seed),
                length: None,
            },
            covers: way.covers.clone(),
        }
    }

    /// `cut 1`
    pub fn cut(&mut self, length: usize) {
        self.cut.length = Some(length);
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

    /// A message is sent by the connection between two ends.
    pub(super) fn reach_by_connection(
        &mut self,
        listener: ListenerId,
        source: SocketAddr,
        local: Option<IpAddr>,
        shard: ShardId,
        message: &[u8],
    ) -> Result<(), String> {
        let known = self.connections.open.get(&(listener, source)).copied();
        let id = match known {
            Some(id) => id,
            None => self.connect(listener, source, local, shard)?,
        };
        let Some(line) = self.connections.ends.get_mut(&id) else {
            return Err(format!("{id:?} has ended"));
        };
        let random = &mut self.connections.cut.random;
        let framed = line.page.as_mut().map(|page| page.message(message, random));
        self.send_bytes(id, framed.as_deref().unwrap_or(message))
    }

    fn connect(
        &mut self,
        listener: ListenerId,
        peer: SocketAddr,
        local: Option<IpAddr>,
        shard: ShardId,
    ) -> Result<ConnectionId, String> {
        let found = self.listeners.iter().find(|one| one.id == listener);
        let transport = found.map(|one| one.transport).unwrap_or_default();
        let covers = self
            .connections
            .covers
            .as_ref()
            .filter(|_| transport.is_secure());
        self.connections.serial += 1;
        let id = ConnectionId::new(shard, self.connections.serial);
        self.connections.open.insert((listener, peer), id);
        let line = Line {
            listener,
            peer,
            page: transport.is_web().then(Page::default),
            cover: covers.map(|covers| covers()),
        };
        self.connections.ends.insert(id, line);
        let flow = Flow {
            listener,
            local,
            peer,
            connection: Some(id),
        };
        let now = self.now;
        self.edge.connection(shard, now, Input::Opened { flow });
        if transport.is_web() {
            let request = web::request(&mut self.connections.cut.random);
            self.send_bytes(id, &request)?;
        }
        Ok(id)
    }

    /// Bytes go up a connection, cut.
    fn send_bytes(&mut self, id: ConnectionId, bytes: &[u8]) -> Result<(), String> {
        let Connections { ends, cut, .. } = &mut self.connections;
        let cover = ends.get_mut(&id).and_then(|line| line.cover.as_mut());
        let pieces = match cover {
            Some(cover) => cover.up(bytes, &mut || cut.next())?,
            None => {
                let mut pieces = Vec::new();
                let mut rest = bytes;
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(cut.next().min(rest.len()));
                    pieces.push(piece.to_vec());
                    rest = after;
                }
                pieces
            }
        };
        for bytes in &pieces {
            let input = Input::Stream {
                connection: id,
                bytes,
            };
            self.edge.connection(id.shard(), self.now, input);
        }
        Ok(())
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
            End::Ends => {
                let line = self.connections.ends.get_mut(&connection);
                if let Some(cover) = line.and_then(|line| line.cover.as_mut()) {
                    cover.end()?;
                }
                Input::Ended { connection }
            }
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
        let (listener, peer) = (phone.listener, phone.address);
        let is_hers = |line: &Line| line.listener == listener && line.peer == peer;
        match self.connections.ends.values().any(is_hers) {
            false => Ok(()),
            true => Err(format!("the connection of {name} is open")),
        }
    }

    /// A shard writes to a connection, or closes it.
    pub(super) fn write(&mut self, streamed: Streamed) -> Result<(), String> {
        let connection = streamed.connection;
        let Connections {
            open, ends, cut, ..
        } = &mut self.connections;
        let Some(line) = ends.get_mut(&connection) else {
            return Err(format!("{connection:?} has ended, and {streamed:?}"));
        };
        let Some(bytes) = streamed.bytes else {
            if let Some(cover) = &mut line.cover {
                cover.close()?;
            }
            ends.remove(&connection);
            open.retain(|_, open| *open != connection);
            return Ok(());
        };
        let came = match &mut line.cover {
            Some(cover) => cover.down(&bytes, &mut || cut.next())?,
            None => bytes.clone(),
        };
        let (listener, peer) = (line.listener, line.peer);
        let (messages, pongs) = match &mut line.page {
            Some(page) => sort(page.read(&came)?, &mut cut.random),
            None => (vec![came], Vec::new()),
        };
        let input = Input::Written {
            connection,
            bytes: bytes.len(),
        };
        self.edge.connection(connection.shard(), self.now, input);
        self.send_bytes(connection, &pongs)?;
        for message in messages {
            if message != b"\r\n" {
                self.judge(&message)?;
                self.arrive(listener, peer, &message)?;
            }
        }
        Ok(())
    }
}

/// The messages among what a server says, and what is to be said back.
fn sort(all: Vec<Said>, random: &mut Random) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut messages, mut pongs) = (Vec::new(), Vec::new());
    for said in all {
        match said {
            Said::Message(message) => messages.push(message),
            Said::Ping(payload) => pongs.extend(web::pong(&payload, random)),
            Said::Opened | Said::Pong(_) | Said::Close(_) => {}
        }
    }
    (messages, pongs)
}
