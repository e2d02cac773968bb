//! SBCs and proxies, as far as they are treated otherwise than phones.

use core::net::IpAddr;

use super::Fault;
use super::networks::Networks;
use crate::quota::Quota;
use crate::sip::Host;

/// What the configuration says of SBCs and proxies that are treated alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Addresses and networks.
    pub addresses: Vec<String>,
    /// Host names that its certificate proves, wherever it is.
    pub names: Vec<String>,
    pub overload: Overload,
    /// How much one address of it may have.
    pub quota: Quota,
}

/// What an edge is told where a phone would be told 503: most proxies take a server that says so out of their rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// 500: this request alone has failed.
    #[default]
    Request,
    /// 503: it knows how to spread the load, or has nobody else to ask.
    Server,
}

impl Overload {
    /// The status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Overload::Request => 500,
            Overload::Server => 503,
        }
    }
}

/// One of them, ready to be asked.
#[derive(Clone, Debug)]
pub struct Edge {
    addresses: Networks,
    /// Each of them by itself, as it is written.
    each: Vec<(Networks, Box<str>)>,
    names: Vec<Box<str>>,
    pub overload: Overload,
    pub quota: Quota,
}

impl Edge {
    pub(super) fn new(settings: &EdgeSettings) -> Result<Edge, Fault> {
        let mut each = Vec::with_capacity(settings.addresses.len());
        for text in &settings.addresses {
            let network = Networks::new(core::slice::from_ref(text))?;
            each.push((network, text.as_str().into()));
        }
        let mut names = Vec::with_capacity(settings.names.len());
        for name in &settings.names {
            match Host::parse(name.as_bytes()) {
                Ok(Host::Name(_)) => names.push(name.as_str().into()),
                Ok(Host::V4(_) | Host::V6(_)) | Err(_) => {
                    let instead = "a host name, such as \"sbc.example.com\"";
                    return Err(Fault::new(name, instead));
                }
            }
        }
        Ok(Edge {
            names,
            addresses: Networks::new(&settings.addresses)?,
            each,
            overload: settings.overload,
            quota: settings.quota,
        })
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
    }

    /// Whether it is called that. Names have no regard to case.
    pub(super) fn is_called(&self, name: &[u8]) -> bool {
        let mut names = self.names.iter();
        names.any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The first of its networks that has an address.
    pub(super) fn network(&self, address: IpAddr) -> Option<&str> {
        if !self.has(address) {
            return None;
        }
        let its = |(network, _): &&(Networks, Box<str>)| network.contains(address);
        self.each.iter().find(its).map(|(_, text)| &**text)
    }
}
