//! SBCs and proxies, as far as they are treated otherwise than phones.

use core::net::IpAddr;

use super::Fault;
use super::networks::Networks;
use crate::quota::Quota;

/// What the configuration says of SBCs and proxies that are treated alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Addresses and networks.
    pub addresses: Vec<String>,
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
        Ok(Edge {
            addresses: Networks::new(&settings.addresses)?,
            each,
            overload: settings.overload,
            quota: settings.quota,
        })
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
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
