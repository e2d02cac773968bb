//! A server that is killed at any moment, again and again, and the phones that must not notice more than a pause. What
//! it knows goes to a disk and comes back from it; what was on its way to the disk is lost. The disk itself fails for
//! a while now and then: then nothing is kept, and afterwards everything is.
//!
//! The rules, over all of its lives: no dialog sees a CSeq or a document version at or below one that it saw before; a
//! subscription that was answered and has not expired is known again and told of the present state (where only the
//! process crashed, or the answer waited for the disk), one whose end was answered is not; no answer leaves before what
//! it promises is kept; a watcher is told as often as it asked to be, in whichever life it did; whoever asks again for what it
//! began before the crash is in the same dialog, and in no second one.

mod check;
mod disk;
mod keeping;
mod phone;
mod swaps;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::ShardId;
use lampfield::shard::control::{Ask, HintChange, Reply, Request};
use lampfield::shard::effects::Event as ShardEvent;
use lampfield::shard::mail::Mail;
use lampfield::store::RestartNotify;
use lampfield::store::records::Records;
use lampfield::store::rewrite::{Rewrite, StoreNews};
use lampfield::time::{Time, WallOffset};

use crate::edge::{Datagram, Edge, Parcel, Turn};
use crate::message::Message;
use crate::post::{Post, Taken, Way};
use crate::random::Random;
use crate::script::settings::Settings;

use disk::Disk;
use phone::Phone;
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
                let resource = resource(random.below(RESOURCES as u64) as usize);
                let server = swaps::ADDRESSES[usize::from(random.per_mille(300))];
                let server = server.parse().expect("an address and a port");
                Phone::new(number, server, resource, now, &mut random)
            })
            .collect();
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
        // Whoever had no answer says it again; after a loss of power a feed tells everything anew.
        for index in 0..RESOURCES {
            if !self.hints[index].1 || !self.remembers {
                self.say(index)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, shard: ShardId, ask: Ask) -> Result<Vec<Reply>, String> {
        self.request += 1;
        let request = Mail::Request(Request {
            id: self.request,
            ask,
        });
        let Some(edge) = &mut self.edge else {
            return Ok(Vec::new());
        };
        edge.deliver(shard, self.now, Parcel::Mail(request));
        self.flush(shard)
    }

    /// The source says what a resource shall be; answered or not, it goes on saying so.
    fn say(&mut self, index: usize) -> Result<(), String> {
        let name = resource(index);
        let home = self.settings.home(&name, self.shards);
        let update = HintUpdate::new(name.as_str().into(), "pbx".into(), self.hints[index].0);
        self.hints[index].1 = false;
        self.open.insert(self.request + 1, index);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        let replies = self.ask(home, ask)?;
        self.hear(&replies);
        Ok(())
    }

    fn hear(&mut self, replies: &[Reply]) {
        for reply in replies {
            if let Some(index) = self.open.remove(&reply.id)
                && !self.open.values().any(|other| *other == index)
            {
                self.hints[index].1 = true;
            }
        }
    }

    fn run_until(&mut self, end: Time) -> Result<(), String> {
        loop {
            let next = self.next_time();
            if next > end {
                self.now = end;
                return Ok(());
            }
            self.now = self.now.max(next);
            self.happen()?;
        }
    }

    fn next_time(&self) -> Time {
        let event = self.events.keys().next().map(|(when, _)| *when);
        let phones = self.phones.iter().map(Phone::next_wake);
        let shards = self
            .edge
            .iter()
            .flat_map(|edge| edge.ids().filter_map(|shard| edge.next_deadline(shard)));
        let own = [self.next_change, self.swaps.next];
        let own = self.edge.iter().flat_map(|_| own);
        let next = phones.chain(event).chain(shards).chain(own).min();
        next.expect("phones always want something")
    }

    fn happen(&mut self) -> Result<(), String> {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.take(event)?;
        }
        for number in 0..self.phones.len() {
            if self.phones[number].next_wake() <= self.now
                && let Some(bytes) = self.phones[number].wake(self.now, &mut self.random)
            {
                let (source, to) = (self.phones[number].address, self.phones[number].server);
                self.schedule(1, 20, Event::ToServer { source, to, bytes });
            }
        }
        for shard in (0..self.shards).map(ShardId) {
            let Some(edge) = &mut self.edge else {
                return Ok(());
            };
            if edge
                .next_deadline(shard)
                .is_some_and(|when| when <= self.now)
            {
                edge.tick(shard, self.now);
                let replies = self.flush(shard)?;
                self.hear(&replies);
            }
        }
        if self.swaps.next <= self.now {
            self.swaps.next = self.now + self.random.millis(20, 4_000);
            self.swap()?;
        }
        if self.next_change <= self.now {
            let most = if self.busy { 30 } else { 3_000 };
            self.next_change = self.now + self.random.millis(5, most);
            let index = self.random.below(RESOURCES as u64) as usize;
            self.hints[index].0 =
                *self
                    .random
                    .pick(&[HintState::Idle, HintState::Ringing, HintState::InUse]);
            self.say(index)?;
        }
        self.everybody_is_told()
    }

    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::ToServer { source, to, bytes } => self.reach_server(source, to, &bytes),
            Event::ToPeer { peer, from, bytes } => self.reach_phone(peer, from, &bytes),
            Event::Adopts(shard) => self.adopts(shard),
            Event::Receives(shard) => self.receives(shard),
            Event::Tends => self.tend(),
            Event::Parcel { shard, parcel } => self.deliver(shard, parcel),
            Event::Post(way) => match self.post.take(self.now, way)? {
                Taken::Parcel(shard, parcel) => self.deliver(shard, parcel),
                Taken::Later(until) => {
                    self.schedule_at(until, Event::Post(way));
                    Ok(())
                }
            },
            Event::Write => {
                self.write();
                Ok(())
            }
            Event::DiskFails => {
                // Nobody waits for what it does not take.
                for (shard, serial) in std::mem::take(&mut self.unsynced) {
                    self.acknowledge(shard, serial);
                }
                self.disk.fails = true;
                self.disk.is_behind = true;
                self.rewrite = None;
                self.tell_of_the_disk(StoreNews::Failed);
                Ok(())
            }
            Event::DiskIsBack => {
                self.disk.fails = false;
                self.rewrites += 1;
                let rewrite = Rewrite::new(self.rewrites, self.shards);
                let news = rewrite.news();
                self.rewrite = Some(rewrite);
                self.tell_of_the_disk(news);
                Ok(())
            }
            Event::Sync => {
                self.sync_is_due = false;
                if self.disk.fails {
                    return Ok(());
                }
                self.disk.sync();
                for (shard, serial) in std::mem::take(&mut self.unsynced) {
                    self.acknowledge(shard, serial);
                }
                Ok(())
            }
        }
    }

    /// Something comes to a shard from another thread.
    fn deliver(&mut self, shard: ShardId, parcel: Parcel) -> Result<(), String> {
        let Some(edge) = &mut self.edge else {
            return Ok(());
        };
        edge.deliver(shard, self.now, parcel);
        self.flush(shard).map(|replies| self.hear(&replies))
    }

    fn schedule(&mut self, least: u64, most: u64, event: Event) {
        let when = self.now + self.random.millis(least, most);
        self.schedule_at(when, event);
    }

    fn schedule_at(&mut self, when: Time, event: Event) {
        self.serial += 1;
        self.events.insert((when, self.serial), event);
    }

    /// Ends a turn of a shard, and says what it answers to the control thread.
    fn flush(&mut self, shard: ShardId) -> Result<Vec<Reply>, String> {
        let Some(edge) = &mut self.edge else {
            return Ok(Vec::new());
        };
        let turn: Turn = edge.flush(shard)?;
        // Whoever ends in order says that it takes nobody any more.
        let is_news = |event: &&ShardEvent| !(self.ends && matches!(event, ShardEvent::Limit(_)));
        if let Some(event) = turn.events.iter().find(is_news) {
            return Err(format!("{shard:?} reports {event:?}"));
        }
        if !turn.records.is_empty() {
            self.given_out.push_back((shard, turn.records));
            if !self.write_is_due {
                self.write_is_due = true;
                self.schedule(0, 4, Event::Write);
            }
        }
        for (to, parcel) in turn.parcels {
            let delay = self.random.millis(0, 10);
            let (when, way) = self.post.send(self.now, [shard, to], parcel, delay);
            self.schedule_at(when, Event::Post(way));
        }
        for datagram in turn.datagrams {
            self.leave(datagram)?;
        }
        let reply = |mail| match mail {
            Mail::Reply(reply) => Ok(reply),
            other => Err(format!("mail to the control thread: {other:?}")),
        };
        turn.replies.into_iter().map(reply).collect()
    }

    /// A datagram leaves the server: whatever becomes of it, this was said.
    fn leave(&mut self, datagram: Datagram) -> Result<(), String> {
        self.datagrams += 1;
        let sockets = &self.swaps.sockets;
        let from = sockets
            .leave_as(datagram.listener, datagram.source)
            .map_err(|error| {
                let shown = Message::read_loosely(&datagram.bytes);
                format!("{error}: {}", line(&shown, "<", datagram.peer))
            })?;
        let Datagram { peer, bytes, .. } = datagram;
        let message = Message::read(&bytes)?;
        self.note(line(&message, "<", peer));
        if message.method() == Some("NOTIFY") {
            self.rises(&message)?;
            self.begins_once(&message, ["To", "From"])?;
        }
        if message.status() == Some(200) {
            self.begins_once(&message, ["From", "To"])?;
        }
        self.schedule(1, 20, Event::ToPeer { peer, from, bytes });
        Ok(())
    }

    fn reach_phone(
        &mut self,
        peer: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        let message = Message::read(bytes)?;
        let Some(phone) = self.phones.iter_mut().find(|phone| phone.address == peer) else {
            return Err(format!("nobody is at {peer}"));
        };
        let before = phone.dialog.as_ref().map(|dialog| {
            let asked = phone.asked.as_ref().is_some_and(|asked| asked.ends);
            (phone.call_id(), dialog.server_tag.clone(), asked)
        });
        let received = phone.receive(self.now, &message, &mut self.random);
        if let Some((call_id, tag, true)) = before
            && phone.dialog.is_none()
            && message.status() == Some(200)
        {
            self.ended.insert((call_id, tag), self.now);
        }
        match received {
            Ok(None) => Ok(()),
            Ok(Some(bytes)) => {
                let (source, to) = (peer, from);
                self.schedule(1, 20, Event::ToServer { source, to, bytes });
                Ok(())
            }
            Err(forgotten) => Err(forgotten.0),
        }
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
