//! Subscriptions that are told by a connection, here or on another shard: those that wait until it takes more, and those
//! whose connection has gone. What waits is the newest state of each subscription, and nothing else.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Shard;
use super::deliver::Ticket;
use super::effects::{Effects, SendTag};
use super::mail::ConnectionNews;
use super::ready::Urgency;
use crate::config::limits;
use crate::stats::Counter;
use crate::subscription::outcome::OnClose;
use crate::subscription::record::{Owed, Phase};
use crate::time::{T64, Time};
use crate::transport::ConnectionId;

/// Who waits for which connection.
#[derive(Default)]
pub(super) struct Waiting {
    /// Those that take no NOTIFY for now, each with the subscriptions that stand in line. One of another shard is
    /// here as long as that shard has not said that it takes more.
    full: HashMap<ConnectionId, VecDeque<u32>>,
    /// Those that take NOTIFYs again, and who still stands in line.
    free: VecDeque<(ConnectionId, VecDeque<u32>)>,
    /// Those of other shards by which what was written has waited for long: until when, if it does no more.
    slow: HashMap<ConnectionId, Option<Time>>,
}

impl Waiting {
    /// Whether somebody can be told now.
    pub(super) fn is_ready(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether there is a line for a connection.
    pub(super) fn has_line(&self, connection: ConnectionId) -> bool {
        let free = || self.free.iter().any(|(other, _)| *other == connection);
        self.full.contains_key(&connection) || free()
    }

    /// How many stand in line.
    pub(super) fn len(&self) -> usize {
        let free = self.free.iter().map(|(_, line)| line.len());
        // ORDER: a sum has none.
        self.full.values().map(VecDeque::len).chain(free).sum()
    }
}

impl Shard {
    /// Whether a subscription has to wait until its connection takes more; then it stands in line.
    pub(super) fn stands_in_line(&mut self, index: u32) -> bool {
        let Some(connection) = self.subscriptions[index].flow.connection else {
            return false;
        };
        let full = self.waiting.full.contains_key(&connection) || self.streams.is_full(connection);
        if full {
            self.stand_in_line(connection, index);
        }
        full
    }

    /// Whether what was written to a connection may not have left it: as far as this shard knows.
    pub(super) fn is_behind(&self, connection: ConnectionId) -> bool {
        self.waiting.full.contains_key(&connection) || self.streams.is_behind(connection)
    }

    /// Whether a NOTIFY that was written at that time may have waited for long before it left. Then it says nothing that it was
    /// not answered.
    pub(super) fn may_have_waited(&self, connection: ConnectionId, since: Time) -> bool {
        let slow = self.waiting.slow.get(&connection);
        slow.is_some_and(|until| until.is_none_or(|until| until > since))
            || self.waiting.full.contains_key(&connection)
            || self.streams.has_been_slow(self.now, connection, since)
    }

    /// It has another way, and need not wait for the one before.
    pub(super) fn leave_line(&mut self, index: u32) {
        if core::mem::take(&mut self.subscriptions[index].in_line) {
            self.queue_again(index, Urgency::Prompt);
        }
    }

    fn stand_in_line(&mut self, connection: ConnectionId, index: u32) {
        self.subscriptions[index].in_line = true;
        let line = self.waiting.full.entry(connection).or_default();
        line.push_back(index);
    }

    /// A connection takes NOTIFYs again.
    pub(super) fn on_room(&mut self, connection: ConnectionId) {
        if let Some(line) = self.waiting.full.remove(&connection) {
            self.waiting.free.push_back((connection, line));
        }
    }

    /// Tells those that stood in line, as far as connections and effects have room.
    pub(super) fn tell_waiting(&mut self, now: Time, out: &mut Effects) {
        while !self.stalled && !out.is_nearly_full() {
            let Some((connection, mut line)) = self.waiting.free.pop_front() else {
                return;
            };
            // One connection's line does not hold the others up.
            for _ in 0..limits::SENDS_RESERVED {
                let Some(index) = line.pop_front() else { break };
                // Since it came here it may have ended, or have got another connection.
                if let Some(subscription) = self.subscriptions.living(index)
                    && subscription.flow.connection == Some(connection)
                    && core::mem::take(&mut subscription.in_line)
                {
                    self.tell_now(now, index, out);
                }
            }
            match self.waiting.full.get_mut(&connection) {
                // It is full again: who came meanwhile stands behind.
                Some(later) => {
                    line.append(later);
                    *later = line;
                }
                None if line.is_empty() => {}
                None => self.waiting.free.push_back((connection, line)),
            }
        }
    }

    /// The shard that has a connection says how it is.
    pub(super) fn on_connection_news(
        &mut self,
        now: Time,
        connection: ConnectionId,
        news: ConnectionNews,
        out: &mut Effects,
    ) {
        match news {
            ConnectionNews::Full(tag) => self.on_refused(connection, tag),
            ConnectionNews::Free => self.on_room(connection),
            ConnectionNews::Slow => _ = self.waiting.slow.insert(connection, None),
            ConnectionNews::Caught => {
                // Nothing that was written before is waited for any longer.
                let recent = |until: Time| until + T64 > now;
                let slow = &mut self.waiting.slow;
                // ORDER: each is judged by itself.
                slow.retain(|_, until| until.is_none_or(recent));
                slow.insert(connection, Some(now));
            }
            ConnectionNews::Gone => self.on_gone(now, connection, out),
            ConnectionNews::Idle => {
                if self.subscriptions.first_of_connection(connection).is_some() {
                    let used = ConnectionNews::Used(self.settings.shard);
                    self.tell_shard(connection.shard(), connection, used, out);
                }
            }
            ConnectionNews::Used(shard) => self.streams.note_user(connection, shard),
        }
    }

    /// A NOTIFY was not sent, since its connection takes no more for now: it never was, and its state is owed still.
    fn on_refused(&mut self, connection: ConnectionId, tag: SendTag) {
        self.waiting.full.entry(connection).or_default();
        let Ticket { index, check } = Ticket::from_number(tag.0);
        let Some(transaction) = self.clients.named(index, check) else {
            return;
        };
        self.stats.record(Counter::NotifyPostponed);
        let finished = self.finish(transaction);
        let Some(index) = self.user(finished.user).filter(|_| !finished.replaced) else {
            return;
        };
        self.note_unasked(index, finished.started);
        let subscription = &mut self.subscriptions[index];
        subscription.in_flight = None;
        subscription.cseq -= 1;
        let owed = match subscription.phase {
            Phase::Terminating(_) => Owed::Prompt,
            Phase::Active | Phase::Probed { .. } | Phase::Silent { .. } | Phase::Parked => {
                Owed::Change
            }
        };
        subscription.owed = subscription.owed.max(owed);
        let here = subscription.flow.connection == Some(connection);
        let waits = subscription.queued.is_some() || subscription.in_line;
        if !here {
            self.queue_again(index, Urgency::FanOut);
        } else if !waits && subscription.may_notify() {
            self.stand_in_line(connection, index);
        }
    }

    /// A connection has gone, and with it the way to those that were told by it.
    pub(super) fn on_gone(&mut self, now: Time, connection: ConnectionId, out: &mut Effects) {
        self.waiting.full.remove(&connection);
        self.waiting.slow.remove(&connection);
        self.edges.leave(connection);
        self.end_detours(connection, out);
        while let Some(index) = self.subscriptions.first_of_connection(connection) {
            self.subscriptions.cut(index);
            self.on_cut(now, index, out);
        }
    }

    /// Nobody can be told by this subscription's connection any more: it goes on by another one that its edge or its phone
    /// has, or waits for its phone, or its edge, and its deadline runs.
    pub(super) fn on_cut(&mut self, now: Time, index: u32, out: &mut Effects) {
        let subscription = &mut self.subscriptions[index];
        subscription.queued = None;
        subscription.in_line = false;
        if let Some(transaction) = subscription.in_flight.take() {
            // What was on its way may not have arrived.
            let last = subscription.is_terminating() && subscription.owed == Owed::Nothing;
            subscription.owed = subscription.owed.max(Owed::Change);
            self.finish(transaction);
            if last {
                return self.end(index, out);
            }
        }
        // Who does not answer is not asked by another way.
        let parked = self.subscriptions[index].phase == Phase::Parked;
        if !parked && self.goes_on_by_its_edge(index) {
            return;
        }
        let subscription = &self.subscriptions[index];
        let keep = match self.settings.rules.on_close {
            OnClose::Keep => true,
            OnClose::End => false,
        };
        let lives_on = keep && !subscription.is_terminating();
        if lives_on && let Some(way) = self.another_way(index) {
            self.set_flow(index, way);
            self.stats.record(Counter::SubscriptionMoved);
            self.queue_again(index, Urgency::FanOut);
            return self.keep_change(now, index, false, out);
        }
        match self.subscriptions[index].phase {
            Phase::Terminating(_) => self.end(index, out),
            Phase::Active | Phase::Probed { .. } | Phase::Silent { .. } | Phase::Parked
                if !keep =>
            {
                self.stats.record(Counter::SubscriptionCut);
                self.end(index, out);
            }
            Phase::Active => {
                self.subscriptions.park(index);
                self.wait_for_edge(index);
                self.stats.record(Counter::SubscriptionParked);
            }
            // What it was to prove is asked again when its phone comes back.
            Phase::Probed { .. } => {
                self.subscriptions[index].phase = Phase::Active;
                self.subscriptions.park(index);
                self.wait_for_edge(index);
                let when = self.subscriptions[index].next_deadline();
                self.set_deadline(index, when);
                self.stats.record(Counter::SubscriptionParked);
            }
            // When the pause is over it is found to be cut.
            Phase::Silent { .. } | Phase::Parked => {}
        }
    }
}
