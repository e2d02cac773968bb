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
        let replaced = plan.listeners.iter().filter_map(|new| match new.origin {
            Origin::Replaces(old) => Some(old),
            Origin::Opened | Origin::HandedOver(_) => None,
        });
        replaced.into_iter().find_map(|old| {
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
mod tests {
    use super::*;
    use crate::transport::Transport;

    const A: &str = "192.0.2.1:5060";
    const B: &str = "192.0.2.2:5060";
    const STAYS: Duration = Duration::from_secs(3632);

    fn udp(address: &str) -> Endpoint {
        Endpoint {
            transport: Transport::Udp,
            address: address.parse().unwrap(),
        }
    }

    fn wanted(address: &str, fresh: bool) -> Wanted {
        Wanted {
            endpoint: udp(address),
            advertise: None,
            gate: 0,
            fresh,
        }
    }

    fn swap(generations: &mut Generations, now: Time, all: &[Wanted]) -> Plan {
        let plan = generations.plan(all);
        while let Some(closing) = generations.in_the_way(&plan) {
            generations.closed(closing);
        }
        let addresses: Vec<SocketAddr> = all.iter().map(|each| each.endpoint.address).collect();
        generations.activate(now, &plan, &addresses, STAYS);
        plan
    }

    fn stages(generations: &Generations) -> Vec<(u32, Stage)> {
        let of = |view: View| (view.id.0, view.stage);
        generations.views().map(of).collect()
    }

    fn busy(_: ListenerId) -> Leases {
        Leases {
            clients: 1,
            ..Leases::default()
        }
    }

    #[test]
    fn the_first_generation_opens_everything() {
        let mut generations = Generations::new();
        let plan = swap(
            &mut generations,
            Time::ZERO,
            &[wanted(A, false), wanted(B, false)],
        );
        assert!(
            plan.listeners
                .iter()
                .all(|each| each.origin == Origin::Opened)
        );
        assert_eq!(generations.newest(), 1);
        assert_eq!(
            stages(&generations),
            [(0, Stage::Active), (1, Stage::Active)]
        );
        assert!(!generations.is_draining());
    }

    #[test]
    fn an_address_that_stays_is_handed_over_or_replaced_and_one_that_goes_leaves() {
        let mut generations = Generations::new();
        let now = Time::from_millis(1_000);
        swap(&mut generations, now, &[wanted(A, false), wanted(B, false)]);
        let plan = swap(&mut generations, now, &[wanted(B, false)]);
        assert_eq!(plan.listeners[0].origin, Origin::HandedOver(ListenerId(1)));
        assert_eq!(
            stages(&generations),
            [
                (0, Stage::Leaving(ListenerId(2))),
                (1, Stage::Replaced(ListenerId(2))),
                (2, Stage::Active)
            ]
        );
        let plan = swap(&mut generations, now, &[wanted(B, true)]);
        assert_eq!(plan.listeners[0].origin, Origin::Replaces(ListenerId(2)));
        assert_eq!(
            generations.table().rows[0].stage,
            Stage::Leaving(ListenerId(3)),
            "who leaves goes to the newest"
        );
    }

    #[test]
    fn a_draining_listener_is_closed_when_it_is_idle_or_late() {
        let mut generations = Generations::new();
        let start = Time::from_millis(1_000);
        swap(
            &mut generations,
            start,
            &[wanted(A, false), wanted(B, false)],
        );
        swap(&mut generations, start, &[wanted(B, true)]);
        assert_eq!(generations.closable(start, busy), None);
        let idle = |id: ListenerId| match id.0 {
            0 => Leases::default(),
            _ => busy(id),
        };
        let closing = generations.closable(start, idle).unwrap();
        assert_eq!((closing.id.0, closing.to.0, closing.why), (0, 2, Why::Idle));
        let late = generations.closable(start + T64, busy).unwrap();
        assert_eq!((late.id.0, late.to.0, late.why), (1, 2, Why::Deadline));
        let last = generations.closable(start + STAYS, busy).unwrap();
        assert_eq!((last.id.0, last.why), (0, Why::Deadline));
        generations.closed(last);
        generations.closed(late);
        assert_eq!(stages(&generations), [(2, Stage::Active)]);
        assert!(!generations.is_draining());
    }

    #[test]
    fn no_third_generation_has_sockets_of_its_own_on_one_address() {
        let mut generations = Generations::new();
        let now = Time::ZERO;
        swap(&mut generations, now, &[wanted(A, false)]);
        swap(&mut generations, now, &[wanted(A, true)]);
        let plan = generations.plan(&[wanted(A, true)]);
        let in_the_way = generations.in_the_way(&plan).unwrap();
        assert_eq!((in_the_way.id.0, in_the_way.to.0), (0, 1));
        generations.closed(in_the_way);
        assert_eq!(generations.in_the_way(&plan), None);
        // A name without a socket of its own is in nobody's way.
        swap(&mut generations, now, &[wanted(A, false)]);
        let plan = generations.plan(&[wanted(A, true)]);
        assert_eq!(generations.in_the_way(&plan), None);
    }

    #[test]
    fn an_address_that_comes_back_while_it_leaves_is_the_same_socket() {
        let mut generations = Generations::new();
        let both = [wanted(A, false), wanted(B, false)];
        swap(&mut generations, Time::ZERO, &both);
        swap(&mut generations, Time::ZERO, &both[1..]);
        let plan = swap(&mut generations, Time::ZERO, &both);
        assert_eq!(plan.listeners[0].origin, Origin::HandedOver(ListenerId(0)));
        let stage = |id: u32| {
            let found = stages(&generations)
                .into_iter()
                .find(|(each, _)| *each == id);
            found.map(|(_, stage)| stage)
        };
        assert_eq!(stage(0), Some(Stage::Replaced(plan.listeners[0].id)));
        assert_eq!(generations.standing().count(), 2);
    }

    #[test]
    fn names_of_one_socket_do_not_pile_up() {
        let mut generations = Generations::new();
        for _ in 0..100 {
            swap(&mut generations, Time::ZERO, &[wanted(A, false)]);
            while let Some(closing) = generations.closable(Time::ZERO, busy) {
                assert_eq!(closing.why, Why::Crowded);
                assert!(closing.shared);
                generations.closed(closing);
            }
            assert!(generations.views().count() <= limits::DRAINING_PER_ADDRESS + 1);
        }
        // Whoever is left goes to who is there.
        let rows = generations.table().rows;
        for row in &rows {
            if let Stage::Replaced(by) = row.stage {
                assert!(rows.iter().any(|each| each.listener.id == by));
            }
        }
    }

    #[test]
    fn those_who_leave_go_to_the_likest_address() {
        let mut generations = Generations::new();
        let six = "[2001:db8::1]:5070";
        swap(
            &mut generations,
            Time::ZERO,
            &[wanted(six, false), wanted(A, false)],
        );
        let next = ["192.0.2.7:5080", "[2001:db8::2]:5060", B].map(|each| wanted(each, false));
        swap(&mut generations, Time::ZERO, &next);
        let heirs: Vec<Stage> = stages(&generations)[..2]
            .iter()
            .map(|(_, stage)| *stage)
            .collect();
        assert_eq!(
            heirs,
            [Stage::Leaving(ListenerId(3)), Stage::Leaving(ListenerId(4))]
        );
    }

    #[test]
    fn gates_are_numbered_anew_and_the_replaced_have_those_of_their_successors() {
        let mut generations = Generations::new();
        swap(
            &mut generations,
            Time::ZERO,
            &[wanted(A, false), wanted(B, false)],
        );
        swap(&mut generations, Time::ZERO, &[wanted(A, false)]);
        generations.set_gates(|id| match id.0 {
            1 => Some(7),
            2 => Some(4),
            _ => None,
        });
        let gates: Vec<u16> = generations
            .table()
            .rows
            .iter()
            .map(|row| row.listener.gate)
            .collect();
        assert_eq!(gates, [4, 7, 4]);
        let standing: Vec<ListenerId> = generations.standing().collect();
        assert_eq!(standing, [ListenerId(1), ListenerId(2)]);
        assert!(!generations.is_active(ListenerId(1)) && generations.is_active(ListenerId(2)));
    }

    /// The listeners that have to go before A can be replaced once more.
    fn in_the_way(generations: &mut Generations) -> Vec<(u32, bool)> {
        let mut gone = Vec::new();
        let plan = generations.plan(&[wanted(A, true)]);
        while let Some(closing) = generations.in_the_way(&plan) {
            gone.push((closing.id.0, closing.shared));
            generations.closed(closing);
        }
        gone
    }

    #[test]
    fn old_sockets_are_in_the_way_by_whatever_name_they_are_left_with() {
        let now = Time::ZERO;
        // 0 and 1 have one socket; 2 has another.
        let mut generations = Generations::new();
        for fresh in [false, false, true] {
            swap(&mut generations, now, &[wanted(A, fresh)]);
        }
        let closing = generations.closable(now, |id| match id.0 {
            1 => Leases::default(),
            _ => busy(id),
        });
        let closing = closing.expect("1 is idle");
        assert_eq!((closing.id.0, closing.shared), (1, false));
        generations.closed(closing);
        assert_eq!(in_the_way(&mut generations), [(0, false)]);
    }

    #[test]
    fn old_sockets_are_in_the_way_also_behind_a_hand_over() {
        // 0 has a socket; 1 and 2 have another.
        let mut generations = Generations::new();
        for fresh in [false, true, false] {
            swap(&mut generations, Time::ZERO, &[wanted(A, fresh)]);
        }
        assert_eq!(in_the_way(&mut generations), [(0, false)]);
        // 0 and 1 have a socket; 2 and 3 have another.
        let mut generations = Generations::new();
        for fresh in [false, false, true, false] {
            swap(&mut generations, Time::ZERO, &[wanted(A, fresh)]);
        }
        assert_eq!(in_the_way(&mut generations), [(0, true), (1, false)]);
    }

    #[test]
    fn old_sockets_are_in_the_way_also_of_an_address_that_went_and_came_again() {
        let now = Time::ZERO;
        // 0 and 1 have a socket each on A, and A goes away: 1 is closed before 0.
        let mut generations = Generations::new();
        for (address, fresh) in [(A, false), (A, true), (B, false)] {
            swap(&mut generations, now, &[wanted(address, fresh)]);
        }
        let closing = generations.closable(now, |id| match id.0 {
            1 => Leases::default(),
            _ => busy(id),
        });
        generations.closed(closing.expect("1 is idle"));
        swap(&mut generations, now, &[wanted(A, false)]);
        assert_eq!(in_the_way(&mut generations), [(0, false)]);
    }
}
