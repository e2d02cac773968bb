//! The SIP sockets of all generations: opens what a new one wants, one socket per listener and shard, and knows which
//! are open. What shards and rings do with them is the business of `transports`.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

use super::tls::{self, TlsError};
use crate::config::limits;
use crate::config::{Config, Listener};
use crate::partition::ShardId;
use crate::policy::GateSettings;
use crate::time::Time;
use crate::transport::generations::{Closing, Generations, Origin, Plan, Planned, Wanted};
use crate::transport::{Endpoint, ListenerId, Transport};
use crate::uring::socket::{self, AnySocket, ListenerSocket, OpenError, SocketOptions};
use crate::uring::stream;

/// A listener that is open.
pub struct Open {
    /// By shard; those of a listener that was handed over are its successor's too.
    pub sockets: Vec<AnySocket>,
    pub options: SocketOptions,
    /// What handshakes are made with, where it speaks TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// What it demands, for as long as the configuration does not say it any more.
    pub gate: GateSettings,
}

impl Open {
    /// The address of its sockets.
    pub fn endpoint(&self) -> Endpoint {
        self.sockets[0].endpoint()
    }

    /// Its sockets, where they are of datagrams.
    fn datagrams(&self) -> impl Iterator<Item = Arc<ListenerSocket>> {
        self.sockets.iter().filter_map(|socket| match socket {
            AnySocket::Datagrams(socket) => Some(Arc::clone(socket)),
            AnySocket::Connections(_) => None,
        })
    }
}

/// Everything that is listened on.
pub struct Sockets {
    pub generations: Generations,
    pub open: BTreeMap<ListenerId, Open>,
    /// Addresses that this host does not have and nobody had asked for.
    pub left_out: Vec<SocketAddr>,
    shards: u16,
}

/// A generation whose sockets are open, and of which no shard has heard. `Sockets::withdraw` leaves no trace of it.
pub struct Opening {
    pub plan: Plan,
    /// In the plan's order.
    pub open: Vec<Open>,
    /// Those that were given other options while they live.
    set: Vec<ListenerId>,
    left_out: Vec<SocketAddr>,
}

/// Why a generation can't be opened.
#[derive(Debug)]
pub enum OpeningError {
    Socket(OpenError),
    Tls(TlsError),
    /// More listeners than a shard takes.
    TooMany,
}

impl core::fmt::Display for OpeningError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            OpeningError::Socket(error) => error.fmt(f),
            OpeningError::Tls(error) => error.fmt(f),
            OpeningError::TooMany => write!(
                f,
                "a shard takes at most {} listeners, those that drain included",
                limits::LISTENERS_MAX
            ),
        }
    }
}

/// What is wanted of one listener, the parts that sockets are made with.
struct Wish<'a> {
    listener: &'a Listener,
    gate: &'a GateSettings,
    options: SocketOptions,
    tls: Option<Arc<ServerConfig>>,
    wanted: Wanted,
}

impl Sockets {
    /// Nothing is open yet.
    pub fn new(shards: u16) -> Self {
        Sockets {
            generations: Generations::new(),
            open: BTreeMap::new(),
            left_out: Vec::new(),
            shards,
        }
    }

    /// Opens what the next generation needs, or nothing. With `fresh` no living socket is handed over.
    pub fn open(&self, config: &Config, fresh: bool) -> Result<Opening, OpeningError> {
        let mut wishes = wishes(config, fresh);
        let mut opening = Opening {
            plan: self.plan(&wishes),
            open: Vec::new(),
            set: Vec::new(),
            left_out: Vec::new(),
        };
        for wish in &mut wishes {
            if let Some(tls) = &wish.listener.tls {
                wish.tls = Some(tls::server_config(tls).map_err(OpeningError::Tls)?);
            }
        }
        loop {
            opening.plan = self.settle(&mut wishes, &mut opening.set);
            let failed = if self.open.len() + wishes.len() > limits::LISTENERS_MAX {
                OpeningError::TooMany
            } else {
                match self.open_all(&opening.plan, &wishes) {
                    Ok(open) => {
                        opening.open = open;
                        return Ok(opening);
                    }
                    Err((at, error)) if wishes[at].listener.optional && error.is_absent() => {
                        opening.left_out.push(wishes.remove(at).listener.address);
                        continue;
                    }
                    Err((_, error)) => OpeningError::Socket(error),
                }
            };
            self.withdraw(&opening);
            return Err(failed);
        }
    }

    /// The next listener to be closed before that can be opened.
    pub fn in_the_way(&self, config: &Config, fresh: bool) -> Option<Closing> {
        let mut wishes = wishes(config, fresh);
        self.want_fresh_where_unfit(&mut wishes);
        self.generations.in_the_way(&self.plan(&wishes))
    }

    /// The generation is active from now on. `stays`: how long a listener may whose address goes away.
    pub fn enter(&mut self, opening: Opening, now: Time, stays: Duration) -> Plan {
        let Opening {
            plan,
            open,
            left_out,
            set: _,
        } = opening;
        self.left_out = left_out;
        let addresses: Vec<SocketAddr> = open.iter().map(|open| open.endpoint().address).collect();
        self.generations.activate(now, &plan, &addresses, stays);
        for (planned, open) in plan.listeners.iter().zip(open) {
            for socket in &open.sockets {
                socket.secure(open.tls.clone());
            }
            self.open.insert(planned.id, open);
        }
        plan
    }

    /// The generation does not come: living sockets have the options again that they had.
    pub fn withdraw(&self, opening: &Opening) {
        for id in &opening.set {
            let open = &self.open[id];
            if let Err(error) = set_live(&open.sockets, &open.options) {
                let address = open.endpoint();
                tracing::warn!(%address, %error, "a socket keeps options that were to be taken back");
            }
        }
    }

    /// What one shard receives on.
    pub fn of_shard(&self, shard: ShardId) -> Vec<(ListenerId, AnySocket)> {
        let own =
            |(&id, open): (&ListenerId, &Open)| (id, open.sockets[usize::from(shard.0)].clone());
        self.open.iter().map(own).collect()
    }

    /// The addresses, with the ports that they really have.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.open.values().map(Open::endpoint).collect()
    }

    /// How many answers fit into the smallest receive buffer.
    pub fn answers_max(&self) -> usize {
        let sockets = self.open.values().flat_map(Open::datagrams);
        sockets
            .map(|socket| socket.receive_buffer() / limits::RECEIVE_BUFFER_BYTES_PER_ANSWER)
            .min()
            .unwrap_or(limits::IN_FLIGHT_MAX)
    }

    fn plan(&self, wishes: &[Wish<'_>]) -> Plan {
        let wanted: Vec<Wanted> = wishes.iter().map(|wish| wish.wanted.clone()).collect();
        self.generations.plan(&wanted)
    }

    /// Which listener takes over what, once it is known which of them need new sockets: those that want options which
    /// a living one does not take. The others have them from here on.
    fn settle(&self, wishes: &mut [Wish<'_>], set: &mut Vec<ListenerId>) -> Plan {
        self.want_fresh_where_unfit(wishes);
        let plan = self.plan(wishes);
        for (planned, wish) in plan.listeners.iter().zip(wishes.iter_mut()) {
            let Origin::HandedOver(old) = planned.origin else {
                continue;
            };
            let standing = &self.open[&old];
            if wish.options != standing.options && !set.contains(&old) {
                set.push(old);
                wish.wanted.fresh = set_live(&standing.sockets, &wish.options).is_err();
            }
        }
        self.plan(wishes)
    }

    fn want_fresh_where_unfit(&self, wishes: &mut [Wish<'_>]) {
        let plan = self.plan(wishes);
        for (planned, wish) in plan.listeners.iter().zip(wishes) {
            if let Origin::HandedOver(old) = planned.origin {
                let fit = wish.options.fit_live(&self.open[&old].options);
                // A listening socket takes everything while it lives, and may not have another one beside it.
                wish.wanted.fresh = !fit && !wish.listener.transport.is_stream();
            }
        }
    }

    fn open_all(&self, plan: &Plan, wishes: &[Wish<'_>]) -> Result<Vec<Open>, (usize, OpenError)> {
        // Those that stand beside living ones last: the kernel chooses them at once, and what comes in is lost if they
        // are given back because another one cannot be had.
        let mut order: Vec<usize> = (0..wishes.len()).collect();
        order.sort_by_key(|&at| matches!(plan.listeners[at].origin, Origin::Replaces(_)));
        let mut sockets = BTreeMap::new();
        for at in order {
            let opened = self.open_one(&plan.listeners[at], &wishes[at]);
            sockets.insert(at, opened.map_err(|error| (at, error))?);
        }
        let all = sockets.into_values().zip(wishes);
        let open = all.map(|(sockets, wish)| Open {
            sockets,
            options: wish.options.clone(),
            tls: wish.tls.clone(),
            gate: wish.gate.clone(),
        });
        Ok(open.collect())
    }

    fn open_one(&self, planned: &Planned, wish: &Wish<'_>) -> Result<Vec<AnySocket>, OpenError> {
        let (address, shards) = (wish.listener.address, self.shards);
        let sockets = match (planned.origin, wish.listener.transport) {
            (Origin::HandedOver(old), _) => return Ok(self.open[&old].sockets.clone()),
            (
                Origin::Opened | Origin::Replaces(_),
                Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss,
            ) => {
                let sockets = stream::open(wish.listener.endpoint(), shards, &wish.options)?;
                let sockets = sockets.into_iter();
                return Ok(sockets.map(AnySocket::from).collect());
            }
            (Origin::Replaces(old), Transport::Udp) => {
                let standing = &self.open[&old];
                let beside: Vec<_> = standing.datagrams().collect();
                let address = standing.endpoint().address;
                socket::open_beside(address, &beside, shards, &wish.options)?
            }
            (Origin::Opened, Transport::Udp) => {
                let beside = self.overlapping(address);
                if beside.is_empty() {
                    socket::open(address, shards, &wish.options)?
                } else {
                    socket::open_beside(address, &beside, shards, &wish.options)?
                }
            }
        };
        Ok(sockets.into_iter().map(AnySocket::from).collect())
    }

    /// Sockets of ours that would keep another one from this address: one of both is a wildcard, on the same port.
    fn overlapping(&self, address: SocketAddr) -> Vec<Arc<ListenerSocket>> {
        let overlaps = |open: &&Open| {
            let own = open.endpoint().address;
            own.port() == address.port()
                && own.is_ipv4() == address.is_ipv4()
                && (own.ip() == address.ip()
                    || own.ip().is_unspecified()
                    || address.ip().is_unspecified())
        };
        let open = self.open.values().filter(overlaps);
        open.flat_map(Open::datagrams).collect()
    }
}

fn wishes(config: &Config, fresh: bool) -> Vec<Wish<'_>> {
    let listeners = config.listeners.iter().zip(&config.policy.gates);
    let wish = |(gate, (listener, settings)): (usize, (_, _))| {
        let listener: &Listener = listener;
        Wish {
            listener,
            gate: settings,
            options: options_of(listener),
            tls: None,
            wanted: Wanted {
                endpoint: listener.endpoint(),
                advertise: listener
                    .advertise
                    .as_ref()
                    .map(|advertise| (advertise.host.clone(), advertise.port)),
                web: listener.web.clone(),
                gate: gate as u16,
                // A listening socket has nothing that a new one would not have.
                fresh: fresh && !listener.transport.is_stream(),
            },
        }
    };
    listeners.enumerate().map(wish).collect()
}

fn options_of(listener: &Listener) -> SocketOptions {
    let mut standard = SocketOptions::default();
    if listener.transport.is_stream() {
        standard.receive_buffer = SocketOptions::KERNELS_OWN;
        standard.send_buffer = SocketOptions::KERNELS_OWN;
    }
    SocketOptions {
        receive_buffer: listener.receive_buffer.unwrap_or(standard.receive_buffer),
        send_buffer: listener.send_buffer.unwrap_or(standard.send_buffer),
        dscp: listener.dscp,
        device: listener.device.clone(),
    }
}

fn set_live(sockets: &[AnySocket], options: &SocketOptions) -> io::Result<()> {
    sockets
        .iter()
        .try_for_each(|socket| socket.set_live(options))
}
