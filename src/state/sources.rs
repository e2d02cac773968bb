//! Sources that number what they say, and the epochs in which they say it.
//!
//! A higher epoch means that a source began anew: it first tells all it knows, and what it has not
//! named by then is no longer so. The end of that telling is announced ([`Compositor::end_snapshot`])
//! or assumed after [`SNAPSHOT_MAX`]. Nothing is cleared before, so that lamps do not flicker while a
//! feed reconnects.

use core::time::Duration;
use std::sync::Arc;

use crate::config::limits;
use crate::hint::{Aspect, Order};
use crate::time::Time;
use crate::wheel::{Owner, TimerId, Token, Wheel};

use super::hints::TOMBSTONE;
use super::{Compositor, Refused, Touched};

/// How long a source may take to tell all it knows after it began anew.
const SNAPSHOT_MAX: Duration = Duration::from_secs(30);
/// How many hints are looked at in one go when a source's old epoch is cleared.
const SWEEP_STEP: u32 = 256;
/// In the index of a token of [`Owner::Hint`]: it names a source, not a hint.
pub(super) const SOURCE_BIT: u32 = 1 << 31;

/// A source that numbers its words. Forgotten when it has been silent for as long as a tombstone lasts.
pub(super) struct Source {
    name: Arc<str>,
    /// Its place in timers, never used by two sources at a time.
    number: u32,
    /// What is older is refused.
    epoch: u64,
    last_word_at: Time,
    work: Work,
    timer: TimerId,
}

/// What the timer of a source is set for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Nothing is to be done but to forget it one day.
    Forget,
    /// It is telling all it knows.
    AwaitEnd,
    /// Hints of older epochs are being dropped; those below this key have been looked at.
    Sweep(u32),
}

impl Compositor {
    /// A source begins anew: from now on it tells all it knows, numbered with this epoch.
    /// Called on every shard; what is older than the epoch is refused from now on.
    pub fn begin_epoch(
        &mut self,
        now: Time,
        source: &Arc<str>,
        epoch: u64,
        wheel: &mut Wheel,
    ) -> Result<(), Refused> {
        let place = self.source_place(now, source, wheel)?;
        let record = &mut self.sources[place];
        if epoch < record.epoch {
            return Err(record.standing());
        }
        record.last_word_at = now;
        if epoch > record.epoch {
            record.epoch = epoch;
            record.schedule(Work::AwaitEnd, now + SNAPSHOT_MAX, wheel);
            let source = Arc::clone(source);
            self.touch(|| Touched::Epoch { source, epoch });
        }
        Ok(())
    }

    /// A source has told all it knows: what is left of older epochs is dropped, in steps that the wheel paces.
    pub fn end_snapshot(
        &mut self,
        now: Time,
        source: &Arc<str>,
        epoch: u64,
        wheel: &mut Wheel,
    ) -> Result<(), Refused> {
        self.begin_epoch(now, source, epoch, wheel)?;
        let place = self.source_place(now, source, wheel)?;
        self.sources[place].schedule(Work::Sweep(0), now, wheel);
        Ok(())
    }

    pub(super) fn epoch_of(&self, source: &str) -> u64 {
        self.sources
            .binary_search_by(|record| (*record.name).cmp(source))
            .map_or(0, |place| self.sources[place].epoch)
    }

    fn source_place(
        &mut self,
        now: Time,
        source: &Arc<str>,
        wheel: &mut Wheel,
    ) -> Result<usize, Refused> {
        let place = match self
            .sources
            .binary_search_by(|record| record.name.cmp(source))
        {
            Ok(place) => return Ok(place),
            Err(place) => place,
        };
        if self.sources.len() >= limits::NUMBERED_SOURCES {
            return Err(Refused::Full {
                limit: "numbered_sources",
            });
        }
        let number = (0..)
            .find(|number| self.sources.iter().all(|record| record.number != *number))
            .expect("there are fewer sources than numbers");
        let record = Source {
            name: Arc::clone(source),
            number,
            epoch: 0,
            last_word_at: now,
            work: Work::Forget,
            timer: wheel.insert(now + TOMBSTONE, source_token(number)),
        };
        self.sources.insert(place, record);
        Ok(place)
    }

    /// The source at that place, and its epoch.
    pub(super) fn source(&self, place: usize) -> (Arc<str>, u64) {
        let source = &self.sources[place];
        (Arc::clone(&source.name), source.epoch)
    }

    pub(super) fn work_on_source(&mut self, now: Time, number: u32, wheel: &mut Wheel) {
        let place = self
            .sources
            .iter()
            .position(|record| record.number == number)
            .expect("a source's timer goes with it");
        let record = &self.sources[place];
        match record.work {
            Work::Forget if now.since(record.last_word_at) >= TOMBSTONE => {
                let source = self.sources.remove(place).name;
                self.touch(|| Touched::EpochGone { source });
            }
            Work::Forget => {
                let record = &mut self.sources[place];
                let when = record.last_word_at + TOMBSTONE;
                record.timer = wheel.insert(when, source_token(number));
            }
            Work::AwaitEnd => self.sweep(now, place, 0, wheel),
            Work::Sweep(from) => self.sweep(now, place, from, wheel),
        }
    }

    /// Drops hints of older epochs: one step, and a timer for the next.
    fn sweep(&mut self, now: Time, place: usize, from: u32, wheel: &mut Wheel) {
        let (name, epoch) = (
            Arc::clone(&self.sources[place].name),
            self.sources[place].epoch,
        );
        let end = from + SWEEP_STEP;
        let mut next = self.hints.next_key(from);
        while let Some(key) = next.filter(|key| *key < end) {
            let hint = &self.hints[key];
            if hint.source == name && hint.epoch < epoch {
                let resource = hint.resource;
                self.remove_hint(key, wheel);
                self.recompose(now, resource, &Aspect::ALL);
            }
            next = self.hints.next_key(key + 1);
        }
        let record = &mut self.sources[place];
        let (work, when) = match next {
            // Not at once: between two steps the shard does other things.
            Some(key) => (Work::Sweep(key), now + Duration::from_millis(1)),
            None => (Work::Forget, record.last_word_at + TOMBSTONE),
        };
        record.work = work;
        record.timer = wheel.insert(when, source_token(record.number));
    }
}

impl Source {
    fn standing(&self) -> Refused {
        Refused::Stale {
            standing: Order {
                epoch: self.epoch,
                seq: 0,
            },
        }
    }

    fn schedule(&mut self, work: Work, when: Time, wheel: &mut Wheel) {
        wheel.cancel(self.timer);
        self.work = work;
        self.timer = wheel.insert(when, source_token(self.number));
    }
}

fn source_token(number: u32) -> Token {
    Token {
        owner: Owner::Hint,
        index: SOURCE_BIT | number,
    }
}
