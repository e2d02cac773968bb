//! The connection of a phone ends, in every way and at every step of a subscription's life. Afterwards the subscription
//! waits for its phone, which is told the newest state with its next request, or it has ended with the connection,
//! whichever is wanted; and at its deadline + 64·T1 at the latest nothing of it is left.

use std::time::Duration;

use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::transport::ConnectionId;
use lampfield_sim::script::settings::Settings;

use crate::house::{House, header, subscribe, tag};
use crate::step::Step;
use crate::{Matrix, nothing_is_left};

/// Where in its life the subscription is when its connection ends.
const STEPS: [Step; 12] = [
    Step::First,
    Step::AtRest,
    Step::Change,
    Step::Refresh,
    Step::Replaced,
    Step::Pause,
    Step::HeardAgain,
    Step::Unsubscribe,
    Step::Expiry,
    Step::ExpiryInFlight,
    Step::Fetch,
    Step::Drain,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Reset,
    /// In the middle of a message.
    ResetMidMessage,
    /// The peer says nothing more, and reads.
    HalfClosed,
    /// The same, right behind a request.
    HalfClosedBehindRequest,
    /// The peer reads nothing any more, until that is enough.
    Stalled,
    /// What comes is no SIP.
    Unreadable,
}

const ENDINGS: [Ending; 6] = [
    Ending::Reset,
    Ending::ResetMidMessage,
    Ending::HalfClosed,
    Ending::HalfClosedBehindRequest,
    Ending::Stalled,
    Ending::Unreadable,
];

/// When the phone comes back by another connection: at once, later than a NOTIFY lives, never.
const RETURNS: [Option<u64>; 3] = [Some(0), Some(50), None];

#[derive(Clone, Copy, Debug)]
struct Case {
    step: Step,
    ending: Ending,
    returns: Option<u64>,
    keeps: bool,
    parks: bool,
    shards: u16,
}

const EXPIRES: u32 = 120;
const FIRST: &str = "192.168.7.20:49152";
const SECOND: &str = "192.168.7.20:50000";
const THIRD: &str = "192.168.7.20:50001";

#[test]
fn no_end_of_a_connection_leaves_a_subscription_stuck() {
    let mut matrix = Matrix::default();
    let yes_and_no = [true, false];
    for (keeps, parks) in yes_and_no
        .into_iter()
        .flat_map(|one| yes_and_no.map(|two| (one, two)))
    {
        for (step, ending) in STEPS
            .into_iter()
            .flat_map(|step| ENDINGS.map(|end| (step, end)))
        {
            for (returns, shards) in RETURNS
                .into_iter()
                .flat_map(|when| [1, 3].map(|n| (when, n)))
            {
                let case = Case {
                    step,
                    ending,
                    returns,
                    keeps,
                    parks,
                    shards,
                };
                matrix.live(case, || Run::new(case).live());
            }
        }
    }
    matrix.assert_all_hold();
}

struct Run {
    case: Case,
    house: House,
    connection: ConnectionId,
    address: &'static str,
    cseq: u32,
    server_tag: String,
}

impl Run {
    fn new(case: Case) -> Self {
        let mut settings = Settings::default();
        let on_close = if case.keeps { "keep" } else { "end" };
        let on_timeout = if case.parks { "park" } else { "remove" };
        settings.set("on_close", on_close).expect("a setting");
        settings.set("on_timeout", on_timeout).expect("a setting");
        let mut house = House::new(&settings, case.shards);
        let connection = house.connect(0, FIRST);
        Run {
            case,
            house,
            connection,
            address: FIRST,
            cseq: 0,
            server_tag: String::new(),
        }
    }

    fn live(mut self) -> Result<(), String> {
        self.up_to_the_end();
        self.end_the_connection()?;
        self.house.set("1001", Some(HintState::InUse));
        self.house.pass(Duration::from_millis(200));
        if !self.house.inbox(self.connection).is_empty() {
            return Err("told by a connection that has ended".to_string());
        }
        if let Some(after) = self.case.returns {
            self.house.pass(Duration::from_secs(after));
            self.come_back()?;
        }
        self.nothing_is_left()
    }

    fn up_to_the_end(&mut self) {
        let connection = self.connection;
        if let Step::First | Step::Fetch = self.case.step {
            self.house.answers(connection, None);
            let expires = if self.case.step == Step::First {
                EXPIRES
            } else {
                0
            };
            return self.subscribe(expires);
        }
        self.subscribe(EXPIRES);
        self.house.pass(Duration::from_secs(2));
        let silent = |run: &mut Run| run.house.answers(run.connection, None);
        match self.case.step {
            Step::First | Step::Fetch => unreachable!("see above"),
            Step::Retransmission => unreachable!("nothing is sent again by a connection"),
            Step::AtRest => {}
            Step::Change => {
                silent(self);
                self.house.set("1001", Some(HintState::Ringing));
            }
            Step::Refresh => {
                silent(self);
                self.subscribe(EXPIRES);
            }
            Step::Replaced => {
                silent(self);
                self.house.set("1001", Some(HintState::Ringing));
                self.house.pass(Duration::from_millis(700));
                self.house.set("1001", Some(HintState::Hold));
            }
            Step::Pause => {
                self.house.answers(connection, Some(503));
                self.house.set("1001", Some(HintState::Ringing));
            }
            Step::HeardAgain => {
                self.house.close(connection);
                self.house.set("1001", Some(HintState::Ringing));
                if self.case.keeps {
                    self.connect(SECOND);
                    silent(self);
                    self.subscribe(EXPIRES);
                }
            }
            Step::Unsubscribe => {
                silent(self);
                self.subscribe(0);
            }
            Step::Expiry | Step::ExpiryInFlight => {
                self.house.pass(Duration::from_secs(u64::from(EXPIRES) - 3));
                silent(self);
                if self.case.step == Step::ExpiryInFlight {
                    self.house.set("1001", Some(HintState::Ringing));
                }
                self.house.pass(Duration::from_millis(1_100));
            }
            Step::Drain => {
                silent(self);
                self.house.drain(Duration::from_secs(2));
            }
        }
    }

    fn end_the_connection(&mut self) -> Result<(), String> {
        let connection = self.connection;
        let text = self.request(EXPIRES);
        match self.case.ending {
            Ending::Reset => self.house.close(connection),
            Ending::ResetMidMessage => {
                self.house
                    .send(connection, &text.as_bytes()[..text.len() / 2]);
                self.house.close(connection);
            }
            Ending::HalfClosed => self.house.send_last(connection, b""),
            Ending::HalfClosedBehindRequest => {
                self.cseq += 1;
                self.house.send_last(connection, text.as_bytes());
            }
            Ending::Stalled => {
                self.house.reads(connection, false);
                // Something has to wait for it.
                self.house
                    .send(connection, text.replace("SUBSCRIBE", "OPTIONS").as_bytes());
                self.house
                    .pass(Duration::from_secs(limits::STREAM_STALL_SECONDS + 1));
            }
            Ending::Unreadable => self.house.send(connection, b"GET / HTTP/1.1\r\n\r\n"),
        }
        let by_us = !matches!(self.case.ending, Ending::Reset | Ending::ResetMidMessage);
        let was_open = self.case.keeps || self.case.step != Step::HeardAgain;
        if by_us && was_open && !self.house.is_closed(connection) {
            return Err("the connection is still open".to_string());
        }
        self.house.inbox(connection);
        Ok(())
    }

    /// A refresh is followed by a NOTIFY of what is so, and so is each change; or the subscription is gone, and should be.
    fn come_back(&mut self) -> Result<(), String> {
        self.connect(THIRD);
        let text = self.request(EXPIRES);
        self.cseq += 1;
        self.house.send(self.connection, text.as_bytes());
        let inbox = self.house.inbox(self.connection);
        let status = inbox.first().and_then(|answer| answer.split(' ').nth(1));
        let lives = self.case.keeps && self.case.step.lives_on();
        match (status, lives) {
            (Some("200"), true) => {}
            (Some("481"), false) => return Ok(()),
            // A planned stop takes nobody new.
            (Some("503"), false) if self.case.step == Step::Drain => return Ok(()),
            (other, _) => return Err(format!("the refresh was answered with {other:?}")),
        }
        if !newest(&inbox).contains("<state>confirmed</state>") {
            return Err(format!("200, and not told what is so: {inbox:?}"));
        }
        self.house.set("1001", Some(HintState::Ringing));
        self.house.pass(Duration::from_secs(1));
        match newest(&self.house.inbox(self.connection)).contains("<state>early</state>") {
            true => Ok(()),
            false => Err("dark after a refresh".to_string()),
        }
    }

    fn nothing_is_left(mut self) -> Result<(), String> {
        self.house.answers(self.connection, None);
        nothing_is_left(&mut self.house, EXPIRES)
    }

    fn connect(&mut self, address: &'static str) {
        self.connection = self.house.connect(self.case.shards - 1, address);
        self.address = address;
    }

    fn request(&self, expires: u32) -> String {
        let (cseq, to_tag) = (self.cseq + 1, &self.server_tag);
        subscribe("phone", "1001", self.address, cseq, to_tag, expires)
    }

    fn subscribe(&mut self, expires: u32) {
        let text = self.request(expires);
        self.cseq += 1;
        self.house.send(self.connection, text.as_bytes());
        if let Some(answer) = self.house.inbox(self.connection).first() {
            self.server_tag = tag(header(answer, "To")).to_owned();
        }
    }
}

/// The last NOTIFY of some messages.
fn newest(inbox: &[String]) -> &str {
    let notify = |text: &&String| text.starts_with("NOTIFY ");
    inbox.iter().rfind(notify).map_or("", String::as_str)
}
