//! The stage of a scenario: shards, a clock, a network that does as it is told, and phones
//! whose every message is written by the scenario. The witness listens to all of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard::census::Census;
use lampfield::shard::control::{Answer, Ask, Request};
use lampfield::shard::effects::Event;
use lampfield::shard::mail::Mail;
use lampfield::stats::Counter;
use lampfield::subscription::outcome::Supersede;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, ListenerId};

use super::connections::{Connections, Way};
use super::settings::{Listener, Settings};
use super::swaps::Transports;
use crate::edge::{Edge, Parcel, Turn};
use crate::message::Message;
use crate::witness::Witness;

/// More turns than this without time passing is a loop.
const TURNS_MAX: usize = 10_000;
/// How long everything may take to end by itself: the longest expiry, and the hour for which a
/// removed hint is remembered.
const AFTERMATH: Duration = Duration::from_secs(3 * 3600);
const EPERM: i32 = 1;

/// A message that a phone has got.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub listener: ListenerId,
    pub message: Message,
}

/// One phone: where it is, and what has come that the scenario has not read.
#[derive(Debug)]
pub struct Phone {
    pub address: SocketAddr,
    pub listener: ListenerId,
    pub inbox: VecDeque<Arrival>,
    pub answers: Option<u16>,
    pub lose: u32,
    /// The last request that was read: what `> 200` answers.
    pub asked: Option<Arrival>,
    /// The last message that was read: what `< again` repeats.
    pub read: Option<Message>,
    /// The last message that was sent, and from where: what `> again` repeats.
    pub sent: Option<(Vec<u8>, SocketAddr)>,
    /// The label of the conversation that `refresh` goes on with.
    pub conversation: String,
}

/// One dialog or publication as its phone knows it.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    pub method: String,
    pub uri: String,
    pub call_id: String,
    pub from_tag: String,
    pub to_tag: Option<String>,
    pub cseq: u32,
    pub event: String,
    /// Where requests within the dialog go: the Contact of the 2xx.
    pub target: Option<String>,
}

/// Everything.
pub struct Stage {
    pub edge: Edge,
    pub now: Time,
    pub listeners: Vec<Listener>,
    pub transports: Transports,
    pub witness: Witness,
    pub phones: BTreeMap<String, Phone>,
    pub conversations: BTreeMap<String, Conversation>,
    pub variables: BTreeMap<String, String>,
    pub kept: BTreeMap<String, Arrival>,
    pub refuse: u32,
    /// Inputs gather in one turn.
    pub held: bool,
    pub connections: Connections,
    /// Everything that got a number so far.
    serial: u32,
    answers: Vec<Answer>,
    /// Resources that hints have touched, to be removed at the end.
    pub hinted: Vec<(String, String)>,
    settings: Settings,
}

impl Stage {
    pub fn new(settings: &Settings, shards: u16, way: &Way) -> Result<Self, String> {
        let now = Time::from_millis(1_000_000);
        let wall = WallOffset(1_790_000_000_000_000_000);
        let mut stage = Stage {
            edge: Edge::new(settings.shards(shards)?, now, wall),
            now,
            listeners: settings.listeners(),
            transports: Transports::new(now, shards, &settings.listeners()),
            witness: Witness::new(Duration::ZERO),
            phones: BTreeMap::new(),
            conversations: BTreeMap::new(),
            variables: BTreeMap::new(),
            kept: BTreeMap::new(),
            refuse: 0,
            held: false,
            connections: Connections::new(way),
            serial: 0,
            answers: Vec::new(),
            hinted: Vec::new(),
            settings: settings.clone(),
        };
        stage.witness.jitters = settings.subscribe.jitter;
        stage.witness.replaces = settings.subscribe.supersede == Supersede::Replace;
        stage.witness.probes = settings.subscribe.supersede == Supersede::Probe;
        stage.settle()?;
        Ok(stage)
    }

    /// A number that was not used before.
    pub fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    /// `phone alice 10.0.0.9:5060`
    pub fn place(&mut self, name: &str, address: &str) -> Result<(), String> {
        let address = address
            .parse()
            .map_err(|_| format!("no address: {address}"))?;
        self.phone(name).address = address;
        let listener = self.listener_for(address);
        self.phone(name).listener = listener;
        Ok(())
    }

    /// A phone; one that was never placed gets an address of its own.
    pub fn phone(&mut self, name: &str) -> &mut Phone {
        let number = self.phones.len() as u8 + 1;
        let address = SocketAddr::from(([10, 0, 0, number], 5060));
        let listener = self.listener_for(address);
        self.phones.entry(name.to_string()).or_insert(Phone {
            address,
            listener,
            inbox: VecDeque::new(),
            answers: None,
            lose: 0,
            asked: None,
            read: None,
            sent: None,
            conversation: name.to_string(),
        })
    }

    /// The first listener that an address of this family can reach.
    fn listener_for(&self, address: SocketAddr) -> ListenerId {
        self.listeners
            .iter()
            .find(|listener| listener.address.is_ipv4() == address.is_ipv4())
            .map_or(ListenerId(0), |listener| listener.id)
    }

    /// A datagram goes from `source` to one of the server's listeners, and the server comes to rest.
    pub fn transmit(
        &mut self,
        listener: ListenerId,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        if self.transports.sockets.leave(listener).is_err() {
            return Err(format!("nobody listens on {listener:?} any more"));
        }
        self.reach_server(listener, source, bytes)?;
        match self.held {
            true => Ok(()),
            false => self.settle(),
        }
    }

    /// The turn that gathered inputs ends.
    pub fn go(&mut self) -> Result<(), String> {
        self.held = false;
        self.settle()
    }

    /// The kernel chooses the shard by the source address, which says nothing of who owns what.
    fn reach_server(
        &mut self,
        listener: ListenerId,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        self.witness.heard(self.now, bytes);
        let local = self
            .listeners
            .iter()
            .find(|one| one.id == listener)
            .and_then(|one| one.reached_as);
        let flow = Flow {
            listener,
            local,
            peer: source,
            connection: None,
        };
        let shards = self.edge.ids().count() as u64;
        let spread: u64 = source.to_string().bytes().map(u64::from).sum();
        let shard = ShardId((spread % shards) as u16);
        if self.is_stream(listener) {
            return self.reach_by_connection(listener, source, local, shard, bytes);
        }
        let cut_at = self.settings.receive_buffer;
        self.edge.receive(shard, self.now, flow, bytes, cut_at);
        Ok(())
    }

    /// Asks the home shard of a resource.
    pub fn ask_home(&mut self, resource: &str, ask: Ask) -> Result<Answer, String> {
        let home = self.settings.home(resource, self.edge.ids().count() as u16);
        self.ask(home, ask)
    }

    /// A planned stop: the shards answer when they are done.
    pub fn drain(&mut self, within: Duration) -> Result<(), String> {
        for shard in self.edge.ids() {
            let request = Mail::Request(Request {
                id: 0,
                ask: Ask::Drain { within },
            });
            self.edge.deliver(shard, self.now, Parcel::Mail(request));
        }
        self.settle()
    }

    /// Changes one setting, and has every shard adopt what it may while it runs.
    pub fn reload(&mut self, key: &str, value: &str) -> Result<(), String> {
        self.settings.set(key, value)?;
        let adoption = self.adoption()?;
        for shard in self.edge.ids() {
            self.done(shard, Ask::Adopt(adoption.clone()))?;
        }
        Ok(())
    }

    /// What was set so far.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells one shard to do something that it can only do.
    pub fn done(&mut self, shard: ShardId, ask: Ask) -> Result<(), String> {
        match self.ask(shard, ask)? {
            Answer::Done => Ok(()),
            other => Err(format!("a shard answers with {other:?}")),
        }
    }

    /// Asks one shard and waits for its answer.
    pub fn ask(&mut self, shard: ShardId, ask: Ask) -> Result<Answer, String> {
        let id = u64::from(self.serial());
        let request = Mail::Request(Request { id, ask });
        self.edge.deliver(shard, self.now, Parcel::Mail(request));
        self.answers.clear();
        self.settle()?;
        self.answers
            .pop()
            .ok_or_else(|| "no answer from the shard".to_string())
    }

    /// Lets time pass, deadline by deadline.
    pub fn advance(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        let mut turns_without_time = 0;
        loop {
            let due = self
                .edge
                .ids()
                .filter_map(|shard| Some((self.edge.next_deadline(shard)?, shard)))
                .min();
            let first = due.map_or(end, |(when, _)| when.min(end));
            if let Some(when) = self.transports.next_tend().filter(|when| *when <= first) {
                self.now = self.now.max(when);
                self.tend()?;
                continue;
            }
            let Some((when, shard)) = due.filter(|(when, _)| *when <= end) else {
                break;
            };
            turns_without_time = if when > self.now {
                0
            } else {
                turns_without_time + 1
            };
            if turns_without_time > TURNS_MAX {
                return Err(format!(
                    "{shard:?} wants a tick at {when:?} again and again"
                ));
            }
            self.now = self.now.max(when);
            self.edge.tick(shard, self.now);
            self.settle()?;
        }
        self.now = end;
        for shard in self.edge.ids() {
            self.edge.tick(shard, self.now);
        }
        self.settle()
    }

    /// Nothing may have come that the scenario did not look at.
    pub fn all_read(&self) -> Result<(), String> {
        for (name, phone) in &self.phones {
            if let Some(arrival) = phone.inbox.front() {
                return Err(format!(
                    "{name} has got what the scenario does not expect:\n{}",
                    show(&arrival.message)
                ));
            }
        }
        Ok(())
    }

    /// Phones fall silent, hints are removed, hours pass: then every table must be empty.
    pub fn let_everything_end(&mut self) -> Result<(), String> {
        for phone in self.phones.values_mut() {
            phone.lose = u32::MAX;
        }
        super::hints::remove_all(self)?;
        self.advance(AFTERMATH)?;
        for shard in self.edge.ids() {
            let Answer::Figures(figures) = self.ask(shard, Ask::ReadFigures)? else {
                return Err("no figures".to_string());
            };
            let bugs = figures.stats.get(Counter::Bug);
            if bugs != 0 {
                return Err(format!("{shard:?} counts {bugs} bugs"));
            }
            let census = self.edge.shard(shard).census();
            if census != Census::default() {
                return Err(format!("{shard:?} is not empty: {census:?}"));
            }
        }
        self.drains(0)
    }

    /// Turns, until no shard has anything left to do at this moment.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            let mut quiet = true;
            for shard in self.edge.ids() {
                let turn = self.edge.flush(shard)?;
                quiet &=
                    turn.datagrams.is_empty() && turn.streams.is_empty() && turn.parcels.is_empty();
                self.carry_out(turn)?;
                if self
                    .edge
                    .next_deadline(shard)
                    .is_some_and(|when| when <= self.now)
                {
                    self.edge.tick(shard, self.now);
                    quiet = false;
                }
            }
            if quiet {
                return Ok(());
            }
        }
        Err("the shards do not come to rest".to_string())
    }

    fn carry_out(&mut self, turn: Turn) -> Result<(), String> {
        for event in &turn.events {
            // A limit that is reached is for the operator to read, and for the scenario to expect.
            if let Event::Bug(_) = event {
                return Err(format!("the shard reports {event:?}"));
            }
        }
        for mail in turn.replies {
            match mail {
                Mail::Reply(reply) => self.answers.push(reply.answer),
                other => return Err(format!("mail to the control thread: {other:?}")),
            }
        }
        for (shard, parcel) in turn.parcels {
            self.edge.deliver(shard, self.now, parcel);
        }
        for streamed in turn.streams {
            self.write(streamed)?;
        }
        for datagram in turn.datagrams {
            self.judge(&datagram.bytes)?;
            if self.refuse > 0 {
                self.refuse -= 1;
                self.witness.sends_fail = true;
                self.edge
                    .send_failed(datagram.shard, self.now, datagram.tag, EPERM);
                continue;
            }
            self.transports.sockets.leave(datagram.listener)?;
            self.arrive(datagram.listener, datagram.peer, &datagram.bytes)?;
        }
        Ok(())
    }

    /// The witness listens to what the server says.
    pub(super) fn judge(&mut self, bytes: &[u8]) -> Result<(), String> {
        let said = self.witness.said(self.now, bytes);
        said.map(drop)
            .map_err(|error| format!("{error}\n{}", String::from_utf8_lossy(bytes)))
    }

    /// A message from the server reaches the phone at that address.
    pub(super) fn arrive(
        &mut self,
        listener: ListenerId,
        peer: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        let message = Message::read(bytes)?;
        let Some((name, phone)) = self
            .phones
            .iter_mut()
            .find(|(_, phone)| phone.address == peer)
        else {
            return Err(format!(
                "sent to {peer}, where nobody is:\n{}",
                show(&message)
            ));
        };
        if phone.lose > 0 {
            phone.lose = phone.lose.saturating_sub(u32::from(phone.lose != u32::MAX));
            return Ok(());
        }
        let arrival = Arrival { listener, message };
        let standing = phone
            .answers
            .filter(|_| arrival.message.method() == Some("NOTIFY"));
        let Some(status) = standing else {
            phone.inbox.push_back(arrival);
            return Ok(());
        };
        let answer = super::send::answer(&arrival.message, status, name, phone.address);
        let source = phone.address;
        phone.asked = Some(arrival);
        self.reach_server(listener, source, &answer)
    }
}

/// A message as an error shows it.
pub fn show(message: &Message) -> String {
    let text = String::from_utf8_lossy(&message.bytes).replace('\r', "");
    text.lines().map(|line| format!("    {line}\n")).collect()
}
