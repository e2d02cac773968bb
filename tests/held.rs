//! Answers that wait for the disk, and what happens meanwhile. No kernel, no clock, and a disk that takes as long as a test
//! says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard::control::{Adoption, Ask, Request};
use lampfield::shard::mail::Mail;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId, ListenerTable, Row, Stage};
use lampfield_sim::edge::{Datagram, Edge, Parcel};
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;

const SHARD: ShardId = ShardId(0);
const PHONE: &str = "198.51.100.1:5060";

/// One shard whose answers wait until its records are kept.
struct House {
    edge: Edge,
    settings: Settings,
    now: Time,
    /// Of the records that were given out last.
    serial: u64,
}

impl House {
    fn new() -> House {
        let settings = Settings::default();
        let now = Time::from_millis(1_000_000);
        let mut shards = settings.shards(1).expect("settings");
        shards[0].incarnation = Some(1);
        let edge = Edge::new(shards, now, WallOffset(1_790_000_000_000_000_000));
        let serial = 0;
        let mut house = House {
            edge,
            settings,
            now,
            serial,
        };
        house.ask(Ask::Resume);
        house
    }

    fn mail(&mut self, mail: Mail) -> Vec<Datagram> {
        self.edge.deliver(SHARD, self.now, Parcel::Mail(mail));
        self.flush()
    }

    fn ask(&mut self, ask: Ask) -> Vec<Datagram> {
        self.mail(Mail::Request(Request { id: 1, ask }))
    }

    fn receive(&mut self, listener: ListenerId, bytes: &[u8]) -> Vec<Datagram> {
        let flow = Flow {
            listener,
            local: None,
            peer: PHONE.parse().expect("an address"),
            connection: None,
        };
        self.edge.receive(SHARD, self.now, flow, bytes, bytes.len());
        self.flush()
    }

    /// The disk has all that was given out.
    fn kept(&mut self) -> Vec<Datagram> {
        let (serial, kept, lost) = (self.serial, 1, 0);
        self.mail(Mail::Written { serial, kept, lost })
    }

    fn flush(&mut self) -> Vec<Datagram> {
        let turn = self.edge.flush(SHARD).expect("a turn");
        if !turn.records.is_empty() {
            self.serial = turn.records.serial;
        }
        turn.datagrams
    }

    /// Every shard is told of these listeners.
    fn adopt(&mut self, rows: Vec<Row>) {
        let settings = self.settings.shards(1).expect("settings").remove(0);
        let adoption = Adoption {
            listeners: Arc::new(ListenerTable {
                generation: 2,
                rows,
            }),
            ..settings.into()
        };
        self.ask(Ask::Adopt(adoption));
    }
}

fn row(id: ListenerId, address: &str, stage: Stage) -> Row {
    let address: SocketAddr = address.parse().expect("an address");
    Row {
        listener: Listener::new(id, address, 0),
        generation: 1,
        stage,
    }
}

fn subscribe() -> Vec<u8> {
    format!(
        "SUBSCRIBE sip:1001@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK-1\r\n\
         From: <sip:alice@example.com>;tag=a\r\nTo: <sip:1001@example.com>\r\nCall-ID: one\r\n\
         CSeq: 1 SUBSCRIBE\r\nContact: <sip:alice@{PHONE}>\r\nMax-Forwards: 70\r\nExpires: 3600\r\n\
         Event: dialog\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// What is answered by which listener, and from which address where it says so.
fn statuses(sent: &[Datagram]) -> Vec<(Option<u16>, ListenerId, Option<String>)> {
    let one = |sent: &Datagram| {
        let message = Message::read(&sent.bytes).expect("a message");
        let source = sent.source.map(|source| source.to_string());
        message
            .status()
            .map(|status| (Some(status), sent.listener, source))
    };
    sent.iter().filter_map(one).collect()
}

#[test]
fn an_answer_whose_listener_is_closed_while_it_waits_leaves_by_the_one_that_has_taken_over() {
    let (old, new) = (ListenerId(0), ListenerId(7));
    for (address, source) in [
        ("192.0.2.2:5060", None),
        // That one can leave from the address that the phone has sent to.
        ("0.0.0.0:5090", Some("192.0.2.1".to_string())),
    ] {
        let mut house = House::new();
        assert_eq!(statuses(&house.receive(old, &subscribe())), []);
        house.adopt(vec![
            row(old, "192.0.2.1:5060", Stage::Leaving(new)),
            row(new, address, Stage::Active),
        ]);
        house.now = house.now + Duration::from_millis(500);
        let (listener, to) = (old, new);
        let sent = house.ask(Ask::CloseListener { listener, to });
        assert_eq!(statuses(&sent), [], "what it promises is not kept yet");
        let sent = house.kept();
        assert_eq!(statuses(&sent), [(Some(200), new, source)], "{address}");
    }
}
