//! Where a NOTIFY goes next: a decision over addresses that the caller took from the dialog and the flow.
//! It reads no message and looks no name up.

use core::net::SocketAddr;

use super::address::{check_address, classify, dialable};
use super::locate::Question;
use super::{Own, Undialable};
use crate::sip::Uri;

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
    /// Whether host names are looked up.
    pub names: bool,
}

/// What the decision followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Route,
    Contact,
    /// The address that the phone's, or its proxy's, last request came from.
    Source,
    /// A host name, that of the first route or else of the Contact: what is looked up for each message.
    Name,
    /// The connection that it came by.
    Connection,
}

/// Where to send, and why there. By name the port is 0.
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
    if own.flow.connection.is_some() {
        return by_connection(path, own);
    }
    if let Some(route) = &path.route {
        return follow(route, Way::Route, path.nat != NatMode::Never, path, own);
    }
    let symmetric = path.vias <= 1 && path.nat != NatMode::Never;
    //= RFC 5626 4.3
    let asks_for_flow = || path.contact.param("ob").is_some();
    let by_flow =
        || path.nat == NatMode::Always || asks_for_flow() || is_behind_nat(&path.contact, own);
    if symmetric && by_flow() {
        check_sanity(&path.contact, own)?;
        return to_source(own);
    }
    follow(&path.contact, Way::Contact, symmetric, path, own)
}

/// Whoever has connected is told by that connection and by no other: behind a NAT, and in a browser, nobody can be
/// dialled, and a proxy that keeps us in the route has recorded itself. What can't be meant is still refused.
//= RFC 5626 5.3
fn by_connection(path: &Path<'_>, own: &Own<'_>) -> Result<Hop, Undialable> {
    check_sanity(&path.contact, own)?;
    //= RFC 5630 3.1.3
    if path.contact.secure && !own.is_secure() {
        return Err(Undialable::TransportNotServed);
    }
    Ok(Hop {
        peer: own.flow.peer,
        way: Way::Connection,
    })
}

/// Whoever wrote a name has just sent from the source address, which is better than what a resolver knows where
/// answering there is allowed. Elsewhere the name is looked up.
fn follow(
    uri: &Uri<'_>,
    way: Way,
    symmetric: bool,
    path: &Path<'_>,
    own: &Own<'_>,
) -> Result<Hop, Undialable> {
    match dialable(uri, own) {
        Ok(peer) => Ok(Hop { peer, way }),
        Err(Undialable::Name) if symmetric => to_source(own),
        // A phone that asks to be told by TCP and has come by UDP: it is there, and nobody is dialled. What is too long for a
        // datagram goes by a connection, if it has one.
        Err(Undialable::TransportNotServed) if symmetric && !uri.secure => to_source(own),
        Err(Undialable::Name) if path.names && Question::of(uri, own.is_v4()).is_some() => {
            Ok(Hop {
                peer: SocketAddr::new(own.flow.peer.ip(), 0),
                way: Way::Name,
            })
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ShardId;
    use crate::transport::{ConnectionId, Flow, Listener, ListenerId, Transport};

    //= RFC 5626 5.3 type=test
    #[test]
    fn whoever_has_connected_is_told_by_that_connection_whatever_its_contact_and_route_say() {
        let mut secure = Listener::new(ListenerId(7), "192.0.2.1:5061".parse().unwrap(), 0);
        secure.transport = Transport::Tls;
        let listeners = [secure];
        let flow = Flow {
            listener: ListenerId(1),
            local: None,
            peer: "198.51.100.7:40001".parse().unwrap(),
            connection: Some(ConnectionId::new(ShardId(0), 1)),
        };
        let own = Own {
            listeners: &listeners,
            flow: &flow,
        };
        let parse = |uri: &'static str| Uri::parse(uri.as_bytes()).unwrap();
        for (route, contact, expected) in [
            (None, "sip:a@198.51.100.7:5060;transport=tcp", Ok(())),
            (None, "sip:a@d3k2h.invalid;transport=ws", Ok(())),
            (Some("sip:203.0.113.40;lr"), "sip:192.168.1.20", Ok(())),
            (None, "sip:224.0.1.75", Err(Undialable::Multicast)),
            (
                None,
                "sip:a@h;transport=x",
                Err(Undialable::UnknownTransport),
            ),
        ] {
            let path = Path {
                route: route.map(parse),
                contact: parse(contact),
                vias: 2,
                nat: NatMode::Never,
                names: false,
            };
            let hop = next_hop(&path, &own);
            let connection = Hop {
                peer: flow.peer,
                way: Way::Connection,
            };
            assert_eq!(hop, expected.map(|()| connection), "{contact}");
        }
        let path = Path {
            route: None,
            contact: parse("sips:a@198.51.100.7"),
            vias: 1,
            nat: NatMode::Auto,
            names: true,
        };
        assert_eq!(next_hop(&path, &own), Err(Undialable::TransportNotServed));
        let flow = Flow {
            listener: ListenerId(7),
            ..flow
        };
        let own = Own {
            listeners: &listeners,
            flow: &flow,
        };
        assert!(next_hop(&path, &own).is_ok());
    }

    struct Case {
        what: &'static str,
        nat: NatMode,
        names: bool,
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
            connection: None,
        };
        let parse = |uri: &'static str| Uri::parse(uri.as_bytes()).unwrap();
        let path = Path {
            route: case.route.map(parse),
            contact: parse(case.contact),
            vias: case.vias,
            nat: case.nat,
            names: case.names,
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
        names: false,
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
                names: false,
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
                what: "the same where names are looked up: the source stands in for it, without a port",
                nat: NatMode::Never,
                names: true,
                vias: 2,
                route: Some("sip:sbc.example.com;lr"),
                source: "203.0.113.41:5080",
                expected: Ok(("203.0.113.41:0", Way::Name)),
                ..DIRECT
            },
            Case {
                what: "a route by a name that nobody knows",
                nat: NatMode::Never,
                names: true,
                vias: 2,
                route: Some("sip:7f3a.invalid;lr"),
                source: "203.0.113.41:5080",
                expected: Err(Undialable::Name),
                ..DIRECT
            },
            Case {
                what: "a phone that has just sent from its address, whatever its name is",
                names: true,
                contact: "sip:phone.example.com",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a Contact by name behind a proxy that did not record a route, looked up",
                names: true,
                vias: 2,
                contact: "sip:phone.example.com",
                expected: Ok(("198.51.100.7:0", Way::Name)),
                ..DIRECT
            },
            Case {
                what: "a Contact that asks for TCP from a phone that has come by UDP",
                contact: "sip:198.51.100.7:5062;transport=tcp",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "the same where the source is not to be used",
                nat: NatMode::Never,
                contact: "sip:198.51.100.7:5062;transport=tcp",
                expected: Err(Undialable::TransportNotServed),
                ..DIRECT
            },
            Case {
                what: "the same behind a proxy that did not record a route",
                vias: 2,
                contact: "sip:198.51.100.7:5062;transport=tcp",
                expected: Err(Undialable::TransportNotServed),
                ..DIRECT
            },
            Case {
                what: "a phone that asks for the flow that it came by",
                contact: "sip:198.51.100.7:5062;ob",
                source: "198.51.100.7:40001",
                expected: Ok(("198.51.100.7:40001", Way::Source)),
                ..DIRECT
            },
            Case {
                what: "a phone that asks for the flow, which lies behind a proxy",
                vias: 2,
                contact: "sip:198.51.100.7:5062;ob",
                source: "203.0.113.9:5060",
                expected: Ok(("198.51.100.7:5062", Way::Contact)),
                ..DIRECT
            },
            Case {
                what: "a Contact that nobody on the way may read",
                contact: "sips:198.51.100.7:5062;transport=tcp",
                expected: Err(Undialable::TransportNotServed),
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
}
