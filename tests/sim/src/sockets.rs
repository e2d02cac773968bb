//! The server's sockets, simulated: what the control thread and the rings do for real ones, one step at a time, so that
//! whoever turns the clock decides how long each takes. What becomes of a listener is planned by the real planner.
//!
//! Each address has one socket per shard, as the kernel has it; a socket bears the names of one or more listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lampfield::time::Time;
use lampfield::transport::generations::{Closing, Generations, Origin, Plan, Wanted};
use lampfield::transport::stream::WebRules;
use lampfield::transport::{Endpoint, Flow, ListenerId, ListenerTable, Transport};

/// On one address at most so many generations have sockets of their own.
const SOCKETS_PER_ADDRESS: usize = 2;

/// What a socket has received and nobody has read yet: from where, to where, and what.
pub type Unread = Vec<(SocketAddr, SocketAddr, Vec<u8>)>;

/// Where a host with these sockets is reached, and where a datagram leaves from whose sender does not say.
pub const HOSTS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// Whether a socket that is bound so takes what comes to that address.
pub fn covers(bound: SocketAddr, address: SocketAddr) -> bool {
    let wildcard = bound.ip().is_unspecified() && bound.is_ipv4() == address.is_ipv4();
    bound == address || wildcard && bound.port() == address.port()
}

/// The sockets of one generation on one address, one for each shard.
#[derive(Debug)]
struct Socket {
    number: u32,
    endpoint: Endpoint,
    /// The kernel chooses it no more.
    retired: bool,
    shards: Vec<Reader>,
}

/// What one shard's ring has of a socket.
#[derive(Debug, Default)]
struct Reader {
    /// Under which name it receives, if it does.
    name: Option<ListenerId>,
    unread: Unread,
}

/// What becomes of a datagram that comes to an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The shard takes it, as of this listener.
    Taken(ListenerId),
    /// It lies in a socket that nobody reads yet.
    Unread,
    /// Nobody listens there.
    Nobody,
}

/// Everything that is listened on.
#[derive(Debug)]
pub struct Sockets {
    pub generations: Generations,
    sockets: Vec<Socket>,
    names: BTreeMap<ListenerId, u32>,
    next: u32,
    shards: usize,
}

/// The listeners that a configuration wants, plain as can be.
pub fn wanted(transport: Transport, addresses: &[SocketAddr], fresh: bool) -> Vec<Wanted> {
    let one = |&address| Wanted {
        endpoint: Endpoint { transport, address },
        advertise: None,
        web: WebRules::default(),
        gate: 0,
        fresh,
    };
    addresses.iter().map(one).collect()
}

impl Sockets {
    /// The first generation, on these addresses, in their order.
    pub fn new(now: Time, shards: u16, first: &[Wanted]) -> Self {
        let mut sockets = Sockets {
            generations: Generations::new(),
            sockets: Vec::new(),
            names: BTreeMap::new(),
            next: 0,
            shards: usize::from(shards),
        };
        let plan = sockets.generations.plan(first);
        sockets.open(&plan).expect("the first of each address");
        sockets.activate(now, &plan, Duration::ZERO);
        for shard in 0..sockets.shards {
            sockets.receive(&plan, shard);
        }
        sockets
    }

    /// Opening: sockets that are new are bound, and can send.
    pub fn open(&mut self, plan: &Plan) -> Result<(), String> {
        for planned in &plan.listeners {
            let number = match planned.origin {
                Origin::HandedOver(old) => self.names[&old],
                Origin::Opened | Origin::Replaces(_) => self.bind(planned.wanted.endpoint),
            };
            self.names.insert(planned.id, number);
            let endpoint = planned.wanted.endpoint;
            let same = self.sockets.iter().filter(|one| one.endpoint == endpoint);
            if same.count() > SOCKETS_PER_ADDRESS {
                return Err(format!("too many generations have sockets on {endpoint}"));
            }
        }
        Ok(())
    }

    fn bind(&mut self, endpoint: Endpoint) -> u32 {
        let number = self.next;
        self.next += 1;
        self.sockets.push(Socket {
            number,
            endpoint,
            retired: false,
            shards: (0..self.shards).map(|_| Reader::default()).collect(),
        });
        number
    }

    /// Opening has failed: all that was new is taken back, with what the kernel had begun to deliver there.
    pub fn withdraw(&mut self, plan: &Plan) {
        for planned in &plan.listeners {
            let number = self.names.remove(&planned.id).expect("it was opened");
            match planned.origin {
                Origin::HandedOver(_) => {}
                Origin::Opened | Origin::Replaces(_) => {
                    self.sockets.retain(|one| one.number != number);
                }
            }
        }
    }

    /// The plan's generation is the newest now; this is what shards are to be told. An address that goes away `stays`
    /// so long at most.
    pub fn activate(&mut self, now: Time, plan: &Plan, stays: Duration) -> ListenerTable {
        let addresses: Vec<SocketAddr> = plan
            .listeners
            .iter()
            .map(|planned| planned.wanted.endpoint.address)
            .collect();
        self.generations.activate(now, plan, &addresses, stays);
        self.generations.table()
    }

    /// One shard's ring receives under the new names: what had come before that, and under which name it is read now.
    pub fn receive(&mut self, plan: &Plan, shard: usize) -> Vec<(ListenerId, Unread)> {
        let mut read = Vec::new();
        for planned in &plan.listeners {
            let number = self.names[&planned.id];
            let reader = &mut self.socket(number).shards[shard];
            reader.name = Some(planned.id);
            read.push((planned.id, core::mem::take(&mut reader.unread)));
        }
        read
    }

    /// Every shard receives on the new sockets: the kernel is told to choose those they replace no more.
    pub fn retire_replaced(&mut self, plan: &Plan) {
        for planned in &plan.listeners {
            if let Origin::Replaces(old) = planned.origin {
                self.retire(old);
            }
        }
    }

    /// The kernel chooses this listener's socket no more.
    pub fn retire(&mut self, id: ListenerId) {
        let number = self.names[&id];
        self.socket(number).retired = true;
    }

    /// Everybody has let go of a listener. What has no other name is closed.
    pub fn close(&mut self, closing: Closing) {
        let number = self.names.remove(&closing.id).expect("it was open");
        if !self.names.values().any(|other| *other == number) {
            self.sockets.retain(|one| one.number != number);
        }
        self.generations.closed(closing);
    }

    /// A datagram comes to an address, and the kernel chooses among the sockets of this shard there: those of the address
    /// itself before those of every address.
    pub fn arrive(
        &mut self,
        to: SocketAddr,
        shard: usize,
        choice: u64,
        datagram: (SocketAddr, &[u8]),
    ) -> Arrival {
        let bound = |one: &Socket| one.endpoint.address;
        let takes = |one: &&mut Socket| {
            one.endpoint.transport == Transport::Udp && covers(bound(one), to) && !one.retired
        };
        let mut living: Vec<&mut Socket> = self.sockets.iter_mut().filter(takes).collect();
        if living.iter().any(|one| bound(one) == to) {
            living.retain(|one| bound(one) == to);
        }
        if living.is_empty() {
            return Arrival::Nobody;
        }
        let at = (choice % living.len() as u64) as usize;
        let reader = &mut living[at].shards[shard];
        match reader.name {
            Some(name) => Arrival::Taken(name),
            None => {
                let (source, bytes) = datagram;
                reader.unread.push((source, to, bytes.to_vec()));
                Arrival::Unread
            }
        }
    }

    /// A connection comes to an address: the listener that it is of now, and the number of its socket.
    pub fn accept(&self, endpoint: Endpoint) -> Option<(ListenerId, u32)> {
        let mut living = self.sockets.iter();
        let found = living.find(|one| one.endpoint == endpoint && !one.retired)?;
        let name = found.shards.first()?.name?;
        Some((name, found.number))
    }

    /// Whether the socket of that number is open.
    pub fn has(&self, number: u32) -> bool {
        self.sockets.iter().any(|one| one.number == number)
    }

    /// The address that a send under this name leaves from; an `Err` is a send on what is closed.
    pub fn leave(&self, name: ListenerId) -> Result<SocketAddr, String> {
        let number = self
            .names
            .get(&name)
            .ok_or_else(|| format!("sent on {name:?}, which is closed"))?;
        let socket = self.sockets.iter().find(|one| one.number == *number);
        Ok(socket.expect("a name is of a socket").endpoint.address)
    }

    /// The same for a send that says from where, or leaves it to the kernel.
    pub fn leave_as(&self, name: ListenerId, source: Option<IpAddr>) -> Result<SocketAddr, String> {
        let bound = self.leave(name)?;
        if !bound.ip().is_unspecified() {
            return match source.is_none_or(|source| source == bound.ip()) {
                true => Ok(bound),
                false => Err(format!("sent from {source:?} by a socket of {bound}")),
            };
        }
        let host = HOSTS[usize::from(bound.is_ipv6())];
        let host = source.unwrap_or_else(|| host.parse().expect("an address"));
        Ok(SocketAddr::new(host, bound.port()))
    }

    /// The way of a datagram that was sent to `to` and is read under this name. The kernel says where it came in where a
    /// socket has all addresses.
    pub fn flow(
        &self,
        name: ListenerId,
        source: SocketAddr,
        to: SocketAddr,
    ) -> Result<Flow, String> {
        let bound = self.leave(name)?;
        Ok(Flow {
            listener: name,
            local: bound.ip().is_unspecified().then_some(to.ip()),
            peer: source,
            connection: None,
        })
    }

    /// Whether there is a listener on that address that dialogs may be on.
    pub fn serves(&self, address: SocketAddr) -> bool {
        let bound = |id| self.leave(id).is_ok_and(|bound| covers(bound, address));
        self.generations.standing().any(bound)
    }

    /// How many addresses, counted once for each socket on them.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether nothing is listened on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn socket(&mut self, number: u32) -> &mut Socket {
        let found = self.sockets.iter_mut().find(|one| one.number == number);
        found.expect("a name is of a socket")
    }
}
