//! A hint that flaps two hundred times a second, and phones that take ten changes: no more reach them, and what they show
//! is right as soon as it is over. No kernel, no clock.

#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::time::Time;
use lampfield_sim::edge::Datagram;
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, Settings};
use lampfield_sim::world::reply;
use site::Site;

const PER_SECOND: usize = 10;

/// What the phones have heard.
#[derive(Default)]
struct Heard {
    /// When each dialog was told, and whether the lamp blinks; by Call-ID: `phone.key.`.
    told: BTreeMap<String, Vec<(u64, bool)>>,
    /// To tags that we were given, by Call-ID.
    tags: BTreeMap<String, String>,
}

impl Heard {
    /// A NOTIFY is answered, an answer tells a tag.
    fn hear(&mut self, now: Time, message: &Message) -> Option<Vec<u8>> {
        let name = message.header("Call-ID").expect("a Call-ID").to_owned();
        if message.method().is_none() {
            let tag = message.tag("To").expect("a tag").to_owned();
            self.tags.insert(name, tag);
            return None;
        }
        let blinks = message.text().contains("<state>early</state>");
        let told = self.told.entry(name).or_default();
        told.push((now.millis(), blinks));
        Some(reply(message, 200, None))
    }
}

struct Flapping {
    site: Site,
    heard: Heard,
    lit: bool,
}

impl Flapping {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings
            .set("pace", &format!("{PER_SECOND} 1"))
            .expect("a setting");
        Flapping {
            site: Site::new(&settings),
            heard: Heard::default(),
            lit: false,
        }
    }

    fn converse(&mut self, sent: Vec<Datagram>) {
        self.site
            .converse(sent, |now, message| self.heard.hear(now, message));
    }

    /// A SUBSCRIBE that comes through an edge, as all of them here do.
    fn subscribe(&mut self, phone: usize, key: usize, cseq: u32) {
        let call_id = format!("{phone}.{key}.");
        let to_tag = self.heard.tags.get(&call_id);
        let to_tag = to_tag.map_or(String::new(), |tag| format!(";tag={tag}"));
        let resource = 1001 + key;
        let text = format!(
            "SUBSCRIBE sip:{resource}@{DEFAULT_DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bKe{phone}.{key}.{cseq}\r\n\
             Via: SIP/2.0/UDP 192.168.0.9:5060;branch=z9hG4bK{phone}.{key}.{cseq}\r\n\
             Record-Route: <sip:127.0.0.9:5060;lr>\r\n\
             From: <sip:{phone}@{DEFAULT_DOMAIN}>;tag=f{phone}\r\nTo: <sip:{resource}@{DEFAULT_DOMAIN}>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} SUBSCRIBE\r\nMax-Forwards: 70\r\nEvent: dialog\r\n\
             Contact: <sip:{phone}@192.168.0.9:5060>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        let edge = SocketAddr::from(([127, 0, 0, 9], 5060));
        let sent = self.site.receive(edge, text.as_bytes());
        self.converse(sent);
        self.pass(Duration::ZERO);
    }

    fn set(&mut self, key: usize, blinks: bool) {
        let state = if blinks {
            HintState::Ringing
        } else {
            HintState::Idle
        };
        let sent = self.site.set(&(1001 + key).to_string(), Some(state));
        self.converse(sent);
        self.pass(Duration::ZERO);
    }

    fn pass(&mut self, time: Duration) {
        self.site
            .pass_conversing(time, |now, message| self.heard.hear(now, message));
        assert_eq!(self.site.complaint(), None);
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
        &self.heard.told[&format!("{phone}.{key}.")]
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
    let mut site = Flapping::new();
    for phone in 0..phones {
        site.subscribe(phone, 0, 1);
    }
    site.pass(Duration::from_secs(2));
    let start = site.site.now.millis();
    site.flap(3);
    site.set(0, true);
    let end = site.site.now.millis();
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
    let mut site = Flapping::new();
    for key in 0..5 {
        site.subscribe(0, key, 1);
    }
    site.flap(1);
    for key in 1..5 {
        site.set(key, true);
    }
    let start = site.site.now.millis();
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
        (site.site.now.millis(), site.lit),
        "a refresh is told at once"
    );
}
