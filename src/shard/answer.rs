//! Answers to requests: written into a send slot that is free again after the flush.

use super::Shard;
use super::effects::{Effects, Send, SendTag};
use super::settings::Settings;
use crate::arena::{SlotId, SlotSize};
use crate::hex;
use crate::partition::Mark;
use crate::sip::answer::{Answer, destination};
use crate::sip::{Message, Method, Name, Request, Via, Writer};
use crate::stats::Counter;
use crate::subscription::package::allow_events;
use crate::transaction::server::Given;
use crate::transport::{ConnectionId, Flow, Listeners};

/// The methods that are served.
pub const ALLOW: &[u8] = b"SUBSCRIBE, PUBLISH, OPTIONS, CANCEL, ACK";

/// Why a request is refused, with what its answer must carry. Nothing remembers a refusal: the same
/// request again is refused again, under the same To tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    /// None: the usual phrase.
    pub reason: Option<&'static str>,
    pub with: With,
}

/// The header that a refusal carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Nothing,
    /// `Allow-Events`.
    Packages,
    /// `Allow`.
    Methods,
    /// `Min-Expires`, in seconds.
    MinExpires(u32),
    /// `Retry-After`, in seconds.
    RetryAfter(u32),
    /// `Accept`: the media types that would be taken.
    Accept(&'static [&'static str]),
    /// `Accept-Encoding: identity`.
    AcceptEncoding,
    /// `Unsupported`: every option tag that the request requires.
    Unsupported,
    /// `WWW-Authenticate`.
    Challenge {
        stale: bool,
    },
}

impl Refused {
    /// With a status alone.
    pub const fn plain(status: u16) -> Self {
        Refused {
            status,
            reason: None,
            with: With::Nothing,
        }
    }

    /// With a phrase that says more than the usual one.
    pub const fn because(status: u16, reason: &'static str) -> Self {
        Refused {
            status,
            reason: Some(reason),
            with: With::Nothing,
        }
    }

    /// With a header.
    pub const fn with(status: u16, with: With) -> Self {
        Refused {
            status,
            reason: None,
            with,
        }
    }
}

impl Shard {
    /// Answers with what was, or is now, given.
    pub(super) fn give(
        &mut self,
        request: &Request<'_>,
        flow: &Flow,
        given: Given,
        out: &mut Effects,
    ) {
        let mark = given.tag.map(|tag| tag.text());
        let check = self.refusal_tag(request.message);
        let to_tag: &[u8] = mark.as_ref().map_or(&check, |tag| tag);
        let subscribe = request.method == Method::Subscribe;
        let common = Answer {
            status: given.status,
            reason: None,
            source: flow.peer,
            to_tag: Some(to_tag),
            record_route: subscribe,
        };
        self.answer(request.message, flow, &common, out, |voice, writer| {
            match request.method {
                Method::Subscribe | Method::Publish => {
                    writer.number(Name::Expires, given.seconds);
                    writer.header(Name::AllowEvents, allow_events().as_bytes());
                }
                Method::Options => write_capabilities(writer),
                _ => {}
            }
            if subscribe {
                voice.write_contact(flow, writer);
            }
            if given.entity_tag != 0 {
                writer.header(Name::SipEtag, &hex::text(given.entity_tag));
            }
        });
    }

    /// Refuses a request.
    pub(super) fn refuse(
        &mut self,
        message: &Message<'_>,
        flow: &Flow,
        refused: Refused,
        out: &mut Effects,
    ) {
        let check = self.refusal_tag(message);
        let common = Answer {
            status: refused.status,
            reason: refused.reason,
            source: flow.peer,
            to_tag: Some(&check),
            record_route: false,
        };
        self.answer(message, flow, &common, out, |voice, writer| {
            match refused.with {
                With::Nothing => {}
                With::Packages => writer.header(Name::AllowEvents, allow_events().as_bytes()),
                With::Methods => writer.header(Name::Allow, ALLOW),
                With::MinExpires(seconds) => writer.number(Name::MinExpires, seconds),
                With::RetryAfter(seconds) => writer.number(Name::RetryAfter, seconds),
                With::Accept(types) => write_list(Name::Accept, types, writer),
                With::AcceptEncoding => writer.header(Name::AcceptEncoding, b"identity"),
                With::Unsupported => {
                    for tags in message.lines_of(Name::Require) {
                        writer.name(Name::Unsupported);
                        writer.unfolded(tags);
                        writer.line_end();
                    }
                }
                With::Challenge { stale } => voice.write_challenges(message, flow, stale, writer),
            }
        });
    }

    fn answer(
        &mut self,
        message: &Message<'_>,
        flow: &Flow,
        common: &Answer<'_>,
        out: &mut Effects,
        write_more: impl Fn(&Voice<'_>, &mut Writer<'_>),
    ) {
        let Some(via) = message.top_via_for_answer() else {
            self.stats.record(Counter::UnreadableNoVia);
            return;
        };
        for size in [SlotSize::Small, SlotSize::Large] {
            let Some(slot) = self.arena.take(size) else {
                break;
            };
            if let Some(length) = self.write_answer(slot, message, &via, common, &write_more) {
                self.arena.set_len(slot, length);
                let send = Send {
                    slot,
                    listener: flow.listener,
                    source: flow.local,
                    peer: destination(&via, flow.peer),
                    tag: SendTag::NONE,
                };
                let answer = Outgoing {
                    send,
                    connection: flow.connection,
                };
                let promises = common.status / 100 == 2;
                self.send_answer(answer, promises, out);
                self.count_response(common.status);
                return;
            }
            self.arena.release(slot);
        }
        self.stats.record(Counter::ResponseNoSlot);
    }

    fn write_answer(
        &mut self,
        slot: SlotId,
        message: &Message<'_>,
        via: &Via<'_>,
        common: &Answer<'_>,
        write_more: impl Fn(&Voice<'_>, &mut Writer<'_>),
    ) -> Option<usize> {
        let voice = Voice {
            settings: &self.settings,
            listeners: &self.listeners,
            unix_seconds: self.wall.unix_seconds(self.now),
        };
        let mut writer = Writer::new(self.arena.buffer(slot));
        common.write_to(message, via, &mut writer);
        write_more(&voice, &mut writer);
        writer.put(b"Content-Length: 0\r\n\r\n");
        writer.finish()
    }

    /// The To tag of what nothing remembers: the same for each retransmission of the request.
    fn refusal_tag(&self, message: &Message<'_>) -> [u8; 16] {
        let part = |name| message.first(name).unwrap_or(&[]);
        let check = self.settings.secrets.refusal_tag(&[
            part(Name::CallId),
            part(Name::From),
            part(Name::CSeq),
        ]);
        hex::text(check)
    }

    fn count_response(&mut self, status: u16) {
        self.stats.record(Counter::response(status));
    }
}

/// An answer in its slot, and its way: by a datagram, or by the connection that the request came by.
#[derive(Clone, Copy)]
pub(super) struct Outgoing {
    pub send: Send,
    pub connection: Option<ConnectionId>,
}

impl Outgoing {
    /// The same by the listener that sends now for the one which its request came in on: that may have been closed while
    /// the answer waited.
    pub(super) fn carried(self, listeners: &Listeners) -> Outgoing {
        let Send {
            listener,
            source,
            peer,
            ..
        } = self.send;
        let Some(to) = listeners.sender(listener) else {
            return self;
        };
        let flow = Flow {
            listener,
            local: source,
            peer,
            connection: self.connection,
        };
        let flow = listeners.carry(&flow, to);
        let send = Send {
            listener: flow.listener,
            source: flow.local,
            ..self.send
        };
        Outgoing { send, ..self }
    }
}

/// What answers say of ourselves.
struct Voice<'a> {
    settings: &'a Settings,
    listeners: &'a Listeners,
    unix_seconds: u64,
}

impl Voice<'_> {
    fn write_contact(&self, flow: &Flow, writer: &mut Writer<'_>) {
        if let Some(local) = self.listeners.contact(flow.listener) {
            let flow = self.listeners.carry(flow, local.listener.id);
            local.write_contact(&flow, writer);
        }
    }

    fn write_challenges(
        &self,
        message: &Message<'_>,
        flow: &Flow,
        stale: bool,
        writer: &mut Writer<'_>,
    ) {
        let Ok(request) = message.request() else {
            return;
        };
        let Some(from) = self.settings.watcher_of(&request) else {
            return;
        };
        let gate = self.listeners.gate(flow.listener);
        let asked = self
            .settings
            .asked(&request, flow, &from, gate, self.unix_seconds);
        let salt = self
            .settings
            .secrets
            .hash(&[request.call_id, request.via.branch.unwrap_or(&[])]) as u32;
        self.settings
            .rules
            .policy
            .write_challenges(&asked, stale, salt, |bytes| writer.put(bytes));
    }
}

//= RFC 3261 11.2
fn write_capabilities(writer: &mut Writer<'_>) {
    writer.header(Name::Allow, ALLOW);
    writer.header(Name::AllowEvents, allow_events().as_bytes());
    writer.header(Name::Supported, b"");
    for package in &crate::subscription::package::PACKAGES {
        write_list(Name::Accept, package.publish_types, writer);
    }
}

fn write_list(name: Name, values: &[&str], writer: &mut Writer<'_>) {
    writer.name(name);
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            writer.put(b", ");
        }
        writer.put(value.as_bytes());
    }
    writer.line_end();
}

/// A dialog's answer.
pub(super) fn given_in_dialog(status: u16, tag: Mark, seconds: u32) -> Given {
    Given {
        status,
        tag: Some(tag),
        seconds,
        entity_tag: 0,
    }
}
