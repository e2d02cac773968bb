//! Whoever looks names up does not answer, answers late, or says that there is nothing, at every step of the life of a
//! subscription whose next hop is a name. Meanwhile it is told at the address that was known, or it waits, is parked, or
//! ends as if its phone had not answered; when names are looked up again its phone is told the newest state; and at its
//! deadline + 64·T1 at the latest nothing of it is left.

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::stats::Counter;
use lampfield::time::{T64, Time};
use lampfield::transport::locate::Located;
use lampfield_sim::script::settings::Settings;

use crate::house::{House, answer_of, header, subscribe, tag};
use crate::step::Step;
use crate::{Matrix, nothing_is_left, subscriptions};

/// Where in its life the subscription is when its next hop has to be looked up.
const STEPS: [Step; 9] = [
    Step::First,
    Step::Change,
    Step::Refresh,
    Step::Replaced,
    Step::HeardAgain,
    Step::Unsubscribe,
    Step::Expiry,
    Step::Fetch,
    Step::Drain,
];

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    /// Nobody answers it.
    Silent,
    /// No server of names answers, and whoever looks names up says so.
    Unknown,
    /// There is nothing of that name.
    Nowhere,
    /// It is answered after so many seconds.
    Late(u64),
    /// There is nothing, and that takes so many seconds to find out.
    NowhereLate(u64),
    /// The first ones come to nothing, for so many seconds.
    UnknownFor(u64),
}

/// Sooner, and later, than 64·T1: a NOTIFY waits so long.
const RESOLVERS: [Resolver; 8] = [
    Resolver::Silent,
    Resolver::Unknown,
    Resolver::Nowhere,
    Resolver::Late(5),
    Resolver::Late(50),
    Resolver::NowhereLate(5),
    Resolver::UnknownFor(10),
    Resolver::UnknownFor(50),
];

/// What names the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Route,
    Contact,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    step: Step,
    resolver: Resolver,
    hop: Hop,
    /// The address that was found before is still remembered.
    remembered: bool,
    parks: bool,
    shards: u16,
}

impl Case {
    /// The name was looked up before.
    fn was_known(&self) -> bool {
        !matches!(self.step, Step::First | Step::Fetch)
    }

    /// The subscription shows what is so before `WHILE` is over.
    fn is_told(&self) -> bool {
        let known = self.was_known() && self.remembered;
        self.step.lives_on()
            && match self.resolver {
                Resolver::Late(seconds) | Resolver::UnknownFor(seconds) => known || seconds < 32,
                Resolver::Silent | Resolver::Unknown => known,
                Resolver::Nowhere | Resolver::NowhereLate(_) => false,
            }
    }
}

/// By then it is decided what becomes of a NOTIFY.
const WHILE: u64 = 40;
/// Asked for and granted.
const EXPIRES: u32 = 3 * 3600;
/// What was found is good for so long.
const GOOD: Duration = Duration::from_secs(10);
/// After this it is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3700);
const SENDER: &str = "198.51.100.9:40000";
const FOUND: &str = "198.51.100.1:5060";

#[test]
fn no_resolver_leaves_a_subscription_stuck() {
    let mut matrix = Matrix::default();
    for (step, resolver) in STEPS
        .into_iter()
        .flat_map(|step| RESOLVERS.map(|resolver| (step, resolver)))
    {
        for (hop, remembered) in [Hop::Route, Hop::Contact]
            .into_iter()
            .flat_map(|hop| [true, false].map(|remembered| (hop, remembered)))
        {
            for (parks, shards) in [true, false]
                .into_iter()
                .flat_map(|parks| [1, 3].map(|shards| (parks, shards)))
            {
                // Nothing is parked where what is silent is removed, and no NOTIFY lives as long as what is forgotten.
                if step == Step::HeardAgain && !parks || step == Step::Replaced && !remembered {
                    continue;
                }
                let case = Case {
                    step,
                    resolver,
                    hop,
                    remembered,
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
    cseq: u32,
    server_tag: String,
    /// The status of the last SUBSCRIBE.
    answer: String,
    /// What the last NOTIFY that reached the phone says.
    shown: Option<&'static str>,
    answers: bool,
    /// Whoever looks names up answers at once.
    healthy: bool,
    /// How often it was parked before.
    parked_before: u64,
    /// When the question that waits was asked.
    asked: Option<Time>,
    /// When the first one of those that come to nothing was.
    trouble: Option<Time>,
}

impl Run {
    fn new(case: Case) -> Self {
        let mut settings = Settings::default();
        let on_timeout = if case.parks { "park" } else { "remove" };
        for (key, value) in [
            ("names", "on"),
            ("on_timeout", on_timeout),
            ("expires_max", "86400"),
        ] {
            settings.set(key, value).expect("a setting");
        }
        let house = House::new(&settings, case.shards);
        Run {
            case,
            house,
            cseq: 0,
            server_tag: String::new(),
            answer: String::new(),
            shown: None,
            answers: true,
            healthy: true,
            parked_before: 0,
            asked: None,
            trouble: None,
        }
    }

    fn live(mut self) -> Result<(), String> {
        self.up_to_the_question();
        self.pass(1);
        if self.trouble.is_none() {
            return Err("nothing was asked".to_string());
        }
        self.house.set("1001", Some(HintState::InUse));
        self.pass(WHILE);
        self.is_decided()?;
        self.healthy = true;
        if self.case.step != Step::Drain {
            self.is_told_again()?;
        }
        // The phone answers nothing any more, and nobody looks names up.
        nothing_is_left(&mut self.house, EXPIRES)
    }

    /// From its end on, whoever looks names up is not well.
    fn up_to_the_question(&mut self) {
        let (step, remembered) = (self.case.step, self.case.remembered);
        if !self.case.was_known() {
            self.healthy = false;
            return self.subscribe(if step == Step::First { EXPIRES } else { 0 });
        }
        let expires = match (step, remembered) {
            (Step::Expiry, true) => 120,
            (Step::Expiry, false) => 2 * FORGOTTEN.as_secs() as u32,
            _ => EXPIRES,
        };
        self.subscribe(expires);
        let deadline = self.house.now + Duration::from_secs(expires.into());
        self.pass(1);
        if let Step::Replaced | Step::HeardAgain = step {
            self.answers = false;
            self.house.set("1001", Some(HintState::Ringing));
        }
        if step == Step::HeardAgain {
            self.pass(T64.as_secs() + 2);
        }
        let until = if remembered { GOOD } else { GOOD + FORGOTTEN };
        self.house.pass(until);
        self.house.datagrams();
        self.answers = true;
        self.healthy = false;
        self.parked_before = self.house.count(Counter::SubscriptionParked);
        match step {
            Step::First | Step::Fetch => unreachable!("see above"),
            Step::AtRest | Step::Retransmission | Step::Pause | Step::ExpiryInFlight => {
                unreachable!("nothing is looked up there")
            }
            Step::Change | Step::Replaced => self.house.set("1001", Some(HintState::Hold)),
            Step::Refresh | Step::HeardAgain => self.subscribe(EXPIRES),
            Step::Unsubscribe => self.subscribe(0),
            Step::Expiry => self.house.pass(deadline.since(self.house.now)),
            Step::Drain => self.house.drain(Duration::from_secs(2)),
        }
    }

    /// Told, or parked, or gone: nothing of it waits any more.
    fn is_decided(&mut self) -> Result<(), String> {
        let alive = subscriptions(&mut self.house);
        let parked = self.house.count(Counter::SubscriptionParked) - self.parked_before;
        let told = self.shown == Some("confirmed");
        let expected = match (self.case.is_told(), self.case.step.lives_on()) {
            (true, _) => alive == 1 && parked == 0 && told,
            (false, true) if self.case.parks => alive == 1 && parked == 1,
            (false, _) => alive == 0,
        };
        match expected {
            true => Ok(()),
            false => Err(format!(
                "{alive} alive, {parked} parked, it shows {:?}",
                self.shown
            )),
        }
    }

    /// Names are looked up again: the phone refreshes, or subscribes anew, and is told what is so.
    fn is_told_again(&mut self) -> Result<(), String> {
        // What was found to be nowhere is believed for a while.
        for _ in 0..3 {
            self.shown = None;
            self.subscribe(EXPIRES);
            if self.answer == "481" {
                self.server_tag.clear();
                self.subscribe(EXPIRES);
            }
            if self.answer != "200" {
                return Err(format!("the phone is answered {}", self.answer));
            }
            self.pass(WHILE);
            if self.shown == Some("confirmed") {
                return Ok(());
            }
        }
        Err(format!("it stays dark: {:?}", self.shown))
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.house.pass(Duration::from_secs(1));
            self.serve();
        }
    }

    /// Phone and resolver do their part, until neither has anything to do.
    fn serve(&mut self) {
        loop {
            let sent = self.house.datagrams_with_peers();
            let resolved = self.look_up();
            if sent.is_empty() && !resolved {
                return;
            }
            for (peer, text) in sent {
                self.hear(peer, &text);
            }
        }
    }

    fn hear(&mut self, peer: SocketAddr, text: &str) {
        if !text.starts_with("NOTIFY ") {
            self.answer = text.split(' ').nth(1).unwrap_or_default().to_owned();
            if self.answer == "200" {
                self.server_tag = tag(header(text, "To")).to_owned();
            }
            return;
        }
        assert_eq!(peer.to_string(), FOUND, "nobody else is told");
        if self.answers {
            let states = ["confirmed", "early", "terminated"];
            let said = |state: &&&str| text.contains(&format!("<state>{state}</state>"));
            self.shown = states.iter().find(said).copied();
            self.house.datagram(0, FOUND, &answer_of(text));
        }
    }

    /// True: a question was answered.
    fn look_up(&mut self) -> bool {
        if self.house.asked().is_empty() {
            return false;
        }
        let now = self.house.now;
        let asked = *self.asked.get_or_insert(now);
        let waited = now.since(asked).as_secs();
        let found = Located::Targets(vec![FOUND.parse().expect("an address")]);
        let answer = match (self.healthy, self.case.resolver) {
            (true, _) => found,
            (false, resolver) => {
                let since = now.since(*self.trouble.get_or_insert(now)).as_secs();
                match resolver {
                    Resolver::Silent => {
                        self.asked = None;
                        self.house.lose_asked();
                        return false;
                    }
                    Resolver::Late(seconds) | Resolver::NowhereLate(seconds)
                        if waited < seconds =>
                    {
                        return false;
                    }
                    Resolver::UnknownFor(seconds) if since < seconds => Located::Unknown,
                    Resolver::Late(_) | Resolver::UnknownFor(_) => found,
                    Resolver::Unknown => Located::Unknown,
                    Resolver::Nowhere | Resolver::NowhereLate(_) => Located::Nowhere,
                }
            }
        };
        self.asked = None;
        self.house.resolve(&answer, GOOD);
        true
    }

    fn subscribe(&mut self, expires: u32) {
        self.cseq += 1;
        let contact = match self.case.hop {
            Hop::Route => "10.0.0.9:5060",
            Hop::Contact => "desk.example.com",
        };
        let (cseq, to_tag) = (self.cseq, &self.server_tag);
        let text = subscribe("phone", "1001", contact, cseq, to_tag, expires);
        let mut text = text.replace("/TCP", "/UDP").replace(";transport=tcp", "");
        if self.case.hop == Hop::Route {
            let proxy = format!(
                "Record-Route: <sip:sbc.example.com;lr>\r\n\
                 Via: SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK-p-{cseq};rport\r\nVia:"
            );
            text = text.replacen("Via:", &proxy, 1);
        }
        self.house.datagram(0, SENDER, &text);
        self.serve();
    }
}
