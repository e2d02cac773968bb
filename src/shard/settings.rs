//! What a shard is told when it starts: plain data, the same for all shards but for the number and the seed.

use core::time::Duration;
use std::sync::Arc;

use crate::config::limits;
use crate::partition::{Secrets, ShardId};
use crate::policy::Policy;
use crate::quota::Quota;
use crate::rate::Rate;
use crate::rng::Rng;
use crate::shard::admission::Capacity;
use crate::state;
use crate::store::RestartNotify;
use crate::subscription::outcome::{OnClose, OnTimeout, Supersede};
use crate::subscription::package::{PACKAGES, Package, RenderOptions};
use crate::transport::{Listener, ListenerTable};

/// The settings of one shard.
#[derive(Clone)]
pub struct Settings {
    pub shard: ShardId,
    pub shards: u16,
    pub secrets: Secrets,
    /// For tags, branches, entity tags and jitter.
    pub seed: [u8; 16],
    /// What it listens on at first.
    pub listeners: ListenerTable,
    pub rules: Rules,
    pub compose: state::Settings,
    /// At most so many subscriptions on this shard.
    pub subscriptions_max: usize,
    /// At most so many NOTIFYs on their way at once: what the receive buffers take of their answers.
    pub in_flight_max: usize,
    /// The number of this process among all that wrote into its store; None: nothing is kept.
    pub incarnation: Option<u32>,
    /// How far the wall clock was set back since an earlier process wrote its records.
    pub clock_back: Duration,
    /// Who is told after a restart.
    pub restart_notify: RestartNotify,
    /// At most so many NOTIFYs that are not answered yet.
    pub client_transactions_max: usize,
    /// How much may wait before less is taken on.
    pub capacity: Capacity,
}

/// Changes that a phone takes in a second: the least that a known model does.
pub const PACE_PER_SECOND: u32 = 10;
/// Changes that it takes at once: half of what that model's queue holds, and every key of most phones.
pub const PACE_BURST: u32 = 50;

/// What may be replaced while the shard runs: it holds for every request, NOTIFY and timeout from then on, and
/// takes nothing back that was granted before.
#[derive(Clone)]
pub struct Rules {
    pub policy: Arc<Policy>,
    /// Of subscriptions, by the number of the package.
    pub subscribe_expiry: Vec<Expiry>,
    pub publish_expiry: Expiry,
    pub subscribe: SubscribeRules,
    pub on_timeout: OnTimeout,
    pub on_close: OnClose,
    /// How many changes a phone takes; None: as many as come.
    pub pace: Option<Rate>,
    pub retry_after: RetryAfter,
    pub quotas: Quotas,
    pub render: RenderOptions,
    /// Whether host names in Contacts and Routes are looked up.
    pub names: bool,
}

/// How subscriptions begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeRules {
    /// Phones are told to refresh a little earlier than they must, each at a moment of its own.
    pub jitter: bool,
    pub supersede: Supersede,
}

impl Default for SubscribeRules {
    fn default() -> Self {
        SubscribeRules {
            jitter: true,
            supersede: Supersede::default(),
        }
    }
}

impl Rules {
    /// The defaults, with this policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        Rules {
            policy,
            subscribe_expiry: Expiry::of_packages(),
            publish_expiry: Expiry::of_publications(),
            subscribe: SubscribeRules::default(),
            on_timeout: OnTimeout::default(),
            on_close: OnClose::default(),
            pace: Some(Rate::new(PACE_PER_SECOND, PACE_BURST)),
            retry_after: RetryAfter::default(),
            quotas: Quotas::default(),
            render: RenderOptions::default(),
            names: false,
        }
    }
}

/// How much a user, a source address and a domain may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    pub user: Quota,
    /// Of addresses that are no edge's: those have their own.
    pub source: Quota,
    /// Of those whose resources are watched or published, unless they have figures of their own.
    pub domain: Quota,
    /// Those that have, in the order of their names.
    pub domains: Arc<[(Box<str>, Quota)]>,
}

impl Quotas {
    /// What the domain of that name may have.
    pub fn of_domain(&self, name: &[u8]) -> Quota {
        let found = self
            .domains
            .binary_search_by(|(other, _)| other.as_bytes().cmp(name));
        found.map_or(self.domain, |at| self.domains[at].1)
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            user: Quota {
                subscriptions: Some(limits::SUBSCRIPTIONS_PER_PHONE as u32),
                publications: Some(limits::PUBLICATIONS_PER_USER),
                requests: None,
            },
            source: Quota::default(),
            domain: Quota::default(),
            domains: Arc::new([]),
        }
    }
}

/// When those may try again who are refused because there is no room: each at a moment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    pub min_seconds: u32,
    /// Not less than `min_seconds`.
    pub max_seconds: u32,
}

impl Default for RetryAfter {
    fn default() -> Self {
        RetryAfter {
            min_seconds: 5,
            max_seconds: 30,
        }
    }
}

impl RetryAfter {
    /// One of these moments.
    pub fn seconds(&self, rng: &mut Rng) -> u32 {
        let more = u64::from(self.max_seconds - self.min_seconds) + 1;
        self.min_seconds + rng.below(more) as u32
    }
}

/// Mail is shown in logs, and the policy knows what must not be.
impl core::fmt::Debug for Rules {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

/// What is granted where a request asks for less, nothing or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub default_seconds: u32,
    pub min_seconds: u32,
    pub max_seconds: u32,
}

impl Default for Expiry {
    fn default() -> Self {
        Expiry {
            default_seconds: 3600,
            min_seconds: 60,
            max_seconds: 3600,
        }
    }
}

impl Expiry {
    /// The seconds that are granted, or `Err` with the least that would be (423).
    //= RFC 6665 4.2.1.1
    pub fn grant(&self, asked: Option<u32>) -> Result<u32, u32> {
        match asked {
            None => Ok(self
                .default_seconds
                .clamp(self.min_seconds, self.max_seconds)),
            Some(0) => Ok(0),
            Some(seconds) if seconds < self.min_seconds && seconds < 3600 => Err(self.min_seconds),
            Some(seconds) => Ok(seconds.min(self.max_seconds)),
        }
    }

    /// How many of so many granted seconds a phone may be spared, so that those who came in step do not come back in
    /// step: a tenth, and none where the time is short.
    pub fn spread(&self, granted: u32) -> u16 {
        const LONG: u32 = 600;
        if granted < LONG {
            return 0;
        }
        let most = (granted / 10).min(granted.saturating_sub(self.min_seconds));
        u16::try_from(most).unwrap_or(u16::MAX)
    }

    /// Publications may be short: Kamailio publishes the end of a call for 11 s, and does not try again
    /// with more when it is refused, so that the lamp would stay lit.
    pub const fn of_publications() -> Self {
        Expiry {
            default_seconds: 3600,
            min_seconds: 5,
            max_seconds: 3600,
        }
    }

    /// For each package its own default, and the usual bounds.
    pub fn of_packages() -> Vec<Expiry> {
        let of = |package: &Package| {
            let default_seconds = package.default_expires_seconds;
            Expiry {
                default_seconds,
                max_seconds: default_seconds.max(3600),
                ..Expiry::default()
            }
        };
        PACKAGES.iter().map(of).collect()
    }
}

impl Settings {
    /// The defaults, for one shard of `shards` on these listeners.
    pub fn new(
        shard: ShardId,
        shards: u16,
        secrets: Secrets,
        seed: [u8; 16],
        addresses: Vec<Listener>,
        policy: Arc<Policy>,
    ) -> Self {
        Settings {
            shard,
            shards,
            secrets,
            seed,
            listeners: ListenerTable::first(addresses),
            rules: Rules::new(policy),
            compose: state::Settings::default(),
            subscriptions_max: limits::SUBSCRIPTIONS_PER_SHARD,
            in_flight_max: limits::IN_FLIGHT_MAX,
            incarnation: None,
            clock_back: Duration::ZERO,
            restart_notify: RestartNotify::default(),
            client_transactions_max: limits::CLIENT_TRANSACTIONS_PER_SHARD,
            capacity: Capacity::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 6665 4.2.1.1 type=test
    #[test]
    fn an_expiry_is_shortened_never_lengthened_and_refused_where_it_is_too_short() {
        let expiry = Expiry {
            default_seconds: 600,
            min_seconds: 60,
            max_seconds: 1800,
        };
        assert_eq!(expiry.grant(None), Ok(600));
        assert_eq!(expiry.grant(Some(0)), Ok(0));
        assert_eq!(expiry.grant(Some(59)), Err(60));
        assert_eq!(expiry.grant(Some(60)), Ok(60));
        assert_eq!(expiry.grant(Some(1801)), Ok(1800));
        assert_eq!(expiry.grant(Some(u32::MAX)), Ok(1800));
    }

    #[test]
    fn an_expiry_is_spread_over_a_tenth_of_it_and_never_below_what_a_phone_may_ask_for() {
        let expiry = Expiry::default();
        for (granted, spread) in [
            (0, 0),
            (599, 0),
            (600, 60),
            (3600, 360),
            (u32::MAX, u16::MAX),
        ] {
            assert_eq!(expiry.spread(granted), spread, "{granted}");
        }
        let narrow = Expiry {
            min_seconds: 1790,
            ..Expiry::default()
        };
        assert_eq!([narrow.spread(1800), narrow.spread(1790)], [10, 0]);
    }

    #[test]
    fn a_publication_of_a_few_seconds_is_taken() {
        assert_eq!(Expiry::of_publications().grant(Some(11)), Ok(11));
        assert_eq!(Expiry::of_publications().grant(Some(1)), Err(5));
    }

    #[test]
    fn an_interval_of_an_hour_is_never_too_short() {
        let expiry = Expiry {
            default_seconds: 7200,
            min_seconds: 7200,
            max_seconds: 86_400,
        };
        assert_eq!(expiry.grant(Some(3599)), Err(7200));
        assert_eq!(expiry.grant(Some(3600)), Ok(3600));
    }
}
