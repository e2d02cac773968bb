//! Name-addr and addr-spec: From, To, Contact, Route, Record-Route.

use super::lex::{self, Malformed};
use super::params::Params;
use super::uri::{self, Uri, UriError};
use super::via::set_once;

/// An address with what stands around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    pub raw: &'a [u8],
    /// As written: with its quotes, if it has some; empty if there is none.
    pub display: &'a [u8],
    /// What stands in the angle brackets: a well-formed URI of some scheme.
    pub uri: &'a [u8],
    /// What follows the brackets.
    pub params: Params<'a>,
    /// The `tag` parameter.
    pub tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    //= RFC 3261 20
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let (display, uri, rest) = split(raw)?;
        uri::check(uri)?;
        let mut tag = None;
        let params = Params::parse_each(rest, |param| {
            if param.is("tag") {
                set_once(&mut tag, param.value.ok_or(Malformed)?)
            } else {
                Ok(())
            }
        })?;
        Ok(NameAddr {
            raw,
            display,
            uri,
            params,
            tag,
        })
    }

    /// The tag of an address that need not be well-formed in its URI.
    pub(super) fn tag_in(raw: &'a [u8]) -> Option<&'a [u8]> {
        let (_, _, rest) = split(raw).ok()?;
        Params::parse(rest).ok()?.value("tag")
    }

    /// The URI taken apart, if it is a SIP or SIPS one.
    pub fn sip_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }
}

type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Display name, URI, and what follows.
fn split(raw: &[u8]) -> Result<Parts<'_>, Malformed> {
    let raw = lex::trim(raw);
    if raw.first() == Some(&b'"') {
        let display_end = lex::quoted_end(raw, 0).ok_or(Malformed)?;
        let open = lex::skip_space(raw, display_end);
        if raw.get(open) != Some(&b'<') {
            return Err(Malformed);
        }
        return bracketed(raw, &raw[..display_end], open);
    }
    match lex::find_near(b'<', raw) {
        Some(open) => {
            let display = lex::trim(&raw[..open]);
            if !lex::all(display, may_stand_unquoted) {
                return Err(Malformed);
            }
            bracketed(raw, display, open)
        }
        None => bare(raw),
    }
}

fn bracketed<'a>(raw: &'a [u8], display: &'a [u8], open: usize) -> Result<Parts<'a>, Malformed> {
    let close = open + lex::find_near(b'>', &raw[open..]).ok_or(Malformed)?;
    Ok((display, &raw[open + 1..close], &raw[close + 1..]))
}

/// Without brackets every parameter belongs to the header, and the URI may hold no comma, question mark or semicolon.
//= RFC 3261 20.10
fn bare(raw: &[u8]) -> Result<Parts<'_>, Malformed> {
    let ends_uri = |byte: u8| byte == b';' || lex::is_space(byte);
    let end = lex::skip(raw, 0, |byte| !(byte == b';' || lex::is_space(byte)));
    debug_assert!(raw.get(end).is_none_or(|&byte| ends_uri(byte)));
    let uri = &raw[..end];
    if !lex::all(uri, |byte| byte != b'?' && byte != b',') {
        return Err(Malformed);
    }
    Ok((&raw[..0], uri, &raw[end..]))
}

/// RFC 3261 wants tokens; phones write names. What would change the meaning is refused, the rest let through.
fn may_stand_unquoted(byte: u8) -> bool {
    let separates = matches!(byte, b'"' | b',' | b';' | b':' | b'>' | b'\\' | 0x7f);
    lex::is_space(byte) || (byte > b' ' && !separates)
}

/// A Contact value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact<'a> {
    /// `*`: every binding, in REGISTER only.
    Star,
    Address(NameAddr<'a>),
}

impl<'a> Contact<'a> {
    //= RFC 3261 20.10
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        match lex::trim(raw) {
            b"*" => Ok(Contact::Star),
            address => NameAddr::parse(address).map(Contact::Address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes()).unwrap_or_else(|_| panic!("{text}"))
    }

    //= RFC 3261 20 type=test
    #[test]
    fn display_names_are_kept_as_written() {
        for (text, display) in [
            (
                r#""A \"B\" <x>, ; C" <sip:a@h>;tag=1"#,
                r#""A \"B\" <x>, ; C""#,
            ),
            ("Anna Bell <sip:a@h>;tag=1", "Anna Bell"),
            ("caller<sip:a@h>;tag=1", "caller"),
            ("\"\"<sip:a@h>;tag=1", "\"\""),
            ("<sip:a@h>;tag=1", ""),
            ("Jürgen <sip:a@h>;tag=1", "Jürgen"),
        ] {
            let address = parse(text);
            assert_eq!(address.display, display.as_bytes(), "{text}");
            assert_eq!(address.uri, b"sip:a@h", "{text}");
            assert_eq!(address.tag, Some(&b"1"[..]), "{text}");
        }
    }

    //= RFC 3261 20.10 type=test
    #[test]
    fn parameters_in_the_brackets_belong_to_the_uri_and_others_to_the_header() {
        let address = parse("<sip:a@h;tag=in?x=y>;p=1 ; TAG = out");
        assert_eq!(address.uri, b"sip:a@h;tag=in?x=y");
        assert_eq!(address.tag, Some(&b"out"[..]));
        let address = parse("sip:a@h ; tag=2");
        assert_eq!(
            (address.uri, address.tag),
            (&b"sip:a@h"[..], Some(&b"2"[..]))
        );
        let address = parse("isbn:2983792873");
        assert_eq!((address.uri, address.tag), (&b"isbn:2983792873"[..], None));
    }

    #[test]
    fn broken_addresses_are_malformed() {
        for bad in [
            "",
            "<sip:a@h",
            "\"x <sip:a@h>",
            "\"x\" sip:a@h",
            "< sip:a@h >",
            "<>",
            "<sip:>",
            "sip:a@h?x=y",
            "A, B <sip:a@h>",
            "<sip:a@h>;tag=1;tag=2",
            "<sip:a@h>;tag",
            "<sip:a@h>;;",
            "<sip:a@h> x",
            "<a@h>",
            "sip:a@h <sip:b@h>",
            "<sip:a@h:99999>",
            "<sip:a@h>>",
        ] {
            assert_eq!(NameAddr::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    //= RFC 3261 20.10 type=test
    #[test]
    fn a_star_is_a_contact_of_its_own() {
        assert_eq!(Contact::parse(b" * "), Ok(Contact::Star));
        assert!(matches!(
            Contact::parse(b"<sip:a@h>"),
            Ok(Contact::Address(_))
        ));
        assert_eq!(Contact::parse(b"**"), Err(Malformed));
    }
}
