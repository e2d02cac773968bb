//! What outlives the process: a shard gives records out as it changes, and whoever was promised what stands in one
//! waits until it is kept: an answer with its send slot, a reply to the control thread, a subscription with its next
//! NOTIFY. So nothing is promised that a crash could take back, and no CSeq is ever used that is not reserved.
//! It touches no disk: the edge carries the records away and says by mail which of them are kept.

use core::time::Duration;
use std::collections::VecDeque;

use super::Shard;
use super::answer::Outgoing;
use super::deliver::Ticket;
use super::effects::{Destination, Effects};
use super::mail::Mail;
use super::ready::Urgency;
use crate::config::limits;
use crate::partition::Partition;
use crate::state::Touched;
use crate::stats::Counter;
use crate::store::format::{
    HintRecord, Key, Over, PublicationRecord, Record, Standing, SubscriptionRecord, Terms,
    UnixMillis,
};
use crate::subscription::package::Package;
use crate::subscription::record::{Phase, Subscription};
use crate::time::Time;
use crate::transport::Transport;

/// Nobody waits longer than this for a record to be kept: a disk that hangs takes no lamp with it.
const PATIENCE: Duration = Duration::from_secs(2);
/// NOTIFYs that a subscription may send before its next reservation: so many, and up to as many again. Drawn for
/// each, so that 10,000 watchers of one resource do not all need one after the same change.
pub(super) const RESERVED: u32 = 64;

/// What was given out, what of it is kept, and who waits for the rest.
pub(super) struct Journal {
    /// The number of this process among all that wrote into the store; None: nothing is kept.
    incarnation: Option<u32>,
    /// The records that are being put together, or were given out last.
    issued: u64,
    /// All up to these are kept.
    written: u64,
    /// The store has kept somebody waiting for too long: until it is heard again, nobody waits for it.
    late: bool,
    /// This input has put something into a record.
    touched: bool,
    /// In the order in which they may go on.
    held: VecDeque<Held>,
    /// What the compositor says has to be written; empty between steps.
    state: Vec<Touched>,
    /// Records of an earlier process are still being read, or the process ends and is silent: nobody is told anything.
    pub silent: bool,
    /// The store does not have everything: what is not in it does not outlive the process.
    pub degraded: bool,
}

/// Somebody who waits until records up to `serial` are kept.
struct Held {
    serial: u64,
    since: Time,
    waits: Waits,
}

enum Waits {
    Answer(Outgoing),
    Reply(Box<Mail>),
    Subscription(Ticket),
}

impl Journal {
    pub fn new(incarnation: Option<u32>) -> Self {
        Journal {
            incarnation,
            issued: 0,
            written: 0,
            late: false,
            touched: false,
            held: VecDeque::new(),
            state: Vec::new(),
            silent: incarnation.is_some(),
            degraded: false,
        }
    }

    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.incarnation.is_some()
    }

    /// The number of this process.
    pub fn incarnation(&self) -> u32 {
        self.incarnation.unwrap_or(0)
    }

    /// A new input begins; it has promised nothing yet.
    pub fn begin_input(&mut self) {
        self.touched = false;
    }

    /// What was promised before is promised again: it waits for all that is not kept yet.
    pub fn promise_again(&mut self) {
        self.touched = true;
    }

    /// Whether everything that was given out is kept.
    pub fn is_settled(&self) -> bool {
        self.is_kept(self.issued) && self.held.is_empty()
    }

    /// Whether the store has heard of everything that was given out.
    pub fn is_all_written(&self) -> bool {
        self.written >= self.issued
    }

    /// Whether somebody who waits for that record has not gone on yet.
    pub fn holds(&self, serial: u64) -> bool {
        self.held
            .front()
            .is_some_and(|first| serial >= first.serial)
    }

    /// Whether no more answers can wait.
    pub fn is_full(&self) -> bool {
        self.held.len() >= limits::ANSWERS_HELD
    }

    /// How many wait, answers and others.
    pub fn waiting(&self) -> usize {
        self.held.len()
    }

    /// How many answers wait, each with its send slot.
    pub fn answers_held(&self) -> usize {
        let is_answer = |held: &&Held| matches!(held.waits, Waits::Answer(_));
        self.held.iter().filter(is_answer).count()
    }

    /// Whether what this input promises has to wait.
    fn must_wait(&self) -> bool {
        self.touched && !self.is_kept(self.issued)
    }

    /// Whether what went out with this number is kept, or as good as that.
    fn is_kept(&self, serial: u64) -> bool {
        serial <= self.written || self.late
    }

    fn hold(&mut self, now: Time, waits: Waits) {
        self.held.push_back(Held {
            serial: self.issued,
            since: now,
            waits,
        });
    }

    /// When the first of those that wait may go on, if that depends on time alone.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let first = self.held.front()?;
        Some(if self.is_kept(first.serial) {
            now
        } else {
            first.since + PATIENCE
        })
    }
}

impl Shard {
    /// A new subscription is to be found again by a later process, and may send its first NOTIFYs.
    pub(super) fn keep_subscription(&mut self, now: Time, index: u32, out: &mut Effects) {
        if !self.journal.is_on() {
            return;
        }
        let standing = self.reserve(now, index, out);
        let subscription = &self.subscriptions[index];
        let package = Package::from_id(subscription.package);
        let phone = self.subscriptions.phone(index);
        let record = SubscriptionRecord {
            identity: phone.identity,
            device: phone.device,
            by_instance: phone.by_instance,
            slot: subscription.slot,
            first_cseq: subscription.first_cseq,
            way: subscription.way,
            resource: &self.copies.copy(subscription.copy).resource,
            package: package.name,
            content_type: package.type_name(subscription.content_type),
            texts: subscription.text.parts(),
            standing,
        };
        let (partition, check) = (subscription.partition, subscription.check);
        let key = Key::Subscription { partition, check };
        out.records.put(&key, &Record::Subscription(record));
        // It says more than any refresh before it.
        out.records.remove(&Key::Refresh { partition, check });
    }

    /// What a request has changed is written; `whole`: more than the way to the phone and the expiry.
    pub(super) fn keep_change(&mut self, now: Time, index: u32, whole: bool, out: &mut Effects) {
        if !whole {
            self.keep_refresh(now, index, out);
        } else if self.is_kept(index) {
            self.keep_subscription(now, index, out);
        }
    }

    /// What a refresh changes is written, or no more than the next NOTIFYs reserved.
    pub(super) fn keep_refresh(&mut self, now: Time, index: u32, out: &mut Effects) {
        if self.is_kept(index) {
            let standing = self.reserve(now, index, out);
            let key = refresh_key(&self.subscriptions[index]);
            let told = None;
            out.records.put(&key, &Record::Refresh { standing, told });
        }
    }

    /// The last word of a process that ends in order: its successor goes on with the very next CSeq.
    pub(super) fn keep_last(&mut self, now: Time, index: u32, out: &mut Effects) {
        let subscription = &mut self.subscriptions[index];
        if subscription.reserved == u32::MAX || subscription.is_terminating() {
            return;
        }
        subscription.reserved = subscription.cseq;
        let told = self.told(index);
        self.open_records(out);
        let standing = Standing {
            // As if the next process had written it: then it leaves nothing out.
            incarnation: self.journal.incarnation() + 1,
            ..self.standing(now, index)
        };
        let key = refresh_key(&self.subscriptions[index]);
        out.records.put(&key, &Record::Refresh { standing, told });
    }

    /// A subscription has ended: no later process finds it.
    pub(super) fn forget(&mut self, gone: &Subscription, out: &mut Effects) {
        if !self.journal.is_on() || gone.reserved == u32::MAX {
            return;
        }
        self.forget_record(gone.partition, gone.check, out);
    }

    pub(super) fn forget_record(&mut self, partition: Partition, check: u64, out: &mut Effects) {
        self.open_records(out);
        out.records.remove(&Key::Subscription { partition, check });
        out.records.remove(&Key::Refresh { partition, check });
    }

    /// Whether it has a record.
    pub(super) fn is_kept(&self, index: u32) -> bool {
        self.journal.is_on() && self.subscriptions[index].reserved != u32::MAX
    }

    /// Whether the next NOTIFY of a subscription has to wait for a record. Who waits is told when it is kept.
    pub(super) fn must_wait(&mut self, now: Time, index: u32, out: &mut Effects) -> bool {
        let subscription = &self.subscriptions[index];
        let kept = self.journal.is_kept(subscription.awaits);
        if kept && subscription.cseq >= subscription.reserved {
            self.stats.record(Counter::NotifyReserved);
            self.keep_refresh(now, index, out);
        }
        !self.journal.is_kept(self.subscriptions[index].awaits)
    }

    /// Puts an answer out, or holds it until what it promises is kept.
    pub(super) fn send_answer(&mut self, answer: Outgoing, promises: bool, out: &mut Effects) {
        if promises && self.journal.must_wait() {
            self.journal.hold(self.now, Waits::Answer(answer));
        } else {
            self.put_out(answer, out);
        }
    }

    /// The same for a reply to the control thread.
    pub(super) fn send_reply(&mut self, mail: Mail, out: &mut Effects) {
        if self.journal.must_wait() {
            let waits = Waits::Reply(Box::new(mail));
            self.journal.hold(self.now, waits);
        } else {
            self.mail_control(out, mail);
        }
    }

    /// All records up to this number are kept, or as good as their store could do.
    pub(super) fn on_kept(&mut self, now: Time, serial: u64, lost: u64, out: &mut Effects) {
        self.stats.add(Counter::RecordLost, lost);
        self.journal.written = self.journal.written.max(serial);
        self.journal.late = false;
        self.let_go(now, out);
    }

    /// Whoever waited long enough goes on.
    pub(super) fn let_go(&mut self, now: Time, out: &mut Effects) {
        while let Some(first) = self.journal.held.front() {
            if !self.journal.is_kept(first.serial) {
                if now < first.since + PATIENCE {
                    return;
                }
                self.stats.record(Counter::RecordLate);
                self.journal.late = true;
            }
            if out.is_nearly_full() {
                return;
            }
            let Some(first) = self.journal.held.pop_front() else {
                return;
            };
            match first.waits {
                Waits::Answer(answer) => {
                    let answer = answer.carried(&self.listeners);
                    self.put_out(answer, out);
                }
                Waits::Reply(mail) => out.mails.push((Destination::Control, *mail)),
                Waits::Subscription(ticket) => {
                    if let Some(index) = self.user(ticket.number()) {
                        self.queue_again(index, Urgency::Prompt);
                    }
                }
            }
        }
    }

    /// Writes down what the compositor changed.
    pub(super) fn keep_state(&mut self, out: &mut Effects) {
        if !self.compositor.has_touched() {
            return;
        }
        self.open_records(out);
        let mut state = core::mem::take(&mut self.journal.state);
        self.compositor.swap_touched(&mut state);
        for touched in state.drain(..) {
            self.keep_touched(&touched, out);
        }
        self.journal.state = state;
    }

    fn keep_touched(&self, touched: &Touched, out: &mut Effects) {
        let secrets = &self.settings.secrets;
        let records = &mut out.records;
        match touched {
            Touched::Hint(number) => {
                let Some(kept) = self.compositor.kept_hint(*number) else {
                    return;
                };
                let record = HintRecord {
                    order: kept.order,
                    epoch: kept.epoch,
                    arrival: kept.arrival,
                    expires: kept.expires_at.map(|at| self.unix_millis(at)),
                    content: kept.content,
                };
                let key = Key::Hint {
                    partition: secrets.resource(kept.resource),
                    resource: kept.resource,
                    source: kept.source,
                };
                records.put(&key, &Record::Hint(record));
            }
            Touched::HintGone { resource, source } => records.remove(&Key::Hint {
                partition: secrets.resource(resource),
                resource,
                source,
            }),
            Touched::Publication(number) => {
                let Some(kept) = self.compositor.kept_publication(*number) else {
                    return;
                };
                let record = PublicationRecord {
                    resource: kept.resource,
                    arrival: kept.arrival,
                    expires: self.unix_millis(kept.expires_at),
                    content: kept.content,
                    publisher: kept.publisher,
                    asked: kept.asked,
                };
                let (partition, tag) = (secrets.resource(kept.resource), kept.tag.number());
                let key = Key::Publication { partition, tag };
                records.put(&key, &Record::Publication(record));
            }
            Touched::Renewal(number) => {
                let Some(kept) = self.compositor.kept_publication(*number) else {
                    return;
                };
                let expires = self.unix_millis(kept.expires_at);
                let (partition, tag) = (secrets.resource(kept.resource), kept.tag.number());
                let key = Key::Renewal { partition, tag };
                records.put(&key, &Record::Renewal(expires));
            }
            Touched::PublicationGone { resource, tag } => {
                let (partition, tag) = (secrets.resource(resource), tag.number());
                records.remove(&Key::Publication { partition, tag });
                records.remove(&Key::Renewal { partition, tag });
            }
            // Every shard is told of every epoch, and one of them is enough to remember it.
            Touched::Epoch { source, epoch } if self.settings.shard.0 == 0 => {
                records.put(&Key::Epoch { source }, &Record::Epoch(*epoch));
            }
            Touched::EpochGone { source } if self.settings.shard.0 == 0 => {
                records.remove(&Key::Epoch { source });
            }
            Touched::Epoch { .. } | Touched::EpochGone { .. } => {}
        }
    }

    /// Reserves the CSeqs of the next NOTIFYs; none of them is sent before the record that goes out with it is kept.
    fn reserve(&mut self, now: Time, index: u32, out: &mut Effects) -> Standing {
        self.open_records(out);
        let more = RESERVED + self.rng.below(u64::from(RESERVED) + 1) as u32;
        let subscription = &mut self.subscriptions[index];
        let kept = if subscription.reserved == u32::MAX {
            0
        } else {
            subscription.reserved
        };
        subscription.reserved = kept.max(subscription.cseq.saturating_add(more));
        subscription.awaits = self.journal.issued;
        let ticket = Ticket::of(index, subscription);
        self.journal.hold(now, Waits::Subscription(ticket));
        self.standing(now, index)
    }

    fn standing(&self, now: Time, index: u32) -> Standing {
        let subscription = &self.subscriptions[index];
        // What ends has only its last NOTIFY before it: a later process sends that, or nothing.
        let expires_at = match subscription.phase {
            Phase::Terminating(_) => now,
            Phase::Active | Phase::Silent { .. } | Phase::Probed { .. } | Phase::Parked => {
                subscription.expires_at
            }
        };
        let listener = self.listeners.local(subscription.flow.listener);
        // Where the heir of a closed listener has every address, it is known by that of the closed one.
        let flow = match listener {
            Some(local) => self.listeners.carry(&subscription.flow, local.listener.id),
            None => subscription.flow,
        };
        Standing {
            expires: self.unix_millis(expires_at),
            spared_seconds: subscription.spared_seconds,
            over: match listener.map_or(Transport::Udp, |local| local.listener.transport) {
                Transport::Udp => Over::Udp,
                Transport::Tcp => Over::Tcp,
                Transport::Tls => Over::Tls,
                Transport::Ws => Over::Ws,
                Transport::Wss => Over::Wss,
            },
            listener: listener.map_or(flow.peer, |local| local.listener.local),
            local: flow.local,
            peer: flow.peer,
            remote_cseq: subscription.remote_cseq,
            reserved: subscription.reserved,
            incarnation: self.journal.incarnation(),
            terms: Some(Terms {
                source: self.source_of(index),
                rates: subscription
                    .tempo
                    .as_ref()
                    .map_or([None; 3], |tempo| tempo.rates().numbers()),
            }),
        }
    }

    fn unix_millis(&self, at: Time) -> UnixMillis {
        UnixMillis(self.wall.unix_millis(at))
    }

    /// Something is about to be put into the records of this turn.
    pub(super) fn open_records(&mut self, out: &mut Effects) {
        if out.records.is_empty() {
            self.journal.issued += 1;
            out.records.serial = self.journal.issued;
        }
        self.journal.touched = true;
    }
}

fn refresh_key(subscription: &Subscription) -> Key<'static> {
    Key::Refresh {
        partition: subscription.partition,
        check: subscription.check,
    }
}
