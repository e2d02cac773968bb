//! What goes on in a simulated day: who is there, and what goes wrong while it storms.

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::shard::control::Ask;
use lampfield::time::T64;

use super::feed::PLAIN;
use super::hostile::Hostile;
use super::network::Weather;
use super::phone::{Mood, Phone};
use super::publisher::Publisher;
use super::{PHONES_MAX, World, key_of};
use crate::lamp::Lamp;

/// How long calm must last until every lamp is right that the server knows of.
const HEALED: Duration = Duration::from_millis(32_000 + 2 * 20 + 2_000);
/// What phones subscribe to; most of it are lamps.
const PACKAGES: [(&str, &str); 6] = [
    ("dialog", "application/dialog-info+xml"),
    ("dialog", "application/dialog-info+xml"),
    ("dialog", "application/dialog-info+xml"),
    ("dialog", "application/dialog-info+xml"),
    ("presence", "application/pidf+xml"),
    ("message-summary", "application/simple-message-summary"),
];
/// The promise: a lamp is right within a second.
const WITHIN: Duration = Duration::from_secs(1);
/// How long until also those are right that the server has given up, after the longest expiry: phones notice at their refresh.
const ALL_RIGHT: Duration = Duration::from_secs(20);

impl World {
    pub(super) fn populate(&mut self) {
        let resources = self.random.between(1, 8) as usize;
        for number in 0..resources {
            self.resources.push(format!("sip:r{number}@example.com"));
            self.truth.push(super::Truth::default());
        }
        self.crowd = self.random.per_mille(30);
        let phones = match self.crowd {
            true => self.random.between(PHONES_MAX / 2, PHONES_MAX - 1),
            false => self.random.between(1, 24),
        };
        for number in 0..phones {
            let phone = self.new_phone(number as u16);
            self.phones.push(phone);
        }
        for number in 0..self.random.between(0, 3) as u8 {
            let resource = self.random.below(resources as u64) as usize;
            let address = SocketAddr::from(([10, 2, 0, number + 1], 5060));
            let name = format!("publisher{number}");
            let server = self.server(true);
            self.publishers
                .push(Publisher::new(name, address, resource, server));
        }
        // One who takes everything would leave nothing to the others where there is little.
        if self.random.per_mille(300) && !self.scarce {
            self.hostile = Some(Hostile::new(SocketAddr::from(([10, 66, 6, 6], 5060))));
        }
    }

    fn new_phone(&mut self, number: u16) -> Phone {
        let count = if self.crowd {
            2
        } else {
            self.random.between(1, 4)
        };
        let (high, low) = ((number / 250) as u8, (number % 250) as u8 + 1);
        let mut resources: Vec<_> = (0..count)
            .map(|_| {
                let resource = self.random.below(self.resources.len() as u64) as usize;
                (resource, *self.random.pick(&PACKAGES))
            })
            .collect();
        // Two keys for one resource would take it from each other for ever.
        if self.witness.replaces {
            resources.sort_unstable();
            resources.dedup();
        }
        let (address, contact, edge) = match self.random.below(3) {
            _ if self.six && self.random.per_mille(300) => {
                let host = [0x2001, 0xdb8, 1, 0, 0, 0, 0, number + 1];
                let address = SocketAddr::from((host, 5060));
                (address, address.to_string(), None)
            }
            0 => {
                let address = SocketAddr::from(([10, 1, high, low], 5060));
                (address, address.to_string(), None)
            }
            1 => {
                let address = SocketAddr::from(([198, 51, high, low], 40_000));
                (address, format!("192.168.{high}.{low}:5060"), None)
            }
            _ => (
                self.sbc,
                format!("172.16.{high}.{low}:5060"),
                Some(self.sbc),
            ),
        };
        let expires = *self.random.pick(&[60, 90, 120, self.expires_max]);
        let first = self.now + self.random.millis(0, 3_000);
        let name = format!("phone{number}");
        let addresses = [address, self.server(address.is_ipv4())];
        Phone::new(name, addresses, contact, edge, &resources, expires, first)
    }

    /// One whole run.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.random.between(1, 3) {
            self.storm()?;
            self.calm()?;
            self.breeze()?;
        }
        self.end()
    }

    fn storm(&mut self) -> Result<(), String> {
        self.weather = Weather::stormy(&mut self.random);
        self.trace
            .note(self.now, format!("a storm: {:?}", self.weather));
        for index in 0..self.phones.len() {
            let mood = self.mood();
            self.phones[index].mood = mood;
        }
        self.next_action = Some(self.now);
        let longest = if self.crowd { 20_000 } else { 120_000 };
        let end = self.now + self.random.millis(5_000, longest);
        self.run_until(end)
    }

    fn mood(&mut self) -> Mood {
        Mood {
            answer_ms: *self.random.pick(&[0, 5, 50, 600, 3_000]),
            silent_per_mille: *self.random.pick(&[0, 0, 100, 500, 1000]),
            gone_per_mille: *self.random.pick(&[0, 0, 5, 50]),
            busy_per_mille: *self.random.pick(&[0, 0, 20, 200]),
            trying_per_mille: *self.random.pick(&[0, 0, 50, 500]),
        }
    }

    fn calm(&mut self) -> Result<(), String> {
        self.trace.note(self.now, "it is calm".to_string());
        self.weather = Weather::calm();
        self.next_action = None;
        for phone in &mut self.phones {
            phone.mood = Mood {
                answer_ms: 5,
                ..Mood::default()
            };
            if phone.is_off(self.now) {
                phone.off_until = Some(self.now);
            }
        }
        let healed = self.now + HEALED;
        let all_right = self.now + Duration::from_secs(self.expires_max) + ALL_RIGHT + T64;
        self.run_until(healed)?;
        self.healed()?;
        self.run_until(all_right)?;
        self.healed()?;
        self.all_right()
    }

    /// Good weather, and changes far enough apart: every lamp is right within a second of each.
    fn breeze(&mut self) -> Result<(), String> {
        self.trace.note(self.now, "a breeze".to_string());
        for _ in 0..self.random.between(0, 8) {
            if self.random.per_mille(300) {
                let index = self.move_a_phone();
                self.phones[index].refresh_a_key(self.now);
            }
            if self.swaps_often && self.random.per_mille(300) {
                self.swap_something(true);
            }
            self.change_a_hint();
            let rest = self.random.millis(0, 4_000);
            // A change may take 400 ms to the server where its source is late.
            let within = if self.crowd || self.narrow || self.scarce {
                WITHIN * 3
            } else {
                WITHIN
            };
            self.run_until(self.now + Duration::from_millis(400) + within)?;
            self.healed()?;
            self.run_until(self.now + rest)?;
        }
        Ok(())
    }

    /// Something happens to somebody.
    pub(super) fn act(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..50 => self.change_a_hint(),
            50..65 => self.change_a_publisher(),
            65..70 => self.reboot_a_phone(),
            70..76 => self.switch_a_phone_off(),
            76..82 => _ = self.move_a_phone(),
            82..90 => self.send_garbage(),
            90..92 => self.spread = self.random.next(),
            92..95 => self.unsubscribe_a_key(),
            95 if self.swaps_often => self.swap_something(false),
            96 if self.naps => self.nap()?,
            _ => {
                let weather = Weather::stormy(&mut self.random);
                self.trace.note(self.now, format!("{weather:?}"));
                self.weather = weather;
            }
        }
        Ok(())
    }

    fn change_a_hint(&mut self) {
        let index = self.random.below(self.resources.len() as u64) as usize;
        let key = key_of(&self.resources[index]).to_string();
        let change = self.truth[index].change(self.now, &key, &mut self.random);
        let numbered = !format!("{change:?}").contains(&format!("{PLAIN:?}"));
        if !numbered {
            // In order: the control thread has one way to each shard.
            return self.change_hint(change, Duration::from_millis(3));
        }
        if self.random.per_mille(200) {
            let again = self.random.millis(0, 400);
            self.change_hint(change.clone(), again);
        }
        let after = self.random.millis(0, 200);
        self.change_hint(change, after);
    }

    fn change_a_publisher(&mut self) {
        if self.publishers.is_empty() {
            return;
        }
        let index = self.random.below(self.publishers.len() as u64) as usize;
        let states = [
            None,
            Some(Lamp::Trying),
            Some(Lamp::Blinking),
            Some(Lamp::Lit),
            Some(Lamp::Dark),
        ];
        self.publishers[index].wants = *self.random.pick(&states);
    }

    fn some_phone(&mut self) -> usize {
        self.random.below(self.phones.len() as u64) as usize
    }

    fn reboot_a_phone(&mut self) {
        let index = self.some_phone();
        let off = self.random.millis(0, 20_000);
        self.trace.note(
            self.now,
            format!("{} reboots for {off:?}", self.phones[index].name),
        );
        self.phones[index].reboot(self.now, off);
    }

    fn switch_a_phone_off(&mut self) {
        let index = self.some_phone();
        let until = self.now + self.random.millis(100, 60_000);
        self.trace.note(
            self.now,
            format!("{} is off until {until:?}", self.phones[index].name),
        );
        self.phones[index].off_until = Some(until);
    }

    /// Its NAT gives a phone another port.
    fn move_a_phone(&mut self) -> usize {
        let index = self.some_phone();
        let phone = &mut self.phones[index];
        // What is sent to the old port is never answered: it would keep what there is too little of.
        if phone.address.port() < 40_000 || self.scarce {
            return index;
        }
        self.former.insert(phone.address);
        let port = phone.address.port() + 1;
        phone.address.set_port(port);
        self.trace.note(
            self.now,
            format!("{} is at port {port} now", self.phones[index].name),
        );
        index
    }

    fn send_garbage(&mut self) {
        let Some(hostile) = &mut self.hostile else {
            return;
        };
        let source = hostile.address;
        let count = self.random.between(1, 30);
        let garbage: Vec<_> = (0..count)
            .map(|_| hostile.datagram(&mut self.random))
            .collect();
        for bytes in garbage {
            let to = self.server(true);
            self.send(source, to, bytes, Duration::ZERO);
        }
    }

    /// The host is suspended: nothing happens, and then everything is late.
    fn nap(&mut self) -> Result<(), String> {
        self.flush_all()?;
        self.witness.sends_fail = true;
        self.napped = true;
        let nap = self.random.millis(100, 25_000);
        self.trace
            .note(self.now, format!("the host sleeps for {nap:?}"));
        self.now = self.now + nap;
        self.next_check = self.now + Duration::from_secs(1);
        Ok(())
    }

    fn unsubscribe_a_key(&mut self) {
        let index = self.some_phone();
        let phone = &mut self.phones[index];
        let key = self.random.below(phone.keys.len() as u64) as usize;
        let retired = !phone.keys[key].retired;
        phone.keys[key].retired = retired;
        phone.keys[key].wakes = Some(self.now);
    }

    /// Everybody leaves, one way or another, and nothing may be left.
    fn end(&mut self) -> Result<(), String> {
        let way = self.random.below(3);
        self.trace.note(self.now, format!("the end, way {way}"));
        for publisher in &mut self.publishers {
            publisher.wants = None;
        }
        for index in 0..self.resources.len() {
            let key = key_of(&self.resources[index]).to_string();
            for change in self.truth[index].clear(&key) {
                self.change_hint(change, Duration::from_millis(3));
            }
        }
        match way {
            0 => {
                for phone in &mut self.phones {
                    phone.retire(self.now);
                }
            }
            1 => {
                for phone in &mut self.phones {
                    for key in &mut phone.keys {
                        key.retired = true;
                        key.wakes = None;
                    }
                    phone.off_until = Some(self.now + Duration::from_secs(100_000));
                }
            }
            _ => self.drain()?,
        }
        self.run_until(self.now + Duration::from_secs(self.expires_max) + 4 * T64)?;
        self.run_until(self.now + Duration::from_secs(3_700))?;
        self.nothing_left()
    }

    /// A planned stop: every subscription is told that it ends, within the given time.
    fn drain(&mut self) -> Result<(), String> {
        for phone in &mut self.phones {
            for key in &mut phone.keys {
                key.retired = true;
                key.wakes = None;
            }
        }
        let within = Duration::from_secs(2);
        for shard in self.edge.ids() {
            self.ask_later(shard, Ask::Drain { within }, Duration::ZERO);
        }
        self.run_until(self.now + within + Duration::from_millis(100))?;
        self.all_told_that_it_ends()
    }
}
