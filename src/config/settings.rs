//! What a server runs with. Plain data; whoever makes it has checked it.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;

use crate::policy::{PolicySettings, SourceLimits};
use crate::rate::Rate;
use crate::shard::settings::{Expiry, Quotas, RetryAfter, SubscribeRules};
use crate::state;
use crate::store::{Durability, RestartNotify};
use crate::subscription::outcome::{OnClose, OnTimeout};
use crate::subscription::package::RenderOptions;
use crate::transport::stream::WebRules;
use crate::transport::{Endpoint, NatMode, Transport};

/// Where SIP is served when nobody says otherwise; the second one only where the host has IPv6.
pub const DEFAULT_LISTEN: [&str; 2] = ["udp:127.0.0.1:5060", "udp:[::1]:5060"];
/// Where commands find the server when nobody says otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:8060";

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: Vec<Listener>,
    /// Without it: one for each CPU that the process may use.
    pub shards: Option<u16>,
    pub pin: Pin,
    /// Without it nothing is kept over a restart.
    pub data_dir: Option<PathBuf>,
    /// When a record in it counts as kept.
    pub durability: Durability,
    /// Who is told after a restart.
    pub restart_notify: RestartNotify,
    pub admin: Admin,
    /// Gate `i` is that of listener `i`.
    pub policy: PolicySettings,
    /// Of subscriptions, by the number of the package.
    pub subscribe_expiry: Vec<Expiry>,
    pub publish_expiry: Expiry,
    /// What one source may have.
    pub sources: SourceLimits,
    pub subscribe: SubscribeRules,
    pub on_timeout: OnTimeout,
    pub on_close: OnClose,
    /// How many changes a phone takes; None: as many as come.
    pub pace: Option<Rate>,
    pub retry_after: RetryAfter,
    pub quotas: Quotas,
    pub render: RenderOptions,
    pub compose: state::Settings,
    /// None: host names are not looked up.
    pub dns: Option<Dns>,
    /// A listener whose address goes away is closed after this, whatever still hangs on it.
    pub drain_max: Duration,
    /// A filter of `tracing`: `info`, or `info,lampfield::uring=debug`.
    pub log: String,
}

/// How host names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// None: those of this machine.
    pub servers: Vec<SocketAddr>,
    /// A name that is not found by then is not known for now.
    pub timeout: Duration,
}

/// One SIP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub transport: Transport,
    /// Port 0 lets the kernel choose one.
    pub address: SocketAddr,
    /// Nobody asked for it: it may be left out where the host has no such address.
    pub optional: bool,
    pub advertise: Option<Advertise>,
    /// What it shows and demands, if it speaks TLS.
    pub tls: Option<Tls>,
    /// Who may open a WebSocket connection to it.
    pub web: WebRules,
    pub nat: NatMode,
    /// Differentiated services code point of what is sent, 0 to 63.
    pub dscp: Option<u8>,
    /// Bytes of a socket's buffers; none: what the server thinks right.
    pub receive_buffer: Option<usize>,
    pub send_buffer: Option<usize>,
    /// The network device that datagrams come in and go out by.
    pub device: Option<Box<str>>,
}

/// What a TLS listener shows and demands: files as they were read, so that what is new in them is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// At least one; the first is shown to who asks for no name, or for none of theirs.
    pub certificates: Vec<Certificate>,
    /// Who issues the certificates of peers.
    pub client_ca: Option<Certificate>,
    pub clients: ClientCertificates,
    /// TLS 1.2 is not spoken.
    pub only_1_3: bool,
    /// The names of the cipher suites that are spoken; empty: all that are known.
    pub ciphers: Vec<String>,
}

/// A certificate with its chain, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub file: String,
    pub bytes: Vec<u8>,
    /// Of our own certificates.
    pub key: Option<Key>,
}

/// A private key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub file: String,
    pub bytes: Vec<u8>,
}

/// Whether peers have to show a certificate, where their issuer is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    #[default]
    Required,
    /// One that is shown must be good.
    Optional,
    Ignored,
}

impl Listener {
    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            transport: self.transport,
            address: self.address,
        }
    }
}

/// What Via and Contact say in place of the listener's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    pub host: Box<str>,
    /// Without it: the listener's own.
    pub port: Option<u16>,
}

/// Which CPUs the shards are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Where the process has exactly one CPU for each shard, and no quota.
    #[default]
    Auto,
    Off,
    /// One CPU for each shard, in order.
    List(Vec<usize>),
}

/// The HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: SocketAddr,
    /// What `Authorization: Bearer` must carry.
    pub token: Option<String>,
}

/// What the command line says over the file. Texts are not yet checked.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// In place of the file's listeners, if there are any.
    pub listen: Vec<String>,
    /// Added to the file's trusted addresses.
    pub trusted: Vec<String>,
    pub shards: Option<u16>,
    pub pin: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub admin: Option<String>,
}
