//! How phones are served: the parts of the file about expiry, notification and the composition of states.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use crate::config::problem::{Problem, nearest};
use crate::config::section::{Placed, Section};
use crate::config::settings::Dns;
use crate::policy::{DomainsSettings, SourceLimits};
use crate::quota::{BURST, Quota};
use crate::rate::Rate;
use crate::shard::settings::{
    Expiry, PACE_BURST, PACE_PER_SECOND, Quotas, RetryAfter, SubscribeRules,
};
use crate::state::{self, DndShows};
use crate::store::{Durability, RestartNotify};
use crate::subscription::outcome::{OnClose, OnTimeout, Supersede};
use crate::subscription::package::{PACKAGES, RenderOptions};
use crate::time::T64;

/// By the number of the package.
pub(super) fn read_packages(root: &mut Section<'_>) -> Vec<Expiry> {
    let mut section = root.section("packages");
    let expiry = PACKAGES
        .iter()
        .zip(Expiry::of_packages())
        .map(|(package, standard)| {
            let table = section
                .as_mut()
                .and_then(|section| section.section(package.name));
            table.map_or(standard, |table| {
                read_expiry(
                    &format!("subscriptions to {}", package.name),
                    table,
                    standard,
                )
            })
        })
        .collect();
    if let Some(section) = section {
        section.finish();
    }
    expiry
}

/// `[subscribe]`.
pub(super) fn read_subscribe(root: &mut Section<'_>) -> SubscribeRules {
    let mut rules = SubscribeRules::default();
    let Some(mut section) = root.section("subscribe") else {
        return rules;
    };
    if let Some(jitter) = section.flag("jitter") {
        rules.jitter = jitter;
    }
    let supersede = section.word(
        "supersede",
        &[
            ("probe", Supersede::Probe),
            ("replace", Supersede::Replace),
            ("off", Supersede::Off),
        ],
    );
    rules.supersede = supersede.unwrap_or_default();
    section.finish();
    rules
}

/// Of publications.
pub(super) fn read_publish(root: &mut Section<'_>) -> Expiry {
    let standard = Expiry::of_publications();
    let section = root.section("publish");
    section.map_or(standard, |section| {
        read_expiry("publications", section, standard)
    })
}

/// What one source may have.
const PER_SOURCE: core::ops::RangeInclusive<u64> = 1..=1 << 20;

/// `[limits]`.
pub(super) fn read_limits(
    root: &mut Section<'_>,
    domains: &DomainsSettings,
) -> (SourceLimits, Quotas) {
    let (mut sources, mut quotas) = (SourceLimits::default(), Quotas::default());
    let Some(mut section) = root.section("limits") else {
        return (sources, quotas);
    };
    let keys = [
        ("connections_per_source", &mut sources.connections),
        ("handshakes_per_source", &mut sources.handshakes),
        ("connections_per_edge", &mut sources.connections_per_edge),
    ];
    for (key, limit) in keys {
        if let Some(number) = section.number(key, PER_SOURCE) {
            *limit = number.value as u32;
        }
    }
    let keys = [
        (&PER_USER, &mut quotas.user),
        (&FROM_SOURCE, &mut quotas.source),
        (&PER_DOMAIN, &mut quotas.domain),
    ];
    for (keys, quota) in keys {
        read_quota(&mut section, keys, quota);
    }
    if let Some(own) = section.section("domains") {
        quotas.domains = read_domain_quotas(own, quotas.domain, domains);
    }
    section.finish();
    (sources, quotas)
}

/// `[limits.domains."example.com"]`: figures of its own; what is not said is as for all.
fn read_domain_quotas(
    mut section: Section<'_>,
    standard: Quota,
    domains: &DomainsSettings,
) -> Arc<[(Box<str>, Quota)]> {
    let notes = section.notes();
    let mut known: Vec<&str> = domains.domains.iter().map(|each| &*each.name).collect();
    known.push(&domains.default);
    let mut quotas: Vec<(Box<str>, Quota)> = Vec::new();
    for (name, mut table) in section.tables() {
        let mut quota = standard;
        read_quota(&mut table, &OF_ONE, &mut quota);
        table.finish();
        if !known
            .iter()
            .any(|each| each.eq_ignore_ascii_case(name.value))
        {
            let what = format!("`{}` is no domain that is served here", name.value);
            let help = match nearest(name.value, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("served are: {}", known.join(", ")),
            };
            notes.push(Problem::at(name.span, what).help(help));
            continue;
        }
        let canonical: Box<str> = name.value.to_ascii_lowercase().into();
        match quotas.binary_search_by(|(other, _)| other.cmp(&canonical)) {
            Ok(_) => notes.push(
                Problem::at(name.span, format!("`{canonical}` has its figures twice"))
                    .help("write them below one header"),
            ),
            Err(place) => quotas.insert(place, (canonical, quota)),
        }
    }
    quotas.into()
}

/// The keys of a quota: subscriptions, publications, requests in a second.
type QuotaKeys = [&'static str; 3];
const PER_USER: QuotaKeys = [
    "subscriptions_per_user",
    "publications_per_user",
    "requests_per_user",
];
const FROM_SOURCE: QuotaKeys = [
    "subscriptions_per_source",
    "publications_per_source",
    "requests_per_source",
];
const PER_DOMAIN: QuotaKeys = [
    "subscriptions_per_domain",
    "publications_per_domain",
    "requests_per_domain",
];
/// Of one edge or domain, in its own table.
pub(super) const OF_ONE: QuotaKeys = ["subscriptions", "publications", "requests"];

/// 0 is no limit.
pub(super) fn read_quota(section: &mut Section<'_>, keys: &QuotaKeys, quota: &mut Quota) {
    let [subscriptions, publications, requests] = keys;
    let some = |number: Placed<u64>| (number.value > 0).then_some(number.value as u32);
    if let Some(number) = section.number(subscriptions, 0..=1 << 31) {
        quota.subscriptions = some(number);
    }
    if let Some(number) = section.number(publications, 0..=1 << 31) {
        quota.publications = some(number);
    }
    if let Some(number) = section.number(requests, 0..=1_000_000) {
        quota.requests = some(number).map(|rate| Rate::new(rate, rate.saturating_mul(BURST)));
    }
}

fn read_expiry(what: &str, mut section: Section<'_>, standard: Expiry) -> Expiry {
    let notes = section.notes();
    // An interval of an hour or more may not be refused as too short (RFC 6665 4.2.1.1).
    let min = section.number("expires_min", 1..=3600);
    let default = section.number("expires_default", 1..=u64::from(u32::MAX));
    let max = section.number("expires_max", 1..=u64::from(u32::MAX));
    section.finish();
    let span = [&min, &default, &max]
        .into_iter()
        .flatten()
        .map(|number| number.span.clone())
        .next_back();
    let seconds = |number: Option<Placed<u64>>, otherwise: u32| {
        number.map_or(otherwise, |number| number.value as u32)
    };
    let min = seconds(min, standard.min_seconds);
    let max = seconds(max, standard.max_seconds.max(min));
    let default = seconds(default, standard.default_seconds.clamp(min, max.max(min)));
    if let (false, Some(span)) = (min <= default && default <= max, span) {
        let what = format!(
            "{what} cannot last at least {min}, by default {default} and at most {max} seconds"
        );
        notes.push(
            Problem::at(span, what)
                .help("write numbers so that expires_min <= expires_default <= expires_max"),
        );
    }
    Expiry {
        default_seconds: default,
        min_seconds: min,
        max_seconds: max,
    }
}

/// `[store]`.
pub(super) fn read_store(root: &mut Section<'_>) -> (Durability, RestartNotify) {
    let Some(mut section) = root.section("store") else {
        return Default::default();
    };
    let durability = section.word(
        "durability",
        &[
            ("process", Durability::Process),
            ("disk", Durability::Disk),
            ("none", Durability::None),
        ],
    );
    let restart_notify = section.word(
        "restart_notify",
        &[
            ("all", RestartNotify::All),
            ("changed", RestartNotify::Changed),
        ],
    );
    section.finish();
    (
        durability.unwrap_or_default(),
        restart_notify.unwrap_or_default(),
    )
}

/// What `[notify]` says.
pub(super) struct Notify {
    pub on_timeout: OnTimeout,
    pub on_close: OnClose,
    pub pace: Option<Rate>,
    pub render: RenderOptions,
}

/// `[notify]`.
pub(super) fn read_notify(root: &mut Section<'_>) -> Notify {
    let mut notify = Notify {
        on_timeout: OnTimeout::default(),
        on_close: OnClose::default(),
        pace: Some(Rate::new(PACE_PER_SECOND, PACE_BURST)),
        render: RenderOptions::default(),
    };
    let Some(mut section) = root.section("notify") else {
        return notify;
    };
    let on_timeout = section.word(
        "on_timeout",
        &[("remove", OnTimeout::Remove), ("park", OnTimeout::Park)],
    );
    let on_close = section.word(
        "on_close",
        &[("keep", OnClose::Keep), ("end", OnClose::End)],
    );
    notify.on_close = on_close.unwrap_or_default();
    notify.on_timeout = on_timeout.unwrap_or_default();
    let number =
        |number: Option<Placed<u64>>, otherwise| number.map_or(otherwise, |n| n.value as u32);
    let per_second = number(section.number("rate", 0..=1_000), PACE_PER_SECOND);
    let burst = number(section.number("burst", 1..=10_000), PACE_BURST);
    notify.pace = (per_second > 0).then(|| Rate::new(per_second, burst));
    let render = &mut notify.render;
    if let Some(shown) = section.flag("call_details") {
        render.withhold_details = !shown;
    }
    if let Some(all) = section.flag("all_dialogs") {
        render.all_dialogs = all;
    }
    if let Some(counts) = section.flag("message_counts") {
        render.message_counts = counts;
    }
    section.finish();
    notify
}

/// `[overload]`.
pub(super) fn read_overload(root: &mut Section<'_>) -> RetryAfter {
    let standard = RetryAfter::default();
    let Some(mut section) = root.section("overload") else {
        return standard;
    };
    let min = section.number("retry_after_min", 1..=3_600);
    let max = section.number("retry_after_max", 1..=3_600);
    let span = [&min, &max].into_iter().flatten().next_back();
    let span = span.map(|number| number.span.clone());
    let notes = section.notes();
    section.finish();
    let min_seconds = min.map_or(standard.min_seconds, |number| number.value as u32);
    // Who says the least alone wants nobody to come back at the same moment.
    let spread = standard.max_seconds - standard.min_seconds;
    let otherwise = standard.max_seconds.max(min_seconds + spread);
    let max_seconds = max.map_or(otherwise, |number| number.value as u32);
    if let (true, Some(span)) = (max_seconds < min_seconds, span) {
        let what = format!("nobody can wait at least {min_seconds} and at most {max_seconds} s");
        notes.push(
            Problem::at(span, what)
                .help("write numbers so that retry_after_min <= retry_after_max"),
        );
        return standard;
    }
    RetryAfter {
        min_seconds,
        max_seconds,
    }
}

/// `[transports]`: how long a listener is kept whose address goes away. Without a word it is as long as a subscription
/// can last that was granted before, and its last NOTIFY.
pub(super) fn read_drain_max(root: &mut Section<'_>, expiry: &[Expiry]) -> Duration {
    let longest = expiry.iter().map(|each| each.max_seconds).max();
    let standard = Duration::from_secs(u64::from(longest.unwrap_or(0))) + T64;
    let Some(mut section) = root.section("transports") else {
        return standard;
    };
    let seconds = section.number("drain_max", 1..=u64::from(u32::MAX));
    section.finish();
    seconds.map_or(standard, |seconds| Duration::from_secs(seconds.value))
}

/// Seconds that looking up a name may take. A NOTIFY waits for its answer for half a minute.
const DNS_TIMEOUT: core::ops::RangeInclusive<u64> = 1..=30;
const DNS_TIMEOUT_DEFAULT: u64 = 5;
/// The port of name servers where none is written.
const DNS_PORT: u16 = 53;

/// `[dns]`.
pub(super) fn read_dns(root: &mut Section<'_>) -> Option<Dns> {
    let mut dns = Dns {
        servers: Vec::new(),
        timeout: Duration::from_secs(DNS_TIMEOUT_DEFAULT),
    };
    let Some(mut section) = root.section("dns") else {
        return Some(dns);
    };
    let lookup = section.flag("lookup").unwrap_or(true);
    for text in section.texts("servers").unwrap_or_default() {
        match parse_name_server(text.value) {
            Some(server) => dns.servers.push(server),
            None => section.notes().push(
                Problem::at(text.span, format!("`{}` is no address", text.value)).help(
                    "write an address, or an address and a port: \"192.0.2.53\" or \"[2001:db8::53]:5353\"",
                ),
            ),
        }
    }
    if let Some(seconds) = section.number("timeout", DNS_TIMEOUT) {
        dns.timeout = Duration::from_secs(seconds.value);
    }
    section.finish();
    lookup.then_some(dns)
}

fn parse_name_server(text: &str) -> Option<SocketAddr> {
    let address = text.trim_matches(['[', ']']).parse::<IpAddr>();
    let without_port = address.map(|address| SocketAddr::new(address, DNS_PORT));
    text.parse().or(without_port).ok()
}

/// `[hints]`.
pub(super) fn read_hints(root: &mut Section<'_>) -> state::Settings {
    let mut compose = state::Settings::default();
    let Some(mut section) = root.section("hints") else {
        return compose;
    };
    let shows = [
        ("confirmed", DndShows::Confirmed),
        ("terminated", DndShows::Terminated),
    ];
    compose.dnd_shows = section.word("dnd_shows", &shows).unwrap_or_default();
    let source = section.text("mailbox_source");
    compose.mailbox_source = source.map(|source| source.value.into());
    section.finish();
    compose
}
