//! A restart forgets nothing that somebody was promised beside the dialog itself: whom each subscription and publication
//! counts for, and how often a watcher wants to be told. No kernel, no clock, and a disk that loses nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::ShardId;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::mail::Mail;
use lampfield::store::records::Records;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, ListenerId};
use lampfield_sim::edge::{Edge, Parcel};
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::world::reply;

const SHARD: ShardId = ShardId(0);
const WALL: WallOffset = WallOffset(1_790_000_000_000_000_000);
/// Behind it stand many.
const SOURCE: &str = "198.51.100.1:5060";
/// What a Contact says, and where NOTIFYs go.
const CONTACT: &str = "203.0.113.9:5060";

/// One server over several lives, and its disk.
struct House {
    settings: Settings,
    edge: Edge,
    now: Time,
    life: u32,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What has left since that was last asked.
    sent: Vec<(Time, Message)>,
}

impl House {
    fn new(settings: &[(&str, &str)]) -> House {
        let mut all = Settings::default();
        for (key, value) in settings {
            all.set(key, value).expect("a setting");
        }
        let now = Time::from_millis(1_000_000);
        House {
            edge: House::start(&all, 1, now),
            settings: all,
            now,
            life: 1,
            disk: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn start(settings: &Settings, life: u32, now: Time) -> Edge {
        let mut shards = settings.shards(1).expect("settings");
        shards[0].incarnation = Some(life);
        Edge::new(shards, now, WALL)
    }

    /// Killed, and started again.
    fn restart(&mut self) {
        self.life += 1;
        self.now = self.now + Duration::from_millis(500);
        self.edge = House::start(&self.settings, self.life, self.now);
        let mut records = Records::default();
        for (key, value) in &self.disk {
            records.copy(key, value);
        }
        self.ask(Ask::Restore(records));
        self.ask(Ask::Resume);
    }

    fn ask(&mut self, ask: Ask) {
        let request = Mail::Request(Request { id: 1, ask });
        self.edge.deliver(SHARD, self.now, Parcel::Mail(request));
        self.flush();
    }

    fn receive(&mut self, peer: &str, bytes: &[u8]) {
        let flow = Flow {
            listener: ListenerId(0),
            local: None,
            peer: peer.parse::<SocketAddr>().expect("an address"),
            connection: None,
        };
        self.edge.receive(SHARD, self.now, flow, bytes, bytes.len());
        self.flush();
    }

    fn flush(&mut self) {
        let turn = self.edge.flush(SHARD).expect("a turn");
        for (key, value) in turn.records.iter() {
            match value {
                Some(value) => self.disk.insert(key.to_vec(), value.to_vec()),
                None => self.disk.remove(key),
            };
        }
        if !turn.records.is_empty() {
            let serial = turn.records.serial;
            let (kept, lost) = (1, 0);
            let written = Mail::Written { serial, kept, lost };
            self.edge.deliver(SHARD, self.now, Parcel::Mail(written));
        }
        let mut answers = Vec::new();
        for sent in turn.datagrams {
            let message = Message::read(&sent.bytes).expect("a message");
            if message.method().is_some() {
                answers.push((sent.peer.to_string(), reply(&message, 200, None)));
            }
            self.sent.push((self.now, message));
        }
        // Answers that waited for the record leave now.
        if !turn.records.is_empty() {
            self.flush();
        }
        for (peer, answer) in answers {
            self.receive(&peer, &answer);
        }
    }

    /// Lets time pass; every NOTIFY is answered.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(when) = self.edge.next_deadline(SHARD).filter(|when| *when <= end) {
            self.now = self.now.max(when);
            self.edge.tick(SHARD, self.now);
            self.flush();
        }
        self.now = end;
    }

    /// The status that a request is answered with.
    fn status(&mut self, peer: &str, bytes: &[u8]) -> u16 {
        self.sent.clear();
        self.receive(peer, bytes);
        self.pass(Duration::from_millis(1));
        let mut statuses = self.sent.iter().filter_map(|(_, message)| message.status());
        statuses
            .next_back()
            .unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(bytes)))
    }

    fn set(&mut self, state: HintState) {
        let update = HintUpdate::new("1001@example.com".into(), "pbx".into(), state);
        self.ask(Ask::ChangeHints(vec![HintChange::Set(update)]));
    }

    /// When NOTIFYs were sent, and with which Subscription-State.
    fn told(&mut self) -> Vec<(Time, String)> {
        let is_notify = |message: &Message| message.method() == Some("NOTIFY");
        let state = |message: &Message| message.header("Subscription-State").unwrap().to_owned();
        let told = self
            .sent
            .drain(..)
            .filter(|(_, message)| is_notify(message));
        told.map(|(when, message)| (when, state(&message)))
            .collect()
    }
}

fn request(method: &str, name: &str, more: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} sip:1001@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {SOURCE};branch=z9hG4bK-{name}\r\n\
         From: <sip:{name}@example.com>;tag=f-{name}\r\nTo: <sip:1001@example.com>\r\nCall-ID: {name}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:{name}@{CONTACT}>\r\nMax-Forwards: 70\r\nExpires: 3600\r\n{more}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn subscribe(name: &str) -> Vec<u8> {
    request("SUBSCRIBE", name, "Event: dialog\r\n", "")
}

#[test]
fn a_restored_subscription_counts_for_the_source_that_it_came_from() {
    let mut house = House::new(&[("quota", "source subscriptions 1")]);
    assert_eq!(house.status(SOURCE, &subscribe("one")), 200);
    assert_eq!(house.status(SOURCE, &subscribe("two")), 503);
    for _ in 0..3 {
        house.restart();
        assert_eq!(house.status(SOURCE, &subscribe("two")), 503);
    }
    assert_eq!(house.status(CONTACT, &subscribe("three")), 200);
}

#[test]
fn a_restored_publication_counts_for_whoever_published_it() {
    const BODY: &str = "Messages-Waiting: yes\r\n";
    let more = "Event: message-summary\r\nContent-Type: application/simple-message-summary\r\n";
    for quota in ["user", "source", "domain"] {
        let mut house = House::new(&[("quota", &format!("{quota} publications 1"))]);
        let publish = |number| {
            let text = request("PUBLISH", "pbx", more, BODY);
            let text = String::from_utf8(text).expect("a text");
            text.replacen("z9hG4bK-pbx", &format!("z9hG4bK-pbx{number}"), 1)
                .replacen("CSeq: 1", &format!("CSeq: {number}"), 1)
                .into_bytes()
        };
        assert_eq!(house.status(SOURCE, &publish(1)), 200, "{quota}");
        assert_eq!(house.status(SOURCE, &publish(2)), 503, "{quota}");
        for number in 3..6 {
            house.restart();
            assert_eq!(house.status(SOURCE, &publish(number)), 503, "{quota}");
        }
        // What has ended counts for nobody.
        house.pass(Duration::from_secs(3_602));
        assert_eq!(house.status(SOURCE, &publish(6)), 200, "{quota}");
    }
}

#[test]
fn how_often_a_watcher_wants_to_be_told_holds_over_a_restart() {
    let mut house = House::new(&[]);
    let rates = ";max-rate=0.2;min-rate=0.05";
    let event = format!("Event: dialog{rates}\r\n");
    assert_eq!(
        house.status(SOURCE, &request("SUBSCRIBE", "one", &event, "")),
        200
    );
    house.pass(Duration::from_secs(10));
    house.sent.clear();
    house.restart();
    house.pass(Duration::from_secs(1));
    let began = house.now;
    let told = house.told();
    assert_eq!(told.len(), 1, "the first one waits for nothing: {told:?}");
    assert!(told[0].1.ends_with(rates), "{told:?}");
    // A change waits until five seconds after it, and silence ends after twenty.
    house.set(HintState::Ringing);
    house.pass(Duration::from_secs(29));
    let told = house.told();
    let after: Vec<u64> = told
        .iter()
        .map(|(when, _)| when.since(began - Duration::from_secs(1)).as_secs())
        .collect();
    assert_eq!(after, [5, 25], "{told:?}");
    assert!(
        told.iter().all(|(_, state)| state.ends_with(rates)),
        "{told:?}"
    );
}
