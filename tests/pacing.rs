//! A hint that flaps two hundred times a second, and phones that take ten changes: no more reach them, and what they show
//! is right as soon as it is over. No kernel, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::rate::Rate;
use lampfield::shard::Shard;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::mail::Mail;
use lampfield::shard::settings::Settings;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId};

const PER_SECOND: usize = 10;

/// What one dialog was told: when, and whether the lamp blinks.
type Told = Vec<(u64, bool)>;

struct Site {
    shard: Shard,
    out: Effects,
    now: Time,
    domain: String,
    /// By Call-ID: `phone.key.`.
    told: BTreeMap<String, Told>,
    /// To tags that we were given, by Call-ID.
    tags: BTreeMap<String, String>,
    lit: bool,
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
        settings.rules.pace = Some(Rate::new(PER_SECOND as u32, 1));
        let now = Time::from_millis(1_000);
        Site {
            shard: Shard::new(settings, now),
            out: Effects::new(1),
            now,
            domain,
            told: BTreeMap::new(),
            tags: BTreeMap::new(),
            lit: false,
        }
    }

    fn receive(&mut self, text: &str) {
        let flow = Flow {
            listener: ListenerId(0),
            local: None,
            connection: None,
            peer: "127.0.0.9:5060".parse().unwrap(),
        };
        let datagram = Input::Datagram {
            flow,
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: false,
        };
        self.shard.step(self.now, datagram, &mut self.out);
    }

    /// What is sent is answered, until nothing more is said.
    fn settle(&mut self) {
        loop {
            let wall = WallOffset(0);
            self.shard
                .step(self.now, Input::Tick { wall }, &mut self.out);
            let mut texts = Vec::new();
            for send in self.out.sends.drain(..) {
                let bytes = self.shard.arena().bytes(send.slot);
                texts.push(String::from_utf8_lossy(bytes).into_owned());
            }
            for slot in self.out.released.drain(..) {
                self.shard.arena().release(slot);
            }
            self.out.mails.clear();
            if texts.is_empty() {
                break;
            }
            for text in texts {
                self.hear(&text);
            }
        }
    }

    fn hear(&mut self, text: &str) {
        let header = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.expect("every message has it").to_owned()
        };
        let call_id = header("Call-ID: ");
        let name = call_id.trim_start_matches("Call-ID: ").to_owned();
        if !text.starts_with("NOTIFY") {
            let tag = header("To: ").rsplit_once("tag=").unwrap().1.to_owned();
            self.tags.insert(name, tag);
            return;
        }
        let blinks = text.contains("<state>early</state>");
        self.told
            .entry(name)
            .or_default()
            .push((self.now.millis(), blinks));
        let copied = ["Via: ", "From: ", "To: ", "CSeq: "]
            .map(header)
            .join("\r\n");
        self.receive(&format!(
            "SIP/2.0 200 OK\r\n{copied}\r\n{call_id}\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    /// A SUBSCRIBE that comes through an edge, as all of them here do.
    fn subscribe(&mut self, phone: usize, key: usize, cseq: u32) {
        let call_id = format!("{phone}.{key}.");
        let to_tag = self.tags.get(&call_id);
        let to_tag = to_tag.map_or(String::new(), |tag| format!(";tag={tag}"));
        let resource = 1001 + key;
        self.receive(&format!(
            "SUBSCRIBE sip:{resource}@localhost SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bKe{phone}.{key}.{cseq}\r\n\
             Via: SIP/2.0/UDP 192.168.0.9:5060;branch=z9hG4bK{phone}.{key}.{cseq}\r\n\
             Record-Route: <sip:127.0.0.9:5060;lr>\r\n\
             From: <sip:{phone}@localhost>;tag=f{phone}\r\nTo: <sip:{resource}@localhost>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} SUBSCRIBE\r\nMax-Forwards: 70\r\nEvent: dialog\r\n\
             Contact: <sip:{phone}@192.168.0.9:5060>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        ));
        self.settle();
    }

    fn set(&mut self, key: usize, blinks: bool) {
        let resource = format!("{}@{}", 1001 + key, self.domain).into();
        let state = if blinks {
            HintState::Ringing
        } else {
            HintState::Idle
        };
        let update = HintUpdate::new(resource, "test".into(), state);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        let mail = Mail::Request(Request { id: 1, ask });
        self.shard.step(self.now, Input::Mail(mail), &mut self.out);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.shard.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// The first key changes every 5 ms for so long.
    fn flap(&mut self, seconds: u64) {
        for _ in 0..seconds * 200 {
            self.lit = !self.lit;
            self.set(0, self.lit);
            self.pass(Duration::from_millis(5));
        }
    }

    fn told(&self, phone: usize, key: usize) -> &[(u64, bool)] {
        &self.told[&format!("{phone}.{key}.")]
    }
}

/// The most that fell into one second.
fn most_in_a_second(told: &[(u64, bool)]) -> usize {
    told.iter()
        .map(|(from, _)| {
            told.iter()
                .filter(|(when, _)| (*from..from + 1_000).contains(when))
                .count()
        })
        .max()
        .unwrap_or(0)
}

/// All phones watch the hint that flaps, behind one edge.
fn flapping(phones: usize) {
    let mut site = Site::new();
    for phone in 0..phones {
        site.subscribe(phone, 0, 1);
    }
    site.pass(Duration::from_secs(2));
    let start = site.now.millis();
    site.flap(3);
    site.set(0, true);
    let end = site.now.millis();
    site.pass(Duration::from_secs(2));
    for phone in 0..phones {
        let told = site.told(phone, 0);
        let changes: Vec<_> = told
            .iter()
            .copied()
            .filter(|(when, _)| *when >= start)
            .collect();
        assert!(most_in_a_second(&changes) <= PER_SECOND, "{changes:?}");
        assert!(changes.len() >= 3 * PER_SECOND - 1, "{changes:?}");
        let (when, blinks) = *changes.last().unwrap();
        assert!(blinks && when < end + 1_000, "{phone}: {when}, {end}");
    }
}

#[test]
fn a_phone_that_takes_ten_changes_a_second_gets_ten_and_the_last_one_within_a_second() {
    flapping(1);
}

#[test]
fn so_do_a_thousand_phones_behind_one_edge() {
    flapping(1_000);
}

#[test]
fn a_key_that_flaps_takes_no_other_keys_turn_and_no_refresh_waits() {
    let mut site = Site::new();
    for key in 0..5 {
        site.subscribe(0, key, 1);
    }
    site.flap(1);
    for key in 1..5 {
        site.set(key, true);
    }
    let start = site.now.millis();
    site.flap(1);
    for key in 1..5 {
        let (when, blinks) = *site.told(0, key).last().unwrap();
        assert!(
            blinks && (start..start + 1_000).contains(&when),
            "{key}: {when}, {start}"
        );
    }
    site.subscribe(0, 0, 2);
    let (when, blinks) = *site.told(0, 0).last().unwrap();
    assert_eq!(
        (when, blinks),
        (site.now.millis(), site.lit),
        "a refresh is told at once"
    );
}
