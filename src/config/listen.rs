//! `udp:127.0.0.1:5060`: what a listener is called on the command line and in the file.

use core::net::SocketAddr;

use crate::config::settings::Advertise;
use crate::transport::{Endpoint, Transport};

/// What is wrong with an address, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub struct AddressError {
    pub what: String,
    pub help: String,
}

fn error(what: String, help: impl Into<String>) -> AddressError {
    AddressError {
        what,
        help: help.into(),
    }
}

/// Reads `udp:ADDRESS:PORT`, or the same with `tcp`, `tls`, `ws` or `wss`. Port 0 lets the kernel choose one.
pub fn parse_listen(text: &str) -> Result<Endpoint, AddressError> {
    let Some((transport, address)) = text.split_once(':') else {
        return Err(error(
            format!("`{text}` is no listener"),
            "write udp:ADDRESS:PORT, for example udp:127.0.0.1:5060",
        ));
    };
    let served = |transport: Transport| {
        let show = |address| format!("{}:{address}", transport.name());
        let address = parse_address(address, show)?;
        Ok(Endpoint { transport, address })
    };
    match transport {
        "udp" => served(Transport::Udp),
        "tcp" => served(Transport::Tcp),
        "tls" => served(Transport::Tls),
        "ws" => served(Transport::Ws),
        "wss" => served(Transport::Wss),
        _ => Err(match text.parse::<SocketAddr>() {
            Ok(address) => error(
                format!("`{text}` does not name its transport"),
                format!("write udp:{address}"),
            ),
            Err(_) => error(
                format!("`{transport}` is no transport"),
                "write udp:ADDRESS:PORT, for example udp:127.0.0.1:5060",
            ),
        }),
    }
}

/// Reads the address of the admin port: `127.0.0.1:8060`.
pub fn parse_admin(text: &str) -> Result<SocketAddr, AddressError> {
    parse_address(text, |address| address.to_string())
}

fn parse_address(
    text: &str,
    show: impl Fn(SocketAddr) -> String,
) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let example = |text: &str| text.parse().map(&show).unwrap_or_default();
    if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
        let address = SocketAddr::new(ip, 5060);
        return Err(error(
            format!("`{text}` has no port"),
            format!("write {}", show(address)),
        ));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let help = match host.parse() {
        Ok(ip) => format!("write {}", show(SocketAddr::new(ip, 5060))),
        Err(_) => format!(
            "write an IP address and a port from 0 to 65535: {} or {}",
            example("127.0.0.1:5060"),
            example("[::1]:5060"),
        ),
    };
    let what = match port.parse::<u16>() {
        Ok(_) => format!("`{host}` is no IP address"),
        Err(_) if text.parse::<u16>().is_ok() => format!("`{text}` is a port without an address"),
        Err(_) => format!("`{text}` is no address and port"),
    };
    Err(error(what, help))
}

/// Reads `host[:port]`: what phones are told instead of the listener's own address.
pub fn parse_advertise(text: &str) -> Result<Advertise, AddressError> {
    let wrong = |what: String| {
        error(
            what,
            "write a host, or a host and a port: \"sip.example.com\" or \"192.0.2.1:5060\"",
        )
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(wrong(format!("`{text}` has no valid port"))),
    };
    let v6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.parse::<core::net::Ipv6Addr>().is_ok());
    let name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if !v6 && !name {
        return Err(wrong(format!("`{text}` is no host")));
    }
    Ok(Advertise {
        host: host.to_ascii_lowercase().into(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_a_transport_an_address_and_a_port() {
        for text in [
            "udp:127.0.0.1:0",
            "udp:[::1]:5060",
            "tcp:127.0.0.1:5060",
            "tls:[::1]:5061",
            "ws:127.0.0.1:8080",
            "wss:[::1]:443",
        ] {
            let endpoint = parse_listen(text).expect(text);
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_listener_is_answered_with_a_right_one() {
        for (text, what, help) in [
            ("tcp:127.0.0.1", "has no port", "write tcp:127.0.0.1:5060"),
            ("wss:0.0.0.0", "has no port", "write wss:0.0.0.0:5060"),
            (
                "127.0.0.1:5060",
                "does not name its transport",
                "write udp:127.0.0.1:5060",
            ),
            ("5060", "is no listener", "udp:127.0.0.1:5060"),
            ("udp:5060", "port without an address", "udp:127.0.0.1:5060"),
            ("udp:127.0.0.1", "has no port", "write udp:127.0.0.1:5060"),
            ("udp:[::1]", "has no port", "write udp:[::1]:5060"),
            (
                "udp:localhost:5060",
                "`localhost` is no IP address",
                "udp:127.0.0.1:5060",
            ),
            (
                "udp:127.0.0.1:99999",
                "no address and port",
                "write udp:127.0.0.1:5060",
            ),
            ("sctp:127.0.0.1:5060", "no transport", "udp:"),
        ] {
            let error = parse_listen(text).expect_err(text);
            assert!(error.what.contains(what), "{text}: {error:?}");
            assert!(error.help.contains(help), "{text}: {error:?}");
        }
    }

    #[test]
    fn what_is_advertised_is_a_host_with_a_port_or_without() {
        let advertise = |host: &str, port| Advertise {
            host: host.into(),
            port,
        };
        assert_eq!(
            parse_advertise("SIP.example.com"),
            Ok(advertise("sip.example.com", None))
        );
        assert_eq!(
            parse_advertise("192.0.2.1:5070"),
            Ok(advertise("192.0.2.1", Some(5070)))
        );
        assert_eq!(
            parse_advertise("[2001:db8::1]"),
            Ok(advertise("[2001:db8::1]", None))
        );
        assert_eq!(
            parse_advertise("[2001:db8::1]:5"),
            Ok(advertise("[2001:db8::1]", Some(5)))
        );
        for text in [
            "",
            ":5060",
            "a b",
            "host:0",
            "host:70000",
            "2001:db8::1",
            "x;y",
        ] {
            assert!(parse_advertise(text).is_err(), "{text}");
        }
    }
}
