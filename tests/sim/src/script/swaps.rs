//! `listen`, `unlisten`, `swap`: what a reload does with the transports. A scenario's control thread takes no time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::shard::control::{Adoption, Answer, Ask};
use lampfield::time::{T64, Time};
use lampfield::transport::generations::{Closing, Wanted};
use lampfield::transport::{Leases, ListenerId};

use super::settings::Listener;
use super::stage::Stage;
use crate::sockets::Sockets;

/// How often what drains is looked at.
const TEND: Duration = Duration::from_secs(1);
/// An address that goes away stays so long where the scenario does not say: the longest expiry, and 64·T1.
const STAYS: Duration = Duration::from_secs(3600);

/// The transports of a scenario.
pub struct Transports {
    pub sockets: Sockets,
    /// What the configuration names, in its order.
    wanted: Vec<String>,
    /// Every listener that there ever was, by the name that scenarios know it by.
    names: BTreeMap<ListenerId, String>,
    next_tend: Time,
}

impl Transports {
    pub fn new(now: Time, shards: u16, listeners: &[Listener]) -> Self {
        let first: Vec<Wanted> = listeners.iter().map(|one| one.wanted(false)).collect();
        let named = |one: &Listener| (one.id, one.name.clone());
        Transports {
            sockets: Sockets::new(now, shards, &first),
            wanted: listeners.iter().map(|one| one.name.clone()).collect(),
            names: listeners.iter().map(named).collect(),
            next_tend: now,
        }
    }

    /// What a scenario calls the listener of that number.
    pub fn name(&self, id: ListenerId) -> Option<&String> {
        self.names.get(&id)
    }

    /// The listener that a message goes to which was for this one, or has come from it.
    pub fn living(&self, id: ListenerId, listeners: &[Listener]) -> ListenerId {
        let name = self.name(id).filter(|_| self.sockets.leave(id).is_err());
        let named = name.and_then(|name| listeners.iter().find(|one| one.name == *name));
        named.map_or(id, |one| one.id)
    }

    /// When what drains is looked at next.
    pub fn next_tend(&self) -> Option<Time> {
        let draining = self.sockets.generations.is_draining();
        draining.then_some(self.next_tend)
    }
}

impl Stage {
    /// `listen second 192.0.2.2:5060`: with the next swap.
    pub fn listen(&mut self, name: &str, address: &str) -> Result<(), String> {
        let address: SocketAddr = address
            .parse()
            .map_err(|_| format!("no address: {address}"))?;
        match self.listeners.iter_mut().find(|one| one.name == name) {
            Some(known) => known.address = address,
            None => self.listeners.push(Listener::new(name, address)),
        }
        self.transports.wanted.retain(|wanted| wanted != name);
        self.transports.wanted.push(name.to_string());
        Ok(())
    }

    /// `unlisten four`: with the next swap.
    pub fn unlisten(&mut self, name: &str) -> Result<(), String> {
        let before = self.transports.wanted.len();
        self.transports.wanted.retain(|wanted| wanted != name);
        match self.transports.wanted.len() < before {
            true => Ok(()),
            false => Err(format!("nothing listens as {name}")),
        }
    }

    /// `swap`, `swap fresh`, `swap refused`, `swap stays 10s`: a reload of the transports.
    pub fn swap(&mut self, words: &[String]) -> Result<(), String> {
        let fresh = words.iter().any(|word| word == "fresh");
        let stays = match words.iter().position(|word| word == "stays") {
            Some(at) => super::reader::duration(words.get(at + 1).ok_or("stays how long?")?)?,
            None => STAYS + T64,
        };
        let wanted = self.wanted(fresh);
        let plan = loop {
            let plan = self.transports.sockets.generations.plan(&wanted);
            match self.transports.sockets.generations.in_the_way(&plan) {
                Some(closing) => self.close(closing)?,
                None => break plan,
            }
        };
        self.transports.sockets.open(&plan)?;
        if words.iter().any(|word| word == "refused") {
            self.transports.sockets.withdraw(&plan);
            return Ok(());
        }
        let table = self.transports.sockets.activate(self.now, &plan, stays);
        let shards: Vec<_> = self.edge.ids().collect();
        let adoption = Adoption {
            listeners: Arc::new(table),
            ..self.adoption()?
        };
        for shard in &shards {
            self.done(*shard, Ask::Adopt(adoption.clone()))?;
        }
        for shard in &shards {
            self.transports.sockets.receive(&plan, usize::from(shard.0));
        }
        self.transports.sockets.retire_replaced(&plan);
        for (planned, name) in plan.listeners.iter().zip(self.transports.wanted.clone()) {
            self.rename(planned.id, &name);
        }
        Ok(())
    }

    /// `draining 2`: so many listeners drain now.
    pub fn drains(&mut self, count: usize) -> Result<(), String> {
        let views = self.transports.sockets.generations.views();
        let draining = views.filter(|view| view.stage.is_draining()).count();
        match draining == count {
            true => Ok(()),
            false => Err(format!("{draining} listeners drain")),
        }
    }

    /// What every shard is told: the rules that there are, and the listeners.
    pub fn adoption(&self) -> Result<Adoption, String> {
        let shards = self.edge.ids().count() as u16;
        let mut adoption = Adoption::from(self.settings().shards(shards)?.remove(0));
        adoption.listeners = Arc::new(self.transports.sockets.generations.table());
        Ok(adoption)
    }

    /// Closes what may be closed.
    pub fn tend(&mut self) -> Result<(), String> {
        self.transports.next_tend = self.now + TEND;
        let mut leases: BTreeMap<ListenerId, Leases> = BTreeMap::new();
        for shard in self.edge.ids() {
            if let Some((listener, counted, due)) = self.edge.shard(shard).miscounted_leases() {
                return Err(format!(
                    "{listener:?}: {counted:?}, and it should be {due:?}"
                ));
            }
            let Answer::Leases(some) = self.ask(shard, Ask::ReadLeases)? else {
                return Err("no leases".to_string());
            };
            for (listener, more) in some {
                leases.entry(listener).or_default().add(more);
            }
        }
        let leased = |id| leases.get(&id).copied().unwrap_or_default();
        while let Some(closing) = self
            .transports
            .sockets
            .generations
            .closable(self.now, leased)
        {
            self.close(closing)?;
        }
        Ok(())
    }

    fn close(&mut self, closing: Closing) -> Result<(), String> {
        if !closing.shared {
            self.transports.sockets.retire(closing.id);
        }
        let (listener, to) = (closing.id, closing.to);
        for shard in self.edge.ids() {
            match self.ask(shard, Ask::CloseListener { listener, to })? {
                Answer::Closed(_) => {}
                other => return Err(format!("{other:?}")),
            }
        }
        self.transports.sockets.close(closing);
        Ok(())
    }

    fn wanted(&self, fresh: bool) -> Vec<Wanted> {
        let named = |name: &String| self.listeners.iter().find(|one| one.name == *name);
        let wanted = self.transports.wanted.iter().filter_map(named);
        wanted.map(|one| one.wanted(fresh)).collect()
    }

    /// The listener of that name has a new number; phones that sent to the old one send to it.
    fn rename(&mut self, id: ListenerId, name: &str) {
        let Some(listener) = self.listeners.iter_mut().find(|one| one.name == name) else {
            return;
        };
        let before = core::mem::replace(&mut listener.id, id);
        for phone in self.phones.values_mut() {
            if phone.listener == before {
                phone.listener = id;
            }
        }
        self.transports.names.insert(id, name.to_string());
    }
}
