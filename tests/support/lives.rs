//! One server over several lives, killed and started again in memory: no kernel, no clock, and a disk that loses nothing.

#![allow(
    dead_code,
    reason = "each test program includes this file and asks for its own part of it"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::ShardId;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::mail::Mail;
use lampfield::store::format::Key;
use lampfield::store::records::Records;
use lampfield::store::rewrite::StoreNews;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, ListenerId};
use lampfield_sim::edge::{Edge, Parcel};
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::world::reply;

const SHARD: ShardId = ShardId(0);
const WALL: WallOffset = WallOffset(1_790_000_000_000_000_000);
/// Behind it stand many.
pub const SOURCE: &str = "198.51.100.1:5060";
/// What a Contact says, and where NOTIFYs go.
pub const CONTACT: &str = "203.0.113.9:5060";

/// One server over several lives, and its disk.
pub struct House {
    settings: Settings,
    edge: Edge,
    pub now: Time,
    life: u32,
    /// How far the clock has been set back since the life before.
    pub clock_back: Duration,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What has left since that was last asked.
    pub sent: Vec<(Time, Message)>,
}

impl House {
    pub fn new(settings: &[(&str, &str)]) -> House {
        let mut all = Settings::default();
        for (key, value) in settings {
            all.set(key, value).expect("a setting");
        }
        let now = Time::from_millis(1_000_000);
        House {
            edge: House::start(&all, 1, now, Duration::ZERO),
            settings: all,
            now,
            life: 1,
            clock_back: Duration::ZERO,
            disk: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn start(settings: &Settings, life: u32, now: Time, clock_back: Duration) -> Edge {
        let mut shards = settings.shards(1).expect("settings");
        shards[0].incarnation = Some(life);
        shards[0].clock_back = clock_back;
        let back = clock_back.as_nanos() as u64;
        Edge::new(shards, now, WallOffset(WALL.0 - back))
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&mut self) -> usize {
        self.edge.shard(SHARD).census().subscriptions
    }

    /// Killed, and started again.
    pub fn restart(&mut self) {
        self.life += 1;
        self.now = self.now + Duration::from_millis(500);
        self.edge = House::start(&self.settings, self.life, self.now, self.clock_back);
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

    pub fn receive(&mut self, peer: &str, bytes: &[u8]) {
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
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(when) = self.edge.next_deadline(SHARD).filter(|when| *when <= end) {
            self.now = self.now.max(when);
            self.edge.tick(SHARD, self.now);
            self.flush();
        }
        self.now = end;
    }

    /// What a request is answered with.
    pub fn answer(&mut self, peer: &str, bytes: &[u8]) -> Message {
        self.sent.clear();
        self.receive(peer, bytes);
        self.pass(Duration::from_millis(1));
        let mut answers = self.sent.iter().map(|(_, message)| message);
        answers
            .rfind(|message| message.status().is_some())
            .cloned()
            .unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(bytes)))
    }

    /// The status alone.
    pub fn status(&mut self, peer: &str, bytes: &[u8]) -> u16 {
        self.answer(peer, bytes).status().expect("an answer")
    }

    /// The disk has lost everything, is back, and is given everything anew.
    pub fn rewrite(&mut self) {
        self.disk.clear();
        for news in [StoreNews::Failed, StoreNews::Back { number: 1 }] {
            let parcel = Parcel::Mail(Mail::Store(news));
            self.edge.deliver(SHARD, self.now, parcel);
            self.flush();
        }
        self.pass(Duration::from_millis(10));
    }

    /// How many publications and subscriptions stand on the disk.
    pub fn kept(&self) -> (usize, usize) {
        let count = |is_one: fn(&Key<'_>) -> bool| {
            let keys = self.disk.keys().map(|key| Key::read(key).expect("a key"));
            keys.filter(is_one).count()
        };
        (
            count(|key| matches!(key, Key::Publication { .. })),
            count(|key| matches!(key, Key::Subscription { .. })),
        )
    }

    pub fn set(&mut self, state: HintState) {
        let update = HintUpdate::new("1001@example.com".into(), "pbx".into(), state);
        self.ask(Ask::ChangeHints(vec![HintChange::Set(update)]));
    }

    /// When NOTIFYs were sent, and with which Subscription-State.
    pub fn told(&mut self) -> Vec<(Time, String)> {
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

pub fn request(method: &str, name: &str, more: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} sip:1001@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {SOURCE};branch=z9hG4bK-{name}\r\n\
         From: <sip:{name}@example.com>;tag=f-{name}\r\nTo: <sip:1001@example.com>\r\nCall-ID: {name}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:{name}@{CONTACT}>\r\nMax-Forwards: 70\r\nExpires: 3600\r\n{more}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn subscribe(name: &str) -> Vec<u8> {
    request("SUBSCRIBE", name, "Event: dialog\r\n", "")
}
