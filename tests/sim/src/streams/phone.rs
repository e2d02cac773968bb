//! Phones that come by connections, and who carries them: each has a connection of its own, or an edge has one for
//! hundreds. A phone believes only what reaches it.

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::time::{T64, Time};
use lampfield::transport::{ConnectionId, Endpoint, Transport};

use crate::lamp::{Document, Lamp};
use crate::message::Message;
use crate::random::Random;
use crate::world::reply;

/// Who has a connection.
#[derive(Debug)]
pub struct Carrier {
    /// Where its connections come from; each has a port of its own.
    pub address: SocketAddr,
    /// Where they go.
    pub server: Endpoint,
    pub is_edge: bool,
    pub wire: Option<ConnectionId>,
    pub connects_at: Option<Time>,
    pub phones: Vec<usize>,
}

/// How a phone behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    pub answer_ms: u64,
    pub silent_per_mille: u64,
    pub busy_per_mille: u64,
    pub gone_per_mille: u64,
}

/// One lamp.
#[derive(Debug)]
pub struct Key {
    pub resource: usize,
    pub dialog: Option<Dialog>,
    asked: Option<Asked>,
    pub wakes: Option<Time>,
    pub shown: Option<Lamp>,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    cseq: u32,
    since: Time,
    by: ConnectionId,
}

/// What a phone knows of its dialog.
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    pub tag: String,
    pub server_tag: Option<String>,
    target: Option<String>,
    cseq: u32,
    newest: u32,
}

#[derive(Debug)]
pub struct Phone {
    pub name: String,
    pub carrier: usize,
    transport: Transport,
    contact: String,
    edge: Option<SocketAddr>,
    pub keys: Vec<Key>,
    pub mood: Mood,
    expires: u64,
    pub retired: bool,
    serial: u32,
}

impl Phone {
    pub fn new(
        number: usize,
        carrier: usize,
        transport: Transport,
        edge: Option<SocketAddr>,
        resources: Vec<usize>,
        expires: u64,
        first: Time,
    ) -> Self {
        let key = |resource| Key {
            resource,
            dialog: None,
            asked: None,
            wakes: Some(first),
            shown: None,
        };
        Phone {
            name: format!("phone{number}"),
            carrier,
            transport,
            contact: format!("172.16.{}.{}:5060", number / 250, number % 250 + 1),
            edge,
            keys: resources.into_iter().map(key).collect(),
            mood: Mood::default(),
            expires,
            retired: false,
            serial: 0,
        }
    }

    /// When it does something by itself.
    pub fn next_wake(&self) -> Option<Time> {
        let each = self.keys.iter().filter_map(|key| match key.asked {
            Some(asked) => Some(asked.since + T64),
            None => key.wakes,
        });
        each.min()
    }

    /// It forgets its dialogs, and subscribes anew.
    pub fn reboot(&mut self, until: Time) {
        for key in &mut self.keys {
            key.dialog = None;
            key.asked = None;
            key.shown = None;
            key.wakes = (!self.retired).then_some(until);
        }
    }

    /// Keys whose requests were never answered: the phone gives their dialogs up. True: there was one
    /// that went by this connection.
    pub fn give_up(&mut self, now: Time, by: Option<ConnectionId>) -> bool {
        let retired = self.retired;
        let late = |key: &&mut Key| key.asked.is_some_and(|asked| asked.since + T64 <= now);
        let mut any = false;
        for key in self.keys.iter_mut().filter(late) {
            any |= key.asked.take().map(|asked| asked.by) == by;
            key.dialog = None;
            key.shown = None;
            key.wakes = (!retired).then_some(now);
        }
        any
    }

    /// One of its keys refreshes now, as a phone does that has a new connection.
    pub fn refresh_one(&mut self, now: Time, random: &mut Random) {
        for key in &mut self.keys {
            // What was asked by the connection before is answered by none.
            if key.asked.take().is_some() {
                key.wakes = Some(now);
                let made = |dialog: &Dialog| dialog.server_tag.is_some();
                key.dialog = key.dialog.take().filter(made);
            }
        }
        if !self.keys.is_empty() {
            let at = random.below(self.keys.len() as u64) as usize;
            if self.keys[at].wakes.is_some() {
                self.keys[at].wakes = Some(now);
            }
        }
    }

    /// Every dialog is to end.
    pub fn retire(&mut self, now: Time) {
        self.retired = true;
        for key in &mut self.keys {
            key.wakes = key.dialog.is_some().then_some(now);
        }
    }

    /// The connection by which the open request of a dialog went.
    pub fn asked_by(&self, call_id: &str) -> Option<ConnectionId> {
        let is_its = |dialog: &Dialog| dialog.call_id == call_id;
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.dialog.as_ref().is_some_and(is_its))?;
        key.asked.map(|asked| asked.by)
    }

    /// The connections by which requests went that nobody has answered for so long.
    pub fn unanswered(&self, now: Time, patience: Duration) -> impl Iterator<Item = ConnectionId> {
        let asked = self.keys.iter().filter_map(|key| key.asked);
        let late = move |asked: &Asked| now.since(asked.since) > patience;
        asked.filter(late).map(|asked| asked.by)
    }

    /// Keys that are to send something now.
    pub fn due(&self, now: Time) -> Vec<usize> {
        let due = |&at: &usize| {
            let key = &self.keys[at];
            key.asked.is_none() && key.wakes.is_some_and(|when| when <= now)
        };
        (0..self.keys.len()).filter(due).collect()
    }

    /// A SUBSCRIBE of one of its keys.
    pub fn subscribe(
        &mut self,
        now: Time,
        at: usize,
        uri: &str,
        by: ConnectionId,
        random: &mut Random,
    ) -> Vec<u8> {
        self.serial += 1;
        let (serial, name, contact) = (self.serial, &self.name, &self.contact);
        let key = &mut self.keys[at];
        key.wakes = None;
        let salt = random.next();
        let dialog = key.dialog.get_or_insert_with(|| Dialog {
            call_id: format!("{salt:016x}@{name}"),
            tag: format!("{name}-{serial}"),
            server_tag: None,
            target: None,
            cseq: 0,
            newest: 0,
        });
        dialog.cseq += 1;
        key.asked = Some(Asked {
            cseq: dialog.cseq,
            since: now,
            by,
        });
        let to_tag = match &dialog.server_tag {
            Some(tag) => format!(";tag={tag}"),
            None => String::new(),
        };
        let expires = if self.retired { 0 } else { self.expires };
        let via = String::from_utf8_lossy(self.transport.via());
        let by = self.transport.parameter();
        let own_via =
            format!("Via: SIP/2.0/{via} {contact};branch=z9hG4bK-{name}-{serial};rport\r\n");
        let vias = match self.edge {
            Some(edge) => format!(
                "Via: SIP/2.0/{via} {edge};branch=z9hG4bK-e-{name}-{serial}\r\n{own_via}\
                 Record-Route: <sip:{edge};transport={by};lr>\r\n"
            ),
            None => own_via,
        };
        format!(
            "SUBSCRIBE {} SIP/2.0\r\n{vias}Max-Forwards: 70\r\n\
             From: <sip:{name}@example.com>;tag={}\r\nTo: <{uri}>{to_tag}\r\nCall-ID: {}\r\n\
             CSeq: {} SUBSCRIBE\r\nContact: <sip:{name}@{contact};transport={by}>\r\nEvent: dialog\r\n\
             Accept: application/dialog-info+xml\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n",
            dialog.target.as_deref().unwrap_or(uri),
            dialog.tag,
            dialog.call_id,
            dialog.cseq,
        )
        .into_bytes()
    }

    /// A message has come. What it says to that, and after what time; an `Err` is what a server must not do.
    pub fn receive(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
    ) -> Result<Option<(Duration, Vec<u8>)>, String> {
        match message.status() {
            Some(status) => {
                self.on_answer(now, message, status, random);
                Ok(None)
            }
            None => self.on_notify(now, message, random),
        }
    }

    fn key_of(&self, call_id: Option<&str>, tag: Option<&str>) -> Option<usize> {
        self.keys.iter().position(|key| {
            key.dialog.as_ref().is_some_and(|dialog| {
                Some(dialog.call_id.as_str()) == call_id && Some(dialog.tag.as_str()) == tag
            })
        })
    }

    fn on_answer(&mut self, now: Time, message: &Message, status: u16, random: &mut Random) {
        let Some(at) = self.key_of(message.header("Call-ID"), message.tag("From")) else {
            return;
        };
        let retired = self.retired;
        let key = &mut self.keys[at];
        let (Some(asked), Some(dialog)) = (key.asked, &mut key.dialog) else {
            return;
        };
        if message.cseq() != Some(asked.cseq) {
            return;
        }
        key.asked = None;
        if status != 200 {
            key.dialog = None;
            key.shown = None;
            key.wakes = (!retired).then(|| now + random.millis(10, 2_000));
            return;
        }
        dialog.server_tag = message.tag("To").map(str::to_string);
        let contact = message.header("Contact").unwrap_or_default();
        dialog.target = Some(crate::message::address(contact).to_string());
        let granted = message.header("Expires").and_then(|text| text.parse().ok());
        let granted: u64 = granted.unwrap_or_default();
        let share = random.between(500, 950);
        key.wakes = (!retired).then(|| now + Duration::from_millis(granted * share));
    }

    fn on_notify(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
    ) -> Result<Option<(Duration, Vec<u8>)>, String> {
        let cseq = message.cseq().ok_or("a NOTIFY without CSeq")?;
        let mood = self.mood;
        let after = random.millis(0, mood.answer_ms);
        let Some(at) = self.key_of(message.header("Call-ID"), message.tag("To")) else {
            return Ok(Some((after, reply(message, 481, None))));
        };
        let retired = self.retired;
        let key = &mut self.keys[at];
        let dialog = key.dialog.as_mut().expect("found by it");
        let from = message.tag("From");
        if dialog.server_tag.is_some() && dialog.server_tag.as_deref() != from {
            return Ok(Some((after, reply(message, 481, None))));
        }
        if cseq <= dialog.newest {
            return Ok(Some((after, reply(message, 500, None))));
        }
        if random.per_mille(mood.silent_per_mille) {
            return Ok(None);
        }
        if random.per_mille(mood.busy_per_mille) {
            let pause = random.between(1, 8);
            return Ok(Some((after, reply(message, 503, Some(pause)))));
        }
        let state = message.header("Subscription-State").unwrap_or_default();
        let forgets = random.per_mille(mood.gone_per_mille);
        if forgets || state.starts_with("terminated") {
            key.dialog = None;
            key.asked = None;
            key.shown = None;
            key.wakes = (!retired).then(|| now + random.millis(10, 2_000));
            let status = if forgets { 481 } else { 200 };
            return Ok(Some((after, reply(message, status, None))));
        }
        dialog.newest = cseq;
        dialog
            .server_tag
            .get_or_insert(message.tag("From").unwrap_or_default().to_string());
        key.shown = Some(Document::read(message)?.lamp());
        Ok(Some((after, reply(message, 200, None))))
    }
}
