//! Starts everything and stops it again. What happens in between is the business of the shards and of `admin`.
//!
//! ```text
//!  start   signals - probe the kernel - secrets - store - sockets - shards, one thread each - what the store
//!          knows - sockets are read - admin port
//!  reload  read again - refused whole, or: sockets - shards adopt - admin side - log
//!  stop    not ready - subscriptions are told, or kept - admin port closes - rings are emptied - threads end -
//!          store closes
//! ```

mod changes;
mod listen;
mod names;
mod reload;
mod run;
mod secrets;
mod store;
mod tls;
mod transports;

use core::fmt;
use core::net::SocketAddr;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;

pub use reload::{Origin, SetLog};
pub use run::How;

use crate::config::limits;
use crate::config::{Config, Pin};
use crate::dns::Dns;
use crate::partition::{Secrets, ShardId};
use crate::policy::{Fault, Policy};
use crate::shard::Shard;
use crate::shard::settings::{Rules, Settings};
use crate::store::io::{OpenError as StoreError, Writer};
use crate::transport::Endpoint;
use crate::uring::drive::{Plan, ShardThread};
use crate::uring::pin::PinError;
use crate::uring::post::Control;
use crate::uring::probe::Missing;
use crate::uring::ring::RingOptions;
use crate::uring::stream::Doors;
use crate::uring::{clock, drive, pin, post, probe};

use listen::{OpeningError, Sockets};
use secrets::SecretsError;
use store::Store;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    Kernel(Missing),
    Secrets(SecretsError),
    Policy(Fault),
    Listen(OpeningError),
    Store(StoreError),
    Pin(PinError),
    Admin(SocketAddr, io::Error),
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Kernel(missing) => missing.fmt(f),
            StartError::Secrets(error) => error.fmt(f),
            StartError::Policy(fault) => fault.fmt(f),
            StartError::Listen(error) => error.fmt(f),
            StartError::Store(error) => error.fmt(f),
            StartError::Pin(error) => error.fmt(f),
            StartError::Admin(address, error) => {
                write!(f, "cannot listen on the admin port {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        write!(f, " (another process has it; choose one with --admin)")
                    }
                    _ => Ok(()),
                }
            }
            StartError::Thread(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl core::error::Error for StartError {}

/// A server that has started.
pub struct Server {
    threads: Vec<ShardThread>,
    control: Control,
    sockets: Sockets,
    doors: Arc<Doors>,
    dns: Dns,
    writer: Option<Writer>,
    secrets: Secrets,
    policy: Arc<Policy>,
    config: Config,
    origin: Origin,
    admin_listener: std::net::TcpListener,
    runtime: Runtime,
    signals: (run::Signals, Signal),
    started: Started,
}

/// What a person wants to know of it.
#[derive(Clone, Debug)]
pub struct Started {
    pub shards: u16,
    pub listeners: Vec<Endpoint>,
    /// Addresses that this host does not have and nobody had asked for.
    pub left_out: Vec<SocketAddr>,
    pub admin: SocketAddr,
    /// Settings that work, and about which something should be known.
    pub remarks: Vec<String>,
    /// What outlives the process.
    pub keeps: Keeps,
    pub token: Option<String>,
}

/// What outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// There is no data directory.
    Nothing,
    /// The keys behind tags and nonces: the configuration wants no more.
    Secrets,
    /// Everything that phones and sources were told; so much of it came back.
    Everything { restored: u64 },
}

impl Server {
    /// Starts; once this returns, SIP is served. `origin`: where a reload reads a new configuration.
    pub fn start(config: Config, origin: Origin) -> Result<Server, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        // Before anything is served: who sees a port may ask for the end, and phones that have subscribed by then are told.
        let signals = {
            let _entered = runtime.enter();
            run::receive_signals().map_err(StartError::Thread)?
        };
        probe::probe().map_err(StartError::Kernel)?;
        let secrets = secrets::load(config.data_dir.as_deref()).map_err(StartError::Secrets)?;
        let policy = Policy::new(&config.policy, &secrets, None).map_err(StartError::Policy)?;
        let policy = Arc::new(policy);
        let shards = config.shards.unwrap_or_else(default_shards);
        let cpus = plan_cpus(&config.pin, shards)?;
        let admin_listener = open_admin(config.admin.address)?;
        let admin = admin_listener.local_addr().map_err(StartError::Thread)?;
        let store = Store::open(config.data_dir.as_deref(), config.durability, &secrets)
            .map_err(StartError::Store)?;
        // Starting is swapping to the first generation.
        let mut sockets = Sockets::new(shards);
        let opening = sockets.open(&config, false).map_err(StartError::Listen)?;
        sockets.enter(opening, clock::now(), config.drain_max);
        let mut started = Started {
            shards,
            listeners: sockets.endpoints(),
            left_out: sockets.left_out.clone(),
            admin,
            remarks: policy.remarks().to_vec(),
            keeps: match config.data_dir {
                Some(_) => Keeps::Secrets,
                None => Keeps::Nothing,
            },
            token: config.admin.token.clone(),
        };
        let incarnation = store.as_ref().map(Store::incarnation);
        let clock_back = store.as_ref().map(Store::set_back).unwrap_or_default();
        let make_settings = |shard: ShardId| {
            let mut settings = Settings::new(
                shard,
                shards,
                secrets.clone(),
                secrets::random().map_err(StartError::Secrets)?,
                Vec::new(),
                Arc::clone(&policy),
            );
            settings.listeners = sockets.generations.table();
            settings.rules = rules_of(&config, &policy);
            settings.compose = config.compose.clone();
            settings.in_flight_max = sockets.answers_max();
            settings.incarnation = incarnation;
            settings.clock_back = clock_back;
            settings.restart_notify = config.restart_notify;
            Ok(settings)
        };
        let dns = Dns::new(secrets::random().map_err(StartError::Secrets)?);
        names::adopt(&dns, &config);
        let doors = Arc::new(Doors::default());
        doors.adopt(config.sources, Arc::clone(&policy));
        let (threads, mut control) = start_shards(make_settings, &cpus, &doors)?;
        let served = runtime.block_on(store::bring_back(store.as_ref(), &mut control, &sockets));
        let (writer, restored) = match served {
            Ok(served) => served,
            Err(error) => {
                stop_threads(threads, &control);
                return Err(StartError::Thread(error));
            }
        };
        if store.is_some() {
            started.keeps = Keeps::Everything { restored };
        }
        Ok(Server {
            threads,
            control,
            sockets,
            doors,
            dns,
            writer,
            secrets,
            policy,
            config,
            origin,
            admin_listener,
            runtime,
            signals,
            started,
        })
    }

    /// What was started.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Serves until a signal ends it.
    pub fn run(self) -> How {
        run::run(self)
    }
}

fn default_shards() -> u16 {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    cpus.min(limits::SHARDS_MAX) as u16
}

fn plan_cpus(pin: &Pin, shards: u16) -> Result<Vec<Option<usize>>, StartError> {
    let pin = match pin {
        Pin::Auto => pin::Pin::Auto,
        Pin::Off => pin::Pin::Off,
        Pin::List(cpus) => pin::Pin::List(cpus.clone()),
    };
    let cpus = pin::cpus().map_err(StartError::Thread)?;
    pin::plan(&pin, shards, &cpus).map_err(StartError::Pin)
}

fn open_admin(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let failed = |error| StartError::Admin(address, error);
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// One thread for each shard, without sockets yet. If one does not start, those that have are stopped.
fn start_shards(
    make_settings: impl Fn(ShardId) -> Result<Settings, StartError>,
    cpus: &[Option<usize>],
    doors: &Arc<Doors>,
) -> Result<(Vec<ShardThread>, Control), StartError> {
    let (mailboxes, control) = post::office(cpus.len() as u16).map_err(StartError::Thread)?;
    let mut threads: Vec<ShardThread> = Vec::with_capacity(cpus.len());
    for (mailbox, cpu) in mailboxes.into_iter().zip(cpus) {
        let settings = make_settings(mailbox.shard())?;
        let plan = Plan {
            mailbox,
            listeners: Vec::new(),
            ring: RingOptions::default(),
            doors: Arc::clone(doors),
            cpu: *cpu,
        };
        match drive::start(plan, move || Shard::new(settings, clock::now())) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stop_threads(threads, &control);
                return Err(StartError::Thread(error));
            }
        }
    }
    Ok((threads, control))
}

/// What of a configuration the shards can take while they run.
fn rules_of(config: &Config, policy: &Arc<Policy>) -> Rules {
    Rules {
        policy: Arc::clone(policy),
        subscribe_expiry: config.subscribe_expiry.clone(),
        publish_expiry: config.publish_expiry,
        subscribe: config.subscribe,
        on_timeout: config.on_timeout,
        on_close: config.on_close,
        pace: config.pace,
        retry_after: config.retry_after,
        quotas: config.quotas.clone(),
        render: config.render,
        names: config.dns.is_some(),
    }
}

/// Each ring is emptied to its last completion before its thread ends.
fn stop_threads(threads: Vec<ShardThread>, control: &Control) {
    for shard in (0..control.shards()).map(ShardId) {
        control.shard(shard).stop();
    }
    for thread in threads {
        let shard = thread.shard();
        let ended = thread.join();
        tracing::debug!(shard = shard.0, ?ended, "shard ended");
    }
}
