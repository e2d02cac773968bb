//! Composition: from what sources and publishers say of one resource to one snapshot. Pure functions;
//! the result depends on the order of arrival only where two of them speak of the same thing.

use std::sync::Arc;

use crate::hint::{Aspect, Call, HintContent, Mailbox, Presence, Published, Snapshot, Versioned};
use crate::slab::Slab;
use crate::time::Time;

use super::hints::Hint;
use super::publications::Publication;
use super::{Resource, dialogs, presence};

/// The name under which publications count as a source of messages waiting.
pub const PUBLISH_SOURCE: &str = "publish";

/// What composition leaves to configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub dnd_shows: DndShows,
    /// The source whose word on messages waiting wins over a newer one of others;
    /// [`PUBLISH_SOURCE`] means publications.
    pub mailbox_source: Option<Box<str>>,
}

/// What "do not disturb" looks like to those who watch dialogs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DndShows {
    /// The lamp is on.
    #[default]
    Confirmed,
    /// The lamp is off.
    Terminated,
}

/// One voice in the composition.
pub(super) struct Contribution<'a> {
    pub source: &'a str,
    /// Later arrivals have higher numbers.
    pub arrival: u64,
    pub says: Says<'a>,
}

pub(super) enum Says<'a> {
    Hint(&'a HintContent),
    Published(&'a Published),
}

/// A call that has ended, and when it was seen to be gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub call: Call,
    pub at: Time,
}

/// The voices of a resource: sources in the order of their names, then publications, the oldest first.
pub(super) fn contributions<'a>(
    resource: &Resource,
    hints: &'a Slab<Hint>,
    publications: &'a Slab<Publication>,
) -> Vec<Contribution<'a>> {
    let said = resource.hints.iter().filter_map(|key| {
        let hint = &hints[*key];
        Some(Contribution {
            source: &hint.source,
            arrival: hint.arrival,
            says: Says::Hint(hint.content.as_ref()?),
        })
    });
    let published = resource.publications.iter().map(|key| {
        let publication = &publications[*key];
        Contribution {
            source: PUBLISH_SOURCE,
            arrival: publication.arrival,
            says: Says::Published(&publication.content),
        }
    });
    said.chain(published).collect()
}

/// The snapshot that follows, and the calls to be remembered as ended; None if nothing differs.
pub(super) fn compose(
    now: Time,
    version: u64,
    settings: &Settings,
    resource: &Resource,
    contributions: &[Contribution<'_>],
    aspects: &[Aspect],
) -> Option<(Snapshot, Vec<Ended>)> {
    let mut snapshot = Snapshot::clone(&resource.snapshot);
    let mut ended = None;
    for aspect in aspects {
        match aspect {
            Aspect::Dialogs => {
                let live = dialogs::live_calls(&resource.key, settings, contributions);
                let before = &resource.snapshot.dialogs.content;
                let remembered =
                    dialogs::ended_calls(now, before, &live, contributions, &resource.ended);
                let calls: Vec<Call> = live
                    .into_iter()
                    .chain(remembered.iter().map(|ended| ended.call.clone()))
                    .collect();
                if calls != **before {
                    snapshot.dialogs = Versioned {
                        version,
                        content: calls.into(),
                    };
                    ended = Some(remembered);
                }
            }
            Aspect::Presence => {
                let presence: Presence = presence::compose(&resource.key, contributions);
                if presence != *snapshot.presence.content {
                    snapshot.presence = Versioned {
                        version,
                        content: Arc::new(presence),
                    };
                }
            }
            Aspect::Mailbox => {
                let mailbox = mailbox(settings, contributions);
                if mailbox != snapshot.mailbox.content.as_deref() {
                    snapshot.mailbox = Versioned {
                        version,
                        content: mailbox.cloned().map(Arc::new),
                    };
                }
            }
        }
    }
    let differs = Aspect::ALL
        .into_iter()
        .any(|aspect| snapshot.version(aspect) == version);
    differs.then(|| (snapshot, ended.unwrap_or_else(|| resource.ended.clone())))
}

/// The configured source's word on messages waiting, else the newest.
fn mailbox<'a>(settings: &Settings, contributions: &[Contribution<'a>]) -> Option<&'a Mailbox> {
    contributions
        .iter()
        .filter_map(|contribution| {
            let mailbox = match contribution.says {
                Says::Hint(content) => content.mailbox.as_ref()?,
                Says::Published(Published::Mailbox(mailbox)) => mailbox,
                Says::Published(Published::Dialogs { .. } | Published::Presence(_)) => return None,
            };
            let preferred = settings.mailbox_source.as_deref() == Some(contribution.source);
            Some(((preferred, contribution.arrival), mailbox))
        })
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, mailbox)| mailbox)
}

/// A name for what a source says without naming it itself: the same whenever the same source
/// speaks of the same resource, and different from those of other sources.
pub(super) fn derived_id(prefix: &str, resource: &str, source: &str) -> Box<str> {
    // FNV-1a: nothing depends on this being hard to guess or to hit.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in resource.bytes().chain([0]).chain(source.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{prefix}{hash:016x}").into()
}
