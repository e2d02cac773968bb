//! Hosts: names, IPv4 addresses, IPv6 references.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::lex::{self, Malformed};
use super::writer::Writer;

/// The host of a URI or a Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A domain name, as written.
    Name(&'a [u8]),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// A host as it stands in a URI or in sent-by: IPv6 in brackets.
    //= RFC 5118 4.1
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if let [b'[', inside @ .., b']'] = bytes {
            return text(inside)
                .and_then(|inside| inside.parse().ok())
                .map(Host::V6)
                .ok_or(Malformed);
        }
        if lex::skip(bytes, 0, lex::is_hostname) != bytes.len() {
            return Err(Malformed);
        }
        Host::parse_name(bytes)
    }

    /// A name or an IPv4 address, of bytes that may stand in either.
    fn parse_name(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let last = bytes.last().ok_or(Malformed)?;
        if !last.is_ascii_digit() {
            return Ok(Host::Name(bytes));
        }
        if let Some(address) = ipv4(bytes) {
            return Ok(Host::V4(address));
        }
        // A name whose last label is a number is an address gone wrong (256.1.1.1, or IPv6 without brackets).
        let last_label = bytes.rsplit(|&byte| byte == b'.').next().unwrap_or(bytes);
        if lex::all(last_label, |byte| byte.is_ascii_digit()) {
            return Err(Malformed);
        }
        Ok(Host::Name(bytes))
    }

    /// A host as it stands in `received=` and `maddr=`: IPv6 with or without brackets.
    //= RFC 5118 4.5
    pub fn parse_parameter(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if memchr::memchr(b':', bytes).is_some() && bytes[0] != b'[' {
            return text(bytes)
                .and_then(|text| text.parse().ok())
                .map(Host::V6)
                .ok_or(Malformed);
        }
        Host::parse(bytes)
    }

    /// `host [":" port]`, nothing else.
    pub(super) fn parse_with_port(bytes: &'a [u8]) -> Result<(Self, Option<u16>), Malformed> {
        let host_end = match bytes.first() {
            Some(b'[') => lex::find_near(b']', bytes).ok_or(Malformed)? + 1,
            Some(_) | None => lex::skip(bytes, 0, lex::is_hostname),
        };
        let host = match bytes.first() {
            Some(b'[') => Host::parse(&bytes[..host_end])?,
            Some(_) | None => Host::parse_name(&bytes[..host_end])?,
        };
        if host_end == bytes.len() {
            return Ok((host, None));
        }
        // In a Via white space may stand on either side of the colon.
        let colon = lex::skip_space(bytes, host_end);
        if bytes.get(colon) != Some(&b':') {
            return Err(Malformed);
        }
        lex::decimal(lex::trim(&bytes[colon + 1..]))
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .map(|port| (host, Some(port)))
            .ok_or(Malformed)
    }

    /// The address, if it is one; an IPv4-mapped IPv6 address is the IPv4 address.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address).to_canonical()),
        }
    }

    /// Names without regard to case, addresses by value.
    pub fn same(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(left), Host::Name(right)) => left.eq_ignore_ascii_case(right),
            (Host::V4(left), Host::V4(right)) => left == right,
            (Host::V6(left), Host::V6(right)) => left == right,
            (Host::Name(_) | Host::V4(_) | Host::V6(_), _) => false,
        }
    }

    /// As it stands in a URI.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Host::Name(name) => writer.put(name),
            Host::V4(address) => writer.address(IpAddr::V4(*address)),
            Host::V6(address) => {
                writer.put(b"[");
                writer.address(IpAddr::V6(*address));
                writer.put(b"]");
            }
        }
    }
}

/// Four numbers below 256 without leading zeros: what the standard library takes, in a third of its time.
fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut index = 0;
    let mut digits = 0;
    let mut value = 0_u16;
    for &byte in bytes {
        match byte {
            b'0'..=b'9' => {
                if digits > 0 && value == 0 {
                    return None;
                }
                value = value * 10 + u16::from(byte - b'0');
                digits += 1;
                octets[index] = u8::try_from(value).ok()?;
            }
            b'.' if digits > 0 && index < 3 => {
                index += 1;
                digits = 0;
                value = 0;
            }
            _ => return None,
        }
    }
    (index == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

fn text(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        assert_eq!(Host::parse(b"Example.com"), Ok(Host::Name(b"Example.com")));
        assert_eq!(Host::parse(b"pbx-1"), Ok(Host::Name(b"pbx-1")));
        assert_eq!(
            Host::parse(b"192.0.2.1"),
            Ok(Host::V4(Ipv4Addr::new(192, 0, 2, 1)))
        );
        assert_eq!(
            Host::parse(b"[2001:db8::1]"),
            Ok(Host::V6("2001:db8::1".parse().unwrap()))
        );
        for bad in [
            "",
            "256.0.2.1",
            "2001",
            "[2001:db8::1",
            "a b",
            "[]",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "a@b",
        ] {
            assert_eq!(Host::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn ipv4_addresses_are_those_that_the_standard_library_takes() {
        let parts = [
            "", "0", "00", "1", "01", "9", "10", "99", "255", "256", "999", "1000", "-1", "a",
        ];
        for a in parts {
            for b in parts {
                for text in [
                    format!("{a}.{b}.3.4"),
                    format!("1.2.{a}.{b}"),
                    format!("{a}.{b}"),
                    format!("1.{a}.3.{b}.5"),
                ] {
                    let expected: Option<Ipv4Addr> = text.parse().ok();
                    assert_eq!(ipv4(text.as_bytes()), expected, "{text}");
                }
            }
        }
    }

    //= RFC 5118 4.5 type=test
    #[test]
    fn a_received_parameter_may_leave_the_brackets_out() {
        let address = Host::V6("2001:db8::9:255".parse().unwrap());
        assert_eq!(Host::parse_parameter(b"2001:db8::9:255"), Ok(address));
        assert_eq!(Host::parse_parameter(b"[2001:db8::9:255]"), Ok(address));
        assert_eq!(Host::parse(b"2001:db8::9:255"), Err(Malformed));
    }

    //= RFC 5118 4.1 type=test
    #[test]
    fn the_port_follows_the_closing_bracket() {
        let address = Host::V6("2001:db8::10".parse().unwrap());
        assert_eq!(
            Host::parse_with_port(b"[2001:db8::10]:5070"),
            Ok((address, Some(5070)))
        );
        assert_eq!(
            Host::parse_with_port(b"[2001:db8::10]"),
            Ok((address, None))
        );
        assert_eq!(
            Host::parse_with_port(b"h : 5070"),
            Ok((Host::Name(b"h"), Some(5070)))
        );
        for bad in [
            "h:",
            "h:0",
            "h:65536",
            "h:99999",
            "h:-1",
            "h:5x",
            "2001:db8::10",
            "[::1]5060",
            ":5060",
        ] {
            assert_eq!(
                Host::parse_with_port(bad.as_bytes()),
                Err(Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn names_compare_without_case_and_addresses_by_value() {
        assert!(Host::Name(b"A.b").same(&Host::Name(b"a.B")));
        assert!(
            Host::parse(b"[::1]")
                .unwrap()
                .same(&Host::parse(b"[0:0::1]").unwrap())
        );
        assert!(
            !Host::parse(b"[::ffff:1.2.3.4]")
                .unwrap()
                .same(&Host::parse(b"1.2.3.4").unwrap())
        );
    }
}
