//! What sources say, in the order in which they say it.
//!
//! A source may number its words by (epoch, seq); then what is not later than what stands is refused,
//! and a removal leaves a tombstone for a while, so that what it overtook does not come back to life.

use core::time::Duration;
use std::sync::Arc;

use crate::config::limits;
use crate::hint::{
    Aspect, Call, HintContent, HintUpdate, Mailbox, Note, Order, Party, ResourceKey,
};
use crate::time::Time;
use crate::wheel::{Owner, TimerId, Token, Wheel};

use super::compose::derived_id;
use super::sources::SOURCE_BIT;
use super::{Compositor, Refused, Touched};

/// How long a removal is remembered.
pub(super) const TOMBSTONE: Duration = Duration::from_secs(3600);
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
    /// When it goes: what is said, or its tombstone.
    pub expires_at: Option<Time>,
    pub timer: Option<TimerId>,
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
        if text_len(&update) > limits::HINT_BYTES {
            return Err(Refused::Full {
                limit: "hint_bytes",
            });
        }
        let expires_at = update.expires.map(|expires| now + expires);
        let word = Word {
            resource: &update.resource,
            source: &update.source,
            order: update.order,
            content: Some(HintContent {
                state: update.state,
                calls: named(update.calls, &update.resource, &update.source),
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

    /// Whether a source's word has expired; the timers of tombstones and of sources themselves say nothing new.
    pub(super) fn expire_hint(&mut self, now: Time, index: u32, wheel: &mut Wheel) -> bool {
        if index & SOURCE_BIT != 0 {
            self.work_on_source(now, index & !SOURCE_BIT, wheel);
            return false;
        }
        let hint = &mut self.hints[index];
        hint.timer = None;
        let resource = hint.resource;
        let expired = hint.content.is_some();
        if expired {
            self.silence(now, index, wheel);
        } else {
            self.remove_hint(index, wheel);
        }
        self.recompose(now, resource, &Aspect::ALL);
        expired
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
            self.touch(|| Touched::Hint(key));
        } else {
            self.silence(now, key, wheel);
        }
        Ok(resource)
    }

    pub(super) fn create_hint(
        &mut self,
        resource: &ResourceKey,
        source: &Arc<str>,
    ) -> Result<u32, Refused> {
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
        hint.expires_at = Some(now + TOMBSTONE);
        if hint.order.is_some() {
            set_timer(&mut hint.timer, key, hint.expires_at, wheel);
            self.touch(|| Touched::Hint(key));
        } else {
            self.remove_hint(key, wheel);
        }
    }

    pub(super) fn remove_hint(&mut self, key: u32, wheel: &mut Wheel) {
        let mut hint = self.hints.remove(key);
        set_timer(&mut hint.timer, key, None, wheel);
        let record = &mut self.resources[hint.resource];
        record.hints.retain(|other| *other != key);
        let resource = Arc::clone(&record.key);
        self.touch(|| Touched::HintGone {
            resource,
            source: hint.source,
        });
    }

    pub(super) fn find_hint(&self, resource: &str, source: &str) -> Option<u32> {
        let record = &self.resources[self.find(resource)?];
        let place = self.hint_place(&record.hints, source).ok()?;
        Some(record.hints[place])
    }

    /// Where a source's hint is among those of a resource, or would be.
    fn hint_place(&self, hints: &[u32], source: &str) -> Result<usize, usize> {
        hints.binary_search_by(|key| (*self.hints[*key].source).cmp(source))
    }
}

/// How much text an update holds.
fn text_len(update: &HintUpdate) -> usize {
    let party = |party: &Party| party.identity.len() + party.display.len() + party.target.len();
    let call = |call: &Call| {
        let own = [
            &call.id,
            &call.call_id,
            &call.local_tag,
            &call.remote_tag,
            &call.event,
        ];
        own.iter().map(|text| text.len()).sum::<usize>() + party(&call.local) + party(&call.remote)
    };
    let note = |note: &Note| note.language.len() + note.text.len();
    let mailbox = |mailbox: &Mailbox| mailbox.account.len();
    update.calls.iter().map(call).sum::<usize>()
        + update.note.as_ref().map_or(0, note)
        + update.mailbox.as_ref().map_or(0, mailbox)
}

/// Every call with an id: a source that gives none means the call by its Call-ID, or by its place.
fn named(mut calls: Vec<Call>, resource: &str, source: &str) -> Vec<Call> {
    for (place, call) in calls.iter_mut().enumerate() {
        if call.id.is_empty() {
            call.id = match &*call.call_id {
                "" => derived_id("", resource, &format!("{source} {place}")),
                call_id => call_id.into(),
            };
        }
    }
    calls
}

/// Sets, moves or takes back the timer of a hint.
pub(super) fn set_timer(
    timer: &mut Option<TimerId>,
    key: u32,
    when: Option<Time>,
    wheel: &mut Wheel,
) {
    if let Some(old) = timer.take() {
        wheel.cancel(old);
    }
    let token = Token {
        owner: Owner::Hint,
        index: key,
    };
    *timer = when.map(|when| wheel.insert(when, token));
}
