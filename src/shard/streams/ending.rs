//! When a connection is closed and why, and who hears of it.

use core::time::Duration;

use super::{Connection, Reader, Shard};
use crate::config::limits;
use crate::shard::edges::Names;
use crate::shard::effects::{Effects, ShardId, StreamOrder, StreamSend};
use crate::shard::mail::ConnectionNews;
use crate::state::ShardSet;
use crate::stats::Counter;
use crate::time::Time;
use crate::transport::ConnectionId;
use crate::transport::stream::CloseCode;
use crate::wheel::{Owner, Token};

const FIRST_MESSAGE: Duration = Duration::from_secs(limits::STREAM_FIRST_MESSAGE_SECONDS);
const MESSAGE: Duration = Duration::from_secs(limits::STREAM_MESSAGE_SECONDS);
const STALL: Duration = Duration::from_secs(limits::STREAM_STALL_SECONDS);
const LAST_ANSWERS: Duration = Duration::from_secs(limits::STREAM_LAST_ANSWERS_SECONDS);
const SAID_TO_BE_USED: Duration = Duration::from_secs(limits::STREAM_USED_SECONDS);
const IDLE: Duration = Duration::from_secs(limits::STREAM_IDLE_SECONDS);

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    ByPeer,
    Unreadable,
    TooLong,
    Silent,
    Unfinished,
    Stalled,
    Idle,
    Flooded,
    Refused,
}

impl Ending {
    fn counter(self) -> Counter {
        match self {
            Ending::ByPeer => Counter::ConnectionClosedByPeer,
            Ending::Unreadable => Counter::ConnectionUnreadable,
            Ending::TooLong => Counter::ConnectionTooLong,
            Ending::Silent => Counter::ConnectionSilent,
            Ending::Unfinished => Counter::ConnectionUnfinished,
            Ending::Stalled => Counter::ConnectionStalled,
            Ending::Idle => Counter::ConnectionIdle,
            Ending::Flooded => Counter::ConnectionFlooded,
            Ending::Refused => Counter::ConnectionRefused,
        }
    }
}

impl Connection {
    /// When it is closed if nothing happens before, and why. `used`: subscriptions are told by it.
    fn deadline(&self, used: bool) -> Option<(Time, Ending)> {
        let still = self.backlog.still_since();
        let stalled = still.map(|since| (since + STALL, Ending::Stalled));
        let unfinished = self
            .reader
            .is_partial()
            .then(|| (self.begun + MESSAGE, Ending::Unfinished));
        let silent = (!self.spoke).then(|| (self.opened + FIRST_MESSAGE, Ending::Silent));
        // Who is told something needs not speak, however long it takes; the kernel asks whether it is still there.
        let idle = (self.heard + IDLE).max(self.asked + SAID_TO_BE_USED);
        let idle = (!used).then_some((idle, Ending::Idle));
        let ended = self.ended.map(|when| (when + LAST_ANSWERS, Ending::ByPeer));
        let all = [stalled, unfinished, silent, idle, ended];
        all.into_iter().flatten().min_by_key(|(when, _)| *when)
    }
}

impl Shard {
    /// The peer says nothing more. What it has asked is answered still; but a NOTIFY could not be answered, and most
    /// who end one direction have ended both: whoever was told by this connection waits until its phone comes back.
    pub(in crate::shard) fn on_ended(&mut self, now: Time, id: ConnectionId, out: &mut Effects) {
        let Some(&index) = self.streams.by_id.get(&id) else {
            return;
        };
        let connection = &mut self.streams.connections[index];
        if connection.unanswered == 0 {
            return self.close(now, id, Ending::ByPeer, out);
        }
        connection.ended = Some(now);
        connection.reader = Reader::default();
        connection.waiting = ShardSet::EMPTY;
        let users = core::mem::take(&mut connection.users);
        let users = users.with(&core::mem::take(&mut connection.told_slow));
        let names = core::mem::take(&mut connection.names);
        self.tell_gone(now, id, users, names, out);
        self.watch_connection(index);
    }

    /// A connection has ended without us.
    pub(in crate::shard) fn on_closed(&mut self, now: Time, id: ConnectionId, out: &mut Effects) {
        if self.streams.by_id.contains_key(&id) {
            self.forget_connection(now, id, Ending::ByPeer, out);
        }
    }

    /// What came by it makes no sense.
    pub(in crate::shard) fn close_unreadable(
        &mut self,
        now: Time,
        id: ConnectionId,
        out: &mut Effects,
    ) {
        if self.streams.by_id.contains_key(&id) {
            self.close(now, id, Ending::Unreadable, out);
        }
    }

    pub(in crate::shard) fn on_connection_timer(
        &mut self,
        now: Time,
        index: u32,
        out: &mut Effects,
    ) {
        let connection = &mut self.streams.connections[index];
        connection.timer = None;
        let id = connection.id;
        if connection.heard.max(connection.asked) + IDLE <= now {
            connection.asked = now;
            // Who tells somebody by it says so.
            for shard in core::mem::take(&mut connection.users).iter() {
                self.tell_shard(ShardId(shard), id, ConnectionNews::Idle, out);
            }
        }
        let used = self.is_used(index);
        match self.streams.connections[index].deadline(used) {
            Some((deadline, ending)) if deadline <= now => self.close(now, id, ending, out),
            Some(_) | None => {
                self.tell_slow(now, index, out);
                self.ping_if_due(now, index, out);
                self.watch_connection(index);
            }
        }
    }

    /// Makes sure that the timer fires at the deadline, or before.
    pub(super) fn watch_connection(&mut self, index: u32) {
        let used = self.is_used(index);
        let connection = &mut self.streams.connections[index];
        let deadline = connection.deadline(used);
        // One that is used is looked at again, as it may not be for ever.
        let deadline = deadline.map_or(self.now + IDLE, |(when, _)| when);
        let others = [connection.next_ping(), connection.next_slow()];
        let deadline = others.into_iter().flatten().fold(deadline, Time::min);
        match connection.timer {
            Some(_) if connection.due <= deadline => return,
            Some(timer) => assert!(
                self.wheel.reschedule(timer, deadline),
                "a connection's timer runs"
            ),
            None => {
                let token = Token {
                    owner: Owner::Connection,
                    index,
                };
                connection.timer = Some(self.wheel.insert(deadline, token));
            }
        }
        connection.due = deadline;
    }

    fn is_used(&self, index: u32) -> bool {
        let connection = &self.streams.connections[index];
        !connection.users.is_empty()
            || self
                .subscriptions
                .first_of_connection(connection.id)
                .is_some()
    }

    pub(super) fn close(&mut self, now: Time, id: ConnectionId, ending: Ending, out: &mut Effects) {
        self.close_with(now, id, ending, ending.close_code(), out);
    }

    /// `code`: what the other side is told, where it speaks WebSocket.
    pub(super) fn close_with(
        &mut self,
        now: Time,
        id: ConnectionId,
        ending: Ending,
        code: CloseCode,
        out: &mut Effects,
    ) {
        let framed = |&index: &u32| self.streams.connections[index].framed;
        if self.streams.by_id.get(&id).is_some_and(framed) {
            self.say_close(now, id, code, out);
        }
        self.cut(now, id, ending, out);
    }

    /// Nothing more is said before it is closed. What was said last may have closed it already.
    pub(super) fn cut(&mut self, now: Time, id: ConnectionId, ending: Ending, out: &mut Effects) {
        if !self.streams.by_id.contains_key(&id) {
            return;
        }
        out.streams.push(StreamSend {
            connection: id,
            order: StreamOrder::Close,
        });
        self.forget_connection(now, id, ending, out);
    }

    fn forget_connection(
        &mut self,
        now: Time,
        id: ConnectionId,
        ending: Ending,
        out: &mut Effects,
    ) {
        let Some(index) = self.streams.by_id.remove(&id) else {
            return;
        };
        let gone = self.streams.connections.remove(index);
        if let Some(timer) = gone.timer {
            self.wheel.cancel(timer);
        }
        self.stats.record(ending.counter());
        let users = gone.users.with(&gone.told_slow);
        self.tell_gone(now, id, users, gone.names, out);
    }

    /// Nobody is told anything by a connection any more.
    fn tell_gone(
        &mut self,
        now: Time,
        id: ConnectionId,
        users: ShardSet,
        names: Names,
        out: &mut Effects,
    ) {
        let own = self.settings.shard.0;
        let to_all = names != Names::default();
        for shard in (0..self.settings.shards).filter(|&shard| shard != own) {
            if to_all || users.contains(shard) {
                self.tell_shard(ShardId(shard), id, ConnectionNews::Gone, out);
            }
        }
        self.on_gone(now, id, out);
    }
}
