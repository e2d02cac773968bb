//! A disk: what the operating system has, and what is really on it. A crash of the process leaves the first, a crash of
//! the machine the second with some beginning of what was not yet on it, whose end may be torn or written twice.

use std::collections::BTreeMap;

use lampfield::store::format::{Key, Record};
use lampfield::store::records::Records;
use lampfield::store::rewrite::Rewrite;

use crate::random::Random;

/// So much further counts a process that follows one whose disk failed.
const LEAP: u32 = 1 << 14;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;
type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The store's disk.
#[derive(Default)]
pub struct Disk {
    content: Content,
    synced: Content,
    /// What has been written since, batch by batch.
    unsynced: Vec<Batch>,
    incarnation: u32,
    /// It takes nothing.
    pub fails: bool,
    /// Something that was given out is not on it.
    pub is_behind: bool,
    /// Keys under which a torn record stands.
    pub torn: Vec<Vec<u8>>,
}

impl Disk {
    /// Another process opens it: it counts itself before anything else.
    pub fn open(&mut self) -> u32 {
        self.incarnation += if self.is_behind { LEAP } else { 1 };
        self.is_behind = false;
        self.fails = false;
        self.sync();
        self.incarnation
    }

    /// One block of a shard is with the operating system.
    pub fn write(&mut self, records: &Records) {
        let own = |(key, value): (&[u8], Option<&[u8]>)| (key.to_vec(), value.map(<[u8]>::to_vec));
        let batch: Batch = records.iter().map(own).collect();
        apply(&mut self.content, &batch);
        self.unsynced.push(batch);
    }

    /// All of it is on the disk.
    pub fn sync(&mut self) {
        self.synced = self.content.clone();
        self.unsynced.clear();
    }

    /// The power fails.
    pub fn lose_power(&mut self, random: &mut Random) {
        let mut content = std::mem::take(&mut self.synced);
        let kept = random.below(self.unsynced.len() as u64 + 1) as usize;
        for batch in &self.unsynced[..kept] {
            apply(&mut content, batch);
        }
        if kept > 0 && random.per_mille(300) {
            // The end of what was written is written once more.
            let again = random.below(kept as u64) as usize;
            for batch in &self.unsynced[again..kept] {
                apply(&mut content, batch);
            }
        }
        if let Some(batch) = self.unsynced.get(kept)
            && random.per_mille(300)
        {
            // Of the next batch there is a record that nobody knew, and only its beginning.
            let fresh = batch.iter().find_map(|(key, value)| {
                let value = value.as_ref().filter(|_| !content.contains_key(key))?;
                Some((key.clone(), value[..value.len() / 2].to_vec()))
            });
            if let Some((key, value)) = fresh {
                self.torn.push(key.clone());
                content.insert(key, value);
            }
        }
        self.content = content;
        self.sync();
    }

    /// Everything has been written once more: what nobody wrote goes, and nothing is missing any more.
    pub fn sweep(&mut self, rewrite: &mut Rewrite) -> usize {
        rewrite.sort();
        let over: Batch = self
            .content
            .keys()
            .filter(|key| rewrite.is_left_over(key))
            .map(|key| (key.clone(), None))
            .collect();
        apply(&mut self.content, &over);
        self.sync();
        self.is_behind = false;
        over.len()
    }

    /// A record that nobody believed.
    pub fn set_aside(&mut self, key: &[u8]) {
        self.content.remove(key);
        self.torn.retain(|torn| torn != key);
        self.sync();
    }

    /// Every record in the order of the keys.
    pub fn read(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.content.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many subscriptions are kept.
    pub fn subscriptions(&self) -> usize {
        let is_one = |(key, value): &(&[u8], &[u8])| {
            let Ok(key) = Key::read(key) else {
                return false;
            };
            matches!(Record::read(&key, value), Ok(Record::Subscription(_)))
        };
        self.read().filter(is_one).count()
    }
}

fn apply(content: &mut Content, batch: &Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => _ = content.insert(key.clone(), value.clone()),
            None => _ = content.remove(key),
        }
    }
}
