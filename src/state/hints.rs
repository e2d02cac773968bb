//! What sources say, in the order in which they say it.
//!
//! A source may number its words by (epoch, seq); then what is not later than what stands is refused,
//! and a removal leaves a tombstone for a while, so that what it overtook does not come back to life.
//! A higher epoch means that the source began anew: it first tells all it knows, and what it has not
//! named by then is no longer so. The end of that telling is announced ([`Compositor::end_snapshot`])
//! or assumed after [`SNAPSHOT_MAX`].

use core::time::Duration;
use std::sync::Arc;

use crate::config::limits;
use crate::hint::{Aspect, HintUpdate, Order, ResourceKey};
use crate::time::Time;
use crate::wheel::{Owner, TimerId, Token, Wheel};

use super::compose::HintContent;
use super::{Compositor, Refused};

/// The most sources that number their words.
const NUMBERED_SOURCES_MAX: usize = 256;
/// How long a removal is remembered.
const TOMBSTONE: Duration = Duration::from_secs(3600);
/// How long a source may take to tell all it knows after it began anew.
const SNAPSHOT_MAX: Duration = Duration::from_secs(30);
/// How many hints are looked at in one go when a source's old epoch is cleared.
const SWEEP_STEP: u32 = 256;
/// In the index of a token of [`Owner::Hint`]: it names a source, not a hint.
const SOURCE_BIT: u32 = 1 << 31;

/// What one source says of one resource.
pub(super) struct Hint {
    pub resource: u32,
    pub source: Arc<str>,
    pub order: Option<Order>,
    /// The source's epoch when it said so, whether it numbered this word or not.
    pub epoch: u64,
    /// None: it was removed or has expired, and this is its tombstone.
    pub content: Option<HintContent>,
    pub arrival: u64,
    pub expires_at: Option<Time>,
    timer: Option<TimerId>,
}

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

/// What a source says, or takes back (no content).
struct Word<'a> {
    resource: &'a ResourceKey,
    source: &'a Arc<str>,
    order: Option<Order>,
    content: Option<HintContent>,
    expires_at: Option<Time>,
}

impl Compositor {
    /// Takes a source's word; says whether watchers see a difference.
    pub fn apply(
        &mut self,
        now: Time,
        update: HintUpdate,
        wheel: &mut Wheel,
    ) -> Result<bool, Refused> {
        if update.calls.len() > limits::CALLS_PER_RESOURCE {
            return Err(Refused::Full {
                limit: "calls_per_hint",
            });
        }
        let expires_at = update.expires.map(|expires| now + expires);
        let word = Word {
            resource: &update.resource,
            source: &update.source,
            order: update.order,
            content: Some(HintContent {
                state: update.state,
                calls: update.calls,
                note: update.note,
                mailbox: update.mailbox,
            }),
            expires_at,
        };
        let resource = self.take_word(now, word, wheel)?;
        Ok(self.recompose(now, resource, &Aspect::ALL))
    }

    /// A source takes its word back. `Ok(None)`: it had said nothing; `Ok(Some(changed))` otherwise.
    pub fn withdraw(
        &mut self,
        now: Time,
        resource: &ResourceKey,
        source: &Arc<str>,
        order: Option<Order>,
        wheel: &mut Wheel,
    ) -> Result<Option<bool>, Refused> {
        let standing = self.find_hint(resource, source);
        let known = standing.is_some_and(|key| self.hints[key].content.is_some());
        if order.is_none() && !known {
            return Ok(None);
        }
        let word = Word {
            resource,
            source,
            order,
            content: None,
            expires_at: None,
        };
        let resource = self.take_word(now, word, wheel)?;
        let changed = self.recompose(now, resource, &Aspect::ALL);
        Ok(known.then_some(changed))
    }

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

    pub(super) fn expire_hint(&mut self, now: Time, index: u32, wheel: &mut Wheel) {
        if index & SOURCE_BIT != 0 {
            return self.work_on_source(now, index & !SOURCE_BIT, wheel);
        }
        let hint = &mut self.hints[index];
        hint.timer = None;
        let resource = hint.resource;
        if hint.content.is_some() {
            self.silence(now, index, wheel);
        } else {
            self.remove_hint(index, wheel);
        }
        self.recompose(now, resource, &Aspect::ALL);
    }

    /// Checks a word and writes it down; says which resource is to be composed anew.
    fn take_word(&mut self, now: Time, word: Word<'_>, wheel: &mut Wheel) -> Result<u32, Refused> {
        let standing = self.find_hint(word.resource, word.source);
        let standing_order = standing.and_then(|key| self.hints[key].order);
        if let (Some(order), Some(standing)) = (word.order, standing_order)
            && order <= standing
        {
            return Err(Refused::Stale { standing });
        }
        if let Some(order) = word.order {
            self.begin_epoch(now, word.source, order.epoch, wheel)?;
        }
        let key = match standing {
            Some(key) => key,
            None => self.create_hint(word.resource, word.source)?,
        };
        let arrival = self.tick();
        let epoch = self.epoch_of(word.source);
        let hint = &mut self.hints[key];
        let resource = hint.resource;
        hint.order = word.order.or(hint.order);
        hint.epoch = epoch;
        hint.arrival = arrival;
        if word.content.is_some() {
            hint.content = word.content;
            hint.expires_at = word.expires_at;
            set_timer(&mut hint.timer, key, word.expires_at, wheel);
        } else {
            self.silence(now, key, wheel);
        }
        Ok(resource)
    }

    fn create_hint(&mut self, resource: &ResourceKey, source: &Arc<str>) -> Result<u32, Refused> {
        if self.hints.is_full() {
            return Err(Refused::Full { limit: "hints" });
        }
        let index = self.find_or_create(resource)?;
        let place = match self.hint_place(&self.resources[index].hints, source) {
            Ok(_) => unreachable!("the source has not spoken of this resource"),
            Err(place) => place,
        };
        if self.resources[index].hints.len() >= limits::SOURCES_PER_RESOURCE {
            return Err(Refused::Full {
                limit: "sources_per_resource",
            });
        }
        let hint = Hint {
            resource: index,
            source: Arc::clone(source),
            order: None,
            epoch: 0,
            content: None,
            arrival: 0,
            expires_at: None,
            timer: None,
        };
        let key = self
            .hints
            .insert(hint)
            .unwrap_or_else(|_| unreachable!("there was room"));
        self.resources[index].hints.insert(place, key);
        Ok(key)
    }

    /// A hint says nothing any more. If it was numbered, a tombstone stays.
    fn silence(&mut self, now: Time, key: u32, wheel: &mut Wheel) {
        let hint = &mut self.hints[key];
        hint.content = None;
        hint.expires_at = None;
        if hint.order.is_some() {
            set_timer(&mut hint.timer, key, Some(now + TOMBSTONE), wheel);
        } else {
            self.remove_hint(key, wheel);
        }
    }

    fn remove_hint(&mut self, key: u32, wheel: &mut Wheel) {
        let mut hint = self.hints.remove(key);
        set_timer(&mut hint.timer, key, None, wheel);
        self.resources[hint.resource]
            .hints
            .retain(|other| *other != key);
    }

    fn find_hint(&self, resource: &str, source: &str) -> Option<u32> {
        let record = &self.resources[self.find(resource)?];
        let place = self.hint_place(&record.hints, source).ok()?;
        Some(record.hints[place])
    }

    /// Where a source's hint is among those of a resource, or would be.
    fn hint_place(&self, hints: &[u32], source: &str) -> Result<usize, usize> {
        hints.binary_search_by(|key| (*self.hints[*key].source).cmp(source))
    }
}

/// Sources.
impl Compositor {
    fn epoch_of(&self, source: &str) -> u64 {
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
        if self.sources.len() >= NUMBERED_SOURCES_MAX {
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

    fn work_on_source(&mut self, now: Time, number: u32, wheel: &mut Wheel) {
        let place = self
            .sources
            .iter()
            .position(|record| record.number == number)
            .expect("a source's timer goes with it");
        let record = &self.sources[place];
        match record.work {
            Work::Forget if now.since(record.last_word_at) >= TOMBSTONE => {
                self.sources.remove(place);
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

/// Sets, moves or takes back the timer of a hint.
fn set_timer(timer: &mut Option<TimerId>, key: u32, when: Option<Time>, wheel: &mut Wheel) {
    if let Some(old) = timer.take() {
        wheel.cancel(old);
    }
    let token = Token {
        owner: Owner::Hint,
        index: key,
    };
    *timer = when.map(|when| wheel.insert(when, token));
}
