//! How many of everything there are: what the simulator checks and the admin side shows.

use std::collections::BTreeMap;

use super::Shard;
use super::admission::Measure;
use crate::stats::{Gauge, Gauges};
use crate::time::Time;
use crate::transport::{Leases, ListenerId};

/// The sizes of every table of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub subscriptions: usize,
    pub client_transactions: usize,
    pub server_transactions: usize,
    pub slots_leased: usize,
    pub slots_of_transactions: usize,
    pub timers: usize,
    pub copies: usize,
    pub resources: usize,
    pub publications: usize,
    pub ready: usize,
    pub phones: usize,
    pub answers_held: usize,
    pub connections: usize,
    /// Connections that carry subscriptions.
    pub connections_used: usize,
    /// Connections of edges that are known.
    pub edges: usize,
    /// Subscriptions that wait until their connection takes more.
    pub in_line: usize,
    /// Connections that carry what does not fit into a datagram.
    pub detours: usize,
    /// Sources, domains and publishers that are counted because they have something.
    pub holders: usize,
    /// Host names of which something is known.
    pub names: usize,
}

impl Shard {
    /// Counts everything. Costs a walk over the client transactions.
    pub fn census(&self) -> Census {
        Census {
            subscriptions: self.subscriptions.len(),
            client_transactions: self.clients.len(),
            server_transactions: self.servers.len(),
            slots_leased: self.arena.leased(),
            slots_of_transactions: self.clients.slots(),
            timers: self.wheel.len(),
            copies: self.copies.len(),
            resources: self.compositor.resources_len(),
            publications: self.compositor.publications_len(),
            ready: self.ready.len(),
            phones: self.subscriptions.phones().len(),
            answers_held: self.journal.answers_held() + self.late.len(),
            connections: self.streams.len(),
            connections_used: self.subscriptions.connections(),
            edges: self.edges.len(),
            in_line: self.waiting.len(),
            detours: self.detours.len(),
            holders: self.quotas.len() + self.compositor.publishers_len(),
            names: self.names.len(),
        }
    }

    /// The first listener whose leases are not what they should be, as they are counted and as they should be: one for
    /// each transaction that was begun on it, and for each dialog whose NOTIFYs would leave from it. Walks over all.
    pub fn miscounted_leases(&self) -> Option<(ListenerId, Leases, Leases)> {
        let counted: BTreeMap<ListenerId, Leases> = self.listeners.leases().collect();
        let mut due: BTreeMap<ListenerId, Leases> = BTreeMap::new();
        let known = "a lease is of a listener that there was";
        for listener in self.clients.listeners() {
            let sender = self.listeners.sender(listener).expect(known);
            due.entry(sender).or_default().clients += 1;
        }
        for listener in self.servers.listeners() {
            let sender = self.listeners.sender(listener).expect(known);
            due.entry(sender).or_default().servers += 1;
        }
        let mut next = 0;
        while let Some(index) = self.subscriptions.next_from(next) {
            let listener = self.subscriptions[index].flow.listener;
            let home = self.listeners.home(listener).expect(known);
            due.entry(home).or_default().dialogs += 1;
            next = index + 1;
        }
        counted.into_iter().find_map(|(listener, leases)| {
            let due = due.get(&listener).copied().unwrap_or_default();
            (leases != due).then_some((listener, leases, due))
        })
    }

    pub(super) fn gauges(&mut self, now: Time) -> Gauges {
        let seen = self.seen(now);
        let mut gauges = Gauges::new();
        let parked = self.subscriptions.phones().parked() as u64;
        let others = parked + seen.silent + seen.terminating;
        let active = (self.subscriptions.len() as u64).saturating_sub(others);
        gauges.set(Gauge::SubscriptionsActive, active);
        gauges.set(Gauge::SubscriptionsSilent, seen.silent);
        gauges.set(Gauge::SubscriptionsParked, parked);
        gauges.set(Gauge::SubscriptionsTerminating, seen.terminating);
        gauges.set(Gauge::SubscriptionsDirty, seen.dirty);
        gauges.set(Gauge::SubscriptionsOverdue, seen.overdue);
        self.weigh(now);
        let level = self.admission.level() as u64;
        gauges.set(Gauge::LoadLevel, level);
        for (gauge, measure) in [
            (Gauge::LoadInput, Measure::Input),
            (Gauge::LoadTimers, Measure::Timers),
            (Gauge::LoadNotifies, Measure::Notifies),
            (Gauge::LoadAnswers, Measure::Answers),
            (Gauge::LoadSlots, Measure::Slots),
        ] {
            gauges.set(gauge, self.admission.load(measure) as u64);
        }
        gauges.set(Gauge::NotifiesInFlight, self.clients.len() as u64);
        gauges.set(Gauge::SendSlotBytes, self.arena.bytes_held() as u64);
        gauges.set(Gauge::TransactionsClient, self.clients.len() as u64);
        gauges.set(Gauge::TransactionsServer, self.servers.len() as u64);
        gauges.set(
            Gauge::Publications,
            self.compositor.publications_len() as u64,
        );
        gauges.set(Gauge::ResourcesHome, self.compositor.resources_len() as u64);
        gauges.set(Gauge::ResourcesCopy, self.copies.len() as u64);
        gauges.set(Gauge::Timers, self.wheel.len() as u64);
        gauges.set(Gauge::Connections, self.streams.len() as u64);
        gauges.set(Gauge::StoreDegraded, u64::from(self.journal.degraded));
        gauges.set(Gauge::SendSlots, self.arena.leased() as u64);
        gauges
    }
}
