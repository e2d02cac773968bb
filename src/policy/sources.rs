//! How many connections each source has, and how many it may have. A source is an IPv4 address or an IPv6 network of
//! 64 bits, since a host has all of that at its disposal. Plain counting: whoever accepts connections asks here first.

use core::net::IpAddr;
use std::collections::HashMap;

use crate::config::limits;

/// What one source may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connections of one source.
    pub connections: u32,
    /// Those of them by which no message has come yet, TLS handshakes included.
    pub handshakes: u32,
    /// Connections of a source that speaks for many: an edge, or this host itself.
    pub connections_per_edge: u32,
}

impl Default for SourceLimits {
    fn default() -> Self {
        SourceLimits {
            connections: limits::CONNECTIONS_PER_SOURCE,
            handshakes: limits::HANDSHAKES_PER_SOURCE,
            connections_per_edge: limits::CONNECTIONS_PER_EDGE,
        }
    }
}

/// Why a source may not have one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    Connections,
    Handshakes,
    Edge,
}

impl Crowded {
    /// The key of the limit, as the configuration and the counters name it.
    pub const fn name(self) -> &'static str {
        match self {
            Crowded::Connections => "connections_per_source",
            Crowded::Handshakes => "handshakes_per_source",
            Crowded::Edge => "connections_per_edge",
        }
    }
}

/// The sources that have connections. Never more entries than there are connections.
#[derive(Debug, Default)]
pub struct Sources {
    // Keyed: which addresses there are is for peers to choose.
    counts: HashMap<u128, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: u32,
    /// Those that have not said anything yet.
    silent: u32,
}

impl Sources {
    /// One more connection of this address; `many`: it speaks for many.
    pub fn enter(
        &mut self,
        address: IpAddr,
        many: bool,
        limits: &SourceLimits,
    ) -> Result<(), Crowded> {
        let source = source(address);
        let count = self.counts.get(&source).copied().unwrap_or_default();
        let full = match many {
            true => (count.connections >= limits.connections_per_edge).then_some(Crowded::Edge),
            false if count.connections >= limits.connections => Some(Crowded::Connections),
            false => (count.silent >= limits.handshakes).then_some(Crowded::Handshakes),
        };
        if let Some(crowded) = full {
            return Err(crowded);
        }
        let count = self.counts.entry(source).or_default();
        count.connections += 1;
        count.silent += 1;
        Ok(())
    }

    /// A connection of this address has brought its first message.
    pub fn heard(&mut self, address: IpAddr) {
        if let Some(count) = self.counts.get_mut(&source(address)) {
            count.silent -= 1;
        }
    }

    /// A connection of this address is no more.
    pub fn leave(&mut self, address: IpAddr, heard: bool) {
        let source = source(address);
        let Some(count) = self.counts.get_mut(&source) else {
            return;
        };
        count.connections -= 1;
        count.silent -= u32::from(!heard);
        if count.connections == 0 {
            self.counts.remove(&source);
        }
    }

    /// How many sources have connections.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// The source that an address is of. An IPv4 address in IPv6 clothes is the same one; no other network of IPv6 has that
/// place.
pub fn source(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SourceLimits = SourceLimits {
        connections: 3,
        handshakes: 2,
        connections_per_edge: 5,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_source_has_so_many_connections_and_fewer_that_say_nothing() {
        let mut sources = Sources::default();
        let phone = ip("192.0.2.7");
        assert_eq!(sources.enter(phone, false, &LIMITS), Ok(()));
        assert_eq!(sources.enter(phone, false, &LIMITS), Ok(()));
        let crowded = Err(Crowded::Handshakes);
        assert_eq!(sources.enter(phone, false, &LIMITS), crowded);
        sources.heard(phone);
        assert_eq!(sources.enter(phone, false, &LIMITS), Ok(()));
        let crowded = Err(Crowded::Connections);
        assert_eq!(sources.enter(phone, false, &LIMITS), crowded);
        // Another one is not concerned, and one that goes makes room.
        assert_eq!(sources.enter(ip("192.0.2.8"), false, &LIMITS), Ok(()));
        sources.leave(phone, true);
        assert_eq!(
            sources.enter(phone, false, &LIMITS),
            Err(Crowded::Handshakes)
        );
        sources.leave(phone, false);
        assert_eq!(sources.enter(phone, false, &LIMITS), Ok(()));
    }

    #[test]
    fn an_edge_has_a_bound_of_its_own_and_may_open_all_at_once() {
        let mut sources = Sources::default();
        let edge = ip("192.0.2.5");
        for _ in 0..5 {
            assert_eq!(sources.enter(edge, true, &LIMITS), Ok(()));
        }
        assert_eq!(sources.enter(edge, true, &LIMITS), Err(Crowded::Edge));
    }

    #[test]
    fn a_network_of_64_bits_is_one_source_and_so_is_an_address_in_other_clothes() {
        let mut sources = Sources::default();
        for address in [
            "2001:db8::1",
            "2001:db8::ffff:1",
            "192.0.2.7",
            "::ffff:192.0.2.7",
        ] {
            assert_eq!(sources.enter(ip(address), false, &LIMITS), Ok(()));
        }
        assert_eq!(sources.len(), 2);
        for address in ["2001:db8::2", "192.0.2.7"] {
            let entered = sources.enter(ip(address), false, &LIMITS);
            assert_eq!(entered, Err(Crowded::Handshakes), "{address}");
        }
        assert_eq!(sources.enter(ip("2001:db8:0:1::1"), false, &LIMITS), Ok(()));
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let mut sources = Sources::default();
        let phone = ip("192.0.2.7");
        for heard in [false, true] {
            assert_eq!(sources.enter(phone, false, &LIMITS), Ok(()));
            if heard {
                sources.heard(phone);
            }
            sources.leave(phone, heard);
            assert!(sources.is_empty());
        }
    }
}
