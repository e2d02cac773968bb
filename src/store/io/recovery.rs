//! The way back of a disk that failed: it is tried again from time to time, every shard gives out everything that it
//! knows, what stands on the disk beside that is removed, and only then is the store whole.

use core::time::Duration;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::disk::{Disk, DiskError, Owner};
use super::{Former, open_again};
use crate::partition::ShardId;
use crate::store::records::Records;
use crate::store::rewrite::{Rewrite, StoreNews};

/// A disk that has failed is tried again after this, and each time after twice as long, up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// So many keys are looked at before records are taken again.
const SWEPT: usize = 4096;

/// Whose store it is.
#[derive(Clone)]
pub struct Home {
    pub data_dir: PathBuf,
    pub owner: Owner,
    pub incarnation: u32,
    /// Puts what a store needs beside it where it belongs, before it is opened again: the whole directory may have gone.
    pub make_ready: Arc<dyn Fn() -> io::Result<()> + Send + Sync>,
}

/// How far the store is from having everything.
pub(super) struct Recovery {
    home: Home,
    shards: u16,
    former: Former,
    attempts: u32,
    state: State,
}

enum State {
    /// It has everything.
    Whole,
    /// There is no disk; when it is tried again, and how long after the last time that is.
    Waiting { at: Instant, after: Duration },
    /// It is being tried, by a thread of its own: records are taken meanwhile, so that nobody waits.
    Opening {
        thread: JoinHandle<Result<Disk, DiskError>>,
        after: Duration,
    },
    /// Shards give out everything.
    Rewriting { rewrite: Rewrite, after: Duration },
    /// What is left over is removed, from this key on.
    Sweeping {
        rewrite: Rewrite,
        from: Vec<u8>,
        after: Duration,
    },
}

impl Recovery {
    pub fn new(home: Home, has_disk: bool, shards: u16) -> Self {
        let mut recovery = Recovery {
            home,
            shards,
            former: if has_disk {
                Former::Sound
            } else {
                Former::Unread
            },
            attempts: 0,
            state: State::Whole,
        };
        if !has_disk {
            recovery.fail(false);
        }
        recovery
    }

    /// The disk has failed. Whether the store was whole before. `doubt`: what was written before may not be on it.
    pub fn fail(&mut self, doubt: bool) -> bool {
        if doubt && self.former == Former::Sound {
            self.former = Former::Doubtful;
        }
        let (was_whole, after) = match &self.state {
            State::Whole => (true, AGAIN),
            State::Waiting { after, .. }
            | State::Opening { after, .. }
            | State::Rewriting { after, .. }
            | State::Sweeping { after, .. } => (false, (*after * 2).min(AGAIN_MAX)),
        };
        let at = Instant::now() + after;
        self.state = State::Waiting { at, after };
        was_whole
    }

    /// Whether the store has everything.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole)
    }

    /// Whether the disk is to be tried now, or has been.
    pub fn is_due(&self) -> bool {
        match &self.state {
            State::Waiting { at, .. } => *at <= Instant::now(),
            State::Opening { thread, .. } => thread.is_finished(),
            State::Whole | State::Rewriting { .. } | State::Sweeping { .. } => false,
        }
    }

    /// Whether there is work that nobody has to be waited for.
    pub fn is_sweeping(&self) -> bool {
        matches!(self.state, State::Sweeping { .. })
    }

    /// Begins to try the disk, or takes what came of it: if it does it again, with what every shard is to be told.
    pub fn open(&mut self) -> Option<(Disk, StoreNews)> {
        match core::mem::replace(&mut self.state, State::Whole) {
            State::Waiting { at, after } => {
                self.state = self
                    .begin_to_open(after)
                    .unwrap_or(State::Waiting { at, after });
                None
            }
            State::Opening { thread, after } => {
                let opened = thread.join().unwrap_or_else(|_| {
                    let what = "the thread that opened it did not end in order";
                    Err(DiskError::Failed(what.to_owned()))
                });
                self.take_opened(opened, after)
            }
            other @ (State::Whole | State::Rewriting { .. } | State::Sweeping { .. }) => {
                self.state = other;
                None
            }
        }
    }

    fn begin_to_open(&self, after: Duration) -> Option<State> {
        let (home, former) = (self.home.clone(), self.former);
        let thread = thread::Builder::new().name("store-again".to_owned());
        let thread = thread.spawn(move || open_again(&home, former));
        thread.ok().map(|thread| State::Opening { thread, after })
    }

    fn take_opened(
        &mut self,
        opened: Result<Disk, DiskError>,
        after: Duration,
    ) -> Option<(Disk, StoreNews)> {
        match opened {
            Ok(disk) => {
                self.former = Former::Sound;
                self.attempts += 1;
                let rewrite = Rewrite::new(self.attempts, self.shards);
                let news = rewrite.news();
                self.state = State::Rewriting { rewrite, after };
                Some((disk, news))
            }
            Err(error) => {
                tracing::debug!(?error, "the store cannot be opened again");
                self.state = State::Waiting {
                    at: Instant::now(),
                    after,
                };
                self.fail(error.leaves_doubt());
                None
            }
        }
    }

    /// A block has been written.
    pub fn take(&mut self, shard: ShardId, block: &Records) {
        match &mut self.state {
            State::Whole | State::Waiting { .. } | State::Opening { .. } => {}
            State::Sweeping { rewrite, .. } => {
                rewrite.take(shard, block);
            }
            State::Rewriting { rewrite, after } => {
                if rewrite.take(shard, block) {
                    let rewrite = core::mem::replace(rewrite, Rewrite::new(0, 0));
                    self.state = State::Sweeping {
                        rewrite,
                        from: Vec::new(),
                        after: *after,
                    };
                }
            }
        }
    }

    /// Removes some of what is left over. Whether the store is whole with that.
    pub fn sweep(&mut self, disk: &Disk) -> Result<bool, DiskError> {
        let State::Sweeping { rewrite, from, .. } = &mut self.state else {
            return Ok(false);
        };
        rewrite.sort();
        let keys = disk.keys(from, SWEPT)?;
        let Some(last) = keys.last() else {
            disk.sync()?;
            disk.catch_up()?;
            self.state = State::Whole;
            return Ok(true);
        };
        from.clear();
        from.extend_from_slice(last);
        // The first key that may follow it.
        from.push(0);
        let over = keys.iter().filter(|key| rewrite.is_left_over(key));
        let over: Vec<_> = over.cloned().collect();
        disk.remove(&over)?;
        Ok(false)
    }
}
