//! `set key value`: what a scenario may change in the shards that it runs on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lampfield::config::limits;
use lampfield::partition::{Owners, Secrets, ShardId};
use lampfield::policy::{
    AccessSettings, Action, DigestSettings, DomainSettings, DomainsSettings, EdgeSettings,
    GateSettings, Overload, Password, Policy, PolicySettings, RuleSettings, UserSettings,
};
use lampfield::quota::{BURST, Quota};
use lampfield::rate::Rate;
use lampfield::shard::admission::Capacity;
use lampfield::shard::settings::{
    Expiry, PACE_BURST, PACE_PER_SECOND, Quotas, RetryAfter, Settings as ShardSettings,
    SubscribeRules,
};
use lampfield::subscription::outcome::{OnClose, OnTimeout, Supersede};
use lampfield::transport::generations::Wanted;
use lampfield::transport::stream::WebRules;
use lampfield::transport::{self, Endpoint, ListenerId, NatMode, Transport};

/// The domain of a resource that a scenario names without one, and of every host where no domains are set.
pub const DEFAULT_DOMAIN: &str = "example.com";

/// The listener that takes connections.
pub const STREAM: ListenerId = ListenerId(2);

/// The listener that takes WebSocket connections.
pub const WEB: ListenerId = ListenerId(3);

/// One socket of the server.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: String,
    pub id: ListenerId,
    pub transport: Transport,
    pub address: SocketAddr,
    /// The local address of every datagram that comes in on a wildcard listener.
    pub reached_as: Option<IpAddr>,
    advertise: Option<(Box<str>, u16)>,
}

impl Listener {
    /// One that takes datagrams, and has no number yet.
    pub fn new(name: &str, address: SocketAddr) -> Self {
        Listener {
            name: name.to_string(),
            id: ListenerId(u32::MAX),
            transport: Transport::Udp,
            address,
            reached_as: None,
            advertise: None,
        }
    }

    /// What a configuration says of it.
    pub fn wanted(&self, fresh: bool) -> Wanted {
        let advertised = |(host, port): (Box<str>, u16)| (host, Some(port));
        Wanted {
            endpoint: Endpoint {
                transport: self.transport,
                address: self.address,
            },
            advertise: self.advertise.clone().map(advertised),
            web: WebRules::default(),
            gate: 0,
            fresh,
        }
    }
}

/// The settings of one case.
#[derive(Clone, Debug)]
pub struct Settings {
    listeners: Vec<Listener>,
    /// What its phones come by.
    pub transport: Transport,
    pub receive_buffer: usize,
    on_timeout: OnTimeout,
    on_close: OnClose,
    subscribe_expiry: Vec<Expiry>,
    publish_expiry: Expiry,
    pub subscribe: SubscribeRules,
    pace: Option<Rate>,
    /// After so many seconds of silence WebSocket connections are pinged.
    pub ping: Option<Duration>,
    policy: PolicySettings,
    all_dialogs: bool,
    names: bool,
    subscriptions_max: Option<usize>,
    in_flight_max: Option<usize>,
    transactions_max: Option<usize>,
    capacity: Capacity,
    retry_after: RetryAfter,
    quotas: Quotas,
    /// What the shards' own chance is made of.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let listener = |name: &str, number, address: &str| Listener {
            name: name.to_string(),
            id: ListenerId(number),
            transport: Transport::Udp,
            address: address.parse().expect("a literal address"),
            reached_as: None,
            advertise: None,
        };
        Settings {
            listeners: vec![
                listener("four", 0, "192.0.2.1:5060"),
                listener("six", 1, "[2001:db8::1]:5060"),
                Listener {
                    transport: Transport::Tcp,
                    ..listener("stream", STREAM.0, "192.0.2.1:5060")
                },
                Listener {
                    transport: Transport::Ws,
                    ..listener("web", WEB.0, "192.0.2.1:8080")
                },
            ],
            transport: Transport::Udp,
            receive_buffer: limits::RECEIVE_BUFFER_BYTES,
            on_timeout: OnTimeout::Remove,
            on_close: OnClose::Keep,
            subscribe_expiry: Expiry::of_packages(),
            publish_expiry: Expiry::default(),
            // Scenarios say to the second what is granted.
            subscribe: SubscribeRules {
                jitter: false,
                ..SubscribeRules::default()
            },
            pace: Some(Rate::new(PACE_PER_SECOND, PACE_BURST)),
            ping: None,
            policy: PolicySettings {
                domains: DomainsSettings {
                    default: DEFAULT_DOMAIN.to_string(),
                    domains: Vec::new(),
                },
                digest: DigestSettings::default(),
                access: AccessSettings::default(),
                // The phones of scenarios are at addresses that are real to them.
                gates: vec![GateSettings {
                    nat: NatMode::Never,
                    ..GateSettings::default()
                }],
                ..PolicySettings::default()
            },
            all_dialogs: false,
            names: false,
            subscriptions_max: None,
            in_flight_max: None,
            transactions_max: None,
            capacity: Capacity::default(),
            retry_after: RetryAfter::default(),
            quotas: Quotas::default(),
            seed: 0,
        }
    }
}

impl Settings {
    /// One `set` line.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let words: Vec<&str> = value.split_whitespace().collect();
        match (key, &words[..]) {
            ("listener", [name, address, rest @ ..]) => self.listener(name, address, rest)?,
            ("transport", ["tcp"]) => self.transport = Transport::Tcp,
            ("receive_buffer", [bytes]) => self.receive_buffer = number(bytes)? as usize,
            ("on_timeout", ["park"]) => self.on_timeout = OnTimeout::Park,
            ("on_timeout", ["remove"]) => self.on_timeout = OnTimeout::Remove,
            ("ping", [seconds]) => self.ping = Some(Duration::from_secs(number(seconds)?.into())),
            ("pace", ["none"]) => self.pace = None,
            ("pace", [rate, burst]) => self.pace = Some(Rate::new(number(rate)?, number(burst)?)),
            ("jitter", ["on"]) => self.subscribe.jitter = true,
            ("supersede", [word]) => {
                self.subscribe.supersede = match *word {
                    "probe" => Supersede::Probe,
                    "replace" => Supersede::Replace,
                    "off" => Supersede::Off,
                    _ => return Err(format!("no way to supersede: {word}")),
                }
            }
            ("on_close", ["keep"]) => self.on_close = OnClose::Keep,
            ("on_close", ["end"]) => self.on_close = OnClose::End,
            ("expires_min", [seconds]) => {
                self.each_expiry(|expiry, n| expiry.min_seconds = n, seconds)?
            }
            ("expires_max", [seconds]) => {
                self.each_expiry(|expiry, n| expiry.max_seconds = n, seconds)?
            }
            ("publish_expires_min", [seconds]) => {
                self.publish_expiry.min_seconds = number(seconds)?
            }
            ("publish_expires_max", [seconds]) => {
                self.publish_expiry.max_seconds = number(seconds)?
            }
            ("subscriptions_max", [count]) => {
                self.subscriptions_max = Some(number(count)? as usize);
            }
            ("in_flight_max", [count]) => self.in_flight_max = Some(number(count)? as usize),
            ("transactions_max", [count]) => self.transactions_max = Some(number(count)? as usize),
            ("notifies_waiting", [count]) => self.capacity.notifies = number(count)? as usize,
            ("quota", ["of", domain, what, count]) => {
                let mut quota = self.quotas.of_domain(domain.as_bytes());
                change_quota(&mut quota, what, number(count)?)?;
                let others = self.quotas.domains.iter().cloned();
                let mut domains: Vec<_> = others.filter(|(name, _)| **name != **domain).collect();
                domains.push(((*domain).into(), quota));
                domains.sort_by(|(one, _), (other, _)| one.cmp(other));
                self.quotas.domains = domains.into();
            }
            ("quota", [who, what, count]) => self.quota(who, what, number(count)?)?,
            ("retry_after", [min, max]) => {
                self.retry_after.min_seconds = number(min)?;
                self.retry_after.max_seconds = number(max)?;
            }
            ("dialogs", ["all"]) => self.all_dialogs = true,
            ("names", ["on"]) => self.names = true,
            ("nat", ["auto"]) => self.policy.gates[0].nat = NatMode::Auto,
            ("nat", ["always"]) => self.policy.gates[0].nat = NatMode::Always,
            ("edge", [network]) => self.edge(network, Overload::Request),
            ("edge", [network, "500"]) => self.edge(network, Overload::Request),
            ("edge", [network, "503"]) => self.edge(network, Overload::Server),
            ("edge_name", [name]) => self.policy.edges.push(EdgeSettings {
                names: vec![name.to_string()],
                ..EdgeSettings::default()
            }),
            ("shared", [pattern]) => self.policy.shared_watchers.push(pattern.to_string()),
            ("domain", [name, aliases @ ..]) => self.policy.domains.domains.push(DomainSettings {
                name: name.to_string(),
                aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
            }),
            ("domains", ["none"]) => self.policy.domains.domains.clear(),
            ("deny_watch", [resource]) => self.deny(Action::Watch, resource),
            ("deny_publish", [resource]) => self.deny(Action::Publish, resource),
            ("user", _) => self.user(value)?,
            ("trust", [network]) => self.policy.gates[0].trusted.push(network.to_string()),
            ("strict_uri", ["on"]) => self.policy.digest.strict_uri = true,
            ("nonce_lifetime", [seconds]) => {
                self.policy.digest.nonce_life_seconds = u64::from(number(seconds)?);
            }
            _ => return Err(format!("no setting: {key} {value}")),
        }
        Ok(())
    }

    fn listener(&mut self, name: &str, address: &str, rest: &[&str]) -> Result<(), String> {
        let address = address
            .parse()
            .map_err(|_| format!("no address: {address}"))?;
        let mut listener = Listener {
            name: name.to_string(),
            id: ListenerId(self.listeners.len() as u32),
            transport: Transport::Udp,
            address,
            reached_as: None,
            advertise: None,
        };
        match rest {
            [] => {}
            ["tls"] => listener.transport = Transport::Tls,
            ["reached-as", local] => {
                let local = local.parse().map_err(|_| format!("no address: {local}"))?;
                listener.reached_as = Some(local);
            }
            ["advertise", host, port] => {
                listener.advertise = Some((Box::from(*host), number(port)? as u16));
            }
            _ => return Err(format!("no listener: {rest:?}")),
        }
        self.listeners.push(listener);
        Ok(())
    }

    /// How much a user, a source or a domain may have, or whoever speaks through the edge that was named last.
    fn quota(&mut self, who: &str, what: &str, count: u32) -> Result<(), String> {
        let edge = self.policy.edges.last_mut();
        let quota = match who {
            "user" => &mut self.quotas.user,
            "source" => &mut self.quotas.source,
            "domain" => &mut self.quotas.domain,
            "edge" => &mut edge.ok_or("name the edge first")?.quota,
            _ => return Err(format!("nobody has a quota who is a {who}")),
        };
        change_quota(quota, what, count)
    }

    fn edge(&mut self, network: &str, overload: Overload) {
        self.policy.edges.push(EdgeSettings {
            addresses: vec![network.to_string()],
            overload,
            ..EdgeSettings::default()
        });
    }

    fn each_expiry(&mut self, change: fn(&mut Expiry, u32), seconds: &str) -> Result<(), String> {
        let seconds = number(seconds)?;
        for expiry in &mut self.subscribe_expiry {
            change(expiry, seconds);
        }
        Ok(())
    }

    fn deny(&mut self, action: Action, resource: &str) {
        self.policy.access.rules.push(RuleSettings {
            action: Some(action),
            identity: "*".to_string(),
            resource: resource.to_string(),
            allow: false,
        });
    }

    /// With users, the listener asks who it is.
    fn user(&mut self, user: &str) -> Result<(), String> {
        let (name, password) = user.split_once(':').ok_or("set user name:password")?;
        self.policy.users.retain(|other| other.user != name);
        self.policy.users.push(UserSettings {
            user: name.to_string(),
            realm: DEFAULT_DOMAIN.to_string(),
            domain: None,
            password: Password::Plain(password.to_string()),
        });
        self.policy.gates[0].realm = Some(DEFAULT_DOMAIN.to_string());
        Ok(())
    }

    /// Only the first of the listeners.
    pub fn first_listeners(&mut self, count: usize) {
        self.listeners.truncate(count);
    }

    /// Listeners of these addresses and no others, for datagrams, numbered anew.
    pub fn listen_on(&mut self, addresses: &[SocketAddr]) {
        self.listeners = (0..)
            .zip(addresses)
            .map(|(number, &address)| Listener {
                id: ListenerId(number),
                ..Listener::new(&address.to_string(), address)
            })
            .collect();
    }

    /// Only those that take connections, numbered anew.
    pub fn only_streams(&mut self) {
        self.listeners.retain(|one| one.transport.is_stream());
        for (number, listener) in (0..).zip(&mut self.listeners) {
            listener.id = ListenerId(number);
        }
    }

    pub fn listeners(&self) -> Vec<Listener> {
        let mut listeners = self.listeners.clone();
        if self.transport.is_stream() {
            // The one that is for connections everywhere else has the same address.
            for listener in &mut listeners {
                listener.transport = match listener.transport.is_stream() {
                    true => Transport::Udp,
                    false => self.transport,
                };
            }
        }
        listeners
    }

    /// The settings of each shard.
    pub fn shards(&self, count: u16) -> Result<Vec<ShardSettings>, String> {
        let policy = Policy::new(&self.policy, &secrets(), None);
        let policy = Arc::new(policy.map_err(|fault| format!("{fault:?}"))?);
        let mut listeners: Vec<transport::Listener> =
            self.listeners().iter().map(listener_of).collect();
        for listener in &mut listeners {
            listener.web.ping = self.ping;
        }
        Ok((0..count)
            .map(|number| {
                let mut settings = ShardSettings::new(
                    ShardId(number),
                    count,
                    secrets(),
                    seed_of(self.seed, number),
                    listeners.clone(),
                    Arc::clone(&policy),
                );
                settings.rules.subscribe_expiry = self.subscribe_expiry.clone();
                settings.rules.publish_expiry = self.publish_expiry;
                settings.rules.subscribe = self.subscribe;
                settings.rules.on_timeout = self.on_timeout;
                settings.rules.on_close = self.on_close;
                settings.rules.pace = self.pace;
                settings.rules.retry_after = self.retry_after;
                settings.rules.quotas = self.quotas.clone();
                settings.capacity = self.capacity;
                settings.rules.names = self.names;
                settings.rules.render.all_dialogs = self.all_dialogs;
                if let Some(count) = self.in_flight_max {
                    settings.in_flight_max = count;
                }
                if let Some(count) = self.transactions_max {
                    settings.client_transactions_max = count;
                }
                if let Some(count) = self.subscriptions_max {
                    settings.subscriptions_max = count;
                }
                settings
            })
            .collect())
    }

    /// The shard that a resource lives on.
    pub fn home(&self, resource: &str, count: u16) -> ShardId {
        Owners::new(count).of(secrets().resource(resource))
    }
}

fn listener_of(listener: &Listener) -> transport::Listener {
    let mut made = transport::Listener::new(listener.id, listener.address, 0);
    made.transport = listener.transport;
    made.advertise = listener.advertise.clone();
    made
}

fn seed_of(seed: u64, shard: u16) -> [u8; 16] {
    let mut bytes = [shard as u8; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

fn secrets() -> Secrets {
    Secrets::new([7; 32])
}

fn change_quota(quota: &mut Quota, what: &str, count: u32) -> Result<(), String> {
    match what {
        "subscriptions" => quota.subscriptions = Some(count),
        "publications" => quota.publications = Some(count),
        "requests" => quota.requests = Some(Rate::new(count, count * BURST)),
        _ => return Err(format!("no quota of {what}")),
    }
    Ok(())
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}
