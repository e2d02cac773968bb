//! A look at every subscription, some at a time: what is owed, and what must not be, without holding the shard up.

use super::Shard;
use crate::config::limits;
use crate::subscription::record::{Owed, Phase, Subscription};
use crate::time::{T64, Time};

/// What was seen in one round over all subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A newer state is owed.
    pub dirty: u64,
    /// The phone asked for a pause.
    pub silent: u64,
    /// The last NOTIFY is owed or on its way.
    pub terminating: u64,
    /// Nothing has ended it although its time was over long ago.
    pub overdue: u64,
}

/// Rounds, one after the other.
#[derive(Debug, Default)]
pub struct Audit {
    /// Where the present round goes on.
    next: u32,
    present: Seen,
    last: Seen,
}

impl Shard {
    /// Looks at `AUDIT_LOOKS` subscriptions; says what the last whole round has seen. With fewer
    /// subscriptions than that every look is a whole round, and the answer is of this moment.
    pub(super) fn audit(&mut self, now: Time) -> Seen {
        for _ in 0..limits::AUDIT_LOOKS {
            let Some(index) = self.subscriptions.next_from(self.audit.next) else {
                self.audit.last = core::mem::take(&mut self.audit.present);
                self.audit.next = 0;
                break;
            };
            self.audit.next = index + 1;
            self.audit.present.add(now, &self.subscriptions[index]);
        }
        self.audit.last
    }
}

impl Seen {
    fn add(&mut self, now: Time, subscription: &Subscription) {
        self.dirty += u64::from(subscription.owed != Owed::Nothing);
        match subscription.phase {
            Phase::Active | Phase::Probed { .. } | Phase::Parked => {}
            Phase::Silent { .. } => self.silent += 1,
            Phase::Terminating(_) => self.terminating += 1,
        }
        self.overdue += u64::from(subscription.expires_at + T64 < now);
    }
}
