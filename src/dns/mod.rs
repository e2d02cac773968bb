//! Looks host names up, on the control thread: asks name servers what `transport::locate` wants asked, and answers within
//! its patience whatever they do. It knows no shard and no subscription; nobody waits for it but who has asked.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::Semaphore;

use crate::config::limits;
use crate::rng::Rng;
use crate::transport::locate::{Found, Located, Naptr, Query, Question, Search, Srv};

/// A name server gets so many chances to answer one query.
const ATTEMPTS: usize = 2;

/// Whom to ask, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// None: those of this machine.
    pub servers: Vec<SocketAddr>,
    /// A name that is not found by then is not known.
    pub timeout: Duration,
}

/// What looks names up.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Names that are looked up now take one each.
    places: Semaphore,
}

struct State {
    /// None: names are not looked up.
    asked: Option<(Arc<TokioResolver>, Duration)>,
    /// Shares what is offered among those who ask.
    seed: Rng,
}

impl Dns {
    /// Nobody is asked before `adopt` says whom.
    pub fn new(seed: [u8; 16]) -> Dns {
        Dns(Arc::new(Inner {
            state: Mutex::new(State {
                asked: None,
                seed: Rng::new(seed),
            }),
            places: Semaphore::new(limits::NAMES_LOOKED_UP),
        }))
    }

    /// These are asked from now on; None: nobody. An error says why they cannot be; then it stays as it was.
    pub fn adopt(&self, settings: Option<&Settings>) -> Result<(), String> {
        let asked = match settings {
            None => None,
            Some(settings) => {
                let resolver = resolver(settings).map_err(|error| error.to_string())?;
                Some((Arc::new(resolver), settings.timeout))
            }
        };
        self.state().asked = asked;
        Ok(())
    }

    /// Looks a name up. The second is how long that is good.
    pub async fn locate(&self, question: &Question) -> (Located, Duration) {
        let unknown = (Located::Unknown, Duration::ZERO);
        let (asked, seed) = {
            let mut state = self.state();
            let mut seed = [0; 16];
            state.seed.fill(&mut seed);
            (state.asked.clone(), seed)
        };
        let (Some((resolver, timeout)), Ok(_place)) = (asked, self.0.places.try_acquire()) else {
            return unknown;
        };
        let search = search(&resolver, question.clone(), Rng::new(seed));
        tokio::time::timeout(timeout, search)
            .await
            .unwrap_or(unknown)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn search(resolver: &TokioResolver, question: Question, mut rng: Rng) -> (Located, Duration) {
    let v4 = question.v4;
    let mut search = Search::new(question);
    let mut lasts = Duration::from_secs(limits::NAME_SECONDS_MAX);
    while let Some(query) = search.next() {
        let (found, until) = ask(resolver, query, v4).await;
        if let Some(until) = until {
            lasts = lasts.min(until.saturating_duration_since(Instant::now()));
        }
        search.take(found, &mut rng);
    }
    (search.finish(), lasts)
}

/// What one query comes to, and until when that is good.
async fn ask(resolver: &TokioResolver, query: Query, v4: bool) -> (Found, Option<Instant>) {
    let (name, kind) = match &query {
        Query::Naptr(name) => (name, RecordType::NAPTR),
        Query::Srv(name) => (name, RecordType::SRV),
        Query::Address(name) if v4 => (name, RecordType::A),
        Query::Address(name) => (name, RecordType::AAAA),
    };
    // A name that no server could have.
    let Ok(name) = Name::from_ascii(name) else {
        return (Found::Nothing, None);
    };
    let lookup = match resolver.lookup(name, kind).await {
        Ok(lookup) => lookup,
        Err(error) if is_nothing(&error) => return (Found::Nothing, None),
        Err(error) => {
            tracing::debug!(?query, %error, "a name cannot be looked up now");
            return (Found::Failed, None);
        }
    };
    let until = Some(lookup.valid_until());
    let records = lookup.answers().iter().map(|record| &record.data);
    let found = match query {
        Query::Naptr(_) => Found::Naptr(records.filter_map(naptr).collect()),
        Query::Srv(_) => Found::Srv(records.filter_map(srv).collect()),
        Query::Address(_) => Found::Addresses(records.filter_map(address).collect()),
    };
    (found, until)
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else {
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        services: text(&naptr.services),
        replacement: naptr.replacement.to_ascii(),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    Some(Srv {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: srv.target.to_ascii(),
    })
}

fn address(data: &RData) -> Option<IpAddr> {
    // Aliases stand among the records that they lead to.
    data.ip_addr()
}

/// Whether a server that knows has said that there is no such record.
fn is_nothing(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return false;
    };
    matches!(
        none.response_code,
        ResponseCode::NXDomain | ResponseCode::NoError
    )
}

fn resolver(settings: &Settings) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match settings.servers.is_empty() {
        true => TokioResolver::builder_tokio()?,
        false => {
            let servers = settings.servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let mut builder = Resolver::builder_with_config(config, provider);
            // Whom the configuration names is asked, and nobody's file.
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
    };
    set_options(builder.options_mut(), settings.timeout);
    builder.build()
}

fn set_options(options: &mut ResolverOpts, timeout: Duration) {
    options.attempts = ATTEMPTS;
    // Servers are asked one after the other within the time that there is for a name.
    options.timeout = timeout / (ATTEMPTS as u32 + 1);
    options.positive_max_ttl = Some(Duration::from_secs(limits::NAME_SECONDS_MAX));
    let nowhere = Duration::from_secs(limits::NAME_SECONDS_NOWHERE);
    options.negative_max_ttl = Some(nowhere);
    options.cache_size = limits::NAMES_PER_SHARD as u64;
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
