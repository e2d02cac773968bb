//! What a shard counts: plain numbers, one for each outcome, behind one `record`.
//! Each counter stands in one line of the table, with the name and labels that Prometheus sees.
//! Nothing is formatted here; the admin side asks by mail and writes the lines.

mod table;

pub use table::{Counter, Description, Gauge};

const COUNTERS: usize = Counter::ALL.len();
const GAUGES: usize = Gauge::ALL.len();

/// The counters of one shard.
#[derive(Clone)]
pub struct Stats {
    counts: Box<[u64; COUNTERS]>,
}

impl Stats {
    /// All at zero.
    pub fn new() -> Self {
        Stats {
            counts: Box::new([0; COUNTERS]),
        }
    }

    /// One more.
    #[inline]
    pub fn record(&mut self, counter: Counter) {
        self.counts[counter as usize] += 1;
    }

    /// So many more.
    #[inline]
    pub fn add(&mut self, counter: Counter, count: u64) {
        self.counts[counter as usize] += count;
    }

    /// How many so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// All counters in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL
            .iter()
            .copied()
            .zip(self.counts.iter().copied())
    }
}

impl Default for Stats {
    fn default() -> Self {
        Stats::new()
    }
}

impl core::fmt::Debug for Stats {
    /// Only what is not zero.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map()
            .entries(self.iter().filter(|(_, count)| *count > 0))
            .finish()
    }
}

/// The gauges of one shard, at the moment in which they were filled.
#[derive(Clone, Debug)]
pub struct Gauges {
    values: [u64; GAUGES],
}

impl Gauges {
    /// All at zero.
    pub fn new() -> Self {
        Gauges {
            values: [0; GAUGES],
        }
    }

    /// Sets one.
    pub fn set(&mut self, gauge: Gauge, value: u64) {
        self.values[gauge as usize] = value;
    }

    /// Reads one.
    pub fn get(&self, gauge: Gauge) -> u64 {
        self.values[gauge as usize]
    }

    /// All gauges in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (Gauge, u64)> {
        Gauge::ALL.iter().copied().zip(self.values)
    }
}

impl Default for Gauges {
    fn default() -> Self {
        Gauges::new()
    }
}

impl Counter {
    /// The counter of a response with this status.
    pub const fn response(status: u16) -> Counter {
        match status {
            100 => Counter::Response100,
            200 => Counter::Response200,
            204 => Counter::Response204,
            400 => Counter::Response400,
            401 => Counter::Response401,
            403 => Counter::Response403,
            404 => Counter::Response404,
            405 => Counter::Response405,
            406 => Counter::Response406,
            412 => Counter::Response412,
            413 => Counter::Response413,
            414 => Counter::Response414,
            415 => Counter::Response415,
            416 => Counter::Response416,
            420 => Counter::Response420,
            423 => Counter::Response423,
            481 => Counter::Response481,
            482 => Counter::Response482,
            483 => Counter::Response483,
            489 => Counter::Response489,
            500 => Counter::Response500,
            501 => Counter::Response501,
            503 => Counter::Response503,
            505 => Counter::Response505,
            513 => Counter::Response513,
            _ => match status / 100 {
                0..2 => Counter::ResponseOther1xx,
                2 => Counter::ResponseOther2xx,
                3 => Counter::ResponseOther3xx,
                4 => Counter::ResponseOther4xx,
                5 => Counter::ResponseOther5xx,
                6.. => Counter::ResponseOther6xx,
            },
        }
    }

    /// The counter of a limit of hints and publications, by the name that refusals carry.
    pub fn limit(name: &str) -> Counter {
        match name {
            "resources" => Counter::LimitResources,
            "hints" => Counter::LimitHints,
            "hint_bytes" => Counter::LimitHintBytes,
            "calls_per_hint" => Counter::LimitCallsPerHint,
            "sources_per_resource" => Counter::LimitSourcesPerResource,
            "publications" => Counter::LimitPublications,
            "publications_per_resource" => Counter::LimitPublicationsPerResource,
            "numbered_sources" => Counter::LimitNumberedSources,
            _ => Counter::LimitOther,
        }
    }

    /// The counter of an answer with this status to a NOTIFY.
    pub const fn notify_answered(status: u16) -> Counter {
        match status {
            481 => Counter::NotifyAnswered481,
            _ => match status / 100 {
                0..2 => Counter::NotifyAnswered1xx,
                2 => Counter::NotifyAnswered2xx,
                3 => Counter::NotifyAnswered3xx,
                4 => Counter::NotifyAnswered4xx,
                5 => Counter::NotifyAnswered5xx,
                6.. => Counter::NotifyAnswered6xx,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn descriptions() -> impl Iterator<Item = &'static Description> {
        let counters = Counter::ALL.iter().map(|counter| counter.description());
        counters.chain(Gauge::ALL.iter().map(|gauge| gauge.description()))
    }

    #[test]
    fn what_is_recorded_is_read_and_nothing_else_changes() {
        let mut stats = Stats::new();
        stats.record(Counter::NotifySent);
        stats.add(Counter::NotifySent, 2);
        assert_eq!(stats.get(Counter::NotifySent), 3);
        assert_eq!(stats.iter().map(|(_, count)| count).sum::<u64>(), 3);
    }

    #[test]
    fn no_two_metrics_share_name_and_labels() {
        let mut seen = BTreeSet::new();
        for description in descriptions() {
            assert!(
                seen.insert((description.name, description.labels)),
                "{description:?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_prometheus_and_families_stay_together() {
        let mut helps = BTreeMap::new();
        let mut previous = "";
        for description in descriptions() {
            let name = description.name;
            assert!(name.starts_with("lampfield_"));
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            if name != previous {
                assert_eq!(
                    helps.insert(name, description.help),
                    None,
                    "{name} stands twice"
                );
                previous = name;
            }
        }
        for counter in Counter::ALL {
            assert!(
                counter.description().name.ends_with("_total"),
                "{counter:?}"
            );
        }
    }

    #[test]
    fn the_counter_of_a_limit_carries_its_name() {
        for counter in Counter::ALL {
            let description = counter.description();
            if description.name == "lampfield_limit_reached_total" {
                let (_, name) = description.labels[0];
                let found = Counter::limit(name);
                assert!(found == *counter || found == Counter::LimitOther, "{name}");
            }
        }
        assert_eq!(Counter::limit("hints"), Counter::LimitHints);
    }

    #[test]
    fn a_response_counter_carries_its_own_status() {
        for status in 100..700 {
            let description = Counter::response(status).description();
            let (_, label) = description.labels[0];
            if !label.starts_with("other") {
                assert_eq!(label, status.to_string());
            } else {
                assert_eq!(label, format!("other_{}xx", status / 100));
            }
        }
    }
}
