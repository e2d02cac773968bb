//! Which hosts are ours, and which resource a request names. It decides nothing about who may.

use core::net::IpAddr;

use super::Fault;
use super::key::{Key, without_final_dot};
use crate::config::limits;
use crate::sip::{Host, Tel};

/// `[domains]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainsSettings {
    /// The domain of a bare user, and of every host where no domains are listed.
    pub default: String,
    /// Empty: one tenant, and every host means the default domain.
    pub domains: Vec<DomainSettings>,
}

impl Default for DomainsSettings {
    fn default() -> Self {
        DomainsSettings {
            default: "default".to_owned(),
            domains: Vec::new(),
        }
    }
}

/// One domain, and the other hosts and addresses by which phones name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSettings {
    pub name: String,
    pub aliases: Vec<String>,
}

/// The domains of this server.
#[derive(Clone, Debug)]
pub struct Domains {
    default: Box<str>,
    /// In the order of the configuration; empty where there is one tenant.
    names: Vec<Box<str>>,
    /// Sorted by host: host, index of its domain.
    hosts: Vec<(Box<[u8]>, u32)>,
    /// Sorted by address: address, index of its domain.
    addresses: Vec<(IpAddr, u32)>,
}

/// Why a request names no resource of ours. Each of them is answered 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// The host is none of ours.
    UnknownHost,
    /// The URI has no user.
    NoUser,
    /// Longer than any name we keep.
    TooLong,
}

impl Domains {
    /// Builds the tables.
    pub fn new(settings: &DomainsSettings) -> Result<Domains, Fault> {
        let default = domain_name(&settings.default)?;
        let mut domains = Domains {
            default,
            names: Vec::new(),
            hosts: Vec::new(),
            addresses: Vec::new(),
        };
        let hosts = settings.domains.iter().map(|each| 1 + each.aliases.len());
        if hosts.sum::<usize>() > limits::POLICY_HOSTS_MAX {
            return Err(Fault::new(
                "[domains]",
                format!("at most {} names and aliases", limits::POLICY_HOSTS_MAX),
            ));
        }
        for domain in &settings.domains {
            let index = domains.names.len() as u32;
            domains.names.push(domain_name(&domain.name)?);
            domains.insert(&domain.name, index)?;
            for alias in &domain.aliases {
                domains.insert(alias, index)?;
            }
        }
        if !domains.names.is_empty() && !domains.names.contains(&domains.default) {
            return Err(Fault::new(
                &settings.default,
                format!(
                    "one of the listed domains, such as \"{}\"",
                    domains.names[0]
                ),
            ));
        }
        Ok(domains)
    }

    /// The domain of a bare user.
    pub fn default_domain(&self) -> &str {
        &self.default
    }

    /// The domain that a host means, or `None` where it is none of ours. Ports play no part.
    pub fn domain(&self, host: &Host<'_>) -> Option<&str> {
        if self.names.is_empty() {
            return Some(&self.default);
        }
        let index = match (host, host.address()) {
            (Host::Name(name), _) => {
                let name = without_final_dot(name);
                let found = self.hosts.binary_search_by(|(known, _)| {
                    let name = name.iter().map(u8::to_ascii_lowercase);
                    known.iter().copied().cmp(name)
                });
                self.hosts[found.ok()?].1
            }
            (Host::V4(_) | Host::V6(_), address) => {
                let address = address?;
                let found = self
                    .addresses
                    .binary_search_by(|(known, _)| known.cmp(&address));
                self.addresses[found.ok()?].1
            }
        };
        Some(&self.names[index as usize])
    }

    /// The resource that the user and host of a Request-URI name; its parameters and its port are nothing to it.
    pub fn resource(&self, user: &[u8], host: &Host<'_>) -> Result<Key, NotFound> {
        let domain = self.domain(host).ok_or(NotFound::UnknownHost)?;
        if user.is_empty() {
            return Err(NotFound::NoUser);
        }
        Key::new(user, domain).map_err(|_| NotFound::TooLong)
    }

    /// The resource that an operator or a source names: `1001`, `1001@example.com`, `sip:1001@example.com`.
    pub fn named(&self, name: &str) -> Result<Key, NotFound> {
        let name = ["sip:", "sips:"]
            .iter()
            .find_map(|scheme| name.strip_prefix(scheme))
            .unwrap_or(name);
        match name.rsplit_once('@') {
            Some((user, host)) => match host_in(host) {
                Some(host) => self.resource(user.as_bytes(), &host),
                None => Err(NotFound::UnknownHost),
            },
            None if name.is_empty() => Err(NotFound::NoUser),
            None => Key::new(name.as_bytes(), &self.default).map_err(|_| NotFound::TooLong),
        }
    }

    /// A telephone number, which has no host: of the default domain, without what only helps the eye.
    //= RFC 3966 5.1.1
    pub fn number(&self, tel: &Tel<'_>) -> Result<Key, NotFound> {
        let mut digits = [0; limits::RESOURCE_BYTES];
        let mut length = 0;
        for byte in tel.number.iter().filter(|byte| !b"-.()".contains(byte)) {
            *digits.get_mut(length).ok_or(NotFound::TooLong)? = *byte;
            length += 1;
        }
        Key::new(&digits[..length], &self.default).map_err(|_| NotFound::TooLong)
    }

    /// The canonical address-of-record of who sends a request. A host that is none of ours stays what it is.
    pub fn address_of_record(&self, user: &[u8], host: &Host<'_>) -> Result<Key, NotFound> {
        match self.domain(host) {
            Some(domain) => Key::new(user, domain),
            None => Key::foreign(user, host),
        }
        .map_err(|_| NotFound::TooLong)
    }

    fn insert(&mut self, host: &str, index: u32) -> Result<(), Fault> {
        let twice = |name: &str| {
            Err(Fault::new(
                host,
                format!("a host that is not listed before (it means \"{name}\" already)"),
            ))
        };
        if let Some(address) = address_in(host) {
            match self
                .addresses
                .binary_search_by(|(known, _)| known.cmp(&address))
            {
                Ok(found) => return twice(&self.names[self.addresses[found].1 as usize]),
                Err(place) => self.addresses.insert(place, (address, index)),
            }
            return Ok(());
        }
        let name = domain_name(host)?.into_boxed_bytes();
        match self.hosts.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(found) => return twice(&self.names[self.hosts[found].1 as usize]),
            Err(place) => self.hosts.insert(place, (name, index)),
        }
        Ok(())
    }
}

/// A host as an operator writes it: IPv6 with or without brackets.
pub(super) fn host_in(text: &str) -> Option<Host<'_>> {
    Host::parse_parameter(text.as_bytes()).ok()
}

/// The address in a setting, if it is one.
pub(super) fn address_in(text: &str) -> Option<IpAddr> {
    host_in(text)?.address()
}

/// A host name or address as a key carries it.
fn domain_name(text: &str) -> Result<Box<str>, Fault> {
    if let Some(address) = address_in(text) {
        return Ok(match address {
            IpAddr::V4(address) => address.to_string().into(),
            IpAddr::V6(address) => format!("[{address}]").into(),
        });
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 128 || !name.bytes().all(fits) {
        return Err(Fault::new(
            text,
            "a host name or an address without scheme and port, such as \"example.com\"",
        ));
    }
    Ok(name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_domains() -> Domains {
        let domain = |name: &str, aliases: &[&str]| DomainSettings {
            name: name.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        };
        Domains::new(&DomainsSettings {
            default: "example.com".to_owned(),
            domains: vec![
                domain(
                    "Example.COM",
                    &["pbx.example.com", "192.0.2.1", "[2001:DB8::1]"],
                ),
                domain("other.example", &["192.0.2.2"]),
            ],
        })
        .unwrap()
    }

    fn resource(domains: &Domains, user: &str, host: &str) -> Result<String, NotFound> {
        let host = Host::parse_parameter(host.as_bytes()).map_err(|_| NotFound::UnknownHost)?;
        domains
            .resource(user.as_bytes(), &host)
            .map(|key| key.as_str().to_owned())
    }

    #[test]
    fn without_domains_every_host_means_the_default_one() {
        let domains = Domains::new(&DomainsSettings::default()).unwrap();
        for host in ["192.0.2.1", "[::1]", "anything.example", "EXAMPLE.com"] {
            assert_eq!(resource(&domains, "1001", host).unwrap(), "1001@default");
        }
        assert_eq!(domains.named("1001").unwrap().as_str(), "1001@default");
        assert_eq!(
            domains.named("sip:%31001@x").unwrap().as_str(),
            "1001@default"
        );
    }

    #[test]
    fn names_aliases_and_addresses_mean_their_domain_in_any_case() {
        let domains = two_domains();
        for host in [
            "example.com",
            "EXAMPLE.com.",
            "PBX.example.com",
            "192.0.2.1",
            "[2001:db8:0::1]",
            "2001:db8::1",
        ] {
            assert_eq!(
                resource(&domains, "1001", host).as_deref(),
                Ok("1001@example.com"),
                "{host}"
            );
        }
        assert_eq!(
            resource(&domains, "%31001", "192.0.2.2").as_deref(),
            Ok("1001@other.example")
        );
    }

    //= RFC 3903 6 type=test
    #[test]
    fn a_host_of_nobody_and_a_uri_without_user_name_no_resource() {
        let domains = two_domains();
        for host in [
            "example.org",
            "192.0.2.9",
            "example.com.evil",
            "[2001:db8::9]",
        ] {
            assert_eq!(
                resource(&domains, "1001", host),
                Err(NotFound::UnknownHost),
                "{host}"
            );
        }
        assert_eq!(resource(&domains, "", "example.com"), Err(NotFound::NoUser));
        assert_eq!(
            resource(
                &domains,
                &"1".repeat(crate::config::limits::RESOURCE_BYTES),
                "example.com"
            ),
            Err(NotFound::TooLong)
        );
    }

    #[test]
    fn a_bare_user_means_the_default_domain() {
        let domains = two_domains();
        assert_eq!(domains.named("1001").unwrap().as_str(), "1001@example.com");
        assert_eq!(
            domains.named("1001@192.0.2.2").unwrap().as_str(),
            "1001@other.example"
        );
        assert_eq!(domains.named("1@nowhere"), Err(NotFound::UnknownHost));
        assert_eq!(domains.named("1@["), Err(NotFound::UnknownHost));
        assert_eq!(domains.named(""), Err(NotFound::NoUser));
        assert_eq!(domains.named("sip:"), Err(NotFound::NoUser));
    }

    #[test]
    fn a_sender_from_elsewhere_keeps_its_host() {
        let domains = two_domains();
        let sender = |host: &str| {
            let host = Host::parse(host.as_bytes()).unwrap();
            domains.address_of_record(b"bob", &host).unwrap()
        };
        assert_eq!(sender("PBX.example.com").as_str(), "bob@example.com");
        assert_eq!(
            sender("Elsewhere.Example").as_str(),
            "bob@elsewhere.example"
        );
    }

    #[test]
    fn a_wrong_setting_says_what_to_write_instead() {
        let refuse = |default: &str, names: &[(&str, &str)]| {
            Domains::new(&DomainsSettings {
                default: default.to_owned(),
                domains: names
                    .iter()
                    .map(|(name, alias)| DomainSettings {
                        name: (*name).to_owned(),
                        aliases: vec![(*alias).to_owned()],
                    })
                    .collect(),
            })
            .unwrap_err()
            .to_string()
        };
        let message = refuse("sip:a", &[]);
        assert!(message.contains("\"sip:a\"") && message.contains("example.com"));
        let message = refuse("b", &[("a", "x")]);
        assert!(message.contains("\"a\""), "{message}");
        let message = refuse("a", &[("a", "x"), ("b", "X.")]);
        assert!(message.contains("already"), "{message}");
        let message = refuse("a", &[("a", "10.0.0.1"), ("b", "10.0.0.1")]);
        assert!(message.contains("already"), "{message}");
    }
}
