//! Time passes, and what is sent meanwhile arrives, or the kernel refuses it: to the phone of the case, and to the crowd
//! that takes what transactions there are.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield_sim::edge::Datagram;
use lampfield_sim::lamp::Document;
use lampfield_sim::message::Message;
use lampfield_sim::world::reply;

use super::case::{Failure, Lasts};
use super::{CROWD, CROWD_EVERY, Run, THINKING};
use crate::site::subscribe;

impl Run {
    /// Lets time pass for everybody.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.site.now + time;
        loop {
            let next = [
                self.site.next_deadline(),
                self.coming.keys().next().map(|(when, _)| *when),
                self.fails_until,
                self.next_crowd,
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.site.now = self.site.now.max(next);
            self.happen()?;
            if self.site.now > self.phone.gone_by
                && let Some(row) = self.row()
            {
                return Err(format!("stuck: {row:?}"));
            }
        }
        self.site.now = end;
        Ok(())
    }

    /// Everything that is due.
    fn happen(&mut self) -> Result<(), String> {
        let now = self.site.now;
        if self.fails_until.is_some_and(|until| until <= now) {
            self.heal()?;
        }
        if self.fails && self.case.failure == Failure::NoSlot {
            self.hoard.extend(self.site.hoard_slots());
        }
        if self.next_crowd.is_some_and(|when| when <= now) {
            self.next_crowd = Some(now + CROWD_EVERY);
            for _ in 0..CROWD {
                self.crowd += 1;
                let name = format!("dead{}", self.crowd);
                let fetch = subscribe(&name, crowd_address(), 1, "", 0);
                let sent = self.site.receive(crowd_address(), &fetch);
                self.carry(sent)?;
            }
        }
        while let Some(entry) = self.coming.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (source, bytes) = entry.remove();
            let sent = self.site.receive(source, &bytes);
            self.carry(sent)?;
        }
        if self.site.next_deadline().is_some_and(|when| when <= now) {
            let sent = self.site.tick();
            self.carry(sent)?;
        }
        Ok(())
    }

    /// What leaves is refused by the kernel, or arrives.
    pub(super) fn carry(&mut self, sent: Vec<Datagram>) -> Result<(), String> {
        let mut sent = VecDeque::from(sent);
        while let Some(datagram) = sent.pop_front() {
            let message = Message::read(&datagram.bytes)?;
            let is_notify = message.method() == Some("NOTIFY");
            if datagram.peer != self.phone.address {
                if is_notify && self.next_crowd.is_some() {
                    self.crowd_heard.push(message);
                } else if is_notify {
                    self.send(crowd_address(), reply(&message, 200, None));
                }
                continue;
            }
            match self.case.failure {
                Failure::Passing(_, errno) | Failure::Lasting(_, errno)
                    if self.fails && is_notify =>
                {
                    self.refused += 1;
                    self.fails = self.case.lasts != Lasts::Once;
                    sent.extend(self.site.send_failed(datagram.tag, errno));
                }
                _ => self.reach_phone(&message)?,
            }
        }
        match self.site.complaint() {
            None => Ok(()),
            Some(complaint) => Err(complaint),
        }
    }

    fn reach_phone(&mut self, message: &Message) -> Result<(), String> {
        let phone = &mut self.phone;
        if let Some(status) = message.status() {
            phone.answer = Some(status);
            if (200..300).contains(&status) {
                phone.server_tag = message.tag("To").unwrap_or_default().to_string();
            }
            return Ok(());
        }
        let Some(status) = phone.answers else {
            return Ok(());
        };
        let cseq = message.cseq().ok_or("a NOTIFY without CSeq")?;
        if cseq >= phone.newest && status == 200 {
            phone.newest = cseq;
            phone.shown = Some(Document::read(message)?.lamp());
            let state = message.header("Subscription-State").unwrap_or_default();
            phone.told_of_the_end |= state.starts_with("terminated");
        }
        let pause = (status == 503).then_some(2);
        let address = phone.address;
        self.send(address, reply(message, status, pause));
        Ok(())
    }

    fn send(&mut self, source: SocketAddr, bytes: Vec<u8>) {
        self.serial += 1;
        let when = self.site.now + THINKING;
        self.coming.insert((when, self.serial), (source, bytes));
    }
}

pub(super) fn crowd_address() -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], 5060))
}
