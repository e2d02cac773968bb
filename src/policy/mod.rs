//! Who may what: domains, digest authentication, trusted addresses, access rules. It decides and keeps nothing,
//! but for the windows of nonce counts that each shard owns; answers and counters are the caller's.

mod access;
mod digest;
mod domains;
mod edge;
mod fault;
mod gate;
mod identity;
mod key;
mod networks;
mod nonce;
mod sources;
mod users;
mod window;

#[cfg(test)]
mod tests;

use core::net::IpAddr;

pub use access::{Access, AccessSettings, Action, Otherwise, RuleSettings};
pub use digest::{Algorithm, Cause, DigestSettings};
pub use domains::{DomainSettings, Domains, DomainsSettings, NotFound};
pub use edge::{Edge, EdgeSettings, Overload};
pub use fault::Fault;
pub use gate::GateSettings;
pub use identity::Identity;
pub use key::{KEY_BYTES_MAX, Key};
pub use networks::Networks;
pub use sources::{Crowded, SourceLimits, Sources, source};
pub use users::{Password, UserSettings};
pub use window::NonceWindows;

use access::Pattern;
use digest::Fields;
use gate::{Demand, Gate, Realm};
use nonce::{Nonce, nonce_key};
use users::{Ha1, Users};
use window::{Attempt, Use};

use crate::partition::{Partition, Secrets};
use crate::sip::{NameAddr, Target, Tel};
use crate::transport::NatMode;

/// Everything that the configuration says about who may what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    pub domains: DomainsSettings,
    pub digest: DigestSettings,
    pub users: Vec<UserSettings>,
    pub access: AccessSettings,
    /// SBCs and proxies. The first that an address belongs to decides.
    pub edges: Vec<EdgeSettings>,
    /// Patterns of identities that many phones share, such as an operator panel's or an edge's own.
    pub shared_watchers: Vec<String>,
    /// What listeners demand; `transport::Listener::gate` is an index into it.
    pub gates: Vec<GateSettings>,
}

/// The settings, ready to be asked. Immutable, and one for all shards.
#[derive(Clone, Debug)]
pub struct Policy {
    domains: Domains,
    access: Access,
    users: Users,
    edges: Vec<Edge>,
    shared_watchers: Vec<Pattern>,
    gates: Vec<Gate>,
    strict_uri: bool,
    nonce_life_seconds: u64,
    secrets: Secrets,
    /// The newest first: only this one makes nonces.
    nonce_keys: Vec<[u8; 16]>,
    remarks: Vec<String>,
}

/// A request, as far as its sender is in question.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Of the listener that it came in on.
    pub gate: u16,
    pub method: &'a [u8],
    /// The Request-URI as it was sent.
    pub uri: &'a [u8],
    /// The canonical From address-of-record ([`Domains::address_of_record`]).
    pub from: &'a Key,
    pub source: IpAddr,
    /// Every byte of it: head and body.
    pub message: [&'a [u8]; 2],
    /// Where the shard that handles the request has it from: of the phone, or of what it publishes.
    pub partition: Partition,
    /// The wall clock.
    pub unix_seconds: u64,
}

/// What became of the question who sends a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This is who it is.
    Identity(Identity),
    /// 401 with the lines of [`Policy::write_challenges`].
    Challenge { stale: bool, cause: Cause },
    /// 403: other credentials would not help.
    Forbidden(Cause),
}

/// A nonce this young may see its first use: longer than any transaction that was challenged.
const FRESH_SECONDS: u64 = 64;
/// How far the wall clock may have been set back since the nonce was made.
const CLOCK_BACK_SECONDS: u64 = 60;

impl Policy {
    /// Checks and prepares the settings. `previous`: secrets that are valid still but make nothing new.
    pub fn new(
        settings: &PolicySettings,
        secrets: &Secrets,
        previous: Option<&Secrets>,
    ) -> Result<Policy, Fault> {
        let domains = Domains::new(&settings.domains).map_err(|fault| fault.within("domains"))?;
        let access = Access::new(&settings.access, &domains)?;
        let mut users = Users::new(&settings.users, &domains, secrets)?;
        let mut edges = Vec::with_capacity(settings.edges.len());
        for edge in &settings.edges {
            edges.push(Edge::new(edge).map_err(|fault| fault.at("edges"))?);
        }
        let mut shared_watchers = Vec::with_capacity(settings.shared_watchers.len());
        for text in &settings.shared_watchers {
            let pattern = Pattern::new(text, &domains);
            shared_watchers.push(pattern.map_err(|fault| fault.at("shared_watchers"))?);
        }
        let mut remarks = Vec::new();
        let mut gates = Vec::with_capacity(settings.gates.len());
        for (index, gate) in settings.gates.iter().enumerate() {
            let at = format!("gates[{index}]");
            gates.push(
                Gate::new(gate, &settings.digest, &mut users, &mut remarks)
                    .map_err(|fault| fault.within(&at))?,
            );
        }
        let nonce_keys = core::iter::once(secrets).chain(previous);
        Ok(Policy {
            domains,
            access,
            users,
            edges,
            shared_watchers,
            gates,
            strict_uri: settings.digest.strict_uri,
            nonce_life_seconds: settings.digest.nonce_life_seconds,
            secrets: secrets.clone(),
            nonce_keys: nonce_keys.map(nonce_key).collect(),
            remarks,
        })
    }

    /// Which hosts are ours, and what requests name.
    pub fn domains(&self) -> &Domains {
        &self.domains
    }

    /// The resource that a Request-URI names. Its parameters and its port are nothing to it.
    pub fn resource(&self, target: &Target<'_>) -> Result<Key, NotFound> {
        match target {
            Target::Sip(uri) => self
                .domains
                .resource(uri.user.unwrap_or_default(), &uri.host),
            Target::Tel(tel) => self.domains.number(tel),
        }
    }

    /// The canonical address-of-record of who sends a request: From is a claim, and no more.
    pub fn sender(&self, from: &NameAddr<'_>) -> Result<Key, NotFound> {
        if let Ok(uri) = from.sip_uri() {
            let user = uri.user.unwrap_or_default();
            self.domains.address_of_record(user, &uri.host)
        } else if let Ok(tel) = Tel::parse(from.uri) {
            self.domains.number(&tel)
        } else {
            // A scheme of another kind is a name all the same.
            Key::new(from.uri, "").map_err(|_| NotFound::TooLong)
        }
    }

    /// Whether the sender stands for more than one phone: anonymous, or listed as shared. Such a phone is told
    /// from others by its Call-ID.
    //= RFC 3261 8.1.1.3
    pub fn is_shared(&self, from: &Key) -> bool {
        from.domain() == b"anonymous.invalid"
            || from.user() == b"anonymous"
            || self.is_listed_as_shared(from.as_str())
    }

    /// Whether a canonical `user@domain` is listed as that of many phones.
    pub fn is_listed_as_shared(&self, name: &str) -> bool {
        let mut patterns = self.shared_watchers.iter();
        patterns.any(|pattern| pattern.matches(name))
    }

    /// What an operator should know about settings that work.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The SBC or proxy that has this address.
    pub fn edge(&self, address: IpAddr) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.has(address))
    }

    /// The network that an edge's address is listed by, as it is written; None: it is no edge's.
    pub fn edge_network(&self, address: IpAddr) -> Option<&str> {
        let mut networks = self.edges.iter().filter_map(|edge| edge.network(address));
        networks.next()
    }

    /// Whether an edge is called that, and has to prove it by its certificate.
    pub fn is_edge_name(&self, name: &[u8]) -> bool {
        self.edges.iter().any(|edge| edge.is_called(name))
    }

    /// Whether requests from this address have to prove who sends them, and can.
    pub fn wants_proof(&self, gate: u16, address: IpAddr) -> bool {
        let demand = self.gates[usize::from(gate)].demand(address);
        matches!(demand, Demand::Credentials(_))
    }

    /// What source addresses mean to the listeners of this gate.
    pub fn nat(&self, gate: u16) -> NatMode {
        self.gates[usize::from(gate)].nat
    }

    /// Who sends a request. `authorizations`: the values of its Authorization header lines, each as a whole.
    /// `windows`: those of the shard that holds the phone's partition.
    //= RFC 3261 22.2
    pub fn authenticate<'v>(
        &self,
        asked: &Asked<'_>,
        authorizations: impl Iterator<Item = &'v [u8]>,
        windows: &mut NonceWindows,
    ) -> Outcome {
        let realm = match self.gates[usize::from(asked.gate)].demand(asked.source) {
            Demand::Credentials(realm) => realm,
            Demand::Refused => return Outcome::Forbidden(Cause::NotTrusted),
            Demand::Nothing => {
                return Outcome::Identity(Identity::claimed(
                    asked.from,
                    asked.source,
                    &self.secrets,
                ));
            }
        };
        let mut verdict = Err(Cause::NoCredentials);
        for value in authorizations {
            match Fields::read(value) {
                None => {}
                Some(Err(cause)) => verdict = Err(cause),
                Some(Ok(fields)) if fields.realm == realm.name.as_bytes() => {
                    verdict = self.verify(asked, realm, &fields, windows);
                    break;
                }
                // Credentials for a proxy on the way, or for another server.
                Some(Ok(_)) => {}
            }
        }
        match verdict {
            Ok(identity) => Outcome::Identity(identity),
            Err(Cause::OtherUri) => Outcome::Forbidden(Cause::OtherUri),
            Err(cause) => Outcome::Challenge {
                stale: cause.is_stale(),
                cause,
            },
        }
    }

    /// Writes the WWW-Authenticate lines of a 401, each with its line end. `salt` should differ from challenge
    /// to challenge, such as a hash of the request's branch.
    pub fn write_challenges(
        &self,
        asked: &Asked<'_>,
        stale: bool,
        salt: u32,
        mut put: impl FnMut(&[u8]),
    ) {
        let Some(realm) = &self.gates[usize::from(asked.gate)].realm else {
            return;
        };
        let nonce = Nonce {
            seconds: asked.unix_seconds as u32,
            partition: asked.partition,
            salt,
        };
        realm
            .challenge
            .write(&nonce.text(&self.nonce_keys[0]), stale, &mut put);
    }

    /// Whether the identity may do this to the resource; if not, it is answered 403. Who has not authenticated
    /// is named by `from`, which means as much as the address it came from.
    pub fn permits(&self, action: Action, identity: &Identity, from: &Key, resource: &Key) -> bool {
        let name = identity.name().map_or(from.as_str(), |name| name);
        self.access.permits(action, name, resource)
    }

    /// The nonce first: whoever sends rubbish costs no hash.
    fn verify(
        &self,
        asked: &Asked<'_>,
        realm: &Realm,
        fields: &Fields<'_>,
        windows: &mut NonceWindows,
    ) -> Result<Identity, Cause> {
        //= RFC 7616 3.4
        if self.strict_uri && fields.uri != asked.uri {
            return Err(Cause::OtherUri);
        }
        if !realm.algorithms.contains(&fields.algorithm) {
            return Err(Cause::NotOffered);
        }
        let nonce = Nonce::read(fields.nonce, self.nonce_keys.iter()).ok_or(Cause::NonceUnknown)?;
        let made = u64::from(nonce.seconds);
        let age = asked.unix_seconds.saturating_sub(made);
        if age > self.nonce_life_seconds || made > asked.unix_seconds + CLOCK_BACK_SECONDS {
            return Err(Cause::NonceExpired);
        }
        if nonce.partition != asked.partition {
            return Err(Cause::NonceElsewhere);
        }
        let user = self
            .users
            .find(realm.number, fields.username, &self.secrets);
        // A user that we don't know takes as long as a wrong password.
        let ha1 = user.and_then(|user| user.ha1(fields.algorithm));
        let is_answer = fields.is_answer(ha1.unwrap_or(&Ha1::NOBODY), asked.method);
        let user = user
            .filter(|_| is_answer && ha1.is_some())
            .ok_or(Cause::Wrong)?;
        let identity = Identity::authenticated(user.name.clone(), &self.secrets);
        let number = identity.number().to_le_bytes();
        let window = self.secrets.hash(&[&number, fields.nonce]);
        let [head, body] = asked.message;
        let source = identity::octets(asked.source);
        let attempt = Attempt {
            key: window,
            count: fields.count,
            fresh: age <= FRESH_SECONDS,
            seconds: asked.unix_seconds as u32,
            request: self.secrets.hash(&[head, body, &source]),
        };
        match windows.admit(attempt) {
            Use::Accepted => Ok(identity),
            Use::Replayed => Err(Cause::Replayed),
            Use::Unknown | Use::TooOld => Err(Cause::NonceForgotten),
        }
    }
}
