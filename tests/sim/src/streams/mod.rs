//! Phones that come by connections: bytes cut anywhere, peers that read slowly or not at all, ends of every kind, edges
//! that carry hundreds, and listeners that come and go. The framing and the way out are the server's own; sockets are
//! simulated.
//!
//! It is checked that nothing is written to a connection that has ended, or to one whose peer cannot answer; that nobody
//! is dialled; that CSeqs rise; that a 2xx is followed by a NOTIFY where the connection takes it; that what waits for a
//! slow reader stays small; and that, once all is well, every lamp shows what is so.

mod check;
mod course;
mod page;
mod phone;
mod server;
mod talk;
mod trouble;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::partition::ShardId;
use lampfield::shard::control::{Answer, HintChange};
use lampfield::time::{T64, Time, WallOffset};
use lampfield::transport::generations::Wanted;
use lampfield::transport::{ConnectionId, Endpoint, Transport};

use crate::edge::{Edge, Parcel};
use crate::post::{Post, Way};
use crate::random::Random;
use crate::script::settings::Settings;
use crate::sockets::{Sockets, wanted};
use crate::witness::DialogName;

use check::Known;
use phone::{Carrier, Mood, Phone};
use wire::{Pace, Wire};

/// Where the server may listen. The first of each transport is where it begins.
const ADDRESSES: [(Transport, [u8; 4], u16); 6] = [
    (Transport::Tcp, [192, 0, 2, 1], 5060),
    (Transport::Tcp, [192, 0, 2, 2], 5060),
    (Transport::Tcp, [192, 0, 2, 1], 5070),
    (Transport::Ws, [192, 0, 2, 1], 8080),
    (Transport::Ws, [192, 0, 2, 2], 8080),
    (Transport::Ws, [192, 0, 2, 1], 8081),
];
const FIRST: [usize; 2] = [0, 3];
const EDGE: [u8; 4] = [203, 0, 113, 9];
/// The longest way of mail between two shards.
const MAIL_MS: u64 = 20;
/// The longest that a phone asks for.
const EXPIRES_MAX: u64 = 180;
/// How long calm must last until every lamp is right that the server can tell.
const HEALED: Duration = Duration::from_secs(32 + 3);
/// What is sent is read within this, however it is cut, or never.
const ARRIVES_SECONDS: u64 = 20;
/// What is asked for may be so long there.
const LONGEST: Duration = Duration::from_secs(EXPIRES_MAX + ARRIVES_SECONDS);
/// More events than this without time passing is a loop.
const EVENTS_MAX: u32 = 200_000;
/// So many lines are shown of what went wrong.
const TRACED: usize = 400;

/// What will happen at some time.
enum Event {
    /// Somebody's connection is asked for at the server; without a carrier it is a stranger's.
    Opens { carrier: Option<usize> },
    /// What a peer has sent is there.
    Up(ConnectionId),
    /// A peer reads.
    Down(ConnectionId),
    /// A peer sends something.
    Says {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    /// The server's kernel finds out that there is nobody any more.
    Lost(ConnectionId),
    /// What was closed has lingered long enough.
    Lingered(ConnectionId),
    /// The control thread's mail is there.
    Parcel { shard: ShardId, parcel: Parcel },
    /// Something of another shard's is there.
    Post(Way),
    /// What found no room on its way from a shard is tried again.
    Again(ShardId),
}

/// One server, and those who connect to it.
pub struct Streams {
    random: Random,
    now: Time,
    settings: Settings,
    edge: Edge,
    shards: u16,
    /// Shards whose turn has not been flushed.
    open_turns: BTreeSet<u16>,
    sockets: Sockets,
    addresses: Vec<Endpoint>,
    wires: BTreeMap<ConnectionId, Wire>,
    /// When the server's socket of a connection was closed.
    closed: BTreeMap<ConnectionId, Time>,
    connections: u64,
    carriers: Vec<Carrier>,
    phones: Vec<Phone>,
    hints: Vec<HintState>,
    known: BTreeMap<DialogName, Known>,
    /// By Call-ID: when the time of what was asked for ends at the latest, answered or not.
    asked: BTreeMap<String, Time>,
    /// By phone: when its requests were accepted, and by what connection.
    accepted: BTreeMap<String, Vec<(Time, ConnectionId)>>,
    events: BTreeMap<(Time, u64), Event>,
    serial: u64,
    post: Post,
    /// Shards that have something to send again.
    retrying: BTreeSet<ShardId>,
    /// The longest that a shard lags behind, and when the next one begins to.
    lag_most_ms: u64,
    next_lag: Option<Time>,
    /// When the last of those that do takes something again.
    lagged_until: Time,
    delay_most_ms: u64,
    /// When the next thing goes wrong; `None` while it is calm.
    next_trouble: Option<Time>,
    next_change: Option<Time>,
    next_check: Time,
    answers: Vec<Answer>,
    keeps: bool,
    parks: bool,
    crowd: bool,
    swaps: bool,
    /// Nobody comes back any more.
    is_over: bool,
    pub messages: u64,
    trace: VecDeque<String>,
}

impl Streams {
    /// The world of one seed.
    pub fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed ^ 0x57_12EA);
        let now = Time::from_millis(1_000_000 + random.below(1_000_000));
        let shards = random.between(1, 4) as u16;
        let (keeps, parks) = (random.per_mille(700), random.per_mille(500));
        let mut settings = Settings::default();
        settings.seed = random.next();
        settings.only_streams();
        settings.set("nat", "auto")?;
        settings.set("edge", "203.0.113.9/32")?;
        settings.set("on_close", if keeps { "keep" } else { "end" })?;
        settings.set("on_timeout", if parks { "park" } else { "remove" })?;
        let pings = random.per_mille(400);
        if pings {
            settings.set("ping", &random.between(5, 40).to_string())?;
        }
        let first = FIRST.map(endpoint).to_vec();
        let wanted = wanted_on(&first, &settings);
        let wall = WallOffset(1_790_000_000_000_000_000);
        let mut streams = Streams {
            edge: Edge::new(settings.shards(shards)?, now, wall),
            now,
            settings,
            shards,
            open_turns: BTreeSet::new(),
            sockets: Sockets::new(now, shards, &wanted),
            addresses: first,
            wires: BTreeMap::new(),
            closed: BTreeMap::new(),
            connections: 0,
            carriers: Vec::new(),
            phones: Vec::new(),
            hints: Vec::new(),
            known: BTreeMap::new(),
            asked: BTreeMap::new(),
            accepted: BTreeMap::new(),
            events: BTreeMap::new(),
            serial: 0,
            post: Post::default(),
            retrying: BTreeSet::new(),
            lag_most_ms: 0,
            next_lag: None,
            lagged_until: Time::ZERO,
            delay_most_ms: 20,
            next_trouble: None,
            next_change: None,
            next_check: now,
            answers: Vec::new(),
            keeps,
            parks,
            crowd: random.per_mille(40),
            swaps: random.per_mille(500),
            is_over: false,
            messages: 0,
            trace: VecDeque::new(),
            random,
        };
        streams.populate();
        Ok(streams)
    }

    /// The last things that happened, one on each line.
    pub fn shown(&self) -> String {
        self.trace.iter().map(|line| format!("{line}\n")).collect()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace.len() == TRACED {
            self.trace.pop_front();
        }
        let millis = self.now.millis();
        self.trace.push_back(format!("{millis:>10} {}", what()));
    }

    fn populate(&mut self) {
        let resources = self.random.between(1, 5) as usize;
        self.hints = vec![HintState::Idle; resources];
        let edge = SocketAddr::from((EDGE, 5060));
        let carriers = self.random.between(1, 8) as usize;
        for number in 0..carriers {
            let is_edge = number == 0 && (self.crowd || self.random.per_mille(400));
            let host = if is_edge {
                EDGE
            } else {
                [198, 51, 100, number as u8 + 1]
            };
            let server = endpoint(FIRST[usize::from(self.random.per_mille(400))]);
            let phones = match (is_edge, self.crowd) {
                (true, true) => *self.random.pick(&[100, 200, 300, 300, 1_000]),
                (true, false) => self.random.between(2, 20),
                (false, _) => 1,
            };
            for _ in 0..phones {
                let keys = if self.crowd {
                    1
                } else {
                    self.random.between(1, 4)
                };
                let pick = |_| self.random.below(resources as u64) as usize;
                let mut keys: Vec<usize> = (0..keys).map(pick).collect();
                keys.sort_unstable();
                keys.dedup();
                let expires = *self.random.pick(&[60, 90, EXPIRES_MAX]);
                let first = self.now + self.random.millis(0, 3_000);
                let behind = is_edge.then_some(edge);
                let index = self.phones.len();
                let by = server.transport;
                self.phones
                    .push(Phone::new(index, number, by, behind, keys, expires, first));
            }
            let count = self.phones.len();
            self.carriers.push(Carrier {
                address: SocketAddr::from((host, 40_000)),
                server,
                is_edge,
                wire: None,
                connects_at: Some(self.now),
                phones: (count - phones as usize..count).collect(),
            });
        }
    }

    /// One whole run.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.random.between(1, 3) {
            self.storm()?;
            self.calm()?;
        }
        self.end()
    }

    fn storm(&mut self) -> Result<(), String> {
        self.note(|| "a storm".to_string());
        self.delay_most_ms = *self.random.pick(&[1, 20, 200, 1_500]);
        self.lag_most_ms = *self.random.pick(&[0, 0, 50, 500, 3_000]);
        self.next_lag = (self.lag_most_ms > 0).then_some(self.now);
        for index in 0..self.phones.len() {
            let mood = Mood {
                answer_ms: *self.random.pick(&[0, 5, 600, 3_000]),
                silent_per_mille: *self.random.pick(&[0, 0, 0, 100, 1000]),
                busy_per_mille: *self.random.pick(&[0, 0, 20]),
                gone_per_mille: *self.random.pick(&[0, 0, 0, 20]),
            };
            self.phones[index].mood = mood;
        }
        self.next_trouble = Some(self.now);
        self.next_change = Some(self.now);
        let longest = if self.crowd { 30_000 } else { 150_000 };
        let end = self.now + self.random.millis(5_000, longest);
        self.run_until(end)
    }

    /// Everybody reads and answers, and nothing ends any more.
    fn calm(&mut self) -> Result<(), String> {
        self.note(|| "it is calm".to_string());
        self.delay_most_ms = 20;
        self.next_trouble = None;
        self.next_lag = None;
        for phone in &mut self.phones {
            phone.mood = Mood {
                answer_ms: 5,
                ..Mood::default()
            };
        }
        let all: Vec<ConnectionId> = self.wires.keys().copied().collect();
        for id in all {
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.pace = Pace::FAST;
                wire.stalled_until = self.now;
                wire.reading = false;
            }
            self.read_soon(id);
        }
        // Changes go on for a while, and each is to arrive.
        let still = self.now + HEALED / 2;
        self.run_until(still)?;
        self.next_change = None;
        self.run_until(still + HEALED)?;
        self.healed()?;
        let later = Duration::from_secs(EXPIRES_MAX) + 2 * T64;
        self.run_until(self.now + later)?;
        self.healed()?;
        self.all_right()
    }

    /// Everybody leaves, one way or another, and nothing may be left.
    fn end(&mut self) -> Result<(), String> {
        let way = self.random.below(3);
        self.note(|| format!("the end, way {way}"));
        self.is_over = true;
        for at in 0..self.phones.len() {
            self.phones[at].retire(self.now);
        }
        if way > 0 {
            self.run_until(self.now + Duration::from_secs(2))?;
        }
        for carrier in 0..self.carriers.len() {
            // Or they stay, and say nothing any more.
            if let Some(id) = self.carriers[carrier].wire.take().filter(|_| way < 2) {
                self.hang_up(id, false);
            }
            self.carriers[carrier].connects_at = None;
        }
        for at in 0..self.phones.len() {
            self.phones[at].reboot(self.now);
        }
        for index in 0..self.hints.len() {
            let change = HintChange::Remove {
                resource: resource(index).into(),
                source: "pbx".into(),
                order: None,
            };
            self.tell_home(index, change);
        }
        self.run_until(self.now + Duration::from_secs(2 * 3_600))?;
        self.nothing_left()
    }
}

fn endpoint(at: usize) -> Endpoint {
    let (transport, host, port) = ADDRESSES[at];
    let address = SocketAddr::from((host, port));
    Endpoint { transport, address }
}

/// The listeners that a configuration with these addresses wants.
fn wanted_on(endpoints: &[Endpoint], settings: &Settings) -> Vec<Wanted> {
    let one = |endpoint: &Endpoint| {
        let [mut one] = wanted(endpoint.transport, &[endpoint.address], false)
            .try_into()
            .expect("one for one");
        one.web.ping = settings.ping;
        one
    };
    endpoints.iter().map(one).collect()
}

fn resource(index: usize) -> String {
    format!("r{index}@example.com")
}
