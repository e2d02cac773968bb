//! What kind of address this is, and whether a NOTIFY may be sent to it. No address is looked up here:
//! a name is told apart from an address, and that is all.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{DEFAULT_PORT, Flow, Listener};

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

/// Where a URI points, as it is written: of a Contact, a Route or a Record-Route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// With or without the brackets of an IPv6 address.
    pub host: &'a [u8],
    /// The digits may say anything, so a number that is no port is kept as `Some(0)`.
    pub port: Option<u16>,
    /// The value of the `transport` parameter.
    pub transport: Option<&'a [u8]>,
    /// The scheme is `sips`.
    pub secure: bool,
}

impl<'a> Target<'a> {
    /// A `sip:` target without parameters.
    pub fn new(host: &'a [u8], port: Option<u16>) -> Self {
        Target {
            host,
            port,
            transport: None,
            secure: false,
        }
    }
}

/// Why nothing is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undialable {
    /// A host name: names are not resolved.
    Name,
    /// No host, or brackets around no address.
    BadHost,
    /// Port 0, or one that is no number below 65,536.
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
            Undialable::BadHost => "bad host",
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
            Undialable::BadHost
            | Undialable::BadPort
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
        self.listeners.iter().any(|listener| {
            if listener.local.port() != address.port() {
                return listener.advertises(ip, address.port());
            }
            listener.local.ip().to_canonical() == ip
                || (listener.wildcard && ip.is_loopback())
                || (listener.wildcard && self.flow.local.map(|own| own.to_canonical()) == Some(ip))
                || listener.advertises(ip, address.port())
        })
    }

    /// The address family of the listener that the flow belongs to.
    fn is_v4(&self) -> bool {
        self.flow.peer.ip().to_canonical().is_ipv4()
    }
}

impl Listener {
    fn advertises(&self, ip: IpAddr, port: u16) -> bool {
        self.advertise.as_ref().is_some_and(|(host, advertised)| {
            *advertised == port && parse_address(host.as_bytes()) == Some(ip)
        })
    }
}

/// The address in a host, if it is one: dotted, or IPv6 with or without brackets.
pub(super) fn parse_address(host: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(host).ok()?;
    match text.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner
                .parse::<Ipv6Addr>()
                .ok()
                .map(|address| IpAddr::V6(address).to_canonical())
        }
        None => text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()),
    }
}

/// The address to send to where a URI points there, or why not.
pub fn dialable(target: &Target<'_>, own: &Own<'_>) -> Result<SocketAddr, Undialable> {
    check_transport(target)?;
    if target.port == Some(0) {
        return Err(Undialable::BadPort);
    }
    let Some(ip) = parse_address(target.host) else {
        return Err(if is_name(target.host) {
            Undialable::Name
        } else {
            Undialable::BadHost
        });
    };
    let address = SocketAddr::new(ip, target.port.unwrap_or(DEFAULT_PORT));
    check_address(address, own)?;
    Ok(address)
}

/// Whether a datagram may be sent there at all.
pub(super) fn check_address(address: SocketAddr, own: &Own<'_>) -> Result<(), Undialable> {
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

fn check_transport(target: &Target<'_>) -> Result<(), Undialable> {
    let Some(transport) = target.transport else {
        return if target.secure {
            Err(Undialable::TransportNotServed)
        } else {
            Ok(())
        };
    };
    let is = |name: &[u8]| transport.eq_ignore_ascii_case(name);
    if is(b"udp") && !target.secure {
        Ok(())
    } else if [b"udp".as_slice(), b"tcp", b"tls", b"ws", b"wss", b"sctp"]
        .iter()
        .any(|name| is(name))
    {
        Err(Undialable::TransportNotServed)
    } else {
        Err(Undialable::UnknownTransport)
    }
}

/// Letters, digits, dots and hyphens, and not only digits and dots: `1.2.3` is no name.
fn is_name(host: &[u8]) -> bool {
    let label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    host.iter().all(label) && host.iter().any(u8::is_ascii_alphabetic)
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

    fn dial(target: Target<'_>, peer: &str) -> Result<SocketAddr, Undialable> {
        let listeners = listeners();
        let flow = flow(peer);
        dialable(
            &target,
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
        let target = Target::new(b"203.0.113.9", None);
        assert_eq!(
            dial(target, "203.0.113.9:40000"),
            Ok("203.0.113.9:5060".parse().unwrap())
        );
        let target = Target::new(b"[2001:DB8::5]", Some(5062));
        assert_eq!(
            dial(target, "[2001:db8::5]:5062"),
            Ok("[2001:db8::5]:5062".parse().unwrap())
        );
    }

    //= RFC 4475 3.1.2.11 type=test
    #[test]
    fn what_must_not_be_dialled_has_a_named_reason() {
        let plain = |host: &'static str, port| Target::new(host.as_bytes(), port);
        let over = |name: &'static str| Target {
            transport: Some(name.as_bytes()),
            ..plain("203.0.113.9", None)
        };
        for (target, reason) in [
            (plain("224.0.1.75", None), Undialable::Multicast),
            (plain("255.255.255.255", None), Undialable::Broadcast),
            (plain("0.0.0.0", None), Undialable::Unspecified),
            (plain("203.0.113.9", Some(0)), Undialable::BadPort),
            (plain("", None), Undialable::BadHost),
            (plain("[2001:db8::1", None), Undialable::BadHost),
            (plain("1.2.3", None), Undialable::BadHost),
            (plain("phone.example.com", None), Undialable::Name),
            (plain("127.0.0.1", None), Undialable::ForeignLoopback),
            (plain("192.0.2.1", None), Undialable::Ourselves),
            (plain("203.0.113.80", Some(15060)), Undialable::Ourselves),
            (plain("[2001:db8::1]", None), Undialable::OtherFamily),
            (over("bogus"), Undialable::UnknownTransport),
            (over("TCP"), Undialable::TransportNotServed),
        ] {
            assert_eq!(
                dial(target, "198.51.100.7:5060"),
                Err(reason),
                "{}",
                target.host.escape_ascii()
            );
        }
        let secure = Target {
            secure: true,
            ..plain("203.0.113.9", None)
        };
        assert_eq!(
            dial(secure, "198.51.100.7:5060"),
            Err(Undialable::TransportNotServed)
        );
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
        assert!(dial(Target::new(b"127.0.0.1", Some(5062)), "127.0.0.1:5062").is_ok());
    }
}
