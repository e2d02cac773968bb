//! Publications (RFC 3903): soft state with an entity tag that changes whenever the state does.
//!
//! A tag is looked for only among the publications of its own resource, so a tag of another
//! resource, or of a server that we are not, is simply unknown.

use core::time::Duration;
use std::sync::Arc;

use crate::config::limits;
use crate::hex;
use crate::hint::{Aspect, Call, Published, ResourceKey};
use crate::quota::Tally;
use crate::rng::Rng;
use crate::time::Time;
use crate::wheel::{Owner, TimerId, Token, Wheel};

use super::{Compositor, Refused, Touched};

/// A publication outlives what was granted by this much: a refresh that was sent in time still finds
/// it, even if its first packet was lost, and watchers see no gap.
const GRACE: Duration = Duration::from_millis(750);

/// The name of one state of one publication. Random: who has not been told it can't guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntityTag(u64);

impl EntityTag {
    /// The length of a tag's text.
    pub const LENGTH: usize = 16;

    /// A tag of ours by its text. None: nothing that we ever gave out.
    pub fn parse(text: &[u8]) -> Option<EntityTag> {
        let text: &[u8; EntityTag::LENGTH] = text.try_into().ok()?;
        hex::read(text).map(EntityTag)
    }

    /// The tag of that number.
    pub const fn from_number(number: u64) -> EntityTag {
        EntityTag(number)
    }

    /// As a number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The tag's text: a SIP token.
    pub fn text(self) -> [u8; EntityTag::LENGTH] {
        hex::text(self.0)
    }
}

/// Why a publication was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    /// No live publication of this resource and aspect has this tag (412).
    UnknownTag,
    /// A limit was reached: its name.
    Full { limit: &'static str },
}

impl From<Refused> for PublishRefused {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { limit } => PublishRefused::Full { limit },
            Refused::Stale { .. } => unreachable!("publications are not numbered"),
        }
    }
}

/// One publication.
pub(super) struct Publication {
    pub resource: u32,
    pub tag: EntityTag,
    pub content: Published,
    pub arrival: u64,
    /// What was granted.
    pub expires_at: Time,
    pub timer: Option<TimerId>,
    /// Who it is counted under; nobody, if the record of an earlier process did not say.
    pub held: Option<[u32; 3]>,
    /// Which request has made or last changed it, and by which way that came.
    pub asked: Option<(u64, u16)>,
}

//= RFC 3903 6
impl Compositor {
    /// Initial: a new publication, for as long as `expires`.
    pub fn publish(
        &mut self,
        now: Time,
        resource: &ResourceKey,
        content: Published,
        expires: Duration,
        rng: &mut Rng,
        wheel: &mut Wheel,
    ) -> Result<EntityTag, PublishRefused> {
        if self.publications.is_full() {
            return Err(PublishRefused::Full {
                limit: "publications",
            });
        }
        let index = self.find_or_create(resource)?;
        if self.resources[index].publications.len() >= limits::SOURCES_PER_RESOURCE {
            return Err(PublishRefused::Full {
                limit: "publications_per_resource",
            });
        }
        let aspect = content.aspect();
        let tag = self.unused_tag(index, rng);
        let publication = Publication {
            resource: index,
            tag,
            content: merged(None, content),
            arrival: self.tick(),
            expires_at: now + expires,
            timer: None,
            held: None,
            asked: None,
        };
        let key = self
            .publications
            .insert(publication)
            .unwrap_or_else(|_| unreachable!("there was room"));
        self.resources[index].publications.push(key);
        self.end_elsewhere(index, key);
        self.keep_until(key, now + expires, wheel);
        self.touch(|| Touched::Publication(key));
        self.recompose(now, index, &[aspect]);
        Ok(tag)
    }

    /// Counts a publication under the names of whoever it is of: three kinds of them, such as a user, an address, a domain.
    pub fn credit(&mut self, resource: &str, tag: EntityTag, names: [u64; 3]) {
        let Some(index) = self.find(resource) else {
            return;
        };
        let uncounted = self.resources[index].publications.iter().find(|key| {
            let publication = &self.publications[**key];
            publication.tag == tag && publication.held.is_none()
        });
        if let Some(&key) = uncounted {
            let held = self.hold(names);
            self.publications[key].held = Some(held);
        }
    }

    /// A publication is what it is by this request, and by this way that came: numbers that know no more of them.
    pub fn note_asked(
        &mut self,
        resource: &str,
        aspect: Aspect,
        tag: EntityTag,
        asked: (u64, u16),
    ) {
        if let Ok((_, key)) = self.find_publication(resource, aspect, tag) {
            self.publications[key].asked = Some(asked);
        }
    }

    /// Whether a live publication has this tag.
    pub fn has_publication(&self, resource: &str, aspect: Aspect, tag: EntityTag) -> bool {
        self.find_publication(resource, aspect, tag).is_ok()
    }

    /// The publication that is what it is by this request, and the way by which that came.
    pub fn asked_for(
        &self,
        resource: &str,
        aspect: Aspect,
        request: u64,
    ) -> Option<(EntityTag, u16)> {
        let index = self.find(resource)?;
        let mut publications = self.resources[index].publications.iter();
        publications.find_map(|key| {
            let publication = &self.publications[*key];
            let (by, way) = publication.asked?;
            let is_it = by == request && publication.content.aspect() == aspect;
            is_it.then_some((publication.tag, way))
        })
    }

    pub(super) fn hold(&mut self, names: [u64; 3]) -> [u32; 3] {
        let mut held = [0; 3];
        for ((tally, name), held) in self.held.iter_mut().zip(names).zip(&mut held) {
            *held = tally.take(name);
        }
        held
    }

    pub(super) fn names_of(&self, held: [u32; 3]) -> [u64; 3] {
        let mut names = [0; 3];
        for ((tally, held), name) in self.held.iter().zip(held).zip(&mut names) {
            *name = tally.name(held);
        }
        names
    }

    /// Under how many names live publications are counted.
    pub fn publishers_len(&self) -> usize {
        self.held.iter().map(Tally::len).sum()
    }

    /// How many live publications are counted under a name of that kind.
    pub fn published_by(&self, kind: usize, name: u64) -> u32 {
        self.held[kind].count(name)
    }

    /// Modify: other content for a publication, under a new tag.
    pub fn modify(
        &mut self,
        now: Time,
        resource: &str,
        tag: EntityTag,
        content: Published,
        expires: Duration,
        rng: &mut Rng,
        wheel: &mut Wheel,
    ) -> Result<EntityTag, PublishRefused> {
        let aspect = content.aspect();
        let (index, key) = self.find_publication(resource, aspect, tag)?;
        self.touch_gone(index, tag);
        let tag = self.unused_tag(index, rng);
        let arrival = self.tick();
        let publication = &mut self.publications[key];
        publication.content = merged(Some(&publication.content), content);
        publication.tag = tag;
        publication.arrival = arrival;
        self.end_elsewhere(index, key);
        self.keep_until(key, now + expires, wheel);
        self.touch(|| Touched::Publication(key));
        self.recompose(now, index, &[aspect]);
        Ok(tag)
    }

    /// Refresh: the same content for longer. The tag stays, so that a publisher that never heard of
    /// the answer to its refresh can still name its publication.
    pub fn refresh(
        &mut self,
        now: Time,
        resource: &str,
        aspect: Aspect,
        tag: EntityTag,
        expires: Duration,
        wheel: &mut Wheel,
    ) -> Result<EntityTag, PublishRefused> {
        let (_, key) = self.find_publication(resource, aspect, tag)?;
        self.keep_until(key, now + expires, wheel);
        self.touch(|| Touched::Renewal(key));
        Ok(tag)
    }

    /// Remove: the publication is gone, and its tag means nothing any more.
    pub fn remove(
        &mut self,
        now: Time,
        resource: &str,
        aspect: Aspect,
        tag: EntityTag,
        wheel: &mut Wheel,
    ) -> Result<(), PublishRefused> {
        let (_, key) = self.find_publication(resource, aspect, tag)?;
        if let Some(timer) = self.publications[key].timer.take() {
            wheel.cancel(timer);
        }
        self.drop_publication(now, key);
        Ok(())
    }

    pub(super) fn expire_publication(&mut self, now: Time, key: u32) {
        self.publications[key].timer = None;
        self.drop_publication(now, key);
    }

    /// A dialog that has ended in one publication has ended in all that speak of it. Kamailio publishes the
    /// second state of a call before it knows the tag of the first: that one is never heard of again, and
    /// would keep the lamp lit to its expiry.
    fn end_elsewhere(&mut self, resource: u32, key: u32) {
        let Published::Dialogs { calls, .. } = &self.publications[key].content else {
            return;
        };
        let ended: Vec<Call> = calls
            .iter()
            .filter(|call| !call.is_live() && !call.call_id.is_empty())
            .cloned()
            .collect();
        if ended.is_empty() {
            return;
        }
        for &other in &self.resources[resource].publications {
            if other == key {
                continue;
            }
            if let Published::Dialogs { calls, .. } = &mut self.publications[other].content {
                let before = calls.len();
                calls.retain(|call| !ended.iter().any(|ended| is_same_dialog(call, ended)));
                if self.keeps && calls.len() < before {
                    self.touched.push(Touched::Publication(other));
                }
            }
        }
    }

    fn drop_publication(&mut self, now: Time, key: u32) {
        let publication = self.publications.remove(key);
        for (tally, held) in self
            .held
            .iter_mut()
            .zip(publication.held.into_iter().flatten())
        {
            tally.give(held);
        }
        self.touch_gone(publication.resource, publication.tag);
        let resource = &mut self.resources[publication.resource];
        resource.publications.retain(|other| *other != key);
        self.recompose(now, publication.resource, &[publication.content.aspect()]);
    }

    fn touch_gone(&mut self, resource: u32, tag: EntityTag) {
        let resource = Arc::clone(&self.resources[resource].key);
        self.touch(|| Touched::PublicationGone { resource, tag });
    }

    fn find_publication(
        &self,
        resource: &str,
        aspect: Aspect,
        tag: EntityTag,
    ) -> Result<(u32, u32), PublishRefused> {
        let index = self.find(resource).ok_or(PublishRefused::UnknownTag)?;
        self.resources[index]
            .publications
            .iter()
            .find(|key| {
                let publication = &self.publications[**key];
                publication.tag == tag && publication.content.aspect() == aspect
            })
            .map(|key| (index, *key))
            .ok_or(PublishRefused::UnknownTag)
    }

    fn unused_tag(&self, resource: u32, rng: &mut Rng) -> EntityTag {
        let known = &self.resources[resource].publications;
        loop {
            let tag = EntityTag(rng.next_u64());
            if known.iter().all(|key| self.publications[*key].tag != tag) {
                return tag;
            }
        }
    }

    pub(super) fn keep_until(&mut self, key: u32, when: Time, wheel: &mut Wheel) {
        let publication = &mut self.publications[key];
        publication.expires_at = when;
        let when = when + GRACE;
        match publication.timer {
            Some(timer) => {
                let moved = wheel.reschedule(timer, when);
                assert!(moved, "a live publication has a timer");
            }
            None => {
                let token = Token {
                    owner: Owner::Publication,
                    index: key,
                };
                publication.timer = Some(wheel.insert(when, token));
            }
        }
    }
}

/// One dialog, as far as two documents let it be seen: an early one may not have its tags yet.
fn is_same_dialog(one: &Call, other: &Call) -> bool {
    let agree = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
    one.id == other.id
        && one.call_id == other.call_id
        && agree(&one.local_tag, &other.local_tag)
        && agree(&one.remote_tag, &other.remote_tag)
}

/// What a publication says after another document of its publisher. A partial list of dialogs changes
/// those that it names; everything else replaces what was said before.
fn merged(before: Option<&Published>, content: Published) -> Published {
    match (before, content) {
        (
            Some(Published::Dialogs { calls: known, .. }),
            Published::Dialogs {
                calls,
                partial: true,
            },
        ) => {
            // What had ended was told when it did.
            let mut merged: Vec<Call> = known
                .iter()
                .filter(|call| call.is_live())
                .cloned()
                .collect();
            for call in calls {
                match merged.iter_mut().find(|other| other.id == call.id) {
                    Some(known) => *known = call,
                    None => merged.push(call),
                }
            }
            let surplus = merged.len().saturating_sub(limits::CALLS_PER_RESOURCE);
            merged.drain(..surplus);
            Published::Dialogs {
                calls: merged,
                partial: false,
            }
        }
        (_, content) => content,
    }
}
