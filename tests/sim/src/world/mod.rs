//! One simulated day: shards, a network with weather, phones, publishers, feeds, and a clock.
//! Storms and calms take turns; what must hold is checked all along, and what must have healed
//! is checked at the end of each calm.

mod actions;
mod check;
mod delivery;
mod feed;
mod hostile;
mod network;
mod phone;
mod publisher;
mod swaps;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard;
use lampfield::shard::control::{Answer, Ask, HintChange, Request};
use lampfield::shard::mail::Mail;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::ListenerId;

use crate::edge::{Edge, Parcel, Turn};
use crate::post::{Post, Taken, Way};
use crate::random::Random;
use crate::script::settings::Settings;
use crate::sockets::Arrival;
use crate::witness::{DialogName, Witness};

use feed::Truth;
use hostile::Hostile;
use network::Weather;
use phone::Phone;
pub use phone::reply;
use publisher::Publisher;
use swaps::Swaps;
use trace::Trace;

/// Datagrams that phones want to send: from where, to where, and what.
pub type Outbox = Vec<(SocketAddr, SocketAddr, Vec<u8>)>;

/// The longest way of mail between two shards.
const MAIL_MS: u64 = 20;
/// A shard may get its tick so much too late.
const LATE_MS: u64 = 5;
/// More events than this without time passing is a loop.
const EVENTS_MAX: u32 = 50_000;
/// A crowd of phones is smaller than this.
const PHONES_MAX: u64 = 400;
/// What the kernel may say of a send that may be well the next time, and of one that never will.
const PASSING: [i32; 8] = [1, 9, 11, 12, 101, 105, 111, 113];
const LASTING: [i32; 3] = [22, 90, 97];
/// Moments at which a clock or a wheel turns over, in milliseconds: some runs begin shortly before one.
const TURNS_OVER: [u64; 5] = [1_000_000, 1 << 24, 1 << 30, 1 << 32, 1 << 36];

/// What will happen at some time.
enum Event {
    ToServer {
        source: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    ToPeer {
        peer: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Mail of the control thread, or of the store, is there.
    Parcel { shard: ShardId, parcel: Parcel },
    /// Something of another shard's is there.
    Post(Way),
    /// The ring of a shard receives on new sockets from now on.
    Receives { shard: ShardId },
}

/// From where a phone has heard.
#[derive(Debug, Default)]
struct Known {
    /// The address that its last request in the dialog came to.
    request: Option<SocketAddr>,
    /// The listener that the last NOTIFY left by.
    notify: Option<ListenerId>,
}

/// Everything.
pub struct World {
    random: Random,
    now: Time,
    weather: Weather,
    edge: Edge,
    settings: Settings,
    shards: u16,
    /// Shards whose turn has not been flushed.
    open_turns: BTreeSet<u16>,
    witness: Witness,
    phones: Vec<Phone>,
    publishers: Vec<Publisher>,
    hostile: Option<Hostile>,
    resources: Vec<String>,
    truth: Vec<Truth>,
    events: BTreeMap<(Time, u64), Event>,
    serial: u64,
    post: Post,
    lost_questions: BTreeSet<(String, u16)>,
    /// Changes how sources are spread over the shards' sockets.
    spread: u64,
    sbc: SocketAddr,
    swaps: Swaps,
    /// Transports are replaced now and then.
    swaps_often: bool,
    /// Some are on IPv6.
    six: bool,
    /// By dialog: what its phone knows of the server.
    known: BTreeMap<DialogName, Known>,
    /// Addresses that phones had once.
    former: BTreeSet<SocketAddr>,
    /// When the next thing goes wrong; `None` while it is calm.
    next_action: Option<Time>,
    next_check: Time,
    answers: Vec<Answer>,
    parks: bool,
    /// So many phones that queues and windows fill.
    crowd: bool,
    /// So few NOTIFYs may be on their way that the window closes.
    narrow: bool,
    /// The longest time that a phone asks for, in seconds.
    expires_max: u64,
    /// So few NOTIFYs may wait for their answers that silent phones keep others waiting.
    scarce: bool,
    /// So few phones may wait for their NOTIFYs that new ones are refused.
    swamped: bool,
    /// The host has been suspended at least once.
    napped: bool,
    /// The host is suspended now and then.
    naps: bool,
    pub trace: Trace,
    /// Datagrams of either direction.
    pub datagrams: u64,
}

impl World {
    /// The world of one seed.
    pub fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let now = Time::from_millis(random.pick(&TURNS_OVER) - random.below(300_000));
        let shards = random.between(1, 4) as u16;
        let parks = random.per_mille(500);
        let mut settings = Settings::default();
        settings.seed = random.next();
        settings.set("on_timeout", if parks { "park" } else { "remove" })?;
        let six = random.per_mille(400);
        let first = if six { 2 } else { 1 };
        settings.first_listeners(first);
        settings.set("nat", "auto")?;
        settings.set("edge", "203.0.113.9/32")?;
        let narrow = random.per_mille(200);
        if narrow {
            let count = random.between(1, 8);
            settings.set("in_flight_max", &count.to_string())?;
        }
        let scarce = random.per_mille(100);
        if scarce {
            let count = random.between(16, 64);
            settings.set("transactions_max", &count.to_string())?;
        }
        let swamped = random.per_mille(100);
        if swamped {
            let count = random.between(2, 12);
            settings.set("notifies_waiting", &count.to_string())?;
            settings.set("retry_after", "1 3")?;
        }
        // From ten minutes on, phones are told to be back at moments of their own.
        let long = random.per_mille(100);
        if long {
            settings.set("jitter", "on")?;
        }
        if random.per_mille(300) {
            settings.set("pace", "10 1")?;
        }
        let supersede = *random.pick(&["probe", "probe", "probe", "probe", "replace", "off"]);
        settings.set("supersede", supersede)?;
        // Publishers are trusted; who phones are must be proved.
        if random.per_mille(300) {
            settings.set("trust", "10.2.0.0/16")?;
            for number in 0..PHONES_MAX {
                let name = format!("phone{number}");
                settings.set("user", &format!("{name}:{}", phone::password(&name)))?;
            }
        }
        let wall = WallOffset(1_790_000_000_000_000_000);
        let mut world = World {
            edge: Edge::new(settings.shards(shards)?, now, wall),
            now,
            weather: Weather::calm(),
            settings,
            shards,
            open_turns: BTreeSet::new(),
            witness: Witness::new(Duration::from_millis(MAIL_MS + LATE_MS + 5)),
            phones: Vec::new(),
            publishers: Vec::new(),
            hostile: None,
            resources: Vec::new(),
            truth: Vec::new(),
            events: BTreeMap::new(),
            serial: 0,
            post: Post::default(),
            lost_questions: BTreeSet::new(),
            spread: random.next(),
            sbc: SocketAddr::from(([203, 0, 113, 9], 5060)),
            swaps: Swaps::new(
                now,
                shards,
                swaps::ADDRESSES[..first]
                    .iter()
                    .map(|text| swaps::address(text))
                    .collect(),
            ),
            six,
            swaps_often: random.per_mille(500),
            known: BTreeMap::new(),
            former: BTreeSet::new(),
            next_action: None,
            next_check: now,
            answers: Vec::new(),
            parks,
            crowd: false,
            narrow,
            expires_max: if long { 600 } else { 180 },
            scarce,
            swamped,
            napped: false,
            naps: random.per_mille(150),
            trace: Trace::default(),
            datagrams: 0,
            random,
        };
        world.witness.removes = !parks;
        world.witness.jitters = long;
        world.witness.replaces = supersede == "replace";
        world.witness.probes = supersede == "probe";
        world.populate();
        Ok(world)
    }

    /// Lets everything happen until then.
    fn run_until(&mut self, end: Time) -> Result<(), String> {
        let mut without_time = 0;
        loop {
            let next = self.next_time();
            if next > self.now {
                if !self.open_turns.is_empty() {
                    self.flush_all()?;
                    continue;
                }
                if next > end {
                    // A nap may have lasted beyond the end.
                    self.now = self.now.max(end);
                    return Ok(());
                }
                self.now = next;
                without_time = 0;
            }
            without_time += 1;
            if without_time > EVENTS_MAX {
                return Err("time stands still".to_string());
            }
            self.happen()?;
        }
    }

    fn next_time(&self) -> Time {
        let first_event = self.events.keys().next().map(|(when, _)| *when);
        let phones = self.phones.iter().filter_map(Phone::next_wake);
        let publishers = self
            .publishers
            .iter()
            .filter_map(|one| one.next_wake(self.now));
        let shards = self
            .edge
            .ids()
            .filter_map(|shard| self.edge.next_deadline(shard));
        let control = self.swaps.next();
        [
            first_event,
            self.next_action,
            Some(self.next_check),
            control,
        ]
        .into_iter()
        .flatten()
        .chain(phones)
        .chain(publishers)
        .chain(shards)
        .min()
        .expect("there is always a next check")
    }

    /// Everything that is due now.
    fn happen(&mut self) -> Result<(), String> {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.take(event)?;
        }
        for shard in self.edge.ids() {
            if self
                .edge
                .next_deadline(shard)
                .is_some_and(|when| when <= self.now)
            {
                self.edge.tick(shard, self.now);
                self.turn(shard)?;
            }
        }
        self.wake_all()?;
        self.tend()?;
        if self.next_action.is_some_and(|when| when <= self.now) {
            self.act()?;
            let wait = self.random.millis(5, 400);
            self.next_action = Some(self.now + wait);
        }
        if self.next_check <= self.now {
            self.next_check = self.now + Duration::from_secs(1);
            self.flush_all()?;
            self.check()?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::ToServer { source, to, bytes } => self.reach_server(source, to, &bytes),
            Event::ToPeer { peer, from, bytes } => self.reach_peer(peer, from, &bytes),
            Event::Receives { shard } => self.begin_receiving_on(shard),
            Event::Parcel { shard, parcel } => self.deliver(shard, parcel),
            Event::Post(way) => match self.post.take(self.now, way)? {
                Taken::Parcel(shard, parcel) => self.deliver(shard, parcel),
                Taken::Later(until) => {
                    self.schedule(until, Event::Post(way));
                    Ok(())
                }
            },
        }
    }

    fn wake_all(&mut self) -> Result<(), String> {
        let mut out = Outbox::new();
        let now = self.now;
        for phone in &mut self.phones {
            if phone.next_wake().is_some_and(|when| when <= now) {
                phone.wake(now, &self.resources, &mut self.random, &mut out);
            }
        }
        for publisher in &mut self.publishers {
            if publisher.next_wake(now).is_some_and(|when| when <= now) {
                publisher.wake(now, &self.resources, &mut self.random, &mut out);
            }
        }
        for (source, to, bytes) in out {
            self.send(source, to, bytes, Duration::ZERO);
        }
        Ok(())
    }

    /// A datagram leaves a phone.
    fn send(&mut self, source: SocketAddr, to: SocketAddr, bytes: Vec<u8>, after: Duration) {
        for way in self.weather.arrivals(&mut self.random) {
            let bytes = bytes.clone();
            let event = Event::ToServer { source, to, bytes };
            self.schedule(self.now + after + way, event);
        }
    }

    fn schedule(&mut self, when: Time, event: Event) {
        self.serial += 1;
        self.events.insert((when, self.serial), event);
    }

    fn reach_server(
        &mut self,
        source: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        self.datagrams += 1;
        let mut mixed = Random::new(self.spread ^ u64::from(source.port()) << 32 ^ hash(source));
        let shard = ShardId((mixed.next() % u64::from(self.shards)) as u16);
        // While a socket is replaced, the kernel chooses between two.
        let choice = mixed.next();
        let sockets = &mut self.swaps.sockets;
        match sockets.arrive(to, usize::from(shard.0), choice, (source, bytes)) {
            Arrival::Taken(listener) => self.read_by_server(shard, listener, source, to, bytes),
            Arrival::Unread => Ok(()),
            Arrival::Nobody => {
                self.trace.note(self.now, format!("{to} is not there"));
                Ok(())
            }
        }
    }

    /// A shard takes a datagram from its socket.
    fn read_by_server(
        &mut self,
        shard: ShardId,
        listener: ListenerId,
        source: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        if !self.is_hostile(source) {
            self.witness.heard(self.now, bytes);
        }
        self.trace.message(self.now, ">", source, bytes);
        let flow = self.swaps.sockets.flow(listener, source, to)?;
        let cut_at = self.settings.receive_buffer;
        self.edge.receive(shard, self.now, flow, bytes, cut_at);
        self.turn(shard)
    }

    /// A turn goes on for a while, or ends here.
    fn turn(&mut self, shard: ShardId) -> Result<(), String> {
        self.open_turns.insert(shard.0);
        match self.random.per_mille(700) {
            true => self.flush(shard),
            false => Ok(()),
        }
    }

    fn flush_all(&mut self) -> Result<(), String> {
        while let Some(&shard) = self.open_turns.first() {
            self.flush(ShardId(shard))?;
        }
        Ok(())
    }

    fn flush(&mut self, shard: ShardId) -> Result<(), String> {
        self.open_turns.remove(&shard.0);
        let turn = self.edge.flush(shard)?;
        let census = self.edge.shard(shard).census();
        if census.slots_leased != census.slots_of_transactions {
            return Err(format!("{shard:?} leases more than it should: {census:?}"));
        }
        self.carry_out(shard, turn)
    }

    fn carry_out(&mut self, shard: ShardId, turn: Turn) -> Result<(), String> {
        for shown in &turn.events {
            let is_expected = match shown {
                shard::effects::Event::Bug(_) => false,
                shard::effects::Event::StoodStill(_) => self.napped,
                // Who sends enough reaches the limits that are there for it.
                shard::effects::Event::Limit(..) => self.hostile.is_some() || self.scarce,
                shard::effects::Event::Load(..) => self.scarce || self.swamped,
            };
            if !is_expected {
                return Err(format!("{shard:?} reports {shown:?}"));
            }
        }
        for (to, parcel) in turn.parcels {
            self.mail(shard, to, parcel);
        }
        for datagram in turn.datagrams {
            self.leave(datagram)?;
        }
        // What was sent in a turn has left when the control thread hears of that turn.
        for mail in turn.replies {
            match mail {
                Mail::Reply(reply) if self.swaps.expects(reply.id) => {
                    self.on_control_answer(reply.id, reply.shard, reply.answer)?;
                }
                Mail::Reply(reply) => self.answers.push(reply.answer),
                other => return Err(format!("mail to the control thread: {other:?}")),
            }
        }
        Ok(())
    }

    /// Control mail to one shard; it arrives in order, or as a feed that numbers its changes pleases.
    fn ask_later(&mut self, shard: ShardId, ask: Ask, after: Duration) -> u64 {
        self.serial += 1;
        let id = self.serial;
        let parcel = Parcel::Mail(Mail::Request(Request { id, ask }));
        self.schedule(self.now + after, Event::Parcel { shard, parcel });
        id
    }

    fn home(&self, key: &str) -> ShardId {
        self.settings.home(key, self.shards)
    }

    fn change_hint(&mut self, change: HintChange, after: Duration) {
        let home = self.home(change.resource());
        self.trace
            .note(self.now, format!("{change:?} after {after:?}"));
        self.ask_later(home, Ask::ChangeHints(vec![change]), after);
    }
}

fn hash(address: SocketAddr) -> u64 {
    address
        .to_string()
        .bytes()
        .fold(7u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte))
}

/// What `sip:r1@example.com` is to the shards.
fn key_of(uri: &str) -> &str {
    uri.trim_start_matches("sip:")
}
