//! Every failure of a send, at every step of a subscription's life, once, for a while and for ever. Afterwards the
//! subscription is active and shows the newest state, or it is gone at its deadline + 64·T1 at the latest, and nothing of
//! it is left.

mod case;
mod traffic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::arena::SlotId;
use lampfield::hint::HintState;
use lampfield::shard::census::Census;
use lampfield::shard::control::{Ask, SubscriptionRow};
use lampfield::stats::Counter;
use lampfield::time::{T64, Time};
use lampfield_sim::lamp::Lamp;
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::world::reply;

use self::case::{Case, FAILURES, Failure, LASTS, Lasts, STEPS};
use self::traffic::crowd_address;
use crate::Matrix;
use crate::site::{Site, subscribe};
use crate::step::Step;

/// Granted to the phone.
const EXPIRES: u32 = 120;
/// A phone takes so long to answer.
const THINKING: Duration = Duration::from_millis(10);
/// A send that failed is tried again by timer E, after T2 at most.
const AGAIN: Duration = Duration::from_millis(4_500);
/// Dead phones that take what transactions there are, again and again.
const CROWD: u32 = 8;
const CROWD_EVERY: Duration = Duration::from_secs(5);
const TRANSACTIONS: &str = "4";

#[test]
fn no_failure_of_a_send_leaves_a_subscription_stuck() {
    let mut matrix = Matrix::default();
    for on_timeout in ["remove", "park"] {
        for step in STEPS {
            // Nothing is parked where what is silent is removed.
            if step == Step::HeardAgain && on_timeout == "remove" {
                continue;
            }
            for failure in FAILURES {
                for lasts in LASTS {
                    let case = Case {
                        step,
                        failure,
                        lasts,
                        on_timeout,
                    };
                    matrix.live(case, || Run::new(case).live());
                }
            }
        }
    }
    matrix.assert_all_hold();
}

/// The phone that the case is about.
#[derive(Debug)]
struct Phone {
    address: SocketAddr,
    cseq: u32,
    server_tag: String,
    /// To NOTIFYs: a status, or nothing.
    answers: Option<u16>,
    newest: u32,
    shown: Option<Lamp>,
    /// The terminated NOTIFY has come.
    told_of_the_end: bool,
    /// The answer to the last SUBSCRIBE.
    answer: Option<u16>,
    /// Nothing of the subscription may be there later than this.
    gone_by: Time,
}

/// One case.
struct Run {
    case: Case,
    site: Site,
    phone: Phone,
    crowd: u32,
    /// NOTIFYs to dead phones.
    crowd_heard: Vec<Message>,
    next_crowd: Option<Time>,
    /// What phones will send.
    coming: BTreeMap<(Time, u64), (SocketAddr, Vec<u8>)>,
    serial: u64,
    fails: bool,
    fails_until: Option<Time>,
    hoard: Vec<SlotId>,
    /// Sends that the kernel has refused.
    refused: u32,
    state: HintState,
}

impl Run {
    fn new(case: Case) -> Self {
        let mut settings = Settings::default();
        for (key, value) in [
            ("on_timeout", case.on_timeout),
            ("transactions_max", TRANSACTIONS),
        ] {
            settings.set(key, value).expect("a setting");
        }
        let mut site = Site::new(&settings);
        site.witness.removes = case.on_timeout == "remove";
        let phone = Phone {
            address: "10.0.0.1:5060".parse().expect("an address"),
            cseq: 0,
            server_tag: String::new(),
            answers: Some(200),
            newest: 0,
            shown: None,
            told_of_the_end: false,
            answer: None,
            gone_by: site.now,
        };
        Run {
            case,
            site,
            phone,
            crowd: 0,
            crowd_heard: Vec::new(),
            next_crowd: None,
            coming: BTreeMap::new(),
            serial: 0,
            fails: false,
            fails_until: None,
            hoard: Vec::new(),
            refused: 0,
            state: HintState::Idle,
        }
    }

    /// The life of a subscription, up to the failure and from there to its end.
    fn live(mut self) -> Result<(), String> {
        self.up_to_the_failure()?;
        self.change(HintState::InUse)?;
        let heals = match self.case.lasts {
            Lasts::Once => Some(Duration::from_millis(200)),
            Lasts::Seconds(seconds) => Some(Duration::from_secs(seconds)),
            Lasts::ForEver => None,
        };
        match heals {
            Some(after) => {
                self.pass(after + AGAIN)?;
                self.is_healed()?;
                self.refresh_tells_the_truth()?;
            }
            None => {
                self.pass(Duration::from_secs(30))?;
                if !self.phone.told_of_the_end && self.case.step != Step::Fetch {
                    self.subscribe(EXPIRES)?;
                }
                self.pass(Duration::from_secs(1))?;
            }
        }
        let met = self.refused > 0 || self.was_short();
        if self.case.must_be_met() && !met {
            return Err("the case never met its failure".to_string());
        }
        self.nothing_is_left()
    }

    fn up_to_the_failure(&mut self) -> Result<(), String> {
        let step = self.case.step;
        if matches!(step, Step::First | Step::Fetch) {
            self.take_transactions()?;
            self.subscribe(if step == Step::First { EXPIRES } else { 0 })?;
            return self.begin_to_fail();
        }
        self.subscribe(EXPIRES)?;
        self.pass(Duration::from_secs(2))?;
        match step {
            Step::First | Step::Fetch => unreachable!("see above"),
            Step::AtRest => unreachable!("nothing is sent there"),
            Step::Change => {
                self.take_transactions()?;
                self.change(HintState::Ringing)?;
            }
            Step::Refresh => {
                self.take_transactions()?;
                self.subscribe(EXPIRES)?;
            }
            Step::Retransmission => {
                self.phone.answers = None;
                self.change(HintState::Ringing)?;
                self.pass(Duration::from_millis(400))?;
                self.take_transactions()?;
            }
            Step::Replaced => {
                self.phone.answers = None;
                self.change(HintState::Ringing)?;
                self.pass(Duration::from_millis(700))?;
                self.take_transactions()?;
                self.change(HintState::InUse)?;
            }
            Step::Pause => {
                self.phone.answers = Some(503);
                self.change(HintState::Ringing)?;
                self.pass(Duration::from_millis(1_500))?;
                self.take_transactions()?;
            }
            Step::HeardAgain => {
                self.phone.answers = None;
                self.change(HintState::Ringing)?;
                self.pass(Duration::from_secs(40))?;
                self.take_transactions()?;
                self.subscribe(EXPIRES)?;
            }
            Step::Unsubscribe => {
                self.take_transactions()?;
                self.subscribe(0)?;
            }
            Step::Expiry => {
                self.pass(Duration::from_secs(u64::from(EXPIRES) - 3))?;
                self.take_transactions()?;
            }
            Step::ExpiryInFlight => {
                self.pass(Duration::from_secs(u64::from(EXPIRES) - 3))?;
                self.phone.answers = None;
                self.change(HintState::Ringing)?;
                self.pass(Duration::from_millis(500))?;
                self.take_transactions()?;
            }
            Step::Drain => {
                self.take_transactions()?;
                let within = Duration::from_secs(2);
                self.phone.gone_by = self.site.now + T64 + Duration::from_millis(1);
                let sent = self.site.mail(Ask::Drain { within });
                self.carry(sent)?;
            }
        }
        self.phone.answers = Some(200);
        self.begin_to_fail()
    }

    fn begin_to_fail(&mut self) -> Result<(), String> {
        self.fails = true;
        self.fails_until = match self.case.lasts {
            Lasts::Once => match self.case.failure {
                // It ends with the first refusal.
                Failure::Passing(..) | Failure::Lasting(..) => None,
                Failure::NoSlot | Failure::NoTransaction => {
                    Some(self.site.now + Duration::from_millis(100) + self.wait())
                }
            },
            // These begin by themselves, and the failure has to last until they do.
            Lasts::Seconds(seconds) => {
                Some(self.site.now + Duration::from_secs(seconds) + self.wait())
            }
            Lasts::ForEver => None,
        };
        let wait = self.wait();
        self.pass(wait)
    }

    /// How long it takes until the step comes by itself.
    fn wait(&self) -> Duration {
        match self.case.step {
            Step::Expiry | Step::ExpiryInFlight => Duration::from_millis(1_100),
            Step::Pause => Duration::from_millis(600),
            Step::First
            | Step::AtRest
            | Step::Change
            | Step::Refresh
            | Step::Retransmission
            | Step::Replaced
            | Step::HeardAgain
            | Step::Unsubscribe
            | Step::Fetch
            | Step::Drain => Duration::ZERO,
        }
    }

    /// Where the failure is that no transaction is free: from now on none is.
    fn take_transactions(&mut self) -> Result<(), String> {
        if self.case.failure == Failure::NoTransaction {
            self.next_crowd = Some(self.site.now);
            self.pass(Duration::ZERO)?;
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), String> {
        self.fails = false;
        self.fails_until = None;
        self.next_crowd = None;
        self.site.release(self.hoard.drain(..));
        for request in core::mem::take(&mut self.crowd_heard) {
            let sent = self
                .site
                .receive(crowd_address(), &reply(&request, 200, None));
            self.carry(sent)?;
        }
        Ok(())
    }

    /// What is there now is right, without the phone having done anything for it.
    fn is_healed(&mut self) -> Result<(), String> {
        match self.row() {
            None if self.case.survives() => Err("the subscription did not survive".to_string()),
            None if self.case.is_refused() && self.phone.answer != Some(503) => Err(format!(
                "answered with {:?}, and not refused",
                self.phone.answer
            )),
            None => Ok(()),
            Some(row) if row.state == "active" => {
                if row.dirty || row.in_flight || self.phone.shown != Some(self.lamp()) {
                    return Err(format!("not healed: {row:?}, {:?}", self.phone));
                }
                Ok(())
            }
            Some(row) if self.case.survives() => Err(format!("it should be active: {row:?}")),
            Some(_) => Ok(()),
        }
    }

    /// A refresh is answered 481, or it is followed by a NOTIFY of what is so; so is each change.
    fn refresh_tells_the_truth(&mut self) -> Result<(), String> {
        if self.phone.told_of_the_end || self.phone.server_tag.is_empty() {
            return Ok(());
        }
        let before = self.phone.newest;
        self.phone.answer = None;
        self.subscribe(EXPIRES)?;
        self.pass(Duration::from_secs(1))?;
        match self.phone.answer {
            Some(200) => {
                if self.phone.newest == before || self.phone.shown != Some(self.lamp()) {
                    return Err(format!("200, and not told the truth: {:?}", self.phone));
                }
                self.change(HintState::Hold)?;
                self.pass(Duration::from_secs(1))?;
                match self.phone.shown == Some(self.lamp()) {
                    true => Ok(()),
                    false => Err(format!("dark after a refresh: {:?}", self.phone)),
                }
            }
            Some(481) if self.case.survives() => Err("481 for what should live".to_string()),
            Some(481) => Ok(()),
            other => Err(format!("the refresh was answered with {other:?}")),
        }
    }

    /// The phone falls silent; at its deadline + 64·T1 nothing is left of it.
    fn nothing_is_left(&mut self) -> Result<(), String> {
        self.phone.answers = None;
        let rest = self.phone.gone_by.since(self.site.now);
        self.pass(rest + Duration::from_millis(5))?;
        if let Some(row) = self.row() {
            return Err(format!("stuck: {row:?}"));
        }
        let expiring = self.site.rows();
        let expiring = expiring.iter().filter(|row| row.expires_in_seconds == 0);
        if self.crowd == 0 && expiring.count() > 0 {
            return Err("something has expired, and is still there".to_string());
        }
        self.fails = false;
        self.next_crowd = None;
        self.site.release(self.hoard.drain(..));
        let sent = self.site.set("1001", None);
        self.carry(sent)?;
        self.pass(Duration::from_secs(2 * 3600))?;
        let census = self.site.census();
        match census == Census::default() {
            true => Ok(()),
            false => Err(format!("something is left: {census:?}")),
        }
    }

    fn row(&mut self) -> Option<SubscriptionRow> {
        let rows = self.site.rows();
        rows.into_iter().find(|row| &*row.call_id == "victim.")
    }

    /// The shard says that it had no slot, or no transaction.
    fn was_short(&mut self) -> bool {
        let stats = self.site.figures().stats;
        stats.get(match self.case.failure {
            Failure::NoSlot => Counter::LimitSendSlots,
            Failure::NoTransaction => Counter::LimitClientTransactions,
            Failure::Passing(..) | Failure::Lasting(..) => return false,
        }) > 0
    }

    fn lamp(&self) -> Lamp {
        match self.state {
            HintState::Ringing => Lamp::Blinking,
            HintState::InUse => Lamp::Lit,
            HintState::Hold => Lamp::Held,
            _ => Lamp::Dark,
        }
    }

    fn change(&mut self, state: HintState) -> Result<(), String> {
        self.state = state;
        let sent = self.site.set("1001", Some(state));
        self.carry(sent)
    }

    fn subscribe(&mut self, expires: u32) -> Result<(), String> {
        let phone = &mut self.phone;
        phone.cseq += 1;
        let ends = expires == 0 || (phone.told_of_the_end && !phone.server_tag.is_empty());
        if self.case.step.lives_on() || phone.cseq == 1 || ends {
            let seconds = Duration::from_secs(u64::from(expires));
            phone.gone_by = self.site.now + seconds + T64 + Duration::from_millis(1);
        }
        let bytes = subscribe(
            "victim",
            phone.address,
            phone.cseq,
            &phone.server_tag,
            expires,
        );
        let sent = self.site.receive(phone.address, &bytes);
        self.carry(sent)
    }
}
