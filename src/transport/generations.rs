//! Generations of listeners, as the control thread plans them: what becomes of each listener when another set is
//! wanted, and when one that drains may be closed. It plans; sockets are opened and closed by others.
//!
//! ```text
//! opening    sockets are bound and can send; no shard has heard of them; a failure takes all of them back
//! active     new transactions and dialogs begin here
//! draining   replaced: what was begun goes on, dialogs are the newer listener's at once
//!            leaving: the address goes away; it serves its dialogs until they have moved
//! closed     nothing is leased any more, or the deadline has passed
//! ```
//!
//! Starting is opening the first generation.

use core::net::SocketAddr;
use core::time::Duration;

use super::stream::WebRules;
use super::{Endpoint, Leases, Listener, ListenerId, ListenerTable, Row, Stage};
use crate::config::limits;
use crate::time::{T64, Time};

/// A listener that the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As configured: the port may be 0.
    pub endpoint: Endpoint,
    /// Host and port for Via and Contact in place of the address; without a port: the listener's own.
    pub advertise: Option<(Box<str>, Option<u16>)>,
    /// Who may open a WebSocket connection.
    pub web: WebRules,
    pub gate: u16,
    /// Where the address is listened on already, it takes a new socket all the same.
    pub fresh: bool,
}

/// Where the sockets of a new listener come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are bound anew, on an address of their own.
    Opened,
    /// They are those of this listener.
    HandedOver(ListenerId),
    /// They are bound anew, beside those of this listener on the same address.
    Replaces(ListenerId),
}

/// One listener of a generation that is being opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub id: ListenerId,
    pub wanted: Wanted,
    pub origin: Origin,
}

/// A generation that is being opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub generation: u32,
    pub listeners: Vec<Planned>,
}

/// A listener with its history.
#[derive(Clone, Debug)]
struct Member {
    row: Row,
    /// As the configuration called it.
    asked: Endpoint,
    since: Time,
    /// When it is closed whatever is leased.
    deadline: Option<Time>,
    /// Its sockets are those of a newer listener as well.
    shared: bool,
}

/// What an operator sees of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub id: ListenerId,
    pub endpoint: Endpoint,
    pub generation: u32,
    pub stage: Stage,
    /// Since when it is in this stage.
    pub since: Time,
    pub deadline: Option<Time>,
}

/// A listener that is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    pub id: ListenerId,
    /// Takes over what is left.
    pub to: ListenerId,
    /// Its sockets live on under a newer name.
    pub shared: bool,
    pub why: Why,
}

/// Why a listener is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is leased any more.
    Idle,
    /// Its deadline has passed.
    Deadline,
    /// Too many older ones of its address are open.
    Crowded,
}

impl Why {
    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Why::Idle => "nothing is leased any more",
            Why::Deadline => "its deadline has passed",
            Why::Crowded => "newer ones have taken its place",
        }
    }
}

/// All generations that have a listener open.
#[derive(Debug, Default)]
pub struct Generations {
    newest: u32,
    next_id: u32,
    members: Vec<Member>,
}

impl Generations {
    /// No generation yet.
    pub fn new() -> Self {
        Generations::default()
    }

    /// The newest one that is active; 0 before the first.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// What would become of each listener. Nothing has changed yet, and a plan that is dropped leaves no trace.
    pub fn plan(&self, wanted: &[Wanted]) -> Plan {
        // Who leaves can come back; who is there already comes first.
        let leaving = self.members.iter().filter(|each| is_leaving(each));
        let mut free: Vec<&Member> = self.active().chain(leaving).collect();
        let mut next_id = self.next_id;
        let listeners = wanted.iter().map(|wanted| {
            let same = free.iter().position(|old| old.asked == wanted.endpoint);
            let origin = match same.map(|at| free.remove(at).row.listener.id) {
                None => Origin::Opened,
                Some(old) if wanted.fresh => Origin::Replaces(old),
                Some(old) => Origin::HandedOver(old),
            };
            let id = ListenerId(next_id);
            next_id += 1;
            Planned {
                id,
                wanted: wanted.clone(),
                origin,
            }
        });
        Plan {
            generation: self.newest + 1,
            listeners: listeners.collect(),
        }
    }

    /// The plan's sockets are open, at these addresses, in the plan's order: its generation is active, and the one
    /// before drains. `stays` is how long a listener may whose address goes away.
    pub fn activate(&mut self, now: Time, plan: &Plan, addresses: &[SocketAddr], stays: Duration) {
        assert_eq!(plan.generation, self.newest + 1, "plans are made in order");
        assert_eq!(addresses.len(), plan.listeners.len());
        self.newest = plan.generation;
        for old in &mut self.members {
            let id = old.row.listener.id;
            if let Some(new) = plan.listeners.iter().find(|new| new.origin.is_of(id)) {
                old.row.stage = Stage::Replaced(new.id);
                old.shared = matches!(new.origin, Origin::HandedOver(_));
                old.since = now;
                old.deadline = Some(now + T64);
            } else if is_active(old) {
                // To whom stands below, when all the new ones are there.
                old.row.stage = Stage::Leaving(id);
                old.since = now;
                old.deadline = Some(now + stays);
            }
        }
        for (planned, &address) in plan.listeners.iter().zip(addresses) {
            self.next_id = self.next_id.max(planned.id.0 + 1);
            let wanted = &planned.wanted;
            let mut listener = Listener::new(planned.id, address, wanted.gate);
            listener.transport = wanted.endpoint.transport;
            listener.web = wanted.web.clone();
            let advertised =
                |(host, port): (Box<str>, Option<u16>)| (host, port.unwrap_or(address.port()));
            listener.advertise = wanted.advertise.clone().map(advertised);
            self.members.push(Member {
                row: Row {
                    listener,
                    generation: plan.generation,
                    stage: Stage::Active,
                },
                asked: wanted.endpoint,
                since: now,
                deadline: None,
                shared: false,
            });
        }
        self.name_heirs();
    }

    /// What shards are told.
    pub fn table(&self) -> ListenerTable {
        ListenerTable {
            generation: self.newest,
            rows: self.members.iter().map(|each| each.row.clone()).collect(),
        }
    }

    /// The listeners that have their address: active ones, and those whose address goes away.
    pub fn standing(&self) -> impl Iterator<Item = ListenerId> {
        let standing = |each: &&Member| is_active(each) || is_leaving(each);
        let members = self.members.iter().filter(standing);
        members.map(|each| each.row.listener.id)
    }

    /// Whether new dialogs and transactions begin on it.
    pub fn is_active(&self, id: ListenerId) -> bool {
        self.stage(id) == Some(Stage::Active)
    }

    /// Numbers the gates anew: `gate` says which is whose; one that was replaced has that of its successor.
    pub fn set_gates(&mut self, gate: impl Fn(ListenerId) -> Option<u16>) {
        for at in 0..self.members.len() {
            let mut id = self.members[at].row.listener.id;
            while let Some(Stage::Replaced(by)) = self.stage(id) {
                id = by;
            }
            if let Some(gate) = gate(id) {
                self.members[at].row.listener.gate = gate;
            }
        }
    }

    /// Every open listener, oldest first.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.members.iter().map(|each| View {
            id: each.row.listener.id,
            endpoint: each.row.listener.endpoint(),
            generation: each.row.generation,
            stage: each.row.stage,
            since: each.since,
            deadline: each.deadline,
        })
    }

    /// Whether one of them drains.
    pub fn is_draining(&self) -> bool {
        self.members.iter().any(|each| each.row.stage.is_draining())
    }

    /// The next listener to be closed, given what is leased on each. It is closed only with `closed`.
    pub fn closable(&self, now: Time, leases: impl Fn(ListenerId) -> Leases) -> Option<Closing> {
        let draining = self
            .members
            .iter()
            .filter(|each| each.row.stage.is_draining());
        draining.into_iter().find_map(|each| {
            let id = each.row.listener.id;
            let why = if leases(id).is_zero() {
                Why::Idle
            } else if each.deadline.is_some_and(|deadline| deadline <= now) {
                Why::Deadline
            } else if self.is_crowded(each) {
                Why::Crowded
            } else {
                return None;
            };
            self.closing(each, why)
        })
    }

    /// The listeners that have to be closed before a plan may be carried out: on one address no more than two have
    /// sockets of their own.
    pub fn in_the_way(&self, plan: &Plan) -> Option<Closing> {
        let on =
            |member: &&Member, new: &Planned| member.row.listener.endpoint() == new.wanted.endpoint;
        let before = plan.listeners.iter().filter_map(|new| match new.origin {
            Origin::Replaces(old) => Some(old),
            // Its address was closed, and comes back while what was replaced there drains still.
            Origin::Opened => {
                let there = self.members.iter().filter(|member| on(member, new));
                there.map(|member| member.row.listener.id).max()
            }
            Origin::HandedOver(_) => None,
        });
        before.into_iter().find_map(|old| {
            let apart = |each: &&Member| self.has_older_sockets(each, old);
            let older = self.members.iter().find(apart)?;
            self.closing(older, Why::Crowded)
        })
    }

    /// Whether a listener drains on the address of this one, and has other sockets than it.
    fn has_older_sockets(&self, member: &Member, newest: ListenerId) -> bool {
        let (one, other) = (&member.row.listener, &self.member(newest).row.listener);
        let same = one.endpoint() == other.endpoint();
        same && one.id != other.id
            && member.row.stage.is_draining()
            && !self.shares_sockets(member, newest)
    }

    /// Whether the sockets of a listener were handed on to this one, in one step or several.
    fn shares_sockets(&self, member: &Member, with: ListenerId) -> bool {
        let mut at = member;
        while let Stage::Replaced(next) = at.row.stage
            && at.shared
        {
            if next == with {
                return true;
            }
            at = self.member(next);
        }
        false
    }

    /// It is closed: forgotten here, and whoever was to go to it goes to its heir.
    pub fn closed(&mut self, closing: Closing) {
        self.members
            .retain(|each| each.row.listener.id != closing.id);
        for each in &mut self.members {
            if each.row.stage == Stage::Replaced(closing.id) {
                each.row.stage = Stage::Replaced(closing.to);
                // It had the sockets of the one that goes: they may be its alone now.
                each.shared &= closing.shared;
            }
        }
        self.name_heirs();
    }

    fn closing(&self, member: &Member, why: Why) -> Option<Closing> {
        let to = match member.row.stage {
            Stage::Active => return None,
            Stage::Replaced(to) | Stage::Leaving(to) => to,
        };
        Some(Closing {
            id: member.row.listener.id,
            to,
            shared: member.shared,
            why,
        })
    }

    /// Whether so many newer ones of its address drain too that this one has to go.
    fn is_crowded(&self, member: &Member) -> bool {
        let endpoint = member.row.listener.endpoint();
        let newer = self.members.iter().filter(|each| {
            each.row.listener.endpoint() == endpoint
                && each.row.stage.is_draining()
                && each.row.listener.id > member.row.listener.id
        });
        newer.count() >= limits::DRAINING_PER_ADDRESS
    }

    fn member(&self, id: ListenerId) -> &Member {
        let found = self.members.iter().find(|each| each.row.listener.id == id);
        found.expect("plans and stages name listeners that are open")
    }

    fn stage(&self, id: ListenerId) -> Option<Stage> {
        let found = self
            .members
            .iter()
            .find(|each| each.row.listener.id == id)?;
        Some(found.row.stage)
    }

    fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|each| is_active(each))
    }

    /// Dialogs of an address that goes away go to an active listener of the same transport and family: on the same port
    /// if there is one, else to the first.
    fn name_heirs(&mut self) {
        let active: Vec<(ListenerId, Endpoint)> = self
            .active()
            .map(|each| (each.row.listener.id, each.row.listener.endpoint()))
            .collect();
        for each in &mut self.members {
            if !is_leaving(each) {
                continue;
            }
            let own = each.row.listener.endpoint();
            let likeness = |other: &Endpoint| {
                (
                    other.transport == own.transport,
                    other.address.is_ipv4() == own.address.is_ipv4(),
                    other.address.port() == own.address.port(),
                )
            };
            // The first of the likest.
            let best = active.iter().rev().max_by_key(|(_, at)| likeness(at));
            let (heir, _) = best.expect("a configuration has a listener");
            each.row.stage = Stage::Leaving(*heir);
        }
    }
}

impl Origin {
    fn is_of(self, id: ListenerId) -> bool {
        match self {
            Origin::Opened => false,
            Origin::HandedOver(old) | Origin::Replaces(old) => old == id,
        }
    }
}

fn is_active(member: &Member) -> bool {
    member.row.stage == Stage::Active
}

fn is_leaving(member: &Member) -> bool {
    matches!(member.row.stage, Stage::Leaving(_))
}

#[cfg(test)]
mod tests;
