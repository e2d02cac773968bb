//! What a shard takes on of what it is asked for, and how it refuses the rest. It is decided before anybody's
//! credentials are looked at and before anything is made, and a refusal keeps nothing.

use super::Shard;
use super::admission::{Class, Measure, Work};
use super::alarms::Asker;
use super::answer::{Refused, With};
use super::lane::Lane;
use crate::sip::{Method, Name, Request};
use crate::stats::Counter;
use crate::subscription::read::asked_seconds;
use crate::time::Time;
use crate::transport::Flow;

impl Shard {
    /// Refuses what this shard has no room for now.
    pub(super) fn take_on(
        &mut self,
        now: Time,
        request: &Request<'_>,
        flow: &Flow,
    ) -> Result<(), Refused> {
        if self.journal.is_full() {
            return Err(self.limited(Counter::LimitAnswersHeld, request, flow));
        }
        let class = self.class_of(request, flow);
        if class == Class::Standing {
            return Ok(());
        }
        let subscribes = request.method == Method::Subscribe;
        if subscribes && self.drain.is_some() {
            return Err(self.stopping(request, flow));
        }
        if subscribes && self.subscriptions.len() >= self.settings.subscriptions_max {
            return Err(self.limited(Counter::LimitSubscriptions, request, flow));
        }
        self.weigh(now);
        if class.is_refused_at(self.admission.level()) {
            let because = self.admission.because();
            self.stats.record(refused(class, because));
            return Err(self.busy(request, flow));
        }
        Ok(())
    }

    /// Whether another shard, for which so much waits already, should not be bothered with this.
    pub(super) fn is_too_much_to_forward(
        &self,
        request: &Request<'_>,
        flow: &Flow,
        lane: &Lane,
    ) -> bool {
        let acts = matches!(request.method, Method::Subscribe | Method::Publish);
        lane.is_long() && acts && self.class_of(request, flow) != Class::Standing
    }

    /// Looks at what waits.
    pub(super) fn weigh(&mut self, now: Time) {
        let work = Work {
            notifies: self.ready.prompt_len(),
            answers: self.journal.waiting(),
            slots: self.arena.leased(),
            transactions: self.clients.len(),
        };
        self.admission.weigh(now, work);
    }

    pub(super) fn class_of(&self, request: &Request<'_>, flow: &Flow) -> Class {
        let stands = match request.method {
            Method::Publish => request.message.has(Name::SipIfMatch),
            _ => request.to_tag.is_some(),
        };
        if stands {
            return Class::Standing;
        }
        if request.method == Method::Subscribe && matches!(asked_seconds(request), Ok(Some(0))) {
            return Class::Fetch;
        }
        let gate = self.listeners.gate(flow.listener);
        let policy = &self.settings.rules.policy;
        if !request.message.has(Name::Authorization) && policy.wants_proof(gate, flow.peer.ip()) {
            return Class::Unproven;
        }
        Class::New
    }

    /// This limit is reached. An operator reads who asked, once in a while.
    pub(super) fn limited(
        &mut self,
        limit: Counter,
        request: &Request<'_>,
        flow: &Flow,
    ) -> Refused {
        self.stats.record(limit);
        self.alarms
            .note(self.now, limit, || Asker::of(request, flow));
        self.busy(request, flow)
    }

    /// Nothing is taken on any more.
    pub(super) fn stopping(&mut self, request: &Request<'_>, flow: &Flow) -> Refused {
        self.stats.record(Counter::RefusedStopping);
        self.busy(request, flow)
    }

    /// No room. A 503 through a proxy would take the whole server out of its rotation.
    pub(super) fn busy(&mut self, request: &Request<'_>, flow: &Flow) -> Refused {
        let rules = &self.settings.rules;
        let edge = rules.policy.edge(flow.peer.ip());
        let behind = || request.message.values(Name::Via).take(2).count() > 1;
        let status = match edge {
            Some(edge) => edge.overload.status(),
            None if behind() => 500,
            None => 503,
        };
        let seconds = rules.retry_after.seconds(&mut self.rng);
        Refused::with(status, With::RetryAfter(seconds))
    }
}

fn refused(class: Class, because: Measure) -> Counter {
    match (class, because) {
        (Class::Standing, _) => unreachable!("what is there is kept"),
        (Class::New, Measure::Input) => Counter::RefusedNewInput,
        (Class::New, Measure::Timers) => Counter::RefusedNewTimers,
        (Class::New, Measure::Notifies) => Counter::RefusedNewNotifies,
        (Class::New, Measure::Answers) => Counter::RefusedNewAnswers,
        (Class::New, Measure::Slots) => Counter::RefusedNewSlots,
        (Class::Unproven, Measure::Input) => Counter::RefusedUnprovenInput,
        (Class::Unproven, Measure::Timers) => Counter::RefusedUnprovenTimers,
        (Class::Unproven, Measure::Notifies) => Counter::RefusedUnprovenNotifies,
        (Class::Unproven, Measure::Answers) => Counter::RefusedUnprovenAnswers,
        (Class::Unproven, Measure::Slots) => Counter::RefusedUnprovenSlots,
        (Class::Fetch, Measure::Input) => Counter::RefusedFetchInput,
        (Class::Fetch, Measure::Timers) => Counter::RefusedFetchTimers,
        (Class::Fetch, Measure::Notifies) => Counter::RefusedFetchNotifies,
        (Class::Fetch, Measure::Answers) => Counter::RefusedFetchAnswers,
        (Class::Fetch, Measure::Slots) => Counter::RefusedFetchSlots,
    }
}
