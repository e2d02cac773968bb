//! What the field does with a datagram that came, and with an answer that did not.

use std::cmp::Reverse;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::{AGAIN_MILLISECONDS, Field, LAST_WAIT, ODDITIES, Port, Way, Who};
use crate::phone::{Leniency, Stage, Verdict};
use crate::publisher::publisher_of;
use crate::wire::{Heard, number, write_answer};

/// How long what was sent by the connection before may come: its shard may have other work. What comes too late for
/// its order is seen by its CSeq.
const MOVING: Duration = Duration::from_secs(3);

impl Field {
    pub(super) fn hear(&mut self, port: usize, bytes: &[u8], peer: SocketAddr, class: Option<u8>) {
        let Ok(heard) = Heard::read(bytes) else {
            self.seen.unreadable += 1;
            return;
        };
        let came_from = self.came_from(&heard, peer);
        if heard.status != 0 {
            self.seen.answers_heard += 1;
            if !self.hear_visit(port, &heard) {
                self.hear_answer(&heard, came_from);
            }
        } else if heard.method == b"NOTIFY" {
            self.seen.notifies_heard += 1;
            let most = self.seen.notify_bytes_max.max(bytes.len() as u64);
            self.seen.notify_bytes_max = most;
            let status = self.hear_notify(&heard, port, came_from, class);
            if let Some(status) = status
                && !matches!(self.ports[port].way, Way::Closed)
            {
                write_answer(self.ports[port].way.open(), &heard, status);
                self.seen.answers_sent += 1;
                self.post(port, peer);
            }
        } else {
            self.seen.header_wrong += 1;
        }
    }

    /// Which of its addresses the server sent this from; behind a proxy, as the proxy says.
    fn came_from(&self, heard: &Heard<'_>, peer: SocketAddr) -> Option<SocketAddr> {
        match self.plan.edge {
            None => Some(peer),
            Some(_) => std::str::from_utf8(heard.came_from).ok()?.parse().ok(),
        }
    }

    /// Which phone, and which of its subscriptions: `PHONE-INCARNATION-RUN@…`.
    fn phone_of(&self, call_id: &[u8]) -> Option<(u32, u32)> {
        let mut parts = call_id.split(|&byte| byte == b'-');
        let phone = number(parts.next()?)?;
        let incarnation = number(parts.next()?)?;
        let known = (phone as usize) < self.phones.len();
        known.then_some((phone, incarnation))
    }

    /// What the phone answers; None: it is off.
    fn hear_notify(
        &mut self,
        heard: &Heard<'_>,
        port: usize,
        came_from: Option<SocketAddr>,
        class: Option<u8>,
    ) -> Option<&'static str> {
        const GONE: &str = "481 Call/Transaction Does Not Exist";
        let Some((index, incarnation)) = self.phone_of(heard.call_id) else {
            self.seen.wrong_dialog += 1;
            return Some(GONE);
        };
        let phone = &mut self.phones[index as usize];
        if phone.stage == Stage::Dead {
            return None;
        }
        if phone.incarnation != incarnation {
            // An earlier life of this phone, which it does not remember.
            return Some(GONE);
        }
        if phone.heard_cseq.is_some_and(|last| heard.cseq < last) && self.is_another(index, port) {
            // Shards write to their own connections: what was said by the one before may come after what is said by
            // the next. A phone forgets it (RFC 3261 12.2.2).
            self.seen.notifies_overtaken += 1;
            return Some("200 OK");
        }
        let phone = &mut self.phones[index as usize];
        self.local_tag.clear();
        write!(self.local_tag, "p{index}x{incarnation}").expect("a Vec takes every write");
        let was_active = phone.stage == Stage::Active;
        let was_wrong = was_active && !phone.right;
        let was_open = phone.waits();
        let ended_unasked = self.seen.ended_unasked;
        let verdict = phone.take_notify(
            heard,
            &self.local_tag,
            self.plan.package,
            Leniency {
                may_end: self.may_end,
                killed: self.killed,
            },
            &mut self.seen,
        );
        if self.seen.ended_unasked > ended_unasked {
            self.wonder(index, "was told its end");
        }
        if verdict == Verdict::Taken {
            self.check_place(index, heard, port, came_from, class);
        }
        let phone = &mut self.phones[index as usize];
        let truth = &self.resources[phone.resource as usize];
        phone.right = truth.state.shows_as(self.plan.package, phone.lamp);
        let is_open = phone.waits();
        let is_wrong = phone.stage == Stage::Active && !phone.right;
        self.open -= usize::from(was_open && !is_open);
        self.wrong = self.wrong + usize::from(is_wrong) - usize::from(was_wrong);
        if was_wrong && !is_wrong {
            let wrong_since = phone.wrong_since;
            if self.timed.contains(&index) {
                self.delays.push(self.now.saturating_sub(wrong_since));
            }
        }
        Some(match verdict {
            Verdict::Taken | Verdict::Again => "200 OK",
            Verdict::Foreign => GONE,
        })
    }

    /// A NOTIFY comes from where the phone's last accepted request went, to this phone's Contact and no other, and
    /// names the place where the next request shall go.
    fn check_place(
        &mut self,
        index: u32,
        heard: &Heard<'_>,
        port: usize,
        came_from: Option<SocketAddr>,
        class: Option<u8>,
    ) {
        let phone = &mut self.phones[index as usize];
        let from = |id| came_from == Some(self.places.address(id));
        // Until the answer is here, the request may have moved the dialog already or not.
        let moved = self.now < phone.moved + MOVING && phone.port_before == Some(port);
        let place = if phone.awaits_answer && from(phone.asked_at) {
            phone.asked_at
        } else if moved {
            phone.known_before
        } else {
            phone.known
        };
        self.seen.from_wrong_place += u64::from(!from(place));
        let Port {
            here, transport, ..
        } = &self.ports[port];
        let contact = format!(
            "sip:p{}k{index}@{here}{}",
            index / self.plan.keys,
            transport.parameter()
        );
        // As with places: until the answer is here it may be either. By a connection that was left just now it may
        // have been on its way.
        let asked = phone.awaits_answer || transport.is_datagrams();
        let here = (asked && phone.port == Some(port)) || phone.known_port == Some(port) || moved;
        let mine = here && heard.request_uri == contact.as_bytes();
        self.seen.to_wrong_place += u64::from(!mine);
        // RFC 6665 4.4.1: the Contact of a NOTIFY is the dialog's remote target from now on.
        phone.learn_target(heard);
        if self.may_end || self.plan.lose_permille > 0 {
            // It may be one that was begun long ago, and did not arrive until now.
            return;
        }
        let target = Heard::target(heard.contact).unwrap_or(b"");
        let right = self.places.may_say(place, target, self.now);
        self.seen.contact_wrong += u64::from(!right);
        let right = class.is_none_or(|class| self.places.may_mark(place, class, self.now));
        self.seen.class_wrong += u64::from(!right);
    }

    fn hear_answer(&mut self, heard: &Heard<'_>, came_from: Option<SocketAddr>) {
        if heard.status < 200 {
            return;
        }
        if let Some(index) = publisher_of(heard.call_id) {
            self.hear_publish_answer(index, heard);
            return;
        }
        let Some((index, incarnation)) = self.phone_of(heard.call_id) else {
            self.seen.wrong_dialog += 1;
            return;
        };
        let phone = &mut self.phones[index as usize];
        let awaited = phone.awaits_answer && heard.cseq == phone.cseq;
        if phone.incarnation != incarnation || !awaited {
            self.seen.answers_again += 1;
            return;
        }
        phone.awaits_answer = false;
        self.seen.answers += 1;
        if self.timed.contains(&index) {
            self.answer_times
                .push(self.now.saturating_sub(phone.asked_since));
        }
        // RFC 3261 18.2.2: an answer leaves from where its request came in.
        let right = came_from == Some(self.places.address(phone.asked_at));
        self.seen.from_wrong_place += u64::from(!right);
        match heard.status {
            200 => self.accepted(index, heard),
            500 | 503 => self.refused(index, heard.retry_after),
            // The dialog ended at the server's side before it heard that it should.
            481 if phone.asked == 0 || self.may_end => self.ended(index, Stage::Gone),
            status => {
                self.seen.answer_unexpected += 1;
                self.wonder(index, &format!("was answered {status}"));
                self.ended(index, Stage::Refused);
            }
        }
    }

    fn accepted(&mut self, index: u32, heard: &Heard<'_>) {
        let phone = &mut self.phones[index as usize];
        let tag = Heard::tag(heard.to).unwrap_or(b"");
        let begun = self.killed && phone.stage == Stage::Subscribing && !phone.tag.is_empty();
        if begun && *phone.tag != *tag {
            phone.begin_again(&mut self.seen);
        }
        self.open -= usize::from(!phone.awaits_notify);
        if tag.is_empty() || (!phone.tag.is_empty() && *phone.tag != *tag) {
            self.seen.wrong_dialog += 1;
        }
        if phone.tag.is_empty() {
            phone.tag = tag.into();
        }
        let known_before = std::mem::replace(&mut phone.known, phone.asked_at);
        let port = phone.port;
        let before = std::mem::replace(&mut phone.known_port, port);
        if before != port {
            phone.port_before = before;
            phone.known_before = known_before;
            phone.moved = self.now;
            self.use_port(port.expect("it has asked"));
            self.let_go(before);
        }
        let phone = &mut self.phones[index as usize];
        phone.learn_target(heard);
        phone.granted = heard.expires.unwrap_or(0);
        if heard.expires.is_none_or(|granted| granted > phone.asked) {
            self.seen.expires_wrong += 1;
        }
        // What has ended cannot be refreshed.
        let revived = phone.stage == Stage::Gone && phone.asked > 0;
        self.seen.answer_unexpected += u64::from(revived);
        if phone.stage == Stage::Subscribing {
            if self.plan.edge.is_some() {
                // The proxy recorded both of its sides.
                let both = phone.learn_routes(heard) == 2;
                self.seen.header_wrong += u64::from(!both);
            }
            phone.stage = Stage::Active;
            phone.wrong_since = self.now;
            self.wrong += usize::from(!phone.right);
        }
    }

    /// A refusal for now: the phone tries again when it may.
    fn refused(&mut self, index: u32, retry_after: Option<u32>) {
        self.seen.refusals += 1;
        let phone = &self.phones[index as usize];
        let wait = Duration::from_secs(u64::from(retry_after.unwrap_or(5)));
        self.retries.push(Reverse((self.now + wait, index)));
        // A dialog that was refused a refresh lives on.
        let stage = match phone.stage {
            Stage::Subscribing => Stage::Refused,
            stage => stage,
        };
        self.seen.refreshes_refused += u64::from(stage == Stage::Active);
        self.ended(index, stage);
    }

    /// Something happened to this phone that must not; the first of them are told at the end.
    fn wonder(&mut self, index: u32, what: &str) {
        if self.oddities.len() < ODDITIES {
            let (call_id, knows) = self.known_of(index);
            let at = self.now;
            self.oddities
                .push(format!("{call_id} {what} at {at:?}: {knows}"));
        }
    }

    /// This phone is switched off, and says nothing.
    pub fn die(&mut self, index: u32) {
        self.seen.deaths += 1;
        let phone = &mut self.phones[index as usize];
        self.wrong -= usize::from(phone.stage == Stage::Active && !phone.right);
        phone.stage = Stage::Dead;
    }

    /// Nothing more is awaited by this phone.
    fn ended(&mut self, index: u32, stage: Stage) {
        let phone = &mut self.phones[index as usize];
        self.open -= 1;
        self.wrong -= usize::from(phone.stage == Stage::Active && !phone.right);
        phone.awaits_answer = false;
        phone.awaits_notify = false;
        phone.stage = stage;
        self.wrong += usize::from(stage == Stage::Active && !phone.right);
    }

    /// The server was killed, or stood still for longer than it tells anybody anything. Whoever had unsubscribed, and was
    /// answered, may hear nothing more: what ends has only its last NOTIFY before it.
    pub fn forgive_last_notifies(&mut self) {
        for index in 0..self.phones.len() as u32 {
            let phone = &self.phones[index as usize];
            if phone.stage == Stage::Leaving && phone.awaits_notify && !phone.awaits_answer {
                self.seen.last_notifies_lost += 1;
                self.ended(index, Stage::Gone);
            }
        }
    }

    fn hear_publish_answer(&mut self, index: u32, heard: &Heard<'_>) {
        let Some(publisher) = self.publishers.get_mut(index as usize) else {
            self.seen.wrong_dialog += 1;
            return;
        };
        if !publisher.awaits_answer || heard.cseq != publisher.cseq {
            self.seen.answers_again += 1;
            return;
        }
        self.seen.answers += 1;
        self.open -= 1;
        self.seen.answer_unexpected += u64::from(!publisher.take_answer(heard));
    }

    /// Sends again what was not answered, and gives up after 64·T1.
    pub(super) fn send_again(&mut self) {
        for attempt in 0..AGAIN_MILLISECONDS.len() {
            while let Some(wait) = self.waits[attempt].front()
                && wait.due <= self.now
            {
                let wait = self.waits[attempt].pop_front().expect("it was there");
                if !self.is_awaited(wait.who, wait.cseq) {
                    continue;
                }
                if attempt >= LAST_WAIT {
                    self.give_up(wait.who);
                    continue;
                }
                self.seen.requests_again += 1;
                match wait.who {
                    Who::Phone { index, .. } => self.send_subscribe(index),
                    Who::Publisher(index) => self.send_publish(index),
                }
                self.wait(attempt + 1, wait.who, wait.cseq);
            }
        }
    }

    fn is_awaited(&self, who: Who, cseq: u32) -> bool {
        match who {
            Who::Phone { index, incarnation } => {
                let phone = &self.phones[index as usize];
                phone.awaits_answer && phone.incarnation == incarnation && phone.cseq == cseq
            }
            Who::Publisher(index) => {
                let publisher = &self.publishers[index as usize];
                publisher.awaits_answer && publisher.cseq == cseq
            }
        }
    }

    fn give_up(&mut self, who: Who) {
        if self.killed {
            // Whenever it asked again, nobody was there.
            self.seen.given_up += 1;
        } else {
            self.seen.requests_unanswered += 1;
        }
        match who {
            // As a phone that was switched off and on: a new dialog.
            Who::Phone { index, .. } if self.killed => self.subscribe(index),
            Who::Phone { index, .. } => {
                let failure = self.describe(index);
                self.lines.fail(failure);
                self.ended(index, Stage::Refused);
            }
            Who::Publisher(index) => {
                self.open -= 1;
                self.publishers[index as usize].awaits_answer = false;
            }
        }
    }

    /// Phones that were told to come again later do so.
    pub(super) fn try_again(&mut self) {
        while let Some(&Reverse((due, index))) = self.retries.peek()
            && due <= self.now
        {
            self.retries.pop();
            let phone = &self.phones[index as usize];
            match phone.stage {
                Stage::Refused => self.subscribe(index),
                Stage::Active if !phone.awaits_answer => self.refresh(index),
                Stage::Leaving if !phone.awaits_answer => self.unsubscribe(index),
                Stage::Off
                | Stage::Subscribing
                | Stage::Active
                | Stage::Leaving
                | Stage::Gone
                | Stage::Dead => {}
            }
        }
    }
}
