//! A publisher of one resource that nobody else speaks of, on a line that loses nothing while the server lives. Whatever
//! it has not heard the answer of, it asks for again, over each crash.

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::time::{T1, T2, T64, Time};

use super::phone::Forgotten;
use crate::lamp::Lamp;
use crate::message::Message;
use crate::random::Random;

/// How long what it publishes lives.
const EXPIRES: Duration = Duration::from_secs(100);

/// One publisher.
#[derive(Debug)]
pub struct Publisher {
    pub address: SocketAddr,
    pub server: SocketAddr,
    resource: String,
    /// What it has published, under which tag and until when.
    published: Option<(Lamp, String, Time)>,
    asked: Option<Asked>,
    pub acts_at: Time,
    /// It asks for nothing new.
    pub rests: bool,
    /// Of its requests: each has a Call-ID of its own.
    serial: u32,
    /// Until then a loss of power may have left something behind that it does not know.
    doubtful_until: Time,
}

#[derive(Debug)]
struct Asked {
    bytes: Vec<u8>,
    /// What is published with it; None: nothing any more.
    lamp: Option<Lamp>,
    since: Time,
    next: Time,
    interval: Duration,
}

impl Publisher {
    pub fn new(server: SocketAddr, resource: String, now: Time) -> Publisher {
        let host = if server.is_ipv4() {
            "10.4.0.1:5060"
        } else {
            "[2001:db8:4::1]:5060"
        };
        Publisher {
            address: host.parse().expect("an address and a port"),
            server,
            resource,
            published: None,
            asked: None,
            acts_at: now,
            rests: false,
            serial: 0,
            doubtful_until: now,
        }
    }

    /// When it wants to be woken.
    pub fn next_wake(&self) -> Time {
        match &self.asked {
            Some(asked) => asked.next,
            None if self.rests => Time::from_millis(u64::MAX / 2_000_000),
            None => self.acts_at,
        }
    }

    /// What it sends now.
    pub fn wake(&mut self, now: Time, random: &mut Random) -> Option<Vec<u8>> {
        if let Some(asked) = &mut self.asked {
            if now.since(asked.since) >= T64 {
                // What became of it nobody knows.
                self.asked = None;
                self.published = None;
                self.doubts(now);
                self.acts_at = now;
                return None;
            }
            asked.interval = (asked.interval * 2).min(T2);
            asked.next = now + asked.interval;
            return Some(asked.bytes.clone());
        }
        let (lamp, has_body) = match &self.published {
            None => (Some(Lamp::Blinking), true),
            Some((lamp, _, _)) => match random.below(3) {
                0 => (None, false),
                1 => (Some(*lamp), false),
                _ if *lamp == Lamp::Lit => (Some(Lamp::Blinking), true),
                _ => (Some(Lamp::Lit), true),
            },
        };
        self.serial += 1;
        let bytes = self.request(lamp, has_body);
        self.asked = Some(Asked {
            bytes: bytes.clone(),
            lamp,
            since: now,
            next: now + T1,
            interval: T1,
        });
        Some(bytes)
    }

    fn request(&self, lamp: Option<Lamp>, has_body: bool) -> Vec<u8> {
        let (own, resource, serial) = (self.address, &self.resource, self.serial);
        let expires = lamp.map_or(0, |_| EXPIRES.as_secs());
        let condition = match &self.published {
            Some((_, tag, _)) => format!("SIP-If-Match: {tag}\r\n"),
            None => String::new(),
        };
        let (kind, body) = match lamp.filter(|_| has_body) {
            Some(lamp) => {
                let state = if lamp == Lamp::Lit {
                    "confirmed"
                } else {
                    "early"
                };
                let body = format!(
                    "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" \
                     version=\"{serial}\" state=\"full\" entity=\"sip:{resource}\">\
                     <dialog id=\"d\"><state>{state}</state></dialog></dialog-info>"
                );
                ("Content-Type: application/dialog-info+xml\r\n", body)
            }
            None => ("", String::new()),
        };
        format!(
            "PUBLISH sip:{resource} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bK-publish-{serial};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{resource}>;tag=publisher\r\n\
             To: <sip:{resource}>\r\n\
             Call-ID: publish-{serial}\r\n\
             CSeq: 1 PUBLISH\r\n\
             Event: dialog\r\n\
             Expires: {expires}\r\n\
             {condition}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// The answer to what it asked for.
    pub fn receive(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
    ) -> Result<(), Forgotten> {
        let own = format!("publish-{}", self.serial);
        if message.header("Call-ID") != Some(&own) {
            return Ok(());
        }
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        // Mostly at once, so that a crash finds it waiting for an answer.
        let most = if random.per_mille(950) { 15 } else { 20_000 };
        self.acts_at = now + random.millis(1, most);
        match message.status() {
            Some(200) => {
                let tag = message.header("SIP-ETag").unwrap_or_default().to_string();
                self.published = asked.lamp.map(|lamp| (lamp, tag, now + EXPIRES));
            }
            // It ends in order, and says so. An earlier life may have taken it.
            Some(503) => {
                self.acts_at = now + random.millis(500, 2_000);
                self.doubts(now);
            }
            status => {
                let before = self.published.take();
                let lives = before.as_ref().is_none_or(|(_, _, until)| *until > now);
                if lives && !self.is_doubtful(now) {
                    let what = format!("{status:?} to a PUBLISH of what was answered: {before:?}");
                    return Err(Forgotten(what));
                }
            }
        }
        Ok(())
    }

    /// A loss of power may have taken what was answered.
    pub fn doubts(&mut self, now: Time) {
        self.doubtful_until = now + EXPIRES + Duration::from_secs(2);
    }

    /// Whether nobody can say what its resource shows.
    pub fn is_doubtful(&self, now: Time) -> bool {
        self.doubtful_until > now
    }

    /// What a watcher of its resource sees, if anybody can say.
    pub fn shows(&self, now: Time) -> Option<Lamp> {
        let soon = now + Duration::from_secs(1);
        if self.asked.is_some() || self.is_doubtful(now) {
            return None;
        }
        match &self.published {
            None => Some(Lamp::Dark),
            Some((lamp, _, until)) => (*until > soon).then_some(*lamp),
        }
    }
}
