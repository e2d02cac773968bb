//! The copies of hints that a shard keeps: one for each resource that a phone of this shard watches.
//! The home shard of the resource mails snapshots, numbered without gaps; a copy that sees a gap,
//! or hears nothing within T1, asks again. It may not render or send.

use std::sync::Arc;

use crate::hint::{Aspect, ResourceKey, Snapshot};
use crate::slab::Slab;
use crate::table::Table;
use crate::wheel::TimerId;

/// What a watcher is told of, and where its number stands in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub copy: u32,
    pub aspect: Aspect,
    /// In the copy's list of watchers of that aspect.
    pub position: u32,
}

/// One resource that is watched from this shard.
pub struct HintCopy {
    pub resource: ResourceKey,
    /// Under which it stands in the table.
    hash: u64,
    /// None until the home shard has answered.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Of the last mail from the home shard.
    serial: u64,
    /// Never used twice: what is kept of a resource elsewhere is known by it.
    pub identity: u64,
    watchers: [Vec<u32>; Aspect::ALL.len()],
    /// Runs while an answer of the home shard is waited for.
    pub asked: Option<TimerId>,
}

impl HintCopy {
    /// The subscriptions that show this aspect.
    pub fn watchers(&self, aspect: Aspect) -> &[u32] {
        &self.watchers[aspect as usize]
    }

    /// Whether nobody watches it.
    pub fn is_unwatched(&self) -> bool {
        self.watchers.iter().all(Vec::is_empty)
    }
}

/// What a mail from the home shard meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// These aspects differ from what was known; `gap`: mails before this one are missing.
    Taken {
        changed: [bool; Aspect::ALL.len()],
        gap: bool,
    },
    /// Older than what is known.
    Stale,
}

/// All copies of a shard.
pub struct Copies {
    copies: Slab<HintCopy>,
    by_resource: Table,
    identities: u64,
}

impl Copies {
    /// At most `limit` resources.
    pub fn new(limit: usize) -> Self {
        Copies {
            copies: Slab::with_limit(limit),
            by_resource: Table::new(),
            identities: 0,
        }
    }

    /// How many resources are watched from this shard.
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The copy of a resource; `hash` is the keyed hash of its name.
    pub fn find(&self, hash: u64, resource: &str) -> Option<u32> {
        self.by_resource
            .find(hash, |index| &*self.copies[index].resource == resource)
    }

    /// Begins a copy that knows nothing yet. None: the limit is reached.
    pub fn insert(&mut self, hash: u64, resource: ResourceKey) -> Option<u32> {
        self.identities += 1;
        let copy = HintCopy {
            resource,
            hash,
            snapshot: None,
            serial: 0,
            identity: self.identities,
            watchers: Default::default(),
            asked: None,
        };
        let index = self.copies.insert(copy).ok()?;
        self.by_resource.insert(hash, index);
        Some(index)
    }

    /// Gives a copy up that nobody watches.
    pub fn remove(&mut self, index: u32) -> HintCopy {
        let copy = self.copies.remove(index);
        assert!(copy.is_unwatched(), "a copy lives as long as it is watched");
        self.by_resource
            .remove(copy.hash, |candidate| candidate == index);
        copy
    }

    /// The copy of that number.
    pub fn copy(&self, index: u32) -> &HintCopy {
        &self.copies[index]
    }

    /// The copy of that number, to be changed.
    pub fn copy_mut(&mut self, index: u32) -> &mut HintCopy {
        &mut self.copies[index]
    }

    /// The copy of that number, if it still lives.
    pub fn living(&mut self, index: u32) -> Option<&mut HintCopy> {
        self.copies.get_mut(index)
    }

    /// Adds a watcher and says where it stands.
    pub fn watch(&mut self, copy: u32, aspect: Aspect, watcher: u32) -> Place {
        let watchers = &mut self.copies[copy].watchers[aspect as usize];
        watchers.push(watcher);
        Place {
            copy,
            aspect,
            position: watchers.len() as u32 - 1,
        }
    }

    /// Removes the watcher at `place`. The last of the list takes its position: its number is returned.
    pub fn unwatch(&mut self, place: Place) -> Option<u32> {
        let watchers = &mut self.copies[place.copy].watchers[place.aspect as usize];
        watchers.swap_remove(place.position as usize);
        watchers.get(place.position as usize).copied()
    }

    /// Takes what the home shard mailed.
    pub fn update(&mut self, index: u32, serial: u64, snapshot: Arc<Snapshot>) -> Update {
        let copy = &mut self.copies[index];
        let Some(known) = &copy.snapshot else {
            copy.serial = serial;
            copy.snapshot = Some(snapshot);
            return Update::Taken {
                changed: [true; Aspect::ALL.len()],
                gap: false,
            };
        };
        if serial < copy.serial {
            return Update::Stale;
        }
        let gap = serial > copy.serial + 1;
        let changed = Aspect::ALL.map(|aspect| known.version(aspect) != snapshot.version(aspect));
        copy.serial = serial;
        copy.snapshot = Some(snapshot);
        Update::Taken { changed, gap }
    }

    /// Every copy, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &HintCopy)> {
        self.copies.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(dialogs: u64) -> Arc<Snapshot> {
        let mut snapshot = Snapshot::clone(&Snapshot::empty());
        snapshot.dialogs.version = dialogs;
        Arc::new(snapshot)
    }

    #[test]
    fn a_watcher_that_goes_leaves_its_position_to_the_last_one() {
        let mut copies = Copies::new(10);
        let copy = copies.insert(1, "1001@example.com".into()).unwrap();
        let places: Vec<_> = (100..103)
            .map(|watcher| copies.watch(copy, Aspect::Dialogs, watcher))
            .collect();
        assert_eq!(copies.unwatch(places[0]), Some(102));
        assert_eq!(copies.copy(copy).watchers(Aspect::Dialogs), [102, 101]);
        assert_eq!(copies.unwatch(places[1]), None);
        assert_eq!(copies.unwatch(places[0]), None);
        assert!(copies.copy(copy).is_unwatched());
        copies.remove(copy);
        assert_eq!(copies.find(1, "1001@example.com"), None);
    }

    #[test]
    fn only_what_differs_is_a_change_and_a_missing_number_is_a_gap() {
        let mut copies = Copies::new(10);
        let copy = copies.insert(1, "1001@example.com".into()).unwrap();
        assert_eq!(
            copies.update(copy, 4, snapshot(1)),
            Update::Taken {
                changed: [true; 3],
                gap: false
            }
        );
        let changed = [true, false, false];
        assert_eq!(
            copies.update(copy, 5, snapshot(2)),
            Update::Taken {
                changed,
                gap: false
            }
        );
        assert_eq!(
            copies.update(copy, 7, snapshot(3)),
            Update::Taken { changed, gap: true }
        );
        assert_eq!(copies.update(copy, 6, snapshot(2)), Update::Stale);
    }
}
