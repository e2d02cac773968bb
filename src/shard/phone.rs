//! What a request says of its phone as a whole: where it can be reached, what it has missed, and what it may have
//! forgotten. A keep-alive says nothing.

use core::net::SocketAddr;
use core::time::Duration;

use super::Shard;
use super::effects::Effects;
use super::ready::Urgency;
use super::settings::Settings;
use crate::config::limits;
use crate::stats::Counter;
use crate::subscription::outcome::Supersede;
use crate::subscription::phones::PhoneName;
use crate::subscription::record::{Owed, Phase, Queue};
use crate::subscription::text::{Part, Text};
use crate::time::{T1, T64, Time};
use crate::transport::Flow;

/// How long a possible ghost may take to answer, from the first NOTIFY on that asks it: one transaction, and a moment.
const PROBE: Duration = Duration::from_millis(T64.as_millis() as u64 + 1_000);

/// A NOTIFY of this age is sent again in more than a second only: whoever is heard meanwhile need not wait for it.
const LATE: Duration = Duration::from_millis(3 * T1.as_millis() as u64);

/// What was known of the way to a phone before it refreshed.
pub(super) struct Before {
    pub flow: Flow,
    /// The dialog's text with the former target, if the target is another one now.
    pub text: Option<Text>,
}

impl Shard {
    /// The phone has subscribed anew. It can be reached where that came from, and what else it has of the same may be a
    /// ghost that a reboot left behind, or a second key for one resource.
    pub(super) fn heard_anew(&mut self, now: Time, fresh: u32, out: &mut Effects) {
        self.subscriptions.hear(fresh);
        let is_fetch = self.subscriptions[fresh].is_terminating();
        let mut next = Some(self.subscriptions.first_of_phone(fresh));
        while let Some(index) = next {
            next = self.subscriptions[index].link.next();
            if index == fresh {
                continue;
            }
            let moved = self.follow_flow(index, fresh, None);
            if moved {
                self.stats.record(Counter::SubscriptionMoved);
                self.keep_change(now, index, false, out);
            }
            self.catch_up(now, index, moved);
            if !is_fetch && self.is_twin(index, fresh) {
                self.supersede(index, out);
            }
        }
    }

    /// The phone has refreshed: what it has missed is told again, and where it has moved, all that it has moves along.
    pub(super) fn heard_in_dialog(
        &mut self,
        now: Time,
        refreshed: u32,
        before: &Before,
        name: impl FnOnce(&Settings) -> PhoneName,
        out: &mut Effects,
    ) {
        let missed = self.subscriptions.hear(refreshed);
        let flow = self.subscriptions[refreshed].flow;
        // At another address of ours it may show where others of its keys can be reached that came by that one.
        let has_moved =
            is_elsewhere(&before.flow, &flow) || !self.share_a_listener(&before.flow, &flow);
        if !missed && !has_moved && before.text.is_none() {
            return;
        }
        // Where the Contact names the phone, it has another name now.
        let standing = self.subscriptions.phone(refreshed);
        let name = before.text.as_ref().map(|_| name(&self.settings));
        let name = name.filter(|name| *name != standing && name.identity == standing.identity);
        let mut next = Some(self.subscriptions.first_of_phone(refreshed));
        while let Some(index) = next {
            next = self.subscriptions[index].link.next();
            let mut moved = index == refreshed;
            let mut new_target = false;
            if index != refreshed {
                new_target = self.follow_target(index, refreshed, before);
                let new_flow = self.follow_flow(index, refreshed, Some(before.flow.peer));
                moved = new_target || new_flow;
                self.stats.add(Counter::SubscriptionMoved, u64::from(moved));
                self.catch_up(now, index, moved);
            }
            let name = name.filter(|_| moved);
            if let Some(name) = name {
                self.rename(index, name);
            }
            if moved && index != refreshed {
                self.keep_change(now, index, new_target || name.is_some(), out);
            }
        }
    }

    fn rename(&mut self, index: u32, name: PhoneName) {
        if let Some(timer) = self.subscriptions.rename(index, name) {
            self.wheel.cancel(timer);
        }
        let queued = &mut self.subscriptions[index].queued;
        // It leaves the former phone's line.
        if queued.is_some_and(|place| place.queue == Queue::Line) {
            *queued = None;
            self.queue_again(index, Urgency::FanOut);
        }
    }

    /// A subscription without a route set moves to the flow of its phone's last request: from the flow that this one
    /// came by before, or another port of the same host, or wherever an instance comes from. It never goes back to a
    /// connection that is older than its own.
    fn follow_flow(&mut self, index: u32, heard: u32, before: Option<SocketAddr>) -> bool {
        let (old, new) = (
            self.subscriptions[index].flow,
            self.subscriptions[heard].flow,
        );
        if self.subscriptions[index].is_cut() && new.connection.is_some() {
            // It has no way at all; its phone has one again.
            self.set_flow(index, new);
            return true;
        }
        if !is_elsewhere(&old, &new) || !self.may_share_a_way(index, heard) {
            return false;
        }
        // What is late on a connection that the phone has left, or on one of two that it has, takes nothing along.
        if let (Some(old), Some(new)) = (old.connection, new.connection)
            && !new.is_later_than(old)
        {
            return false;
        }
        let follows = before == Some(old.peer) || self.is_near(index, heard);
        if follows {
            self.set_flow(index, new);
        }
        follows
    }

    /// The way of another dialog of its phone, for one whose own connection has gone: by the newest connection that the
    /// phone has.
    pub(super) fn another_way(&self, index: u32) -> Option<Flow> {
        let mut ways: Option<Flow> = None;
        let mut next = Some(self.subscriptions.first_of_phone(index));
        for _ in 0..limits::KEYS_ASKED_FOR_A_WAY {
            let Some(other) = next else { break };
            next = self.subscriptions[other].link.next();
            let flow = self.subscriptions[other].flow;
            let Some(connection) = flow.connection else {
                continue;
            };
            let lives = other != index && !self.subscriptions[other].is_cut();
            let newest = ways.and_then(|way| way.connection);
            let newer = newest.is_none_or(|newest| connection.is_later_than(newest));
            let gone = self.subscriptions[index].flow.connection == Some(connection);
            if lives
                && newer
                && !gone
                && self.may_share_a_way(index, other)
                && self.is_near(index, other)
            {
                ways = Some(flow);
            }
        }
        ways
    }

    /// Whether what tells one may tell the other: by datagrams or by a connection, directly, as the same address of ours.
    fn may_share_a_way(&self, one: u32, other: u32) -> bool {
        let (way, another) = (self.subscriptions[one].flow, self.subscriptions[other].flow);
        way.connection.is_some() == another.connection.is_some()
            && self.is_routeless(one)
            && self.is_routeless(other)
            && self.share_a_listener(&way, &another)
    }

    /// Whether they come from one host, or from one instance wherever it is.
    fn is_near(&self, one: u32, other: u32) -> bool {
        let (way, another) = (self.subscriptions[one].flow, self.subscriptions[other].flow);
        way.peer.ip() == another.peer.ip() || self.subscriptions.phone(other).by_instance
    }

    fn is_routeless(&self, index: u32) -> bool {
        self.subscriptions[index].text.part(Part::Routes).is_empty()
    }

    fn share_a_listener(&self, one: &Flow, other: &Flow) -> bool {
        let local = |flow: &Flow| {
            let listener = &self.listeners.local(flow.listener)?.listener;
            Some(listener.address(&self.listeners.carry(flow, listener.id)))
        };
        one.listener == other.listener && one.local == other.local || local(one) == local(other)
    }

    /// A subscription that had the Contact which another one of its phone had has its new one too: an edge may write
    /// into it where the phone is.
    fn follow_target(&mut self, index: u32, refreshed: u32, before: &Before) -> bool {
        let Some(former) = &before.text else {
            return false;
        };
        let target = self.subscriptions[refreshed].text.part(Part::Target);
        let text = &self.subscriptions[index].text;
        if text.part(Part::Target) != former.part(Part::Target) {
            return false;
        }
        let Some(text) = text.with_target(target) else {
            return false;
        };
        self.subscriptions[index].text = text;
        true
    }

    /// What a phone that is heard may have missed is told it again.
    fn catch_up(&mut self, now: Time, index: u32, moved: bool) {
        let subscription = &mut self.subscriptions[index];
        if subscription.is_cut() {
            return;
        }
        match subscription.phase {
            Phase::Parked => {
                subscription.owed = Owed::Nothing;
                self.subscriptions.unpark(index);
                self.stats.record(Counter::SubscriptionUnparked);
                self.enqueue(index, Owed::Prompt);
            }
            Phase::Active | Phase::Probed { .. } => {
                let missed = subscription.in_flight.is_some_and(|transaction| {
                    moved || now.since(self.clients.started(transaction)) >= LATE
                });
                if missed {
                    self.enqueue(index, Owed::Prompt);
                }
            }
            // It has asked for the pause, or has been told the end.
            Phase::Silent { .. } | Phase::Terminating(_) => {}
        }
    }

    fn supersede(&mut self, index: u32, out: &mut Effects) {
        match self.settings.rules.subscribe.supersede {
            Supersede::Probe => self.probe(index),
            Supersede::Replace => {
                self.stats.record(Counter::SubscriptionSuperseded);
                self.end(index, out);
            }
            Supersede::Off => {}
        }
    }

    /// Whether two subscriptions of one phone are dialogs of two calls to watch the same.
    fn is_twin(&self, index: u32, fresh: u32) -> bool {
        let (one, other) = (&self.subscriptions[index], &self.subscriptions[fresh]);
        let differs = |part| one.text.part(part) != other.text.part(part);
        one.copy == other.copy
            && one.package == other.package
            && !one.is_terminating()
            && !differs(Part::EventId)
            && differs(Part::CallId)
    }

    /// A NOTIFY that was first sent at `started` was answered, whether or not a newer one has taken its place meanwhile: it
    /// knows the dialog, and is no ghost. What was sent before it was asked proves nothing.
    pub(super) fn proved(&mut self, index: u32, started: Time) {
        let phase = self.subscriptions[index].phase;
        let asked_before =
            matches!(phase, Phase::Probed { until: Some(until) } if started + PROBE >= until);
        if asked_before {
            self.enter(index, Phase::Active);
        }
    }

    /// One NOTIFY with the full state shows whether the phone still knows the dialog. It goes with the changes, so that
    /// what phones are waiting for does not wait for ghosts.
    fn probe(&mut self, index: u32) {
        self.subscriptions.unpark(index);
        match self.subscriptions[index].phase {
            Phase::Probed { .. } | Phase::Terminating(_) => return,
            Phase::Active | Phase::Silent { .. } | Phase::Parked => {}
        }
        self.enter(index, Phase::Probed { until: None });
        self.enqueue(index, Owed::Change);
    }

    /// A NOTIFY has been sent. Where it is the first that asks a possible ghost, its time runs from now on, however long the
    /// window or its phone's turn kept it back; what is sent after it, as for a change, gives it no more.
    pub(super) fn note_asked(&mut self, now: Time, index: u32) {
        if self.subscriptions[index].phase == (Phase::Probed { until: None }) {
            let until = Some(now + PROBE);
            self.enter(index, Phase::Probed { until });
        }
    }

    /// A NOTIFY that was first sent at `started` never left: if it was the one that asked, nobody has been asked.
    pub(super) fn note_unasked(&mut self, index: u32, started: Time) {
        let until = Some(started + PROBE);
        if self.subscriptions[index].phase == (Phase::Probed { until }) {
            self.enter(index, Phase::Probed { until: None });
        }
    }
}

/// Whether two flows lead to different places, or by different connections.
fn is_elsewhere(one: &Flow, other: &Flow) -> bool {
    one.peer != other.peer || one.connection != other.connection
}
