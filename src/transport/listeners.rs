//! The listeners of every generation that still has something to do, as one shard sees them: whose datagrams are
//! taken, who sends for whom, and what is leased. The control thread decides; this is only told.
//!
//! A client transaction leases the listener that its request was first sent on, a server transaction the one that its
//! request came in on, and both keep it to their end. A dialog leases an address: where a newer generation listens on
//! the same one, its dialogs are the newer listener's at once.

use core::net::SocketAddr;

use super::{Flow, Listener, ListenerId, Local};

/// How far a listener has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Active,
    /// Draining: this one listens on its address in a newer generation, and has its dialogs.
    Replaced(ListenerId),
    /// Draining: its address goes away. It keeps its dialogs, and they are told to go to this one.
    Leaving(ListenerId),
}

impl Stage {
    /// The name of the state that an operator reads.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Active => "active",
            Stage::Replaced(_) | Stage::Leaving(_) => "draining",
        }
    }

    /// Whether only what was begun before keeps it open.
    pub const fn is_draining(self) -> bool {
        match self {
            Stage::Active => false,
            Stage::Replaced(_) | Stage::Leaving(_) => true,
        }
    }
}

/// One listener, as shards are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub listener: Listener,
    /// The generation that it was opened for.
    pub generation: u32,
    pub stage: Stage,
}

/// Everything that is listened on: shards are always told the whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerTable {
    /// The newest generation.
    pub generation: u32,
    pub rows: Vec<Row>,
}

impl ListenerTable {
    /// The first generation, active at once.
    pub fn first(listeners: Vec<Listener>) -> Self {
        let row = |listener| Row {
            listener,
            generation: 1,
            stage: Stage::Active,
        };
        ListenerTable {
            generation: 1,
            rows: listeners.into_iter().map(row).collect(),
        }
    }
}

/// What holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lessee {
    Client,
    Server,
    Dialog,
}

/// How many leases there are on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    pub clients: u64,
    pub servers: u64,
    pub dialogs: u64,
}

impl Leases {
    /// Whether nothing holds it.
    pub fn is_zero(&self) -> bool {
        *self == Leases::default()
    }

    /// The sum of both.
    pub fn add(&mut self, other: Leases) {
        self.clients += other.clients;
        self.servers += other.servers;
        self.dialogs += other.dialogs;
    }

    fn of(&mut self, lessee: Lessee) -> &mut u64 {
        match lessee {
            Lessee::Client => &mut self.clients,
            Lessee::Server => &mut self.servers,
            Lessee::Dialog => &mut self.dialogs,
        }
    }
}

struct Held {
    local: Local,
    stage: Stage,
    leases: Leases,
}

/// A listener that was closed, and who has taken over what was left on it.
struct Gone {
    id: ListenerId,
    address: SocketAddr,
    to: ListenerId,
}

/// The listeners of a shard.
pub struct Listeners {
    /// A few, in the order of their numbers.
    held: Vec<Held>,
    /// The same as they are told apart from peers.
    own: Vec<Listener>,
    /// In the order of their numbers.
    gone: Vec<Gone>,
}

impl Listeners {
    /// Those that a shard begins with.
    pub fn new(table: &ListenerTable) -> Self {
        let mut listeners = Listeners {
            held: Vec::new(),
            own: Vec::new(),
            gone: Vec::new(),
        };
        listeners.adopt(table);
        listeners
    }

    /// Takes a new table. What is not in it any more stays until it is closed.
    pub fn adopt(&mut self, table: &ListenerTable) {
        for row in &table.rows {
            let local = Local::new(row.listener.clone());
            match self.position(row.listener.id) {
                Some(at) => {
                    self.held[at].local = local;
                    self.held[at].stage = row.stage;
                }
                None => self.held.push(Held {
                    local,
                    stage: row.stage,
                    leases: Leases::default(),
                }),
            }
        }
        self.held.sort_by_key(|held| held.local.listener.id);
        for at in 0..self.held.len() {
            if let Stage::Replaced(by) = self.held[at].stage {
                let dialogs = core::mem::take(&mut self.held[at].leases.dialogs);
                self.held_by_home(by).leases.dialogs += dialogs;
            }
        }
        self.list_own();
    }

    /// Forgets a listener; `to` takes over what was left on it: the answer says what that was.
    pub fn close(&mut self, id: ListenerId, to: ListenerId) -> Leases {
        let Some(at) = self.position(id) else {
            return Leases::default();
        };
        assert_ne!(id, to, "a listener takes nothing over from itself");
        let Held { local, leases, .. } = self.held.remove(at);
        for gone in &mut self.gone {
            if gone.to == id {
                gone.to = to;
            }
        }
        let position = self.gone.partition_point(|gone| gone.id < id);
        let address = local.listener.local;
        self.gone.insert(position, Gone { id, address, to });
        let mut transactions = leases;
        let dialogs = core::mem::take(&mut transactions.dialogs);
        self.held_by_home(to).leases.dialogs += dialogs;
        let heir = self.position(to).expect("who takes over is listened on");
        self.held[heir].leases.add(transactions);
        self.list_own();
        leases
    }

    /// The listener of that number, or who has taken over from it. None: there never was one.
    pub fn local(&self, id: ListenerId) -> Option<&Local> {
        Some(&self.held[self.at(id)?].local)
    }

    /// What a listener demands of who sends to it.
    pub fn gate(&self, id: ListenerId) -> u16 {
        self.local(id).map_or(0, |local| local.listener.gate)
    }

    /// Who sends what was begun on this listener: itself, until it is closed.
    pub fn sender(&self, id: ListenerId) -> Option<ListenerId> {
        Some(self.held[self.at(id)?].local.listener.id)
    }

    /// Who has the dialogs whose last request came in on this listener, and begins transactions for them.
    pub fn home(&self, id: ListenerId) -> Option<ListenerId> {
        Some(self.held[self.home_at(id)?].local.listener.id)
    }

    /// Whose address the Contact names in what is sent to a dialog of this listener.
    pub fn contact(&self, id: ListenerId) -> Option<&Local> {
        let home = &self.held[self.home_at(id)?];
        match home.stage {
            Stage::Leaving(to) => Some(&self.held[self.home_at(to)?].local),
            Stage::Active | Stage::Replaced(_) => Some(&home.local),
        }
    }

    /// Whether its address goes away.
    pub fn is_leaving(&self, id: ListenerId) -> bool {
        let leaving = |at: usize| matches!(self.held[at].stage, Stage::Leaving(_));
        self.position(id).is_some_and(leaving)
    }

    /// The same flow on another listener. Where the peer knows us by one address of a wildcard listener, and by
    /// another listener's only address, that one stays if it can.
    pub fn carry(&self, flow: &Flow, to: ListenerId) -> Flow {
        if flow.listener == to {
            return *flow;
        }
        let wildcard = self.local(to).is_some_and(|local| local.listener.wildcard);
        let known = || {
            let address = self.address(flow.listener)?.ip();
            (!address.is_unspecified()).then_some(address)
        };
        let local = if wildcard {
            flow.local.or_else(known)
        } else {
            None
        };
        Flow {
            listener: to,
            local,
            ..*flow
        }
    }

    /// The flow that the answer to a retransmission takes whose first copy came in on `first`: that one's socket,
    /// as long as it has the address that the retransmission was sent to.
    pub fn answering(&self, first: ListenerId, flow: &Flow) -> Flow {
        let same = self.address(first) == self.address(flow.listener);
        match self.sender(first) {
            Some(first) if same => self.carry(flow, first),
            Some(_) | None => *flow,
        }
    }

    /// One more lease.
    pub fn take(&mut self, id: ListenerId, lessee: Lessee) {
        *self.lessor(id, lessee).leases.of(lessee) += 1;
    }

    /// One lease less.
    pub fn give(&mut self, id: ListenerId, lessee: Lessee) {
        let count = self.lessor(id, lessee).leases.of(lessee);
        assert!(*count > 0, "a lease that was never taken is given back");
        *count -= 1;
    }

    /// What is leased on each, in the order of their numbers.
    pub fn leases(&self) -> impl Iterator<Item = (ListenerId, Leases)> {
        let of = |held: &Held| (held.local.listener.id, held.leases);
        self.held.iter().map(of)
    }

    /// Every listener of ours: nobody else has these addresses.
    pub fn own(&self) -> &[Listener] {
        &self.own
    }

    fn list_own(&mut self) {
        let own = self.held.iter().map(|held| held.local.listener.clone());
        self.own = own.collect();
    }

    fn lessor(&mut self, id: ListenerId, lessee: Lessee) -> &mut Held {
        match lessee {
            Lessee::Dialog => self.held_by_home(id),
            Lessee::Client | Lessee::Server => {
                let at = self.at(id);
                &mut self.held[at.expect("a lease is of a listener that there was")]
            }
        }
    }

    fn held_by_home(&mut self, id: ListenerId) -> &mut Held {
        let at = self.home_at(id);
        &mut self.held[at.expect("every dialog has a listener")]
    }

    fn address(&self, id: ListenerId) -> Option<SocketAddr> {
        if let Some(at) = self.position(id) {
            return Some(self.held[at].local.listener.local);
        }
        let at = self.gone.binary_search_by_key(&id, |gone| gone.id).ok()?;
        Some(self.gone[at].address)
    }

    /// Where the listener is, or who has taken over from it.
    fn at(&self, id: ListenerId) -> Option<usize> {
        self.position(id).or_else(|| {
            let at = self.gone.binary_search_by_key(&id, |gone| gone.id).ok()?;
            self.position(self.gone[at].to)
        })
    }

    fn home_at(&self, id: ListenerId) -> Option<usize> {
        let mut at = self.at(id)?;
        // Each step leads to a newer generation.
        while let Stage::Replaced(by) = self.held[at].stage {
            at = self.at(by)?;
        }
        Some(at)
    }

    fn position(&self, id: ListenerId) -> Option<usize> {
        self.held
            .iter()
            .position(|held| held.local.listener.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1:5060";
    const B: &str = "192.0.2.2:5060";

    fn row(id: u32, address: &str, stage: Stage) -> Row {
        Row {
            listener: Listener::new(ListenerId(id), address.parse().unwrap(), 0),
            generation: 1,
            stage,
        }
    }

    fn table(rows: Vec<Row>) -> ListenerTable {
        ListenerTable {
            generation: 1,
            rows,
        }
    }

    fn leases(listeners: &Listeners, id: u32) -> Leases {
        let found = listeners.leases().find(|(each, _)| each.0 == id);
        found.map(|(_, leases)| leases).unwrap()
    }

    fn counts(clients: u64, servers: u64, dialogs: u64) -> Leases {
        Leases {
            clients,
            servers,
            dialogs,
        }
    }

    fn take_each(listeners: &mut Listeners, id: u32) {
        for lessee in [Lessee::Client, Lessee::Server, Lessee::Dialog] {
            listeners.take(ListenerId(id), lessee);
        }
    }

    #[test]
    fn dialogs_go_to_the_newer_listener_of_their_address_and_transactions_stay() {
        let mut listeners = Listeners::new(&table(vec![row(0, A, Stage::Active)]));
        take_each(&mut listeners, 0);
        let by = ListenerId(1);
        let both = vec![row(0, A, Stage::Replaced(by)), row(1, A, Stage::Active)];
        listeners.adopt(&table(both.clone()));
        assert_eq!(leases(&listeners, 0), counts(1, 1, 0));
        assert_eq!(leases(&listeners, 1), counts(0, 0, 1));
        assert_eq!(listeners.sender(ListenerId(0)), Some(ListenerId(0)));
        assert_eq!(listeners.home(ListenerId(0)), Some(by));
        // Told twice is told once.
        listeners.adopt(&table(both));
        assert_eq!(leases(&listeners, 1), counts(0, 0, 1));
        // What is given back under the old number is found.
        listeners.give(ListenerId(0), Lessee::Dialog);
        listeners.give(ListenerId(0), Lessee::Client);
        assert_eq!(leases(&listeners, 1), counts(0, 0, 0));
        assert_eq!(
            listeners.close(ListenerId(0), by),
            counts(0, 1, 0),
            "one answer was still remembered"
        );
        assert_eq!(leases(&listeners, 1), counts(0, 1, 0));
        listeners.give(ListenerId(0), Lessee::Server);
        assert_eq!(leases(&listeners, 1), counts(0, 0, 0));
    }

    #[test]
    fn a_leaving_listener_keeps_its_dialogs_and_names_the_other_address() {
        let to = ListenerId(1);
        let mut listeners = Listeners::new(&table(vec![row(0, A, Stage::Active)]));
        take_each(&mut listeners, 0);
        listeners.adopt(&table(vec![
            row(0, A, Stage::Leaving(to)),
            row(1, B, Stage::Active),
        ]));
        assert_eq!(leases(&listeners, 0), counts(1, 1, 1));
        assert_eq!(listeners.home(ListenerId(0)), Some(ListenerId(0)));
        assert_eq!(listeners.contact(ListenerId(0)).unwrap().listener.id, to);
        assert_eq!(listeners.close(ListenerId(0), to), counts(1, 1, 1));
        assert_eq!(listeners.home(ListenerId(0)), Some(to));
        assert_eq!(leases(&listeners, 1), counts(1, 1, 1));
        assert_eq!(listeners.own().len(), 1);
        assert_eq!(listeners.local(ListenerId(0)).unwrap().listener.id, to);
        assert!(listeners.local(ListenerId(9)).is_none());
    }

    #[test]
    fn whoever_took_over_may_be_taken_over_itself() {
        let mut listeners = Listeners::new(&table(vec![row(0, A, Stage::Active)]));
        listeners.take(ListenerId(0), Lessee::Dialog);
        for next in 1..5 {
            let by = ListenerId(next);
            listeners.adopt(&table(vec![
                row(next - 1, A, Stage::Replaced(by)),
                row(next, A, Stage::Active),
            ]));
            if next % 2 == 0 {
                listeners.close(ListenerId(next - 2), ListenerId(next - 1));
                listeners.close(ListenerId(next - 1), by);
            }
        }
        assert_eq!(listeners.home(ListenerId(0)), Some(ListenerId(4)));
        assert_eq!(listeners.sender(ListenerId(1)), Some(ListenerId(4)));
        listeners.give(ListenerId(0), Lessee::Dialog);
        assert!(leases(&listeners, 4).is_zero());
    }

    #[test]
    fn a_flow_keeps_the_address_that_its_peer_knows_where_it_can() {
        let wide = "0.0.0.0:5060";
        let listeners = Listeners::new(&table(vec![
            row(0, A, Stage::Active),
            row(1, wide, Stage::Active),
        ]));
        let flow = |listener, local: Option<&str>| Flow {
            listener: ListenerId(listener),
            local: local.map(|ip| ip.parse().unwrap()),
            peer: "192.0.2.9:5060".parse().unwrap(),
            connection: None,
        };
        let carried = listeners.carry(&flow(0, None), ListenerId(1));
        assert_eq!(carried, flow(1, Some("192.0.2.1")));
        let back = listeners.carry(&flow(1, Some("192.0.2.3")), ListenerId(0));
        assert_eq!(back, flow(0, None));
    }
}
