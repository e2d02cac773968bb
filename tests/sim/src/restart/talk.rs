//! What is said to the server and by it: the control thread, the shards among themselves, and the phones.

use std::net::SocketAddr;

use lampfield::hint::HintUpdate;
use lampfield::partition::ShardId;
use lampfield::shard::control::{Ask, HintChange, Reply, Request};
use lampfield::shard::effects::Event as ShardEvent;
use lampfield::shard::mail::Mail;

use super::{Event, Lives, line, resource};
use crate::edge::{Datagram, Parcel, Turn};
use crate::message::Message;

impl Lives {
    pub(super) fn ask(&mut self, shard: ShardId, ask: Ask) -> Result<Vec<Reply>, String> {
        self.request += 1;
        let request = Mail::Request(Request {
            id: self.request,
            ask,
        });
        let Some(edge) = &mut self.edge else {
            return Ok(Vec::new());
        };
        edge.deliver(shard, self.now, Parcel::Mail(request));
        self.flush(shard)
    }

    /// The source says what a resource shall be; answered or not, it goes on saying so.
    pub(super) fn say(&mut self, index: usize) -> Result<(), String> {
        let name = resource(index);
        let home = self.settings.home(&name, self.shards);
        let update = HintUpdate::new(name.as_str().into(), "pbx".into(), self.hints[index].0);
        self.hints[index].1 = false;
        self.open.insert(self.request + 1, index);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        let replies = self.ask(home, ask)?;
        self.hear(&replies);
        Ok(())
    }

    pub(super) fn hear(&mut self, replies: &[Reply]) {
        for reply in replies {
            if let Some(index) = self.open.remove(&reply.id)
                && !self.open.values().any(|other| *other == index)
            {
                self.hints[index].1 = true;
            }
        }
    }

    /// Something comes to a shard from another thread.
    pub(super) fn deliver(&mut self, shard: ShardId, parcel: Parcel) -> Result<(), String> {
        let Some(edge) = &mut self.edge else {
            return Ok(());
        };
        edge.deliver(shard, self.now, parcel);
        self.flush(shard).map(|replies| self.hear(&replies))
    }

    /// Ends a turn of a shard, and says what it answers to the control thread.
    pub(super) fn flush(&mut self, shard: ShardId) -> Result<Vec<Reply>, String> {
        let Some(edge) = &mut self.edge else {
            return Ok(Vec::new());
        };
        let turn: Turn = edge.flush(shard)?;
        // Whoever ends in order says that it takes nobody any more.
        let is_news = |event: &&ShardEvent| !(self.ends && matches!(event, ShardEvent::Limit(..)));
        if let Some(event) = turn.events.iter().find(is_news) {
            return Err(format!("{shard:?} reports {event:?}"));
        }
        if !turn.records.is_empty() {
            self.given_out.push_back((shard, turn.records));
            if !self.write_is_due {
                self.write_is_due = true;
                self.schedule(0, 4, Event::Write);
            }
        }
        for (to, parcel) in turn.parcels {
            let delay = self.random.millis(0, 10);
            let (when, way) = self.post.send(self.now, [shard, to], parcel, delay);
            self.schedule_at(when, Event::Post(way));
        }
        for datagram in turn.datagrams {
            self.leave(datagram)?;
        }
        let reply = |mail| match mail {
            Mail::Reply(reply) => Ok(reply),
            other => Err(format!("mail to the control thread: {other:?}")),
        };
        turn.replies.into_iter().map(reply).collect()
    }

    /// A datagram leaves the server: whatever becomes of it, this was said.
    fn leave(&mut self, datagram: Datagram) -> Result<(), String> {
        self.datagrams += 1;
        let sockets = &self.swaps.sockets;
        let from = sockets
            .leave_as(datagram.listener, datagram.source)
            .map_err(|error| {
                let shown = Message::read_loosely(&datagram.bytes);
                format!("{error}: {}", line(&shown, "<", datagram.peer))
            })?;
        let Datagram { peer, bytes, .. } = datagram;
        let message = Message::read(&bytes)?;
        self.note(line(&message, "<", peer));
        if message.method() == Some("NOTIFY") {
            self.rises(&message)?;
            self.begins_once(&message, ["To", "From"])?;
        }
        if peer == self.publisher.address {
            self.publishes_once(&message)?;
        } else if message.status() == Some(200) {
            self.begins_once(&message, ["From", "To"])?;
        }
        self.schedule(1, 20, Event::ToPeer { peer, from, bytes });
        Ok(())
    }

    pub(super) fn reach_phone(
        &mut self,
        peer: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        let message = Message::read(bytes)?;
        if peer == self.publisher.address {
            let received = self.publisher.receive(self.now, &message, &mut self.random);
            return received.map_err(|forgotten| forgotten.0);
        }
        let Some(phone) = self.phones.iter_mut().find(|phone| phone.address == peer) else {
            return Err(format!("nobody is at {peer}"));
        };
        let before = phone.dialog.as_ref().map(|dialog| {
            let asked = phone.asked.as_ref().is_some_and(|asked| asked.ends);
            (phone.call_id(), dialog.server_tag.clone(), asked)
        });
        let received = phone.receive(self.now, &message, &mut self.random);
        if let Some((call_id, tag, true)) = before
            && phone.dialog.is_none()
            && message.status() == Some(200)
        {
            self.ended.insert((call_id, tag), self.now);
        }
        match received {
            Ok(None) => Ok(()),
            Ok(Some(bytes)) => {
                let (source, to) = (peer, from);
                self.schedule(1, 20, Event::ToServer { source, to, bytes });
                Ok(())
            }
            Err(forgotten) => Err(forgotten.0),
        }
    }
}
