//! The compositor: what all sources and publishers say of the resources whose home this shard is,
//! composed into one snapshot each, and which shards watch them.
//!
//! It decides nothing about SIP: whether a request may come in, and what goes out to a phone, is
//! somebody else's. It reads no clock. What changes waits in [`Compositor::drain_changes`] for the
//! caller, who mails it to the watching shards.
//!
//! A resource lives as long as anything is known of it or anybody watches it.

mod compose;
mod dialogs;
mod hints;
mod keep;
mod listing;
mod presence;
mod publications;
mod shard_set;
mod sources;

use core::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::config::limits;

use crate::hint::{Aspect, Order, ResourceKey, Snapshot};
use crate::quota::Tally;
use crate::slab::Slab;
use crate::table::Table;
use crate::time::Time;
use crate::wheel::{Owner, Token, Wheel};

pub use self::compose::{DndShows, Settings};
pub use self::keep::{KeptHint, KeptPublication, Shelf, Touched};
pub use self::listing::{ResourceRow, SourceRow};
pub use self::publications::{EntityTag, PublishRefused};
pub use self::shard_set::ShardSet;

use self::compose::Ended;
use self::hints::Hint;
use self::publications::Publication;
use self::sources::Source;

/// A resource whose composed state is new.
#[derive(Clone, Debug)]
pub struct Change {
    pub resource: ResourceKey,
    /// Numbers the snapshots of a resource, one by one: a copy that misses one has seen a gap.
    pub serial: u64,
    pub snapshot: Arc<Snapshot>,
    /// The shards that watch it; they may be none.
    pub shards: ShardSet,
}

/// Why a source's word was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not later than what stands.
    Stale { standing: Order },
    /// A limit was reached: its name.
    Full { limit: &'static str },
}

/// One resource of this shard.
struct Resource {
    key: ResourceKey,
    /// What sources say, tombstones included: keys into `hints`, in the order of the sources' names.
    hints: Vec<u32>,
    /// Keys into `publications`, the oldest first.
    publications: Vec<u32>,
    /// Calls that ended lately, the last one first.
    ended: Vec<Ended>,
    watchers: ShardSet,
    serial: u64,
    snapshot: Arc<Snapshot>,
}

/// Every resource whose home is this shard.
pub struct Compositor {
    settings: Settings,
    table_key: [u8; 16],
    by_key: Table,
    resources: Slab<Resource>,
    hints: Slab<Hint>,
    publications: Slab<Publication>,
    /// How many are counted under the names of each kind.
    held: [Tally; 3],
    /// Sources that number what they say, in the order of their names.
    sources: Vec<Source>,
    /// Counts what was accepted: gives versions to contents and an order to arrivals.
    clock: u64,
    /// What the caller has not yet taken.
    changes: Vec<Change>,
    /// Whether it says which records have to be written, and what it has not said yet.
    keeps: bool,
    touched: Vec<Touched>,
    /// Shared by all resources of which nothing is known.
    empty: Arc<Snapshot>,
}

impl Compositor {
    /// One without resources. `table_key` is secret: peers choose the names of resources.
    pub fn new(settings: Settings, table_key: [u8; 16]) -> Self {
        Compositor {
            settings,
            table_key,
            by_key: Table::new(),
            resources: Slab::with_limit(limits::RESOURCES_PER_SHARD),
            hints: Slab::with_limit(limits::RESOURCES_PER_SHARD),
            publications: Slab::with_limit(limits::PUBLICATIONS_PER_SHARD),
            held: [(); 3].map(|()| Tally::new(limits::PUBLICATIONS_PER_SHARD)),
            sources: Vec::new(),
            clock: 0,
            changes: Vec::new(),
            keeps: false,
            touched: Vec::new(),
            empty: Snapshot::empty(),
        }
    }

    /// From now on `shard` is told of every change of `resource`; this is where it starts.
    pub fn watch(
        &mut self,
        resource: &ResourceKey,
        shard: u16,
    ) -> Result<(u64, Arc<Snapshot>), Refused> {
        let index = self.find_or_create(resource)?;
        let record = &mut self.resources[index];
        record.watchers.insert(shard);
        Ok((record.serial, Arc::clone(&record.snapshot)))
    }

    /// `shard` has no watcher of `resource` any more.
    pub fn unwatch(&mut self, resource: &str, shard: u16) {
        if let Some(index) = self.find(resource) {
            self.resources[index].watchers.remove(shard);
            self.remove_if_vacant(index);
        }
    }

    /// What is known of `resource` now.
    pub fn snapshot(&self, resource: &str) -> Arc<Snapshot> {
        match self.find(resource) {
            Some(index) => Arc::clone(&self.resources[index].snapshot),
            None => Arc::clone(&self.empty),
        }
    }

    /// Whether anything waits to be drained.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What has changed since this was last called, in order; the caller mails it.
    pub fn drain_changes(&mut self) -> impl Iterator<Item = Change> {
        self.changes.drain(..)
    }

    /// A timer of [`Owner::Hint`] or [`Owner::Publication`] is due. Whether a hint or publication has expired with it.
    pub fn expire(&mut self, now: Time, token: Token, wheel: &mut Wheel) -> bool {
        match token.owner {
            Owner::Hint => self.expire_hint(now, token.index, wheel),
            Owner::Publication => {
                self.expire_publication(now, token.index);
                true
            }
            Owner::ClientTransaction
            | Owner::ServerTransaction
            | Owner::Subscription
            | Owner::Copy
            | Owner::Connection
            | Owner::Phone
            | Owner::Name
            | Owner::Shard => {
                unreachable!("the shard hands each timer to its owner")
            }
        }
    }

    /// How many resources there are.
    pub fn resources_len(&self) -> usize {
        self.resources.len()
    }

    /// How many hints there are, tombstones included.
    pub fn hints_len(&self) -> usize {
        self.hints.len()
    }

    /// How many live publications there are.
    pub fn publications_len(&self) -> usize {
        self.publications.len()
    }

    /// Whether nothing is known and nobody watches.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
            && self.hints.is_empty()
            && self.publications.is_empty()
            && self.sources.is_empty()
            && self.by_key.is_empty()
    }

    fn hash(&self, resource: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.table_key);
        hasher.write(resource.as_bytes());
        hasher.finish()
    }

    fn find(&self, resource: &str) -> Option<u32> {
        self.by_key.find(self.hash(resource), |index| {
            &*self.resources[index].key == resource
        })
    }

    fn find_or_create(&mut self, resource: &ResourceKey) -> Result<u32, Refused> {
        if let Some(index) = self.find(resource) {
            return Ok(index);
        }
        let record = Resource {
            key: Arc::clone(resource),
            hints: Vec::new(),
            publications: Vec::new(),
            ended: Vec::new(),
            watchers: ShardSet::EMPTY,
            // Serials of a resource that comes back lie above those it had before: each took a tick.
            serial: self.clock,
            snapshot: Arc::clone(&self.empty),
        };
        let index = self
            .resources
            .insert(record)
            .map_err(|_| Refused::Full { limit: "resources" })?;
        self.by_key.insert(self.hash(resource), index);
        Ok(index)
    }

    fn remove_if_vacant(&mut self, index: u32) {
        let record = &self.resources[index];
        if record.hints.is_empty() && record.publications.is_empty() && record.watchers.is_empty() {
            let hash = self.hash(&record.key);
            self.by_key.remove(hash, |other| other == index);
            self.resources.remove(index);
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Composes some aspects of a resource anew, and says whether watchers see a difference.
    /// A resource of which nothing is left to know goes away.
    fn recompose(&mut self, now: Time, index: u32, aspects: &[Aspect]) -> bool {
        let version = self.tick();
        let record = &self.resources[index];
        let contributions = compose::contributions(record, &self.hints, &self.publications);
        let composed = compose::compose(
            now,
            version,
            &self.settings,
            record,
            &contributions,
            aspects,
        );
        let changed = composed.is_some();
        if let Some((snapshot, ended)) = composed {
            let record = &mut self.resources[index];
            record.ended = ended;
            record.snapshot = Arc::new(snapshot);
            record.serial += 1;
            self.changes.push(Change {
                resource: Arc::clone(&record.key),
                serial: record.serial,
                snapshot: Arc::clone(&record.snapshot),
                shards: record.watchers,
            });
        }
        self.remove_if_vacant(index);
        changed
    }
}

#[cfg(test)]
mod tests;
