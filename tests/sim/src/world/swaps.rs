//! Transports that are replaced under the phones: the control thread's part, with every step taking its time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard::control::{Adoption, Answer, Ask};
use lampfield::time::{T64, Time};
use lampfield::transport::generations::{Closing, Plan, Why};
use lampfield::transport::{Leases, ListenerId, Row, Stage, Transport};

use super::World;
use crate::sockets::{Sockets, wanted};

/// Where the server may listen. It begins at the first of each family.
pub const ADDRESSES: [&str; 9] = [
    "192.0.2.1:5060",
    "[2001:db8::1]:5060",
    "192.0.2.2:5060",
    "192.0.2.1:5070",
    "192.0.2.3:5080",
    "0.0.0.0:5090",
    "[2001:db8::2]:5060",
    "[2001:db8::1]:5070",
    "[::]:5090",
];
/// By what addresses a wildcard listener is reached.
const REACHED: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.9"], ["2001:db8::1", "2001:db8::9"]];
/// What is on its way into a socket that the kernel chooses no more is there after this.
const GRACE: Duration = Duration::from_millis(4);
/// How often what drains is looked at.
const TEND: Duration = Duration::from_secs(1);

/// One of the addresses, read.
pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// What somebody wants of the transports.
#[derive(Clone, Debug)]
pub struct Reload {
    pub addresses: Vec<SocketAddr>,
    /// New sockets, also where living ones would do.
    pub fresh: bool,
    /// A listener whose address goes away is closed after so long at most.
    pub stays: Duration,
    /// Something fails while it opens, after so long.
    pub fails_after: Option<Duration>,
}

/// What the control thread is about. It does one thing after the other.
#[derive(Debug)]
enum Work {
    Rest,
    /// Sockets were opened, and will be taken back.
    Doomed {
        plan: Plan,
        until: Time,
    },
    /// Every shard is to adopt the new table.
    Adopting {
        plan: Plan,
    },
    /// The rings of these shards do not receive on the new sockets yet.
    Receiving {
        plan: Plan,
        missing: BTreeSet<u16>,
    },
    /// Every shard is to say what is leased.
    Counting {
        leases: BTreeMap<ListenerId, Leases>,
    },
    /// What a socket has received is read to its end.
    Emptying {
        closing: Closing,
        until: Time,
    },
    /// Every shard is to let go of a listener.
    Closing {
        closing: Closing,
    },
}

/// The transports of a simulated day.
#[derive(Debug)]
pub struct Swaps {
    pub sockets: Sockets,
    /// What the configuration names now.
    pub addresses: Vec<SocketAddr>,
    work: Work,
    waiting: BTreeSet<u64>,
    wanted: Option<Reload>,
    next_look: Time,
}

impl Swaps {
    pub fn new(now: Time, shards: u16, addresses: Vec<SocketAddr>) -> Self {
        Swaps {
            sockets: Sockets::new(now, shards, &wanted(Transport::Udp, &addresses, false)),
            addresses,
            work: Work::Rest,
            waiting: BTreeSet::new(),
            wanted: None,
            next_look: now,
        }
    }

    /// When the control thread does something by itself.
    pub fn next(&self) -> Option<Time> {
        match &self.work {
            Work::Rest if self.wanted.is_some() => Some(Time::ZERO),
            Work::Rest if self.sockets.generations.is_draining() => Some(self.next_look),
            Work::Rest => None,
            Work::Doomed { until, .. } | Work::Emptying { until, .. } => Some(*until),
            Work::Adopting { .. }
            | Work::Receiving { .. }
            | Work::Counting { .. }
            | Work::Closing { .. } => None,
        }
    }

    /// Whether nothing is being done, and nothing wanted.
    pub fn rest(&self) -> bool {
        matches!(self.work, Work::Rest) && self.wanted.is_none()
    }

    /// The listener that is being closed: some shards have let go of it, and some have not.
    fn closing(&self) -> Option<ListenerId> {
        match &self.work {
            Work::Closing { closing } | Work::Emptying { closing, .. } => Some(closing.id),
            Work::Rest
            | Work::Doomed { .. }
            | Work::Adopting { .. }
            | Work::Receiving { .. }
            | Work::Counting { .. } => None,
        }
    }

    /// Whether everything may leave by that listener still.
    pub fn stays(&self, id: ListenerId) -> bool {
        self.sockets.leave(id).is_ok() && self.closing() != Some(id)
    }

    /// The address whose last socket is being closed.
    pub fn going(&self) -> Option<SocketAddr> {
        let row = self.row(self.closing()?)?;
        let leaving = matches!(row.stage, Stage::Leaving(_));
        leaving.then_some(row.listener.local)
    }

    fn row(&self, id: ListenerId) -> Option<Row> {
        let table = self.sockets.generations.table();
        table.rows.into_iter().find(|row| row.listener.id == id)
    }

    /// Whether an answer to this question is waited for here.
    pub fn expects(&self, id: u64) -> bool {
        self.waiting.contains(&id)
    }
}

impl World {
    /// A reload that changes the transports; while another one is being carried out, it is forgotten.
    pub(super) fn reload(&mut self, reload: Reload) {
        if self.swaps.rest() {
            self.trace.note(self.now, format!("{reload:?}"));
            self.swaps.wanted = Some(reload);
        }
    }

    /// Some change of the transports. A kind one loses nothing that is on its way.
    pub(super) fn swap_something(&mut self, kind: bool) {
        let mut addresses = self.swaps.addresses.clone();
        let other = loop {
            let other = address(self.random.pick::<&str>(&ADDRESSES));
            if other.is_ipv4() || self.six {
                break other;
            }
        };
        // Whoever is of one family is not to be left without a server.
        let alike = |one: &SocketAddr| one.is_ipv4() == other.is_ipv4();
        match self.random.below(4) {
            0 => {}
            1 if !addresses.contains(&other) => addresses.push(other),
            2 if addresses.iter().filter(|one| alike(one)).count() > 1 => {
                let at = loop {
                    let at = self.random.below(addresses.len() as u64) as usize;
                    if alike(&addresses[at]) {
                        break at;
                    }
                };
                addresses.remove(at);
            }
            _ => {
                addresses.retain(|one| !alike(one));
                addresses.push(other);
            }
        }
        let longest = Duration::from_secs(self.expires_max) + T64;
        let stays = match self.random.per_mille(500) || kind {
            true => longest,
            false => self.random.millis(1_000, 60_000),
        };
        let fails = self.random.per_mille(150) && !kind;
        let reload = Reload {
            addresses,
            fresh: self.random.per_mille(500),
            stays,
            fails_after: fails.then(|| self.random.millis(0, 50)),
        };
        self.reload(reload);
    }

    /// The control thread goes on, if it is time to.
    pub(super) fn tend(&mut self) -> Result<(), String> {
        if self.swaps.next().is_none_or(|when| when > self.now) {
            return Ok(());
        }
        match core::mem::replace(&mut self.swaps.work, Work::Rest) {
            Work::Rest => match self.swaps.wanted.take() {
                Some(reload) => self.begin_swap(reload),
                None => {
                    self.swaps.next_look = self.now + TEND;
                    let leases = BTreeMap::new();
                    self.ask_each(Work::Counting { leases }, || Ask::ReadLeases);
                    Ok(())
                }
            },
            Work::Doomed { plan, .. } => {
                self.trace.note(self.now, "it is taken back".to_string());
                self.swaps.sockets.withdraw(&plan);
                Ok(())
            }
            Work::Emptying { closing, .. } => {
                let (listener, to) = (closing.id, closing.to);
                let ask = || Ask::CloseListener { listener, to };
                self.ask_each(Work::Closing { closing }, ask);
                Ok(())
            }
            work @ (Work::Adopting { .. }
            | Work::Receiving { .. }
            | Work::Counting { .. }
            | Work::Closing { .. }) => Err(format!("nothing is due: {work:?}")),
        }
    }

    fn begin_swap(&mut self, reload: Reload) -> Result<(), String> {
        let wanted = wanted(Transport::Udp, &reload.addresses, reload.fresh);
        let plan = self.swaps.sockets.generations.plan(&wanted);
        if let Some(closing) = self.swaps.sockets.generations.in_the_way(&plan) {
            self.swaps.wanted = Some(reload);
            self.begin_to_close(closing);
            return Ok(());
        }
        self.swaps.sockets.open(&plan)?;
        if let Some(after) = reload.fails_after {
            let until = self.now + after;
            self.swaps.work = Work::Doomed { plan, until };
            return Ok(());
        }
        let sockets = &mut self.swaps.sockets;
        let table = Arc::new(sockets.activate(self.now, &plan, reload.stays));
        self.swaps.addresses = reload.addresses;
        for at in 0..self.phones.len() {
            self.phones[at].server = self.server(self.phones[at].server.is_ipv4());
        }
        for at in 0..self.publishers.len() {
            self.publishers[at].server = self.server(true);
        }
        let settings = self.settings.shards(self.shards)?.remove(0);
        let adoption = Adoption {
            listeners: table,
            ..settings.into()
        };
        self.ask_each(Work::Adopting { plan }, || Ask::Adopt(adoption.clone()));
        Ok(())
    }

    fn begin_to_close(&mut self, closing: Closing) {
        self.trace.note(self.now, format!("{closing:?}"));
        let mut wait = Duration::ZERO;
        if !closing.shared {
            self.swaps.sockets.retire(closing.id);
            wait = GRACE;
        }
        let until = self.now + wait;
        self.swaps.work = Work::Emptying { closing, until };
    }

    /// Asks every shard; each is reached in its own time.
    fn ask_each(&mut self, work: Work, ask: impl Fn() -> Ask) {
        for shard in self.edge.ids() {
            let after = self.random.millis(0, super::MAIL_MS);
            let id = self.ask_later(shard, ask(), after);
            self.swaps.waiting.insert(id);
        }
        self.swaps.work = work;
    }

    /// A shard has answered the control thread.
    pub(super) fn on_control_answer(
        &mut self,
        id: u64,
        shard: ShardId,
        answer: Answer,
    ) -> Result<(), String> {
        self.swaps.waiting.remove(&id);
        let all = self.swaps.waiting.is_empty();
        match (core::mem::replace(&mut self.swaps.work, Work::Rest), answer) {
            (Work::Adopting { plan }, Answer::Done) => {
                self.swaps.work = match all {
                    false => Work::Adopting { plan },
                    true => self.begin_to_receive(plan),
                };
                Ok(())
            }
            (Work::Counting { mut leases }, Answer::Leases(more)) => {
                for (listener, some) in more {
                    leases.entry(listener).or_default().add(some);
                }
                match all {
                    false => self.swaps.work = Work::Counting { leases },
                    true => self.close_what_may_be(&leases)?,
                }
                Ok(())
            }
            (Work::Closing { closing }, Answer::Closed(left)) => {
                // A listener whose address goes away may be subscribed at to the last moment.
                let row = self.swaps.row(closing.id);
                let replaced = row.is_some_and(|row| matches!(row.stage, Stage::Replaced(_)));
                if closing.why == Why::Idle && replaced && left.clients > 0 {
                    return Err(format!("{shard:?} still had {left:?} on {closing:?}"));
                }
                match all {
                    false => self.swaps.work = Work::Closing { closing },
                    true => {
                        self.swaps.sockets.close(closing);
                        self.forget_closed();
                    }
                }
                Ok(())
            }
            (work, answer) => Err(format!("{shard:?} answers {answer:?} to {work:?}")),
        }
    }

    /// Whoever was reached by an address that nobody listens on any more may be reached by any.
    fn forget_closed(&mut self) {
        let sockets = &self.swaps.sockets;
        for known in self.known.values_mut() {
            known.request = known.request.filter(|address| sockets.serves(*address));
        }
    }

    /// All shards know the new names: their rings begin to receive under them, each in its own time.
    fn begin_to_receive(&mut self, plan: Plan) -> Work {
        let missing = self.edge.ids().map(|shard| shard.0).collect();
        for shard in self.edge.ids() {
            let after = self.random.millis(0, super::MAIL_MS);
            self.schedule(self.now + after, super::Event::Receives { shard });
        }
        Work::Receiving { plan, missing }
    }

    /// The ring of a shard receives on the new sockets, what has come there already first.
    pub(super) fn begin_receiving_on(&mut self, shard: ShardId) -> Result<(), String> {
        let work = core::mem::replace(&mut self.swaps.work, Work::Rest);
        let Work::Receiving { plan, mut missing } = work else {
            return Err(format!("no new socket to receive on: {work:?}"));
        };
        let read = self.swaps.sockets.receive(&plan, usize::from(shard.0));
        missing.remove(&shard.0);
        if missing.is_empty() {
            self.swaps.sockets.retire_replaced(&plan);
        } else {
            self.swaps.work = Work::Receiving { plan, missing };
        }
        for (listener, unread) in read {
            for (source, to, bytes) in unread {
                self.read_by_server(shard, listener, source, to, &bytes)?;
            }
        }
        Ok(())
    }

    /// One of the addresses that phones of a family are told to subscribe at.
    pub(super) fn server(&mut self, is_ipv4: bool) -> SocketAddr {
        let served = self.swaps.addresses.iter().copied();
        let served: Vec<SocketAddr> = served.filter(|one| one.is_ipv4() == is_ipv4).collect();
        let one = *self.random.pick(&served);
        if !one.ip().is_unspecified() {
            return one;
        }
        let host = self.random.pick(&REACHED[usize::from(!is_ipv4)]);
        SocketAddr::new(host.parse().expect("an address"), one.port())
    }

    /// The next listener that may be closed is.
    fn close_what_may_be(&mut self, leases: &BTreeMap<ListenerId, Leases>) -> Result<(), String> {
        let leased = |id| leases.get(&id).copied().unwrap_or_default();
        let generations = &self.swaps.sockets.generations;
        let Some(closing) = generations.closable(self.now, leased) else {
            return Ok(());
        };
        let view = generations.views().find(|view| view.id == closing.id);
        let overdue = view
            .and_then(|view| view.deadline)
            .is_some_and(|deadline| deadline <= self.now);
        let fits = match closing.why {
            Why::Idle => leased(closing.id).is_zero(),
            Why::Deadline => overdue,
            Why::Crowded => true,
        };
        if !fits {
            let leases = leased(closing.id);
            return Err(format!("closed too early, {leases:?}: {closing:?}"));
        }
        self.begin_to_close(closing);
        // There may be more.
        self.swaps.next_look = self.now;
        Ok(())
    }

    /// Leases are those of live transactions and dialogs, on every listener of every shard.
    pub(super) fn leases_are_right(&mut self) -> Result<(), String> {
        for shard in self.edge.ids() {
            if let Some((listener, counted, due)) = self.edge.shard(shard).miscounted_leases() {
                return Err(format!(
                    "{shard:?} counts {counted:?} on {listener:?}, and should {due:?}"
                ));
            }
        }
        Ok(())
    }
}
