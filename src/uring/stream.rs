//! The connections of a shard's thread: accepted, read into one buffer, written as far as the kernel takes it.
//! What comes by them is the shard's business; here are sockets, and bytes on their way out.
//!
//! Each socket is waited for by one poll in the runtime's ring and holds no buffer meanwhile. When the poll completes,
//! the turn that follows reads or writes without waiting, so a poll that is given up loses nothing.

mod connection;
mod doors;
mod listening;
pub mod session;
mod wait;

pub use doors::Doors;
pub use listening::{ListeningSocket, open};

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use self::connection::{Connection, Taken};
use self::session::Heard;
use self::wait::{Inbox, Ready};
use crate::arena::Arena;
use crate::config::limits;
use crate::shard::effects::{ShardId, StreamOrder, StreamSend};
use crate::shard::input::Input;
use crate::time::Time;
use crate::transport::{ConnectionId, Flow, ListenerId};
use crate::uring::clock;

/// Connections of one listener that one turn accepts.
const ACCEPTS_PER_TURN: usize = 64;
/// How long a connection that was closed may go on taking what is on its way, or saying what nobody hears.
const LINGER: core::time::Duration = core::time::Duration::from_secs(limits::STREAM_LINGER_SECONDS);

/// What happened to connections since their thread began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Connections that could not be accepted: there were no descriptors, or no memory.
    pub accepts_failed: u64,
    /// Connections that ended with an error of the kernel.
    pub connections_failed: u64,
    /// Connections that were refused since their source had enough of them, by the order of `Crowded`.
    pub refused: [u64; 3],
    /// Connections that TLS ended: what came was none of it, or not acceptable.
    pub tls_failed: u64,
}

/// The connections and listening sockets of one thread.
pub struct Streams {
    shard: ShardId,
    doors: Arc<Doors>,
    listening: Vec<Listening>,
    connections: HashMap<ConnectionId, Connection>,
    /// The last number that a connection got.
    serial: u64,
    inbox: Rc<Inbox>,
    /// What is read lies here until the shard has seen it.
    buffer: Box<[u8; limits::STREAM_READ_BYTES]>,
    /// What TLS made of it.
    plain: Box<[u8; limits::STREAM_READ_BYTES]>,
    /// Connections that got something to write in this turn.
    touched: Vec<ConnectionId>,
    /// What the kernel has taken since the shard was told last.
    written: Vec<(ConnectionId, usize)>,
    /// Closed, and not yet gone.
    lingering: usize,
    /// Of the turn that runs.
    now: Time,
    counters: StreamCounters,
}

struct Listening {
    listener: ListenerId,
    /// Its other names: that of a newer listener that it will be handed over to, and of older ones that drain.
    also: Vec<ListenerId>,
    /// Names that it had.
    past: Vec<ListenerId>,
    socket: Arc<ListeningSocket>,
    poll: Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    /// Nothing is accepted yet.
    Held,
    /// To be started: at first, and when the machine had no descriptor left.
    Resting,
    Running,
}

impl Listening {
    fn bears(&self, name: ListenerId) -> bool {
        self.listener == name || self.also.contains(&name)
    }
}

impl Streams {
    /// None yet. `doors`: those of the process, which each connection goes through.
    pub fn new(shard: ShardId, doors: Arc<Doors>) -> Streams {
        Streams {
            shard,
            doors,
            listening: Vec::new(),
            connections: HashMap::new(),
            serial: 0,
            inbox: Rc::new(Inbox::default()),
            buffer: Box::new([0; limits::STREAM_READ_BYTES]),
            plain: Box::new([0; limits::STREAM_READ_BYTES]),
            touched: Vec::new(),
            written: Vec::new(),
            lingering: 0,
            now: Time::ZERO,
            counters: StreamCounters::default(),
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> StreamCounters {
        self.counters
    }

    /// Takes a listening socket.
    pub fn hold(&mut self, listener: ListenerId, socket: Arc<ListeningSocket>) {
        self.listening.push(Listening {
            listener,
            also: Vec::new(),
            past: Vec::new(),
            socket,
            poll: Poll::Held,
        });
    }

    /// Accepts connections on a socket that is held, from now on. Called within the runtime of the thread.
    pub fn listen(&mut self, listener: ListenerId) {
        if let Some(listening) = self.find(listener)
            && listening.poll == Poll::Held
        {
            listening.poll = Poll::Resting;
        }
        self.poll_resting();
    }

    /// The same for all sockets that are held.
    pub fn listen_all(&mut self) {
        for listening in &mut self.listening {
            listening.poll = Poll::Resting;
        }
        self.poll_resting();
    }

    /// From now on the socket of `listener` bears this name too. False: there is no such listener here.
    #[must_use]
    pub fn share(&mut self, listener: ListenerId, also: ListenerId) -> bool {
        let found = self.find(listener);
        let found = found.map(|listening| listening.also.push(also));
        found.is_some()
    }

    /// Hands a socket over to `to`, which shares it: who connects from now on has come to that one.
    pub fn hand_over(&mut self, to: ListenerId) {
        if let Some(listening) = self.find(to)
            && let Some(at) = listening.also.iter().position(|&also| also == to)
        {
            listening.also[at] = core::mem::replace(&mut listening.listener, to);
        }
    }

    /// Takes one name of a socket away. With the last one it is closed, after what has come to it was accepted, and
    /// so are the connections that came by it. False: there is no such listener here.
    #[must_use]
    pub fn disarm(&mut self, listener: ListenerId, mut step: impl FnMut(Input<'_>)) -> bool {
        let is_it = |listening: &Listening| listening.bears(listener);
        let Some(at) = self.listening.iter().position(is_it) else {
            return false;
        };
        let listening = &mut self.listening[at];
        if let Some(at) = listening.also.iter().position(|&also| also == listener) {
            listening.also.remove(at);
            listening.past.push(listener);
        } else if let Some(next) = listening.also.pop() {
            listening.listener = next;
            listening.past.push(listener);
        } else {
            let gone = self.listening.remove(at);
            gone.socket.shut();
            self.end_all(&gone, &mut step);
        }
        true
    }

    /// Connections whose listener is closed for good: their phones come back to another one.
    fn end_all(&mut self, gone: &Listening, step: &mut impl FnMut(Input<'_>)) {
        let came_by = |(_, connection): &(&ConnectionId, &Connection)| {
            let listener = connection.listener();
            gone.listener == listener || gone.past.contains(&listener)
        };
        // ORDER: by their numbers.
        let mut ended: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(came_by)
            .map(|(&id, _)| id)
            .collect();
        ended.sort_unstable();
        for id in ended {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.say_farewell();
            }
            self.end(id, step);
        }
    }

    fn find(&mut self, listener: ListenerId) -> Option<&mut Listening> {
        let mut all = self.listening.iter_mut();
        all.find(|listening| listening.bears(listener))
    }

    /// What tells that something is ready, for who waits.
    pub fn inbox(&self) -> Rc<Inbox> {
        Rc::clone(&self.inbox)
    }

    /// Whether a socket is ready.
    pub fn is_ready(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Takes in what one socket that is ready has. False: none is ready.
    pub fn take_one(&mut self, now: Time, mut step: impl FnMut(Input<'_>)) -> bool {
        self.now = now;
        let Some(ready) = self.inbox.pop() else {
            return false;
        };
        match ready {
            Ready::Accept(listener) => self.accept(listener, &mut step),
            Ready::Read(id) => self.read(id, &mut step),
            Ready::Write(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.can_write();
                    self.touched.push(id);
                    self.write_touched();
                }
            }
        }
        true
    }

    /// Takes over what a turn wants written, and writes as much of it as the kernel takes.
    pub fn offer(&mut self, now: Time, arena: &Arena, orders: &mut Vec<StreamSend>) {
        for StreamSend {
            connection: id,
            order,
        } in orders.drain(..)
        {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            match order {
                StreamOrder::Write(slot) => connection.append(arena.bytes(slot)),
                StreamOrder::Heard => {
                    connection.heard();
                    continue;
                }
                StreamOrder::Framed => {
                    connection.speak_frames();
                    continue;
                }
                StreamOrder::WriteFramed(head, slot) => {
                    connection.append_framed(head.as_bytes(), arena.bytes(slot));
                }
                StreamOrder::Close => {
                    self.lingering += usize::from(connection.close(now + LINGER));
                }
            }
            if self.touched.last() != Some(&id) {
                self.touched.push(id);
            }
        }
        self.write_touched();
    }

    /// Tells what the kernel has taken. True: something was told.
    pub fn report_written(&mut self, mut step: impl FnMut(Input<'_>)) -> bool {
        let any = !self.written.is_empty();
        for (connection, bytes) in self.written.drain(..) {
            step(Input::Written { connection, bytes });
        }
        any
    }

    /// Once a second: what lingers too long is cut off, and listeners that rested try again.
    pub fn look_after(&mut self, now: Time) {
        self.poll_resting();
        if self.lingering == 0 {
            return;
        }
        let connections = &mut self.connections;
        let before = connections.len();
        // ORDER: each is judged by itself.
        connections.retain(|_, connection| {
            let late = connection.lingers_until().is_some_and(|until| until <= now);
            if late {
                // The poll that may run completes, and finds nobody.
                connection.shut();
            }
            !late
        });
        self.lingering -= before - self.connections.len();
    }

    /// Ends all connections and stops listening. The runtime ends the polls.
    pub fn shut(&mut self) {
        for listening in self.listening.drain(..) {
            listening.socket.shut();
        }
        // ORDER: nobody hears in which they end.
        for connection in self.connections.values_mut() {
            connection.say_farewell();
            connection.shut();
        }
        self.connections.clear();
    }

    fn poll_resting(&mut self) {
        for listening in &mut self.listening {
            if listening.poll == Poll::Resting {
                listening.poll = Poll::Running;
                self.inbox
                    .wait_for_connections(listening.listener, &listening.socket);
            }
        }
    }

    fn accept(&mut self, listener: ListenerId, step: &mut impl FnMut(Input<'_>)) {
        // The socket may bear another name by now.
        let bore =
            |listening: &Listening| listening.bears(listener) || listening.past.contains(&listener);
        let Some(index) = self.listening.iter().position(bore) else {
            return;
        };
        let listener = self.listening[index].listener;
        for _ in 0..ACCEPTS_PER_TURN {
            let listening = &mut self.listening[index];
            let accepted = match listening::accept(&listening.socket) {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        return self.inbox.wait_for_connections(listener, &listening.socket);
                    }
                    // Whoever it was has gone again.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => {
                        self.counters.accepts_failed += 1;
                        listening.poll = Poll::Resting;
                        return;
                    }
                },
            };
            let place = match self.doors.enter(accepted.peer.ip()) {
                Ok(place) => place,
                Err(crowded) => {
                    self.counters.refused[crowded as usize] += 1;
                    listening::refuse(&accepted);
                    continue;
                }
            };
            self.serial = ConnectionId::serial_at(clock::now(), self.serial);
            let id = ConnectionId::new(self.shard, self.serial);
            let flow = Flow {
                listener,
                local: accepted.local,
                peer: accepted.peer,
                connection: Some(id),
            };
            let connection = Connection::new(listener, accepted.socket, accepted.session, place);
            self.inbox.wait_to_read(id, connection.descriptor());
            self.connections.insert(id, connection);
            step(Input::Opened { flow });
        }
        self.inbox.push(Ready::Accept(listener));
    }

    fn read(&mut self, id: ConnectionId, step: &mut impl FnMut(Input<'_>)) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let closed = connection.lingers_until().is_some();
        match connection.read(&mut self.buffer[..]) {
            Ok(0) => self.hear_end(id, step),
            Ok(length) => {
                if length == self.buffer.len() {
                    // There may be more; others come first.
                    self.inbox.push(Ready::Read(id));
                } else {
                    self.inbox.wait_to_read(id, connection.descriptor());
                }
                if !closed {
                    self.hear(id, length, step);
                }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    self.inbox.wait_to_read(id, connection.descriptor());
                }
                _ => {
                    self.counters.connections_failed += 1;
                    self.end(id, step);
                }
            },
        }
    }

    /// What was read goes to the shard in the clear.
    fn hear(&mut self, id: ConnectionId, length: usize, step: &mut impl FnMut(Input<'_>)) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut came = &self.buffer[..length];
        if !connection.is_secure() {
            return step(Input::Stream {
                connection: id,
                bytes: came,
            });
        }
        loop {
            match connection.decipher(&mut came, &mut self.plain[..]) {
                Heard::Bytes(0) => break,
                Heard::Bytes(length) => {
                    let names = connection.proven();
                    if !names.is_empty() {
                        step(Input::Proved {
                            connection: id,
                            names: &names,
                        });
                    }
                    step(Input::Stream {
                        connection: id,
                        bytes: &self.plain[..length],
                    });
                }
                Heard::End => return self.hear_end(id, step),
                Heard::Refused => {
                    self.counters.tls_failed += 1;
                    return self.give_up(id, step);
                }
            }
        }
        self.touched.push(id);
    }

    /// Its peer says nothing more; the shard closes it when what was asked is answered.
    fn hear_end(&mut self, id: ConnectionId, step: &mut impl FnMut(Input<'_>)) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.hear_end();
        if connection.lingers_until().is_none() {
            step(Input::Ended { connection: id });
        }
        self.touched.push(id);
    }

    /// What its peer says cannot be read any more. It gets what is on its way.
    fn give_up(&mut self, id: ConnectionId, step: &mut impl FnMut(Input<'_>)) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.hear_end();
        if connection.close(self.now + LINGER) {
            self.lingering += 1;
            step(Input::Closed { connection: id });
        }
        self.touched.push(id);
    }

    /// It is over, or an error has ended it.
    fn end(&mut self, id: ConnectionId, step: &mut impl FnMut(Input<'_>)) {
        let Some(mut gone) = self.connections.remove(&id) else {
            return;
        };
        gone.shut();
        match gone.lingers_until() {
            Some(_) => self.lingering -= 1,
            None => step(Input::Closed { connection: id }),
        }
    }

    fn write_touched(&mut self) {
        for id in self.touched.drain(..) {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let (taken, bytes) = connection.write();
            if bytes > 0 && connection.lingers_until().is_none() {
                self.written.push((id, bytes));
            }
            match taken {
                Taken::All => {}
                Taken::Some => self.inbox.wait_to_write(id, connection.descriptor()),
                // The poll for reading completes, and finds out.
                Taken::Failed => connection.shut(),
            }
            if connection.is_over() {
                self.connections.remove(&id);
                self.lingering -= 1;
            }
        }
    }
}
