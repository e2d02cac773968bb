//! What kind of address this is, and whether a NOTIFY may be sent to it. No address is looked up here:
//! a name is told apart from an address, and that is all.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{DEFAULT_PORT, Flow, Listener, Transport};
use crate::sip::{Host, Uri};

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reached from anywhere, as far as the address tells.
    Global,
    /// RFC 1918, RFC 6598, unique local (RFC 4193).
    Private,
    /// Good on one link only.
    LinkLocal,
    Loopback,
    Multicast,
    Broadcast,
    Unspecified,
}

impl Class {
    /// Whether it means something only near the host that wrote it: what stands in a Contact from behind a NAT.
    pub fn is_local(self) -> bool {
        match self {
            Class::Private | Class::LinkLocal | Class::Loopback => true,
            Class::Global | Class::Multicast | Class::Broadcast | Class::Unspecified => false,
        }
    }
}

/// The class of an address; an IPv4 address in IPv6 clothes counts as IPv4.
pub fn classify(address: IpAddr) -> Class {
    match address.to_canonical() {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    let [first, second, ..] = address.octets();
    if first == 0 {
        Class::Unspecified
    } else if address.is_loopback() {
        Class::Loopback
    } else if address.is_private() || (first == 100 && second & 0xc0 == 64) {
        Class::Private
    } else if address.is_link_local() {
        Class::LinkLocal
    } else if address.is_multicast() {
        Class::Multicast
    } else if first >= 240 {
        // 255.255.255.255, and the reserved block before it that no host has.
        Class::Broadcast
    } else {
        Class::Global
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if address.is_unspecified() {
        Class::Unspecified
    } else if address.is_loopback() {
        Class::Loopback
    } else if address.is_multicast() {
        Class::Multicast
    } else if address.is_unicast_link_local() {
        Class::LinkLocal
    } else if address.is_unique_local() {
        Class::Private
    } else {
        Class::Global
    }
}

/// Why nothing is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undialable {
    /// A host name: it would have to be looked up.
    Name,
    /// Port 0.
    BadPort,
    /// A `transport` that nobody has heard of.
    UnknownTransport,
    /// TCP, TLS, WebSocket or SCTP, which nothing here sends on.
    TransportNotServed,
    Multicast,
    Broadcast,
    Unspecified,
    /// A loopback address, named by a host that is not this one.
    ForeignLoopback,
    /// One of our own listeners.
    Ourselves,
    /// IPv6 from an IPv4 listener, or the reverse.
    OtherFamily,
}

impl Undialable {
    /// For counters and for people.
    pub fn name(self) -> &'static str {
        match self {
            Undialable::Name => "host name",
            Undialable::BadPort => "bad port",
            Undialable::UnknownTransport => "unknown transport",
            Undialable::TransportNotServed => "transport not served",
            Undialable::Multicast => "multicast address",
            Undialable::Broadcast => "broadcast address",
            Undialable::Unspecified => "unspecified address",
            Undialable::ForeignLoopback => "loopback of another host",
            Undialable::Ourselves => "our own address",
            Undialable::OtherFamily => "other address family",
        }
    }

    /// Whether no request that carries such a Contact can ever be served: it is answered 400.
    /// The other reasons may go away with another route, another listener or a later version.
    pub fn is_nonsense(self) -> bool {
        match self {
            Undialable::BadPort
            | Undialable::UnknownTransport
            | Undialable::Multicast
            | Undialable::Broadcast
            | Undialable::Unspecified
            | Undialable::Ourselves => true,
            Undialable::Name
            | Undialable::TransportNotServed
            | Undialable::ForeignLoopback
            | Undialable::OtherFamily => false,
        }
    }
}

/// What is needed to tell ourselves from others: our listeners, and the flow that the request came by.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    pub listeners: &'a [Listener],
    pub flow: &'a Flow,
}

impl Own<'_> {
    /// Whether a datagram sent there comes back to us.
    pub fn is(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let datagrams = |listener: &&Listener| listener.transport == Transport::Udp;
        self.listeners.iter().filter(datagrams).any(|listener| {
            if listener.local.port() != address.port() {
                return listener.advertises(ip, address.port());
            }
            listener.local.ip().to_canonical() == ip
                || (listener.wildcard && ip.is_loopback())
                || (listener.wildcard && self.flow.local.map(|own| own.to_canonical()) == Some(ip))
                || listener.advertises(ip, address.port())
        })
    }

    /// Whether the flow came by a transport that nobody can read along.
    pub(super) fn is_secure(&self) -> bool {
        let mut listeners = self.listeners.iter();
        let own = listeners.find(|listener| listener.id == self.flow.listener);
        own.is_some_and(|listener| listener.transport.is_secure())
    }

    /// The address family of the listener that the flow belongs to.
    pub(super) fn is_v4(&self) -> bool {
        self.flow.peer.ip().to_canonical().is_ipv4()
    }
}

impl Listener {
    fn advertises(&self, ip: IpAddr, port: u16) -> bool {
        self.advertise
            .as_ref()
            .is_some_and(|(host, advertised)| *advertised == port && address_in(host) == Some(ip))
    }
}

/// The address in a host that a setting names, if it is one.
fn address_in(host: &str) -> Option<IpAddr> {
    Host::parse_parameter(host.as_bytes()).ok()?.address()
}

/// The address to send to where a URI points there, or why not.
pub fn dialable(uri: &Uri<'_>, own: &Own<'_>) -> Result<SocketAddr, Undialable> {
    check_transport(uri)?;
    let ip = uri.host.address().ok_or(Undialable::Name)?;
    let address = SocketAddr::new(ip, uri.port.unwrap_or(DEFAULT_PORT));
    check_address(address, own)?;
    Ok(address)
}

/// Whether a datagram may be sent there at all.
pub fn check_address(address: SocketAddr, own: &Own<'_>) -> Result<(), Undialable> {
    if address.port() == 0 {
        return Err(Undialable::BadPort);
    }
    match classify(address.ip()) {
        Class::Multicast => return Err(Undialable::Multicast),
        Class::Broadcast => return Err(Undialable::Broadcast),
        Class::Unspecified => return Err(Undialable::Unspecified),
        Class::Loopback if classify(own.flow.peer.ip()) != Class::Loopback => {
            return Err(Undialable::ForeignLoopback);
        }
        Class::Global | Class::Private | Class::LinkLocal | Class::Loopback => {}
    }
    if address.ip().to_canonical().is_ipv4() != own.is_v4() {
        return Err(Undialable::OtherFamily);
    }
    if own.is(address) {
        return Err(Undialable::Ourselves);
    }
    Ok(())
}

fn check_transport(uri: &Uri<'_>) -> Result<(), Undialable> {
    let Some(transport) = uri.param("transport") else {
        return if uri.secure {
            Err(Undialable::TransportNotServed)
        } else {
            Ok(())
        };
    };
    let transport = transport.value.unwrap_or_default();
    let is = |name: &[u8]| transport.eq_ignore_ascii_case(name);
    if is(b"udp") && !uri.secure {
        return Ok(());
    }
    let known = [b"udp".as_slice(), b"tcp", b"tls", b"ws", b"wss", b"sctp"];
    if known.into_iter().any(is) {
        Err(Undialable::TransportNotServed)
    } else {
        Err(Undialable::UnknownTransport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ListenerId;

    fn flow(peer: &str) -> Flow {
        Flow {
            listener: ListenerId(1),
            local: None,
            peer: peer.parse().unwrap(),
            connection: None,
        }
    }

    fn listeners() -> Vec<Listener> {
        let mut behind_nat = Listener::new(ListenerId(2), "10.0.0.2:5060".parse().unwrap(), 0);
        behind_nat.advertise = Some(("203.0.113.80".into(), 15060));
        vec![
            Listener::new(ListenerId(1), "192.0.2.1:5060".parse().unwrap(), 0),
            behind_nat,
            Listener::new(ListenerId(3), "0.0.0.0:5070".parse().unwrap(), 0),
        ]
    }

    fn dial(uri: &str, peer: &str) -> Result<SocketAddr, Undialable> {
        let listeners = listeners();
        let flow = flow(peer);
        dialable(
            &Uri::parse(uri.as_bytes()).unwrap(),
            &Own {
                listeners: &listeners,
                flow: &flow,
            },
        )
    }

    #[test]
    fn every_kind_of_address_has_its_class() {
        for (address, class) in [
            ("203.0.113.9", Class::Global),
            ("10.1.2.3", Class::Private),
            ("172.31.0.1", Class::Private),
            ("172.32.0.1", Class::Global),
            ("192.168.7.7", Class::Private),
            ("100.64.0.1", Class::Private),
            ("100.127.255.255", Class::Private),
            ("100.128.0.1", Class::Global),
            ("169.254.1.1", Class::LinkLocal),
            ("127.0.0.53", Class::Loopback),
            ("224.0.1.75", Class::Multicast),
            ("255.255.255.255", Class::Broadcast),
            ("240.0.0.1", Class::Broadcast),
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Unspecified),
            ("2001:db8::1", Class::Global),
            ("fd00::1", Class::Private),
            ("fe80::1", Class::LinkLocal),
            ("::1", Class::Loopback),
            ("ff02::1", Class::Multicast),
            ("::", Class::Unspecified),
            ("::ffff:10.0.0.1", Class::Private),
        ] {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }

    #[test]
    fn an_ordinary_contact_is_dialled_with_its_port_or_the_default_one() {
        for (uri, peer, expected) in [
            ("sip:a@203.0.113.9", "203.0.113.9:40000", "203.0.113.9:5060"),
            (
                "sip:203.0.113.9;transport=UDP",
                "198.51.100.7:1",
                "203.0.113.9:5060",
            ),
            (
                "sip:a@[2001:DB8::5]:5062",
                "[2001:db8::5]:5062",
                "[2001:db8::5]:5062",
            ),
        ] {
            assert_eq!(dial(uri, peer), Ok(expected.parse().unwrap()), "{uri}");
        }
    }

    //= RFC 4475 3.1.2.11 type=test
    #[test]
    fn what_must_not_be_dialled_has_a_named_reason() {
        for (uri, reason) in [
            ("sip:224.0.1.75", Undialable::Multicast),
            ("sip:255.255.255.255", Undialable::Broadcast),
            ("sip:0.0.0.0", Undialable::Unspecified),
            ("sip:phone.example.com", Undialable::Name),
            ("sip:127.0.0.1", Undialable::ForeignLoopback),
            ("sip:192.0.2.1", Undialable::Ourselves),
            ("sip:203.0.113.80:15060", Undialable::Ourselves),
            ("sip:[::ffff:192.0.2.1]:5060", Undialable::Ourselves),
            ("sip:[2001:db8::1]", Undialable::OtherFamily),
            (
                "sip:203.0.113.9;transport=bogus",
                Undialable::UnknownTransport,
            ),
            ("sip:203.0.113.9;transport", Undialable::UnknownTransport),
            (
                "sip:203.0.113.9;transport=TCP",
                Undialable::TransportNotServed,
            ),
            ("sips:203.0.113.9", Undialable::TransportNotServed),
        ] {
            assert_eq!(dial(uri, "198.51.100.7:5060"), Err(reason), "{uri}");
        }
    }

    #[test]
    fn a_wildcard_listener_knows_itself_on_loopback_and_by_the_address_it_was_reached_at() {
        let listeners = listeners();
        let mut flow = flow("127.0.0.1:6000");
        let own = Own {
            listeners: &listeners,
            flow: &flow,
        };
        assert!(own.is("127.0.0.1:5070".parse().unwrap()));
        assert!(!own.is("127.0.0.1:5071".parse().unwrap()));
        assert!(!own.is("198.51.100.1:5070".parse().unwrap()));
        flow.local = Some("198.51.100.1".parse().unwrap());
        let own = Own {
            listeners: &listeners,
            flow: &flow,
        };
        assert!(own.is("198.51.100.1:5070".parse().unwrap()));
    }

    #[test]
    fn a_phone_on_this_very_host_is_dialled_by_loopback() {
        assert!(dial("sip:127.0.0.1:5062", "127.0.0.1:5062").is_ok());
    }
}
