//! Limits that were reached, as an operator should read of them: once, and again after a while if it goes on.
//! What each refused is counted; here is only said that it began.

use core::time::Duration;

use super::effects::Event;
use crate::stats::{Counter, Stats};
use crate::time::Time;

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A limit that goes on being reached is named again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// One limit's counter, and what has been said of it.
struct Watched {
    counter: Counter,
    name: &'static str,
    seen: u64,
    told_at: Option<Time>,
}

/// The counters of all limits.
pub(super) struct Alarms {
    watched: Vec<Watched>,
    next_look: Time,
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
            };
            (description.name == "lampfield_limit_reached_total").then_some(watched)
        });
        Alarms {
            watched: limits.collect(),
            next_look: Time::ZERO,
        }
    }

    /// Names the limits that were reached since the last look and not named lately.
    pub fn look(&mut self, now: Time, stats: &Stats, events: &mut Vec<Event>) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for watched in &mut self.watched {
            let count = stats.get(watched.counter);
            let reached = count > core::mem::replace(&mut watched.seen, count);
            if reached
                && watched
                    .told_at
                    .is_none_or(|told_at| now.since(told_at) >= AGAIN)
            {
                watched.told_at = Some(now);
                events.push(Event::Limit(watched.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_once_and_again_after_a_minute_of_being_reached() {
        let (mut alarms, mut stats) = (Alarms::new(), Stats::new());
        let mut told = Vec::new();
        for second in 1..=130 {
            let mut events = Vec::new();
            if second != 2 {
                stats.record(Counter::LimitSubscriptions);
            }
            alarms.look(Time::from_millis(second * 1000), &stats, &mut events);
            for event in events {
                assert_eq!(event, Event::Limit("subscriptions"));
                told.push(second);
            }
        }
        assert_eq!(told, [1, 61, 121]);
    }

    #[test]
    fn a_limit_that_was_not_reached_is_not_named() {
        let mut events = Vec::new();
        Alarms::new().look(Time::from_millis(5_000), &Stats::new(), &mut events);
        assert_eq!(events, []);
    }
}
