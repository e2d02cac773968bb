//! The one thread that writes: it takes records from all shards, writes what has come as one, and says what is kept.
//! Where the disk fails it goes on taking them, says so once, and counts what is lost, until the disk is back and
//! everything stands on it again.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::disk::{Disk, DiskError};
use super::recovery::{Home, Recovery};
use crate::partition::ShardId;
use crate::shard::mail::Mail;
use crate::store::Durability;
use crate::store::records::Records;
use crate::store::rewrite::StoreNews;

/// What the operating system has is on the disk so much later at the latest.
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// The longest wait for records: somebody may want this to end.
const LOOK: Duration = Duration::from_millis(100);
/// How often the store is said to be in step.
const SAY_IN_STEP_EVERY: Duration = Duration::from_secs(1);
/// Blocks that are written as one.
const BLOCKS_MAX: usize = 256;

/// The way to the shards.
pub trait Post: Send + 'static {
    /// The thread that waits from now on.
    fn claim(&mut self);
    /// Records that a shard has given out.
    fn take(&mut self) -> Option<(ShardId, Records)>;
    /// Waits for records, but not longer.
    fn wait(&mut self, at_most: Duration);
    /// Returns a block, to be filled again.
    fn give_back(&mut self, shard: ShardId, block: Records);
    /// Sends mail to a shard; false: it has no room now.
    fn send(&mut self, shard: ShardId, mail: Mail) -> bool;
    /// Whether a shard had to throw records away since this was last asked: more than it may keep waited here.
    fn has_overrun(&mut self) -> bool;
}

/// The thread.
pub struct Writer {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Starts it. Without a disk, everything that comes is lost and counted, until there is one.
    pub fn start(
        disk: Option<Disk>,
        home: Home,
        durability: Durability,
        shards: u16,
        post: impl Post,
    ) -> io::Result<Writer> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = Work {
            disk: None,
            recovery: Recovery::new(home, disk.is_some(), shards),
            durability,
            post,
            stop: Arc::clone(&stop),
            blocks: Vec::new(),
            said: (0..shards).map(|_| Said::default()).collect(),
            unsynced_since: None,
            in_step_said: Instant::now(),
        };
        match disk {
            Some(disk) => work.disk = Some(disk),
            None => work.announce(StoreNews::Failed),
        }
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run())?;
        Ok(Writer { thread, stop })
    }

    /// Writes what has been given out so far, and ends.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the store did not end in order");
        }
    }
}

/// What one shard is to be told.
#[derive(Clone, Copy, Default)]
struct Said {
    serial: u64,
    kept: u64,
    lost: u64,
    waits: bool,
    /// Said before the rest.
    news: Option<StoreNews>,
}

struct Work<P> {
    disk: Option<Disk>,
    recovery: Recovery,
    durability: Durability,
    post: P,
    stop: Arc<AtomicBool>,
    blocks: Vec<(ShardId, Records)>,
    said: Box<[Said]>,
    unsynced_since: Option<Instant>,
    in_step_said: Instant,
}

impl<P: Post> Work<P> {
    fn run(mut self) {
        self.post.claim();
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            while self.blocks.len() < BLOCKS_MAX
                && let Some(block) = self.post.take()
            {
                self.blocks.push(block);
            }
            let idle = self.blocks.is_empty();
            if self.post.has_overrun() {
                self.fail("records came faster than they could be written", false);
            }
            if !idle {
                self.write();
            }
            self.recover(stopping);
            // Where it counts as kept once the operating system has it, nobody waits for the disk.
            let early = self.durability != Durability::Disk && self.tell();
            if self.is_sync_due(stopping) {
                self.sync();
            }
            let all_told = early || self.tell();
            if idle && stopping {
                return self.end();
            }
            self.stay_in_step();
            if idle && !self.recovery.is_sweeping() {
                let retry = Duration::from_millis(1);
                let wait = self
                    .unsynced_since
                    .map_or(LOOK, |since| SYNC_AFTER.saturating_sub(since.elapsed()));
                self.post
                    .wait(if all_told { wait } else { wait.min(retry) });
            }
        }
    }

    fn write(&mut self) {
        let written = match &self.disk {
            Some(disk) => disk.write(self.blocks.iter().map(|(_, block)| block)),
            None => Ok(()),
        };
        if written.is_ok() && self.disk.is_some() {
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        if let Err(error) = written {
            self.fail_with(&error);
        }
        for (shard, block) in self.blocks.drain(..) {
            if self.disk.is_some() {
                self.recovery.take(shard, &block);
            }
            let said = &mut self.said[usize::from(shard.0)];
            let count = block.len() as u64;
            said.serial = block.serial;
            said.waits = true;
            match self.disk {
                Some(_) => said.kept += count,
                None => said.lost += count,
            }
            self.post.give_back(shard, block);
        }
    }

    /// Says now and then that everything is written.
    fn stay_in_step(&mut self) {
        if self.in_step_said.elapsed() < SAY_IN_STEP_EVERY || !self.recovery.is_whole() {
            return;
        }
        self.in_step_said = Instant::now();
        let said = self.disk.as_ref().map_or(Ok(()), Disk::stay_in_step);
        if let Err(error) = said {
            self.fail_with(&error);
        }
    }

    fn end(&mut self) {
        if !self.recovery.is_whole() {
            return;
        }
        let ended = self.disk.as_ref().map_or(Ok(()), Disk::end_in_step);
        if let Err(error) = ended {
            self.fail_with(&error);
        }
    }

    /// Where the disk has failed: a step towards the time when everything stands on it again.
    fn recover(&mut self, stopping: bool) {
        match &self.disk {
            None if !stopping && self.recovery.is_due() => {
                if let Some((disk, news)) = self.recovery.open() {
                    self.disk = Some(disk);
                    self.announce(news);
                }
            }
            None => {}
            Some(disk) => match self.recovery.sweep(disk) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!("the store has everything again, and keeps what comes");
                    self.announce(StoreNews::Whole);
                }
                Err(error) => self.fail_with(&error),
            },
        }
    }

    /// Every shard is to know.
    fn announce(&mut self, news: StoreNews) {
        for said in &mut self.said {
            said.news = Some(news);
        }
    }

    fn is_sync_due(&self, stopping: bool) -> bool {
        let Some(since) = self.unsynced_since else {
            return false;
        };
        match self.durability {
            Durability::Disk => true,
            Durability::None | Durability::Process => stopping || since.elapsed() >= SYNC_AFTER,
        }
    }

    fn sync(&mut self) {
        self.unsynced_since = None;
        let synced = self.disk.as_ref().map_or(Ok(()), Disk::sync);
        if let Err(error) = synced {
            self.fail_with(&error);
        }
    }

    /// Whether everybody has been told what there was to tell.
    fn tell(&mut self) -> bool {
        let mut all = true;
        for (number, said) in self.said.iter_mut().enumerate() {
            let shard = ShardId(number as u16);
            if let Some(news) = said.news
                && self.post.send(shard, Mail::Store(news))
            {
                said.news = None;
            }
            all &= said.news.is_none();
        }
        for (number, said) in self
            .said
            .iter_mut()
            .enumerate()
            .filter(|(_, said)| said.waits && said.news.is_none())
        {
            let mail = Mail::Written {
                serial: said.serial,
                kept: said.kept,
                lost: said.lost,
            };
            if self.post.send(ShardId(number as u16), mail) {
                *said = Said {
                    news: said.news,
                    ..Said::default()
                };
            } else {
                all = false;
            }
        }
        all
    }

    fn fail_with(&mut self, error: &DiskError) {
        let what = match error {
            DiskError::Locked => "another process uses it",
            DiskError::Damaged(what) | DiskError::NoRoom(what) | DiskError::Failed(what) => what,
        };
        self.fail(what, error.leaves_doubt());
    }

    /// The disk is given up for now; whoever opens the store next learns of it.
    fn fail(&mut self, what: &str, doubt: bool) {
        let Some(disk) = self.disk.take() else { return };
        self.unsynced_since = None;
        if self.recovery.fail(doubt) {
            tracing::error!(
                "the store can no longer be written ({what}): lampfield serves on, but from here on nothing outlives a restart, until the disk is back"
            );
            self.announce(StoreNews::Failed);
        }
        if let Err(error) = disk.fall_behind() {
            tracing::error!(%error, "and it cannot be marked as incomplete");
        }
    }
}
