//! What becomes of a NOTIFY, and of its subscription: answers, timers, failed sends, deadlines.
//! No state here waits for a send to succeed.

use core::net::SocketAddr;
use core::time::Duration;

use super::Shard;
use super::deliver::{Ticket, send_tag};
use super::effects::{Effects, Send, SendTag};
use super::quotas::Held;
use super::ready::Urgency;
use crate::notify::copies::Place;
use crate::partition::Mark;
use crate::stats::Counter;
use crate::subscription::outcome::{OnTimeout, Outcome, ends_dialog, of_answer};
use crate::subscription::package::Package;
use crate::subscription::record::{Owed, Phase, Reason};
use crate::time::{T64, Time};
use crate::transaction::client::{Finished, Fired};
use crate::transport::{Lessee, ListenerId};
use crate::wheel::{Owner, Token};

/// Errors of a send that trying again would not change.
const PERMANENT: [i32; 3] = [EINVAL, EMSGSIZE, EAFNOSUPPORT];
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;
const EAFNOSUPPORT: i32 = 97;
/// Errors that say that we send faster than the kernel takes it.
const FULL: [i32; 3] = [EAGAIN, ENOBUFS, ENOMEM];
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENOBUFS: i32 = 105;

impl Shard {
    /// An answer to one of our NOTIFYs.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        mark: Mark,
        status: u16,
        retry_after: Option<u32>,
        out: &mut Effects,
    ) {
        let Some(transaction) = self.clients.find(mark) else {
            return self.stats.record(Counter::AnswerLate);
        };
        self.count_answer(status);
        let outcome = of_answer(
            status,
            retry_after.map(|seconds| Duration::from_secs(u64::from(seconds))),
        );
        if outcome == Outcome::Provisional {
            return self.clients.provisional(transaction);
        }
        let peer = self.clients.peer(transaction);
        let finished = self.finish(transaction);
        if let Some(slot) = finished.slot {
            out.released.push(slot);
        }
        if finished.by_connection {
            // It says nothing of how datagrams fare.
        } else if finished.retransmitted {
            self.window.late(now);
        } else if !finished.replaced {
            self.window.answered(now);
        }
        let Some(index) = self.user(finished.user) else {
            return;
        };
        if !finished.replaced {
            self.subscriptions[index].in_flight = None;
        }
        // Whatever is owed in it, and whichever NOTIFY has shown it.
        if ends_dialog(status) {
            return self.end_failed(index, Counter::SubscriptionNotifyFailed, out);
        }
        // However late it comes: its phone knows the dialog.
        if outcome == Outcome::Delivered {
            self.proved(index, finished.started);
        }
        // The newer NOTIFY decides.
        if finished.replaced {
            return;
        }
        if status == 503 && self.tries_next(index, peer) {
            return;
        }
        if outcome == Outcome::Delivered {
            self.subscriptions.note_answer(index);
            self.answers(index, peer);
        }
        self.on_outcome(now, index, outcome, out);
    }

    fn on_outcome(&mut self, now: Time, index: u32, outcome: Outcome, out: &mut Effects) {
        let subscription = &mut self.subscriptions[index];
        if subscription.is_terminating() {
            // It was told that it ends, or a newer request of its own made it end: then that is still owed.
            if subscription.owed == Owed::Nothing {
                self.end(index, out);
            }
            return;
        }
        match outcome {
            Outcome::Provisional => {}
            // It has asked since that NOTIFY was sent, and what it asked for is owed at once.
            Outcome::Retry(_) if subscription.owed == Owed::Prompt => {}
            Outcome::Delivered => self.queue_again(index, Urgency::FanOut),
            Outcome::Retry(pause) => {
                let until = now + pause;
                subscription.owed = Owed::Change;
                self.enter(index, Phase::Silent { until });
            }
            Outcome::Remove => self.end_failed(index, Counter::SubscriptionNotifyFailed, out),
        }
    }

    /// Timer E or F.
    pub(super) fn on_client_timer(&mut self, now: Time, transaction: u32, out: &mut Effects) {
        let (user, fired) = self.clients.on_timer(now, transaction, &mut self.wheel);
        let index = self.user(user);
        match fired {
            Fired::Retransmit { slot, flow, mark } => {
                if let Some(index) = index {
                    self.subscriptions.doubt(index);
                }
                // A newer state waits: it goes out in place of the old one, unless it must wait for longer than that.
                if let Some(index) = index
                    && self.subscriptions[index].owed != Owed::Nothing
                    && !self.must_hold(now, index)
                {
                    self.clients.stand_back(transaction);
                    return self.queue_again(index, Urgency::FanOut);
                }
                let sender = self.listeners.sender(flow.listener);
                let sender = sender.expect("a transaction's listener is there or was taken over");
                let flow = self.listeners.carry(&flow, sender);
                let tag = send_tag(mark);
                out.sends.push(Send {
                    slot,
                    listener: flow.listener,
                    source: flow.local,
                    peer: flow.peer,
                    tag,
                });
                self.stats.record(Counter::NotifyRetransmitted);
            }
            Fired::Waited => {
                if let Some(index) = index {
                    self.subscriptions.doubt(index);
                    self.doubt_detour(index, transaction);
                    self.queue_again(index, Urgency::FanOut);
                }
            }
            Fired::TimedOut {
                slot,
                replaced,
                stood_back,
                listener,
                peer,
                started,
            } => {
                self.listeners.give(listener, Lessee::Client);
                if let Some(slot) = slot {
                    out.released.push(slot);
                }
                if replaced {
                    return;
                }
                self.stats.record(Counter::NotifyTimedOut);
                if let Some(index) = index {
                    self.on_notify_timeout(index, peer, stood_back, started, out);
                }
            }
        }
    }

    //= RFC 6665 4.2.2
    fn on_notify_timeout(
        &mut self,
        index: u32,
        peer: SocketAddr,
        stood_back: bool,
        started: Time,
        out: &mut Effects,
    ) {
        let connection = self.subscriptions[index].flow.connection;
        let waited = |connection| self.may_have_waited(connection, started);
        let behind = connection.is_some_and(waited);
        let subscription = &mut self.subscriptions[index];
        subscription.in_flight = None;
        if subscription.is_terminating() {
            if subscription.owed == Owed::Nothing {
                self.end(index, out);
            }
            return;
        }
        if self.standstill.was_since(started) {
            return self.tell_once_more(index);
        }
        if self.tries_next(index, peer) {
            return;
        }
        let subscription = &mut self.subscriptions[index];
        if behind {
            // It may still wait here, or has been taken just now: timer F is for the time that the phone has had. A connection
            // that takes nothing has a deadline of its own.
            subscription.owed = subscription.owed.max(Owed::Change);
            return self.queue_again(index, Urgency::FanOut);
        }
        // The phone has asked for something since, or this NOTIFY stood back for a newer one and was not sent to its
        // end: then its silence proves nothing. A newer state that waits is none the phone has ever seen.
        let proves_nothing = match subscription.owed {
            Owed::Nothing => false,
            Owed::Change | Owed::Due => stood_back,
            Owed::Prompt => true,
        };
        if proves_nothing {
            return self.queue_again(index, Urgency::Prompt);
        }
        if matches!(subscription.phase, Phase::Probed { .. }) {
            return self.end_failed(index, Counter::SubscriptionNotifyTimeout, out);
        }
        match self.settings.rules.on_timeout {
            OnTimeout::Remove => self.end_failed(index, Counter::SubscriptionNotifyTimeout, out),
            OnTimeout::Park => {
                subscription.owed = Owed::Change;
                self.subscriptions.park(index);
                self.stats.record(Counter::SubscriptionParked);
            }
        }
    }

    /// The kernel refused a datagram.
    pub(super) fn on_send_failed(
        &mut self,
        now: Time,
        tag: SendTag,
        errno: i32,
        out: &mut Effects,
    ) {
        if FULL.contains(&errno) {
            self.window.refused(now);
        }
        if tag == SendTag::NONE {
            return self.stats.record(Counter::ResponseSendFailed);
        }
        self.stats.record(Counter::NotifySendFailed);
        let Ticket { index, check } = Ticket::from_number(tag.0);
        let Some(transaction) = self.clients.named(index, check) else {
            return;
        };
        if !PERMANENT.contains(&errno) {
            // As if it were lost on the way: timer E sends it again, timer F gives up.
            return;
        }
        let peer = self.clients.peer(transaction);
        let finished = self.finish(transaction);
        if let Some(slot) = finished.slot {
            out.released.push(slot);
        }
        if let Some(index) = self.user(finished.user).filter(|_| !finished.replaced) {
            self.subscriptions[index].in_flight = None;
            if self.tries_next(index, peer) {
                return;
            }
            self.on_outcome(now, index, Outcome::Remove, out);
        }
    }

    /// The one deadline of a subscription.
    pub(super) fn on_deadline(&mut self, now: Time, index: u32, out: &mut Effects) {
        self.subscriptions[index].deadline = None;
        self.on_tempo(now, index);
        let subscription = &mut self.subscriptions[index];
        if now < subscription.expires_at {
            match subscription.phase {
                Phase::Silent { until } if until <= now => {
                    subscription.phase = Phase::Active;
                    self.enqueue(index, Owed::Change);
                }
                Phase::Probed { until: Some(until) }
                    if until <= now && self.standstill.spoilt(until) =>
                {
                    self.tell_once_more(index);
                }
                Phase::Probed { until: Some(until) } if until <= now => {
                    return self.end_failed(index, Counter::SubscriptionNotifyTimeout, out);
                }
                Phase::Active
                | Phase::Silent { .. }
                | Phase::Probed { .. }
                | Phase::Parked
                | Phase::Terminating(_) => {}
            }
            let when = self.subscriptions[index].next_deadline();
            return self.set_deadline(index, when);
        }
        match subscription.phase {
            Phase::Terminating(_) => self.end(index, out),
            Phase::Parked => {
                self.stats.record(Counter::SubscriptionTimeout);
                self.end(index, out);
            }
            //= RFC 6665 4.2.1.4
            Phase::Active | Phase::Silent { .. } | Phase::Probed { .. } => {
                self.stats.record(Counter::SubscriptionTimeout);
                self.terminate(now, index, Reason::Timeout);
            }
        }
    }

    /// One last NOTIFY is owed, and 64·T1 later at the latest the record is gone.
    pub(super) fn terminate(&mut self, now: Time, index: u32, reason: Reason) {
        self.subscriptions.unpark(index);
        let subscription = &mut self.subscriptions[index];
        let end = match subscription.phase {
            // A ghost lives no longer for being told that it ends.
            Phase::Probed { until: Some(until) } => until.min(now + T64),
            Phase::Active
            | Phase::Silent { .. }
            | Phase::Probed { until: None }
            | Phase::Parked
            | Phase::Terminating(_) => now + T64,
        };
        subscription.phase = Phase::Terminating(reason);
        subscription.expires_at = end;
        self.set_deadline(index, end);
        self.enqueue(index, Owed::Prompt);
    }

    /// From now on it is in another phase, and its deadline is of that.
    pub(super) fn enter(&mut self, index: u32, phase: Phase) {
        let subscription = &mut self.subscriptions[index];
        subscription.phase = phase;
        let when = subscription.next_deadline();
        self.set_deadline(index, when);
    }

    pub(super) fn set_deadline(&mut self, index: u32, when: Time) {
        let subscription = &mut self.subscriptions[index];
        match subscription.deadline {
            Some(timer) => assert!(
                self.wheel.reschedule(timer, when),
                "a subscription's deadline runs"
            ),
            None => {
                let token = Token {
                    owner: Owner::Subscription,
                    index,
                };
                subscription.deadline = Some(self.wheel.insert(when, token));
            }
        }
    }

    pub(super) fn end_failed(&mut self, index: u32, counter: Counter, out: &mut Effects) {
        match self.subscriptions[index].phase {
            Phase::Active | Phase::Silent { .. } | Phase::Parked => self.stats.record(counter),
            // A newer one stands in its place.
            Phase::Probed { .. } => self.stats.record(Counter::SubscriptionSuperseded),
            // It was counted when its end began.
            Phase::Terminating(_) => {}
        }
        self.end(index, out);
    }

    /// Removes a subscription and everything that belongs to it.
    pub(super) fn end(&mut self, index: u32, out: &mut Effects) {
        let (gone, phone_timer) = self.subscriptions.remove(index);
        self.listeners.give(gone.flow.listener, Lessee::Dialog);
        self.let_hold_go(Held {
            source: gone.source,
            domain: gone.domain,
        });
        self.forget(&gone, out);
        for timer in [gone.deadline, phone_timer].into_iter().flatten() {
            self.wheel.cancel(timer);
        }
        if let Some(transaction) = gone.in_flight
            && let Some(slot) = self.finish(transaction).slot
        {
            out.released.push(slot);
        }
        let aspect = Package::from_id(gone.package).aspect;
        let place = Place {
            copy: gone.copy,
            aspect,
            position: gone.position,
        };
        if let Some(moved) = self.copies.unwatch(place) {
            self.subscriptions[moved].position = place.position;
        }
        self.drop_copy_if_unwatched(gone.copy, out);
    }

    /// A listener's address goes away, and whoever has taken over from it sends from another one: what is on its
    /// way from there has failed, and is owed again.
    pub(super) fn fail_begun_on(&mut self, listener: ListenerId, out: &mut Effects) {
        for transaction in self.clients.begun_on(listener) {
            let finished = self.finish(transaction);
            if let Some(slot) = finished.slot {
                out.released.push(slot);
            }
            let Some(index) = self.user(finished.user).filter(|_| !finished.replaced) else {
                continue;
            };
            self.subscriptions[index].in_flight = None;
            let subscription = &self.subscriptions[index];
            if !subscription.is_terminating() {
                self.enqueue(index, Owed::Prompt);
            } else if subscription.owed == Owed::Nothing {
                self.end(index, out);
            }
        }
    }

    /// Ends a client transaction, and gives back what it leased.
    pub(super) fn finish(&mut self, transaction: u32) -> Finished {
        let finished = self.clients.finish(transaction, &mut self.wheel);
        self.listeners.give(finished.listener, Lessee::Client);
        finished
    }

    /// The living subscription that a transaction was for.
    pub(super) fn user(&mut self, number: u64) -> Option<u32> {
        let Ticket { index, check } = Ticket::from_number(number);
        let subscription = self.subscriptions.living(index)?;
        (subscription.check as u32 == check).then_some(index)
    }

    fn count_answer(&mut self, status: u16) {
        self.stats.record(Counter::notify_answered(status));
    }
}
