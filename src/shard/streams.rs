//! The connections that this shard has accepted: messages out of what comes by them, how much of what goes out the peer
//! has not taken yet. Whose the messages are is no business of theirs.

mod ending;
mod web;

use core::time::Duration;

use hashbrown::HashMap;

use self::ending::Ending;
use super::Shard;
use super::edges::Names;
use super::effects::{Destination, Effects, SendTag, ShardId, StreamOrder, StreamSend};
use super::mail::{ConnectionNews, Mail};
use super::receive::Datagram;
use crate::arena::{SlotId, SlotSize};
use crate::config::limits;
use crate::slab::Slab;
use crate::state::ShardSet;
use crate::stats::Counter;
use crate::time::Time;
use crate::transport::stream::{Backlog, Broken, Found, FrameHead, Framer, WebSocket};
use crate::transport::{ConnectionId, Flow};
use crate::wheel::TimerId;

/// How an answer begins.
const RESPONSE: &[u8] = b"SIP/2.0 ";
const PONG: &[u8] = b"\r\n";

/// One connection.
struct Connection {
    id: ConnectionId,
    flow: Flow,
    reader: Reader,
    /// Its messages go out in frames of WebSocket, too.
    framed: bool,
    /// It is pinged when nothing has been said by it for so long.
    ping: Option<Duration>,
    /// When something was, for the last time.
    said: Time,
    opened: Time,
    /// Something has come.
    heard: Time,
    /// The message that is not whole began to come.
    begun: Time,
    /// A whole message has come.
    spoke: bool,
    /// Requests that have come and were not answered yet.
    unanswered: u32,
    /// When its peer said that it would say nothing more.
    ended: Option<Time>,
    /// What was written and the kernel has not taken.
    backlog: Backlog,
    timer: Option<TimerId>,
    /// When the timer fires: not after the deadline.
    due: Time,
    /// Shards that have got something that came by it, and may have subscriptions on it.
    users: ShardSet,
    /// When they were asked whether they have.
    asked: Time,
    /// Shards that know that what is written waits for long.
    told_slow: ShardSet,
    /// Shards that wait for room.
    waiting: ShardSet,
    /// What its peer is called, if that is an edge: every shard knows.
    names: Names,
    /// It has said all of them, or is no edge.
    named: bool,
    /// Names of edges that its certificate proves.
    proven: Vec<Box<str>>,
}

/// Finds the messages in what comes.
enum Reader {
    Stream(Framer),
    Web(Box<WebSocket>),
}

impl Reader {
    fn is_partial(&self) -> bool {
        match self {
            Reader::Stream(framer) => framer.is_partial(),
            Reader::Web(web) => web.is_partial(),
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Reader::Stream(Framer::default())
    }
}

/// All connections of a shard.
pub(super) struct Streams {
    connections: Slab<Connection>,
    by_id: HashMap<ConnectionId, u32>,
    /// A message that came in frames stands here until it has been handled.
    room: Vec<u8>,
    /// What is read at this moment may say what its sender is called.
    hears_names: bool,
}

/// What became of something that was to be sent by a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Done,
    /// The way to the shard that has the connection is full.
    NoRoom,
    Gone,
}

impl Streams {
    pub(super) fn new() -> Self {
        Streams {
            connections: Slab::with_limit(limits::CONNECTIONS_PER_SHARD),
            by_id: HashMap::new(),
            room: Vec::new(),
            hears_names: false,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether this one takes no NOTIFY for now.
    pub(super) fn is_full(&self, id: ConnectionId) -> bool {
        self.by_id.get(&id).is_some_and(|&index| {
            self.connections[index].backlog.bytes() >= limits::STREAM_QUEUE_BYTES
        })
    }

    /// Whether its peer has not taken all of what was written.
    pub(super) fn is_behind(&self, id: ConnectionId) -> bool {
        self.by_id
            .get(&id)
            .is_some_and(|&index| self.connections[index].backlog.bytes() > 0)
    }

    /// Whether what was written by this one at that time may have waited for long.
    pub(super) fn has_been_slow(&self, now: Time, id: ConnectionId, since: Time) -> bool {
        let index = self.by_id.get(&id);
        let slow = |&index: &u32| self.connections[index].backlog.has_been_slow(now, since);
        index.is_some_and(slow)
    }

    /// It is owed an answer.
    fn note_request(&mut self, flow: Flow) {
        let index = flow.connection.and_then(|id| self.by_id.get(&id));
        if let Some(&index) = index {
            self.connections[index].unanswered += 1;
        }
    }

    /// Whether the peer that says something now may say what it is called.
    pub(super) fn hears_names(&self) -> bool {
        self.hears_names
    }

    /// Whether the certificate of this one's peer proves that it is called so.
    pub(super) fn has_proved(&self, id: ConnectionId, name: &[u8]) -> bool {
        let index = self.by_id.get(&id);
        let proven = index.map_or(&[][..], |&index| &self.connections[index].proven);
        let mut proven = proven.iter();
        proven.any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Takes in what the peer of a connection is called, and returns what is new of it. No names at all: it is no edge.
    /// `last`: it will say no others.
    pub(super) fn add_names(&mut self, flow: &Flow, names: Names, last: bool) -> Option<Names> {
        let &index = self.by_id.get(&flow.connection?)?;
        let connection = &mut self.connections[index];
        let may_be = names != Names::default() || !connection.proven.is_empty();
        connection.named = last || !may_be;
        self.hears_names = !connection.named;
        let mut fresh = Names::default();
        for (name, fresh) in names.into_iter().zip(&mut fresh) {
            if name.is_none() || connection.names.contains(&name) {
                continue;
            }
            if let Some(free) = connection.names.iter_mut().find(|name| name.is_none()) {
                *free = name;
                *fresh = name;
            }
        }
        (fresh != Names::default()).then_some(fresh)
    }

    /// Another shard gets something that came by it.
    pub(super) fn note_user(&mut self, id: ConnectionId, shard: ShardId) {
        if let Some(&index) = self.by_id.get(&id) {
            self.connections[index].users.insert(shard.0);
        }
    }
}

impl Connection {
    /// When shards are to be told that what they write may wait for long, unless they know.
    fn next_slow(&self) -> Option<Time> {
        if self.told_slow.includes(&self.users) {
            return None;
        }
        self.backlog.slow_at()
    }
}

impl Shard {
    pub(super) fn on_opened(&mut self, now: Time, flow: Flow, out: &mut Effects) {
        let id = flow
            .connection
            .expect("an opened flow names its connection");
        let local = self.listeners.local(flow.listener);
        let web = local.is_some_and(|local| local.listener.transport.is_web());
        let connection = Connection {
            id,
            flow,
            reader: match web {
                true => Reader::Web(Box::default()),
                false => Reader::default(),
            },
            framed: false,
            ping: None,
            said: now,
            opened: now,
            heard: now,
            begun: now,
            spoke: false,
            unanswered: 0,
            ended: None,
            backlog: Backlog::new(now),
            timer: None,
            due: now,
            users: ShardSet::EMPTY,
            asked: Time::ZERO,
            told_slow: ShardSet::EMPTY,
            waiting: ShardSet::EMPTY,
            names: Names::default(),
            named: false,
            proven: Vec::new(),
        };
        match self.streams.connections.insert(connection) {
            Ok(index) => {
                self.streams.by_id.insert(id, index);
                self.stats.record(Counter::ConnectionOpened);
                self.watch_connection(index);
            }
            Err(_) => {
                self.stats.record(Counter::LimitConnections);
                out.streams.push(StreamSend {
                    connection: id,
                    order: StreamOrder::Close,
                });
            }
        }
    }

    /// Of what a peer has proved only names of edges are kept.
    pub(super) fn on_proved(&mut self, id: ConnectionId, names: &[Box<str>]) {
        let Some(&index) = self.streams.by_id.get(&id) else {
            return;
        };
        let policy = &self.settings.rules.policy;
        let names = names.iter();
        let of_edges = names.filter(|name| policy.is_edge_name(name.as_bytes()));
        let proven = of_edges.cloned().collect();
        self.streams.connections[index].proven = proven;
    }

    pub(super) fn on_stream(
        &mut self,
        now: Time,
        id: ConnectionId,
        bytes: &[u8],
        out: &mut Effects,
    ) {
        let Some(&index) = self.streams.by_id.get(&id) else {
            return;
        };
        let connection = &mut self.streams.connections[index];
        connection.heard = now;
        let flow = connection.flow;
        let was_partial = connection.reader.is_partial();
        let named = connection.named;
        let mut reader = core::mem::take(&mut connection.reader);
        self.streams.hears_names = !named;
        let read = match &mut reader {
            Reader::Stream(framer) => self.read_stream(now, flow, framer, bytes, out),
            Reader::Web(web) => self.read_web(now, flow, web, bytes, out),
        };
        self.streams.hears_names = false;
        let Some(whole) = read else { return };
        let connection = &mut self.streams.connections[index];
        let partial = reader.is_partial();
        if partial && (whole || !was_partial) {
            connection.begun = now;
        }
        if whole && !core::mem::replace(&mut connection.spoke, true) {
            out.streams.push(StreamSend {
                connection: id,
                order: StreamOrder::Heard,
            });
        }
        connection.reader = reader;
        if partial {
            self.watch_connection(index);
        }
    }

    /// Takes in what came. True: a whole message was among it. None: the connection has been closed.
    fn read_stream(
        &mut self,
        now: Time,
        flow: Flow,
        framer: &mut Framer,
        bytes: &[u8],
        out: &mut Effects,
    ) -> Option<bool> {
        let id = flow.connection?;
        let (mut rest, mut whole) = (bytes, false);
        while let Some(found) = framer.next(&mut rest) {
            match found {
                Found::Message(bytes) => {
                    whole = true;
                    self.on_message(now, flow, bytes, false, out);
                }
                Found::Ping => self.pong(now, id, out),
                //= RFC 3261 18.3
                Found::Broken { head, why } => {
                    let (truncated, ending) = match why {
                        Broken::HeadersTooLong | Broken::BodyTooLong => (true, Ending::TooLong),
                        Broken::LengthMalformed => (false, Ending::Unreadable),
                    };
                    self.on_message(now, flow, head, truncated, out);
                    self.close(now, id, ending, out);
                }
            }
            if !self.streams.by_id.contains_key(&id) {
                return None;
            }
        }
        Some(whole)
    }

    fn on_message(
        &mut self,
        now: Time,
        flow: Flow,
        bytes: &[u8],
        truncated: bool,
        out: &mut Effects,
    ) {
        if !bytes.starts_with(RESPONSE) {
            self.streams.note_request(flow);
        }
        let datagram = Datagram {
            flow,
            bytes,
            truncated,
            forwarded: false,
        };
        self.on_datagram(now, datagram, out);
    }

    //= RFC 5626 4.4.1
    fn pong(&mut self, now: Time, id: ConnectionId, out: &mut Effects) {
        self.stats.record(Counter::DatagramKeepalive);
        let Some(slot) = self.arena.take(SlotSize::Small) else {
            return self.stats.record(Counter::ResponseNoSlot);
        };
        self.arena.buffer(slot)[..PONG.len()].copy_from_slice(PONG);
        self.arena.set_len(slot, PONG.len());
        out.released.push(slot);
        self.put(now, id, slot, SendTag::NONE, out);
    }

    /// Sends a slot's bytes by a connection. The slot is the caller's, to be released after this turn.
    pub(super) fn put(
        &mut self,
        now: Time,
        id: ConnectionId,
        slot: SlotId,
        tag: SendTag,
        out: &mut Effects,
    ) -> Put {
        if id.shard() != self.settings.shard {
            return match out.carry(now, id, tag, self.arena.bytes(slot)) {
                true => Put::Done,
                false => Put::NoRoom,
            };
        }
        let Some(&index) = self.streams.by_id.get(&id) else {
            return Put::Gone;
        };
        let connection = &mut self.streams.connections[index];
        let message = self.arena.bytes(slot);
        let is_notify = tag != SendTag::NONE;
        if is_notify && connection.ended.is_some() {
            return Put::Gone;
        }
        if !is_notify && message != PONG {
            connection.unanswered = connection.unanswered.saturating_sub(1);
        }
        let all_said = connection.ended.is_some() && connection.unanswered == 0;
        let (order, length) = match connection.framed {
            false => (StreamOrder::Write(slot), message.len()),
            true => {
                let head = FrameHead::of(message);
                let length = head.as_bytes().len() + message.len();
                (StreamOrder::WriteFramed(head, slot), length)
            }
        };
        if !self.order(now, index, order, length, out) {
            return Put::Gone;
        }
        if all_said {
            self.close(now, id, Ending::ByPeer, out);
        }
        Put::Done
    }

    /// So many bytes more are to be written. False: that was too much, and the connection has been closed.
    fn order(
        &mut self,
        now: Time,
        index: u32,
        order: StreamOrder,
        length: usize,
        out: &mut Effects,
    ) -> bool {
        let connection = &mut self.streams.connections[index];
        connection.backlog.add(now, length);
        connection.said = now;
        let id = connection.id;
        let flooded = connection.backlog.bytes() > limits::STREAM_QUEUE_BYTES_MAX;
        out.streams.push(StreamSend {
            connection: id,
            order,
        });
        match flooded {
            // It asks, and does not read what it is answered.
            true => self.cut(now, id, Ending::Flooded, out),
            false => self.watch_connection(index),
        }
        !flooded
    }

    /// Another shard sends by a connection of ours.
    pub(super) fn on_to_send(
        &mut self,
        now: Time,
        sender: ShardId,
        id: ConnectionId,
        tag: SendTag,
        bytes: &[u8],
        out: &mut Effects,
    ) {
        let Some(&index) = self.streams.by_id.get(&id) else {
            return self.tell_shard(sender, id, ConnectionNews::Gone, out);
        };
        let connection = &mut self.streams.connections[index];
        let is_notify = tag != SendTag::NONE;
        if is_notify && connection.ended.is_some() {
            return self.tell_shard(sender, id, ConnectionNews::Gone, out);
        }
        connection.users.insert(sender.0);
        if is_notify && connection.backlog.bytes() >= limits::STREAM_QUEUE_BYTES {
            connection.waiting.insert(sender.0);
            return self.tell_shard(sender, id, ConnectionNews::Full(tag), out);
        }
        let slot = SlotSize::fitting(bytes.len()).and_then(|size| self.arena.take(size));
        let Some(slot) = slot else {
            self.stats.record(Counter::LimitSendSlots);
            if is_notify {
                self.tell_shard(sender, id, ConnectionNews::Full(tag), out);
                self.tell_shard(sender, id, ConnectionNews::Free, out);
            }
            return;
        };
        self.arena.buffer(slot)[..bytes.len()].copy_from_slice(bytes);
        self.arena.set_len(slot, bytes.len());
        out.released.push(slot);
        self.put(now, id, slot, tag, out);
    }

    /// The kernel has taken some of what was to be written.
    pub(super) fn on_written(
        &mut self,
        now: Time,
        id: ConnectionId,
        bytes: usize,
        out: &mut Effects,
    ) {
        let Some(&index) = self.streams.by_id.get(&id) else {
            return;
        };
        let connection = &mut self.streams.connections[index];
        connection.backlog.take(now, bytes);
        let left = connection.backlog.bytes();
        if !connection.told_slow.is_empty() && !connection.backlog.is_slow(now) {
            for shard in core::mem::take(&mut connection.told_slow).iter() {
                self.tell_shard(ShardId(shard), id, ConnectionNews::Caught, out);
            }
        }
        if left > limits::STREAM_QUEUE_BYTES / 2 {
            return;
        }
        if self.streams.connections[index].next_ping().is_some() {
            self.watch_connection(index);
        }
        let connection = &mut self.streams.connections[index];
        for shard in core::mem::take(&mut connection.waiting).iter() {
            self.tell_shard(ShardId(shard), id, ConnectionNews::Free, out);
        }
        self.on_room(id);
    }

    /// Shards whose NOTIFYs wait here for long do not take silence for an answer.
    fn tell_slow(&mut self, now: Time, index: u32, out: &mut Effects) {
        let connection = &mut self.streams.connections[index];
        if !connection.backlog.is_slow(now) {
            return;
        }
        let (id, users) = (connection.id, connection.users);
        for shard in users.iter() {
            if self.streams.connections[index].told_slow.insert(shard) {
                self.tell_shard(ShardId(shard), id, ConnectionNews::Slow, out);
            }
        }
    }

    pub(super) fn tell_shard(
        &mut self,
        shard: ShardId,
        connection: ConnectionId,
        news: ConnectionNews,
        out: &mut Effects,
    ) {
        self.stats.record(Counter::MailSent);
        let mail = Mail::Connection { connection, news };
        out.mails.push((Destination::Shard(shard), mail));
    }
}
