//! Where a NOTIFY goes next, and where a response goes back: decisions over addresses that the caller took
//! from the dialog and the flow. It reads no message and resolves no name.

use core::net::{IpAddr, SocketAddr};

use super::address::{check_address, classify, dialable};
use super::{DEFAULT_PORT, Own, Undialable};
use crate::sip::via::Rport;
use crate::sip::{Uri, Via};

/// When the source address of a phone's requests replaces its Contact as the place to send to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatMode {
    /// Where the Contact is an address that means nothing outside the phone's own network.
    #[default]
    Auto,
    /// Wherever the dialog has no route set and the request passed no proxy.
    Always,
    /// Contact and route set are followed as they are written.
    Never,
}

/// What decides the next hop of a dialog.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// The first URI of the route set, if there is one.
    pub route: Option<Uri<'a>>,
    /// The remote target.
    pub contact: Uri<'a>,
    /// How many Via values the last accepted request of the dialog carried.
    pub vias: usize,
    pub nat: NatMode,
}

/// What the decision followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Route,
    Contact,
    /// The address that the phone's, or its proxy's, last request came from.
    Source,
}

/// Where to send, and why there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub peer: SocketAddr,
    pub way: Way,
}

/// The next hop of a NOTIFY. `own.flow` is the flow of the dialog's last accepted request.
///
/// A strict first route and a loose one are reached at the same address; what differs is the Request-URI,
/// and that is the dialog's business.
//= RFC 3261 12.2.1.1
pub fn next_hop(path: &Path<'_>, own: &Own<'_>) -> Result<Hop, Undialable> {
    if let Some(route) = &path.route {
        return follow(route, Way::Route, path.nat != NatMode::Never, own);
    }
    let symmetric = path.vias <= 1 && path.nat != NatMode::Never;
    if symmetric && (path.nat == NatMode::Always || is_behind_nat(&path.contact, own)) {
        check_sanity(&path.contact, own)?;
        return to_source(own);
    }
    follow(&path.contact, Way::Contact, symmetric, own)
}

/// A name is not resolved; whoever wrote it has just sent from the source address, which is good enough
/// where answering there is allowed.
fn follow(uri: &Uri<'_>, way: Way, symmetric: bool, own: &Own<'_>) -> Result<Hop, Undialable> {
    match dialable(uri, own) {
        Ok(peer) => Ok(Hop { peer, way }),
        Err(Undialable::Name) if symmetric => to_source(own),
        Err(reason) => Err(reason),
    }
}

fn to_source(own: &Own<'_>) -> Result<Hop, Undialable> {
    let peer = own.flow.peer;
    check_address(peer, own)?;
    Ok(Hop {
        peer,
        way: Way::Source,
    })
}

/// A Contact that is only good inside another network than the one that its request came from. Where both
/// are one address there is no NAT between, and a phone may well listen on another port than it sends from.
fn is_behind_nat(contact: &Uri<'_>, own: &Own<'_>) -> bool {
    match contact.host.address() {
        Some(ip) => classify(ip).is_local() && ip != own.flow.peer.ip().to_canonical(),
        None => false,
    }
}

/// The source replaces an unreachable Contact, it does not excuse a nonsensical one. A Contact that looks like
/// ourselves is neither: behind another NAT a phone may well have the private address that we have here.
fn check_sanity(contact: &Uri<'_>, own: &Own<'_>) -> Result<(), Undialable> {
    match dialable(contact, own) {
        Err(reason) if reason.is_nonsense() && reason != Undialable::Ourselves => Err(reason),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Where a response goes, and what is written into its top Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViaAnswer {
    pub peer: SocketAddr,
    pub received: Option<IpAddr>,
    pub rport: Option<u16>,
}

/// Where the response to a request goes: always to the address that it came from, to its port where the sender
/// asks for that, else to the port of its sent-by.
//= RFC 3261 18.2.2
pub fn response_peer(via: &Via<'_>, source: SocketAddr) -> ViaAnswer {
    let ip = source.ip().to_canonical();
    //= RFC 3581 4
    if via.rport != Rport::Absent {
        return ViaAnswer {
            peer: source,
            received: Some(ip),
            rport: Some(source.port()),
        };
    }
    //= RFC 3261 18.2.1
    let received = (via.host.address() != Some(ip)).then_some(ip);
    ViaAnswer {
        peer: SocketAddr::new(source.ip(), via.port.unwrap_or(DEFAULT_PORT)),
        received,
        rport: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Flow, Listener, ListenerId};

    struct Case {
        what: &'static str,
        nat: NatMode,
        vias: usize,
        route: Option<&'static str>,
        contact: &'static str,
        source: &'static str,
        expected: Result<(&'static str, Way), Undialable>,
    }

    fn decide(case: &Case) -> Result<Hop, Undialable> {
        let listeners = [Listener::new(
            ListenerId(1),
            "192.0.2.1:5060".parse().unwrap(),
            0,
        )];
        let flow = Flow {
            listener: ListenerId(1),
            local: None,
            peer: case.source.parse().unwrap(),
        };
        let parse = |uri: &'static str| Uri::parse(uri.as_bytes()).unwrap();
        let path = Path {
            route: case.route.map(parse),
            contact: parse(case.contact),
            vias: case.vias,
            nat: case.nat,
        };
        next_hop(
            &path,
            &Own {
                listeners: &listeners,
                flow: &flow,
            },
        )
    }

    const DIRECT: Case = Case {
        what: "a phone that is reached at its Contact",
        nat: NatMode::Auto,
        vias: 1,
        route: None,
        contact: "sip:198.51.100.7:5062",
        source: "198.51.100.7:5062",
        expected: Ok(("198.51.100.7:5062", Way::Contact)),
    };

    //= RFC 3261 12.2.1.1 type=test
    #[test]
    fn the_next_hop_follows_route_contact_or_source_as_the_case_demands() {
        let cases = [
            DIRECT,
            Case {
                what: "it listens on another port than it sends from",
                source: "198.51.100.7:49152",
                ..DIRECT
            },
            Case {
                what: "a private Contact that came from elsewhere",
                contact: "sip:192.168.1.20:5060",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a loopback Contact that came from elsewhere",
                contact: "sip:127.0.0.1:5060",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a private Contact on its own network",
                contact: "sip:10.0.0.9:5060",
                source: "10.0.0.9:49152",
                expected: Ok(("10.0.0.9:5060", Way::Contact)),
                ..DIRECT
            },
            Case {
                what: "a private Contact, and a setting that follows it anyhow",
                nat: NatMode::Never,
                contact: "sip:192.168.1.20:5060",
                source: "198.51.100.7:40001",
                expected: Ok(("192.168.1.20:5060", Way::Contact)),
                ..DIRECT
            },
            Case {
                what: "a public Contact elsewhere, and a setting that ignores it",
                nat: NatMode::Always,
                contact: "sip:203.0.113.5:5060",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a public Contact elsewhere",
                contact: "sip:203.0.113.5",
                source: "198.51.100.7:40001",
                expected: Ok(("203.0.113.5:5060", Way::Contact)),
                ..DIRECT
            },
            Case {
                what: "a private Contact behind a proxy that did not record a route",
                vias: 2,
                contact: "sip:192.168.1.20:5060",
                source: "198.51.100.7:5060",
                expected: Ok(("192.168.1.20:5060", Way::Contact)),
                ..DIRECT
            },
            Case {
                what: "the same with NAT always",
                nat: NatMode::Always,
                vias: 2,
                contact: "sip:192.168.1.20:5060",
                source: "198.51.100.7:5060",
                expected: Ok(("192.168.1.20:5060", Way::Contact)),
                ..DIRECT
            },
            Case {
                what: "a route set, whatever the Contact is",
                nat: NatMode::Always,
                vias: 3,
                route: Some("sip:203.0.113.40;lr"),
                contact: "sip:192.168.1.20:5060",
                source: "203.0.113.41:5080",
                expected: Ok(("203.0.113.40:5060", Way::Route)),
            },
            Case {
                what: "a route by name: whoever wrote it has just sent from its address",
                vias: 2,
                route: Some("sip:sbc.example.com;lr"),
                source: "203.0.113.41:5080",
                expected: Ok(("203.0.113.41:5080", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a route by name, and no symmetric answers",
                nat: NatMode::Never,
                vias: 2,
                route: Some("sip:sbc.example.com;lr"),
                source: "203.0.113.41:5080",
                expected: Err(Undialable::Name),
                ..DIRECT
            },
            Case {
                what: "a Contact by name",
                contact: "sip:phone.example.com",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a Contact by name behind a proxy that did not record a route",
                vias: 2,
                contact: "sip:phone.example.com",
                expected: Err(Undialable::Name),
                ..DIRECT
            },
            Case {
                what: "a multicast Contact is refused even where the source would be used",
                nat: NatMode::Always,
                contact: "sip:224.0.1.75",
                expected: Err(Undialable::Multicast),
                ..DIRECT
            },
            Case {
                what: "a Contact that is ourselves",
                contact: "sip:192.0.2.1",
                expected: Err(Undialable::Ourselves),
                ..DIRECT
            },
            Case {
                what: "a source port of 0, which can only be forged",
                nat: NatMode::Always,
                source: "198.51.100.7:0",
                expected: Err(Undialable::BadPort),
                ..DIRECT
            },
            Case {
                what: "a source that is ourselves, which can only be forged",
                nat: NatMode::Always,
                source: "192.0.2.1:5060",
                expected: Err(Undialable::Ourselves),
                ..DIRECT
            },
        ];
        for case in cases {
            let expected = case.expected.map(|(peer, way)| Hop {
                peer: peer.parse().unwrap(),
                way,
            });
            assert_eq!(decide(&case), expected, "{}", case.what);
        }
    }

    fn answer(via: &str, source: &str) -> ViaAnswer {
        let via = format!("SIP/2.0/UDP {via}");
        response_peer(
            &Via::parse(via.as_bytes()).unwrap(),
            source.parse().unwrap(),
        )
    }

    //= RFC 3581 4 type=test
    #[test]
    fn a_request_with_rport_is_answered_at_its_source_address_and_port() {
        for via in ["10.0.0.9:5060;rport", "198.51.100.7;rport=9"] {
            let answer = answer(via, "198.51.100.7:40001");
            assert_eq!(answer.peer, "198.51.100.7:40001".parse().unwrap());
            assert_eq!(answer.received, Some("198.51.100.7".parse().unwrap()));
            assert_eq!(answer.rport, Some(40001));
        }
    }

    //= RFC 3261 18.2.2 type=test
    #[test]
    fn a_request_without_rport_is_answered_at_its_source_address_and_the_port_of_its_sent_by() {
        let source = "198.51.100.7:40001";
        let same = answer("198.51.100.7:5062", source);
        assert_eq!(same.peer, "198.51.100.7:5062".parse().unwrap());
        assert_eq!((same.received, same.rport), (None, None));
        for via in ["phone.example.com", "10.0.0.9"] {
            let other = answer(via, source);
            assert_eq!(other.peer, "198.51.100.7:5060".parse().unwrap());
            assert_eq!(other.received, Some("198.51.100.7".parse().unwrap()));
            assert_eq!(other.rport, None);
        }
    }

    //= RFC 5118 4.5 type=test
    #[test]
    fn an_ipv6_sent_by_is_compared_as_an_address() {
        assert_eq!(
            answer("[2001:DB8:0::9]", "[2001:db8::9]:5060").received,
            None
        );
    }
}
