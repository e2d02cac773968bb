//! Records of an earlier process become what they were: through the same tables, timers and lists as what is new.
//! What cannot be believed is named and left to whoever read it; what is over is forgotten.

use core::hash::{Hash, Hasher};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::Shard;
use super::control::{Answer, Aside};
use super::effects::Effects;
use super::journal::RESERVED;
use super::quotas;
use crate::hint::{Aspect, CallState, ResourceKey};
use crate::partition::Partition;
use crate::state::{EntityTag, KeptHint, KeptPublication};
use crate::stats::Counter;
use crate::store::RestartNotify;
use crate::store::format::{
    Fault, HintRecord, Key, Over, PublicationRecord, Record, Standing, SubscriptionRecord,
    UnixMillis, put_calls, put_mailbox, put_presence,
};
use crate::store::records::Records;
use crate::subscription::connections::Carried;
use crate::subscription::package::{self, ContentTypeId, Package};
use crate::subscription::phones::{Link, PhoneName};
use crate::subscription::record::{Owed, Phase, Reason, Subscription};
use crate::subscription::tempo::{Rates, Tempo};
use crate::subscription::text::{Part, Text};
use crate::time::{T64, Time};
use crate::transport::{ConnectionId, Flow, Transport};

/// NOTIFYs for which no reservation has to be written after a start: each process has so many of its own in every
/// dialog, so that a million subscriptions that are told of a restart write no record.
const SHARE: u32 = 64;
/// So far ahead does each process begin of where the one before may have been by the last record that is left of it.
/// What it sent after that in its share, and under a last reservation that a power loss took back, lies between.
const SKIP: u32 = SHARE + 2 * RESERVED;
/// A dialog that has come so far is over: CSeq ends at 2^31 (RFC 3261 8.1.1.5).
const CSEQ_MAX: u32 = (1 << 31) - (1 << 24);

/// What has changed since a record was written, until that record comes.
#[derive(Default)]
pub(super) struct Since {
    refresh: Option<(Partition, u64, Standing, Option<u64>)>,
    renewal: Option<(Partition, u64, UnixMillis)>,
    /// By subscription: the check value of its tag, and the state that it has taken, until it is its turn to be told.
    told: BTreeMap<u32, (u64, u64)>,
}

/// What became of one record.
enum Outcome {
    Kept,
    /// Its time was over.
    Gone,
}

impl Shard {
    pub(super) fn restore(&mut self, now: Time, records: &Records, out: &mut Effects) -> Answer {
        let (mut kept, mut gone, mut aside) = (0, 0, Vec::new());
        self.may_ask_again(now);
        for (name, value) in records.iter() {
            let key = Key::read(name);
            let record = key.and_then(|key| {
                let record = Record::read(&key, value.unwrap_or(&[]))?;
                self.restore_one(now, &key, record, out)
            });
            match record {
                Ok(Outcome::Kept) => kept += 1,
                Ok(Outcome::Gone) => gone += 1,
                Err(fault) => aside.push(Aside {
                    key: name.into(),
                    fault,
                }),
            }
        }
        self.stats.add(Counter::RecordRestored, kept);
        self.stats.add(Counter::RecordExpired, gone);
        self.stats.add(Counter::RecordAside, aside.len() as u64);
        Answer::Restored { kept, gone, aside }
    }

    fn restore_one(
        &mut self,
        now: Time,
        key: &Key<'_>,
        record: Record<'_>,
        out: &mut Effects,
    ) -> Result<Outcome, Fault> {
        match (*key, record) {
            (Key::Epoch { source }, Record::Epoch(epoch)) => {
                let source = Arc::from(source);
                let state = &mut self.compositor;
                let restored = state.restore_epoch(now, &source, epoch, &mut self.wheel);
                restored.map(|()| Outcome::Kept).map_err(|_| FULL)
            }
            (
                Key::Hint {
                    resource, source, ..
                },
                Record::Hint(hint),
            ) => self.restore_hint(now, resource, source, hint),
            (Key::Renewal { partition, tag }, Record::Renewal(expires)) => {
                self.since.renewal = Some((partition, tag, expires));
                Ok(Outcome::Kept)
            }
            (Key::Publication { partition, tag }, Record::Publication(publication)) => {
                self.restore_publication(now, partition, tag, publication)
            }
            (Key::Refresh { partition, check }, Record::Refresh { standing, told }) => {
                self.since.refresh = Some((partition, check, standing, told));
                Ok(Outcome::Kept)
            }
            (Key::Subscription { partition, check }, Record::Subscription(subscription)) => {
                self.restore_subscription(now, partition, check, &subscription, out)
            }
            // It is the control thread's.
            (Key::Incarnation, _) => Err(Fault::Key),
            (
                Key::Epoch { .. }
                | Key::Hint { .. }
                | Key::Renewal { .. }
                | Key::Publication { .. }
                | Key::Refresh { .. }
                | Key::Subscription { .. },
                _,
            ) => unreachable!("a record is read as what its key says"),
        }
    }

    fn restore_hint(
        &mut self,
        now: Time,
        resource: &str,
        source: &str,
        hint: HintRecord<'_>,
    ) -> Result<Outcome, Fault> {
        let kept = KeptHint {
            resource: &ResourceKey::from(resource),
            source: &Arc::from(source),
            order: hint.order,
            epoch: hint.epoch,
            arrival: hint.arrival,
            expires_at: hint.expires.map(|at| self.time_of(at)),
            content: hint.content,
        };
        let restored = self.compositor.restore_hint(now, kept, &mut self.wheel);
        restored.map(|()| Outcome::Kept).map_err(|_| FULL)
    }

    fn restore_publication(
        &mut self,
        now: Time,
        partition: Partition,
        tag: u64,
        publication: PublicationRecord<'_>,
    ) -> Result<Outcome, Fault> {
        let renewed = self
            .since
            .renewal
            .take()
            .filter(|(of, name, _)| (*of, *name) == (partition, tag));
        let expires = renewed.map_or(publication.expires, |(_, _, expires)| expires);
        let kept = KeptPublication {
            resource: &ResourceKey::from(publication.resource),
            tag: EntityTag::from_number(tag),
            arrival: publication.arrival,
            expires_at: self.time_of(expires),
            content: Cow::Owned(publication.content.into_owned()),
            publisher: publication.publisher,
            asked: publication.asked,
        };
        let restored = self
            .compositor
            .restore_publication(now, kept, &mut self.wheel);
        restored.map(|()| Outcome::Kept).map_err(|_| FULL)
    }

    fn restore_subscription(
        &mut self,
        now: Time,
        partition: Partition,
        check: u64,
        record: &SubscriptionRecord<'_>,
        out: &mut Effects,
    ) -> Result<Outcome, Fault> {
        let refreshed = self
            .since
            .refresh
            .take()
            .filter(|(of, name, _, _)| (*of, *name) == (partition, check))
            .map(|(_, _, standing, told)| (standing, told))
            .filter(|(refresh, _)| !refresh.is_outdated_by(&record.standing));
        let (standing, told) = refreshed.unwrap_or((record.standing, None));
        let package = package::by_name(record.package.as_bytes()).ok_or(Fault::Value("package"))?;
        let content_type = type_of(package, record.content_type)?;
        let text = Text::new(record.texts).ok_or(Fault::Value("text"))?;
        let flow = self.flow_of(&standing)?;
        let cseq = self.cseq_after(&standing);
        let expires_at = self.time_of(standing.expires);
        // Nobody waits any more for the end of what ended so long ago.
        if expires_at + T64 <= now || cseq >= CSEQ_MAX {
            self.forget_record(partition, check, out);
            return Ok(Outcome::Gone);
        }
        let phone = PhoneName {
            identity: record.identity,
            device: record.device,
            by_instance: record.by_instance,
            is_shared: self.settings.is_shared(text.part(Part::Remote)),
        };
        let copy = self.copy_of(now, record.resource, out).ok_or(FULL)?;
        let domain = quotas::domain_of(record.resource);
        let held = match standing.terms {
            Some(terms) => self.hold_named(terms.source, domain),
            // Where the phone's last request came from is where it is reached, unless a proxy stands before it.
            None => self.hold(standing.peer.ip(), domain),
        };
        let rates = standing.terms.map_or([None; 3], |terms| terms.rates);
        let rates = Rates::from_numbers(rates);
        let subscription = Subscription {
            text,
            flow,
            expires_at,
            check,
            slot: record.slot,
            link: Link::NOWHERE,
            carried: Carried::NOWHERE,
            phase: Phase::Active,
            owed: Owed::Nothing,
            queued: None,
            in_line: false,
            bodiless: false,
            package: package.id,
            content_type,
            partition,
            spared_seconds: standing.spared_seconds,
            copy,
            position: 0,
            cseq,
            first_cseq: record.first_cseq,
            reserved: cseq + SHARE / 2 + self.rng.below(u64::from(SHARE / 2) + 1) as u32,
            awaits: 0,
            remote_cseq: standing.remote_cseq,
            way: record.way,
            in_flight: None,
            tempo: (!rates.is_empty()).then(|| Box::new(Tempo::new(rates))),
            source: held.source,
            domain: held.domain,
            deadline: None,
        };
        let Some(index) = self.place(phone, subscription) else {
            self.let_hold_go(held);
            self.drop_copy_if_unwatched(copy, out);
            return Err(FULL);
        };
        if expires_at <= now {
            self.stats.record(Counter::SubscriptionTimeout);
            self.terminate(now, index, Reason::Timeout);
        } else {
            if let Some(told) = told
                && self.settings.restart_notify == RestartNotify::Changed
                && standing.incarnation == self.journal.incarnation()
            {
                self.since.told.insert(index, (check, told));
            }
            self.enqueue(index, Owed::Change);
        }
        Ok(Outcome::Kept)
    }

    /// The state that a watcher has taken and waits for no other, as a number; what it would be told is a part of it.
    pub(super) fn told(&self, index: u32) -> Option<u64> {
        let subscription = &self.subscriptions[index];
        let is_settled = subscription.phase == Phase::Active
            && subscription.owed == Owed::Nothing
            && subscription.in_flight.is_none()
            && subscription.cseq >= subscription.first_cseq;
        is_settled.then(|| self.state_of(index)).flatten()
    }

    /// Whether it is its turn after a restart, and nothing is to be told that it does not know.
    pub(super) fn knows(&mut self, index: u32) -> bool {
        if self.since.told.is_empty() {
            return false;
        }
        let subscription = &self.subscriptions[index];
        let (check, owed, phase) = (subscription.check, subscription.owed, subscription.phase);
        let Some((of, told)) = self.since.told.remove(&index) else {
            return false;
        };
        // Whether a possible ghost knows anything is to be shown.
        let is_asked = phase != Phase::Active;
        let knows =
            of == check && owed == Owed::Change && !is_asked && self.state_of(index) == Some(told);
        self.stats.add(Counter::NotifySpared, u64::from(knows));
        knows
    }

    /// Calls that have ended are remembered for a while, and not by the next process: they say nothing here.
    fn state_of(&self, index: u32) -> Option<u64> {
        let subscription = &self.subscriptions[index];
        let copy = self.copies.copy(subscription.copy);
        let snapshot = copy.snapshot.as_ref()?;
        let package = Package::from_id(subscription.package);
        let mut bytes = Vec::new();
        match package.aspect {
            Aspect::Dialogs => {
                let calls = snapshot.dialogs.content.iter();
                let live = calls.filter(|call| call.state != CallState::Terminated);
                put_calls(live, &mut bytes);
            }
            Aspect::Presence => put_presence(&snapshot.presence.content, &mut bytes),
            Aspect::Mailbox => put_mailbox(snapshot.mailbox.content.as_deref(), &mut bytes),
        }
        let mut hasher = SipHasher13::new_with_key(b"lampfield record");
        bytes.hash(&mut hasher);
        package
            .type_name(subscription.content_type)
            .hash(&mut hasher);
        self.settings.rules.render.hash(&mut hasher);
        Some(hasher.finish())
    }

    /// When that is that an earlier process has written. Where its clock was ahead of ours, what had an hour left then has no
    /// more now.
    fn time_of(&self, at: UnixMillis) -> Time {
        let back = self.settings.clock_back.as_millis() as u64;
        self.wall.time(at.0.saturating_sub(back))
    }

    /// The CSeq that no process before this one has gone beyond.
    fn cseq_after(&self, standing: &Standing) -> u32 {
        let now = self.journal.incarnation();
        let processes = now.saturating_sub(standing.incarnation);
        standing
            .reserved
            .saturating_add(processes.saturating_mul(SKIP))
    }

    /// The listener of that address, or one that reaches the same kind of address.
    fn flow_of(&self, standing: &Standing) -> Result<Flow, Fault> {
        let transport = match standing.over {
            Over::Udp => Transport::Udp,
            Over::Tcp => Transport::Tcp,
            Over::Tls => Transport::Tls,
            Over::Ws => Transport::Ws,
            Over::Wss => Transport::Wss,
        };
        let addresses = self.listeners.own();
        let same = addresses.iter().find(|listener| {
            listener.local == standing.listener && listener.transport == transport
        });
        let listener = same
            .or_else(|| {
                addresses
                    .iter()
                    .filter(|listener| listener.transport == transport)
                    .find(|listener| listener.local.is_ipv4() == standing.peer.is_ipv4())
            })
            .ok_or(Fault::Value("listener"))?;
        // What was reached at one address may be listened on with all others today.
        let own = Some(standing.listener.ip()).filter(|own| !own.is_unspecified());
        let local = standing.local.or(own).filter(|_| listener.wildcard);
        if listener.wildcard && local.is_none() {
            return Err(Fault::Value("listener"));
        }
        Ok(Flow {
            listener: listener.id,
            local,
            peer: standing.peer,
            // No connection outlives its process: what went by one waits for its phone.
            connection: transport.is_stream().then_some(ConnectionId::FORMER),
        })
    }
}

/// There is no room for what it says; it stays where it is.
const FULL: Fault = Fault::Value("place");

fn type_of(package: &Package, name: &str) -> Result<ContentTypeId, Fault> {
    let place = package.types.iter().position(|known| *known == name);
    let place = place.ok_or(Fault::Value("content type"))?;
    Ok(ContentTypeId(place as u8))
}
