//! Who has which password: per realm, the hashes that digest authentication compares with. No plain password is kept.

use core::fmt;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Fault;
use super::digest::{Algorithm, hash_parts};
use super::domains::{Domains, host_in};
use super::key::{Key, TooLong};
use crate::partition::Secrets;

/// One user of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSettings {
    /// As the phone sends it in `username`.
    pub user: String,
    pub realm: String,
    /// Whose watchers and publishers this user belongs to; none: the domain that the realm names, else the default one.
    pub domain: Option<String>,
    pub password: Password,
}

/// What is known of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    Plain(String),
    /// `H(user:realm:password)` in hexadecimal digits, under one or both algorithms.
    Hashed {
        md5: Option<String>,
        sha256: Option<String>,
    },
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The hash of a password under one algorithm, as the hexadecimal digits that go into the next hash.
#[derive(Clone, Copy)]
pub(super) struct Ha1 {
    digits: [u8; 64],
    length: u8,
}

impl Ha1 {
    /// Nobody's: what is compared where there is no such user.
    pub(super) const NOBODY: Ha1 = Ha1 {
        digits: [b'0'; 64],
        length: 64,
    };

    /// Of a plain password.
    pub(super) fn of(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Ha1 {
        let parts = [user.as_bytes(), realm.as_bytes(), password.as_bytes()];
        let mut digits = [0; 64];
        let length = hash_parts(algorithm, &parts, &mut digits) as u8;
        Ha1 { digits, length }
    }

    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..usize::from(self.length)]
    }

    fn read(text: &str, algorithm: Algorithm) -> Option<Ha1> {
        if text.len() != algorithm.digits() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digits = [0; 64];
        digits[..text.len()].copy_from_slice(text.to_ascii_lowercase().as_bytes());
        Some(Ha1 {
            digits,
            length: text.len() as u8,
        })
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(..)")
    }
}

/// One user.
#[derive(Clone, Debug)]
pub(super) struct User {
    realm: u32,
    user: Box<str>,
    /// The canonical `user@domain` that rules are about.
    pub(super) name: Arc<str>,
    md5: Option<Ha1>,
    sha256: Option<Ha1>,
}

impl User {
    pub(super) fn ha1(&self, algorithm: Algorithm) -> Option<&Ha1> {
        match algorithm {
            Algorithm::Md5 => self.md5.as_ref(),
            Algorithm::Sha256 => self.sha256.as_ref(),
        }
    }
}

/// Every user of every realm.
#[derive(Clone, Debug)]
pub(super) struct Users {
    realms: Vec<Box<str>>,
    users: HashTable<User>,
}

impl Users {
    pub(super) fn new(
        settings: &[UserSettings],
        domains: &Domains,
        secrets: &Secrets,
    ) -> Result<Users, Fault> {
        let mut users = Users {
            realms: Vec::new(),
            users: HashTable::with_capacity(settings.len()),
        };
        for (index, each) in settings.iter().enumerate() {
            users
                .insert(each, domains, secrets)
                .map_err(|fault| fault.within(&format!("users[{index}]")))?;
        }
        Ok(users)
    }

    /// The number of a realm; a new one if it is not known yet.
    pub(super) fn realm(&mut self, name: &str) -> Result<u32, Fault> {
        if let Some(place) = self.realms.iter().position(|realm| **realm == *name) {
            return Ok(place as u32);
        }
        let fits = |byte: u8| byte == b' ' || (byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        if name.is_empty() || name.len() > 128 || !name.bytes().all(fits) {
            return Err(Fault::new(
                name,
                "a realm without quotes or backslashes, such as \"example.com\"",
            )
            .at("realm"));
        }
        self.realms.push(name.into());
        Ok(self.realms.len() as u32 - 1)
    }

    pub(super) fn find(&self, realm: u32, user: &[u8], secrets: &Secrets) -> Option<&User> {
        self.users.find(hash(secrets, realm, user), |known| {
            known.realm == realm && known.user.as_bytes() == user
        })
    }

    /// Whether every user of the realm can answer a challenge under this algorithm.
    pub(super) fn all_have(&self, realm: u32, algorithm: Algorithm) -> bool {
        // ORDER: whether it is true of all is the same in any order.
        self.users
            .iter()
            .filter(|user| user.realm == realm)
            .all(|user| user.ha1(algorithm).is_some())
    }

    fn insert(
        &mut self,
        settings: &UserSettings,
        domains: &Domains,
        secrets: &Secrets,
    ) -> Result<(), Fault> {
        let UserSettings { user, realm, .. } = settings;
        let fits = !user.is_empty() && !user.contains(['"', '\\', ':']) && user.len() <= 128;
        if !fits || user.chars().any(char::is_control) {
            return Err(
                Fault::new(user, "a user without quotes or colons, such as \"1001\"").at("user"),
            );
        }
        let number = self.realm(realm)?;
        let (md5, sha256) = hashes(settings)?;
        let known = User {
            realm: number,
            user: user.as_str().into(),
            name: name(settings, domains)?,
            md5,
            sha256,
        };
        let hash_of = |user: &User| hash(secrets, user.realm, user.user.as_bytes());
        let same = |other: &User| other.realm == number && *other.user == *user.as_str();
        match self.users.entry(hash_of(&known), same, hash_of) {
            Entry::Occupied(_) => {
                Err(Fault::new(user, "each user of a realm once, or another realm").at("user"))
            }
            Entry::Vacant(place) => {
                place.insert(known);
                Ok(())
            }
        }
    }
}

fn hash(secrets: &Secrets, realm: u32, user: &[u8]) -> u64 {
    secrets.hash(&[&realm.to_le_bytes(), user])
}

fn hashes(settings: &UserSettings) -> Result<(Option<Ha1>, Option<Ha1>), Fault> {
    let UserSettings { user, realm, .. } = settings;
    match &settings.password {
        Password::Plain(password) => {
            let of = |algorithm| Some(Ha1::of(algorithm, user, realm, password));
            Ok((of(Algorithm::Md5), of(Algorithm::Sha256)))
        }
        Password::Hashed { md5, sha256 } => {
            let read = |text: &Option<String>, algorithm: Algorithm| match text {
                None => Ok(None),
                Some(text) => Ha1::read(text, algorithm).map(Some).ok_or_else(|| {
                    // The value stays out of the message: it is as good as the password.
                    Fault::new("…", format!("{} hexadecimal digits", algorithm.digits()))
                        .at(algorithm.setting())
                }),
            };
            let both = (read(md5, Algorithm::Md5)?, read(sha256, Algorithm::Sha256)?);
            match both {
                (None, None) => {
                    Err(Fault::new(user, "a password, or its hash as md5 or sha256").at("password"))
                }
                (Some(_), _) | (_, Some(_)) => Ok(both),
            }
        }
    }
}

/// The canonical name: `username` may carry a host itself.
fn name(settings: &UserSettings, domains: &Domains) -> Result<Arc<str>, Fault> {
    let user = settings.user.as_str();
    let unfit = |value: &str| Fault::new(value, "a host that [domains] knows");
    let known = |host: &str| host_in(host).and_then(|host| domains.domain(&host));
    let domain = match &settings.domain {
        Some(host) => known(host).ok_or_else(|| unfit(host).at("domain"))?,
        None => known(&settings.realm).unwrap_or(domains.default_domain()),
    };
    let (user, domain) = match user.rsplit_once('@') {
        Some((user, host)) => (user, known(host).ok_or_else(|| unfit(host).at("user"))?),
        None => (user, domain),
    };
    match Key::new(user.as_bytes(), domain) {
        Ok(key) => Ok(key.as_str().into()),
        Err(TooLong) => Err(Fault::new(user, "a shorter user").at("user")),
    }
}
