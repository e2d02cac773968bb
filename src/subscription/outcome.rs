//! What the answer to a NOTIFY, or its absence, means for the subscription (RFC 6665 4.2.2, RFC 5057).

use core::time::Duration;

/// What an unanswered NOTIFY does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTimeout {
    /// The subscription ends (RFC 6665 4.2.2).
    #[default]
    Remove,
    /// It stays, silent, until its phone is heard again or it expires.
    Park,
}

/// What becomes of a subscription whose phone subscribes anew to the same, as it does after a reboot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Supersede {
    /// It is told the state once more: an answer keeps both, for a phone may have two keys for one resource.
    #[default]
    Probe,
    /// It ends at once, without a word.
    Replace,
    /// It stays until it expires.
    Off,
}

/// What the end of a connection does to the subscriptions that it carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnClose {
    /// They stay, silent, until their phone is heard again or they expire.
    #[default]
    Keep,
    /// They end with it.
    End,
}

/// What to do with the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The watcher knows the state.
    Delivered,
    /// Nothing final yet.
    Provisional,
    /// Keep it, stay silent so long, then send the newest state.
    Retry(Duration),
    /// The watcher no longer has the dialog, or refuses it: the record goes now, without a word.
    Remove,
}

/// The meaning of an answer with this status and, where it had one, this Retry-After.
//= RFC 6665 4.2.2
pub fn of_answer(status: u16, retry_after: Option<Duration>) -> Outcome {
    match (status, retry_after) {
        (100..=199, _) => Outcome::Provisional,
        (200..=299, _) => Outcome::Delivered,
        (status, _) if ends_dialog(status) => Outcome::Remove,
        (_, Some(pause)) => Outcome::Retry(pause),
        (_, None) => Outcome::Remove,
    }
}

/// Whether an answer says that the dialog is gone, whichever of its NOTIFYs it is to and whatever else it says: the watcher
/// does not know it, or the flow that its route set names has ended. A refresh brings no other route set, so nothing but a
/// new dialog helps.
//= RFC 5626 5.3.1
pub fn ends_dialog(status: u16) -> bool {
    matches!(status, 430 | 481)
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 6665 4.2.2 type=test
    #[test]
    fn a_failure_ends_the_subscription_unless_it_says_when_to_try_again() {
        let pause = Some(Duration::from_secs(5));
        for status in [
            300, 401, 404, 405, 407, 408, 410, 416, 480, 482, 489, 500, 501, 503, 600, 604,
        ] {
            assert_eq!(of_answer(status, None), Outcome::Remove, "{status}");
            assert_eq!(
                of_answer(status, pause),
                Outcome::Retry(Duration::from_secs(5)),
                "{status}"
            );
        }
    }

    //= RFC 5626 5.3.1 type=test
    #[test]
    fn a_dialog_or_a_flow_that_is_gone_does_not_come_back_later() {
        let pause = Some(Duration::from_secs(5));
        for status in [430, 481] {
            assert_eq!(of_answer(status, None), Outcome::Remove, "{status}");
            assert_eq!(of_answer(status, pause), Outcome::Remove, "{status}");
        }
    }

    #[test]
    fn any_2xx_delivers_and_any_1xx_waits() {
        for status in [200, 202, 204, 299] {
            assert_eq!(of_answer(status, None), Outcome::Delivered);
        }
        for status in [100, 180, 199] {
            assert_eq!(
                of_answer(status, Some(Duration::from_secs(1))),
                Outcome::Provisional
            );
        }
    }
}
