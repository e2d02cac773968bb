//! A phone with one key, on a line that loses nothing while the server lives: whatever it misses, a crash has taken.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lampfield::time::{T1, T2, T64, Time};

use crate::lamp::{Document, Lamp};
use crate::message::Message;
use crate::random::Random;
use crate::world::reply;

/// One phone.
#[derive(Debug)]
pub struct Phone {
    pub address: SocketAddr,
    /// Where its requests go.
    pub server: SocketAddr,
    number: usize,
    pub resource: String,
    /// How often it has begun a dialog.
    round: u32,
    pub dialog: Option<Dialog>,
    pub asked: Option<Asked>,
    /// When it last did.
    pub asked_at: Time,
    /// When it does something of its own accord.
    acts_at: Time,
    pub shown: Lamp,
}

/// The dialog that it believes in.
#[derive(Clone, Debug)]
pub struct Dialog {
    pub server_tag: String,
    pub expires_at: Time,
    cseq: u32,
    /// When it was last told anything.
    pub told_at: Time,
    /// A loss of power may have taken it, and it was not heard of since.
    pub doubtful: bool,
    /// How often it is told at most, as its last answered request asked; None: nobody can say.
    rate: Option<Rate>,
    /// What was so before that answer came, and when it did: a NOTIFY may have been overtaken.
    former: (Option<Rate>, Time),
}

/// NOTIFYs in a second; None: as many as come. None that is asked for makes anybody wait for long.
type Rate = Option<u32>;

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub struct Asked {
    bytes: Vec<u8>,
    since: Time,
    next: Time,
    interval: Duration,
    /// It ends the dialog.
    pub ends: bool,
    in_dialog: bool,
    rate: Rate,
}

/// What an answer meant that a phone may complain of.
#[derive(Debug)]
pub struct Forgotten(pub String);

impl Phone {
    pub fn new(
        number: usize,
        server: SocketAddr,
        resource: String,
        now: Time,
        random: &mut Random,
    ) -> Self {
        let host = match server.ip() {
            IpAddr::V4(_) => IpAddr::from([10, 3, 0, number as u8]),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 3, 0, 0, 0, 0, number as u16 + 1]),
        };
        Phone {
            address: SocketAddr::new(host, 5060),
            server,
            number,
            resource,
            round: 0,
            dialog: None,
            asked: None,
            asked_at: now,
            acts_at: now + random.millis(1, 500),
            shown: Lamp::Dark,
        }
    }

    pub fn call_id(&self) -> String {
        format!("call-{}-{}", self.number, self.round)
    }

    /// When it wants to be woken.
    pub fn next_wake(&self) -> Time {
        self.asked.as_ref().map_or(self.acts_at, |asked| asked.next)
    }

    /// What it sends now.
    pub fn wake(&mut self, now: Time, random: &mut Random) -> Option<Vec<u8>> {
        self.asked_at = now;
        if let Some(asked) = &mut self.asked {
            if now.since(asked.since) >= T64 {
                self.asked = None;
                self.dialog = None;
                self.acts_at = now;
                return None;
            }
            asked.interval = (asked.interval * 2).min(T2);
            asked.next = now + asked.interval;
            return Some(asked.bytes.clone());
        }
        if self
            .dialog
            .as_ref()
            .is_some_and(|dialog| dialog.expires_at <= now)
        {
            self.dialog = None;
        }
        let ends = self.dialog.is_some() && random.per_mille(100);
        let in_dialog = self.dialog.is_some();
        let (cseq, to_tag) = match &mut self.dialog {
            Some(dialog) => {
                dialog.cseq += 1;
                (dialog.cseq, format!(";tag={}", dialog.server_tag))
            }
            None => {
                self.round += 1;
                (1, String::new())
            }
        };
        let expires = if ends { 0 } else { random.between(61, 180) };
        let rate = random.per_mille(500).then(|| random.between(20, 99) as u32);
        let bytes = self.subscribe(cseq, &to_tag, expires, rate);
        self.asked = Some(Asked {
            bytes: bytes.clone(),
            since: now,
            next: now + T1,
            interval: T1,
            ends,
            in_dialog,
            rate,
        });
        Some(bytes)
    }

    fn subscribe(&self, cseq: u32, to_tag: &str, expires: u64, rate: Rate) -> Vec<u8> {
        let rate = rate.map_or(String::new(), |rate| format!(";max-rate={rate}"));
        let (own, number, call_id) = (self.address, self.number, self.call_id());
        let resource = &self.resource;
        format!(
            "SUBSCRIBE sip:{resource} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bK-{call_id}-{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:watcher{number}@example.com>;tag=own{number}\r\n\
             To: <sip:{resource}>{to_tag}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} SUBSCRIBE\r\n\
             Contact: <sip:watcher{number}@{own}>\r\n\
             Event: dialog{rate}\r\n\
             Expires: {expires}\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// A message from the server; what it answers, if it does.
    pub fn receive(
        &mut self,
        now: Time,
        message: &Message,
        random: &mut Random,
    ) -> Result<Option<Vec<u8>>, Forgotten> {
        match message.status() {
            Some(status) => self.answered(now, message, status, random).map(|()| None),
            None => self.notified(now, message).map(Some),
        }
    }

    fn answered(
        &mut self,
        now: Time,
        message: &Message,
        status: u16,
        random: &mut Random,
    ) -> Result<(), Forgotten> {
        let Some(asked) = &self.asked else {
            return Ok(());
        };
        let is_its = message.list("Via").first().is_some_and(|via| {
            let own = Message::read_loosely(&asked.bytes);
            own.list("Via").first().map(|own| branch(own)) == Some(branch(via))
        });
        if !is_its || message.header("Call-ID") != Some(&self.call_id()) {
            return Ok(());
        }
        let asked = self.asked.take().expect("just seen");
        self.acts_at = now + random.millis(100, 50_000);
        match status {
            200 if asked.ends => self.dialog = None,
            200 => {
                let seconds = message.header("Expires").and_then(|text| text.parse().ok());
                let expires_at = now + Duration::from_secs(seconds.unwrap_or(0));
                let server_tag = message.tag("To").unwrap_or_default().to_string();
                let dialog = self.dialog.get_or_insert(Dialog {
                    server_tag,
                    expires_at,
                    cseq: 1,
                    told_at: now,
                    doubtful: false,
                    rate: None,
                    former: (None, now),
                });
                dialog.former = (dialog.rate.replace(asked.rate), now);
                dialog.expires_at = expires_at;
                dialog.doubtful = false;
            }
            // It ends in order, and says so: later.
            503 => {
                self.acts_at = now + random.millis(500, 2_000);
                // An earlier life may have taken it.
                if let Some(dialog) = &mut self.dialog {
                    dialog.rate = None;
                }
            }
            _ => {
                let dialog = self.dialog.take();
                self.acts_at = now + random.millis(1, 2_000);
                // It ends by itself at about this time.
                let lived = |dialog: &Dialog| {
                    !dialog.doubtful && dialog.expires_at > now + Duration::from_secs(1)
                };
                // The end that it asked for may have come, and the answer been lost.
                if asked.in_dialog && !asked.ends && dialog.as_ref().is_some_and(lived) {
                    let what = format!("{status} for a dialog that was answered: {dialog:?}");
                    return Err(Forgotten(what));
                }
            }
        }
        Ok(())
    }

    /// 200 for what it knows, 481 for everything else.
    fn notified(&mut self, now: Time, message: &Message) -> Result<Vec<u8>, Forgotten> {
        let state = message.header("Subscription-State").unwrap_or_default();
        let rate: Rate =
            crate::message::parameter(state, "max-rate").and_then(|rate| rate.parse().ok());
        let is_current = message.header("Call-ID") == Some(&self.call_id());
        let tag = message.tag("From").unwrap_or_default();
        let ends = state.starts_with("terminated");
        let known = match &mut self.dialog {
            Some(dialog) if is_current && dialog.server_tag == tag => {
                dialog.told_at = now;
                // A refresh may have gone with what was lost; it hears of that here.
                if !ends && core::mem::take(&mut dialog.doubtful) {
                    dialog.rate = None;
                    if let Some(left) = seconds_left(message) {
                        dialog.expires_at = dialog.expires_at.min(now + left);
                    }
                }
                let asked = self.asked.as_ref();
                let may_be = dialog.rate.is_none_or(|known| known == rate)
                    || asked.is_some_and(|asked| asked.rate == rate)
                    || dialog.was_told_before(now, rate);
                if state.starts_with("active") && !may_be {
                    let what = format!("{state} is said, and asked was for {dialog:?}");
                    return Err(Forgotten(what));
                }
                true
            }
            Some(_) => false,
            None => is_current && self.asked.is_some(),
        };
        if !known {
            return Ok(reply(message, 481, None));
        }
        if let Ok(document) = Document::read(message) {
            self.shown = document.lamp();
        }
        if ends && self.asked.is_none() {
            self.dialog = None;
        }
        Ok(reply(message, 200, None))
    }

    /// Whether it may expect to be told.
    pub fn waits(&self, now: Time) -> Option<&Dialog> {
        let dialog = self.dialog.as_ref()?;
        let ends = self.asked.as_ref().is_some_and(|asked| asked.ends);
        (!ends && !dialog.doubtful && dialog.expires_at > now).then_some(dialog)
    }
}

impl Dialog {
    /// Whether a NOTIFY with that rate may have left before the answer that named another one.
    fn was_told_before(&self, now: Time, rate: Rate) -> bool {
        let (former, until) = self.former;
        former.is_none_or(|former| former == rate) && now.since(until) < Duration::from_millis(100)
    }
}

/// What Subscription-State says.
fn seconds_left(message: &Message) -> Option<Duration> {
    let state = message.header("Subscription-State")?;
    let seconds = crate::message::parameter(state, "expires")?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn branch(via: &str) -> &str {
    crate::message::parameter(via, "branch").unwrap_or_default()
}
