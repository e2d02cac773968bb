//! What fails, when and for how long, and what may be hoped for then.

use crate::step::Step;

/// Where in its life the subscription is when sending begins to fail.
pub const STEPS: [Step; 12] = [
    Step::First,
    Step::Change,
    Step::Refresh,
    Step::Retransmission,
    Step::Replaced,
    Step::Pause,
    Step::HeardAgain,
    Step::Unsubscribe,
    Step::Expiry,
    Step::ExpiryInFlight,
    Step::Fetch,
    Step::Drain,
];

/// Why a NOTIFY does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refuses it; the next time it may be taken.
    Passing(&'static str, i32),
    /// The kernel refuses it, and always will.
    Lasting(&'static str, i32),
    NoSlot,
    NoTransaction,
}

pub const FAILURES: [Failure; 13] = [
    Failure::Passing("EHOSTUNREACH", 113),
    Failure::Passing("ENETUNREACH", 101),
    Failure::Passing("EPERM", 1),
    Failure::Passing("ECONNREFUSED", 111),
    Failure::Passing("EAGAIN", 11),
    Failure::Passing("ENOBUFS", 105),
    Failure::Passing("ENOMEM", 12),
    Failure::Passing("EBADF", 9),
    Failure::Lasting("EMSGSIZE", 90),
    Failure::Lasting("EINVAL", 22),
    Failure::Lasting("EAFNOSUPPORT", 97),
    Failure::NoSlot,
    Failure::NoTransaction,
];

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    Once,
    Seconds(u64),
    ForEver,
}

/// Shorter, and longer, than 64·T1: the life of a NOTIFY.
pub const LASTS: [Lasts; 4] = [
    Lasts::Once,
    Lasts::Seconds(3),
    Lasts::Seconds(50),
    Lasts::ForEver,
];

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub step: Step,
    pub failure: Failure,
    pub lasts: Lasts,
    pub on_timeout: &'static str,
}

impl Case {
    /// Such a failure costs nobody the subscription: what did not leave goes out when it can.
    pub fn survives(&self) -> bool {
        let short = match self.failure {
            Failure::Passing(..) => matches!(self.lasts, Lasts::Once | Lasts::Seconds(3)),
            Failure::Lasting(..) => false,
            // What never began cannot time out.
            Failure::NoSlot | Failure::NoTransaction => self.lasts != Lasts::ForEver,
        };
        short && self.step.lives_on() && !self.is_refused()
    }

    /// Who is new is refused while old work waits for a transaction.
    pub fn is_refused(&self) -> bool {
        self.step == Step::First && self.failure == Failure::NoTransaction
    }

    /// A retransmission has its slot and its transaction already.
    pub fn must_be_met(&self) -> bool {
        let begins = self.step != Step::Retransmission;
        begins || !matches!(self.failure, Failure::NoSlot | Failure::NoTransaction)
    }
}
