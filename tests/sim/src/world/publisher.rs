//! A publisher of one resource's calls (RFC 3903): it publishes, modifies, refreshes, removes,
//! and begins anew when its tag is not known any more.

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::time::{T1, T2, T64, Time};

use super::Outbox;
use crate::lamp::Lamp;
use crate::message::Message;
use crate::random::Random;

/// How long its publications live.
pub const EXPIRES: u64 = 60;

/// One publisher.
#[derive(Debug)]
pub struct Publisher {
    name: String,
    pub address: SocketAddr,
    pub resource: usize,
    /// What it wants to be seen; `None`: nothing.
    pub wants: Option<Lamp>,
    /// What the server has accepted last.
    published: Option<Lamp>,
    etag: Option<String>,
    transaction: Option<Transaction>,
    refresh: Option<Time>,
    serial: u32,
    /// It was told to come back later.
    pause: Option<Time>,
    /// The server that new requests go to.
    pub server: SocketAddr,
}

#[derive(Debug)]
struct Transaction {
    bytes: Vec<u8>,
    to: SocketAddr,
    call_id: String,
    state: Option<Lamp>,
    began: Time,
    interval: Duration,
    next: Time,
}

impl Publisher {
    pub fn new(name: String, address: SocketAddr, resource: usize, server: SocketAddr) -> Self {
        Publisher {
            server,
            name,
            address,
            resource,
            wants: None,
            published: None,
            etag: None,
            transaction: None,
            refresh: None,
            serial: 0,
            pause: None,
        }
    }

    pub fn next_wake(&self, now: Time) -> Option<Time> {
        match &self.transaction {
            Some(transaction) => Some(transaction.next),
            None if self.wants != self.published => Some(self.pause.unwrap_or(now).max(now)),
            None => self.refresh,
        }
    }

    /// Sends what is due.
    pub fn wake(&mut self, now: Time, resources: &[String], random: &mut Random, out: &mut Outbox) {
        if let Some(transaction) = &mut self.transaction {
            if transaction.next > now {
                return;
            }
            if now.since(transaction.began) >= T64 {
                self.forget();
                return;
            }
            transaction.interval = (transaction.interval * 2).min(T2);
            transaction.next = now + transaction.interval;
            out.push((self.address, transaction.to, transaction.bytes.clone()));
            return;
        }
        if self.pause.is_some_and(|until| until > now) {
            return;
        }
        let due = self.refresh.is_some_and(|when| when <= now);
        if self.wants != self.published || due {
            self.publish(now, &resources[self.resource], random, out);
        }
    }

    fn forget(&mut self) {
        self.transaction = None;
        self.etag = None;
        self.published = None;
        self.refresh = None;
    }

    fn publish(&mut self, now: Time, uri: &str, random: &mut Random, out: &mut Outbox) {
        let (expires, body) = match (self.wants, &self.etag) {
            (None, None) => {
                self.published = None;
                self.refresh = None;
                return;
            }
            (None, Some(_)) => (0, String::new()),
            (Some(lamp), Some(_)) if self.published == Some(lamp) => (EXPIRES, String::new()),
            (Some(lamp), _) => (EXPIRES, self.document(uri, lamp)),
        };
        self.serial += 1;
        let call_id = format!("{:016x}@{}", random.next(), self.name);
        let if_match = match &self.etag {
            Some(etag) => format!("SIP-If-Match: {etag}\r\n"),
            None => String::new(),
        };
        let kind = match body.is_empty() {
            true => "",
            false => "Content-Type: application/dialog-info+xml\r\n",
        };
        let bytes = format!(
            "PUBLISH {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK-{}-{};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{}@example.com>;tag=p{}\r\nTo: <{uri}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 PUBLISH\r\nEvent: dialog\r\nExpires: {expires}\r\n\
             {if_match}{kind}Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.name,
            self.serial,
            self.name,
            self.serial,
            body.len(),
        )
        .into_bytes();
        self.transaction = Some(Transaction {
            bytes: bytes.clone(),
            to: self.server,
            call_id,
            state: self.wants,
            began: now,
            interval: T1,
            next: now + T1,
        });
        out.push((self.address, self.server, bytes));
    }

    fn document(&self, uri: &str, lamp: Lamp) -> String {
        let state = match lamp {
            Lamp::Dark => "terminated",
            Lamp::Trying => "trying",
            Lamp::Blinking => "early",
            Lamp::Lit | Lamp::Held => "confirmed",
        };
        format!(
            "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" \
             version=\"{}\" state=\"full\" entity=\"{uri}\"><dialog id=\"{}-{}\" call-id=\"c\">\
             <state>{state}</state></dialog></dialog-info>",
            self.serial, self.name, self.serial
        )
    }

    /// The answer to what was published. An `Err` is something that a server must not do.
    pub fn receive(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
    ) -> Result<(), String> {
        let status = message.status().ok_or("a request to a publisher")?;
        let call_id = message.header("Call-ID");
        let fits = |transaction: &&Transaction| Some(transaction.call_id.as_str()) == call_id;
        if status < 200 || self.transaction.as_ref().filter(fits).is_none() {
            return Ok(());
        }
        let transaction = self.transaction.take().expect("it is there");
        match status {
            200 => {
                self.published = transaction.state;
                self.etag = match transaction.state {
                    Some(_) => message.header("SIP-ETag").map(str::to_string),
                    None => None,
                };
                let wait = Duration::from_millis(EXPIRES * random.between(400, 800));
                self.refresh = transaction.state.map(|_| now + wait);
            }
            412 => self.forget(),
            // A server that stops takes nothing new; what is left there expires.
            503 if self.wants.is_none() => self.forget(),
            500 | 503 if message.header("Retry-After").is_some() => {
                self.forget();
                self.pause = Some(now + random.millis(500, 3_000));
            }
            _ => return Err(format!("a good PUBLISH was answered {status}")),
        }
        Ok(())
    }
}
