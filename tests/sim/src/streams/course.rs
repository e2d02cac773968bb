//! What happens, one thing after the other, and when.

use std::time::Duration;

use lampfield::time::Time;

use super::phone::Phone;
use super::{EVENTS_MAX, Event, Streams};
use crate::post::Taken;

impl Streams {
    pub(super) fn run_until(&mut self, end: Time) -> Result<(), String> {
        let mut without_time = 0;
        loop {
            let next = self.next_time();
            if next > self.now {
                if !self.open_turns.is_empty() {
                    self.flush_all()?;
                    continue;
                }
                if next > end {
                    self.now = end;
                    return Ok(());
                }
                self.now = next;
                without_time = 0;
            }
            without_time += 1;
            if without_time > EVENTS_MAX {
                return Err("time stands still".to_string());
            }
            self.happen()?;
        }
    }

    fn next_time(&self) -> Time {
        let first = self.events.keys().next().map(|(when, _)| *when);
        let phones = self.phones.iter().filter_map(Phone::next_wake);
        let carriers = self.carriers.iter().filter_map(|one| one.connects_at);
        let shards = self.edge.ids();
        let shards = shards.filter_map(|shard| {
            let due = self.edge.next_deadline(shard)?;
            Some(due.max(self.post.lags_until(self.now, shard).unwrap_or(due)))
        });
        [
            first,
            self.next_trouble,
            self.next_lag,
            self.next_change,
            Some(self.next_check),
        ]
        .into_iter()
        .flatten()
        .chain(phones)
        .chain(carriers)
        .chain(shards)
        .min()
        .expect("there is always a next check")
    }

    fn happen(&mut self) -> Result<(), String> {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.take(event)?;
        }
        for shard in self.edge.ids() {
            let due = self.edge.next_deadline(shard);
            let lags = self.post.lags_until(self.now, shard).is_some();
            if !lags && due.is_some_and(|when| when <= self.now) {
                self.edge.tick(shard, self.now);
                self.turn(shard)?;
            }
        }
        self.connect_all();
        self.wake_all();
        if self.next_change.is_some_and(|when| when <= self.now) {
            self.change_a_hint();
            self.next_change = Some(self.now + self.random.millis(5, 3_000));
        }
        if self.next_lag.is_some_and(|when| when <= self.now) {
            self.lag();
            self.next_lag = Some(self.now + self.random.millis(50, 10_000));
        }
        if self.next_trouble.is_some_and(|when| when <= self.now) {
            self.make_trouble()?;
            self.next_trouble = Some(self.now + self.random.millis(5, 6_000));
        }
        if self.next_check <= self.now {
            self.next_check = self.now + Duration::from_secs(1);
            self.flush_all()?;
            self.tend()?;
            self.check()?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Opens { carrier } => self.open(carrier),
            Event::Up(id) => self.arrive(id),
            Event::Down(id) => self.read(id),
            Event::Says { connection, bytes } => {
                self.say_message(connection, &bytes);
                Ok(())
            }
            Event::Lost(id) => self.lose(id),
            Event::Lingered(id) => {
                if self.wires.get(&id).is_some_and(|wire| wire.open) {
                    self.reset(id);
                }
                Ok(())
            }
            Event::Parcel { shard, parcel } => self.deliver(shard, parcel),
            Event::Post(way) => match self.post.take(self.now, way)? {
                Taken::Parcel(shard, parcel) => self.deliver(shard, parcel),
                Taken::Later(until) => {
                    self.schedule(until.since(self.now), Event::Post(way));
                    Ok(())
                }
            },
            Event::Again(shard) => {
                self.retrying.remove(&shard);
                self.flush(shard)
            }
        }
    }

    pub(super) fn schedule(&mut self, after: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + after, self.serial), event);
    }

    pub(super) fn delay(&mut self) -> Duration {
        self.random.millis(0, self.delay_most_ms)
    }
}
