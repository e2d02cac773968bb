//! One phone's key: a subscription as its watcher knows it, and the judgement of each NOTIFY.
//! It sends nothing itself; the field does.

use std::rc::Rc;
use std::time::Duration;

use crate::field::PlaceId;
use crate::lamp::{self, Lamp};
use crate::wire::{Heard, Package, number, parameter};

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Never subscribed, or ended and forgotten.
    #[default]
    Off,
    Subscribing,
    Active,
    /// Unsubscribed; the last NOTIFY is still to come.
    Leaving,
    /// The server ended it, or it was unsubscribed to the end.
    Gone,
    /// Refused; it may try again later.
    Refused,
    /// Off without a word: nothing reaches it.
    Dead,
}

/// One key of one phone.
#[derive(Default)]
pub struct Phone {
    pub resource: u32,
    pub stage: Stage,
    /// Which subscription of this key it is: counts up with each new dialog.
    pub incarnation: u32,
    /// Of the newest SUBSCRIBE.
    pub cseq: u32,
    pub asked: u32,
    pub granted: u32,
    /// When its newest request was first sent.
    pub asked_since: Duration,
    /// It lets its subscription expire.
    pub sleeps: bool,
    pub awaits_answer: bool,
    pub awaits_notify: bool,
    /// The tag and the target of the server, empty before they are known.
    pub tag: Box<[u8]>,
    pub target: Rc<[u8]>,
    /// Its Route header fields, in a dialog through proxies that recorded theirs.
    pub routes: Rc<[u8]>,
    /// Where its newest request went.
    pub asked_at: PlaceId,
    /// Where its last accepted one went: from there it must hear.
    pub known: PlaceId,
    /// The port by which it asked last, and the one by which its last accepted request went.
    pub port: Option<usize>,
    pub known_port: Option<usize>,
    /// The one before that, where it led, and since when it has been left.
    pub port_before: Option<usize>,
    pub known_before: PlaceId,
    pub moved: Duration,
    /// Where its next request goes, whatever the server says.
    pub moves_to: Option<PlaceId>,
    pub heard_cseq: Option<u32>,
    /// What the NOTIFY with that CSeq looked like.
    pub heard_print: u64,
    pub version: Option<u32>,
    pub lamp: Lamp,
    /// Shows what is true.
    pub right: bool,
    /// Since when it could have shown what is true and did not.
    pub wrong_since: Duration,
}

/// Everything that was counted. What must be zero is in `wrongs`.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    pub requests_sent: u64,
    pub requests_again: u64,
    pub requests_unanswered: u64,
    pub answers: u64,
    pub answers_again: u64,
    pub refusals: u64,
    /// Of them, how many refused a refresh.
    pub refreshes_refused: u64,
    pub reboots: u64,
    pub deaths: u64,
    pub expired: u64,
    pub notifies: u64,
    pub notifies_again: u64,
    pub notifies_missed: u64,
    pub notifies_before_answer: u64,
    pub datagrams_lost_on_purpose: u64,
    /// Older ones that came, by the connection before, after newer ones.
    pub notifies_overtaken: u64,
    /// Nobody ran the phones for seconds.
    pub standstills: u64,
    pub connections_opened: u64,
    pub connections_ended: u64,
    pub handshakes: u64,
    pub visits: u64,
    /// A killed server had begun a dialog and not said so: the same request began a second one.
    pub dialogs_begun_twice: u64,
    /// A phone asked for 64·T1 of a server that was killed again and again, and began anew.
    pub given_up: u64,
    /// The server was killed between the answer to an unsubscription and its last NOTIFY.
    pub last_notifies_lost: u64,
    pub notify_bytes_max: u64,
    /// Datagrams, whatever became of them: what arrived, and the answers to NOTIFYs that left.
    pub notifies_heard: u64,
    pub answers_heard: u64,
    pub answers_sent: u64,

    pub unreadable: u64,
    pub cseq_went_back: u64,
    pub cseq_used_twice: u64,
    pub version_wrong: u64,
    pub wrong_dialog: u64,
    pub after_the_end: u64,
    pub ended_unasked: u64,
    pub expires_wrong: u64,
    pub header_wrong: u64,
    pub body_unreadable: u64,
    pub answer_unexpected: u64,
    pub from_wrong_place: u64,
    pub to_wrong_place: u64,
    pub contact_wrong: u64,
    pub class_wrong: u64,
    pub connections_refused: u64,
    pub connections_lost: u64,
    pub certificate_wrong: u64,
    pub sends_refused: u64,
}

impl Seen {
    /// What no correct server causes, with its count.
    pub fn wrongs(&self) -> [(&'static str, u64); 18] {
        [
            ("messages that no phone could read", self.unreadable),
            ("NOTIFYs whose CSeq went back", self.cseq_went_back),
            ("NOTIFYs with the CSeq of another", self.cseq_used_twice),
            (
                "documents whose version did not rise by one",
                self.version_wrong,
            ),
            ("messages with the tag of another dialog", self.wrong_dialog),
            (
                "NOTIFYs after the end of the subscription",
                self.after_the_end,
            ),
            ("subscriptions ended unasked", self.ended_unasked),
            (
                "expiries above what was asked or granted",
                self.expires_wrong,
            ),
            ("NOTIFYs with a wrong or missing header", self.header_wrong),
            ("bodies that no phone could read", self.body_unreadable),
            ("unexpected answers", self.answer_unexpected),
            (
                "messages from an address that the phone does not know",
                self.from_wrong_place,
            ),
            ("NOTIFYs to the wrong phone", self.to_wrong_place),
            (
                "Contacts that lead elsewhere than they must",
                self.contact_wrong,
            ),
            (
                "NOTIFYs with another DSCP than their listener's",
                self.class_wrong,
            ),
            ("connections refused or reset", self.connections_refused),
            ("connections lost that were needed", self.connections_lost),
            (
                "handshakes with another certificate than the newest",
                self.certificate_wrong,
            ),
        ]
    }
}

/// What a load does to a server that excuses it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// Subscriptions are left to expire: their end is no fault.
    pub may_end: bool,
    /// The server is killed between any two messages.
    pub killed: bool,
}

/// What a NOTIFY was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// News: the lamp shows it now.
    Taken,
    /// The same again, because our answer did not arrive.
    Again,
    /// Not of a dialog that this phone has: it is answered 481.
    Foreign,
}

impl Phone {
    /// Takes a NOTIFY that carries this key's Call-ID and `local_tag` in its To.
    pub fn take_notify(
        &mut self,
        heard: &Heard<'_>,
        local_tag: &[u8],
        package: Package,
        leniency: Leniency,
        seen: &mut Seen,
    ) -> Verdict {
        if Heard::tag(heard.to) != Some(local_tag) {
            seen.wrong_dialog += 1;
            return Verdict::Foreign;
        }
        let tag = Heard::tag(heard.from).unwrap_or(b"");
        if tag.is_empty() || (!self.tag.is_empty() && *self.tag != *tag) {
            let twice = leniency.killed && !tag.is_empty();
            seen.dialogs_begun_twice += u64::from(twice);
            seen.wrong_dialog += u64::from(!twice);
            return Verdict::Foreign;
        }
        if self.heard_cseq == Some(heard.cseq) {
            // RFC 3261 17.1.2.2: a retransmission is the same message.
            let same = self.heard_print == heard.print();
            seen.cseq_used_twice += u64::from(!same);
            seen.notifies_again += u64::from(same);
            return Verdict::Again;
        }
        if matches!(self.stage, Stage::Off | Stage::Gone) {
            // Its end, told once more to a phone that was told by the answer to its refresh.
            let the_end = (leniency.may_end || leniency.killed)
                && heard.subscription_state.starts_with(b"terminated");
            seen.after_the_end += u64::from(!the_end);
            return Verdict::Foreign;
        }
        if self.tag.is_empty() {
            seen.notifies_before_answer += 1;
            self.tag = tag.into();
            self.learn_target(heard);
        }
        self.check_order(heard, package, seen);
        self.heard_print = heard.print();
        self.check_headers(heard, package, leniency.may_end, seen);
        match Lamp::read(package, heard.body) {
            Some(lamp) => self.lamp = lamp,
            None => seen.body_unreadable += 1,
        }
        seen.notifies += 1;
        self.awaits_notify = false;
        Verdict::Taken
    }

    /// The server began this key's dialog twice, because it was killed before it could answer: only the second counts.
    pub fn begin_again(&mut self, seen: &mut Seen) {
        seen.dialogs_begun_twice += 1;
        self.tag = Box::default();
        self.heard_cseq = None;
        self.version = None;
        self.awaits_notify = true;
    }

    /// Whether an answer or a NOTIFY is owed to it.
    pub fn waits(&self) -> bool {
        self.awaits_answer || self.awaits_notify
    }

    /// Remembers where the dialog's requests go.
    pub fn learn_target(&mut self, heard: &Heard<'_>) {
        if let Some(target) = Heard::target(heard.contact)
            && *self.target != *target
        {
            self.target = target.into();
        }
    }

    /// The route set is what the proxies recorded, in reverse order, and stays (RFC 3261 12.1.2). How many there are.
    pub fn learn_routes(&mut self, heard: &Heard<'_>) -> usize {
        let mut routes = Vec::new();
        let mut count = 0;
        for route in heard.routes.iter().rev().filter(|route| !route.is_empty()) {
            routes.extend_from_slice(b"Route: ");
            routes.extend_from_slice(route);
            routes.extend_from_slice(b"\r\n");
            count += 1;
        }
        if *self.routes != *routes {
            self.routes = routes.into();
        }
        count
    }

    /// CSeq rises by exactly one, and the version with it. What a lost datagram skipped is counted, not blamed.
    fn check_order(&mut self, heard: &Heard<'_>, package: Package, seen: &mut Seen) {
        let steps = match self.heard_cseq {
            None => 1,
            Some(last) if heard.cseq < last => {
                seen.cseq_went_back += 1;
                return;
            }
            Some(last) => heard.cseq - last,
        };
        seen.notifies_missed += u64::from(steps - 1);
        self.heard_cseq = Some(heard.cseq);
        if package == Package::Dialog {
            let version = lamp::version(heard.body);
            let expected = self.version.map(|version| version + steps);
            if version.is_none() || (expected.is_some() && version != expected) {
                seen.version_wrong += 1;
            }
            self.version = version;
        }
    }

    fn check_headers(
        &mut self,
        heard: &Heard<'_>,
        package: Package,
        may_end: bool,
        seen: &mut Seen,
    ) {
        let state = heard.subscription_state;
        if state.starts_with(b"active") {
            let left = parameter(state, b"expires=").and_then(number);
            let most = if self.granted > 0 {
                self.granted
            } else {
                self.asked
            };
            // A refresh may have asked for less than the dialog still had when this was sent.
            if left.is_none_or(|left| left > most.max(self.asked)) {
                seen.expires_wrong += 1;
            }
        } else if state.starts_with(b"terminated") {
            if self.stage != Stage::Leaving && !may_end {
                seen.ended_unasked += 1;
            } else if parameter(state, b"reason=") != Some(b"timeout") {
                seen.header_wrong += 1;
            } else if self.stage != Stage::Leaving {
                seen.expired += 1;
            }
            self.stage = Stage::Gone;
        } else {
            seen.header_wrong += 1;
        }
        if heard.event != package.event().as_bytes() || heard.contact.is_empty() {
            seen.header_wrong += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(cseq: u32, version: u32, state: &str, lasting: &str) -> Vec<u8> {
        let body =
            format!("<dialog-info version=\"{version}\"><state>{state}</state></dialog-info>");
        format!(
            "NOTIFY sip:p@h SIP/2.0\r\nVia: SIP/2.0/UDP s;branch=z9hG4bKx\r\nFrom: <sip:r@s>;tag=s1\r\nTo: <sip:p@s>;tag=p1\r\n\
             Call-ID: c\r\nCSeq: {cseq} NOTIFY\r\nContact: <sip:s>\r\nEvent: dialog\r\nSubscription-State: {lasting}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    fn active() -> Phone {
        Phone {
            stage: Stage::Active,
            asked: 60,
            granted: 60,
            tag: (*b"s1").into(),
            ..Phone::default()
        }
    }

    fn take(phone: &mut Phone, seen: &mut Seen, bytes: &[u8]) -> Verdict {
        let heard = Heard::read(bytes).unwrap();
        let leniency = Leniency::default();
        phone.take_notify(&heard, b"p1", Package::Dialog, leniency, seen)
    }

    fn wrongs(seen: &Seen) -> u64 {
        seen.wrongs().iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn a_right_sequence_is_not_blamed() {
        let (mut phone, mut seen) = (active(), Seen::default());
        let first = notify(1, 0, "terminated", "active;expires=60");
        assert_eq!(take(&mut phone, &mut seen, &first), Verdict::Taken);
        assert_eq!(take(&mut phone, &mut seen, &first), Verdict::Again);
        let second = notify(2, 1, "early", "active;expires=59");
        assert_eq!(take(&mut phone, &mut seen, &second), Verdict::Taken);
        assert_eq!(phone.lamp, Lamp::Early);
        assert_eq!(wrongs(&seen), 0);
        assert_eq!((seen.notifies, seen.notifies_again), (2, 1));
    }

    #[test]
    fn each_kind_of_wrong_is_counted() {
        let (mut phone, mut seen) = (active(), Seen::default());
        take(
            &mut phone,
            &mut seen,
            &notify(5, 4, "early", "active;expires=60"),
        );
        take(
            &mut phone,
            &mut seen,
            &notify(4, 5, "early", "active;expires=60"),
        );
        assert_eq!(seen.cseq_went_back, 1);
        take(
            &mut phone,
            &mut seen,
            &notify(5, 4, "confirmed", "active;expires=60"),
        );
        assert_eq!((seen.cseq_used_twice, seen.notifies_again), (1, 0));
        take(
            &mut phone,
            &mut seen,
            &notify(6, 4, "early", "active;expires=60"),
        );
        assert_eq!(seen.version_wrong, 1);
        take(
            &mut phone,
            &mut seen,
            &notify(7, 5, "early", "active;expires=61"),
        );
        assert_eq!(seen.expires_wrong, 1);
        take(
            &mut phone,
            &mut seen,
            &notify(9, 7, "odd", "active;expires=60"),
        );
        assert_eq!((seen.body_unreadable, seen.notifies_missed), (1, 1));
        take(
            &mut phone,
            &mut seen,
            &notify(10, 8, "early", "terminated;reason=timeout"),
        );
        assert_eq!(seen.ended_unasked, 1);
        let verdict = take(
            &mut phone,
            &mut seen,
            &notify(11, 9, "early", "active;expires=60"),
        );
        assert_eq!((verdict, seen.after_the_end), (Verdict::Foreign, 1));
    }
}
