//! What phones ask by whatever connection they have, what they hear, and what a source says of their resources.

use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::ShardId;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::mail::Mail;
use lampfield::transport::ConnectionId;

use super::{Event, LONGEST, Streams, resource};
use crate::edge::Parcel;
use crate::message::Message;
use crate::web::Said;

impl Streams {
    pub(super) fn connect_all(&mut self) {
        for carrier in 0..self.carriers.len() {
            if self.carriers[carrier]
                .connects_at
                .is_some_and(|when| when <= self.now)
            {
                self.carriers[carrier].connects_at = None;
                let way = self.delay();
                self.schedule(
                    way,
                    Event::Opens {
                        carrier: Some(carrier),
                    },
                );
            }
        }
    }

    pub(super) fn wake_all(&mut self) {
        let now = self.now;
        for index in 0..self.phones.len() {
            if self.phones[index].next_wake().is_none_or(|when| when > now) {
                continue;
            }
            let carrier = self.phones[index].carrier;
            let by = self.carriers[carrier].wire;
            if self.phones[index].give_up(now, by)
                && let Some(id) = by
            {
                // Nobody has answered by it: a new one is tried.
                self.hang_up(id, false);
                self.is_gone(id);
            }
            for at in self.phones[index].due(now) {
                let uri = format!("sip:{}", resource(self.phones[index].keys[at].resource));
                match self.carriers[carrier].wire {
                    Some(id) => {
                        let bytes =
                            self.phones[index].subscribe(now, at, &uri, id, &mut self.random);
                        self.say_message(id, &bytes);
                        self.note_asked(index, at);
                    }
                    None => {
                        let later = self.now + self.random.millis(100, 500);
                        self.phones[index].keys[at].wakes = Some(later);
                    }
                }
            }
        }
    }

    fn note_asked(&mut self, phone: usize, key: usize) {
        if let Some(dialog) = &self.phones[phone].keys[key].dialog {
            let call_id = dialog.call_id.clone();
            self.asked.insert(call_id, self.now + LONGEST);
        }
    }

    /// What has waited for its connection is asked for now.
    pub(super) fn asked_again(&mut self, request: &[u8]) {
        let request = Message::read_loosely(request);
        if let Some(call_id) = request.header("Call-ID") {
            self.asked.insert(call_id.to_string(), self.now + LONGEST);
        }
    }

    pub(super) fn change_a_hint(&mut self) {
        let states = [
            HintState::Idle,
            HintState::Ringing,
            HintState::InUse,
            HintState::Hold,
        ];
        let index = self.random.below(self.hints.len() as u64) as usize;
        let state = *self.random.pick(&states);
        self.hints[index] = state;
        self.note(|| format!("r{index} is {state:?}"));
        let update = HintUpdate::new(resource(index).into(), "pbx".into(), state);
        self.tell_home(index, HintChange::Set(update));
    }

    pub(super) fn tell_home(&mut self, index: usize, change: HintChange) {
        let home = self.settings.home(&resource(index), self.shards);
        self.mail_to(home, Ask::ChangeHints(vec![change]));
    }

    fn mail_to(&mut self, shard: ShardId, ask: Ask) {
        let parcel = Parcel::Mail(Mail::Request(Request { id: 1, ask }));
        self.schedule(Duration::from_millis(3), Event::Parcel { shard, parcel });
    }

    /// Something has come to a page.
    pub(super) fn hear_page(&mut self, id: ConnectionId, said: Said) -> Result<(), String> {
        match said {
            Said::Opened => self.opens_page(id),
            Said::Message(bytes) if bytes == b"\r\n" => {}
            Said::Message(bytes) => self.hear(id, &bytes)?,
            // Who says nothing any more does not even keep its connection.
            Said::Ping(_) if self.is_over => {}
            Said::Ping(payload) => self.pongs(id, &payload),
            Said::Pong(_) => {}
            Said::Close(code) => {
                self.note(|| format!("{id:?} is told that it is closed: {code:?}"));
                // Nothing that these phones say is malformed, unreadable or too long.
                if matches!(code, Some(1002 | 1003 | 1007 | 1009)) {
                    return Err(format!("{id:?} was closed with {code:?}"));
                }
                self.answers_close(id, code);
            }
        }
        Ok(())
    }

    /// A message has come to who is at the other end of a connection.
    pub(super) fn hear(&mut self, id: ConnectionId, bytes: &[u8]) -> Result<(), String> {
        let message = Message::read(bytes)?;
        let Some(carrier) = self.wires.get(&id).and_then(|wire| wire.carrier) else {
            return Ok(());
        };
        let call_id = message.header("Call-ID").unwrap_or_default();
        let name = call_id.split('@').nth(1).unwrap_or_default();
        let phones = &self.carriers[carrier].phones;
        let whose = phones.iter().find(|&&at| self.phones[at].name == name);
        let Some(&index) = whose else {
            return Err(format!("{name} is not at {id:?}:\n{}", message.start));
        };
        let said = self.phones[index].receive(self.now, &message, &mut self.random)?;
        if let Some((after, bytes)) = said {
            if bytes.starts_with(b"SIP/2.0 481") {
                self.refused(&message);
            }
            self.note(|| {
                let answer = String::from_utf8_lossy(&bytes[..11]).into_owned();
                format!(
                    "> {id:?} {answer} after {after:?} {:?} {call_id}",
                    message.cseq()
                )
            });
            self.schedule(
                after,
                Event::Says {
                    connection: id,
                    bytes,
                },
            );
        }
        Ok(())
    }
}
