//! A phone with lamps: it subscribes, refreshes, answers as its mood is, reboots, moves, goes silent.
//! It believes only what reaches it, and what it shows is held against the truth when all is calm.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::time::{T1, T2, T64, Time};

use super::Outbox;
use crate::lamp::{Document, Lamp};
use crate::message::{Message, address};
use crate::random::Random;
use crate::script::digest::{self, Credentials};
use crate::witness::DialogName;

/// How a phone behaves while it storms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// It answers after so long at most.
    pub answer_ms: u64,
    pub silent_per_mille: u64,
    pub gone_per_mille: u64,
    pub busy_per_mille: u64,
    pub trying_per_mille: u64,
}

/// One lamp.
#[derive(Debug)]
pub struct Key {
    pub resource: usize,
    /// The event package, and the type of document that goes with it.
    pub package: (&'static str, &'static str),
    pub dialog: Option<Dialog>,
    transaction: Option<Transaction>,
    /// When it acts next without being asked.
    pub wakes: Option<Time>,
    expires: u64,
    /// What the lamp shows; `None` until the first NOTIFY.
    pub shown: Option<Lamp>,
    /// The document that it shows, without what differs from watcher to watcher.
    pub document: String,
    /// It does not want to watch any more.
    pub retired: bool,
}

impl Key {
    /// Whether it shows calls, and not presence or messages.
    pub fn is_lamp(&self) -> bool {
        self.package.0 == "dialog"
    }
}

/// What a phone knows of its dialog.
#[derive(Debug)]
pub struct Dialog {
    pub call_id: String,
    pub tag: String,
    pub server_tag: Option<String>,
    /// Of the state that it shows.
    etag: Option<String>,
    /// Where the phone's last accepted request came from: the server knows no other address.
    pub known_at: SocketAddr,
    target: Option<String>,
    cseq: u32,
    /// Of the newest NOTIFY that came, and its document.
    newest: Option<(u32, u32)>,
    /// What was answered to which NOTIFY.
    answered: BTreeMap<u32, (u16, Option<u64>)>,
}

impl Dialog {
    /// Its name, once the phone knows all of it.
    pub fn name(&self) -> Option<DialogName> {
        Some(DialogName {
            call_id: self.call_id.clone(),
            phone_tag: self.tag.clone(),
            server_tag: self.server_tag.clone()?,
        })
    }
}

/// A SUBSCRIBE that waits for its answer.
#[derive(Debug)]
struct Transaction {
    bytes: Vec<u8>,
    to: SocketAddr,
    cseq: u32,
    began: Time,
    interval: Duration,
    next: Time,
    ends: bool,
}

/// A phone.
#[derive(Debug)]
pub struct Phone {
    pub name: String,
    /// Where its datagrams come from, as the server sees it.
    pub address: SocketAddr,
    /// The server that new subscriptions go to.
    pub server: SocketAddr,
    /// What it believes to be its own address.
    contact: String,
    /// Behind an SBC: requests come from the SBC, with its Via and Record-Route.
    edge: Option<SocketAddr>,
    pub keys: Vec<Key>,
    pub mood: Mood,
    /// Nothing reaches it, and it sends nothing.
    pub off_until: Option<Time>,
    /// When the server last accepted a SUBSCRIBE of its.
    pub accepted: Option<Time>,
    serial: u32,
    /// The last challenge, and how often its nonce was used.
    challenge: Option<(Message, u32)>,
    /// Challenges since a request was last accepted.
    challenged: u32,
}

/// More challenges in a row than a phone with the right password should see, lost answers included.
const CHALLENGES_MAX: u32 = 20;

impl Phone {
    pub fn new(
        name: String,
        [address, server]: [SocketAddr; 2],
        contact: String,
        edge: Option<SocketAddr>,
        resources: &[(usize, (&'static str, &'static str))],
        expires: u64,
        first: Time,
    ) -> Self {
        let keys = resources
            .iter()
            .enumerate()
            .map(|(index, &(resource, package))| Key {
                resource,
                package,
                document: String::new(),
                dialog: None,
                transaction: None,
                wakes: Some(first + Duration::from_millis(7 * index as u64)),
                expires,
                shown: None,
                retired: false,
            });
        Phone {
            keys: keys.collect(),
            name,
            address,
            server,
            contact,
            edge,
            mood: Mood::default(),
            off_until: None,
            accepted: None,
            serial: 0,
            challenge: None,
            challenged: 0,
        }
    }

    pub fn is_off(&self, now: Time) -> bool {
        self.off_until.is_some_and(|until| now < until)
    }

    /// When the phone acts next by itself.
    pub fn next_wake(&self) -> Option<Time> {
        let wakes = self.keys.iter().filter_map(|key| match &key.transaction {
            Some(transaction) => Some(transaction.next),
            None => key.wakes,
        });
        let first = wakes.min()?;
        Some(self.off_until.map_or(first, |until| first.max(until)))
    }

    /// Its power was cut: it forgets its dialogs and subscribes anew.
    pub fn reboot(&mut self, now: Time, off: Duration) {
        self.off_until = Some(now + off);
        for key in &mut self.keys {
            key.dialog = None;
            key.transaction = None;
            key.shown = None;
            key.wakes = (!key.retired).then_some(now + off);
        }
    }

    /// One of its keys refreshes now, as a phone does that notices a new address.
    pub fn refresh_a_key(&mut self, now: Time) {
        let living = |key: &&mut Key| key.dialog.is_some() && key.transaction.is_none();
        if let Some(key) = self.keys.iter_mut().find(living) {
            key.wakes = Some(now);
        }
    }

    /// The lamps are not wanted any more: unsubscribe, where there is something to unsubscribe from.
    pub fn retire(&mut self, now: Time) {
        for key in &mut self.keys {
            key.retired = true;
            key.wakes = key.dialog.is_some().then_some(now);
        }
    }

    /// Does what is due: retransmissions, refreshes, new subscriptions.
    pub fn wake(&mut self, now: Time, resources: &[String], random: &mut Random, out: &mut Outbox) {
        if self.is_off(now) {
            return;
        }
        for index in 0..self.keys.len() {
            let again = self.retransmission(now, index, random);
            if let Some((to, bytes)) = again {
                self.send(out, to, bytes);
            }
            let key = &self.keys[index];
            if key.transaction.is_none() && key.wakes.is_some_and(|when| when <= now) {
                self.keys[index].wakes = None;
                let uri = resources[self.keys[index].resource].clone();
                self.subscribe(now, index, &uri, random, out);
            }
        }
    }

    fn retransmission(
        &mut self,
        now: Time,
        index: usize,
        random: &mut Random,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let key = &mut self.keys[index];
        let transaction = key.transaction.as_mut()?;
        if transaction.next > now {
            return None;
        }
        if now.since(transaction.began) >= T64 {
            // Timer F: nobody is there. Begin again after a while, with a new dialog.
            key.transaction = None;
            key.dialog = None;
            key.shown = None;
            key.wakes = (!key.retired).then(|| now + random.millis(500, 5_000));
            return None;
        }
        transaction.interval = (transaction.interval * 2).min(T2);
        transaction.next = now + transaction.interval;
        Some((transaction.to, transaction.bytes.clone()))
    }

    fn subscribe(
        &mut self,
        now: Time,
        index: usize,
        uri: &str,
        random: &mut Random,
        out: &mut Outbox,
    ) {
        self.serial += 1;
        let serial = self.serial;
        let name = self.name.clone();
        let ends = self.keys[index].retired;
        let expires = if ends { 0 } else { self.keys[index].expires };
        let key = &mut self.keys[index];
        let (package, accept) = key.package;
        let salt = random.next();
        let address = self.address;
        let dialog = key.dialog.get_or_insert_with(|| Dialog {
            call_id: format!("{salt:016x}@{name}"),
            tag: format!("{name}-{serial}"),
            server_tag: None,
            etag: None,
            known_at: address,
            target: None,
            cseq: 0,
            newest: None,
            answered: BTreeMap::new(),
        });
        dialog.cseq += 1;
        let cseq = dialog.cseq;
        let to_tag = match &dialog.server_tag {
            Some(tag) => format!(";tag={tag}"),
            None => String::new(),
        };
        let knows = match (&dialog.etag, is_conditional(&name) && !ends) {
            (Some(etag), true) => format!("Suppress-If-Match: {etag}\r\n"),
            (Some(_) | None, _) => String::new(),
        };
        // Some want to hear that nothing has changed.
        let rate = if name.ends_with('7') {
            ";min-rate=0.05"
        } else {
            ""
        };
        let target = dialog.target.as_deref().unwrap_or(uri);
        // In a dialog it goes where the Contact says, and else where the phone was told to subscribe.
        let to = host_port(target).unwrap_or(self.server);
        let authorization = match &mut self.challenge {
            Some((challenge, used)) => {
                *used += 1;
                authorization(challenge, *used, &name, target)
            }
            None => String::new(),
        };
        let own_via = format!(
            "Via: SIP/2.0/UDP {};branch=z9hG4bK-{name}-{serial};rport\r\n",
            self.contact
        );
        let vias = match self.edge {
            Some(edge) => format!(
                "Via: SIP/2.0/UDP {edge};branch=z9hG4bK-e-{name}-{serial}\r\n{own_via}\
                 Record-Route: <sip:{edge};lr>\r\n"
            ),
            None => own_via,
        };
        let bytes = format!(
            "SUBSCRIBE {target} SIP/2.0\r\n{vias}Max-Forwards: 70\r\n\
             From: <sip:{name}@example.com>;tag={}\r\nTo: <{uri}>{to_tag}\r\nCall-ID: {}\r\n\
             CSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{name}@{}>\r\nEvent: {package}{rate}\r\n\
             Accept: {accept}\r\nExpires: {expires}\r\n{knows}{authorization}Content-Length: 0\r\n\r\n",
            dialog.tag, dialog.call_id, self.contact,
        )
        .into_bytes();
        key.transaction = Some(Transaction {
            bytes: bytes.clone(),
            to,
            cseq,
            began: now,
            interval: T1,
            next: now + T1,
            ends,
        });
        self.send(out, to, bytes);
    }

    fn send(&self, out: &mut Outbox, to: SocketAddr, bytes: Vec<u8>) {
        out.push((self.edge.unwrap_or(self.address), to, bytes));
    }

    /// A datagram has reached the phone. An `Err` is something that a server must not do.
    pub fn receive(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
        out: &mut Vec<(Duration, Vec<u8>)>,
    ) -> Result<(), String> {
        match message.status() {
            Some(status) => {
                self.on_answer(now, message, status, random);
                match self.challenged > CHALLENGES_MAX {
                    true => Err(format!("{} is challenged again and again", self.name)),
                    false => Ok(()),
                }
            }
            None => self.on_notify(now, message, random, out),
        }
    }

    fn key_of(&self, call_id: &str, tag: &str) -> Option<usize> {
        self.keys.iter().position(|key| {
            key.dialog
                .as_ref()
                .is_some_and(|dialog| dialog.call_id == call_id && dialog.tag == tag)
        })
    }

    fn on_answer(&mut self, now: Time, message: &Message, status: u16, random: &mut Random) {
        let call_id = message.header("Call-ID").unwrap_or_default();
        let tag = message.tag("From").unwrap_or_default();
        let Some(index) = self.key_of(call_id, tag) else {
            return;
        };
        let key = &mut self.keys[index];
        let expected = key.transaction.as_ref().map(|transaction| transaction.cseq);
        if status < 200 || message.cseq() != expected {
            return;
        }
        let Some(transaction) = key.transaction.take() else {
            return;
        };
        if status == 401 {
            // The same again, with credentials.
            key.wakes = Some(now);
            self.challenge = Some((message.clone(), 0));
            self.challenged += 1;
            return;
        }
        if !(200..300).contains(&status) {
            // The dialog is gone, or was never made.
            key.dialog = None;
            key.shown = None;
            key.wakes = (!key.retired).then(|| now + random.millis(10, 2_000));
            return;
        }
        let Some(dialog) = &mut key.dialog else {
            return;
        };
        self.challenged = 0;
        dialog.server_tag = message.tag("To").map(str::to_string);
        dialog.target = message
            .header("Contact")
            .map(|contact| address(contact).to_string());
        if transaction.ends {
            // The last NOTIFY may still come, and is answered; then the dialog is forgotten.
            return;
        }
        let granted: u64 = message
            .header("Expires")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let share = random.between(500, 950);
        key.wakes = Some(now + Duration::from_millis(granted * share));
    }

    fn on_notify(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
        out: &mut Vec<(Duration, Vec<u8>)>,
    ) -> Result<(), String> {
        let call_id = message.header("Call-ID").unwrap_or_default();
        let tag = message.tag("To").unwrap_or_default();
        let cseq = message.cseq().ok_or("a NOTIFY without CSeq")?;
        let delay = random.millis(0, self.mood.answer_ms);
        let Some(index) = self.key_of(call_id, tag) else {
            out.push((delay, reply(message, 481, None)));
            return Ok(());
        };
        let mood = self.mood;
        let key = &mut self.keys[index];
        let dialog = key.dialog.as_mut().expect("found by it");
        if let Some(&(status, retry_after)) = dialog.answered.get(&cseq) {
            out.push((delay, reply(message, status, retry_after)));
            return Ok(());
        }
        if dialog.newest.is_some_and(|(newest, _)| cseq < newest) {
            // Overtaken on the way: a phone refuses what is older than what it knows.
            dialog.answered.insert(cseq, (500, None));
            out.push((delay, reply(message, 500, None)));
            return Ok(());
        }
        if random.per_mille(mood.silent_per_mille) {
            return Ok(());
        }
        if random.per_mille(mood.trying_per_mille) {
            out.push((delay, reply(message, 100, None)));
            return Ok(());
        }
        if random.per_mille(mood.busy_per_mille) {
            let retry_after = Some(random.between(1, 8));
            dialog.answered.insert(cseq, (503, retry_after));
            out.push((delay, reply(message, 503, retry_after)));
            return Ok(());
        }
        if random.per_mille(mood.gone_per_mille) {
            out.push((delay, reply(message, 481, None)));
            key.dialog = None;
            key.transaction = None;
            key.shown = None;
            key.wakes = (!key.retired).then(|| now + random.millis(10, 3_000));
            return Ok(());
        }
        dialog.answered.insert(cseq, (200, None));
        out.push((delay, reply(message, 200, None)));
        dialog
            .server_tag
            .get_or_insert(message.tag("From").unwrap_or_default().to_string());
        let document = Document::read(message)?;
        let etag = message.header("SIP-ETag").map(str::to_string);
        // Who has said what it knows may be told that it is still so, and no more.
        let is_known = document == Document::Empty && etag == dialog.etag && etag.is_some();
        if is_known && !is_conditional(&self.name) {
            return Err(format!("{} did not say what it knows", self.name));
        }
        dialog.etag = etag;
        let version = match document {
            Document::Dialog { version, .. } => version,
            _ if is_known => dialog.newest.map_or(0, |(_, before)| before + 1),
            // Other documents are numbered by their NOTIFYs only.
            _ => cseq,
        };
        if let Some((_, before)) = dialog.newest
            && version <= before
        {
            return Err(format!("{}: version {version} after {before}", self.name));
        }
        // What has no body has no number either.
        let version = version - u32::from(is_known);
        dialog.newest = Some((cseq, version));
        // Where the server goes elsewhere, its Contact says so.
        if let Some(contact) = message.header("Contact") {
            dialog.target = Some(address(contact).to_string());
        }
        if !is_known {
            key.shown = Some(document.lamp());
            key.document = without_version(&message.text());
        }
        let state = message.header("Subscription-State").unwrap_or_default();
        if state.starts_with("terminated") {
            key.dialog = None;
            key.transaction = None;
            key.shown = None;
            key.wakes = (!key.retired).then(|| now + random.millis(10, 2_000));
        }
        Ok(())
    }
}

/// Some phones say at a refresh what they know.
fn is_conditional(name: &str) -> bool {
    name.ends_with(['3', '6', '9'])
}

/// The credentials of a phone: its password is its name and more.
fn authorization(challenge: &Message, used: u32, name: &str, uri: &str) -> String {
    let password = password(name);
    let credentials = Credentials {
        user: name,
        password: &password,
        algorithm: if name.len().is_multiple_of(2) {
            "SHA-256"
        } else {
            "MD5"
        },
        uri,
        nonce_count: used,
    };
    match digest::authorization(challenge, "SUBSCRIBE", &credentials) {
        Ok(value) => format!("Authorization: {value}\r\n"),
        Err(_) => String::new(),
    }
}

/// What the server knows as well.
pub fn password(name: &str) -> String {
    format!("secret of {name}")
}

/// The address that a target names: `sip:192.0.2.1:5060`.
fn host_port(target: &str) -> Option<SocketAddr> {
    target.strip_prefix("sip:")?.parse().ok()
}

/// The document without its version, which counts the NOTIFYs of one watcher.
fn without_version(text: &str) -> String {
    const BEFORE: &str = "dialog-info\" version=\"";
    match text.split_once(BEFORE) {
        Some((before, after)) => {
            let rest = after.split_once('"').map_or("", |(_, rest)| rest);
            format!("{before}{rest}")
        }
        None => text.to_string(),
    }
}

/// An answer to a NOTIFY.
pub fn reply(request: &Message, status: u16, retry_after: Option<u64>) -> Vec<u8> {
    let mut text = format!("SIP/2.0 {status} Whatever\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in request.all(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(seconds) = retry_after {
        text.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}
