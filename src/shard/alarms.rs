//! Limits that were reached, as an operator should read of them: once, and again after a while if it goes on.
//! What each refused is counted; here is only said that it began, and with whom.

use core::net::SocketAddr;
use core::time::Duration;

use super::admission::{Admission, Level};
use super::effects::Event;
use crate::sip::Request;
use crate::stats::{Counter, Stats};
use crate::time::Time;
use crate::transport::Flow;

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A limit that goes on being reached is named again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// So much of a URI is shown.
const SHOWN_BYTES: usize = 128;

/// Whose request a limit has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The URIs of From and of the request, as they were written: they prove nothing.
    pub from: String,
    pub wants: String,
    pub peer: SocketAddr,
}

impl Asker {
    pub(super) fn of(request: &Request<'_>, flow: &Flow) -> Asker {
        let shown = |uri: &[u8]| String::from_utf8_lossy(&uri[..uri.len().min(SHOWN_BYTES)]).into();
        Asker {
            from: shown(request.from.uri),
            wants: shown(request.uri),
            peer: flow.peer,
        }
    }
}

/// One limit's counter, and what has been said of it.
struct Watched {
    counter: Counter,
    name: &'static str,
    seen: u64,
    told_at: Option<Time>,
    /// Of the first refusal since it was last named, once it may be named again.
    asker: Option<Asker>,
}

impl Watched {
    fn may_be_told(&self, now: Time) -> bool {
        let again = |told_at| now.since(told_at) >= AGAIN;
        self.told_at.is_none_or(again)
    }
}

/// The counters of all limits.
pub(super) struct Alarms {
    watched: Vec<Watched>,
    next_look: Time,
    /// The load that was named last: the highest of a second.
    level: Level,
}

impl Alarms {
    pub fn new() -> Self {
        let limits = Counter::ALL.iter().filter_map(|&counter| {
            let description = counter.description();
            let (_, name) = *description.labels.first()?;
            let watched = Watched {
                counter,
                name,
                seen: 0,
                told_at: None,
                asker: None,
            };
            (description.name == "lampfield_limit_reached_total").then_some(watched)
        });
        Alarms {
            watched: limits.collect(),
            next_look: Time::ZERO,
            level: Level::Calm,
        }
    }

    /// Somebody was refused because of this limit. Of who comes after the first one nothing is looked at.
    pub fn note(&mut self, now: Time, limit: Counter, asker: impl FnOnce() -> Asker) {
        let mut watched = self.watched.iter_mut();
        if let Some(watched) = watched.find(|watched| watched.counter == limit)
            && watched.asker.is_none()
            && watched.may_be_told(now)
        {
            watched.asker = Some(asker());
        }
    }

    /// Names the limits that were reached since the last look and not named lately, and the load where it is another one.
    pub fn look(
        &mut self,
        now: Time,
        stats: &Stats,
        admission: &mut Admission,
        events: &mut Vec<Event>,
    ) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        let (level, because) = admission.take_peak();
        if core::mem::replace(&mut self.level, level) != level {
            events.push(Event::Load(level, because));
        }
        for watched in &mut self.watched {
            let count = stats.get(watched.counter);
            let reached = count > core::mem::replace(&mut watched.seen, count);
            if reached && watched.may_be_told(now) {
                watched.told_at = Some(now);
                events.push(Event::Limit(watched.name, watched.asker.take()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::admission::{Capacity, Measure, Work};

    fn idle() -> Admission {
        Admission::new(Capacity {
            notifies: 100,
            ..Capacity::default()
        })
    }

    #[test]
    fn a_limit_is_named_once_and_again_after_a_minute_of_being_reached() {
        let (mut alarms, mut stats) = (Alarms::new(), Stats::new());
        let mut told = Vec::new();
        for second in 1..=130 {
            let mut events = Vec::new();
            if second != 2 {
                stats.record(Counter::LimitSubscriptions);
            }
            let now = Time::from_millis(second * 1000);
            alarms.look(now, &stats, &mut idle(), &mut events);
            for event in events {
                assert_eq!(event, Event::Limit("subscriptions", None));
                told.push(second);
            }
        }
        assert_eq!(told, [1, 61, 121]);
    }

    #[test]
    fn a_limit_is_named_with_whom_it_refused_first_and_nobody_is_looked_at_before_it_may_be_named_again()
     {
        let (mut alarms, mut stats) = (Alarms::new(), Stats::new());
        let limit = Counter::LimitSubscriptionsPerUser;
        let asker = |port| Asker {
            from: "sip:1001@example.com".to_owned(),
            wants: "sip:1002@example.com".to_owned(),
            peer: SocketAddr::from(([192, 0, 2, 1], port)),
        };
        let mut told = Vec::new();
        for second in 1..=61 {
            let now = Time::from_millis(u64::from(second) * 1_000);
            for port in [second, second + 1_000] {
                stats.record(limit);
                alarms.note(now, limit, || {
                    assert!([1, 61].contains(&port), "{port}");
                    asker(port)
                });
            }
            alarms.look(now, &stats, &mut idle(), &mut told);
        }
        let named = |port| Event::Limit("subscriptions_per_user", Some(asker(port)));
        assert_eq!(told, [named(1), named(61)]);
    }

    #[test]
    fn a_limit_that_was_not_reached_is_not_named() {
        let mut events = Vec::new();
        let now = Time::from_millis(5_000);
        Alarms::new().look(now, &Stats::new(), &mut idle(), &mut events);
        assert_eq!(events, []);
    }

    #[test]
    fn the_highest_load_of_a_second_is_named_when_it_is_another_one() {
        let (mut alarms, mut admission) = (Alarms::new(), idle());
        let mut told = Vec::new();
        for (second, waiting) in [0, 100, 100, 0, 0].into_iter().enumerate() {
            let now = Time::from_millis(1_000 * (second as u64 + 1));
            for (millis, notifies) in [(1, waiting), (400, 0), (800, 0)] {
                let work = Work {
                    notifies,
                    ..Work::default()
                };
                admission.weigh(now + Duration::from_millis(millis), work);
            }
            let mut events = Vec::new();
            let end = now + Duration::from_millis(999);
            alarms.look(end, &Stats::new(), &mut admission, &mut events);
            told.push(events);
        }
        let named = |level| vec![Event::Load(level, Measure::Notifies)];
        assert_eq!(
            told,
            [
                vec![],
                named(Level::Full),
                vec![],
                named(Level::Calm),
                vec![]
            ]
        );
    }
}
