//! What happens, one thing after the other, and when.

use lampfield::hint::HintState;
use lampfield::partition::ShardId;
use lampfield::store::rewrite::{Rewrite, StoreNews};
use lampfield::time::Time;

use super::phone::Phone;
use super::{Event, Lives, RESOURCES};
use crate::post::Taken;

impl Lives {
    pub(super) fn run_until(&mut self, end: Time) -> Result<(), String> {
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
        let phones = phones.chain([self.publisher.next_wake()]);
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
        if self.publisher.next_wake() <= self.now
            && let Some(bytes) = self.publisher.wake(self.now, &mut self.random)
        {
            let (source, to) = (self.publisher.address, self.publisher.server);
            self.schedule(1, 20, Event::ToServer { source, to, bytes });
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

    pub(super) fn schedule(&mut self, least: u64, most: u64, event: Event) {
        let when = self.now + self.random.millis(least, most);
        self.schedule_at(when, event);
    }

    pub(super) fn schedule_at(&mut self, when: Time, event: Event) {
        self.serial += 1;
        self.events.insert((when, self.serial), event);
    }
}
