//! Hears everything that reaches the server and everything that leaves it, and knows the rules
//! that hold whatever happens: a witness is asked about each datagram, and an `Err` is a bug.
//!
//! It looks at the wire only, so it judges scenarios, the simulator, or a capture alike.

mod answer;
mod notify;

use std::collections::BTreeMap;
use std::time::Duration;

use lampfield::time::{T2, T64, Time};

use crate::lamp::Document;
use crate::message::{Message, address, parameter};

/// Names a dialog by its Call-ID and the two tags, phone's first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialogName {
    pub call_id: String,
    pub phone_tag: String,
    pub server_tag: String,
}

/// What the witness remembers of one subscription's dialog.
#[derive(Debug)]
pub struct Dialog {
    pub target: String,
    pub routes: Vec<String>,
    pub package: String,
    pub id: Option<String>,
    from: String,
    to: String,
    entity: String,
    /// When the time ends that the phone was told.
    told: Time,
    /// When its time ends: where expiries carry jitter, the phone is told to be back a little earlier.
    pub deadline: Time,
    /// The 2xx that no NOTIFY has followed yet.
    pub owed_since: Option<Time>,
    /// The NOTIFY with the highest CSeq.
    pub last: Option<Notify>,
    /// NOTIFYs that no final answer has come to, and when each was sent first.
    open: BTreeMap<u32, Time>,
    version: Option<u32>,
    /// The terminated NOTIFY has been sent.
    pub ended: bool,
    /// A refresh of it was answered 481.
    pub disowned: bool,
    /// Who watches what: an equal new dialog may mean that this one was forgotten.
    watch: Watch,
    /// There is an equal newer dialog, and this one's phone has not yet shown that it knows it still.
    pub probed: Option<Probed>,
    /// When it last did.
    known: Option<Time>,
    /// Why nothing new may be sent, and since when.
    pub dead: Option<(Time, &'static str)>,
}

/// Who watches what: From, Contact, Request-URI, and Event with its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Watch {
    from: String,
    device: String,
    entity: String,
    package: String,
    id: Option<String>,
}

/// Whether a phone still knows a dialog is being asked.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    /// Since when there is reason to.
    since: Time,
    /// When it was: by the first NOTIFY from then on.
    asked: Option<Time>,
    /// It has answered when its time was over, or about to be: it may be gone or not.
    in_doubt: bool,
}

/// How long a dialog lasts whose phone has an equal newer one and, when it is asked, does not answer in the old one.
const PROBE: Duration = Duration::from_secs(32 + 2);

/// The newest NOTIFY of a dialog.
#[derive(Debug)]
pub struct Notify {
    pub cseq: u32,
    bytes: Vec<u8>,
    pub first_sent: Time,
    last_sent: Time,
    sends: u32,
    /// A provisional answer has come.
    provisional: bool,
    /// When the final answer came, and which.
    pub answered: Option<(Time, u16)>,
    /// The final answer says that the subscription is over.
    refused: bool,
}

/// A request as it reached the server.
#[derive(Debug)]
struct Heard {
    message: Message,
    /// The final answer that it got: status, To tag, and when.
    answer: Option<(u16, Option<String>, Time)>,
    /// That was a refusal for want of room.
    turned_away: bool,
}

/// What a datagram from the server turned out to be.
#[derive(Debug)]
pub enum Said {
    /// The answer to a request that was heard; `again`: not for the first time.
    Answer { again: bool },
    /// An answer to something that the witness could not read as a request.
    AnswerToUnread,
    Notify {
        name: DialogName,
        document: Document,
        again: bool,
    },
}

/// Why a subscription ended whose NOTIFY the kernel will never take.
const UNDELIVERABLE: &str = "its NOTIFY cannot be sent";

/// What is known of all conversations with one server.
#[derive(Debug)]
pub struct Witness {
    /// By Call-ID, CSeq and branch.
    heard: BTreeMap<(String, String, String), Heard>,
    pub dialogs: BTreeMap<DialogName, Dialog>,
    /// The dialogs of one phone that show the same.
    watches: BTreeMap<Watch, Vec<DialogName>>,
    /// How long news may take inside the server, from socket to owner.
    slack: Duration,
    /// A phone that asks for long may be told less, and is still given what it asked for.
    pub jitters: bool,
    /// A newer dialog of a phone ends an equal older one at once.
    pub replaces: bool,
    /// Whether a newer dialog of a phone makes an equal older one prove itself.
    pub probes: bool,
    /// A NOTIFY that stays unanswered ends its subscription, instead of parking it.
    pub removes: bool,
    /// Sends may have been refused by the kernel, or the host was asleep: retransmissions need not keep their times.
    pub sends_fail: bool,
}

impl Witness {
    /// `slack`: how long mail between shards may take.
    pub fn new(slack: Duration) -> Self {
        Witness {
            heard: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            watches: BTreeMap::new(),
            slack,
            jitters: false,
            replaces: false,
            probes: true,
            removes: false,
            sends_fail: false,
        }
    }

    /// A datagram reaches a socket of the server.
    pub fn heard(&mut self, now: Time, bytes: &[u8]) {
        let message = Message::read_loosely(bytes);
        match message.status() {
            Some(status) => self.heard_answer(now, &message, status),
            None if message.start.ends_with(" SIP/2.0") => {
                if let Some(key) = request_key(&message) {
                    let answer = None;
                    self.heard.entry(key).or_insert(Heard {
                        message,
                        answer,
                        turned_away: false,
                    });
                }
            }
            None => {}
        }
    }

    fn heard_answer(&mut self, now: Time, message: &Message, status: u16) {
        let tags = (
            message.tag("To"),
            message.tag("From"),
            message.header("Call-ID"),
        );
        let (Some(phone_tag), Some(server_tag), Some(call_id)) = tags else {
            return;
        };
        let name = DialogName {
            call_id: call_id.to_string(),
            phone_tag: phone_tag.to_string(),
            server_tag: server_tag.to_string(),
        };
        let Some(dialog) = self.dialogs.get_mut(&name) else {
            return;
        };
        // Only the first final answer counts, and only while the transaction lives.
        let begun = message.cseq().and_then(|cseq| match status {
            ..200 => None,
            _ => dialog.open.remove(&cseq),
        });
        let begun = begun.filter(|begun| now.since(*begun) < T64);
        if status == 481 && begun.is_some() {
            dialog
                .dead
                .get_or_insert((now, "its NOTIFY was answered 481"));
        }
        // Whoever answers what asked it knows the dialog, also when a newer NOTIFY has gone out since.
        if let Some(begun) = begun
            && (200..300).contains(&status)
            && dialog.probed.is_some_and(|probed| probed.since <= begun)
        {
            dialog.proves_itself(now, self.slack);
        }
        let Some(last) = &mut dialog.last else {
            return;
        };
        if message.cseq() != Some(last.cseq) || now.since(last.first_sent) > T64 {
            return;
        }
        // A pause that it asks for is an answer as well, whichever NOTIFY it was for.
        if message.header("Retry-After").is_some() && status != 481 {
            dialog.probed = None;
            dialog.known = Some(now);
        }
        if status < 200 {
            last.provisional = true;
        } else if last.answered.is_none() {
            last.answered = Some((now, status));
            last.refused = status >= 300 && message.header("Retry-After").is_none();
        }
    }

    /// The kernel has refused a datagram for a reason that will not go away: the subscription of a NOTIFY ends.
    pub fn undeliverable(&mut self, now: Time, bytes: &[u8]) {
        let message = Message::read_loosely(bytes);
        let name = DialogName {
            call_id: message.header("Call-ID").unwrap_or_default().to_string(),
            phone_tag: message.tag("To").unwrap_or_default().to_string(),
            server_tag: message.tag("From").unwrap_or_default().to_string(),
        };
        if message.method() == Some("NOTIFY")
            && let Some(dialog) = self.dialogs.get_mut(&name)
        {
            dialog.dead.get_or_insert((now, UNDELIVERABLE));
        }
    }

    /// Whether a dialog with that Call-ID is at that CSeq; a Call-ID that nobody knows may be at any.
    pub fn is_at(&self, call_id: &str, cseq: u32) -> bool {
        let named = self
            .dialogs
            .iter()
            .filter(|(name, _)| name.call_id == call_id);
        let mut at = named.map(|(_, dialog)| dialog.last.as_ref().map_or(0, |last| last.cseq));
        at.clone().next().is_none() || at.any(|last| last == cseq)
    }

    /// A subscription whose time ran out a while ago, and whose phone was not told.
    pub fn untold(&self, now: Time, patience: Duration) -> Option<&DialogName> {
        let untold = self.dialogs.iter().find(|(_, dialog)| {
            let lately = now > dialog.deadline + patience && now < dialog.deadline + 3 * patience;
            let refused = dialog.last.as_ref().is_some_and(|last| last.refused);
            lately
                && !dialog.ended
                && !dialog.disowned
                && !refused
                && dialog.dead.is_none()
                && dialog.probed.is_none()
                && !dialog.unanswered_at(now, self.sends_fail)
        });
        untold.map(|(name, _)| name)
    }

    /// A dialog that its phone may have forgotten long since, and was not asked about.
    pub fn unasked(&self, now: Time, patience: Duration) -> Option<&DialogName> {
        let unasked = self.dialogs.iter().find(|(_, dialog)| {
            let waits =
                |probed: Probed| probed.asked.is_none() && now.since(probed.since) > patience;
            let refused = dialog.last.as_ref().is_some_and(|last| last.refused);
            dialog.probed.is_some_and(waits)
                && now < dialog.deadline
                && !dialog.ended
                && !dialog.disowned
                && !refused
                && dialog.dead.is_none()
                && !dialog.unanswered_at(now, self.sends_fail)
        });
        unasked.map(|(name, _)| name)
    }

    /// A datagram has left the server.
    pub fn said(&mut self, now: Time, bytes: &[u8]) -> Result<Said, String> {
        let message = Message::read(bytes)?;
        let method = message.method().map(str::to_string);
        match method.as_deref() {
            None => self.said_answer(now, &message),
            Some("NOTIFY") => self.said_notify(now, message),
            Some(method) => Err(format!("a server has no reason to send {method}")),
        }
    }

    /// Whether the server has given up a dialog, or must by now: expired, answered 481,
    /// terminated, or a NOTIFY unanswered for 64·T1.
    pub fn gone(&self, now: Time, name: &DialogName) -> bool {
        let Some(dialog) = self.dialogs.get(name) else {
            return true;
        };
        dialog.ended
            || dialog.dead.is_some()
            || now >= dialog.deadline
            || dialog.is_ghost_at(now, Duration::ZERO)
            || dialog.last.as_ref().is_some_and(|last| last.refused)
            || dialog.unanswered_at(now, self.sends_fail)
    }

    /// A NOTIFY is owed after each 2xx to SUBSCRIBE: the dialogs that have waited longer than `patience`.
    pub fn overdue(&self, now: Time, patience: Duration) -> Option<&DialogName> {
        self.dialogs
            .iter()
            .find(|(_, dialog)| {
                let owed = dialog
                    .owed_since
                    .is_some_and(|since| now.since(since) > patience);
                let refused = dialog.last.as_ref().is_some_and(|last| last.refused);
                owed && !refused
                    && dialog.dead.is_none()
                    && !dialog.is_ghost_at(now, Duration::ZERO)
                    && !dialog.unanswered_at(now, self.sends_fail)
            })
            .map(|(name, _)| name)
    }
}

impl Dialog {
    /// Its phone has subscribed anew and did not answer here within its time, give or take `slack`.
    pub fn is_ghost_at(&self, now: Time, slack: Duration) -> bool {
        self.asked()
            .is_some_and(|asked| now.since(asked) + slack >= PROBE - Duration::from_secs(1))
    }

    /// Its phone has answered a NOTIFY that asked whether it still knows it.
    fn proves_itself(&mut self, now: Time, slack: Duration) {
        if self.is_ghost_at(now, slack) {
            // As a host that was asleep looks at the time and at what has come, one before the other.
            if let Some(probed) = &mut self.probed {
                probed.in_doubt = true;
            }
        } else {
            self.probed = None;
            self.known = Some(now);
        }
    }

    /// Whether it must be gone by now, give or take `slack`, as its phone did not show that it still knows it.
    pub fn is_forgotten_at(&self, now: Time, slack: Duration) -> bool {
        let doubted = self.probed.is_some_and(|probed| probed.in_doubt);
        let asked = self.asked();
        !doubted && asked.is_some_and(|asked| now > asked + PROBE + slack)
    }

    /// When its phone was asked whether it still knows it, and has not shown that since.
    fn asked(&self) -> Option<Time> {
        self.probed.and_then(|probed| probed.asked)
    }

    /// The newest NOTIFY got no final answer in its time, and was sent again to the end of it. One that stood
    /// back for a newer state has proved nothing; where sends are `late` nobody can tell.
    pub fn unanswered_at(&self, now: Time, late: bool) -> bool {
        self.last.as_ref().is_some_and(|last| {
            let persisted =
                last.last_sent + T2 + Duration::from_millis(100) >= last.first_sent + T64;
            last.answered.is_none() && now.since(last.first_sent) >= T64 && (persisted || late)
        })
    }
}

/// Call-ID, CSeq and branch: what an answer repeats.
fn request_key(message: &Message) -> Option<(String, String, String)> {
    let via = message.list("Via").into_iter().next()?;
    Some((
        message.header("Call-ID")?.to_string(),
        message
            .header("CSeq")?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        parameter(&via, "branch").unwrap_or_default().to_string(),
    ))
}

/// The URI of a header, which no tag may change on the way.
fn uri_of(message: &Message, name: &str) -> String {
    message
        .header(name)
        .map(address)
        .unwrap_or_default()
        .to_string()
}

/// Compares what was sent with what should have been, naming the thing.
fn same(what: &str, is: &str, should_be: &str) -> Result<(), String> {
    match is == should_be {
        true => Ok(()),
        false => Err(format!("{what} is {is:?} and should be {should_be:?}")),
    }
}
