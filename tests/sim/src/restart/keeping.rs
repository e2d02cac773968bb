//! What goes to the disk and comes back from it: as a server writes it, and reads it before it does anything else.

use std::time::Duration;

use lampfield::partition::{Owners, ShardId};
use lampfield::shard::control::{Answer, Ask};
use lampfield::shard::mail::Mail;
use lampfield::store::format::Key;
use lampfield::store::records::Records;
use lampfield::store::rewrite::StoreNews;

use super::{Event, Lives, SYNC_AFTER};
use crate::edge::Parcel;

impl Lives {
    /// As a server does: what others need to know first, in blocks.
    pub(super) fn read_back(&mut self) -> Result<(), String> {
        let owners = Owners::new(self.shards);
        let kept: Vec<(Vec<u8>, Vec<u8>)> = self
            .disk
            .read()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        let mut blocks: Vec<Records> = (0..self.shards).map(|_| Records::default()).collect();
        let mut aside = Vec::new();
        let mut in_subscriptions = false;
        for (key, value) in &kept {
            if key[0] == Key::SUBSCRIPTIONS && !in_subscriptions {
                in_subscriptions = true;
                self.hand_in(&mut blocks, &mut aside)?;
            }
            let name = Key::read(key).map_err(|fault| fault.to_string())?;
            let owner = name.partition().map(|partition| owners.of(partition).0);
            for shard in owner.map_or(0..self.shards, |owner| owner..owner + 1) {
                blocks[usize::from(shard)].copy(key, value);
            }
            if self.random.per_mille(200) {
                self.hand_in(&mut blocks, &mut aside)?;
            }
        }
        self.hand_in(&mut blocks, &mut aside)?;
        aside.sort();
        let mut torn = self.disk.torn.clone();
        torn.sort();
        if aside != torn {
            return Err(format!("set aside: {aside:?}, and torn were {torn:?}"));
        }
        for key in &torn {
            self.disk.set_aside(key);
        }
        Ok(())
    }

    fn hand_in(&mut self, blocks: &mut [Records], aside: &mut Vec<Vec<u8>>) -> Result<(), String> {
        for (shard, block) in (0..).map(ShardId).zip(blocks) {
            let block = std::mem::take(block);
            if block.is_empty() {
                continue;
            }
            let replies = self.ask(shard, Ask::Restore(block))?;
            for reply in replies {
                let Answer::Restored { aside: these, .. } = reply.answer else {
                    return Err(format!("{reply:?} to records"));
                };
                aside.extend(these.into_iter().map(|one| one.key.into_vec()));
            }
        }
        Ok(())
    }

    /// At some time of this life, and most of the time it comes back.
    pub(super) fn disk_will_fail(&mut self, length: Duration) {
        let millis = length.as_millis() as u64;
        let fails = self.random.below(millis);
        self.schedule_at(self.now + Duration::from_millis(fails), Event::DiskFails);
        if self.random.per_mille(800) {
            let back = fails + self.random.below(millis);
            self.schedule_at(self.now + Duration::from_millis(back), Event::DiskIsBack);
        }
    }

    pub(super) fn tell_of_the_disk(&mut self, news: StoreNews) {
        self.note(format!("the disk: {news:?}"));
        for shard in (0..self.shards).map(ShardId) {
            let parcel = Parcel::Mail(Mail::Store(news));
            // In the order in which it is told.
            let when = self.now + Duration::from_millis(1);
            self.schedule_at(when, Event::Parcel { shard, parcel });
        }
    }

    /// What has come goes to the operating system, and is acknowledged; or the acknowledgement waits for the disk.
    pub(super) fn write(&mut self) {
        self.write_is_due = false;
        while let Some((shard, records)) = self.given_out.pop_front() {
            if self.disk.fails {
                self.disk.is_behind = true;
                self.acknowledge(shard, records.serial);
                continue;
            }
            self.disk.write(&records);
            if self.waits_for_disk {
                self.unsynced.push((shard, records.serial));
            } else {
                self.acknowledge(shard, records.serial);
            }
            if let Some(rewrite) = &mut self.rewrite
                && rewrite.take(shard, &records)
            {
                let swept = self.disk.sweep(rewrite);
                self.note(format!("the disk has everything again, {swept} swept"));
                self.rewrite = None;
                self.tell_of_the_disk(StoreNews::Whole);
            }
        }
        if !self.sync_is_due {
            self.sync_is_due = true;
            let after = if self.waits_for_disk {
                self.random.millis(1, self.sync_most_ms)
            } else {
                SYNC_AFTER
            };
            self.schedule_at(self.now + after, Event::Sync);
        }
    }

    pub(super) fn acknowledge(&mut self, shard: ShardId, serial: u64) {
        let mail = Mail::Written {
            serial,
            kept: 0,
            lost: 0,
        };
        let parcel = Parcel::Mail(mail);
        self.schedule(0, 3, Event::Parcel { shard, parcel });
    }
}
