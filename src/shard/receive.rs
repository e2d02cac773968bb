//! A datagram: whose is it, what is it, and who handles it. Whatever a peer got wrong ends here,
//! as an answer or as a counted drop.

use super::Shard;
use super::answer::{Refused, With};
use super::effects::{Effects, Send, SendTag};
use crate::arena::SlotSize;
use crate::partition::{Mark, Partition};
use crate::sip::{Message, Method, Name, QuickAnswer, Request, Start, Unreadable, quick_answer};
use crate::stats::Counter;
use crate::time::Time;
use crate::transaction::client::COOKIE;
use crate::transaction::server::{Given, Known, RequestKey};
use crate::transport::{Flow, Lessee, ListenerId, stun};

/// A datagram as it came.
#[derive(Clone, Copy)]
pub(super) struct Datagram<'a> {
    pub flow: Flow,
    pub bytes: &'a [u8],
    pub truncated: bool,
    pub forwarded: bool,
}

impl Shard {
    pub(super) fn on_datagram(&mut self, now: Time, mut datagram: Datagram<'_>, out: &mut Effects) {
        // It may have been closed while the datagram was on its way from another shard.
        let Some(listener) = self.listeners.sender(datagram.flow.listener) else {
            self.stats.record(Counter::DatagramUnknownListener);
            return;
        };
        datagram.flow = self.listeners.carry(&datagram.flow, listener);
        if let Some(answer) = quick_answer(datagram.bytes) {
            return self.on_quick_answer(now, datagram, answer, out);
        }
        let scanned = if datagram.truncated {
            self.stats.record(Counter::DatagramTruncated);
            Message::scan_cut(datagram.bytes)
        } else {
            Message::scan(datagram.bytes)
        };
        match scanned {
            Err(unreadable) => {
                self.count_unreadable(unreadable);
                if unreadable == Unreadable::Stun && datagram.flow.connection.is_none() {
                    return self.answer_stun(&datagram, out);
                }
                if let Some(connection) = datagram.flow.connection {
                    self.close_unreadable(now, connection, out);
                }
            }
            Ok(message) => match message.start {
                Start::Response { .. } => self.on_answer_message(now, datagram, &message, out),
                Start::Request { .. } => self.on_request_message(now, datagram, &message, out),
            },
        }
    }

    //= RFC 5626 8
    fn answer_stun(&mut self, datagram: &Datagram<'_>, out: &mut Effects) {
        let Datagram { flow, bytes, .. } = datagram;
        let Some(slot) = self.arena.take(SlotSize::Small) else {
            return self.stats.record(Counter::ResponseNoSlot);
        };
        out.released.push(slot);
        let buffer = self.arena.buffer(slot);
        if let Some(length) = stun::answer(bytes, flow.peer, buffer) {
            self.arena.set_len(slot, length);
            out.sends.push(Send {
                slot,
                listener: flow.listener,
                source: flow.local,
                peer: flow.peer,
                tag: SendTag::NONE,
            });
        }
    }

    fn count_unreadable(&mut self, unreadable: Unreadable) {
        let (outcome, reason) = match unreadable {
            Unreadable::KeepAlive => (Counter::DatagramKeepalive, None),
            Unreadable::Stun => (Counter::DatagramStun, None),
            Unreadable::StartLine => (
                Counter::DatagramUnreadable,
                Some(Counter::UnreadableStartLine),
            ),
            Unreadable::Response => (Counter::DatagramUnreadable, Some(Counter::UnreadableOther)),
            Unreadable::NoEnd => (Counter::DatagramUnreadable, Some(Counter::UnreadableHeader)),
            Unreadable::TooLong => (
                Counter::DatagramUnreadable,
                Some(Counter::UnreadableTooLong),
            ),
        };
        self.stats.record(outcome);
        if let Some(reason) = reason {
            self.stats.record(reason);
        }
    }

    /// An answer whose branch was found without looking at the rest.
    fn on_quick_answer(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        answer: QuickAnswer<'_>,
        out: &mut Effects,
    ) {
        let Some(mark) = branch_mark(answer.branch) else {
            return self.stats.record(Counter::AnswerStray);
        };
        if self.hand_over(&datagram, mark.partition, out) {
            return;
        }
        self.stats.record(Counter::DatagramAnswer);
        match answer.status {
            200..=299 => self.on_answer(now, mark, answer.status, None, out),
            // What an error means may hang on its Retry-After.
            _ => match Message::scan(datagram.bytes) {
                Ok(message) => {
                    let retry_after = message
                        .response()
                        .and_then(|response| response.retry_after());
                    self.on_answer(now, mark, answer.status, retry_after, out);
                }
                Err(_) => self.stats.record(Counter::UnreadableOther),
            },
        }
    }

    /// An answer that is written in another way than ours are mirrored: folded, padded, compact.
    fn on_answer_message(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        message: &Message<'_>,
        out: &mut Effects,
    ) {
        let Some(response) = message.response() else {
            self.stats.record(Counter::DatagramUnreadable);
            return self.stats.record(Counter::UnreadableOther);
        };
        let Some(mark) = branch_mark(response.branch) else {
            return self.stats.record(Counter::AnswerStray);
        };
        if self.hand_over(&datagram, mark.partition, out) {
            return;
        }
        self.stats.record(Counter::DatagramAnswer);
        self.on_answer(now, mark, response.status, response.retry_after(), out);
    }

    fn on_request_message(
        &mut self,
        now: Time,
        datagram: Datagram<'_>,
        message: &Message<'_>,
        out: &mut Effects,
    ) {
        let request = match message.request() {
            Ok(request) => request,
            Err(refusal) => {
                self.stats.record(Counter::DatagramRequest);
                if message.is_answerable() {
                    let refused = Refused::because(refusal.status, refusal.reason);
                    self.refuse(message, &datagram.flow, refused, out);
                } else {
                    self.stats.record(Counter::UnreadableNoDialog);
                }
                return;
            }
        };
        if self.streams.hears_names() {
            self.hear_names(&request, &datagram.flow, out);
        }
        let changes = matches!(request.method, Method::Subscribe | Method::Publish);
        if changes && !datagram.forwarded && !self.may_come(now, &request, &datagram.flow) {
            self.stats.record(Counter::DatagramRequest);
            let limit = Counter::LimitRequestsPerSource;
            let refused = self.limited(limit, &request, &datagram.flow);
            return self.refuse(message, &datagram.flow, refused, out);
        }
        if let Some(partition) = self.settings.partition_of(&request) {
            let owner = self.owners.of(partition);
            if owner != self.settings.shard {
                let lane = &out.forwards[usize::from(owner.0)];
                if self.is_too_much_to_forward(&request, &datagram.flow, lane) {
                    self.stats.record(Counter::DatagramRequest);
                    let limit = Counter::LimitForwarded;
                    let refused = self.limited(limit, &request, &datagram.flow);
                    return self.refuse(message, &datagram.flow, refused, out);
                }
            }
            if self.hand_over(&datagram, partition, out) {
                return;
            }
        }
        self.stats.record(Counter::DatagramRequest);
        self.on_request(now, &request, &datagram.flow, out);
    }

    /// Mails a datagram to the shard that owns it; false: it is ours, or nobody's.
    fn hand_over(
        &mut self,
        datagram: &Datagram<'_>,
        partition: Partition,
        out: &mut Effects,
    ) -> bool {
        let owner = self.owners.of(partition);
        if owner == self.settings.shard {
            return false;
        }
        let counter = if datagram.forwarded {
            // The shards disagree about who owns what: it must not travel for ever.
            Counter::DatagramForwardedTwice
        } else if out.forward(self.now, owner, &datagram.flow, datagram.bytes) {
            if let Some(connection) = datagram.flow.connection {
                self.streams.note_user(connection, owner);
            }
            Counter::DatagramForwarded
        } else {
            Counter::DatagramForwardFull
        };
        self.stats.record(counter);
        true
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, flow: &Flow, out: &mut Effects) {
        self.count_request(request.method);
        match request.method {
            Method::Subscribe | Method::Publish => self.on_transaction(now, request, flow, out),
            Method::Options => {
                let given = Given {
                    status: 200,
                    tag: None,
                    seconds: 0,
                    entity_tag: 0,
                };
                match unsupported(request.message) {
                    Some(refused) => self.refuse(request.message, flow, refused, out),
                    None => self.give(request, flow, given, out),
                }
            }
            //= RFC 3261 9.2
            Method::Cancel => self.on_cancel(request, flow, out),
            // It acknowledges a refusal that nothing remembers.
            Method::Ack => {}
            Method::Notify => self.refuse(request.message, flow, Refused::plain(481), out),
            Method::Bye if request.to_tag.is_some() => {
                self.refuse(request.message, flow, Refused::plain(481), out);
            }
            //= RFC 3261 8.2.1
            _ => self.refuse(
                request.message,
                flow,
                Refused::with(405, With::Methods),
                out,
            ),
        }
    }

    /// A request that changes something: once, however often it comes.
    fn on_transaction(&mut self, now: Time, request: &Request<'_>, flow: &Flow, out: &mut Effects) {
        // What comes by a connection comes once: timer J is 0.
        //= RFC 3261 17.2.2
        let key = match flow.connection {
            None => Some(self.request_key(request)),
            Some(_) => None,
        };
        let known = key.map_or(Known::New, |key| {
            self.servers.known(key, request.to_tag.is_some())
        });
        match known {
            Known::Retransmission(given, first) => {
                self.stats.record(Counter::RetransmissionAnswered);
                self.journal.promise_again();
                let flow = self.listeners.answering(first, flow);
                return self.give(request, &flow, given, out);
            }
            Known::Merged => {
                let refused = self.merged();
                return self.refuse(request.message, flow, refused, out);
            }
            Known::New => {}
        }
        let handled = match unsupported(request.message) {
            Some(refused) => Err(refused),
            None => match self.take_on(now, request, flow) {
                Err(refused) => Err(refused),
                Ok(()) if request.method == Method::Publish => self.on_publish(now, request, flow),
                Ok(()) => self.on_subscribe(now, request, flow, out),
            },
        };
        self.keep_state(out);
        match handled {
            Ok(given) => {
                if let Some(key) = key {
                    self.remember(now, key, given, flow.listener);
                }
                self.give(request, flow, given, out);
            }
            Err(refused) => self.refuse(request.message, flow, refused, out),
        }
    }

    fn remember(&mut self, now: Time, key: RequestKey, given: Given, listener: ListenerId) {
        self.listeners.take(listener, Lessee::Server);
        let wheel = &mut self.wheel;
        if let Some(listener) = self.servers.remember(now, key, given, listener, wheel) {
            self.listeners.give(listener, Lessee::Server);
            self.stats.record(Counter::LimitServerTransactions);
        }
    }

    fn on_cancel(&mut self, request: &Request<'_>, flow: &Flow, out: &mut Effects) {
        let completed = [Method::Subscribe, Method::Publish]
            .into_iter()
            .any(|method| {
                let key = self.request_key(&Request { method, ..*request });
                matches!(self.servers.known(key, true), Known::Retransmission(..))
            });
        if completed {
            let given = Given {
                status: 200,
                tag: None,
                seconds: 0,
                entity_tag: 0,
            };
            self.give(request, flow, given, out);
        } else {
            self.refuse(request.message, flow, Refused::plain(481), out);
        }
    }

    //= RFC 3261 17.2.3
    fn request_key(&self, request: &Request<'_>) -> RequestKey {
        let cseq = request.cseq.to_le_bytes();
        let method = request.method.as_bytes();
        let secrets = &self.settings.secrets;
        let transaction = match request.via.branch {
            Some(branch) if request.via.has_magic_cookie() => {
                secrets.hash_wide(&[branch, request.via.sent_by(), method])
            }
            // RFC 2543: everything that a retransmission repeats.
            Some(_) | None => secrets.hash_wide(&[
                request.uri,
                request.from_tag,
                request.to_tag.unwrap_or(&[]),
                request.call_id,
                &cseq,
                method,
                request.via.raw,
            ]),
        };
        RequestKey {
            transaction,
            merge: secrets.hash(&[request.from_tag, request.call_id, &cseq, method]),
        }
    }

    fn count_request(&mut self, method: Method<'_>) {
        self.stats.record(match method {
            Method::Subscribe => Counter::RequestSubscribe,
            Method::Publish => Counter::RequestPublish,
            Method::Notify => Counter::RequestNotify,
            Method::Options => Counter::RequestOptions,
            Method::Invite => Counter::RequestInvite,
            Method::Ack => Counter::RequestAck,
            Method::Bye => Counter::RequestBye,
            Method::Cancel => Counter::RequestCancel,
            Method::Register => Counter::RequestRegister,
            _ => Counter::RequestOther,
        });
    }
}

/// No extension is supported, so any that is required is one too many.
//= RFC 3261 8.2.2.3
fn unsupported(message: &Message<'_>) -> Option<Refused> {
    message
        .values(Name::Require)
        .next()
        .map(|_| Refused::with(420, With::Unsupported))
}

/// The mark that we put behind the cookie of a branch.
fn branch_mark(branch: &[u8]) -> Option<Mark> {
    Mark::read(branch.strip_prefix(COOKIE)?)
}
