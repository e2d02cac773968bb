//! URIs: SIP and SIPS taken apart and compared, TEL recognised, all others only named.

use super::host::Host;
use super::lex::{self, Malformed};
use super::params::Param;

/// What stands before the first colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    Sip,
    Sips,
    Tel,
    Other(&'a [u8]),
}

impl<'a> Scheme<'a> {
    /// The scheme of `uri` and what follows the colon.
    pub fn split(uri: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        // The usual one first.
        if let [b's', b'i', b'p', b':', rest @ ..] = uri {
            return Ok((Scheme::Sip, rest));
        }
        let colon = lex::find_near(b':', uri).ok_or(Malformed)?;
        let (name, rest) = (&uri[..colon], &uri[colon + 1..]);
        let scheme = if lex::eq_ignore_case(name, "sip") {
            Scheme::Sip
        } else if lex::eq_ignore_case(name, "sips") {
            Scheme::Sips
        } else if lex::eq_ignore_case(name, "tel") {
            Scheme::Tel
        } else {
            let first_is_letter = name.first().is_some_and(u8::is_ascii_alphabetic);
            let in_scheme =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            if !first_is_letter || !lex::all(name, in_scheme) {
                return Err(Malformed);
            }
            Scheme::Other(name)
        };
        Ok((scheme, rest))
    }
}

/// Why a URI is no SIP URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// It is a URI of another scheme.
    Scheme,
    Malformed,
}

impl From<Malformed> for UriError {
    fn from(_: Malformed) -> Self {
        UriError::Malformed
    }
}

/// A SIP or SIPS URI. All parts are raw: escapes stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    pub raw: &'a [u8],
    /// `sips:`
    pub secure: bool,
    pub user: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
    pub host: Host<'a>,
    pub port: Option<u16>,
    /// What follows the host and port up to the question mark, with its leading semicolon; or empty.
    params: &'a [u8],
    /// What follows the question mark.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    //= RFC 3261 19.1.1
    pub fn parse(raw: &'a [u8]) -> Result<Self, UriError> {
        let (scheme, rest) = Scheme::split(raw)?;
        let secure = match scheme {
            Scheme::Sip => false,
            Scheme::Sips => true,
            Scheme::Tel | Scheme::Other(_) => return Err(UriError::Scheme),
        };
        let marks = lex::uri_marks(rest).ok_or(Malformed)?;
        let (user, password, host_start) = match marks.at {
            Some(at) => {
                let (user, password) = userinfo(&rest[..at], marks.user_colon)?;
                if marks.user_escapes && !escapes_are_whole(&rest[..at]) {
                    return Err(UriError::Malformed);
                }
                (Some(user), password, at + 1)
            }
            None => (None, None, 0),
        };
        let host_end = marks.host_end.unwrap_or(rest.len());
        let params_end = marks.question.unwrap_or(rest.len());
        let (host, port) = Host::parse_with_port(&rest[host_start..host_end])?;
        let params = &rest[host_end..params_end];
        let headers = rest.get(params_end + 1..);
        Ok(Uri {
            raw,
            secure,
            user,
            password,
            host,
            port,
            params,
            headers,
        })
    }

    /// The parameters in order; empty ones (`;;`) are passed over.
    pub fn params(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        self.params
            .split(|&byte| byte == b';')
            .filter(|param| !param.is_empty())
            .map(|param| match memchr::memchr(b'=', param) {
                Some(equals) => Param {
                    name: &param[..equals],
                    value: Some(&param[equals + 1..]),
                },
                None => Param {
                    name: param,
                    value: None,
                },
            })
    }

    /// The parameters as written, with the leading semicolon; or empty.
    pub fn raw_params(&self) -> &'a [u8] {
        self.params
    }

    /// The first parameter of this name.
    pub fn param(&self, name: &str) -> Option<Param<'a>> {
        self.params().find(|param| param.is(name))
    }

    /// As it may stand in a Request-URI: header fields have no place there.
    //= RFC 3261 19.1.1
    pub fn without_headers(self) -> Self {
        let headers = self.headers.map_or(0, |headers| headers.len() + 1);
        Uri {
            raw: &self.raw[..self.raw.len() - headers],
            headers: None,
            ..self
        }
    }

    /// Whether the next hop routes loosely: `;lr`, with any value.
    pub fn is_loose(&self) -> bool {
        self.param("lr").is_some()
    }

    /// The user with its escapes undone.
    pub fn decoded_user(&self) -> impl Iterator<Item = u8> + use<'a> {
        unescape(self.user.unwrap_or(&[]))
    }

    /// The comparison of RFC 3261: an absent port differs from the default one,
    /// escapes of unreserved characters do not matter.
    //= RFC 3261 19.1.4
    pub fn same(&self, other: &Uri<'_>) -> bool {
        self.secure == other.secure
            && same_option(self.user, other.user)
            && same_option(self.password, other.password)
            && self.host.same(&other.host)
            && self.port == other.port
            && params_match(self, other)
            && params_match(other, self)
            && headers_match(self.headers, other.headers)
    }
}

/// A TEL URI: the number as written, and its parameters with the leading semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tel<'a> {
    pub number: &'a [u8],
    pub params: &'a [u8],
}

impl<'a> Tel<'a> {
    //= RFC 3966 3
    pub fn parse(raw: &'a [u8]) -> Result<Self, UriError> {
        match Scheme::split(raw)? {
            (Scheme::Tel, rest) => {
                let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
                let (number, params) = rest.split_at(end);
                let in_number = |byte: u8| {
                    byte.is_ascii_hexdigit()
                        || matches!(byte, b'+' | b'*' | b'#' | b'-' | b'.' | b'(' | b')')
                };
                let has_digit = number
                    .iter()
                    .any(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#'));
                if !has_digit || !lex::all(number, in_number) || !lex::all(params, lex::is_uri) {
                    return Err(UriError::Malformed);
                }
                Ok(Tel { number, params })
            }
            (Scheme::Sip | Scheme::Sips | Scheme::Other(_), _) => Err(UriError::Scheme),
        }
    }
}

/// Whether `raw` is a URI of any scheme; a SIP, SIPS or TEL one must be well-formed inside.
pub(super) fn check(raw: &[u8]) -> Result<(), Malformed> {
    match Uri::parse(raw) {
        Ok(_) => Ok(()),
        Err(UriError::Malformed) => Err(Malformed),
        Err(UriError::Scheme) => match Scheme::split(raw)? {
            (Scheme::Tel, _) => Tel::parse(raw).map(|_| ()).map_err(|_| Malformed),
            (_, rest) if !rest.is_empty() && lex::all(rest, lex::is_uri) => Ok(()),
            _ => Err(Malformed),
        },
    }
}

fn userinfo(bytes: &[u8], colon: Option<usize>) -> Result<(&[u8], Option<&[u8]>), Malformed> {
    let (user, password) = match colon {
        Some(colon) => (&bytes[..colon], Some(&bytes[colon + 1..])),
        None => (bytes, None),
    };
    if user.is_empty() {
        return Err(Malformed);
    }
    Ok((user, password))
}

fn escapes_are_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = lex::find_near(b'%', rest) {
        let [high, low, after @ ..] = &rest[at + 1..] else {
            return false;
        };
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return false;
        }
        rest = after;
    }
    true
}

/// The bytes with `%41` as `A`; a percent sign that escapes nothing stands for itself.
pub fn unescape(raw: &[u8]) -> impl Iterator<Item = u8> {
    units(raw).map(|unit| unit.byte)
}

/// One character as the comparison sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unit {
    byte: u8,
    /// An escaped character of the reserved set is not the character itself.
    reserved_escape: bool,
}

fn units(raw: &[u8]) -> impl Iterator<Item = Unit> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let byte = *raw.get(at)?;
        if byte == b'%'
            && let Some(&[high, low]) = raw.get(at + 1..at + 3)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            at += 3;
            let byte = high << 4 | low;
            let reserved_escape = matches!(
                byte,
                b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b','
            );
            return Some(Unit {
                byte,
                reserved_escape,
            });
        }
        at += 1;
        Some(Unit {
            byte,
            reserved_escape: false,
        })
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn same_bytes(left: &[u8], right: &[u8]) -> bool {
    left == right || units(left).eq(units(right))
}

fn same_ignoring_case(left: &[u8], right: &[u8]) -> bool {
    let lower = |unit: Unit| Unit {
        byte: unit.byte.to_ascii_lowercase(),
        ..unit
    };
    units(left).map(lower).eq(units(right).map(lower))
}

fn same_option(left: Option<&[u8]>, right: Option<&[u8]>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same_bytes(left, right),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Parameters that change where a request goes: one that stands in only one of two URIs makes them differ.
fn must_be_in_both(name: &[u8]) -> bool {
    ["user", "ttl", "method", "maddr", "transport"]
        .iter()
        .any(|must| same_ignoring_case(name, must.as_bytes()))
}

/// A name that stands twice, which is not allowed, matches by either.
fn params_match(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    left.params().all(|param| {
        let mut twins = right
            .params()
            .filter(|other| same_ignoring_case(param.name, other.name))
            .peekable();
        match twins.peek() {
            Some(_) => twins.any(|twin| same_value(param.value, twin.value)),
            None => !must_be_in_both(param.name),
        }
    })
}

fn same_value(left: Option<&[u8]>, right: Option<&[u8]>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same_ignoring_case(left, right),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn headers_match(left: Option<&[u8]>, right: Option<&[u8]>) -> bool {
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => {
            let each_in = |these: &[u8], those: &[u8]| {
                these.split(|&byte| byte == b'&').all(|header| {
                    those
                        .split(|&byte| byte == b'&')
                        .any(|other| same_header(header, other))
                })
            };
            each_in(left, right) && each_in(right, left)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same_header(left: &[u8], right: &[u8]) -> bool {
    let split = |header| {
        let mut parts = <[u8]>::splitn(header, 2, |&byte| byte == b'=');
        (parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]))
    };
    let ((left_name, left_value), (right_name, right_value)) = (split(left), split(right));
    same_ignoring_case(left_name, right_name) && same_bytes(left_value, right_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    //= RFC 3261 19.1.1 type=test
    #[test]
    fn a_full_uri_comes_apart() {
        let uri =
            uri("sips:al%69ce;day=tue:pa?ss@Example.COM:5061;transport=tcp;lr?Subject=a%20b&x=y");
        assert!(uri.secure);
        assert_eq!(uri.user, Some(&b"al%69ce;day=tue"[..]));
        assert_eq!(uri.password, Some(&b"pa?ss"[..]));
        assert_eq!(uri.host, Host::Name(b"Example.COM"));
        assert_eq!(uri.port, Some(5061));
        assert_eq!(uri.param("Transport").unwrap().value, Some(&b"tcp"[..]));
        assert!(uri.is_loose());
        assert_eq!(uri.headers, Some(&b"Subject=a%20b&x=y"[..]));
        assert!(uri.decoded_user().eq(b"alice;day=tue".iter().copied()));
    }

    //= RFC 3261 19.1.1 type=test
    #[test]
    fn a_uri_without_its_headers_is_the_rest_of_it() {
        for (whole, rest) in [
            ("sip:a@h;lr?x=y&z", "sip:a@h;lr"),
            ("sip:a?b@h?", "sip:a?b@h"),
            ("sip:a@h;lr", "sip:a@h;lr"),
        ] {
            assert_eq!(uri(whole).without_headers(), uri(rest), "{whole}");
        }
    }

    #[test]
    fn malformed_uris_are_named_so() {
        for bad in [
            "sip:",
            "sip:@h",
            "sip:a@",
            "sip:a b@h",
            "sip:a@h:0",
            "sip:a@h:99999",
            "sip:a@b@c",
            "sip:%zz@h",
            "sip:a@[::1",
            "sip:2001:db8::10",
            "sip:<a@h>",
            "",
            "sip",
            "sip:a@h\0",
        ] {
            assert_eq!(
                Uri::parse(bad.as_bytes()),
                Err(UriError::Malformed),
                "{bad}"
            );
        }
        assert_eq!(Uri::parse(b"tel:+123"), Err(UriError::Scheme));
        assert_eq!(
            Uri::parse(b"soap.beep://192.0.2.103:3002"),
            Err(UriError::Scheme)
        );
    }

    //= RFC 3966 3 type=test
    #[test]
    fn a_telephone_number_is_kept_as_written() {
        assert_eq!(
            Tel::parse(b"TEL:+1-201-555;phone-context=x"),
            Ok(Tel {
                number: b"+1-201-555",
                params: b";phone-context=x"
            })
        );
        assert_eq!(Tel::parse(b"tel:"), Err(UriError::Malformed));
        assert_eq!(Tel::parse(b"tel:x y"), Err(UriError::Malformed));
        assert_eq!(Tel::parse(b"sip:a"), Err(UriError::Scheme));
    }

    //= RFC 3261 19.1.4 type=test
    #[test]
    fn uris_that_mean_the_same_are_the_same() {
        for (left, right) in [
            (
                "sip:%61lice@atlanta.example;transport=TCP",
                "sip:alice@AtLanTa.Example;Transport=tcp",
            ),
            ("sip:carol@c.example", "sip:carol@c.example;newparam=5"),
            (
                "sip:carol@c.example;security=on",
                "sip:carol@c.example;newparam=5",
            ),
            (
                "sip:b.example;transport=tcp;method=REGISTER?to=sip:bob%40b.example",
                "sip:b.example;method=REGISTER;transport=tcp?to=sip:bob%40b.example",
            ),
            (
                "sip:alice@a.example?subject=project%20x&priority=urgent",
                "sip:alice@a.example?priority=urgent&subject=project%20x",
            ),
            ("sip:a@[::1]:5060", "sip:a@[0:0:0::1]:5060"),
            ("sip:a@h;x;x=1", "sip:a@h;x=1;x"),
        ] {
            assert!(uri(left).same(&uri(right)), "{left} = {right}");
            assert!(uri(right).same(&uri(left)), "{right} = {left}");
        }
    }

    //= RFC 3261 19.1.4 type=test
    #[test]
    fn uris_that_mean_something_else_are_not_the_same() {
        for (left, right) in [
            ("SIP:ALICE@a.example", "sip:alice@a.example"),
            ("sip:bob@b.example", "sip:bob@b.example:5060"),
            ("sip:bob@b.example", "sip:bob@b.example;transport=udp"),
            ("sip:bob@b.example", "sip:bob@b.example:6000;transport=tcp"),
            (
                "sip:carol@c.example",
                "sip:carol@c.example?Subject=next%20meeting",
            ),
            ("sip:bob@phone.example", "sip:bob@192.0.2.4"),
            ("sip:bob@b.example", "sips:bob@b.example"),
            ("sip:b.example", "sip:bob@b.example"),
            ("sip:bob:x@b.example", "sip:bob@b.example"),
            ("sip:c.example;security=on", "sip:c.example;security=off"),
            ("sip:a%3Bb@c.example", "sip:a;b@c.example"),
        ] {
            assert!(!uri(left).same(&uri(right)), "{left} != {right}");
            assert!(!uri(right).same(&uri(left)), "{right} != {left}");
        }
    }
}
