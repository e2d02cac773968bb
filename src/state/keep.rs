//! What of the compositor is to outlive the process: which records have to be written anew, what they say, and how
//! a record becomes what it was. It writes nothing itself.

use std::borrow::Cow;
use std::sync::Arc;

use crate::hint::{Aspect, HintContent, Order, Published, ResourceKey};
use crate::time::Time;
use crate::wheel::Wheel;

use super::hints::set_timer;
use super::publications::{EntityTag, Publication};
use super::{Compositor, Refused};

/// A record that is not what it ought to be any more. In order: a later one of the same name says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// What a source says, or that it took it back: a number for [`Compositor::kept_hint`].
    Hint(u32),
    HintGone {
        resource: ResourceKey,
        source: Arc<str>,
    },
    /// A number for [`Compositor::kept_publication`].
    Publication(u32),
    /// It holds until another time than was written: the same number.
    Renewal(u32),
    PublicationGone {
        resource: ResourceKey,
        tag: EntityTag,
    },
    Epoch {
        source: Arc<str>,
        epoch: u64,
    },
    EpochGone {
        source: Arc<str>,
    },
}

/// Where [`Compositor::touch_some`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    Sources,
    /// From this number on.
    Hints(u32),
    Publications(u32),
}

/// What a source says of a resource, or the memory that it took it back.
pub struct KeptHint<'a> {
    pub resource: &'a ResourceKey,
    pub source: &'a Arc<str>,
    pub order: Option<Order>,
    pub epoch: u64,
    pub arrival: u64,
    pub expires_at: Option<Time>,
    pub content: Option<Cow<'a, HintContent>>,
}

/// What a publisher says of a resource.
pub struct KeptPublication<'a> {
    pub resource: &'a ResourceKey,
    pub tag: EntityTag,
    pub arrival: u64,
    pub expires_at: Time,
    pub content: Cow<'a, Published>,
    /// Whom it is counted under, as for [`Compositor::credit`].
    pub publisher: Option<[u64; 3]>,
    /// By which request it is what it is, as for [`Compositor::note_asked`].
    pub asked: Option<(u64, u16)>,
}

impl Compositor {
    /// From now on it says which records have to be written.
    pub fn keep(&mut self) {
        self.keeps = true;
    }

    /// What has to be written since this was last asked, in order; `empty` takes its place.
    pub fn swap_touched(&mut self, empty: &mut Vec<Touched>) {
        core::mem::swap(&mut self.touched, empty);
    }

    /// Everything has to be written once more, some at a time: from there on. None: that was the last of it.
    pub fn touch_some(&mut self, from: Shelf, most: usize) -> Option<Shelf> {
        match from {
            Shelf::Sources => {
                for place in 0..self.sources.len() {
                    let (source, epoch) = self.source(place);
                    self.touch(|| Touched::Epoch { source, epoch });
                }
                Some(Shelf::Hints(0))
            }
            Shelf::Hints(from) => {
                let mut next = from;
                for _ in 0..most {
                    let Some(key) = self.hints.next_key(next) else {
                        return Some(Shelf::Publications(0));
                    };
                    self.touch(|| Touched::Hint(key));
                    next = key + 1;
                }
                Some(Shelf::Hints(next))
            }
            Shelf::Publications(from) => {
                let mut next = from;
                for _ in 0..most {
                    let key = self.publications.next_key(next)?;
                    self.touch(|| Touched::Publication(key));
                    next = key + 1;
                }
                Some(Shelf::Publications(next))
            }
        }
    }

    /// Whether anything has to be written.
    pub fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What stands under a number of [`Touched::Hint`]; None: it has gone since, and that was said too.
    pub fn kept_hint(&self, key: u32) -> Option<KeptHint<'_>> {
        let hint = self.hints.get(key)?;
        Some(KeptHint {
            resource: &self.resources[hint.resource].key,
            source: &hint.source,
            order: hint.order,
            epoch: hint.epoch,
            arrival: hint.arrival,
            expires_at: hint.expires_at,
            content: hint.content.as_ref().map(Cow::Borrowed),
        })
    }

    /// What stands under a number of [`Touched::Publication`]; None: it has gone since, and that was said too.
    pub fn kept_publication(&self, key: u32) -> Option<KeptPublication<'_>> {
        let publication = self.publications.get(key)?;
        Some(KeptPublication {
            resource: &self.resources[publication.resource].key,
            tag: publication.tag,
            arrival: publication.arrival,
            expires_at: publication.expires_at,
            content: Cow::Borrowed(&publication.content),
            publisher: publication.held.map(|held| self.names_of(held)),
            asked: publication.asked,
        })
    }

    /// A hint is what it was in an earlier process.
    pub fn restore_hint(
        &mut self,
        now: Time,
        kept: KeptHint<'_>,
        wheel: &mut Wheel,
    ) -> Result<(), Refused> {
        let epoch = kept.order.map_or(0, |order| order.epoch).max(kept.epoch);
        if epoch > 0 {
            self.restore_epoch(now, kept.source, epoch, wheel)?;
        }
        let key = match self.find_hint(kept.resource, kept.source) {
            Some(key) => key,
            None => self.create_hint(kept.resource, kept.source)?,
        };
        self.clock = self.clock.max(kept.arrival);
        let hint = &mut self.hints[key];
        let resource = hint.resource;
        hint.order = kept.order;
        hint.epoch = kept.epoch;
        hint.arrival = kept.arrival;
        hint.expires_at = kept.expires_at;
        hint.content = kept.content.map(Cow::into_owned);
        set_timer(&mut hint.timer, key, kept.expires_at, wheel);
        self.recompose(now, resource, &Aspect::ALL);
        Ok(())
    }

    /// A source was in this epoch. One that has come further since stays where it is.
    pub fn restore_epoch(
        &mut self,
        now: Time,
        source: &Arc<str>,
        epoch: u64,
        wheel: &mut Wheel,
    ) -> Result<(), Refused> {
        match self.begin_epoch(now, source, epoch, wheel) {
            Ok(()) | Err(Refused::Stale { .. }) => Ok(()),
            Err(Refused::Full { limit }) => Err(Refused::Full { limit }),
        }
    }

    /// A publication is what it was in an earlier process, under the same tag.
    pub fn restore_publication(
        &mut self,
        now: Time,
        kept: KeptPublication<'_>,
        wheel: &mut Wheel,
    ) -> Result<(), Refused> {
        if self.publications.is_full() {
            return Err(Refused::Full {
                limit: "publications",
            });
        }
        let index = self.find_or_create(kept.resource)?;
        self.clock = self.clock.max(kept.arrival);
        let aspect = kept.content.aspect();
        let publication = Publication {
            resource: index,
            tag: kept.tag,
            content: kept.content.into_owned(),
            arrival: kept.arrival,
            expires_at: kept.expires_at,
            timer: None,
            held: kept.publisher.map(|names| self.hold(names)),
            asked: kept.asked,
        };
        let key = self
            .publications
            .insert(publication)
            .unwrap_or_else(|_| unreachable!("there was room"));
        // They come in the order of their tags, and the oldest goes first.
        let known = &self.resources[index].publications;
        let place = known.partition_point(|key| self.publications[*key].arrival < kept.arrival);
        self.resources[index].publications.insert(place, key);
        self.keep_until(key, kept.expires_at, wheel);
        self.recompose(now, index, &[aspect]);
        Ok(())
    }

    pub(super) fn touch(&mut self, touched: impl FnOnce() -> Touched) {
        if self.keeps {
            self.touched.push(touched());
        }
    }
}
