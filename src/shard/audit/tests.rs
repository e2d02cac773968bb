//! Each rule of the audit is broken on purpose, once, and the audit has to count it and to put it right.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::hint::{HintState, HintUpdate};
use crate::partition::{Secrets, ShardId};
use crate::policy::{GateSettings, Policy, PolicySettings};
use crate::shard::control::{Ask, HintChange, Request};
use crate::shard::input::Input;
use crate::shard::mail::Mail;
use crate::shard::settings::Settings;
use crate::stats::Gauge;
use crate::subscription::record::{Queue, Queued, Reason};
use crate::time::WallOffset;
use crate::transport::{Flow, Listener, ListenerId};

/// A shard with one subscription whose first NOTIFY has been answered.
struct Site {
    shard: Shard,
    now: Time,
    out: Effects,
    domain: String,
    /// Requests that the shard sent.
    sent: Vec<String>,
    events: Vec<Event>,
}

const EXPIRES: Duration = Duration::from_secs(600);

impl Site {
    fn new() -> Self {
        let secrets = Secrets::new([1; 32]);
        let policy = PolicySettings {
            gates: vec![GateSettings::default()],
            ..PolicySettings::default()
        };
        let policy = Policy::new(&policy, &secrets, None).expect("the defaults are sound");
        let domain = policy.domains().default_domain().to_owned();
        let address = "127.0.0.1:5060".parse().expect("an address");
        let listeners = vec![Listener::new(ListenerId(0), address, 0)];
        let settings = Settings::new(ShardId(0), 1, secrets, [2; 16], listeners, Arc::new(policy));
        let now = Time::from_millis(1_000_000);
        let mut site = Site {
            shard: Shard::new(settings, now),
            now,
            out: Effects::new(1),
            domain,
            sent: Vec::new(),
            events: Vec::new(),
        };
        site.receive(
            "SUBSCRIBE sip:1001@localhost SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bKa;rport\r\n\
             From: <sip:a@localhost>;tag=f\r\nTo: <sip:1001@localhost>\r\nCall-ID: a\r\nCSeq: 1 SUBSCRIBE\r\n\
             Contact: <sip:a@127.0.0.1:7000>\r\nMax-Forwards: 70\r\nEvent: dialog\r\nExpires: 600\r\n\
             Content-Length: 0\r\n\r\n",
        );
        site.tick();
        site.answer();
        assert_eq!(site.subscription().in_flight, None);
        site
    }

    fn step(&mut self, input: Input<'_>) {
        self.shard.step(self.now, input, &mut self.out);
        for send in self.out.sends.drain(..) {
            let bytes = self.shard.arena().bytes(send.slot);
            self.sent.push(String::from_utf8_lossy(bytes).into_owned());
        }
        for slot in self.out.released.drain(..) {
            self.shard.arena().release(slot);
        }
        self.out.mails.clear();
        self.events.append(&mut self.out.events);
    }

    fn receive(&mut self, text: &str) {
        let flow = Flow {
            listener: ListenerId(0),
            local: None,
            peer: "127.0.0.1:7000".parse().expect("an address"),
            connection: None,
        };
        self.step(Input::Datagram {
            flow,
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: false,
        });
    }

    fn tick(&mut self) {
        let wall = WallOffset(0);
        self.step(Input::Tick { wall });
    }

    /// The phone answers the last NOTIFY.
    fn answer(&mut self) {
        let request = self.sent.last().expect("a NOTIFY").clone();
        let mut answer = "SIP/2.0 200 OK\r\n".to_string();
        for name in ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "] {
            let header = request.split("\r\n").find(|line| line.starts_with(name));
            answer.push_str(&format!("{}\r\n", header.expect("a header")));
        }
        self.receive(&format!("{answer}Content-Length: 0\r\n\r\n"));
    }

    fn set(&mut self, state: HintState) {
        let resource = format!("1001@{}", self.domain).into();
        let update = HintUpdate::new(resource, "test".into(), state);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        self.step(Input::Mail(Mail::Request(Request { id: 1, ask })));
    }

    /// The one subscription that there is.
    fn subscription(&mut self) -> &mut Subscription {
        &mut self.shard.subscriptions[0]
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.tick();
        }
        self.now = end;
    }

    /// How many NOTIFYs there were, each counted once however often it was sent.
    fn notifies(&self) -> usize {
        let lines = self.sent.iter().flat_map(|text| text.split("\r\n"));
        let cseqs: BTreeSet<&str> = lines.filter(|line| line.ends_with(" NOTIFY")).collect();
        cseqs.len()
    }

    /// The audit has found this, once, and nothing else.
    fn has_found(&self, broken: Broken) {
        assert_eq!(self.events, [Event::Bug(broken.text())]);
        let stats = &self.shard.stats;
        assert_eq!(stats.get(broken.counter()), 1);
        assert_eq!(stats.get(Counter::Bug), 1);
    }
}

/// Longer than it takes the audit to come round.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn the_audit_finds_nothing_in_a_life_without_bugs() {
    let mut site = Site::new();
    site.set(HintState::Ringing);
    site.pass(Duration::from_secs(20));
    site.answer();
    site.pass(EXPIRES + 2 * T64);
    assert_eq!(site.events, []);
    assert!(site.shard.subscriptions.is_empty());
    assert_eq!(site.shard.next_look(), None);
}

#[test]
fn what_outlived_its_deadline_is_ended() {
    let mut site = Site::new();
    let timer = site.subscription().deadline.take().expect("a deadline");
    site.shard.wheel.cancel(timer);
    site.subscription().expires_at = site.now - T64 - SOON;
    // What counts is what the last round has seen.
    site.shard.audit.due = site.now;
    site.tick();
    site.has_found(Broken::Overdue);
    assert!(site.shard.subscriptions.is_empty());
}

#[test]
fn what_is_overdue_shows_in_the_figures() {
    let mut site = Site::new();
    site.shard.audit.last.overdue = 1;
    let gauges = site.shard.gauges(site.now);
    assert_eq!(gauges.get(Gauge::SubscriptionsOverdue), 1);
    site.pass(SOON);
    let gauges = site.shard.gauges(site.now);
    assert_eq!(gauges.get(Gauge::SubscriptionsOverdue), 0);
}

#[test]
fn a_deadline_that_was_cancelled_is_set_again() {
    let mut site = Site::new();
    let timer = site.subscription().deadline.take().expect("a deadline");
    site.shard.wheel.cancel(timer);
    site.pass(SOON);
    site.has_found(Broken::Deadline);
    site.pass(EXPIRES + T64);
    assert!(site.shard.subscriptions.is_empty());
    assert!(site.sent.last().expect("a NOTIFY").contains("terminated"));
}

#[test]
fn a_deadline_whose_timer_is_gone_or_late_is_set_again() {
    for late in [false, true] {
        let mut site = Site::new();
        let timer = site.subscription().deadline.expect("a deadline");
        if late {
            site.shard.wheel.reschedule(timer, site.now + 2 * EXPIRES);
        } else {
            site.shard.wheel.cancel(timer);
        }
        site.pass(SOON);
        site.has_found(Broken::Deadline);
        site.pass(EXPIRES + T64);
        assert!(site.shard.subscriptions.is_empty());
    }
}

#[test]
fn who_waits_for_a_foreign_notify_is_told_anew() {
    let mut site = Site::new();
    site.subscription().in_flight = Some(7);
    let before = site.notifies();
    site.pass(SOON);
    site.has_found(Broken::InFlight);
    assert_eq!(site.notifies() - before, 1);
}

#[test]
fn who_ends_and_waits_for_a_foreign_notify_is_gone() {
    let mut site = Site::new();
    site.subscription().in_flight = Some(7);
    site.subscription().phase = Phase::Terminating(Reason::Timeout);
    site.pass(SOON);
    site.has_found(Broken::InFlight);
    assert!(site.shard.subscriptions.is_empty());
}

#[test]
fn who_believes_to_stand_in_a_queue_and_does_not_can_be_queued_again() {
    let mut site = Site::new();
    site.subscription().queued = Some(Queued {
        queue: Queue::FanOut,
        number: 7,
    });
    let before = site.notifies();
    site.pass(SOON);
    site.has_found(Broken::Queue);
    site.set(HintState::Ringing);
    site.pass(Duration::ZERO);
    assert_eq!(site.notifies() - before, 1);
}

#[test]
fn a_lost_lamp_is_told() {
    let mut site = Site::new();
    site.set(HintState::Ringing);
    // It stood in the queue, and was taken from it for nothing.
    site.shard.ready.pop(true);
    site.subscription().queued = None;
    let before = site.notifies();
    site.pass(SOON);
    site.has_found(Broken::Lost);
    assert_eq!(site.notifies() - before, 1);
}

#[test]
fn a_state_that_nobody_was_asked_for_is_asked_for() {
    let mut site = Site::new();
    let copy = site.subscription().copy;
    site.subscription().owed = Owed::Change;
    site.shard.copies.copy_mut(copy).snapshot = None;
    let before = site.notifies();
    site.pass(SOON);
    site.has_found(Broken::Unasked);
    assert_eq!(site.notifies() - before, 1);
}

#[test]
fn many_that_break_one_rule_are_one_line_in_a_round_and_each_is_counted() {
    let mut site = Site::new();
    for _ in 0..3 {
        site.subscription().in_flight = Some(7);
        let mut out = Effects::new(1);
        site.shard.put_right(site.now, 0, &mut out);
        site.events.append(&mut out.events);
    }
    assert_eq!(site.events, [Event::Bug(Broken::InFlight.text())]);
    assert_eq!(site.shard.stats.get(Counter::AuditInFlight), 3);
}

#[test]
fn a_round_over_many_goes_on_where_it_stopped_and_takes_64_t1_at_most() {
    let mut site = Site::new();
    let many = 3 * limits::AUDIT_LOOKS;
    for number in 1..many {
        let phone = format!("b{number}");
        site.receive(&format!(
            "SUBSCRIBE sip:1001@localhost SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bK{phone};rport\r\n\
             From: <sip:{phone}@localhost>;tag=f\r\nTo: <sip:1001@localhost>\r\nCall-ID: {phone}\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <sip:{phone}@127.0.0.1:7000>\r\nMax-Forwards: 70\r\n\
             Event: dialog\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
        ));
    }
    let last = many as u32 - 1;
    site.pass(Duration::ZERO);
    let record = &mut site.shard.subscriptions[last];
    let timer = record.deadline.take().expect("a deadline");
    site.shard.wheel.cancel(timer);
    // One look is not enough to come by.
    site.pass(REST / 2);
    assert_eq!(site.events, []);
    site.pass(ROUND);
    site.has_found(Broken::Deadline);
}
