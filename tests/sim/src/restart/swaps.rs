//! Transports that are replaced while the server may be killed at any step: what it begins with is what the configuration
//! names then, also where no shard had heard of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard::control::{Adoption, Answer, Ask, Reply};
use lampfield::time::{T64, Time};
use lampfield::transport::generations::{Closing, Plan};
use lampfield::transport::{Leases, ListenerId, Transport};

use super::{Event, Lives};
use crate::message::Message;
use crate::sockets::{Arrival, Sockets, wanted};

/// Where the server may listen. It begins at the first of each family.
pub const ADDRESSES: [&str; 7] = [
    "192.0.2.1:5060",
    "[2001:db8::1]:5060",
    "192.0.2.2:5060",
    "192.0.2.1:5070",
    "0.0.0.0:5090",
    "[2001:db8::2]:5060",
    "[::]:5090",
];
/// By what address each of the two that stand for all is reached.
const REACHED: [&str; 2] = ["192.0.2.7:5090", "[2001:db8::7]:5090"];
const NEVER: Duration = Duration::from_secs(1_000_000);
/// The longest that a phone asks for, and what is on its way then.
const STAYS: Duration = Duration::from_secs(180 + T64.as_secs());
const TEND: Duration = Duration::from_secs(1);

/// The transports of a server, over its lives.
#[derive(Debug)]
pub struct Swaps {
    pub sockets: Sockets,
    /// What the configuration names.
    pub addresses: Vec<SocketAddr>,
    pub work: Option<Work>,
    /// When the next one begins.
    pub next: Time,
    often: bool,
}

/// A reload on its way.
#[derive(Debug)]
pub struct Work {
    plan: Plan,
    adoption: Option<Arc<lampfield::transport::ListenerTable>>,
    missing: BTreeSet<u16>,
}

impl Swaps {
    pub fn new(now: Time, often: bool) -> Self {
        let read = |text: &&str| text.parse().expect("an address and a port");
        let addresses: Vec<SocketAddr> = ADDRESSES[..2].iter().map(read).collect();
        Swaps {
            sockets: Sockets::new(now, 1, &wanted(Transport::Udp, &addresses, false)),
            addresses,
            work: None,
            next: now,
            often,
        }
    }

    /// A life begins, with what the configuration names.
    pub fn begin(&mut self, now: Time, shards: u16) {
        self.sockets = Sockets::new(now, shards, &wanted(Transport::Udp, &self.addresses, false));
        self.work = None;
        self.next = self.first(now);
    }

    pub fn first(&self, now: Time) -> Time {
        now + if self.often {
            Duration::from_millis(10)
        } else {
            NEVER
        }
    }
}

impl Lives {
    /// The configuration names other addresses, and every shard is to hear of it in its own time.
    pub(super) fn swap(&mut self) -> Result<(), String> {
        if self.swaps.work.is_some() {
            return Ok(());
        }
        let other: SocketAddr = self
            .random
            .pick(&ADDRESSES)
            .parse()
            .expect("an address and a port");
        let alike = |one: &SocketAddr| one.is_ipv4() == other.is_ipv4();
        let known = self.swaps.addresses.contains(&other);
        if !known && self.random.per_mille(700) {
            if self.random.per_mille(500) {
                self.swaps.addresses.retain(|one| !alike(one));
            }
            self.swaps.addresses.push(other);
        }
        let fresh = self.random.per_mille(300);
        let wanted = wanted(Transport::Udp, &self.swaps.addresses, fresh);
        let plan = loop {
            let plan = self.swaps.sockets.generations.plan(&wanted);
            match self.swaps.sockets.generations.in_the_way(&plan) {
                Some(closing) => self.close(closing)?,
                None => break plan,
            }
        };
        self.note(format!("{plan:?}"));
        self.swaps.sockets.open(&plan)?;
        let stays = match self.random.per_mille(500) {
            true => STAYS,
            false => self.random.millis(500, 20_000),
        };
        let table = self.swaps.sockets.activate(self.now, &plan, stays);
        let all = 0..self.shards;
        for shard in all.clone().map(ShardId) {
            self.schedule(0, 20, Event::Adopts(shard));
        }
        self.swaps.work = Some(Work {
            plan,
            adoption: Some(Arc::new(table)),
            missing: all.collect(),
        });
        Ok(())
    }

    pub(super) fn adopts(&mut self, shard: ShardId) -> Result<(), String> {
        let Some(mut work) = self.swaps.work.take() else {
            return Err("nothing to adopt".to_string());
        };
        let mut settings = self.settings.shards(self.shards)?.remove(0);
        settings.restart_notify = self.restart_notify;
        let table = work.adoption.clone().ok_or("it was adopted")?;
        let adoption = Adoption {
            listeners: table,
            ..settings.into()
        };
        let replies = self.ask(shard, Ask::Adopt(adoption))?;
        self.hear(&replies);
        work.missing.remove(&shard.0);
        if work.missing.is_empty() {
            work.adoption = None;
            work.missing = (0..self.shards).collect();
            for shard in (0..self.shards).map(ShardId) {
                self.schedule(0, 20, Event::Receives(shard));
            }
        }
        self.swaps.work = Some(work);
        Ok(())
    }

    pub(super) fn receives(&mut self, shard: ShardId) -> Result<(), String> {
        let Some(mut work) = self.swaps.work.take() else {
            return Err("nothing to receive on".to_string());
        };
        let read = self.swaps.sockets.receive(&work.plan, usize::from(shard.0));
        work.missing.remove(&shard.0);
        if work.missing.is_empty() {
            self.swaps.sockets.retire_replaced(&work.plan);
            self.schedule_at(self.now + TEND, Event::Tends);
        } else {
            self.swaps.work = Some(work);
        }
        for (listener, unread) in read {
            for (source, to, bytes) in unread {
                self.read_by_server(shard, listener, source, to, &bytes)?;
            }
        }
        Ok(())
    }

    /// Closes what may be closed.
    pub(super) fn tend(&mut self) -> Result<(), String> {
        // One thing after the other.
        if self.swaps.work.is_some() {
            return Ok(());
        }
        let mut leases: std::collections::BTreeMap<ListenerId, Leases> = Default::default();
        for shard in (0..self.shards).map(ShardId) {
            for reply in self.ask(shard, Ask::ReadLeases)? {
                match reply.answer {
                    Answer::Leases(some) => {
                        for (listener, more) in some {
                            leases.entry(listener).or_default().add(more);
                        }
                    }
                    answer => self.hear(&[Reply { answer, ..reply }]),
                }
            }
        }
        let leased = |id| leases.get(&id).copied().unwrap_or_default();
        while let Some(closing) = self.swaps.sockets.generations.closable(self.now, leased) {
            self.close(closing)?;
        }
        if self.swaps.sockets.generations.is_draining() {
            self.schedule_at(self.now + TEND, Event::Tends);
        }
        Ok(())
    }

    fn close(&mut self, closing: Closing) -> Result<(), String> {
        self.note(format!("{closing:?}"));
        if !closing.shared {
            self.swaps.sockets.retire(closing.id);
        }
        let (listener, to) = (closing.id, closing.to);
        for shard in (0..self.shards).map(ShardId) {
            let replies = self.ask(shard, Ask::CloseListener { listener, to })?;
            self.hear(&replies);
        }
        self.swaps.sockets.close(closing);
        Ok(())
    }

    /// A datagram comes to an address. Where nobody listens, its sender hears so, and tries another.
    pub(super) fn reach_server(
        &mut self,
        source: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        self.note(super::line(&Message::read_loosely(bytes), ">", source));
        if self.edge.is_none() {
            return Ok(());
        }
        let shard = ShardId(self.random.below(u64::from(self.shards)) as u16);
        let choice = self.random.next();
        let sockets = &mut self.swaps.sockets;
        match sockets.arrive(to, usize::from(shard.0), choice, (source, bytes)) {
            Arrival::Taken(listener) => self.read_by_server(shard, listener, source, to, bytes),
            Arrival::Unread => Ok(()),
            Arrival::Nobody => {
                self.note(format!("{to} is not there"));
                let server = self.server(to.is_ipv4());
                if let Some(phone) = self.phones.iter_mut().find(|one| one.address == source) {
                    phone.server = server;
                }
                if self.publisher.address == source {
                    self.publisher.server = server;
                }
                Ok(())
            }
        }
    }

    /// One of the addresses that are served.
    fn server(&mut self, is_ipv4: bool) -> SocketAddr {
        let served = self.swaps.addresses.iter().copied();
        let served: Vec<SocketAddr> = served.filter(|one| one.is_ipv4() == is_ipv4).collect();
        let one = *self.random.pick(&served);
        match one.ip().is_unspecified() {
            true => REACHED[usize::from(!is_ipv4)]
                .parse()
                .expect("an address and a port"),
            false => one,
        }
    }

    fn read_by_server(
        &mut self,
        shard: ShardId,
        listener: ListenerId,
        source: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), String> {
        self.datagrams += 1;
        let flow = self.swaps.sockets.flow(listener, source, to)?;
        let Some(edge) = &mut self.edge else {
            return Ok(());
        };
        edge.receive(shard, self.now, flow, bytes, bytes.len());
        let replies = self.flush(shard)?;
        self.hear(&replies);
        Ok(())
    }
}
