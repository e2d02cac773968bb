//! One shard without a kernel and without a clock, for tests that need to see each datagram and to say what becomes
//! of it. The witness listens to everything, so a test need not repeat the rules that hold whatever happens.

#![allow(
    dead_code,
    reason = "each test program includes this file and asks for its own part of it"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::arena::{SlotId, SlotSize};
use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::ShardId;
use lampfield::shard::census::Census;
use lampfield::shard::control::{Answer, Ask, Figures, HintChange, Page, Request, SubscriptionRow};
use lampfield::shard::effects::{Event, SendTag};
use lampfield::shard::filter::SubscriptionFilter;
use lampfield::shard::mail::Mail;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, ListenerId};
use lampfield_sim::edge::{Datagram, Edge, Parcel};
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, Settings};
use lampfield_sim::witness::Witness;

const SHARD: ShardId = ShardId(0);
const LISTENER: ListenerId = ListenerId(0);
/// More turns than this without time passing is a loop.
const TURNS_MAX: usize = 10_000;

/// One shard and its witness.
pub struct Site {
    edge: Edge,
    pub now: Time,
    pub witness: Witness,
    answers: Vec<Answer>,
    /// What the witness or the shard itself had to say against the shard.
    complaint: Option<String>,
}

impl Site {
    pub fn new(settings: &Settings) -> Self {
        let now = Time::from_millis(1_000_000);
        let wall = WallOffset(1_790_000_000_000_000_000);
        let settings = settings.shards(1).expect("the settings are sound");
        let mut site = Site {
            edge: Edge::new(settings, now, wall),
            now,
            witness: Witness::new(Duration::ZERO),
            answers: Vec::new(),
            complaint: None,
        };
        // Whoever lets sends fail, or no slot be free, cannot ask for retransmissions on time.
        site.witness.sends_fail = true;
        site
    }

    /// A datagram reaches the socket; what the shard sends at once.
    pub fn receive(&mut self, peer: SocketAddr, bytes: &[u8]) -> Vec<Datagram> {
        self.witness.heard(self.now, bytes);
        let flow = Flow {
            listener: LISTENER,
            local: None,
            peer,
            connection: None,
        };
        self.edge.receive(SHARD, self.now, flow, bytes, bytes.len());
        self.flush()
    }

    /// The kernel has refused a datagram.
    pub fn send_failed(&mut self, tag: SendTag, errno: i32) -> Vec<Datagram> {
        self.edge.send_failed(SHARD, self.now, tag, errno);
        self.flush()
    }

    /// A turn begins in which what comes has waited for so long.
    pub fn waited(&mut self, waited: Duration) {
        self.edge.waited(SHARD, self.now, waited);
    }

    /// One turn that time alone is the reason for.
    pub fn tick(&mut self) -> Vec<Datagram> {
        self.edge.tick(SHARD, self.now);
        self.flush()
    }

    /// Nobody runs the shard for so long.
    pub fn stand_still(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// When the shard wants its next tick.
    pub fn next_deadline(&self) -> Option<Time> {
        self.edge.next_deadline(SHARD)
    }

    /// Lets time pass, deadline by deadline; what was sent, and when.
    pub fn pass(&mut self, time: Duration) -> Vec<(Time, Datagram)> {
        let end = self.now + time;
        let mut sent = Vec::new();
        let mut turns = 0;
        while let Some(when) = self.next_deadline().filter(|when| *when <= end) {
            turns = if when > self.now { 0 } else { turns + 1 };
            assert!(turns < TURNS_MAX, "a tick at {when:?} again and again");
            self.now = self.now.max(when);
            let now = self.now;
            sent.extend(self.tick().into_iter().map(|datagram| (now, datagram)));
        }
        self.now = end;
        sent
    }

    /// A conversation until nobody says more at this moment: what is sent is heard, and what that makes somebody answer
    /// is received.
    pub fn converse(
        &mut self,
        sent: Vec<Datagram>,
        mut hear: impl FnMut(Time, &Message) -> Option<Vec<u8>>,
    ) {
        let mut sent = VecDeque::from(sent);
        while let Some(datagram) = sent.pop_front() {
            let message = Message::read(&datagram.bytes).expect("a message");
            if let Some(answer) = hear(self.now, &message) {
                sent.extend(self.receive(datagram.peer, &answer));
            }
            if sent.is_empty() && self.next_deadline().is_some_and(|when| when <= self.now) {
                sent.extend(self.tick());
            }
        }
    }

    /// Lets time pass with all that is said meanwhile.
    pub fn pass_conversing(
        &mut self,
        time: Duration,
        mut hear: impl FnMut(Time, &Message) -> Option<Vec<u8>>,
    ) {
        let end = self.now + time;
        while let Some(when) = self.next_deadline().filter(|when| *when <= end) {
            self.now = self.now.max(when);
            let sent = self.tick();
            self.converse(sent, &mut hear);
        }
        self.now = end;
    }

    /// A source says what is so of a resource, or that it no longer knows.
    pub fn set(&mut self, user: &str, state: Option<HintState>) -> Vec<Datagram> {
        let resource = format!("{user}@{DEFAULT_DOMAIN}").into();
        let change = match state {
            Some(state) => HintChange::Set(HintUpdate::new(resource, "test".into(), state)),
            None => HintChange::Remove {
                resource,
                source: "test".into(),
                order: None,
            },
        };
        self.mail(Ask::ChangeHints(vec![change]))
    }

    /// A question or an order of the control thread, whose answer does not matter.
    pub fn mail(&mut self, ask: Ask) -> Vec<Datagram> {
        let request = Mail::Request(Request { id: 1, ask });
        self.edge.deliver(SHARD, self.now, Parcel::Mail(request));
        self.flush()
    }

    /// Asks and gets the answer; nothing may be on its way out at that moment.
    fn ask(&mut self, ask: Ask) -> Answer {
        self.answers.clear();
        let sent = self.mail(ask);
        assert!(sent.is_empty(), "a question sends nothing");
        self.answers.pop().expect("every question is answered")
    }

    /// The subscriptions, as an operator sees them.
    pub fn rows(&mut self) -> Vec<SubscriptionRow> {
        self.rows_like(SubscriptionFilter::default())
    }

    /// Those that fit, page by page.
    pub fn rows_like(&mut self, filter: SubscriptionFilter) -> Vec<SubscriptionRow> {
        let filter = Arc::new(filter);
        let (mut rows, mut from) = (Vec::new(), None);
        loop {
            let ask = Ask::ListSubscriptions {
                filter: Arc::clone(&filter),
                page: Page {
                    from,
                    rows_max: 1_000,
                },
            };
            let Answer::Subscriptions(page) = self.ask(ask) else {
                panic!("no list of subscriptions");
            };
            rows.extend(page.rows);
            from = page.next;
            if from.is_none() {
                return rows;
            }
        }
    }

    /// Counters and gauges.
    pub fn figures(&mut self) -> Box<Figures> {
        match self.ask(Ask::ReadFigures) {
            Answer::Figures(figures) => figures,
            other => panic!("no figures: {other:?}"),
        }
    }

    /// How many of everything there are.
    pub fn census(&mut self) -> Census {
        self.edge.shard(SHARD).census()
    }

    /// Leases every send slot that is free.
    pub fn hoard_slots(&mut self) -> Vec<SlotId> {
        let arena = self.edge.shard(SHARD).arena();
        let mut hoard = Vec::new();
        for size in [SlotSize::Small, SlotSize::Large] {
            hoard.extend(core::iter::from_fn(|| arena.take(size)));
        }
        hoard
    }

    /// Gives slots back.
    pub fn release(&mut self, slots: impl Iterator<Item = SlotId>) {
        let arena = self.edge.shard(SHARD).arena();
        slots.for_each(|slot| arena.release(slot));
    }

    /// The first thing that was wrong so far.
    pub fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    fn flush(&mut self) -> Vec<Datagram> {
        let turn = self.edge.flush(SHARD).expect("one shard forwards nothing");
        for event in turn.events {
            match event {
                Event::Bug(what) => self.complain(format!("the shard reports a bug: {what}")),
                Event::Limit(..) | Event::Load(..) | Event::StoodStill(_) => {}
            }
        }
        for mail in turn.replies {
            match mail {
                Mail::Reply(reply) => self.answers.push(reply.answer),
                other => panic!("mail to the control thread: {other:?}"),
            }
        }
        for datagram in &turn.datagrams {
            if let Err(error) = self.witness.said(self.now, &datagram.bytes) {
                let text = String::from_utf8_lossy(&datagram.bytes).into_owned();
                self.complain(format!("{error}\n{text}"));
            }
        }
        turn.datagrams
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }
}

/// A SUBSCRIBE as a phone writes it.
pub fn subscribe(phone: &str, peer: SocketAddr, cseq: u32, to_tag: &str, expires: u32) -> Vec<u8> {
    let to_tag = match to_tag {
        "" => String::new(),
        tag => format!(";tag={tag}"),
    };
    format!(
        "SUBSCRIBE sip:1001@{DEFAULT_DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK-{phone}-{cseq};rport\r\n\
         From: <sip:{phone}@{DEFAULT_DOMAIN}>;tag=f-{phone}\r\nTo: <sip:1001@{DEFAULT_DOMAIN}>{to_tag}\r\n\
         Call-ID: {phone}.\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{phone}@{peer}>\r\nMax-Forwards: 70\r\n\
         Event: dialog\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
