//! The other ends: what peers read and send, and what becomes of their connections while it storms.

use std::time::Duration;

use lampfield::config::limits;
use lampfield::partition::ShardId;
use lampfield::time::Time;
use lampfield::transport::ConnectionId;

use super::wire::{Pace, Read};
use super::{Event, Streams};

/// The kernel asks a silent peer whether it is still there, three times, and then gives the connection up.
const UNHEARD: Duration = Duration::from_secs(120);
const UNACKNOWLEDGED: Duration = Duration::from_secs(limits::STREAM_STALL_SECONDS);

impl Streams {
    /// A peer sends something.
    pub(super) fn say(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.up_ends) else {
            return;
        };
        wire.up.extend(bytes);
        self.arrives_soon(id);
    }

    fn arrives_soon(&mut self, id: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if !core::mem::replace(&mut wire.arriving, true) {
            let way = self.delay();
            self.schedule(way, Event::Up(id));
        }
    }

    /// A peer reads when there is something, at its pace.
    pub(super) fn read_soon(&mut self, id: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let something = !wire.down.is_empty() || wire.down_ends;
        if wire.vanished || !wire.peer_reads || wire.reading || !something {
            return;
        }
        wire.reading = true;
        let pace = Duration::from_millis(wire.pace.every_ms);
        let stalled = wire.stalled_until;
        let way = self.delay().max(pace);
        let after = match stalled > self.now {
            true => way.max(stalled.since(self.now)),
            false => way,
        };
        self.schedule(after, Event::Down(id));
    }

    pub(super) fn read(&mut self, id: ConnectionId) -> Result<(), String> {
        let Some(wire) = self.wires.get_mut(&id) else {
            return Ok(());
        };
        wire.reading = false;
        if wire.vanished || !wire.peer_reads || wire.stalled_until > self.now {
            self.read_soon(id);
            return Ok(());
        }
        for read in wire.read()? {
            match read {
                Read::Message(message) => self.hear(id, &message)?,
                Read::Web(said) => self.hear_page(id, said)?,
            }
        }
        if self
            .wires
            .get(&id)
            .is_some_and(|wire| wire.is_read_to_the_end())
        {
            self.hang_up(id, false);
            self.is_gone(id);
            return Ok(());
        }
        self.pump(id)
    }

    /// A peer says nothing more; it reads on, or does not.
    pub(super) fn hang_up(&mut self, id: ConnectionId, reads: bool) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.up_ends = true;
            wire.peer_reads = reads;
            self.arrives_soon(id);
        }
    }

    /// A peer knows that its connection has ended.
    pub(super) fn is_gone(&mut self, id: ConnectionId) {
        let Some(carrier) = self.wires.get(&id).and_then(|wire| wire.carrier) else {
            return;
        };
        if self.carriers[carrier].wire == Some(id) && !self.is_over {
            let pause = match self.next_trouble {
                Some(_) => self.random.millis(0, 5_000),
                None => self.random.millis(0, 200),
            };
            self.carriers[carrier].wire = None;
            self.carriers[carrier].connects_at = Some(self.now + pause);
        }
    }

    /// A peer has a connection. The one before, if it has one, it has forgotten.
    pub(super) fn is_there(&mut self, carrier: usize, id: ConnectionId) {
        if let Some(former) = self.carriers[carrier].wire.replace(id) {
            self.vanish(former);
        }
        if self.carriers[carrier].is_edge {
            return;
        }
        for &at in &self.carriers[carrier].phones {
            self.phones[at].refresh_one(self.now, &mut self.random);
        }
    }

    /// Somebody has reset a connection.
    pub(super) fn reset(&mut self, id: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let seen = !wire.vanished;
        wire.up.clear();
        wire.up_ends = true;
        wire.down.clear();
        wire.peer_reads = false;
        if wire.open {
            let way = self.delay();
            self.schedule(way, Event::Lost(id));
        }
        if seen {
            self.is_gone(id);
        }
    }

    /// Nothing gets through any more; neither side is told.
    fn vanish(&mut self, id: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        wire.vanished = true;
        wire.up.clear();
        let unheard = !wire.down.is_empty();
        wire.losing |= unheard;
        let after = if unheard { UNACKNOWLEDGED } else { UNHEARD };
        self.schedule(after, Event::Lost(id));
    }

    /// Something happens to somebody's connection.
    pub(super) fn make_trouble(&mut self) -> Result<(), String> {
        let carrier = self.random.below(self.carriers.len() as u64) as usize;
        let what = self.random.below(15);
        if what == 10 {
            self.schedule(Duration::ZERO, Event::Opens { carrier: None });
        }
        if what == 11 && self.swaps {
            return self.swap();
        }
        let Some(id) = self.carriers[carrier].wire else {
            return Ok(());
        };
        self.note(|| format!("trouble {what} with {id:?} of {carrier}"));
        match what {
            0 => self.reset(id),
            1 => {
                self.refresh_some(carrier);
                self.break_off(id);
            }
            2 => {
                self.refresh_some(carrier);
                self.hang_up(id, true);
            }
            3 => {
                self.refresh_some(carrier);
                self.hang_up(id, false);
                self.is_gone(id);
            }
            4 => self.vanish(id),
            5 | 6 => {
                let until = self.now + self.random.millis(100, 70_000);
                self.set_pace(id, Pace::FAST, until);
            }
            7 => {
                let pace = Pace {
                    bytes: self.random.between(1, 2_000) as usize,
                    every_ms: self.random.between(10, 400),
                };
                self.set_pace(id, pace, self.now);
            }
            8 => {
                let until = self.now + self.random.millis(0, 20_000);
                for at in self.carriers[carrier].phones.clone() {
                    self.phones[at].reboot(until);
                }
                match self.random.per_mille(500) {
                    true => self.vanish(id),
                    false => self.reset(id),
                }
            }
            // Another connection, while the one before lives as far as the server sees.
            9 => self.carriers[carrier].connects_at = Some(self.now),
            13 => self.closes_page(id, carrier),
            14 => self.pings(id),
            _ => self.disturb(id),
        }
        Ok(())
    }

    /// A shard takes nothing for a while, of others or of its connections, and its timers fire late; then it catches up.
    pub(super) fn lag(&mut self) {
        let shard = ShardId(self.random.below(u64::from(self.shards)) as u16);
        let until = self.now + self.random.millis(10, self.lag_most_ms);
        self.note(|| format!("{shard:?} lags until {until:?}"));
        self.post.lag(shard, until);
        self.lagged_until = self.lagged_until.max(until);
    }

    fn set_pace(&mut self, id: ConnectionId, pace: Pace, stalled_until: Time) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.pace = pace;
            wire.stalled_until = stalled_until;
        }
    }

    pub(super) fn refresh_some(&mut self, carrier: usize) {
        let phones = &self.carriers[carrier].phones;
        let at = phones[self.random.below(phones.len() as u64) as usize];
        self.phones[at].refresh_one(self.now, &mut self.random);
        self.wake_all();
    }

    /// It ends in the middle of what is on its way.
    fn break_off(&mut self, id: ConnectionId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            let length = self.random.below(wire.up.len() as u64 + 1) as usize;
            let begun: Vec<u8> = wire.up.drain(..length).collect();
            self.reset(id);
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.up.extend(begun);
            }
            self.arrives_soon(id);
        }
    }

    /// A keep-alive, or what a stranger says.
    fn disturb(&mut self, own: ConnectionId) {
        self.say_message(own, b"\r\n\r\n");
        let mut strangers = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.carrier.is_none() && wire.known);
        let Some((&id, _)) = strangers.next_back() else {
            return;
        };
        let texts: [&[u8]; 8] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"OPTIONS sip:a SIP/2.0\r\nContent-Le",
            b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 99999\r\n\r\n",
            b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"\r\n\r\n\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgr",
            b"GET /elsewhere HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\
              Sec-WebSocket-Version: 13\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\
              Sec-WebSocket-Version: 13\r\n\r\n\x81\x85\0\0\0\0hello",
        ];
        let text = self.random.pick(&texts);
        self.say(id, text);
    }
}
