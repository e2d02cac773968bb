//! Telling watchers: from the queue of those that are owed something to NOTIFYs in send slots.

use super::Shard;
use super::detour::Route;
use super::effects::{Effects, Send, SendTag};
use super::notice::{self, Notice, Shown, Written};
use super::ready::Urgency;
use super::streams::Put;
use crate::arena::{SlotId, SlotSize};
use crate::config::limits;
use crate::notify::tails::TailKey;
use crate::partition::Mark;
use crate::stats::Counter;
use crate::subscription::package::{LeftOut, Package};
use crate::subscription::record::{Owed, Phase, Queued, Subscription};
use crate::time::{T1, Time};
use crate::transport::{ConnectionId, Flow, Lessee};
use crate::wheel::{Owner, Token};

/// How long to wait where no send slot or transaction is free.
const STALL: core::time::Duration = core::time::Duration::from_millis(20);

/// What became of a NOTIFY that was to be sent.
enum Attempt {
    Sent,
    /// No slot or transaction is free: try again later.
    NoRoom,
    /// It fits into no slot.
    TooLarge,
    /// Its connection is no more.
    Gone(ConnectionId),
    /// Its next hop is a name, and none of its addresses may be sent to.
    Nowhere,
    /// It is too large for a datagram, and its phone has this connection.
    Detour(Flow),
}

impl Shard {
    /// Whether somebody could be told right now.
    pub(super) fn may_deliver(&self) -> bool {
        let open = || self.window.is_open(self.clients.young());
        let next = || self.ready.has_next(self.may_doubted());
        !self.stalled && !self.journal.silent && (self.waiting.is_ready() || (next() && open()))
    }

    /// Whether phones have a turn that are not known to answer.
    fn may_doubted(&self) -> bool {
        let young = self.clients.young_doubted();
        self.window.is_open_for_doubted(young)
    }

    /// Tells as many as the window and the effects have room for.
    pub(super) fn deliver(&mut self, now: Time, out: &mut Effects) {
        self.tell_waiting(now, out);
        let mut held_back = 0;
        while self.may_deliver() && !out.is_nearly_full() {
            let doubted = self.may_doubted();
            let Some((index, place)) = self.ready.pop(doubted) else {
                break;
            };
            if doubted || !self.hold_doubted(index, place) {
                self.tell(now, index, place, out);
                continue;
            }
            // The rest is looked at in the next step.
            held_back += 1;
            if held_back == limits::HELD_BACK_PER_STEP {
                break;
            }
        }
        if self.ready.is_empty() {
            self.ready.shrink();
        }
    }

    /// Lets others go before a phone that is not known to answer. False: it is, or it does not stand there any more.
    fn hold_doubted(&mut self, index: u32, place: Queued) -> bool {
        let stands = |subscription: &mut Subscription| subscription.queued == Some(place);
        if !self.subscriptions.living(index).is_some_and(stands)
            || self.subscriptions.is_answering(index)
        {
            return false;
        }
        self.subscriptions[index].queued = Some(self.ready.hold(place.queue, index));
        true
    }

    /// Puts a subscription in the queue for what it is owed.
    pub(super) fn enqueue(&mut self, index: u32, owed: Owed) {
        let subscription = &mut self.subscriptions[index];
        let more = owed > subscription.owed;
        subscription.owed = subscription.owed.max(owed);
        // What waits in the slower queue and has become prompt goes into the faster one: its old place says nothing any more.
        // Who stands in line for a connection is told what it is owed by then.
        let waits = subscription.queued.is_some() && !more || subscription.in_line;
        if subscription.may_notify() && !waits {
            let urgency = match subscription.owed {
                Owed::Nothing => return,
                Owed::Change | Owed::Due => Urgency::FanOut,
                Owed::Prompt => Urgency::Prompt,
            };
            subscription.queued = Some(self.ready.push(urgency, index));
        }
    }

    /// Puts a subscription back in a queue for what it is owed already.
    pub(super) fn queue_again(&mut self, index: u32, urgency: Urgency) {
        let subscription = &mut self.subscriptions[index];
        let owed = subscription.owed != Owed::Nothing;
        let waits = subscription.queued.is_some() || subscription.in_line;
        if owed && !waits && subscription.may_notify() {
            subscription.queued = Some(self.ready.push(urgency, index));
        }
    }

    /// Sends a subscription what it is owed, unless it has to wait.
    fn tell(&mut self, now: Time, index: u32, place: Queued, out: &mut Effects) {
        let Some(subscription) = self.subscriptions.living(index) else {
            return;
        };
        if subscription.queued == Some(place) {
            subscription.queued = None;
            self.tell_now(now, index, out);
        }
    }

    /// The same for one that stands in no queue any more.
    pub(super) fn tell_now(&mut self, now: Time, index: u32, out: &mut Effects) {
        let subscription = &mut self.subscriptions[index];
        if subscription.owed == Owed::Nothing || !subscription.may_notify() {
            return;
        }
        if self.copies.copy(subscription.copy).snapshot.is_none() {
            return;
        }
        if self.knows(index) {
            self.subscriptions[index].owed = Owed::Nothing;
            return;
        }
        if self.subscriptions[index].is_cut() {
            return self.on_cut(now, index, out);
        }
        if self.stands_in_line(index) || self.must_wait(now, index, out) {
            return;
        }
        let subscription = &mut self.subscriptions[index];
        if let Some(transaction) = subscription.in_flight {
            let young = now.since(self.clients.started(transaction)) < T1;
            if young && subscription.owed < Owed::Prompt {
                return;
            }
        }
        if self.must_hold(now, index) {
            return;
        }
        if self.subscriptions[index].flow.is_by_name() && !self.knows_where(now, index, out) {
            return;
        }
        let subscription = &self.subscriptions[index];
        if subscription.owed == Owed::Change && !self.may_tell_change(now, index) {
            return;
        }
        let subscription = &mut self.subscriptions[index];
        if let Some(transaction) = subscription.in_flight {
            subscription.in_flight = None;
            let slot = self.clients.replace(transaction, &mut self.wheel);
            out.released.extend(slot);
            self.stats.record(Counter::NotifyReplaced);
        }
        match self.send_notify(now, index, out) {
            Attempt::Sent => {}
            Attempt::NoRoom => {
                self.stats.record(Counter::NotifyPostponed);
                let place = self.ready.push(Urgency::Prompt, index);
                self.subscriptions[index].queued = Some(place);
                self.stall(now);
            }
            Attempt::Gone(connection) => self.on_gone(now, connection, out),
            Attempt::Nowhere => self.fail_unsent(index, out),
            Attempt::TooLarge | Attempt::Detour(_) => {
                self.stats.record(Counter::NotifySendFailed);
                self.stats.record(Counter::SubscriptionNotifyFailed);
                self.end(index, out);
            }
        }
    }

    /// Nothing is told until the wheel says so.
    fn stall(&mut self, now: Time) {
        if !self.stalled {
            self.stalled = true;
            self.wheel.insert(
                now + STALL,
                Token {
                    owner: Owner::Shard,
                    index: 0,
                },
            );
        }
    }

    //= RFC 3261 18.1.1
    fn send_notify(&mut self, now: Time, index: u32, out: &mut Effects) -> Attempt {
        let usual = self.send_notify_by(now, index, Route::Usual, out);
        let Attempt::Detour(flow) = usual else {
            return usual;
        };
        match self.send_notify_by(now, index, Route::By(flow), out) {
            Attempt::Sent => Attempt::Sent,
            // What can be said by a datagram is said by one.
            Attempt::NoRoom
            | Attempt::TooLarge
            | Attempt::Gone(_)
            | Attempt::Nowhere
            | Attempt::Detour(_) => self.send_notify_by(now, index, Route::Trimmed, out),
        }
    }

    fn send_notify_by(
        &mut self,
        now: Time,
        index: u32,
        route: Route,
        out: &mut Effects,
    ) -> Attempt {
        let mut attempt = Attempt::TooLarge;
        for size in [SlotSize::Small, SlotSize::Large] {
            let Some(slot) = self.arena.take(size) else {
                self.stats.record(Counter::LimitSendSlots);
                return Attempt::NoRoom;
            };
            attempt = self.send_notify_in(now, index, route, slot, out);
            match attempt {
                Attempt::Sent => return Attempt::Sent,
                Attempt::NoRoom | Attempt::Gone(_) | Attempt::Nowhere | Attempt::Detour(_) => {
                    self.arena.release(slot);
                    return attempt;
                }
                Attempt::TooLarge => self.arena.release(slot),
            }
        }
        attempt
    }

    fn send_notify_in(
        &mut self,
        now: Time,
        index: u32,
        route: Route,
        slot: SlotId,
        out: &mut Effects,
    ) -> Attempt {
        let subscription = &self.subscriptions[index];
        let user = Ticket::of(index, subscription);
        let partition = subscription.partition;
        let mut flow = match route {
            Route::Usual | Route::Trimmed => subscription.flow,
            Route::By(flow) => flow,
        };
        let Some(home) = self.listeners.home(flow.listener) else {
            return Attempt::TooLarge;
        };
        if home != flow.listener {
            flow = self.listeners.carry(&flow, home);
            if !matches!(route, Route::By(_)) {
                self.subscriptions[index].flow = flow;
            }
        }
        if flow.is_by_name() {
            match self.target_of(index) {
                Some(target) => flow.peer = target,
                None => return Attempt::Nowhere,
            }
        }
        let check = self.rng.next_u64();
        // What goes by a connection is not sent again, and its slot is free after this turn.
        let kept = flow.connection.is_none().then_some(slot);
        let Some(mark) = self.clients.begin(
            now,
            partition,
            check,
            user.number(),
            kept,
            flow,
            &mut self.wheel,
        ) else {
            self.stats.record(Counter::LimitClientTransactions);
            return Attempt::NoRoom;
        };
        if !self.subscriptions.is_answering(index) {
            self.clients.doubt(mark.slot);
        }
        self.listeners.take(home, Lessee::Client);
        let Some(written) = self.write_notify(now, index, flow, mark, slot) else {
            self.finish(mark.slot);
            return Attempt::TooLarge;
        };
        if route == Route::Usual
            && flow.connection.is_none()
            && written.is_oversize()
            && let Some(other) = self.detour(index)
        {
            self.finish(mark.slot);
            return Attempt::Detour(other);
        }
        self.arena.set_len(slot, written.length);
        let tag = send_tag(mark);
        match flow.connection {
            None => out.sends.push(Send {
                slot,
                listener: flow.listener,
                source: flow.local,
                peer: flow.peer,
                tag,
            }),
            Some(connection) => {
                let put = self.put(now, connection, slot, tag, out);
                let attempt = match put {
                    Put::Done => None,
                    Put::NoRoom => Some(Attempt::NoRoom),
                    Put::Gone => Some(Attempt::Gone(connection)),
                };
                if let Some(attempt) = attempt {
                    self.finish(mark.slot);
                    return attempt;
                }
                out.released.push(slot);
            }
        }
        self.stats.record(Counter::NotifySent);
        if let Some(counter) = counter(route, flow, &written) {
            self.stats.record(counter);
        }
        if let Route::By(_) = route {
            self.begin_detour(flow, index);
        }
        let subscription = &mut self.subscriptions[index];
        subscription.cseq += 1;
        subscription.in_flight = Some(mark.slot);
        subscription.owed = Owed::Nothing;
        // The documents that a phone sees are numbered without a gap.
        subscription.first_cseq += u32::from(subscription.bodiless);
        subscription.bodiless = false;
        self.note_asked(now, index);
        self.keep_tempo(now, index);
        Attempt::Sent
    }

    /// Writes the next NOTIFY of a subscription into a slot; None: it does not fit.
    fn write_notify(
        &mut self,
        now: Time,
        index: u32,
        flow: Flow,
        branch: Mark,
        slot: SlotId,
    ) -> Option<Written> {
        let subscription = &self.subscriptions[index];
        let copy = self.copies.copy(subscription.copy);
        let snapshot = copy
            .snapshot
            .as_ref()
            .expect("nobody is told of what is not known");
        let package = Package::from_id(subscription.package);
        let listener = self.listeners.local(flow.listener)?;
        // The next request of the dialog comes by its own way.
        let contact = self.listeners.contact(subscription.flow.listener)?;
        let notice = Notice {
            subscription,
            tag: subscription.tag(),
            branch,
            package,
            flow,
            listener,
            contact,
            contact_flow: self
                .listeners
                .carry(&subscription.flow, contact.listener.id),
            seconds_left: seconds_left(subscription, now),
        };
        let (tails, stats, settings) = (&mut self.tails, &mut self.stats, &self.settings);
        let room = match flow.connection {
            None => limits::NOTIFY_BYTES,
            Some(_) => SlotSize::Large.bytes(),
        };
        notice::write(&notice, self.arena.buffer(slot), room, |room| {
            let (profile, options) = settings.rules.render.within(room);
            let key = TailKey {
                identity: copy.identity,
                version: snapshot.version(package.aspect),
                package: subscription.package.0,
                content_type: subscription.content_type.0,
                profile,
            };
            tails.tail(key, || {
                stats.record(Counter::DocumentRendered);
                let content_type = subscription.content_type;
                let tail = package.tail(content_type, &copy.resource, snapshot, &options);
                let parts: [&[u8]; 3] = [
                    b"state",
                    package.type_name(content_type).as_bytes(),
                    &tail.bytes,
                ];
                let tag = settings.secrets.hash(&parts);
                Shown::new(tail, tag)
            })
        })
    }
}

impl Shard {
    /// The entity tag of what a subscription would be told now; None: that is not known yet, or there is no slot to see it in.
    pub(super) fn entity_tag(&mut self, now: Time, index: u32) -> Option<u64> {
        let subscription = &self.subscriptions[index];
        self.copies.copy(subscription.copy).snapshot.as_ref()?;
        let (flow, branch) = (subscription.flow, subscription.tag());
        let slot = self.arena.take(SlotSize::Large)?;
        let written = self.write_notify(now, index, flow, branch, slot);
        self.arena.release(slot);
        written.map(|written| written.tag)
    }
}

/// What became of a NOTIFY that is too large for a datagram.
fn counter(route: Route, flow: Flow, written: &Written) -> Option<Counter> {
    if let Route::By(_) = route {
        return Some(Counter::OversizeByConnection);
    }
    if flow.connection.is_some() {
        return None;
    }
    if written.head > limits::NOTIFY_BYTES {
        return Some(Counter::OversizeHeaders);
    }
    if written.length > limits::NOTIFY_BYTES {
        return Some(Counter::OversizeSent);
    }
    match written.left_out {
        LeftOut::Nothing => None,
        LeftOut::Details => Some(Counter::OversizeDetails),
        LeftOut::Others => Some(Counter::OversizeOthers),
    }
}

/// What Subscription-State says; nothing is left of what is ending.
fn seconds_left(subscription: &Subscription, now: Time) -> u32 {
    match subscription.phase {
        Phase::Active | Phase::Silent { .. } | Phase::Probed { .. } | Phase::Parked => {
            subscription.seconds_left(now)
        }
        Phase::Terminating(_) => 0,
    }
}

/// Names a record whose number may be used again: the check value tells whether it is still the same one.
/// As one number it is what a client transaction knows of its subscription, and a send of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub index: u32,
    pub check: u32,
}

impl Ticket {
    /// The one that its client transactions know a subscription by.
    pub fn of(index: u32, subscription: &Subscription) -> Ticket {
        Ticket {
            index,
            check: subscription.check as u32,
        }
    }

    pub fn number(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.check)
    }

    pub fn from_number(number: u64) -> Ticket {
        Ticket {
            index: (number >> 32) as u32,
            check: number as u32,
        }
    }
}

/// Names a client transaction in a send.
pub(super) fn send_tag(mark: Mark) -> SendTag {
    let ticket = Ticket {
        index: mark.slot,
        check: mark.check as u32,
    };
    SendTag(ticket.number())
}
