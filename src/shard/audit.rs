//! The audit: a look at every subscription, some at a time and for ever, for what must not be. What breaks a rule is
//! counted, told, and put right. It never finds anything, unless there is a bug elsewhere: no state waits for it.
//!
//! A round over all subscriptions takes 64·T1 at most, or a second where there are few; nobody has to ask for it.

use core::time::Duration;

use super::Shard;
use super::deliver::Ticket;
use super::effects::{Effects, Event};
use super::ready::Urgency;
use crate::config::limits;
use crate::stats::Counter;
use crate::subscription::record::{Owed, Phase, Subscription};
use crate::time::{T64, Time};

/// A round takes no longer than this.
const ROUND: Duration = T64;
/// Where a round is shorter than this, the next one begins so much later.
const REST: Duration = Duration::from_secs(1);
/// The wheel rounds up to its tick.
const TICK: Duration = Duration::from_millis(1);

/// What was seen in one round over all subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A newer state is owed.
    pub dirty: u64,
    /// The phone asked for a pause.
    pub silent: u64,
    /// The last NOTIFY is owed or on its way.
    pub terminating: u64,
    /// Nothing has ended it although its time was over long ago.
    pub overdue: u64,
}

/// Rounds, one after the other.
#[derive(Debug, Default)]
pub struct Audit {
    /// Where the present round goes on.
    next: u32,
    /// When it does.
    due: Time,
    present: Seen,
    last: Seen,
    /// What has been told of in the present round: thousands that break one rule are one line.
    told: Vec<Broken>,
}

/// A rule that is broken, in the order in which they are asked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// It should have been gone since its deadline + 64·T1.
    Overdue,
    /// No timer runs for its deadline, or one that is too late.
    Deadline,
    /// The NOTIFY that it waits for is none of its own.
    InFlight,
    /// It stands in no queue, and believes that it does.
    Queue,
    /// Something is owed, and neither a queue nor a record nor a NOTIFY on its way will see to it.
    Lost,
    /// The state that it waits for has been asked of nobody.
    Unasked,
}

impl Broken {
    fn counter(self) -> Counter {
        match self {
            Broken::Overdue => Counter::AuditOverdue,
            Broken::Deadline => Counter::AuditDeadline,
            Broken::InFlight => Counter::AuditInFlight,
            Broken::Queue => Counter::AuditQueue,
            Broken::Lost => Counter::AuditLost,
            Broken::Unasked => Counter::AuditUnasked,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Broken::Overdue => "a subscription outlived its deadline, and was ended",
            Broken::Deadline => "a subscription had no deadline, and has one again",
            Broken::InFlight => {
                "a subscription waited for a NOTIFY that was not its own, and is told anew"
            }
            Broken::Queue => "a subscription stood in no queue and believed that it did",
            Broken::Lost => "what a subscription was owed was forgotten, and is sent now",
            Broken::Unasked => {
                "a subscription waited for a state that nobody was asked for, and is asked for now"
            }
        }
    }
}

impl Shard {
    /// What there is to be seen: of this moment, or with many subscriptions of the last whole round.
    pub(super) fn seen(&self, now: Time) -> Seen {
        if self.subscriptions.is_empty() {
            return Seen::default();
        }
        let last = self.audit.last;
        if self.subscriptions.len() > limits::FIGURES_LOOKS {
            return last;
        }
        let mut seen = Seen::default();
        let mut next = 0;
        while let Some(index) = self.subscriptions.next_from(next) {
            seen.add(now, &self.subscriptions[index]);
            next = index + 1;
        }
        // Whatever is late is none of it until every timer that is due has fired: the audit knows when.
        let overdue = last.overdue;
        Seen { overdue, ..seen }
    }

    /// When the audit goes on, if there is anything to look at.
    pub(super) fn next_look(&self) -> Option<Time> {
        (!self.subscriptions.is_empty()).then_some(self.audit.due)
    }

    /// Looks at some more subscriptions, if it is time to. Every timer that is due must have fired.
    pub(super) fn audit_some(&mut self, now: Time, out: &mut Effects) {
        if self.next_look().is_none_or(|due| now < due) {
            return;
        }
        let steps = self.subscriptions.len().div_ceil(limits::AUDIT_LOOKS) as u32;
        self.audit.due = now + (ROUND / steps).min(REST);
        for _ in 0..limits::AUDIT_LOOKS {
            if out.is_nearly_full() {
                return;
            }
            let Some(index) = self.subscriptions.next_from(self.audit.next) else {
                self.audit.last = core::mem::take(&mut self.audit.present);
                self.audit.told.clear();
                self.audit.next = 0;
                return;
            };
            self.audit.next = index + 1;
            self.audit.present.add(now, &self.subscriptions[index]);
            self.put_right(now, index, out);
        }
    }

    /// Puts right whatever a subscription breaks. One thing may hide another, but each is right once it was put right.
    fn put_right(&mut self, now: Time, index: u32, out: &mut Effects) {
        while let Some(broken) = self.broken(now, index) {
            self.stats.record(broken.counter());
            self.stats.record(Counter::Bug);
            if !self.audit.told.contains(&broken) {
                self.audit.told.push(broken);
                out.events.push(Event::Bug(broken.text()));
            }
            self.mend(now, index, broken, out);
        }
    }

    /// The first rule that a subscription breaks; one that does not live breaks none.
    fn broken(&self, now: Time, index: u32) -> Option<Broken> {
        let subscription = self.subscriptions.get(index)?;
        if is_overdue(now, subscription) {
            return Some(Broken::Overdue);
        }
        let timer = subscription.deadline.and_then(|id| self.wheel.when(id));
        let latest = subscription.next_deadline().max(now) + TICK;
        if timer.is_none_or(|when| when > latest) {
            return Some(Broken::Deadline);
        }
        let user = Ticket::of(index, subscription).number();
        let waits = subscription.in_flight;
        if waits.is_some_and(|transaction| !self.clients.is_sent_for(transaction, user)) {
            return Some(Broken::InFlight);
        }
        let queued = subscription.queued;
        if queued.is_some_and(|place| !self.is_queued(place, index)) {
            return Some(Broken::Queue);
        }
        let has_line = |connection| self.waiting.has_line(connection);
        let has_line = subscription.flow.connection.is_some_and(has_line);
        if subscription.in_line && !has_line && !self.waits_for_name(index) {
            return Some(Broken::Queue);
        }
        let idle =
            queued.is_none() && waits.is_none() && !subscription.in_line && !subscription.is_held();
        let held = self.journal.holds(subscription.awaits);
        if subscription.owed == Owed::Nothing || !subscription.may_notify() || !idle || held {
            return None;
        }
        let copy = self.copies.copy(subscription.copy);
        let asked = copy.asked.and_then(|id| self.wheel.when(id));
        match (&copy.snapshot, asked) {
            (Some(_), _) => Some(Broken::Lost),
            (None, None) => Some(Broken::Unasked),
            (None, Some(_)) => None,
        }
    }

    fn mend(&mut self, now: Time, index: u32, broken: Broken, out: &mut Effects) {
        let subscription = &mut self.subscriptions[index];
        match broken {
            Broken::Overdue => self.end(index, out),
            Broken::Deadline => {
                let when = subscription.next_deadline();
                let timer = subscription.deadline;
                if !timer.is_some_and(|timer| self.wheel.reschedule(timer, when)) {
                    subscription.deadline = None;
                    self.set_deadline(index, when);
                }
            }
            Broken::InFlight => {
                subscription.in_flight = None;
                let told = subscription.owed == Owed::Nothing;
                if subscription.is_terminating() && told {
                    return self.end(index, out);
                }
                subscription.owed = subscription.owed.max(Owed::Change);
                self.queue_again(index, Urgency::Prompt);
            }
            Broken::Queue => {
                subscription.queued = None;
                subscription.in_line = false;
            }
            Broken::Lost => self.queue_again(index, Urgency::Prompt),
            Broken::Unasked => {
                let copy = subscription.copy;
                self.ask_home(now, copy, out);
            }
        }
    }
}

impl Seen {
    fn add(&mut self, now: Time, subscription: &Subscription) {
        self.dirty += u64::from(subscription.owed != Owed::Nothing);
        match subscription.phase {
            Phase::Active | Phase::Probed { .. } | Phase::Parked => {}
            Phase::Silent { .. } => self.silent += 1,
            Phase::Terminating(_) => self.terminating += 1,
        }
        self.overdue += u64::from(is_overdue(now, subscription));
    }
}

/// Its last NOTIFY may take 64·T1 from the deadline on, which are counted in already where it ends, and the wheel a tick.
fn is_overdue(now: Time, subscription: &Subscription) -> bool {
    let last = match subscription.phase {
        Phase::Active | Phase::Silent { .. } | Phase::Probed { .. } | Phase::Parked => T64,
        Phase::Terminating(_) => Duration::ZERO,
    };
    now > subscription.expires_at + last + TICK
}

#[cfg(test)]
mod tests;
