//! One shard whose window is full of NOTIFYs that nobody answers: what is owed to a living phone waits, and the phone
//! keeps its subscription. No kernel, no clock.

use std::sync::Arc;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::shard::Shard;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::mail::Mail;
use lampfield::shard::settings::Settings;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId};

const IN_FLIGHT: usize = 128;

struct Site {
    shard: Shard,
    out: Effects,
    now: Time,
    domain: String,
    /// The requests and answers that the shard sent, as text.
    sent: Vec<String>,
}

impl Site {
    fn new() -> Self {
        let secrets = Secrets::new([1; 32]);
        let policy = PolicySettings {
            gates: vec![GateSettings::default()],
            ..PolicySettings::default()
        };
        let policy = Policy::new(&policy, &secrets, None).expect("the defaults are sound");
        let domain = policy.domains().default_domain().to_owned();
        let listener = Listener::new(ListenerId(0), "127.0.0.1:5060".parse().unwrap(), 0);
        let listeners = vec![listener];
        let mut settings =
            Settings::new(ShardId(0), 1, secrets, [2; 16], listeners, Arc::new(policy));
        settings.in_flight_max = IN_FLIGHT;
        let now = Time::from_millis(1_000);
        Site {
            shard: Shard::new(settings, now),
            out: Effects::new(1),
            now,
            domain,
            sent: Vec::new(),
        }
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
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for _ in 0..64 {
            let wall = WallOffset(0);
            self.step(Input::Tick { wall });
        }
    }

    fn subscribe(&mut self, phone: usize) {
        let text = format!(
            "SUBSCRIBE sip:1001@localhost SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bK{phone};rport\r\n\
             From: <sip:{phone}@localhost>;tag=f{phone}\r\nTo: <sip:1001@localhost>\r\nCall-ID: call{phone}.\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <sip:{phone}@127.0.0.1:7000>\r\nMax-Forwards: 70\r\nEvent: dialog\r\n\
             Expires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        let flow = Flow {
            listener: ListenerId(0),
            local: None,
            peer: "127.0.0.1:7000".parse().unwrap(),
        };
        self.step(Input::Datagram {
            flow,
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: false,
        });
        let wall = WallOffset(0);
        self.step(Input::Tick { wall });
    }

    fn set(&mut self, state: HintState) {
        let resource = format!("1001@{}", self.domain).into();
        let update = HintUpdate::new(resource, "test".into(), state);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        self.step(Input::Mail(Mail::Request(Request { id: 1, ask })));
    }

    /// The CSeqs of the NOTIFYs that this phone was sent.
    fn heard(&self, phone: usize) -> Vec<&str> {
        let call_id = format!("Call-ID: call{phone}.\r\n");
        self.sent
            .iter()
            .filter(|text| text.starts_with("NOTIFY") && text.contains(&call_id))
            .filter_map(|text| text.split("CSeq: ").nth(1)?.split(' ').next())
            .collect()
    }
}

//= RFC 6665 4.2.2 type=test
#[test]
fn a_notify_that_stood_back_for_a_newer_one_does_not_end_its_subscription() {
    let mut site = Site::new();
    site.subscribe(0);
    assert_eq!(site.heard(0), ["1"]);
    site.pass(Duration::from_millis(100));
    // From here on the window is full of what goes before a change: the NOTIFYs of new phones, all of them dead.
    let mut phone = 1;
    let mut crowd = |site: &mut Site| {
        for _ in 0..IN_FLIGHT {
            site.subscribe(phone);
            phone += 1;
        }
    };
    crowd(&mut site);
    site.set(HintState::Ringing);
    for _ in 0..90 {
        site.pass(Duration::from_millis(400));
        crowd(&mut site);
    }
    assert!(site.heard(0).iter().all(|cseq| *cseq == "1"));
    // The crowd is gone, its NOTIFYs are old: the first phone hears what it was owed.
    for _ in 0..400 {
        site.pass(Duration::from_millis(100));
    }
    assert!(site.heard(0).contains(&"2"), "{:?}", site.heard(0));
}
