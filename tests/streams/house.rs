//! Shards, and phones that come to them by connections: bytes in pieces of any size, a peer that reads or does not.
//! No kernel and no clock of the machine.

#![allow(
    dead_code,
    reason = "each test program includes this file and asks for its own part of it"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::ShardId;
use lampfield::shard::census::Census;
use lampfield::shard::control::{Answer, Ask, HintChange, Request};
use lampfield::shard::effects::Event;
use lampfield::shard::input::Input;
use lampfield::shard::mail::{Mail, Resolution};
use lampfield::stats::{Counter, Stats};
use lampfield::time::{Time, WallOffset};
use lampfield::transport::locate::{Located, Question};
use lampfield::transport::stream::{Found, Framer};
use lampfield::transport::{ConnectionId, Flow, ListenerId};
use lampfield_sim::edge::{Edge, Parcel, Streamed};
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, STREAM, Settings};

/// More turns than this without time passing is a loop.
const TURNS_MAX: usize = 20_000;

/// One peer's end of a connection.
struct Peer {
    address: SocketAddr,
    framer: Framer,
    /// What the server has written and the peer has not read.
    unread: Vec<u8>,
    /// What came, message by message, and pongs as `"\r\n"`.
    inbox: Vec<String>,
    reads: bool,
    /// What NOTIFYs are answered with; a 503 asks for two seconds.
    answers: Option<u16>,
    closed_by_server: bool,
}

/// The shards and who is connected to them.
pub struct House {
    edge: Edge,
    settings: Settings,
    pub now: Time,
    peers: BTreeMap<ConnectionId, Peer>,
    serial: u64,
    answers: Vec<Answer>,
    /// Phones that send datagrams are told by datagrams; in a house without any, nobody is.
    by_datagrams: bool,
    datagrams: Vec<(SocketAddr, String)>,
    /// Names that were to be looked up.
    asked: Vec<(ShardId, Arc<Question>)>,
}

impl House {
    pub fn new(settings: &Settings, shards: u16) -> House {
        let now = Time::from_millis(1_000_000);
        let wall = WallOffset(1_790_000_000_000_000_000);
        let of_shards = settings.shards(shards).expect("the settings are sound");
        House {
            edge: Edge::new(of_shards, now, wall),
            settings: settings.clone(),
            now,
            peers: BTreeMap::new(),
            serial: 0,
            answers: Vec::new(),
            by_datagrams: false,
            datagrams: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// A datagram comes, to one of the shards.
    #[allow(dead_code, reason = "not every test has phones on UDP")]
    pub fn datagram(&mut self, shard: u16, from: &str, text: &str) {
        self.by_datagrams = true;
        let flow = Flow {
            listener: ListenerId(0),
            local: None,
            peer: from.parse().expect("an address"),
            connection: None,
        };
        let bytes = text.as_bytes();
        self.edge
            .receive(ShardId(shard), self.now, flow, bytes, bytes.len());
        self.settle();
    }

    /// What was sent by datagrams since this was last asked.
    #[allow(dead_code, reason = "not every test has phones on UDP")]
    pub fn datagrams(&mut self) -> Vec<String> {
        let sent = self.datagrams_with_peers();
        sent.into_iter().map(|(_, text)| text).collect()
    }

    /// The same with where it was sent to.
    #[allow(dead_code, reason = "not every test has phones on UDP")]
    pub fn datagrams_with_peers(&mut self) -> Vec<(SocketAddr, String)> {
        std::mem::take(&mut self.datagrams)
    }

    /// Names that were to be looked up since this was last asked.
    #[allow(dead_code, reason = "most tests have no names")]
    pub fn asked(&mut self) -> Vec<Question> {
        let asked = self.asked.iter();
        let asked = asked.map(|(_, question)| Question::clone(question));
        asked.collect()
    }

    /// Whoever was asked is gone, and says nothing.
    #[allow(dead_code, reason = "most tests have no names")]
    pub fn lose_asked(&mut self) {
        self.asked.clear();
    }

    /// All that was asked comes to this.
    #[allow(dead_code, reason = "most tests have no names")]
    pub fn resolve(&mut self, located: &Located, lasts: Duration) {
        for (shard, question) in std::mem::take(&mut self.asked) {
            let resolution = Resolution {
                question,
                located: located.clone(),
                lasts,
            };
            let mail = Mail::Resolved(Box::new(resolution));
            self.edge.deliver(shard, self.now, Parcel::Mail(mail));
        }
        self.settle();
    }

    /// A source says more than a state.
    #[allow(dead_code, reason = "most tests have no use for more")]
    pub fn say(&mut self, update: HintUpdate) {
        let shards = self.edge.ids().count() as u16;
        let home = self.settings.home(&update.resource, shards);
        self.ask(home, Ask::ChangeHints(vec![HintChange::Set(update)]));
    }

    /// Somebody connects, and one shard accepts.
    pub fn connect(&mut self, shard: u16, address: &str) -> ConnectionId {
        self.connect_to(STREAM, shard, address)
    }

    /// The same to another listener.
    pub fn connect_to(&mut self, listener: ListenerId, shard: u16, address: &str) -> ConnectionId {
        self.serial += 1;
        let id = ConnectionId::new(ShardId(shard), self.serial);
        let address = address.parse().expect("an address");
        let peer = Peer {
            address,
            framer: Framer::default(),
            unread: Vec::new(),
            inbox: Vec::new(),
            reads: true,
            answers: Some(200),
            closed_by_server: false,
        };
        self.peers.insert(id, peer);
        let flow = Flow {
            listener,
            local: None,
            peer: address,
            connection: Some(id),
        };
        self.edge
            .connection(id.shard(), self.now, Input::Opened { flow });
        self.settle();
        id
    }

    /// The peer has shown a certificate.
    pub fn proves(&mut self, id: ConnectionId, names: &[&str]) {
        let names: Vec<Box<str>> = names.iter().map(|&name| name.into()).collect();
        let input = Input::Proved {
            connection: id,
            names: &names,
        };
        self.edge.connection(id.shard(), self.now, input);
        self.settle();
    }

    pub fn address(&self, id: ConnectionId) -> SocketAddr {
        self.peers[&id].address
    }

    /// Bytes come by a connection.
    pub fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        let input = Input::Stream {
            connection: id,
            bytes,
        };
        self.edge.connection(id.shard(), self.now, input);
        self.settle();
    }

    /// Bytes come by a connection, and behind them the end of what the peer has to say; it still reads.
    pub fn send_last(&mut self, id: ConnectionId, bytes: &[u8]) {
        let input = Input::Stream {
            connection: id,
            bytes,
        };
        self.edge.connection(id.shard(), self.now, input);
        let input = Input::Ended { connection: id };
        self.edge.connection(id.shard(), self.now, input);
        self.settle();
    }

    /// The peer closes.
    pub fn close(&mut self, id: ConnectionId) {
        self.edge
            .connection(id.shard(), self.now, Input::Closed { connection: id });
        self.settle();
    }

    /// From now on the peer reads, or does not.
    pub fn reads(&mut self, id: ConnectionId, reads: bool) {
        self.peers.get_mut(&id).expect("a peer").reads = reads;
        self.settle();
    }

    /// From now on the peer answers NOTIFYs so, or not at all.
    pub fn answers(&mut self, id: ConnectionId, answers: Option<u16>) {
        self.peers.get_mut(&id).expect("a peer").answers = answers;
    }

    /// The peer reads so many bytes, and then no more.
    pub fn read_some(&mut self, id: ConnectionId, bytes: usize) {
        self.deliver(id, bytes);
        self.settle();
    }

    /// The bytes that the server has written: read by who knows what they are.
    #[allow(dead_code, reason = "only pages have frames to read")]
    pub fn take_bytes(&mut self, id: ConnectionId) -> Vec<u8> {
        let peer = self.peers.get_mut(&id).expect("a peer");
        let taken = std::mem::take(&mut peer.unread);
        if !taken.is_empty() {
            let written = Input::Written {
                connection: id,
                bytes: taken.len(),
            };
            self.edge.connection(id.shard(), self.now, written);
            self.settle();
        }
        taken
    }

    /// What has come since this was last asked.
    pub fn inbox(&mut self, id: ConnectionId) -> Vec<String> {
        std::mem::take(&mut self.peers.get_mut(&id).expect("a peer").inbox)
    }

    /// Bytes that the server has written and the peer has not read.
    pub fn unread(&self, id: ConnectionId) -> usize {
        self.peers[&id].unread.len()
    }

    pub fn is_closed(&self, id: ConnectionId) -> bool {
        self.peers[&id].closed_by_server
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadlines = self.edge.ids().map(|shard| self.edge.next_deadline(shard));
            let due = deadlines.flatten().min();
            let Some(when) = due.filter(|when| *when <= end) else {
                break;
            };
            self.now = self.now.max(when);
            self.tick_all();
            self.settle();
        }
        self.now = end;
        self.tick_all();
        self.settle();
    }

    /// A source says what is so of a resource, or that it no longer knows.
    pub fn set(&mut self, user: &str, state: Option<HintState>) {
        let resource = format!("{user}@{DEFAULT_DOMAIN}");
        let home = self
            .settings
            .home(&resource, self.edge.ids().count() as u16);
        let change = match state {
            Some(state) => HintChange::Set(HintUpdate::new(
                resource.as_str().into(),
                "test".into(),
                state,
            )),
            None => HintChange::Remove {
                resource: resource.as_str().into(),
                source: "test".into(),
                order: None,
            },
        };
        self.ask(home, Ask::ChangeHints(vec![change]));
    }

    /// A planned stop, within that time.
    pub fn drain(&mut self, within: Duration) {
        let shards: Vec<ShardId> = self.edge.ids().collect();
        for shard in shards {
            self.ask(shard, Ask::Drain { within });
        }
    }

    /// A counter, over all shards.
    pub fn count(&mut self, counter: Counter) -> u64 {
        let shards: Vec<ShardId> = self.edge.ids().collect();
        shards
            .into_iter()
            .map(|shard| match self.ask(shard, Ask::ReadFigures) {
                Some(Answer::Figures(figures)) => Stats::get(&figures.stats, counter),
                other => panic!("no figures: {other:?}"),
            })
            .sum()
    }

    pub fn census(&mut self) -> Vec<Census> {
        let shards: Vec<ShardId> = self.edge.ids().collect();
        let of = |shard: ShardId| self.edge.shard(shard).census();
        shards.into_iter().map(of).collect()
    }

    fn ask(&mut self, shard: ShardId, ask: Ask) -> Option<Answer> {
        self.answers.clear();
        let request = Mail::Request(Request { id: 1, ask });
        self.edge.deliver(shard, self.now, Parcel::Mail(request));
        self.settle();
        self.answers.pop()
    }

    fn tick_all(&mut self) {
        let shards: Vec<ShardId> = self.edge.ids().collect();
        for shard in shards {
            self.edge.tick(shard, self.now);
        }
    }

    /// Turns, until no shard has anything left to do at this moment.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut quiet = true;
            let shards: Vec<ShardId> = self.edge.ids().collect();
            for shard in shards {
                let turn = self.edge.flush(shard).expect("a sound turn");
                quiet &= turn.streams.is_empty() && turn.parcels.is_empty();
                let dialled = !self.by_datagrams && !turn.datagrams.is_empty();
                assert!(!dialled, "nobody is dialled");
                for datagram in turn.datagrams {
                    let text = String::from_utf8(datagram.bytes).expect("UTF-8");
                    self.datagrams.push((datagram.peer, text));
                }
                for event in turn.events {
                    assert!(!matches!(event, Event::Bug(_)), "{event:?}");
                }
                for mail in turn.replies {
                    match mail {
                        Mail::Reply(reply) => self.answers.push(reply.answer),
                        Mail::Resolve(question) => self.asked.push((shard, question)),
                        other => panic!("mail for nobody: {other:?}"),
                    }
                }
                for (to, parcel) in turn.parcels {
                    self.edge.deliver(to, self.now, parcel);
                }
                for streamed in turn.streams {
                    self.stream(streamed);
                }
                let due = self.edge.next_deadline(shard);
                if due.is_some_and(|when| when <= self.now) {
                    self.edge.tick(shard, self.now);
                    quiet = false;
                }
            }
            let reading: Vec<ConnectionId> = self
                .peers
                .iter()
                .filter(|(_, peer)| peer.reads && !peer.unread.is_empty())
                .map(|(&id, _)| id)
                .collect();
            for id in reading {
                quiet = false;
                self.deliver(id, usize::MAX);
            }
            if quiet {
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    fn stream(&mut self, streamed: Streamed) {
        let peer = self.peers.get_mut(&streamed.connection).expect("a peer");
        match streamed.bytes {
            Some(bytes) => peer.unread.extend_from_slice(&bytes),
            None => peer.closed_by_server = true,
        }
    }

    /// The peer reads, and the shard hears that there is room again.
    fn deliver(&mut self, id: ConnectionId, bytes_max: usize) {
        let now = self.now;
        let peer = self.peers.get_mut(&id).expect("a peer");
        let length = peer.unread.len().min(bytes_max);
        let bytes: Vec<u8> = peer.unread.drain(..length).collect();
        let mut rest = &bytes[..];
        let mut answers = Vec::new();
        // A pong is a single line end: to a framer that is nothing.
        if bytes == b"\r\n" {
            peer.inbox.push("\r\n".to_owned());
        }
        while let Some(found) = peer.framer.next(&mut rest) {
            match found {
                Found::Message(bytes) => {
                    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
                    if let Some(status) = peer.answers
                        && text.starts_with("NOTIFY ")
                    {
                        answers.push(answer_with(&text, status));
                    }
                    peer.inbox.push(text);
                }
                Found::Ping => {}
                Found::Broken { .. } => panic!("the server writes what can be read"),
            }
        }
        let open = !peer.closed_by_server;
        let written = Input::Written {
            connection: id,
            bytes: length,
        };
        self.edge.connection(id.shard(), now, written);
        for answer in answers.iter().filter(|_| open) {
            let input = Input::Stream {
                connection: id,
                bytes: answer.as_bytes(),
            };
            self.edge.connection(id.shard(), now, input);
        }
    }
}

/// A 200 to a request.
pub fn answer_of(request: &str) -> String {
    answer_with(request, 200)
}

fn answer_with(request: &str, status: u16) -> String {
    let mut answer = format!("SIP/2.0 {status} Whatever\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        answer.push_str(&format!("{name}: {}\r\n", header(request, name)));
    }
    if status == 503 {
        answer.push_str("Retry-After: 2\r\n");
    }
    answer.push_str("Content-Length: 0\r\n\r\n");
    answer
}

/// The value of a header field, empty if there is none.
pub fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let mut lines = message.split("\r\n");
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or("").trim()
}

/// A SUBSCRIBE of one of a phone's keys, as the phone writes it over TCP.
pub fn subscribe(
    phone: &str,
    user: &str,
    contact: &str,
    cseq: u32,
    to_tag: &str,
    expires: u32,
) -> String {
    let to_tag = match to_tag {
        "" => String::new(),
        tag => format!(";tag={tag}"),
    };
    format!(
        "SUBSCRIBE sip:{user}@{DEFAULT_DOMAIN} SIP/2.0\r\n\
         Via: SIP/2.0/TCP {contact};branch=z9hG4bK-{phone}-{user}-{cseq};rport\r\n\
         From: <sip:{phone}@{DEFAULT_DOMAIN}>;tag=f-{phone}-{user}\r\nTo: <sip:{user}@{DEFAULT_DOMAIN}>{to_tag}\r\n\
         Call-ID: {phone}-{user}\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{phone}@{contact};transport=tcp>\r\n\
         Max-Forwards: 70\r\nEvent: dialog\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The tag that the server gave in a message of its own.
pub fn tag(value: &str) -> &str {
    value.split("tag=").nth(1).unwrap_or("")
}
