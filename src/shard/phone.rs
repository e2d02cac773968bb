//! What a request says of its phone as a whole: it can be reached again, and it may have forgotten what it had.

use core::time::Duration;

use super::Shard;
use super::effects::Effects;
use crate::stats::Counter;
use crate::subscription::outcome::Supersede;
use crate::subscription::record::{Owed, Phase};
use crate::subscription::text::Part;
use crate::time::{T64, Time};

/// How long a possible ghost may take to be told and to answer: one transaction, and time to be sent.
const PROBE: Duration = Duration::from_millis(T64.as_millis() as u64 + 4_000);

impl Shard {
    /// A request of the phone that has this subscription was accepted: all that was parked is told again.
    pub(super) fn heard(&mut self, index: u32) {
        while let Some(parked) = self.subscriptions.parked_beside(index) {
            self.subscriptions.unpark(parked);
            self.subscriptions[parked].owed = Owed::Nothing;
            self.stats.record(Counter::SubscriptionUnparked);
            self.enqueue(parked, Owed::Prompt);
        }
    }

    /// The phone has subscribed anew. What else it has of the same may be a ghost that a reboot left behind, or a second
    /// key for one resource.
    pub(super) fn supersede(&mut self, now: Time, fresh: u32, out: &mut Effects) {
        let mut next = Some(self.subscriptions.first_of_phone(fresh));
        while let Some(index) = next {
            next = self.subscriptions[index].link.next();
            if !self.is_twin(index, fresh) {
                continue;
            }
            match self.settings.rules.subscribe.supersede {
                Supersede::Probe => self.probe(now, index),
                Supersede::Replace => {
                    self.stats.record(Counter::SubscriptionSuperseded);
                    self.end(index, out);
                }
                Supersede::Off => return,
            }
        }
    }

    /// Whether two subscriptions of one phone are dialogs of two calls to watch the same.
    fn is_twin(&self, index: u32, fresh: u32) -> bool {
        let (one, other) = (&self.subscriptions[index], &self.subscriptions[fresh]);
        let differs = |part| one.text.part(part) != other.text.part(part);
        one.copy == other.copy
            && one.package == other.package
            && !one.is_terminating()
            && !differs(Part::EventId)
            && differs(Part::CallId)
    }

    /// One NOTIFY with the full state shows whether the phone still knows the dialog. It goes with the changes, so that
    /// what phones are waiting for does not wait for ghosts.
    fn probe(&mut self, now: Time, index: u32) {
        self.subscriptions.unpark(index);
        let subscription = &mut self.subscriptions[index];
        match subscription.phase {
            Phase::Probed { .. } | Phase::Terminating(_) => return,
            Phase::Active | Phase::Silent { .. } | Phase::Parked => {}
        }
        subscription.phase = Phase::Probed { until: now + PROBE };
        let when = subscription.next_deadline();
        self.set_deadline(index, when);
        self.enqueue(index, Owed::Change);
    }
}
