//! The event packages: the one place where the next package goes in.
//!
//! A package turns a snapshot into documents and publications into plain data. It knows nothing of
//! subscriptions, dialogs or sockets, and keeps no state.
//!
//! A document is made in two parts. Its *tail*, everything after the opening tag of the root element,
//! is the same for every watcher and is rendered once. Its *head*, the XML declaration and that tag
//! with its own `version` and `entity`, is made for each NOTIFY.

mod dialog;
mod message_summary;
mod presence;
mod xml_in;
mod xml_out;
mod xpidf;

use bytes::Bytes;

use crate::hint::{Aspect, Published, Snapshot};

/// The number of a package: its place in [`PACKAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageId(pub u8);

/// The number of a content type within its package: its place in [`Package::types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentTypeId(pub u8);

/// One event package (RFC 6665 7.2).
pub struct Package {
    pub id: PackageId,
    /// The value of the Event header field, compared byte by byte.
    pub name: &'static str,
    /// The side of a resource that it shows: a change of its version is a change for the watchers.
    pub aspect: Aspect,
    /// Granted to a SUBSCRIBE without Expires.
    pub default_expires_seconds: u32,
    /// What NOTIFY can carry, the default first, then in order of preference.
    pub types: &'static [&'static str],
    /// What PUBLISH may carry.
    pub publish_types: &'static [&'static str],
    render: fn(ContentTypeId, &str, &Snapshot, &RenderOptions) -> Rendered,
    head: fn(ContentTypeId, u32, &[u8], &mut [u8]) -> Option<usize>,
    parse: fn(usize, &[u8]) -> Result<Published, Malformed>,
}

/// What a profile or a policy wants of a document. Documents of equal options are equal and may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RenderOptions {
    /// Every dialog instead of the most telling one.
    pub all_dialogs: bool,
    /// No call-id, tags, identities, targets or notes: the watcher may know that, but not with whom.
    pub withhold_details: bool,
    /// Message summaries bear counts, not only the first line.
    pub message_counts: bool,
    /// The tail should stay at or below this many bytes; what is least needed goes first.
    pub tail_size_max: usize,
}

impl Default for RenderOptions {
    fn default() -> Self {
        RenderOptions {
            all_dialogs: false,
            withhold_details: false,
            message_counts: true,
            tail_size_max: ROOMS[0],
        }
    }
}

/// The steps in which tails are made to fit. The first is for connections only: no datagram has that room.
const ROOMS: [usize; 7] = [6_144, 1_024, 768, 640, 512, 384, 256];

impl RenderOptions {
    /// These options for a document whose tail may have `room` bytes, and the number of the step that this
    /// is. Rooms are taken in steps, so that watchers whose heads differ a little still share a tail.
    pub fn within(&self, room: usize) -> (u8, RenderOptions) {
        let step = ROOMS.iter().take_while(|step| **step > room).count();
        let fits = ROOMS.get(step).copied().unwrap_or(0);
        let options = RenderOptions {
            tail_size_max: self.tail_size_max.min(fits),
            ..*self
        };
        (step as u8, options)
    }
}

/// What of a document was left out so that it fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    #[default]
    Nothing,
    /// Who, with whom, by which words: what a lamp shows is there.
    Details,
    /// All but the most telling dialog, tuple or count.
    Others,
}

/// What a package has made of a snapshot.
type Rendered = (Vec<u8>, LeftOut);

/// A document behind the opening tag of its root element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    pub bytes: Bytes,
    pub left_out: LeftOut,
}

/// Why a published document was refused, in words for the log and the reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The most content types of one package.
const TYPES_MAX: usize = 4;
/// The names of all packages, as a header field lists them.
const ALLOW_EVENTS: &str = "dialog, presence, message-summary";

/// Every package, in the order of their numbers.
pub static PACKAGES: [Package; 3] = [dialog::PACKAGE, presence::PACKAGE, message_summary::PACKAGE];

/// The package of an Event header field's value.
pub fn by_name(name: &[u8]) -> Option<&'static Package> {
    PACKAGES
        .iter()
        .find(|package| package.name.as_bytes() == name)
}

/// The value of an Allow-Events header field.
pub const fn allow_events() -> &'static str {
    ALLOW_EVENTS
}

impl Package {
    /// The package of this number.
    pub fn from_id(id: PackageId) -> &'static Package {
        &PACKAGES[usize::from(id.0)]
    }

    /// The media type of this number.
    pub fn type_name(&self, content_type: ContentTypeId) -> &'static str {
        self.types[usize::from(content_type.0)]
    }

    /// The best of our types for an Accept header field, given as media ranges with their q in
    /// thousandths. No range at all: the default type. None: nothing in common (406).
    pub fn negotiate<'a>(
        &self,
        accept: impl Iterator<Item = (&'a [u8], u16)>,
    ) -> Option<ContentTypeId> {
        let mut quality = [None; TYPES_MAX];
        let mut any_range = false;
        for (range, thousandths) in accept {
            any_range = true;
            for (offered, best) in self.types.iter().zip(&mut quality) {
                // The most specific range that covers a type decides for it.
                if let Some(specificity) = specificity(range, offered.as_bytes()) {
                    *best = (*best).max(Some((specificity, thousandths)));
                }
            }
        }
        if !any_range {
            return Some(ContentTypeId(0));
        }
        let mut chosen = None;
        for (number, covered) in quality.into_iter().enumerate() {
            let thousandths = covered.map_or(0, |(_, thousandths)| thousandths);
            if thousandths > chosen.map_or(0, |(best, _)| best) {
                chosen = Some((thousandths, ContentTypeId(number as u8)));
            }
        }
        chosen.map(|(_, content_type)| content_type)
    }

    /// The tail of the document that shows `resource` in `snapshot`.
    pub fn tail(
        &self,
        content_type: ContentTypeId,
        resource: &str,
        snapshot: &Snapshot,
        options: &RenderOptions,
    ) -> Tail {
        let (bytes, left_out) = (self.render)(content_type, resource, snapshot, options);
        Tail {
            bytes: Bytes::from(bytes),
            left_out,
        }
    }

    /// Writes a document's head for one watcher, whose own words `entity` is, and returns its length:
    /// the body is head and tail. None: `out` is too short; [`Package::head_size_max`] says what is enough.
    pub fn head(
        &self,
        content_type: ContentTypeId,
        version: u32,
        entity: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        (self.head)(content_type, version, entity, out)
    }

    /// No head is longer than this.
    pub const fn head_size_max(entity: &[u8]) -> usize {
        320 + 6 * entity.len()
    }

    /// Whether PUBLISH may carry this media type, and under which number. None: 415 with
    /// [`Package::publish_types`] as Accept.
    pub fn publish_type(&self, media_type: &[u8]) -> Option<usize> {
        self.publish_types
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(media_type))
    }

    /// What a published document says. An error is a 400; the former state stands.
    pub fn parse(&self, publish_type: usize, body: &[u8]) -> Result<Published, Malformed> {
        (self.parse)(publish_type, body)
    }
}

/// The first of some renderings that fits, or the last: each says less than the one before.
fn fitting<T>(
    steps: impl IntoIterator<Item = (T, LeftOut)>,
    options: &RenderOptions,
    document: impl Fn(T) -> Vec<u8>,
) -> Rendered {
    let mut fitted = (Vec::new(), LeftOut::Nothing);
    let mut whole = None;
    for (step, left_out) in steps {
        let bytes = document(step);
        // Where there was nothing to leave out, nothing was.
        let same = *whole.get_or_insert(bytes.len()) == bytes.len();
        let fits = bytes.len() <= options.tail_size_max;
        let left_out = if same { LeftOut::Nothing } else { left_out };
        fitted = (bytes, left_out);
        if fits {
            break;
        }
    }
    fitted
}

/// How exactly a media range covers a media type; None: not at all.
fn specificity(range: &[u8], media_type: &[u8]) -> Option<u8> {
    if range.eq_ignore_ascii_case(media_type) {
        return Some(2);
    }
    let range_main = range.strip_suffix(b"/*")?;
    if range_main == b"*" {
        return Some(0);
    }
    let slash = memchr::memchr(b'/', media_type)?;
    media_type[..slash]
        .eq_ignore_ascii_case(range_main)
        .then_some(1)
}

#[cfg(test)]
mod tests;
