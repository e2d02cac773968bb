//! A server that is killed at any moment, again and again, and the phones that must not notice more than a pause. What
//! it knows goes to a disk and comes back from it; what was on its way to the disk is lost. The disk itself fails for
//! a while now and then: then nothing is kept, and afterwards everything is.
//!
//! The rules, over all of its lives: no dialog sees a CSeq or a document version at or below one that it saw before; a
//! subscription that was answered and has not expired is known again and told of the present state (where only the
//! process crashed, or the answer waited for the disk), one whose end was answered is not; no answer leaves before what
//! it promises is kept; a watcher is told as often as it asked to be, in whichever life it did; whoever asks again for what it
//! began before the crash is in the same dialog, and in no second one; so is whoever asks again for what it published.

mod check;
mod course;
mod disk;
mod keeping;
mod phone;
mod publisher;
mod swaps;
mod talk;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::partition::ShardId;
use lampfield::shard::control::Ask;
use lampfield::store::RestartNotify;
use lampfield::store::records::Records;
use lampfield::store::rewrite::Rewrite;
use lampfield::time::{Time, WallOffset};

use crate::edge::{Edge, Parcel};
use crate::message::Message;
use crate::post::{Post, Way};
use crate::random::Random;
use crate::script::settings::Settings;

use disk::Disk;
use phone::Phone;
use publisher::Publisher;
use swaps::Swaps;

const RESOURCES: usize = 4;
/// What the operating system has is on the disk so much later.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// After a restart everybody is told within this.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// So many lines are shown of what went wrong.
const TRACED: usize = 80;
/// Killed so often.
const LIVES: u64 = 6;

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
    /// A reload of the transports goes on, on one shard.
    Adopts(ShardId),
    Receives(ShardId),
    /// What drains is looked at.
    Tends,
    /// Mail of the control thread, or of the store, is there.
    Parcel {
        shard: ShardId,
        parcel: Parcel,
    },
    /// Something of another shard's is there.
    Post(Way),
    /// The writer takes what has been given out.
    Write,
    Sync,
    DiskFails,
    DiskIsBack,
}

/// The newest NOTIFY of a dialog, over all lives of the server.
struct Told {
    cseq: u32,
    version: u32,
    bytes: Vec<u8>,
}

/// One server with its disk, and everybody around it.
pub struct Lives {
    random: Random,
    now: Time,
    settings: Settings,
    /// None: it is down.
    edge: Option<Edge>,
    shards: u16,
    swaps: Swaps,
    disk: Disk,
    /// Each answer waits for the disk.
    waits_for_disk: bool,
    /// What is then the longest that it takes.
    sync_most_ms: u64,
    /// Records on their way to the writer.
    given_out: VecDeque<(ShardId, Records)>,
    /// Acknowledgements that wait for the disk.
    unsynced: Vec<(ShardId, u64)>,
    write_is_due: bool,
    sync_is_due: bool,
    /// The disk was back, and is to have everything again.
    rewrite: Option<Rewrite>,
    rewrites: u32,
    phones: Vec<Phone>,
    publisher: Publisher,
    /// By Call-ID of a PUBLISH: the entity tag that was answered.
    published: BTreeMap<String, String>,
    told: BTreeMap<(String, String), Told>,
    /// By Call-ID and the phone's tag: the tag of the one dialog that began with them.
    begun: BTreeMap<(String, String), String>,
    /// Dialogs whose end was answered, and when.
    ended: BTreeMap<(String, String), Time>,
    /// By resource: what it shall be, and whether that was answered.
    hints: Vec<(HintState, bool)>,
    request: u64,
    open: BTreeMap<u64, usize>,
    events: BTreeMap<(Time, u64), Event>,
    serial: u64,
    post: Post,
    next_change: Time,
    /// Changes come so fast that reservations are used up.
    busy: bool,
    /// The last crash took nothing that was answered: only the process has ended, or answers wait for the disk.
    remembers: bool,
    /// The last process ended in order.
    was_in_order: bool,
    /// It has been asked to end.
    ends: bool,
    restart_notify: RestartNotify,
    /// Since when it has been up.
    up_since: Time,
    pub datagrams: u64,
    /// What happened last.
    trace: VecDeque<String>,
}

impl Lives {
    /// The lives of one seed.
    pub fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed ^ 0x5eed);
        let now = Time::from_millis(1_000_000 + random.below(1_000_000));
        let mut settings = Settings::default();
        settings.seed = random.next();
        let waits_for_disk = random.per_mille(400);
        let sync_most_ms = *random.pick(&[15, 15, 400, 1_200]);
        let mut restart_notify = RestartNotify::All;
        if random.per_mille(500) {
            restart_notify = RestartNotify::Changed;
        }
        let phones = random.between(1, 12) as usize;
        let phones = (0..phones)
            .map(|number| {
                let resource = resource(random.below(RESOURCES as u64 + 1) as usize);
                let server = swaps::ADDRESSES[usize::from(random.per_mille(300))];
                let server = server.parse().expect("an address and a port");
                Phone::new(number, server, resource, now, &mut random)
            })
            .collect();
        let server = swaps::ADDRESSES[usize::from(random.per_mille(300))];
        let server = server.parse().expect("an address and a port");
        let mut lives = Lives {
            now,
            settings,
            edge: None,
            shards: 1,
            swaps: Swaps::new(now, random.per_mille(500)),
            disk: Disk::default(),
            waits_for_disk,
            sync_most_ms,
            given_out: VecDeque::new(),
            unsynced: Vec::new(),
            write_is_due: false,
            sync_is_due: false,
            rewrite: None,
            rewrites: 0,
            phones,
            publisher: Publisher::new(server, resource(RESOURCES), now),
            published: BTreeMap::new(),
            told: BTreeMap::new(),
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            hints: vec![(HintState::Idle, true); RESOURCES],
            request: 0,
            open: BTreeMap::new(),
            events: BTreeMap::new(),
            serial: 0,
            post: Post::default(),
            next_change: now,
            busy: false,
            remembers: true,
            was_in_order: false,
            ends: false,
            restart_notify,
            up_since: now,
            datagrams: 0,
            trace: VecDeque::new(),
            random,
        };
        lives.start()?;
        Ok(lives)
    }

    /// The last things that happened, one on each line.
    pub fn shown(&self) -> String {
        self.trace.iter().map(|line| format!("{line}\n")).collect()
    }

    fn note(&mut self, what: String) {
        if self.trace.len() == TRACED {
            self.trace.pop_front();
        }
        let millis = self.now.millis();
        self.trace.push_back(format!("{millis:>10} {what}"));
    }

    /// All of them.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..LIVES {
            self.busy = self.random.per_mille(200);
            let length = match self.random.below(3) {
                0 => self.random.millis(1, 300),
                1 => self.random.millis(300, 5_000),
                _ => self.random.millis(5_000, 60_000),
            };
            if self.random.per_mille(400) {
                self.disk_will_fail(length);
            }
            self.run_until(self.now + length)?;
            if self.random.per_mille(300) && !self.disk.is_behind {
                self.restart_in_order()?;
                continue;
            }
            self.crash();
            let down = self.random.millis(1, 4_000);
            self.run_until(self.now + down)?;
            self.start()?;
        }
        // Nothing changes any more, and nobody crashes: everybody shows what is so.
        self.publisher.rests = true;
        self.next_change = self.now + Duration::from_secs(100_000);
        self.swaps.next = self.next_change;
        self.run_until(self.now + TOLD_WITHIN + Duration::from_secs(1))?;
        self.all_show_what_is_so()
    }

    /// A planned stop, when everybody has been told, and a start: everybody shows what is so, and where that is
    /// switched off nobody is told what it knows.
    fn restart_in_order(&mut self) -> Result<(), String> {
        self.next_change = self.now + Duration::from_secs(100_000);
        self.swaps.next = self.next_change;
        let quiet = self.now;
        self.publisher.rests = true;
        self.run_until(self.now + TOLD_WITHIN)?;
        for shard in (0..self.shards).map(ShardId) {
            let within = Duration::from_secs(2);
            self.ask(shard, Ask::Drain { within })?;
        }
        self.ends = true;
        self.note("it is asked to end".to_string());
        self.run_until(self.now + Duration::from_millis(2_500))?;
        self.write();
        self.disk.sync();
        let remembers = !self.disk.is_behind;
        self.lose_process();
        self.remembers = remembers;
        self.was_in_order = true;
        let down = self.random.millis(1, 2_000);
        self.run_until(self.now + down)?;
        self.start()?;
        self.next_change = self.now + Duration::from_secs(100_000);
        self.swaps.next = self.next_change;
        self.run_until(self.now + TOLD_WITHIN + Duration::from_secs(1))?;
        self.all_show_what_is_so()?;
        let spares = self.restart_notify == RestartNotify::Changed;
        for phone in &self.phones {
            let Some(dialog) = phone.waits(self.now + Duration::from_secs(1)) else {
                continue;
            };
            let was_told = dialog.told_at >= self.up_since;
            // What was left behind ends when its time is over.
            let is_doubtful = self.publisher.is_doubtful(quiet);
            if phone.resource == resource(RESOURCES) && is_doubtful {
                continue;
            }
            // Whoever asks is told.
            if phone.asked_at < quiet && was_told == spares {
                return Err(format!(
                    "{} was told after an orderly restart: {was_told}, and {:?} is set: {dialog:?}",
                    phone.address, self.restart_notify
                ));
            }
        }
        self.next_change = self.now;
        self.swaps.next = self.swaps.first(self.now);
        self.publisher.rests = false;
        Ok(())
    }

    /// At any moment: in the middle of a turn, with records on their way.
    fn crash(&mut self) {
        self.note("it is killed".to_string());
        self.lose_process();
        self.was_in_order = false;
        self.remembers = true;
        if self.random.per_mille(400) {
            self.note("and the power is lost".to_string());
            self.disk.lose_power(&mut self.random);
            self.remembers = self.waits_for_disk;
        }
        self.remembers &= !self.disk.is_behind;
        if self.random.per_mille(300) {
            // What had left is lost, too.
            self.events
                .retain(|_, event| !matches!(event, Event::ToPeer { .. }));
        }
        if !self.remembers {
            // What was promised just now is promised no more; let nobody hear of it.
            self.events
                .retain(|_, event| !matches!(event, Event::ToPeer { .. }));
            self.ended.clear();
            self.begun.clear();
            for phone in &mut self.phones {
                if let Some(dialog) = &mut phone.dialog {
                    dialog.doubtful = true;
                }
            }
        }
    }

    /// What is in memory, and on its way between threads.
    fn lose_process(&mut self) {
        self.ends = false;
        self.edge = None;
        self.given_out.clear();
        self.unsynced.clear();
        self.post = Post::default();
        self.open.clear();
        self.write_is_due = false;
        self.sync_is_due = false;
        self.rewrite = None;
        self.swaps.work = None;
        self.events
            .retain(|_, event| matches!(event, Event::ToServer { .. } | Event::ToPeer { .. }));
    }

    fn start(&mut self) -> Result<(), String> {
        let incarnation = self.disk.open();
        self.shards = self.random.between(1, 3) as u16;
        self.note(format!("life {incarnation} with {} shards", self.shards));
        self.settings.seed = self.random.next();
        self.swaps.begin(self.now, self.shards);
        self.settings.listen_on(&self.swaps.addresses);
        let mut settings = self.settings.shards(self.shards)?;
        for one in &mut settings {
            one.incarnation = Some(incarnation);
            one.restart_notify = self.restart_notify;
        }
        let wall = WallOffset(1_790_000_000_000_000_000);
        self.edge = Some(Edge::new(settings, self.now, wall));
        self.read_back()?;
        for shard in (0..self.shards).map(ShardId) {
            self.ask(shard, Ask::Resume)?;
        }
        self.up_since = self.now;
        self.publisher.acts_at = self.now;
        if !self.remembers {
            self.publisher.doubts(self.now);
            self.published.clear();
        }
        // Whoever had no answer says it again; after a loss of power a feed tells everything anew.
        for index in 0..RESOURCES {
            if !self.hints[index].1 || !self.remembers {
                self.say(index)?;
            }
        }
        Ok(())
    }
}

/// One datagram on one line.
fn line(message: &Message, way: &str, peer: SocketAddr) -> String {
    let names = ["CSeq", "Call-ID", "Expires", "Subscription-State"];
    let headers = names.map(|name| message.header(name).unwrap_or("-"));
    format!("{way} {peer} {} | {}", message.start, headers.join(" | "))
}

fn resource(index: usize) -> String {
    format!("{}@example.com", 1001 + index)
}
