//! The command line.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::configuration::Transport;
use crate::field::{Connected, Group, Plan};
use crate::loads::Kind;
use crate::server::{Durability, Server};
use crate::wire::Package;

/// Be a notifier to compare with: what `--baseline` and `--plain` start.
#[derive(Parser)]
pub struct Stub {
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub admin: SocketAddr,
    /// Send each NOTIFY before the 200 that it belongs to
    #[arg(long)]
    pub notify_first: bool,
}

/// Which load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// New subscriptions in a closed loop
    Subscribe,
    /// Everyone at once, at a rate
    Burst,
    /// A whole site comes back within `--seconds` while others refresh and see changes
    Storm,
    /// Refreshes of existing subscriptions
    Refresh,
    /// One resource that everyone watches changes
    Fanout,
    /// The same on each transport, one resource for each, beside each other
    Cost,
    /// Connections that do nothing, then something
    Idle,
    /// Resident memory per subscription
    Memory,
    /// Publishers and their watchers
    Publish,
    /// Phones come, refresh, leave and reboot while states change
    Churn,
    /// Transports are replaced again and again while phones refresh and states change
    Swap,
    /// Subscriptions expire unanswered while transports are replaced; then all refresh
    Expire,
    /// The server is killed again and again while phones refresh and states change
    Restart,
    /// The server is killed once, with all subscriptions, and brings them back
    Restore,
}

impl Load {
    /// Whether the server has a file: what it says changes while it runs, or allows expiries of seconds.
    pub fn reloads(self) -> bool {
        matches!(self, Load::Swap | Load::Expire | Load::Churn)
    }
}

/// Plays phones against a Lampfield server that it starts itself, and checks every lamp.
#[derive(Parser)]
#[command(name = "lampfield-load", version, arg_required_else_help = true)]
pub struct Options {
    /// Which load to run
    #[arg(value_enum)]
    pub load: Load,
    /// The server to start; usually the `lampfield` that lies beside this program
    #[arg(long)]
    pub server_binary: Option<PathBuf>,
    /// Measure the simplest possible notifier instead of the server
    #[arg(long)]
    pub baseline: bool,
    /// Measure Lampfield's shard behind sendmmsg instead of the server with its ring
    #[arg(long, conflicts_with = "baseline")]
    pub plain: bool,
    /// Phones' keys: subscriptions
    #[arg(long)]
    pub count: Option<u32>,
    /// Resources that they watch
    #[arg(long)]
    pub resources: Option<u32>,
    /// Things per second, where the load has a rate
    #[arg(long)]
    pub rate: Option<f64>,
    /// How long, where the load has a rate
    #[arg(long)]
    pub seconds: Option<u32>,
    /// How long phones churn, in minutes; parts of one count
    #[arg(long)]
    pub minutes: Option<f64>,
    /// How many of the phones of a storm are there before it
    #[arg(long)]
    pub live: Option<u32>,
    /// Phones that come back had subscriptions before, of which they do not know any more
    #[arg(long)]
    pub ghosts: bool,
    /// Changes of state, or rounds of refreshing
    #[arg(long, default_value_t = 7)]
    pub changes: u32,
    /// How often transports are replaced
    #[arg(long)]
    pub swaps: Option<u32>,
    /// How often the server is killed
    #[arg(long)]
    pub kills: Option<u32>,
    /// When an answer may leave; else as the server does by itself
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// The server ends in order instead, before it brings subscriptions back
    #[arg(long)]
    pub orderly: bool,
    /// Who is told after a restart is left to `restart_notify = "changed"`
    #[arg(long)]
    pub changed_only: bool,
    /// Milliseconds from the end of one swap to the next
    #[arg(long, default_value_t = 1000)]
    pub pause: u64,
    /// Which swaps, in this order, again and again
    #[arg(long, value_enum, value_delimiter = ',')]
    pub kinds: Vec<Kind>,
    /// Do not wait until all that drains has closed, which takes 64·T1
    #[arg(long)]
    pub hurry: bool,
    /// The event package that phones ask for
    #[arg(long, value_enum, default_value = "dialog")]
    pub package: Package,
    /// Seconds that phones ask for
    #[arg(long)]
    pub expires: Option<u32>,
    /// Sockets that phones are spread over
    #[arg(long, default_value_t = 4)]
    pub ports: usize,
    /// Connections by TCP, over which a part of the phones is spread: as many on each kind
    #[arg(long, default_value_t = 0)]
    pub tcp: u32,
    /// Connections by TLS, as for TCP
    #[arg(long, default_value_t = 0)]
    pub tls: u32,
    /// Connections by WebSocket, as for TCP
    #[arg(long, default_value_t = 0)]
    pub ws: u32,
    /// Connections by secure WebSocket, as for TCP
    #[arg(long, default_value_t = 0)]
    pub wss: u32,
    /// Nobody sends datagrams: all phones are on connections
    #[arg(long)]
    pub no_udp: bool,
    /// Connections that are opened in each second, to ask once and go, and as often to take the place of another
    #[arg(long, default_value_t = 20.0)]
    pub visits: f64,
    /// Keys of one phone: they share its From address
    #[arg(long, default_value_t = 30)]
    pub keys: u32,
    /// Proxies with a Record-Route between phones and server
    #[arg(long, default_value_t = 0)]
    pub edges: u8,
    /// A real Kamailio between phones and server: all phones behind one address, two Record-Routes
    #[arg(long, conflicts_with = "edges")]
    pub kamailio: bool,
    /// Datagrams of a thousand thrown away, each way
    #[arg(long, default_value_t = 0)]
    pub lose: u32,
    /// Over IPv6
    #[arg(long)]
    pub ipv6: bool,
    /// Shards of the server
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// Let server and phones run on any processor
    #[arg(long)]
    pub no_pin: bool,
    /// The random choices; a run prints its own
    #[arg(long)]
    pub seed: Option<u64>,
    /// Also print the figures as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Record the server with `perf record` into this file
    #[arg(long)]
    pub perf: Option<PathBuf>,
    /// Where the server's output goes
    #[arg(long)]
    pub log: Option<PathBuf>,
}

impl Options {
    /// How many subscriptions.
    pub fn count(&self) -> u32 {
        let usual = match self.load {
            Load::Subscribe | Load::Refresh | Load::Burst => 50_000,
            Load::Storm => 330_000,
            Load::Fanout => 10_000,
            Load::Cost => 10_000 * (1 + self.streams().len() as u32),
            Load::Idle => self.tcp + self.tls + self.ws + self.wss,
            Load::Memory => 100_000,
            Load::Publish => 3_000,
            Load::Churn | Load::Expire => 10_000,
            Load::Restart => 5_000,
            Load::Restore => 1_000_000,
            Load::Swap => 20_000,
        };
        self.count.unwrap_or(usual).max(1)
    }

    /// How many resources.
    pub fn resources(&self) -> u32 {
        let usual = match self.load {
            Load::Fanout => 1,
            Load::Cost => (self.streams().len() + usize::from(!self.no_udp)) as u32,
            Load::Publish => self.count() / 3,
            Load::Subscribe
            | Load::Refresh
            | Load::Burst
            | Load::Storm
            | Load::Memory
            | Load::Churn
            | Load::Swap
            | Load::Idle
            | Load::Expire
            | Load::Restart
            | Load::Restore => self.count() / 10,
        };
        self.resources.unwrap_or(usual).clamp(1, self.count())
    }

    /// How many swaps.
    pub fn swaps(&self) -> u32 {
        let usual = if self.load == Load::Expire { 8 } else { 100 };
        self.swaps.unwrap_or(usual)
    }

    /// How long, in seconds, where the load has a rate.
    pub fn seconds(&self) -> u32 {
        let usual = if self.load == Load::Storm { 60 } else { 10 };
        self.seconds.unwrap_or(usual).max(1)
    }

    /// How many phones are there before a storm.
    pub fn live(&self) -> u32 {
        let count = self.count();
        self.live.unwrap_or(count / 11).clamp(1, count)
    }

    /// Seconds that phones ask for; where they churn for minutes, at most.
    pub fn expires(&self) -> u32 {
        let usual = if self.minutes.is_some() { 120 } else { 3600 };
        self.expires.unwrap_or(usual).max(3)
    }

    /// How often the server is killed.
    pub fn kills(&self) -> u32 {
        self.kills.unwrap_or(100)
    }

    /// From the end of one swap to the next.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.pause)
    }

    /// Where the server listens.
    pub fn ip(&self) -> IpAddr {
        if self.ipv6 {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
    }

    /// What the server serves beside datagrams.
    pub fn streams(&self) -> Vec<Transport> {
        let kinds = [
            Transport::Tcp,
            Transport::Tls,
            Transport::Ws,
            Transport::Wss,
        ];
        let wanted = kinds.into_iter();
        wanted.filter(|kind| self.connections(*kind) > 0).collect()
    }

    /// How many connections by this transport.
    fn connections(&self, transport: Transport) -> u32 {
        match transport {
            Transport::Udp => 0,
            Transport::Tcp => self.tcp,
            Transport::Tls => self.tls,
            Transport::Ws => self.ws,
            Transport::Wss => self.wss,
        }
    }

    /// What the phones have in common.
    pub fn plan(&self, server: &Server, edge: Option<SocketAddr>) -> io::Result<Plan> {
        let groups = server.configuration.listeners.iter().map(|listener| Group {
            transport: listener.transport,
            server: listener.address,
            count: self.connections(listener.transport),
        });
        let groups: Vec<Group> = groups.filter(|group| group.count > 0).collect();
        let authority = server.authority.as_ref();
        Ok(Plan {
            server: server.sip,
            edge,
            package: self.package,
            expires: self.expires(),
            ports: self.ports.clamp(1, 64),
            keys: self.keys.max(1),
            edges: self.edges.min(6),
            lose_permille: self.lose,
            seed: self.seed.expect("set before the first use"),
            connected: Connected {
                only: (self.no_udp || self.load == Load::Idle) && !groups.is_empty(),
                groups,
                trust: authority.map(|authority| authority.client()).transpose()?,
                shown: server.shown.clone(),
            },
        })
    }
}
