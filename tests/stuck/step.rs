//! Where in its life a subscription is when something fails. Each matrix goes through those that can meet its failure.

/// The last thing that happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its first NOTIFY is owed, or waits for its answer.
    First,
    /// Nothing is on its way.
    AtRest,
    Change,
    Refresh,
    Retransmission,
    /// A newer state takes the place of a NOTIFY that was never answered.
    Replaced,
    /// Its phone has asked for a pause.
    Pause,
    /// It was parked, because its phone was silent or its connection had ended, and is heard again.
    HeardAgain,
    Unsubscribe,
    Expiry,
    /// It expires while a NOTIFY waits for its answer.
    ExpiryInFlight,
    Fetch,
    Drain,
}

impl Step {
    /// The subscription goes on after this step, if nothing fails.
    pub fn lives_on(self) -> bool {
        match self {
            Step::First
            | Step::AtRest
            | Step::Change
            | Step::Refresh
            | Step::Retransmission
            | Step::Replaced
            | Step::Pause
            | Step::HeardAgain => true,
            Step::Unsubscribe | Step::Expiry | Step::ExpiryInFlight | Step::Fetch | Step::Drain => {
                false
            }
        }
    }
}
