//! One Via: what sent it, from where, and in which transaction.

use super::host::Host;
use super::lex::{self, Malformed};
use super::params::{Param, Params};

/// The transport that a Via names. Names have no regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    Udp,
    Tcp,
    Tls,
    Sctp,
    Ws,
    Wss,
    Other(&'a [u8]),
}

impl<'a> Transport<'a> {
    fn of(name: &'a [u8]) -> Self {
        let known = [
            ("UDP", Transport::Udp),
            ("TCP", Transport::Tcp),
            ("TLS", Transport::Tls),
            ("WS", Transport::Ws),
            ("WSS", Transport::Wss),
            ("SCTP", Transport::Sctp),
        ];
        known
            .into_iter()
            .find(|(known, _)| lex::eq_ignore_case(name, known))
            .map_or(Transport::Other(name), |(_, transport)| transport)
    }
}

/// What a Via says about `rport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    Absent,
    /// `;rport`: the sender wants the answer where the request came from.
    Asked,
    Given(u16),
}

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    pub raw: &'a [u8],
    pub transport: Transport<'a>,
    pub host: Host<'a>,
    pub port: Option<u16>,
    pub branch: Option<&'a [u8]>,
    pub rport: Rport,
    pub received: Option<&'a [u8]>,
    pub params: Params<'a>,
}

/// What the branch of every transaction begins with.
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

impl<'a> Via<'a> {
    //= RFC 3261 20.42
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let (version, mut via) = Via::split(raw)?;
        if version != b"2.0" {
            return Err(Malformed);
        }
        let mut seen = Seen::default();
        via.params = Params::parse_each(via.params.as_bytes(), |param| seen.take(param))?;
        via.branch = seen.branch;
        via.received = seen.received;
        via.rport = seen.rport.unwrap_or(Rport::Absent);
        Ok(via)
    }

    /// Transport, host and port only: enough to send an answer to a request whose Via is otherwise malformed,
    /// or of another version of SIP. `params` is unchecked, and branch, rport and received are left out.
    pub(super) fn parse_sent_by(raw: &'a [u8]) -> Result<Self, Malformed> {
        Via::split(raw).map(|(_, via)| via)
    }

    /// The version, and what [`Via::parse_sent_by`] tells.
    fn split(raw: &'a [u8]) -> Result<(&'a [u8], Self), Malformed> {
        let (version, transport, at) = sent_protocol(raw)?;
        let params_start = lex::find_near(b';', &raw[at..]).map_or(raw.len(), |found| at + found);
        let (host, port) = Host::parse_with_port(lex::trim(&raw[at..params_start]))?;
        let via = Via {
            raw,
            transport,
            host,
            port,
            branch: None,
            rport: Rport::Absent,
            received: None,
            params: Params::unchecked(&raw[params_start..]),
        };
        Ok((version, via))
    }

    /// Who sent it and how: protocol and sent-by, without the parameters.
    pub fn sent_by(&self) -> &'a [u8] {
        &self.raw[..self.raw.len() - self.params.as_bytes().len()]
    }

    /// Whether the branch identifies a transaction all by itself.
    //= RFC 3261 17.2.3
    pub fn has_magic_cookie(&self) -> bool {
        self.branch.is_some_and(|branch| {
            branch.len() >= MAGIC_COOKIE.len()
                && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }
}

/// The version, the transport and the index of sent-by. `SIP / 2.0 / UDP host` may have white space around its slashes.
fn sent_protocol(raw: &[u8]) -> Result<(&[u8], Transport<'_>, usize), Malformed> {
    if raw.len() > 12 && raw.starts_with(b"SIP/2.0/UDP ") {
        return Ok((&raw[4..7], Transport::Udp, lex::skip_space(raw, 12)));
    }
    let mut at = 0;
    let mut words = [&raw[..0]; 3];
    for (index, word) in words.iter_mut().enumerate() {
        if index > 0 {
            at = lex::skip_space(raw, at);
            if raw.get(at) != Some(&b'/') {
                return Err(Malformed);
            }
            at = lex::skip_space(raw, at + 1);
        }
        let end = lex::skip(raw, at, lex::is_token);
        *word = &raw[at..end];
        at = end;
    }
    let [protocol, version, transport] = words;
    let host_start = lex::skip_space(raw, at);
    if !lex::eq_ignore_case(protocol, "SIP")
        || version.is_empty()
        || transport.is_empty()
        || host_start == at
    {
        return Err(Malformed);
    }
    Ok((version, Transport::of(transport), host_start))
}

/// The parameters of a Via that matter, each at most once.
#[derive(Default)]
struct Seen<'a> {
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<Rport>,
}

impl<'a> Seen<'a> {
    fn take(&mut self, param: Param<'a>) -> Result<(), Malformed> {
        if param.is("branch") {
            let value = param.value.ok_or(Malformed)?;
            set_once(&mut self.branch, value)
        } else if param.is("received") {
            let value = param.value.ok_or(Malformed)?;
            set_once(&mut self.received, value)
        } else if param.is("rport") {
            let rport = match param.value {
                None => Rport::Asked,
                Some(digits) => lex::decimal(digits)
                    .and_then(|port| u16::try_from(port).ok())
                    .map(Rport::Given)
                    .ok_or(Malformed)?,
            };
            set_once(&mut self.rport, rport)
        } else {
            Ok(())
        }
    }
}

pub(super) fn set_once<T>(place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 3261 20.42 type=test
    //= RFC 3261 17.2.3 type=test
    #[test]
    fn a_usual_via_comes_apart() {
        let via = Via::parse(b"SIP/2.0/UDP 192.0.2.7:5062;rport;branch=z9hG4bK-1;alias").unwrap();
        assert_eq!(via.transport, Transport::Udp);
        assert_eq!(via.host, Host::parse(b"192.0.2.7").unwrap());
        assert_eq!(via.port, Some(5062));
        assert_eq!(via.branch, Some(&b"z9hG4bK-1"[..]));
        assert_eq!(via.rport, Rport::Asked);
        assert_eq!(via.received, None);
        assert!(via.has_magic_cookie());
    }

    #[test]
    fn white_space_stands_around_every_separator() {
        let via =
            Via::parse(b"sip  / 2.0 \r\n / tcp  host.example : 5061 ;\r\n branch  =   z9hG4bK9")
                .unwrap();
        assert_eq!(via.transport, Transport::Tcp);
        assert_eq!(via.host, Host::Name(b"host.example"));
        assert_eq!(via.port, Some(5061));
        assert_eq!(via.branch, Some(&b"z9hG4bK9"[..]));
    }

    //= RFC 5118 4.5 type=test
    #[test]
    fn received_may_be_an_ipv6_address_without_brackets() {
        for received in ["2001:db8::9:255", "[2001:db8::9:255]"] {
            let raw = format!("SIP/2.0/UDP [2001:db8::9:1];received={received};branch=z9hG4bKas3");
            let via = Via::parse(raw.as_bytes()).unwrap();
            let address = Host::parse_parameter(via.received.unwrap()).unwrap();
            assert_eq!(address.address(), Some("2001:db8::9:255".parse().unwrap()));
        }
    }

    #[test]
    fn a_via_without_its_parts_or_with_a_part_twice_is_malformed() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 host",
            "SIP/3.0/UDP host",
            "HTTP/1.1/UDP host",
            "SIP/2.0/UDP host;;",
            "SIP/2.0/UDP host;branch=a;branch=b",
            "SIP/2.0/UDP host;rport=x",
            "SIP/2.0/UDP host:0",
            "SIP/2.0/UDP ho st",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/ host",
        ] {
            assert_eq!(Via::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }
}
