//! What a listener demands of who sends to it, made from the settings. It asks nobody itself.

use core::net::IpAddr;

use super::Fault;
use super::digest::{Algorithm, Challenge, DigestSettings};
use super::networks::Networks;
use super::users::Users;
use crate::transport::NatMode;

/// What a listener demands of who sends to it. The default is an open one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateSettings {
    /// SUBSCRIBE and PUBLISH need credentials of this realm; none: nobody is asked, and whoever is not trusted
    /// is refused where anybody is.
    pub realm: Option<String>,
    /// Addresses and networks whose requests are believed without credentials. Where there is no realm and this
    /// is not empty, nobody else is served but this host itself.
    pub trusted: Vec<String>,
    pub nat: NatMode,
}

/// One gate.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) realm: Option<Realm>,
    pub(super) trusted: Networks,
    pub(super) nat: NatMode,
}

/// The realm whose users it asks for.
#[derive(Clone, Debug)]
pub(super) struct Realm {
    pub(super) number: u32,
    pub(super) name: Box<str>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) challenge: Challenge,
}

/// What a source address has to show.
pub(super) enum Demand<'a> {
    Nothing,
    Credentials(&'a Realm),
    /// Nothing that it could show is enough.
    Refused,
}

impl Gate {
    pub(super) fn demand(&self, source: IpAddr) -> Demand<'_> {
        if self.trusted.contains(source) {
            return Demand::Nothing;
        }
        match &self.realm {
            Some(realm) => Demand::Credentials(realm),
            None if self.trusted.is_empty() || source.to_canonical().is_loopback() => {
                Demand::Nothing
            }
            None => Demand::Refused,
        }
    }

    pub(super) fn new(
        settings: &GateSettings,
        digest: &DigestSettings,
        users: &mut Users,
        remarks: &mut Vec<String>,
    ) -> Result<Gate, Fault> {
        let trusted = Networks::new(&settings.trusted).map_err(|fault| fault.at("trusted"))?;
        let realm = match &settings.realm {
            Some(name) => Some(Realm::new(name, digest, users, remarks)?),
            None => None,
        };
        Ok(Gate {
            realm,
            trusted,
            nat: settings.nat,
        })
    }
}

impl Realm {
    /// A phone answers the first challenge that it understands, so none is offered that one of the users can't meet.
    pub(super) fn new(
        name: &str,
        digest: &DigestSettings,
        users: &mut Users,
        remarks: &mut Vec<String>,
    ) -> Result<Realm, Fault> {
        let number = users.realm(name)?;
        let mut algorithms = Vec::new();
        for &algorithm in &digest.algorithms {
            if algorithms.contains(&algorithm) {
                continue;
            }
            if users.all_have(number, algorithm) {
                algorithms.push(algorithm);
            } else {
                remarks.push(format!(
                    "realm \"{name}\" does not offer {}: not every user has {}",
                    algorithm.name(),
                    algorithm.setting()
                ));
            }
        }
        if algorithms.is_empty() {
            return Err(Fault::new(
                name,
                "a realm whose users all have a hash under one of the algorithms of [digest]",
            )
            .at("realm"));
        }
        Ok(Realm {
            number,
            name: name.into(),
            challenge: Challenge::new(name, &algorithms),
            algorithms,
        })
    }
}
