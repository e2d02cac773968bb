//! The server's side: what the edge does for shards, and the control thread with listeners, but for the kernel.

use std::sync::Arc;
use std::time::Duration;

use lampfield::config::limits;
use lampfield::partition::ShardId;
use lampfield::shard::control::{Adoption, Answer, Ask, Request};
use lampfield::shard::effects::Event as Report;
use lampfield::shard::input::Input;
use lampfield::shard::mail::Mail;
use lampfield::time::{T64, Time};
use lampfield::transport::generations::Closing;
use lampfield::transport::{ConnectionId, Endpoint, Flow, Leases, ListenerId, Transport};

use super::wire::Wire;
use super::{EXPIRES_MAX, Event, MAIL_MS, Streams};
use crate::edge::{Parcel, Streamed, Turn};
use crate::post::RETRY;

/// A connection that was closed lasts so long at most.
const LINGER: Duration = Duration::from_secs(limits::STREAM_LINGER_SECONDS);
/// What was sent to somebody who does not acknowledge ends the connection, as the edge sets it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(limits::STREAM_STALL_SECONDS);

impl Streams {
    /// A connection is asked for, and one shard accepts it.
    pub(super) fn open(&mut self, carrier: Option<usize>) -> Result<(), String> {
        let to = match carrier {
            Some(carrier) => self.carriers[carrier].server,
            None => *self.random.pick(&self.addresses),
        };
        let shard = ShardId(self.random.below(u64::from(self.shards)) as u16);
        let Some((listener, socket)) = self.sockets.accept(to) else {
            if let Some(carrier) = carrier {
                // Refused: the phone tries another of the addresses that it was given.
                self.carriers[carrier].server = self.another(to.transport);
                self.carriers[carrier].connects_at = Some(self.now + Duration::from_secs(1));
            }
            return Ok(());
        };
        self.connections += 1;
        let id = ConnectionId::new(shard, self.connections);
        let peer = match carrier {
            Some(carrier) => {
                let address = &mut self.carriers[carrier].address;
                address.set_port(40_000 + (address.port() + 1) % 20_000);
                *address
            }
            None => ([10, 66, 6, 6], 40_000).into(),
        };
        let flow = Flow {
            listener,
            local: None,
            peer,
            connection: Some(id),
        };
        self.note(|| format!("{id:?} opens for {carrier:?}"));
        let wire = Wire::new(carrier, socket, to.transport.is_web(), &mut self.random);
        self.wires.insert(id, wire);
        self.edge
            .connection(shard, self.now, Input::Opened { flow });
        if let Some(carrier) = carrier {
            if to.transport.is_web() {
                self.asks_for_page(id);
            }
            self.is_there(carrier, id);
        }
        self.turn(shard)
    }

    /// One of the addresses that are served by this transport.
    fn another(&mut self, transport: Transport) -> Endpoint {
        let served = self.addresses.iter().copied();
        let served: Vec<Endpoint> = served.filter(|one| one.transport == transport).collect();
        *self.random.pick(&served)
    }

    /// What a peer has sent is read by the server, cut anywhere.
    pub(super) fn arrive(&mut self, id: ConnectionId) -> Result<(), String> {
        let shard = id.shard();
        let lags = self.post.lags_until(self.now, shard);
        if let Some(until) = lags {
            return self.arrives_at(until, id);
        }
        loop {
            // What comes by connections waits with its peers while other shards lag behind.
            if self.edge.is_long(shard) {
                return self.arrives_later(id);
            }
            let Some(wire) = self.wires.get_mut(&id) else {
                return Ok(());
            };
            wire.arriving = false;
            if wire.vanished || !wire.open {
                wire.up.clear();
                return Ok(());
            }
            if wire.up.is_empty() {
                if let Some(web) = &mut wire.web {
                    web.close_heard |= web.closes;
                }
                break;
            }
            let bytes = wire.piece(&mut self.random);
            if wire.known {
                self.messages += u64::from(bytes.len() > 1);
                let input = Input::Stream {
                    connection: id,
                    bytes: &bytes,
                };
                self.edge.connection(shard, self.now, input);
                self.open_turns.insert(shard.0);
                if self.random.per_mille(30) {
                    self.flush(shard)?;
                }
            }
            if self.random.per_mille(5) {
                return self.arrives_later(id);
            }
        }
        // What this turn wanted written was wanted before.
        self.flush(shard)?;
        let Some(wire) = self.wires.get_mut(&id) else {
            return Ok(());
        };
        if wire.up_ends && !wire.end_heard {
            wire.end_heard = true;
            wire.out.hear_end();
            if wire.known {
                self.note(|| format!("{id:?} says nothing more"));
                let input = Input::Ended { connection: id };
                self.edge.connection(shard, self.now, input);
            }
        }
        self.turn(shard)?;
        self.pump(id)
    }

    fn arrives_later(&mut self, id: ConnectionId) -> Result<(), String> {
        let when = self.now + self.delay();
        self.arrives_at(when, id)
    }

    fn arrives_at(&mut self, when: Time, id: ConnectionId) -> Result<(), String> {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.arriving = true;
        }
        self.schedule(when.since(self.now), Event::Up(id));
        Ok(())
    }

    /// A turn goes on for a while, or ends here.
    pub(super) fn turn(&mut self, shard: ShardId) -> Result<(), String> {
        self.open_turns.insert(shard.0);
        match self.random.per_mille(700) {
            true => self.flush(shard),
            false => Ok(()),
        }
    }

    pub(super) fn flush_all(&mut self) -> Result<(), String> {
        while let Some(&shard) = self.open_turns.first() {
            self.flush(ShardId(shard))?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, shard: ShardId) -> Result<(), String> {
        self.open_turns.remove(&shard.0);
        let post = &self.post;
        let room = |to, is_behind| post.room(shard, to, is_behind);
        let turn = self.edge.flush_into(shard, room)?;
        if self.edge.is_waiting(shard) && self.retrying.insert(shard) {
            self.schedule(RETRY, Event::Again(shard));
        }
        let census = self.edge.shard(shard).census();
        // Answers for which another shard has no room now wait in their slots.
        if census.slots_leased != census.slots_of_transactions + census.answers_held {
            return Err(format!("{shard:?} leases more than it should: {census:?}"));
        }
        self.carry_out(shard, turn)
    }

    fn carry_out(&mut self, shard: ShardId, turn: Turn) -> Result<(), String> {
        for report in &turn.events {
            if let Report::Bug(what) = report {
                return Err(format!("{shard:?} reports a bug: {what}"));
            }
        }
        if let Some(datagram) = turn.datagrams.first() {
            return Err(format!("{} is dialled", datagram.peer));
        }
        for (to, parcel) in turn.parcels {
            self.mail(shard, to, parcel);
        }
        let mut touched = Vec::new();
        for streamed in turn.streams {
            touched.push(streamed.connection);
            self.write(streamed)?;
        }
        touched.dedup();
        for mail in turn.replies {
            match mail {
                Mail::Reply(reply) => self.answers.push(reply.answer),
                other => return Err(format!("mail to the control thread: {other:?}")),
            }
        }
        touched.into_iter().try_for_each(|id| self.pump(id))
    }

    fn mail(&mut self, from: ShardId, to: ShardId, parcel: Parcel) {
        let delay = self.random.millis(0, MAIL_MS);
        let (when, way) = self.post.send(self.now, [from, to], parcel, delay);
        self.schedule(when.since(self.now), Event::Post(way));
    }

    /// Something comes to a shard from another thread.
    pub(super) fn deliver(&mut self, shard: ShardId, parcel: Parcel) -> Result<(), String> {
        // What was forwarded has a turn of its own, so that the edge sees it forwarded again.
        if matches!(parcel, Parcel::Block { .. }) {
            self.flush(shard)?;
        }
        self.edge.deliver(shard, self.now, parcel);
        self.turn(shard)
    }

    /// A shard wants something of a connection.
    fn write(&mut self, streamed: Streamed) -> Result<(), String> {
        let id = streamed.connection;
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.known) else {
            return Err(format!(
                "{id:?} has ended, and the shard has {streamed:?} for it"
            ));
        };
        let Some(bytes) = streamed.bytes else {
            wire.known = false;
            wire.out.close(self.now + LINGER);
            self.closed.insert(id, self.now);
            self.note(|| format!("{id:?} is closed by the shard"));
            self.schedule(LINGER, Event::Lingered(id));
            return Ok(());
        };
        wire.out.append(&bytes);
        let waits = wire.out.rest().len();
        if waits > limits::STREAM_QUEUE_BYTES_MAX + limits::STREAM_READ_BYTES {
            return Err(format!("{waits} bytes wait for {id:?}"));
        }
        self.messages += 1;
        self.judge(id, &bytes)
    }

    /// The kernel takes what it has room for, and the shard hears of it.
    pub(super) fn pump(&mut self, id: ConnectionId) -> Result<(), String> {
        let Some(wire) = self.wires.get_mut(&id) else {
            return Ok(());
        };
        let bytes = wire.pump();
        let unheard = !wire.down.is_empty() && (wire.vanished || !wire.peer_reads);
        let loses = unheard && wire.open && !wire.losing;
        wire.losing |= loses;
        let vanished = wire.vanished;
        if wire.out.is_over() {
            self.shut(id);
        }
        if loses {
            let after = match vanished {
                true => UNACKNOWLEDGED,
                // Whoever is not there any more says so when something comes.
                false => self.delay(),
            };
            self.schedule(after, Event::Lost(id));
        }
        self.read_soon(id);
        if bytes > 0 && self.wires.get(&id).is_some_and(|wire| wire.known) {
            let input = Input::Written {
                connection: id,
                bytes,
            };
            self.edge.connection(id.shard(), self.now, input);
            return self.turn(id.shard());
        }
        Ok(())
    }

    /// An error has ended a connection, as far as the server sees.
    pub(super) fn lose(&mut self, id: ConnectionId) -> Result<(), String> {
        if !self.wires.get(&id).is_some_and(|wire| wire.open) {
            return Ok(());
        }
        // What this turn wanted written was on its way before.
        self.flush(id.shard())?;
        self.shut(id);
        let Some(wire) = self.wires.get_mut(&id) else {
            return Ok(());
        };
        wire.down.clear();
        let known = core::mem::replace(&mut wire.known, false);
        self.note(|| format!("{id:?} is lost"));
        if !known {
            return Ok(());
        }
        self.closed.insert(id, self.now);
        let input = Input::Closed { connection: id };
        self.edge.connection(id.shard(), self.now, input);
        self.turn(id.shard())
    }

    /// The server's socket is closed.
    fn shut(&mut self, id: ConnectionId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.open = false;
            wire.up.clear();
        }
    }

    /// Other addresses, or the same ones under new names: in no time, as all of it is seen elsewhere.
    pub(super) fn swap(&mut self) -> Result<(), String> {
        let other = super::endpoint(self.random.below(super::ADDRESSES.len() as u64) as usize);
        let alike = |one: &&Endpoint| one.transport == other.transport;
        let served = self.addresses.iter().filter(alike).count();
        match self.random.below(4) {
            0 => {}
            1 if !self.addresses.contains(&other) => self.addresses.push(other),
            2 if served > 1 => {
                let first = self.addresses.iter().position(|one| alike(&one));
                self.addresses.remove(first.expect("there are two"));
            }
            _ => {
                self.addresses.retain(|one| !alike(&one));
                self.addresses.push(other);
            }
        }
        // Where subscriptions end with their connections, or edges do not tell phones, those notice at their next refresh.
        let may_stay = self.keeps && !self.carriers.iter().any(|one| one.is_edge);
        let stays = match may_stay && self.random.per_mille(500) {
            true => Duration::from_secs(EXPIRES_MAX) + T64,
            false => self.random.millis(1_000, 60_000),
        };
        let wanted = super::wanted_on(&self.addresses, &self.settings);
        let plan = loop {
            let plan = self.sockets.generations.plan(&wanted);
            match self.sockets.generations.in_the_way(&plan) {
                Some(closing) => self.close(closing)?,
                None => break plan,
            }
        };
        self.note(|| format!("{plan:?}"));
        self.sockets.open(&plan)?;
        let table = Arc::new(self.sockets.activate(self.now, &plan, stays));
        let settings = self.settings.shards(self.shards)?.remove(0);
        let adoption = Adoption {
            listeners: table,
            ..settings.into()
        };
        for shard in self.edge.ids() {
            self.ask(shard, Ask::Adopt(adoption.clone()))?;
            self.sockets.receive(&plan, usize::from(shard.0));
        }
        for at in 0..self.carriers.len() {
            self.carriers[at].server = self.another(self.carriers[at].server.transport);
        }
        Ok(())
    }

    /// Closes what may be closed.
    pub(super) fn tend(&mut self) -> Result<(), String> {
        if !self.sockets.generations.is_draining() {
            return Ok(());
        }
        let mut leases: std::collections::BTreeMap<ListenerId, Leases> = Default::default();
        for shard in self.edge.ids() {
            let Answer::Leases(some) = self.ask(shard, Ask::ReadLeases)? else {
                return Err("no leases".to_string());
            };
            for (listener, more) in some {
                leases.entry(listener).or_default().add(more);
            }
        }
        let leased = |id| leases.get(&id).copied().unwrap_or_default();
        while let Some(closing) = self.sockets.generations.closable(self.now, leased) {
            self.close(closing)?;
        }
        Ok(())
    }

    /// A listener is closed, and with its socket the connections that came by it.
    fn close(&mut self, closing: Closing) -> Result<(), String> {
        self.note(|| format!("{closing:?}"));
        let (listener, to) = (closing.id, closing.to);
        for shard in self.edge.ids() {
            match self.ask(shard, Ask::CloseListener { listener, to })? {
                Answer::Closed(_) => {}
                other => return Err(format!("{other:?}")),
            }
        }
        self.sockets.close(closing);
        let sockets = &self.sockets;
        let came = |(_, wire): &(&ConnectionId, &Wire)| wire.open && !sockets.has(wire.socket);
        let ended: Vec<ConnectionId> = self.wires.iter().filter(came).map(|(&id, _)| id).collect();
        for id in ended {
            self.lose(id)?;
            self.reset(id);
        }
        Ok(())
    }

    /// Asks one shard and waits for its answer.
    pub(super) fn ask(&mut self, shard: ShardId, ask: Ask) -> Result<Answer, String> {
        self.flush(shard)?;
        let request = Mail::Request(Request { id: 0, ask });
        self.edge.deliver(shard, self.now, Parcel::Mail(request));
        self.answers.clear();
        self.flush(shard)?;
        self.answers.pop().ok_or_else(|| "no answer".to_string())
    }
}
