//! When this shard stood still: its process was stopped, or the machine beneath it was, as a virtual one is while it is
//! copied or moved. Peers went on meanwhile, and gave up or not; what they were sent was sent once instead of eleven times, and
//! what they answered may have found no room. So everything is late at once, and none of it is the fault of a phone.
//!
//! It shows by timers that fire late. From then on the silence of whoever was asked before proves nothing: what would be given
//! up is asked once more, and counts anew. And what had been answered before may be asked again, as after a crash.

use core::time::Duration;

use super::Shard;
use super::effects::{Effects, Event};
use crate::stats::Counter;
use crate::subscription::record::{Owed, Phase};
use crate::time::{T2, T64, Time};

/// So late are timers only where nobody ran: it is longer than any wait between two sendings of one NOTIFY, and many times
/// what admission lets a busy shard come to.
const STANDSTILL: Duration = T2;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    /// When the last one was over, and what was late because of it had been done.
    over: Option<Time>,
}

impl Standstill {
    /// Whether there was one after this, so that what was sent then had no fair chance.
    pub(super) fn was_since(&self, sent: Time) -> bool {
        self.over.is_some_and(|over| sent < over)
    }

    /// Whether there was one within the 64·T1 before this deadline.
    pub(super) fn spoilt(&self, deadline: Time) -> bool {
        self.over.is_some_and(|over| deadline < over + T64)
    }
}

impl Shard {
    /// The next timer fires so late.
    pub(super) fn note_late(&mut self, now: Time, late: Duration, out: &mut Effects) {
        if late < STANDSTILL {
            return;
        }
        // While all that is late is being done, what comes next is late for the same reason.
        let before = self.standstill.over.replace(now);
        if before.is_none_or(|over| now.since(over) >= STANDSTILL) {
            self.stats.record(Counter::StoodStill);
            out.events.push(Event::StoodStill(late));
        }
        self.expect_repeats(now);
    }

    /// Who may not have been heard is told the state anew. The same NOTIFY again would be an old one to a phone that had
    /// answered it: after 64·T1 it would be answered 500 (RFC 3261 12.2.2).
    pub(super) fn tell_once_more(&mut self, index: u32) {
        match self.subscriptions[index].phase {
            // A possible ghost has the time of the NOTIFY that asks it, from then on.
            Phase::Probed { .. } => {
                self.enter(index, Phase::Probed { until: None });
                self.enqueue(index, Owed::Change);
            }
            Phase::Active | Phase::Silent { .. } | Phase::Parked | Phase::Terminating(_) => {
                self.enqueue(index, Owed::Prompt);
            }
        }
    }
}
