//! Writes one NOTIFY: the dialog's own text, a document's head for this watcher, and the tail that all share.

use crate::config::limits;
use crate::hex;
use crate::partition::Mark;
use crate::sip::{Name, Writer};
use crate::subscription::package::{LeftOut, Package, Tail};
use crate::subscription::record::{Phase, Subscription};
use crate::subscription::text::Part;
use crate::transaction::client::COOKIE;
use crate::transport::{Flow, Local};

/// Everything that a NOTIFY is made of.
pub struct Notice<'a> {
    pub subscription: &'a Subscription,
    /// Our tag of the dialog.
    pub tag: Mark,
    pub branch: Mark,
    pub package: &'a Package,
    /// The way that it takes, and what it is sent on.
    pub flow: Flow,
    pub listener: &'a Local,
    /// Where the next request of the dialog shall go.
    pub contact: &'a Local,
    /// The dialog's own way, as it would be there.
    pub contact_flow: Flow,
    pub seconds_left: u32,
}

impl Written {
    /// Whether a datagram that arrives in one piece does not hold all that is to be said.
    pub fn is_oversize(&self) -> bool {
        self.length > limits::NOTIFY_BYTES || self.left_out > LeftOut::Nothing
    }
}

/// Room for the digits of Content-Length, written when the body is there.
const LENGTH_ROOM: &[u8; 5] = b"     ";

/// What all watchers of a state are shown, and the name of that.
#[derive(Clone, Debug)]
pub struct Shown {
    pub tail: Tail,
    /// A keyed hash of what it says: equal tags are equal documents, before and after a restart, and whatever they were
    /// rendered for.
    pub tag: u64,
    tag_text: [u8; 16],
}

impl Shown {
    pub fn new(tail: Tail, tag: u64) -> Self {
        let tag_text = hex::text(tag);
        Shown {
            tail,
            tag,
            tag_text,
        }
    }
}

/// A NOTIFY that stands in its slot.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub length: usize,
    /// Where the tail begins: what stands before it cannot be made shorter.
    pub head: usize,
    pub left_out: LeftOut,
    /// The entity tag of the state that it shows.
    pub tag: u64,
}

/// Writes the next NOTIFY of the subscription; None: it does not fit into `out`.
/// `room`: how long it should be at most; `tail` is told how many bytes of that are left for it.
//= RFC 6665 4.2.2
pub fn write<'t>(
    notice: &Notice<'_>,
    out: &mut [u8],
    room: usize,
    tail: impl FnOnce(usize) -> &'t Shown,
) -> Option<Written> {
    let cseq = notice.subscription.cseq + 1;
    let mut writer = Writer::new(out);
    write_head(notice, cseq, &mut writer);
    let tag_at = write_tag(&TAG_ROOM, &mut writer);
    write_type(notice, &mut writer);
    let head = writer.finish()?;
    let version = cseq - notice.subscription.first_cseq;
    let entity = notice.subscription.text.part(Part::Entity);
    let content_type = notice.subscription.content_type;
    let root = notice
        .package
        .head(content_type, version, entity, &mut out[head..])?;
    let start = head + root;
    let shown = tail(room.saturating_sub(start));
    if notice.subscription.bodiless {
        return write_bodiless(notice, cseq, shown, out);
    }
    let tail = &shown.tail;
    let end = start + tail.bytes.len();
    out.get_mut(start..end)?.copy_from_slice(&tail.bytes);
    out[tag_at..tag_at + TAG_ROOM.len()].copy_from_slice(&shown.tag_text);
    let digits_end = head - b"\r\n\r\n".len();
    write_length(
        end - head,
        &mut out[digits_end - LENGTH_ROOM.len()..digits_end],
    );
    Some(Written {
        length: end,
        head: start,
        left_out: tail.left_out,
        tag: shown.tag,
    })
}

/// The same for a phone that knows the state: it is told which one it is, and no more.
//= RFC 5839 6.2
fn write_bodiless(
    notice: &Notice<'_>,
    cseq: u32,
    shown: &Shown,
    out: &mut [u8],
) -> Option<Written> {
    let mut writer = Writer::new(out);
    write_head(notice, cseq, &mut writer);
    write_tag(&shown.tag_text, &mut writer);
    writer.put(b"Content-Length: 0\r\n\r\n");
    let length = writer.finish()?;
    Some(Written {
        length,
        head: length,
        left_out: LeftOut::Nothing,
        tag: shown.tag,
    })
}

/// Room for the digits of an entity tag, written when the state is chosen that is shown.
const TAG_ROOM: [u8; 16] = *b"                ";

/// Writes the entity tag, and returns where its digits stand.
//= RFC 5839 6.1
fn write_tag(tag: &[u8; 16], writer: &mut Writer<'_>) -> usize {
    writer.name(Name::SipEtag);
    let digits = writer.len();
    writer.put(tag);
    writer.line_end();
    digits
}

fn write_type(notice: &Notice<'_>, writer: &mut Writer<'_>) {
    let name = notice.package.type_name(notice.subscription.content_type);
    writer.header(Name::ContentType, name.as_bytes());
    writer.put(b"Content-Length:");
    writer.put(LENGTH_ROOM);
    writer.put(b"\r\n\r\n");
}

//= RFC 3261 12.2.1.1
fn write_head(notice: &Notice<'_>, cseq: u32, writer: &mut Writer<'_>) {
    let subscription = notice.subscription;
    let text = &subscription.text;
    writer.put(b"NOTIFY ");
    writer.put(text.part(Part::Target));
    writer.put(b" SIP/2.0\r\nVia: ");
    notice.listener.write_sent_by(&notice.flow, writer);
    writer.put(b";branch=");
    writer.put(COOKIE);
    writer.put(&notice.branch.text());
    writer.put(b";rport\r\nMax-Forwards: 70\r\n");
    writer.put(text.part(Part::Routes));
    writer.put(b"From: ");
    writer.put(text.part(Part::Local));
    writer.put(b";tag=");
    writer.put(&notice.tag.text());
    writer.put(b"\r\nTo: ");
    writer.put(text.part(Part::Remote));
    writer.put(b"\r\nCall-ID: ");
    writer.put(text.part(Part::CallId));
    writer.put(b"\r\nCSeq: ");
    writer.decimal(cseq);
    writer.put(b" NOTIFY\r\n");
    notice.contact.write_contact(&notice.contact_flow, writer);
    writer.put(b"Event: ");
    writer.put(notice.package.name.as_bytes());
    let id = text.part(Part::EventId);
    if !id.is_empty() {
        writer.put(b";id=");
        writer.put(id);
    }
    writer.put(b"\r\nSubscription-State: ");
    write_state(subscription, notice.seconds_left, writer);
    writer.put(b"\r\n");
}

//= RFC 6665 4.1.3
fn write_state(subscription: &Subscription, seconds_left: u32, writer: &mut Writer<'_>) {
    match subscription.phase {
        Phase::Active | Phase::Silent { .. } | Phase::Probed { .. } | Phase::Parked => {
            writer.put(b"active;expires=");
            writer.decimal(seconds_left);
            if let Some(tempo) = &subscription.tempo {
                tempo.rates().write(writer);
            }
        }
        Phase::Terminating(reason) => {
            writer.put(b"terminated;reason=");
            writer.put(reason.name().as_bytes());
        }
    }
}

/// Right-aligned: white space before a value is allowed.
fn write_length(length: usize, room: &mut [u8]) {
    let mut rest = length;
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return;
        }
    }
    assert_eq!(rest, 0, "a body of a datagram has at most five digits");
}
