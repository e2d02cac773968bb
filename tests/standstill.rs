//! One shard that nobody runs for a while, as on a virtual machine that is copied: what it had sent before had no fair chance,
//! so nobody is given up for not having answered. No kernel, no clock.

#[path = "support/site.rs"]
mod site;

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::stats::Counter;
use lampfield::time::T64;
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::witness::Witness;
use lampfield_sim::world::reply;
use site::{Site, subscribe};

const MINUTE: Duration = Duration::from_secs(60);

/// A site, and one phone's messages.
struct Stopped {
    site: Site,
    phone: SocketAddr,
}

/// What a phone has been sent, by its first line and Subscription-State.
#[derive(Debug, PartialEq)]
struct Told {
    call_id: String,
    cseq: u32,
    state: String,
}

impl Stopped {
    fn new() -> Self {
        Stopped {
            site: Site::new(&Settings::default()),
            phone: SocketAddr::from(([127, 0, 0, 1], 7000)),
        }
    }

    /// Asks, and gives the status and the tag of the answer. What else is said remains unanswered.
    fn ask(&mut self, phone: &str, cseq: u32, tag: &str, expires: u32) -> (u16, String) {
        let request = subscribe(phone, self.phone, cseq, tag, expires);
        let sent = self.site.receive(self.phone, &request);
        let answer = Message::read_loosely(&sent.first().expect("an answer").bytes);
        let tag = answer.tag("To").unwrap_or_default().to_owned();
        (answer.status().expect("a status"), tag)
    }

    /// What a phone is told meanwhile, if it answers nothing.
    fn hear(&mut self, time: Duration) -> Vec<Told> {
        let sent = self.site.pass(time);
        sent.iter()
            .filter_map(|(_, sent)| told(&Message::read_loosely(&sent.bytes)))
            .collect()
    }

    /// The same, if it answers.
    fn answer(&mut self, time: Duration, status: u16) -> Vec<Told> {
        let mut heard = Vec::new();
        self.site.pass_conversing(time, |_, message| {
            heard.push(told(message)?);
            Some(reply(message, status, None))
        });
        heard
    }

    fn subscriptions(&mut self) -> usize {
        self.site.census().subscriptions
    }

    fn standstills(&mut self) -> u64 {
        self.site.figures().stats.get(Counter::StoodStill)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.site.complaint(), None);
        }
    }
}

fn told(message: &Message) -> Option<Told> {
    (message.method() == Some("NOTIFY")).then(|| Told {
        call_id: message.header("Call-ID").unwrap_or_default().to_owned(),
        cseq: message.cseq().expect("a CSeq"),
        state: message
            .header("Subscription-State")
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_ascii_lowercase())
            .collect(),
    })
}

fn active(call_id: &str, cseq: u32) -> Told {
    Told {
        call_id: call_id.to_owned(),
        cseq,
        state: "active".to_owned(),
    }
}

//= RFC 6665 4.2.2 type=test
#[test]
fn who_was_told_just_before_is_told_once_more() {
    let mut stopped = Stopped::new();
    stopped.ask("p", 1, "", 3600);
    assert_eq!(stopped.hear(Duration::from_millis(100)), [active("p.", 1)]);
    stopped.site.stand_still(MINUTE);
    assert_eq!(
        stopped.answer(Duration::from_secs(1), 200),
        [active("p.", 2)]
    );
    assert_eq!(stopped.answer(2 * T64, 200), []);
    assert_eq!((stopped.subscriptions(), stopped.standstills()), (1, 1));
}

/// It had its answer's chance: the one that comes late ends what waits, too.
#[test]
fn an_answer_that_waited_counts() {
    let mut stopped = Stopped::new();
    stopped.ask("p", 1, "", 3600);
    let sent = stopped.site.pass(Duration::ZERO);
    let notify = Message::read(&sent[0].1.bytes).expect("a NOTIFY");
    stopped.site.stand_still(MINUTE);
    // What came in is read before timers fire.
    let phone = stopped.phone;
    stopped.site.receive(phone, &reply(&notify, 200, None));
    assert_eq!(stopped.hear(2 * T64), []);
    assert_eq!(stopped.subscriptions(), 1);
}

#[test]
fn who_is_silent_all_the_same_ends_by_64_t1_after_it() {
    let mut stopped = Stopped::new();
    stopped.ask("p", 1, "", 3600);
    stopped.hear(Duration::from_millis(100));
    stopped.site.stand_still(MINUTE);
    let heard = stopped.hear(T64 - Duration::from_millis(1));
    assert_eq!(heard.len(), 11, "{heard:?}");
    assert_eq!(stopped.subscriptions(), 1);
    stopped.hear(Duration::from_millis(2));
    assert_eq!(stopped.subscriptions(), 0);
}

/// A few seconds cost a NOTIFY one sending or two of eleven.
#[test]
fn a_short_one_excuses_nobody() {
    let mut stopped = Stopped::new();
    stopped.ask("p", 1, "", 3600);
    stopped.hear(Duration::from_secs(5));
    stopped.site.stand_still(Duration::from_secs(6));
    stopped.hear(T64 - Duration::from_secs(11) + Duration::from_millis(1));
    assert_eq!((stopped.subscriptions(), stopped.standstills()), (0, 0));
}

/// A key that might be that of a rebooted phone, and is not, or is. `before`: how long it has been asked already.
fn ghost(before: Duration, still: Duration, status: u16) {
    let mut stopped = Stopped::new();
    stopped.ask("p", 1, "", 3600);
    stopped.answer(T64, 200);
    let again = subscribe("p", stopped.phone, 1, "", 3600);
    let again = String::from_utf8(again).expect("text");
    let again = again
        .replace("Call-ID: p.", "Call-ID: q.")
        .replace("tag=f-p", "tag=f-q")
        .replace("branch=z9hG4bK-p", "branch=z9hG4bK-q");
    let phone = stopped.phone;
    let mut sent = stopped.site.receive(phone, again.as_bytes());
    sent.extend(
        stopped
            .site
            .pass(Duration::ZERO)
            .into_iter()
            .map(|(_, sent)| sent),
    );
    let answer = |message: &Message, of_p: Option<u16>| {
        let status = if told(message)?.call_id == "p." {
            of_p?
        } else {
            200
        };
        Some(reply(message, status, None))
    };
    stopped
        .site
        .converse(sent, |_, message| answer(message, None));
    stopped
        .site
        .pass_conversing(before, |_, message| answer(message, None));
    // What asks it is another NOTIFY now, and its time still runs from the first.
    let sent = stopped.site.set("1001", Some(HintState::Ringing));
    stopped
        .site
        .converse(sent, |_, message| answer(message, None));
    let tenth = Duration::from_millis(100);
    stopped
        .site
        .pass_conversing(tenth, |_, message| answer(message, None));
    stopped.site.stand_still(still);
    let mut asked = 0;
    stopped
        .site
        .pass_conversing(Duration::from_secs(5), |_, message| {
            asked += u32::from(told(message).is_some_and(|told| told.call_id == "p."));
            answer(message, Some(status))
        });
    assert!(asked > 0, "{before:?} {still:?}");
    stopped.answer(2 * T64, 200);
    let left = if status == 200 { 2 } else { 1 };
    assert_eq!(
        stopped.subscriptions(),
        left,
        "{before:?} {still:?} {status}"
    );
}

#[test]
fn a_ghost_is_asked_once_more_and_a_second_key_lives_on() {
    for status in [200, 481] {
        ghost(Duration::from_millis(100), MINUTE, status);
        ghost(Duration::from_secs(20), Duration::from_secs(15), status);
    }
}

/// Its subscription is over whatever it has heard, and another NOTIFY of it would be a stray.
#[test]
fn who_has_left_is_gone() {
    let mut stopped = Stopped::new();
    let (_, tag) = stopped.ask("p", 1, "", 3600);
    stopped.answer(Duration::from_secs(1), 200);
    assert_eq!(stopped.ask("p", 2, &tag, 0).0, 200);
    let heard = stopped.hear(Duration::from_millis(100));
    assert_eq!(heard[0].state, "terminated");
    stopped.site.stand_still(MINUTE);
    assert_eq!(stopped.hear(Duration::from_secs(1)), []);
    assert_eq!(stopped.subscriptions(), 0);
}

/// Its answer found nobody, and the transaction that knew it is over.
//= RFC 3261 17.2.3 type=test
#[test]
fn who_asks_again_is_in_the_dialog_that_it_has_begun() {
    let mut stopped = Stopped::new();
    let (_, tag) = stopped.ask("p", 1, "", 3600);
    stopped.answer(Duration::from_secs(1), 200);
    stopped.site.stand_still(MINUTE);
    stopped.answer(Duration::from_secs(1), 200);
    // Who listens knows the request by its transaction, too.
    stopped.site.witness = Witness::new(Duration::ZERO);
    let again = stopped.ask("p", 1, "", 3600);
    assert_eq!(again, (200, tag));
    stopped.answer(T64, 200);
    assert_eq!(stopped.subscriptions(), 1);
}
