//! SBCs and proxies that come by connections. One connection of theirs carries the dialogs of thousands of phones, and when
//! it ends these go on by another one that the same edge has: at once where it has one, and as soon as it is back where it
//! has none. Their phones need not say anything.
//!
//! An edge is whom the configuration names as one, and no phone is. Its name is made of the network that it is listed by,
//! of what it comes by, and of the host and port that it is reached at: in a dialog those of the next hop, and of a
//! connection those that its peer has written into the requests that came by it. A host that the configuration names needs
//! a certificate in place of an address, and the wish to be reached so (RFC 5923).

use core::net::IpAddr;
use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Shard;
use super::effects::{Destination, Effects, ShardId};
use super::mail::Mail;
use super::ready::Urgency;
use super::subscribe::first_route;
use crate::config::limits;
use crate::sip::{Host, Method, Name, NameAddr, Request, Uri, Via};
use crate::stats::Counter;
use crate::subscription::text::Part;
use crate::transport::{ConnectionId, Flow, Transport};

/// The names that one connection speaks for: of its peer's sent-by, and of what it has recorded as its route.
pub type Names = [Option<ConnectionId>; 2];

/// What every shard is told of a connection of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduced {
    pub flow: Flow,
    pub names: Names,
}

/// The connections that edges have, whichever shard has accepted them.
#[derive(Default)]
pub(super) struct Edges {
    /// Of each edge, the newest last.
    by_name: HashMap<ConnectionId, Vec<Flow>>,
    /// Of each connection.
    by_connection: HashMap<ConnectionId, Names>,
    /// Those that are back, and whose dialogs follow them, some at a time.
    followed: VecDeque<ConnectionId>,
}

impl Edges {
    /// How many connections are known.
    pub(super) fn len(&self) -> usize {
        self.by_connection.len()
    }

    fn newest(&self, edge: ConnectionId) -> Option<Flow> {
        self.by_name.get(&edge)?.last().copied()
    }

    /// False: there are too many.
    fn enter(&mut self, introduced: &Introduced) -> bool {
        let Introduced { flow, names } = introduced;
        let Some(connection) = flow.connection else {
            return true;
        };
        let known = self.by_connection.get(&connection).copied();
        if known.is_none() && self.by_connection.len() >= limits::EDGE_CONNECTIONS_PER_SHARD {
            return false;
        }
        let all = self.by_connection.entry(connection).or_default();
        for name in names.iter().flatten() {
            if all.contains(&Some(*name)) {
                continue;
            }
            if let Some(free) = all.iter_mut().find(|name| name.is_none()) {
                *free = Some(*name);
                self.by_name.entry(*name).or_default().push(*flow);
            }
        }
        true
    }

    /// A connection has gone.
    pub(super) fn leave(&mut self, connection: ConnectionId) {
        let Some(names) = self.by_connection.remove(&connection) else {
            return;
        };
        for name in names.iter().flatten() {
            let Some(flows) = self.by_name.get_mut(name) else {
                continue;
            };
            flows.retain(|flow| flow.connection != Some(connection));
            if flows.is_empty() {
                self.by_name.remove(name);
            }
        }
    }
}

impl Shard {
    /// Whether dialogs that follow their edge have not all done so.
    pub(super) fn is_following(&self) -> bool {
        !self.edges.followed.is_empty()
    }

    /// A request has come by a connection whose peer has not said all of its names.
    pub(super) fn hear_names(&mut self, request: &Request<'_>, flow: &Flow, out: &mut Effects) {
        let names = self.names_of(request, flow);
        // What begins a dialog shows what its sender records, if it records anything.
        let is_first = request.method == Method::Subscribe && request.to_tag.is_none();
        let Some(names) = self.streams.add_names(flow, names, is_first) else {
            return;
        };
        let introduced = Introduced { flow: *flow, names };
        for shard in (0..self.settings.shards).map(ShardId) {
            if shard != self.settings.shard {
                self.stats.record(Counter::MailSent);
                let mail = Mail::Edge(Box::new(introduced));
                out.mails.push((Destination::Shard(shard), mail));
            }
        }
        self.on_edge(&introduced);
    }

    /// A connection of an edge is there; whoever waited for that edge goes on by it.
    pub(super) fn on_edge(&mut self, introduced: &Introduced) {
        // A shard that has not taken the table of listeners yet has no place for it.
        if self.listeners.local(introduced.flow.listener).is_none() {
            return;
        }
        if !self.edges.enter(introduced) {
            return self.stats.record(Counter::LimitEdgeConnections);
        }
        for &edge in introduced.names.iter().flatten() {
            let waited = self.subscriptions.first_of_connection(edge).is_some();
            if waited && !self.edges.followed.contains(&edge) {
                self.edges.followed.push_back(edge);
            }
        }
    }

    /// Some more dialogs go on by the connection that their edge has now.
    pub(super) fn follow_some(&mut self) {
        for _ in 0..limits::FOLLOWERS_PER_STEP {
            let Some(&edge) = self.edges.followed.front() else {
                return;
            };
            let flow = self.edges.newest(edge);
            let index = self.subscriptions.first_of_connection(edge);
            let (Some(flow), Some(index)) = (flow, index) else {
                self.edges.followed.pop_front();
                continue;
            };
            self.follow_edge(index, flow);
        }
    }

    /// A dialog that has lost its connection goes on by another one that its edge has. False: it has none.
    pub(super) fn goes_on_by_its_edge(&mut self, index: u32) -> bool {
        let flow = self.edge_of(index).and_then(|edge| self.edges.newest(edge));
        if let Some(flow) = flow {
            self.follow_edge(index, flow);
        }
        flow.is_some()
    }

    /// A dialog that has lost its connection waits for its edge, if it came by one, beside waiting for its phone.
    pub(super) fn wait_for_edge(&mut self, index: u32) {
        let Some(edge) = self.edge_of(index) else {
            return;
        };
        let flow = self.subscriptions[index].flow;
        let connection = Some(edge);
        self.subscriptions
            .set_flow(index, Flow { connection, ..flow });
    }

    /// What it is owed goes with what fans out: nobody has asked for it just now.
    fn follow_edge(&mut self, index: u32, flow: Flow) {
        self.set_flow(index, flow);
        self.stats.record(Counter::SubscriptionFollowed);
        if self.subscriptions.unpark(index) {
            self.stats.record(Counter::SubscriptionUnparked);
        }
        self.queue_again(index, Urgency::FanOut);
    }

    /// The edge that a dialog which is told by a connection has come by; None: it came from a phone.
    fn edge_of(&self, index: u32) -> Option<ConnectionId> {
        let subscription = &self.subscriptions[index];
        let flow = &subscription.flow;
        let target = subscription.text.part(Part::Target);
        let route = first_route(subscription.text.part(Part::Routes), target);
        let uri = match route {
            Some(route) => route,
            None => Uri::parse(target).ok()?,
        };
        let transport = self.transport_of(flow)?;
        if self.needs_proof(transport, &uri.host) {
            return self.name(&[b"proven"], transport, uri.host, uri.port);
        }
        // An edge that speaks for its phones names itself in their Contacts. Another address is a phone's own.
        let peer = flow.peer.ip().to_canonical();
        let is_its = route.is_some() || uri.host.address().is_none_or(|ip| ip == peer);
        is_its
            .then(|| self.listed_name(flow, uri.host, uri.port))
            .flatten()
    }

    /// What the sender of a request is called by what it writes.
    fn names_of(&self, request: &Request<'_>, flow: &Flow) -> Names {
        let record = request.message.values(Name::RecordRoute).next();
        let record = record.and_then(|record| NameAddr::parse(record).ok());
        let record = record.and_then(|record| Uri::parse(record.uri).ok());
        let via = &request.via;
        let alias = self.alias_of(via, flow);
        let sent_by = alias.or_else(|| self.listed_name(flow, via.host, via.port));
        let record = record.and_then(|uri| self.listed_name(flow, uri.host, uri.port));
        [sent_by, record.filter(|record| Some(*record) != sent_by)]
    }

    /// Who writes `alias` wants requests for its sent-by by this connection, and has to prove by its certificate that this is
    /// its own. Where nothing is proved, as over TCP, it means nothing.
    //= RFC 5923 5
    fn alias_of(&self, via: &Via<'_>, flow: &Flow) -> Option<ConnectionId> {
        let Host::Name(host) = via.host else {
            return None;
        };
        let transport = self.transport_of(flow)?;
        let asks = via.params.get("alias").is_some();
        if !asks || !self.needs_proof(transport, &via.host) {
            return None;
        }
        if !self.streams.has_proved(flow.connection?, host) {
            return None;
        }
        self.name(&[b"proven"], transport, via.host, via.port)
    }

    /// Whether whoever is reached at this host has to prove so.
    fn needs_proof(&self, transport: Transport, host: &Host<'_>) -> bool {
        match host {
            Host::Name(host) if transport == Transport::Tls => {
                self.settings.rules.policy.is_edge_name(host)
            }
            Host::Name(_) | Host::V4(_) | Host::V6(_) => false,
        }
    }

    /// The name of an edge that is listed by its address; None: it is not.
    fn listed_name(&self, flow: &Flow, host: Host<'_>, port: Option<u16>) -> Option<ConnectionId> {
        let network = self.settings.rules.policy.edge_network(flow.peer.ip())?;
        let transport = self.transport_of(flow)?;
        self.name(&[b"listed", network.as_bytes()], transport, host, port)
    }

    fn transport_of(&self, flow: &Flow) -> Option<Transport> {
        let local = self.listeners.local(flow.listener)?;
        Some(local.listener.transport)
    }

    fn name(
        &self,
        who: &[&[u8]],
        transport: Transport,
        host: Host<'_>,
        port: Option<u16>,
    ) -> Option<ConnectionId> {
        let mut room = [0; limits::HOST_BYTES];
        let host = match host {
            Host::Name(name) => {
                let room = room.get_mut(..name.len())?;
                room.copy_from_slice(name);
                room.make_ascii_lowercase();
                &*room
            }
            Host::V4(_) | Host::V6(_) => {
                let octets = match host.address()? {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                room[..octets.len()].copy_from_slice(&octets);
                // No name has a byte of 0.
                &room[..octets.len() + 1]
            }
        };
        let port = port.unwrap_or(default_port(transport)).to_le_bytes();
        let whose = self.settings.secrets.hash(who).to_le_bytes();
        let parts = [&whose, transport.via(), host, &port];
        Some(ConnectionId::of_edge(self.settings.secrets.hash(&parts)))
    }
}

/// The port of a host that names none.
//= RFC 3261 19.1.2
fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp | Transport::Ws => crate::transport::DEFAULT_PORT,
        Transport::Tls | Transport::Wss => crate::transport::DEFAULT_PORT_SECURE,
    }
}
