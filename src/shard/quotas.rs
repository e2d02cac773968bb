//! How much a user, a source address and a domain may have here, and how much they have. A source counts what it asks for
//! before anybody's credentials are looked at, and only for what is new; a user and a domain when it is proved who asks:
//! nobody uses up what is another one's. Nothing is kept of who has nothing but a place in meters of a fixed size.

use core::net::IpAddr;

use super::Shard;
use super::admission::Class;
use super::answer::Refused;
use crate::config::limits;
use crate::partition::Secrets;
use crate::policy::{Identity, source};
use crate::quota::{Meters, Quota, Tally};
use crate::sip::Request;
use crate::stats::Counter;
use crate::time::Time;
use crate::transport::Flow;

/// What sources and domains have.
pub(super) struct Tallies {
    sources: Tally,
    domains: Tally,
    by_source: Meters,
    by_user: Meters,
    by_domain: Meters,
}

/// What a subscription is counted under.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub source: u32,
    pub domain: u32,
}

/// Who asks for one thing more.
pub(super) struct Asks<'a> {
    pub user: u64,
    /// Many phones behind one name: no quota of a user is theirs.
    pub is_shared: bool,
    pub source: IpAddr,
    pub domain: &'a [u8],
}

impl Tallies {
    pub fn new(limit: usize) -> Self {
        Tallies {
            sources: Tally::new(limit),
            domains: Tally::new(limit),
            by_source: Meters::default(),
            by_user: Meters::default(),
            by_domain: Meters::default(),
        }
    }

    /// How many sources and domains have something.
    pub fn len(&self) -> usize {
        self.sources.len() + self.domains.len()
    }
}

impl Shard {
    /// Whether a source may ask for something new now. Asked where a request comes in, before another shard is bothered.
    pub(super) fn may_come(&mut self, now: Time, request: &Request<'_>, flow: &Flow) -> bool {
        let Some(rate) = self.source_quota(flow.peer.ip()).requests else {
            return true;
        };
        if self.class_of(request, flow) == Class::Standing {
            return true;
        }
        let name = source_name(&self.settings.secrets, flow.peer.ip());
        self.quotas.by_source.take(now, name, &rate)
    }

    /// Whether a user may ask for anything now.
    pub(super) fn may_ask(
        &mut self,
        now: Time,
        identity: &Identity,
        request: &Request<'_>,
        flow: &Flow,
    ) -> Result<(), Refused> {
        let Some(rate) = self.settings.rules.quotas.user.requests else {
            return Ok(());
        };
        let user = identity.number() as u64;
        if self.settings.is_many(identity, request) || self.quotas.by_user.take(now, user, &rate) {
            return Ok(());
        }
        Err(self.limited(Counter::LimitRequestsPerUser, request, flow))
    }

    /// Whether something new may be asked for in a domain now.
    pub(super) fn may_ask_of(
        &mut self,
        now: Time,
        domain: &[u8],
        request: &Request<'_>,
        flow: &Flow,
    ) -> Result<(), Refused> {
        let Some(rate) = self.settings.rules.quotas.of_domain(domain).requests else {
            return Ok(());
        };
        let name = domain_name(&self.settings.secrets, domain);
        if self.quotas.by_domain.take(now, name, &rate) {
            return Ok(());
        }
        Err(self.limited(Counter::LimitRequestsPerDomain, request, flow))
    }

    /// Whether one more subscription is not one too many; the limit, if it is.
    pub(super) fn may_subscribe(&self, asks: &Asks<'_>) -> Result<(), Counter> {
        let quotas = &self.settings.rules.quotas;
        let secrets = &self.settings.secrets;
        let has = self.subscriptions.phones().subscriptions_of(asks.user) as u32;
        if !asks.is_shared && Quota::is_reached(quotas.user.subscriptions, has) {
            return Err(Counter::LimitSubscriptionsPerUser);
        }
        let source = self.source_quota(asks.source).share(self.settings.shards);
        if source.subscriptions.is_some() {
            let has = self.quotas.sources.count(source_name(secrets, asks.source));
            if Quota::is_reached(source.subscriptions, has) {
                return Err(Counter::LimitSubscriptionsPerSource);
            }
        }
        let domain = quotas.of_domain(asks.domain).share(self.settings.shards);
        if domain.subscriptions.is_some() {
            let has = self.quotas.domains.count(domain_name(secrets, asks.domain));
            if Quota::is_reached(domain.subscriptions, has) {
                return Err(Counter::LimitSubscriptionsPerDomain);
            }
        }
        Ok(())
    }

    /// The same for a publication. Those of a user are spread over the shards like their resources.
    pub(super) fn may_publish(&self, asks: &Asks<'_>) -> Result<(), Counter> {
        let quotas = &self.settings.rules.quotas;
        let source = self.source_quota(asks.source);
        let limits = [quotas.user, source, quotas.of_domain(asks.domain)]
            .map(|quota| quota.share(self.settings.shards).publications);
        let counters = [
            Counter::LimitPublicationsPerUser,
            Counter::LimitPublicationsPerSource,
            Counter::LimitPublicationsPerDomain,
        ];
        let names = self.publisher(asks);
        for (number, (limit, counter)) in limits.into_iter().zip(counters).enumerate() {
            let is_user = number == 0;
            let has = || self.compositor.published_by(number, names[number]);
            if limit.is_some() && !(is_user && asks.is_shared) && Quota::is_reached(limit, has()) {
                return Err(counter);
            }
        }
        Ok(())
    }

    /// The names that a publication is counted under: its user, source and domain.
    pub(super) fn publisher(&self, asks: &Asks<'_>) -> [u64; 3] {
        let secrets = &self.settings.secrets;
        [
            asks.user,
            source_name(secrets, asks.source),
            domain_name(secrets, asks.domain),
        ]
    }

    /// Counts a subscription.
    pub(super) fn hold(&mut self, source: IpAddr, domain: &[u8]) -> Held {
        self.hold_named(source_name(&self.settings.secrets, source), domain)
    }

    /// The same under the name of its source, as it stands in a record.
    pub(super) fn hold_named(&mut self, source: u64, domain: &[u8]) -> Held {
        let domain = domain_name(&self.settings.secrets, domain);
        Held {
            source: self.quotas.sources.take(source),
            domain: self.quotas.domains.take(domain),
        }
    }

    /// The name of the source that a subscription counts under.
    pub(super) fn source_of(&self, index: u32) -> u64 {
        self.quotas.sources.name(self.subscriptions[index].source)
    }

    /// It is no more.
    pub(super) fn let_hold_go(&mut self, held: Held) {
        self.quotas.sources.give(held.source);
        self.quotas.domains.give(held.domain);
    }

    /// It is refreshed from there.
    pub(super) fn hold_from(&mut self, index: u32, source: IpAddr) {
        let name = source_name(&self.settings.secrets, source);
        let before = self.subscriptions[index].source;
        if self.quotas.sources.name(before) == name {
            return;
        }
        self.subscriptions[index].source = self.quotas.sources.take(name);
        self.quotas.sources.give(before);
    }

    /// Edges speak for many, and have their own.
    fn source_quota(&self, source: IpAddr) -> Quota {
        let rules = &self.settings.rules;
        let edge = rules.policy.edge(source);
        edge.map_or(rules.quotas.source, |edge| edge.quota)
    }
}

/// The domain of a resource's name.
pub(super) fn domain_of(resource: &str) -> &[u8] {
    resource
        .rsplit_once('@')
        .map_or("", |(_, domain)| domain)
        .as_bytes()
}

fn domain_name(secrets: &Secrets, domain: &[u8]) -> u64 {
    secrets.hash(&[b"domain", domain])
}

fn source_name(secrets: &Secrets, address: IpAddr) -> u64 {
    secrets.hash(&[b"source", &source(address).to_be_bytes()])
}

const _: () = assert!(limits::SUBSCRIPTIONS_PER_PHONE <= u32::MAX as usize);
