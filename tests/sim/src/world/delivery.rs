//! What leaves the server and what becomes of it: mail between shards, datagrams that the kernel takes or refuses, and who
//! is at the address that they go to.

use std::net::SocketAddr;

use lampfield::partition::ShardId;
use lampfield::shard::mail::Mail;
use lampfield::transport::ListenerId;

use super::{Event, LASTING, MAIL_MS, PASSING, World};
use crate::edge::{Datagram, Parcel};
use crate::message::Message;
use crate::sockets::covers;
use crate::witness::{DialogName, Said};

impl World {
    /// Mail takes its time, and keeps its order. A question for a state may be lost, once in a row.
    pub(super) fn mail(&mut self, from: ShardId, to: ShardId, parcel: Parcel) {
        if let Parcel::Mail(Mail::Watch { resource, shard }) = &parcel
            && self.next_action.is_some()
        {
            let question = (resource.to_string(), shard.0);
            if !self.lost_questions.remove(&question) && self.random.per_mille(100) {
                self.trace
                    .note(self.now, format!("lost on its way to {to:?}: {parcel:?}"));
                self.lost_questions.insert(question);
                return;
            }
        }
        let delay = self.random.millis(0, MAIL_MS);
        let (when, way) = self.post.send(self.now, [from, to], parcel, delay);
        self.schedule(when, Event::Post(way));
    }

    /// Something comes to a shard from another thread.
    pub(super) fn deliver(&mut self, shard: ShardId, parcel: Parcel) -> Result<(), String> {
        // What was forwarded has a turn of its own, so that the edge sees it forwarded again.
        if matches!(parcel, Parcel::Block { .. }) {
            self.flush(shard)?;
        }
        self.edge.deliver(shard, self.now, parcel);
        self.turn(shard)
    }

    /// A datagram leaves the server, unless the kernel refuses it.
    pub(super) fn leave(&mut self, datagram: Datagram) -> Result<(), String> {
        self.datagrams += 1;
        let peer = datagram.peer;
        let sockets = &self.swaps.sockets;
        let from = sockets.leave_as(datagram.listener, datagram.source)?;
        self.trace.message(self.now, "<", peer, &datagram.bytes);
        if !self.is_hostile(peer) {
            let text = String::from_utf8_lossy(&datagram.bytes);
            let named = |place: &&&str| text.contains(**place);
            if let Some(place) = ["sip:0.0.0.0", "sip:[::]"].iter().find(named) {
                return Err(format!("nobody is at {place}:\n{text}"));
            }
            let said = self.witness.said(self.now, &datagram.bytes);
            match &said {
                Ok(Said::Answer { again: false }) => {
                    self.note_accepted(peer, from, &datagram.bytes);
                }
                Ok(Said::Notify { name, again, .. }) => {
                    let name = name.clone();
                    let listener = datagram.listener;
                    self.comes_from_where_it_should(listener, from, name, *again)?;
                }
                Ok(Said::Answer { again: true } | Said::AnswerToUnread) | Err(_) => {}
            }
            self.judge(said, &datagram)?;
        }
        if self.random.per_mille(self.weather.refused_per_mille) {
            self.witness.sends_fail = true;
            let lasting = self.random.per_mille(50);
            let errno = *self
                .random
                .pick(if lasting { &LASTING } else { &PASSING[..] });
            if lasting {
                self.witness.undeliverable(self.now, &datagram.bytes);
            }
            self.trace
                .note(self.now, format!("refused by the kernel: errno {errno}"));
            self.edge
                .send_failed(datagram.shard, self.now, datagram.tag, errno);
            return self.turn(datagram.shard);
        }
        for way in self.weather.arrivals(&mut self.random) {
            let bytes = datagram.bytes.clone();
            self.schedule(self.now + way, Event::ToPeer { peer, from, bytes });
        }
        Ok(())
    }

    /// A SUBSCRIBE of a phone was accepted.
    fn note_accepted(&mut self, peer: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let answer = Message::read_loosely(bytes);
        let subscribe = answer
            .header("CSeq")
            .is_some_and(|cseq| cseq.ends_with("SUBSCRIBE"));
        let name = answer
            .header("Call-ID")
            .and_then(|call_id| call_id.split('@').nth(1));
        let accepted = matches!(answer.status(), Some(200 | 204)) && subscribe;
        if accepted {
            let name = DialogName {
                call_id: answer.header("Call-ID").unwrap_or_default().to_string(),
                phone_tag: answer.tag("From").unwrap_or_default().to_string(),
                server_tag: answer.tag("To").unwrap_or_default().to_string(),
            };
            self.known.entry(name).or_default().request = Some(from);
        }
        if accepted
            && let Some(phone) = self
                .phones
                .iter_mut()
                .find(|phone| Some(phone.name.as_str()) == name)
        {
            phone.accepted = Some(self.now);
            // All of a phone's keys are where its last request came from, if they came by the same address of ours.
            for dialog in phone.keys.iter_mut().filter_map(|key| key.dialog.as_mut()) {
                let name = dialog.name();
                let known = name.and_then(|name| self.known.get(&name)?.request);
                if known == Some(from) {
                    dialog.known_at = peer;
                }
            }
        }
    }

    /// NOTIFYs leave from the address that the phone's last request came to, as long as it is listened on; one that is
    /// sent again leaves by the listener that it left by before, until that is closed.
    fn comes_from_where_it_should(
        &mut self,
        listener: ListenerId,
        from: SocketAddr,
        name: DialogName,
        again: bool,
    ) -> Result<(), String> {
        let going = self.swaps.going();
        let known = self.known.entry(name.clone()).or_default();
        let before = known.notify.replace(listener);
        let right = match (again, before, known.request) {
            (true, Some(before), _) => before == listener || !self.swaps.stays(before),
            (false, _, Some(due)) => due == from || going.is_some_and(|going| covers(going, due)),
            (true, None, _) | (false, _, None) => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "a NOTIFY leaves from {from} by {listener:?}, again: {again}; before by {before:?}; {known:?}: {name:?}"
            )),
        }
    }

    fn judge(&self, said: Result<Said, String>, datagram: &Datagram) -> Result<(), String> {
        let text = String::from_utf8_lossy(&datagram.bytes);
        match said {
            Ok(Said::Answer { .. } | Said::Notify { .. }) => Ok(()),
            // A mangled request may well have named somebody else in its Via or Contact.
            Ok(Said::AnswerToUnread) | Err(_) if self.hostile.is_some() && !text.contains("@p") => {
                Ok(())
            }
            Ok(Said::AnswerToUnread) => Err(format!("an answer to nothing:\n{text}")),
            Err(error) => Err(format!("{error}\n{text}")),
        }
    }

    pub(super) fn is_hostile(&self, address: SocketAddr) -> bool {
        self.hostile
            .as_ref()
            .is_some_and(|hostile| hostile.address == address)
    }

    /// A datagram reaches whoever is at that address now.
    pub(super) fn reach_peer(
        &mut self,
        peer: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        if self.is_hostile(peer) {
            return Ok(());
        }
        let message = match Message::read(bytes) {
            Ok(message) => message,
            // What was mangled may name any address, and be echoed to it.
            Err(_) if self.hostile.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(publisher) = self.publishers.iter_mut().find(|one| one.address == peer) {
            return publisher.receive(self.now, &message, &mut self.random);
        }
        let call_id = message.header("Call-ID").unwrap_or_default();
        let found = match peer == self.sbc {
            true => self
                .phones
                .iter()
                .position(|phone| call_id.ends_with(&format!("@{}", phone.name))),
            false => self.phones.iter().position(|phone| phone.address == peer),
        };
        let Some(index) = found else {
            return match self.former.contains(&peer) || self.hostile.is_some() {
                true => Ok(()),
                false => Err(format!(
                    "sent to {peer}, where nobody ever was:\n{}",
                    message.start
                )),
            };
        };
        if self.phones[index].is_off(self.now) {
            return Ok(());
        }
        let mut out = Vec::new();
        self.phones[index].receive(self.now, &message, &mut self.random, &mut out)?;
        for (after, bytes) in out {
            self.send(peer, from, bytes, after);
        }
        Ok(())
    }
}
