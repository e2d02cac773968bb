//! Dialogs whose next hop is a name: where their NOTIFYs go, which of its addresses does not answer, and who waits until it
//! is known. The control thread looks names up; here nobody waits for it but those who go there, and they end with their
//! deadlines whatever it does.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use super::Shard;
use super::effects::Effects;
use super::mail::{Mail, Resolution};
use super::ready::Urgency;
use super::subscribe::first_route;
use crate::config::limits;
use crate::sip::Uri;
use crate::slab::Slab;
use crate::stats::Counter;
use crate::subscription::outcome::OnTimeout;
use crate::subscription::record::{Owed, Phase};
use crate::subscription::text::Part;
use crate::table::Table;
use crate::time::{T64, Time};
use crate::transport::locate::{Located, Question};
use crate::transport::{Own, may_dial};
use crate::wheel::{Owner, TimerId, Token};

const AGAIN: Duration = Duration::from_secs(limits::NAME_SECONDS_AGAIN);
const NOWHERE: Duration = Duration::from_secs(limits::NAME_SECONDS_NOWHERE);
const STALE: Duration = Duration::from_secs(limits::NAME_SECONDS_STALE);
const LASTS_MIN: Duration = Duration::from_secs(limits::NAME_SECONDS_MIN);
const LASTS_MAX: Duration = Duration::from_secs(limits::NAME_SECONDS_MAX);

/// What is known of names.
pub(super) struct Names {
    entries: Slab<Entry>,
    by_question: Table,
}

struct Entry {
    question: Arc<Question>,
    hash: u64,
    state: State,
    /// In the order in which they are tried.
    targets: Vec<SocketAddr>,
    /// Those of them that have not answered, a bit for each.
    dead: u8,
    /// Whose turn it is where none has.
    turn: u8,
    /// The resolver has not answered when these were to be looked up again: they are good until it does.
    outlived: bool,
    /// Subscriptions that stand in line.
    waiting: Vec<u32>,
    /// Since when nobody knows.
    since: Time,
    timer: Option<TimerId>,
}

/// What its timer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The control thread looks it up; it takes longer than any answer may.
    Asked,
    /// It could not be looked up, and is asked for again.
    Unanswered,
    /// The targets are good; not any more.
    Known,
    /// There is nothing of that name; it may have come.
    Nowhere,
    /// The targets were good; nobody has needed them for long.
    Stale,
}

const _: () = assert!(limits::TARGETS_PER_NAME <= u8::BITS as usize);

impl Entry {
    fn is_dead(&self, number: usize) -> bool {
        self.dead & 1 << number != 0
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Names {
            entries: Slab::with_limit(limits::NAMES_PER_SHARD),
            by_question: Table::new(),
        }
    }

    /// How many names are remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn find(&self, hash: u64, question: &Question) -> Option<u32> {
        let is_it = |index: u32| *self.entries[index].question == *question;
        self.by_question.find(hash, is_it)
    }
}

impl Shard {
    /// Whether the next NOTIFY of a dialog whose next hop is a name has somewhere to go. If not, it stands in line until
    /// that is known, or it has failed.
    pub(super) fn knows_where(&mut self, now: Time, index: u32, out: &mut Effects) -> bool {
        let Some(question) = self.question_of(index) else {
            self.fail_unsent(index, out);
            return false;
        };
        let hash = self.hash_of(&question);
        let Some(at) = self.names.find(hash, &question) else {
            match self.enter_name(now, question, hash) {
                Some(at) => self.look_up(now, at, out),
                None => {
                    self.stats.record(Counter::LimitNames);
                    self.fail_unsent(index, out);
                    return false;
                }
            }
            return self.knows_where(now, index, out);
        };
        let entry = &self.names.entries[at];
        let (state, outlived) = (entry.state, entry.outlived);
        match state {
            State::Known => return true,
            State::Nowhere => {
                self.fail_unsent(index, out);
                return false;
            }
            State::Stale => self.look_up(now, at, out),
            State::Asked | State::Unanswered => {}
        }
        if !outlived {
            self.subscriptions[index].in_line = true;
            let entry = &mut self.names.entries[at];
            if entry.waiting.is_empty() {
                entry.since = now;
            }
            entry.waiting.push(index);
        }
        outlived
    }

    /// Where the next NOTIFY of such a dialog goes; None: nowhere that we may send to.
    pub(super) fn target_of(&self, index: u32) -> Option<SocketAddr> {
        let entry = &self.names.entries[self.name_of(index)?];
        let own = Own {
            listeners: self.listeners.own(),
            flow: &self.subscriptions[index].flow,
        };
        let may = |number: &usize| may_dial(entry.targets[*number], &own).is_ok();
        let mut all = (0..entry.targets.len()).filter(may);
        let chosen = match all.clone().find(|number| !entry.is_dead(*number)) {
            Some(living) => living,
            // None has answered: each in its turn may have come back.
            None => {
                let turn = usize::from(entry.turn) % all.clone().count().max(1);
                all.nth(turn)?
            }
        };
        Some(entry.targets[chosen])
    }

    /// A NOTIFY to this address has failed. Whether there is another one to try, which is done at once: the next ones go
    /// there too, as long as what is known of the name is good.
    //= RFC 3263 4.3
    pub(super) fn tries_next(&mut self, index: u32, failed: SocketAddr) -> bool {
        let Some(at) = self.name_of(index) else {
            return false;
        };
        if self.subscriptions[index].is_terminating() {
            return false;
        }
        let entry = &mut self.names.entries[at];
        if let Some(number) = entry.targets.iter().position(|target| *target == failed) {
            entry.dead |= 1 << number;
            entry.turn = entry.turn.wrapping_add(1);
        }
        let mut all = 0..entry.targets.len();
        if all.all(|number| entry.is_dead(number)) {
            return false;
        }
        self.stats.record(Counter::NameNextTarget);
        self.enqueue(index, Owed::Prompt);
        true
    }

    /// A NOTIFY to this address was answered.
    pub(super) fn answers(&mut self, index: u32, address: SocketAddr) {
        let Some(at) = self.name_of(index) else {
            return;
        };
        let entry = &mut self.names.entries[at];
        if let Some(number) = entry.targets.iter().position(|target| *target == address) {
            entry.dead &= !(1 << number);
        }
    }

    /// Whether a subscription that stands in line does so for a name that is being looked up.
    pub(super) fn waits_for_name(&self, index: u32) -> bool {
        let at = self.name_of(index);
        at.is_some_and(|at| !self.names.entries[at].waiting.is_empty())
    }

    /// The control thread has looked a name up, or could not.
    pub(super) fn on_resolved(&mut self, now: Time, resolution: Resolution, out: &mut Effects) {
        let Resolution {
            question,
            located,
            lasts,
        } = resolution;
        let hash = self.hash_of(&question);
        let Some(at) = self.names.find(hash, &question) else {
            return;
        };
        let entry = &mut self.names.entries[at];
        match located {
            Located::Targets(targets) => {
                self.stats.record(Counter::NameFound);
                entry.targets = targets;
                entry.targets.truncate(limits::TARGETS_PER_NAME);
                entry.dead = 0;
                entry.outlived = false;
                self.set_name(at, State::Known, now + lasts.clamp(LASTS_MIN, LASTS_MAX));
            }
            Located::Nowhere => {
                self.stats.record(Counter::NameNowhere);
                entry.targets.clear();
                entry.outlived = false;
                self.set_name(at, State::Nowhere, now + NOWHERE);
            }
            Located::Unknown => {
                self.stats.record(Counter::NameUnanswered);
                entry.outlived = !entry.targets.is_empty();
                let again = now + if entry.outlived { NOWHERE } else { AGAIN };
                let late = now.since(entry.since) >= T64;
                let outlived = entry.outlived;
                self.set_name(at, State::Unanswered, again);
                match (outlived, late) {
                    (true, _) => {}
                    (false, true) => return self.give_up(at, out),
                    (false, false) => return,
                }
            }
        }
        self.wake_waiting(at);
    }

    pub(super) fn on_name_timer(&mut self, now: Time, at: u32, out: &mut Effects) {
        let entry = &mut self.names.entries[at];
        entry.timer = None;
        let (kept, awaited) = (!entry.targets.is_empty(), !entry.waiting.is_empty());
        match entry.state {
            // The control thread itself does not answer.
            State::Asked if kept => {
                entry.outlived = true;
                self.set_name(at, State::Unanswered, now + NOWHERE);
                self.wake_waiting(at);
            }
            State::Asked => self.give_up(at, out),
            State::Unanswered if awaited => self.look_up(now, at, out),
            State::Known | State::Unanswered if kept => {
                self.set_name(at, State::Stale, now + STALE);
            }
            State::Known | State::Unanswered | State::Nowhere | State::Stale => {
                self.forget_name(at);
            }
        }
    }

    /// A NOTIFY has not been sent, and will not be: it has failed as one that nobody answers.
    pub(super) fn fail_unsent(&mut self, index: u32, out: &mut Effects) {
        self.stats.record(Counter::NotifySendFailed);
        if let Some(transaction) = self.subscriptions[index].in_flight.take() {
            out.released.extend(self.finish(transaction).slot);
        }
        let subscription = &mut self.subscriptions[index];
        let parks = match self.settings.rules.on_timeout {
            OnTimeout::Remove => false,
            OnTimeout::Park => subscription.phase == Phase::Active,
        };
        if subscription.is_terminating() {
            self.end(index, out);
        } else if parks {
            subscription.owed = Owed::Change;
            self.subscriptions.park(index);
            self.stats.record(Counter::SubscriptionParked);
        } else {
            self.end_failed(index, Counter::SubscriptionNotifyFailed, out);
        }
    }

    /// The first hop of a dialog, if it is a name that can be asked for.
    fn question_of(&self, index: u32) -> Option<Question> {
        let subscription = &self.subscriptions[index];
        let target = subscription.text.part(Part::Target);
        let route = first_route(subscription.text.part(Part::Routes), target);
        let uri = route.or_else(|| Uri::parse(target).ok())?;
        let v4 = subscription.flow.peer.ip().to_canonical().is_ipv4();
        Question::of(&uri, v4)
    }

    /// What is known of the name that a dialog's next hop is.
    fn name_of(&self, index: u32) -> Option<u32> {
        if !self.subscriptions[index].flow.is_by_name() {
            return None;
        }
        let question = self.question_of(index)?;
        self.names.find(self.hash_of(&question), &question)
    }

    fn hash_of(&self, question: &Question) -> u64 {
        let port = question.port.unwrap_or(0).to_le_bytes();
        let kind = [u8::from(question.any_transport), u8::from(question.v4)];
        let parts = [question.host.as_bytes(), &port, &kind];
        self.settings.secrets.hash(&parts)
    }

    fn enter_name(&mut self, now: Time, question: Question, hash: u64) -> Option<u32> {
        let entry = Entry {
            question: Arc::new(question),
            hash,
            state: State::Asked,
            targets: Vec::new(),
            dead: 0,
            turn: 0,
            outlived: false,
            waiting: Vec::new(),
            since: now,
            timer: None,
        };
        let at = self.names.entries.insert(entry).ok()?;
        self.names.by_question.insert(hash, at);
        Some(at)
    }

    fn look_up(&mut self, now: Time, at: u32, out: &mut Effects) {
        self.stats.record(Counter::NameAsked);
        let question = Arc::clone(&self.names.entries[at].question);
        self.mail_control(out, Mail::Resolve(question));
        self.set_name(at, State::Asked, now + T64);
    }

    fn set_name(&mut self, at: u32, state: State, when: Time) {
        let entry = &mut self.names.entries[at];
        entry.state = state;
        match entry.timer {
            Some(timer) => assert!(
                self.wheel.reschedule(timer, when),
                "the timer of a name runs"
            ),
            None => {
                let owner = Owner::Name;
                let token = Token { owner, index: at };
                entry.timer = Some(self.wheel.insert(when, token));
            }
        }
    }

    /// Those who stand in line are told what they are owed, or fail.
    fn wake_waiting(&mut self, at: u32) {
        for index in core::mem::take(&mut self.names.entries[at].waiting) {
            if self.leaves_line(index) {
                self.queue_again(index, Urgency::Prompt);
            }
        }
    }

    /// Nobody has answered for as long as a NOTIFY waits for its answer.
    fn give_up(&mut self, at: u32, out: &mut Effects) {
        for index in core::mem::take(&mut self.names.entries[at].waiting) {
            if self.leaves_line(index) {
                self.fail_unsent(index, out);
            }
        }
        self.forget_name(at);
    }

    /// Since it came here it may have ended, or have got another way.
    fn leaves_line(&mut self, index: u32) -> bool {
        let subscription = self.subscriptions.living(index);
        subscription.is_some_and(|subscription| {
            subscription.flow.is_by_name() && core::mem::take(&mut subscription.in_line)
        })
    }

    fn forget_name(&mut self, at: u32) {
        let gone = self.names.entries.remove(at);
        self.names
            .by_question
            .remove(gone.hash, |index| index == at);
        if let Some(timer) = gone.timer {
            self.wheel.cancel(timer);
        }
    }
}
