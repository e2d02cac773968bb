//! Ten thousand phones reboot: what they had before is gone within the time of one transaction and a little more, and
//! nothing else is. No kernel, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::shard::Shard;
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::settings::Settings;
use lampfield::time::{T64, Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId};

const PHONES: usize = 10_000;

/// What a phone answers to a NOTIFY of a dialog that it has forgotten.
#[derive(Clone, Copy, PartialEq)]
enum Forgotten {
    Says481,
    SaysNothing,
}

struct Site {
    shard: Shard,
    out: Effects,
    now: Time,
    /// The life that each phone is in: the dialogs of an earlier one are forgotten.
    lives: Vec<u32>,
    forgotten: Forgotten,
    /// NOTIFYs of forgotten dialogs, by Call-ID.
    probes: BTreeMap<String, u32>,
}

impl Site {
    fn new(forgotten: Forgotten) -> Self {
        let secrets = Secrets::new([1; 32]);
        let policy = PolicySettings {
            gates: vec![GateSettings::default()],
            ..PolicySettings::default()
        };
        let policy = Policy::new(&policy, &secrets, None).expect("the defaults are sound");
        let listeners = vec![Listener::new(
            ListenerId(0),
            "127.0.0.1:5060".parse().unwrap(),
            0,
        )];
        let settings = Settings::new(ShardId(0), 1, secrets, [2; 16], listeners, Arc::new(policy));
        let now = Time::from_millis(1_000);
        Site {
            shard: Shard::new(settings, now),
            out: Effects::new(1),
            now,
            lives: vec![0; PHONES],
            forgotten,
            probes: BTreeMap::new(),
        }
    }

    fn receive(&mut self, text: &str) {
        let flow = Flow {
            listener: ListenerId(0),
            local: None,
            peer: "127.0.0.1:7000".parse().unwrap(),
            connection: None,
        };
        let datagram = Input::Datagram {
            flow,
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: false,
        };
        self.shard.step(self.now, datagram, &mut self.out);
    }

    /// What was sent is answered, and that is taken in, until nothing more is said.
    fn settle(&mut self) {
        loop {
            let wall = WallOffset(0);
            self.shard
                .step(self.now, Input::Tick { wall }, &mut self.out);
            let mut notifies = Vec::new();
            for send in self.out.sends.drain(..) {
                let bytes = self.shard.arena().bytes(send.slot);
                if bytes.starts_with(b"NOTIFY") {
                    notifies.push(String::from_utf8_lossy(bytes).into_owned());
                }
            }
            for slot in self.out.released.drain(..) {
                self.shard.arena().release(slot);
            }
            if notifies.is_empty() {
                break;
            }
            for notify in notifies {
                self.answer(&notify);
            }
        }
    }

    fn answer(&mut self, notify: &str) {
        let header = |name: &str| {
            let line = notify.lines().find(|line| line.starts_with(name));
            line.expect("a NOTIFY has it").to_owned()
        };
        let call_id = header("Call-ID: ");
        let words = call_id.trim_start_matches("Call-ID: ").split_once('.');
        let (phone, life) = words.expect("a phone and a life");
        let known = life.starts_with(&format!("{}.", self.lives[phone.parse::<usize>().unwrap()]));
        if !known {
            *self.probes.entry(call_id.clone()).or_default() += 1;
            if self.forgotten == Forgotten::SaysNothing {
                return;
            }
        }
        let status = if known { "200 OK" } else { "481 Gone" };
        let copied = ["Via: ", "From: ", "To: ", "CSeq: "]
            .map(header)
            .join("\r\n");
        self.receive(&format!(
            "SIP/2.0 {status}\r\n{copied}\r\n{call_id}\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    /// Each phone subscribes, with two keys for one resource and one for another.
    fn subscribe_all(&mut self) {
        for phone in 0..PHONES {
            let life = self.lives[phone];
            for (key, resource) in [(0, 1001 + phone % 100), (1, 1001 + phone % 100), (2, 900)] {
                self.receive(&format!(
                    "SUBSCRIBE sip:{resource}@localhost SIP/2.0\r\n\
                     Via: SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bK{phone}.{life}.{key};rport\r\n\
                     From: <sip:{phone}@localhost>;tag=f{phone}.{key}\r\nTo: <sip:{resource}@localhost>\r\n\
                     Call-ID: {phone}.{life}.{key}\r\nCSeq: 1 SUBSCRIBE\r\nMax-Forwards: 70\r\nEvent: dialog\r\n\
                     Contact: <sip:{phone}@127.0.0.1:7000>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
                ));
                self.settle();
            }
        }
    }

    /// Lets time pass, from timer to timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.shard.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn subscriptions(&self) -> usize {
        self.shard.census().subscriptions
    }
}

fn reboot(forgotten: Forgotten) {
    let mut site = Site::new(forgotten);
    site.subscribe_all();
    site.pass(T64 + Duration::from_secs(5));
    assert_eq!(
        site.subscriptions(),
        3 * PHONES,
        "two keys for one resource are two"
    );
    assert!(site.probes.is_empty());
    for life in &mut site.lives {
        *life += 1;
    }
    site.subscribe_all();
    site.pass(T64 + Duration::from_secs(5));
    assert_eq!(site.subscriptions(), 3 * PHONES, "as many as before");
    let times = if forgotten == Forgotten::Says481 {
        1
    } else {
        11
    };
    assert_eq!(site.probes.len(), 3 * PHONES);
    assert!(site.probes.values().all(|count| *count <= times));
    site.pass(T64);
    assert_eq!(site.subscriptions(), 3 * PHONES);
}

#[test]
fn ten_thousand_reboots_leave_as_many_subscriptions_as_there_were() {
    reboot(Forgotten::Says481);
}

#[test]
fn ten_thousand_reboots_of_phones_that_answer_nothing_do_so_too() {
    reboot(Forgotten::SaysNothing);
}
