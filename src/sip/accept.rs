//! Media types, and which of them a peer accepts.

use super::lex::{self, Malformed};
use super::params::Params;
use super::values::Values;

/// `type/subtype` with its parameters; names have no regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    pub kind: &'a [u8],
    pub subtype: &'a [u8],
    pub params: Params<'a>,
}

impl<'a> MediaType<'a> {
    //= RFC 3261 20.15
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let raw = lex::trim(raw);
        let kind_end = lex::skip(raw, 0, lex::is_token);
        let slash = lex::skip_space(raw, kind_end);
        if raw.get(slash) != Some(&b'/') {
            return Err(Malformed);
        }
        let subtype_start = lex::skip_space(raw, slash + 1);
        let subtype_end = lex::skip(raw, subtype_start, lex::is_token);
        if kind_end == 0 || subtype_end == subtype_start {
            return Err(Malformed);
        }
        Ok(MediaType {
            kind: &raw[..kind_end],
            subtype: &raw[subtype_start..subtype_end],
            params: Params::parse(&raw[subtype_end..])?,
        })
    }

    /// Whether it is `full`, such as `application/pidf+xml`, whatever its parameters.
    pub fn is(&self, full: &str) -> bool {
        full.split_once('/').is_some_and(|(kind, subtype)| {
            lex::eq_ignore_case(self.kind, kind) && lex::eq_ignore_case(self.subtype, subtype)
        })
    }
}

/// One element of an Accept header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptRange<'a> {
    /// Either name may be `*`.
    pub media: MediaType<'a>,
    /// In thousandths, 0 to 1000.
    pub q: u16,
}

impl<'a> AcceptRange<'a> {
    //= RFC 3261 20.1
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let media = MediaType::parse(raw)?;
        let q = match media.params.get("q") {
            Some(param) => thousandths(param.value.ok_or(Malformed)?)?,
            None => 1000,
        };
        Ok(AcceptRange { media, q })
    }

    /// How closely it names `full`: 2 exactly, 1 by `type/*`, 0 by `*/*`; `None` not at all.
    fn closeness(&self, full: &str) -> Option<u8> {
        let (kind, _) = full.split_once('/')?;
        if self.media.is(full) {
            Some(2)
        } else if self.media.subtype != b"*" {
            None
        } else if lex::eq_ignore_case(self.media.kind, kind) {
            Some(1)
        } else if self.media.kind == b"*" {
            Some(0)
        } else {
            None
        }
    }
}

/// How much the Accept values `ranges` want `full`, in thousandths: what names it most closely decides.
/// `None`: they do not name it. Malformed elements are passed over.
pub fn quality<'a>(ranges: impl Iterator<Item = &'a [u8]>, full: &str) -> Option<u16> {
    ranges
        .filter_map(|raw| AcceptRange::parse(raw).ok())
        .filter_map(|range| Some((range.closeness(full)?, range.q)))
        .max()
        .map(|(_, q)| q)
}

/// The elements of one Accept value.
pub fn ranges(value: &[u8]) -> Values<'_> {
    Values::new(value)
}

fn thousandths(value: &[u8]) -> Result<u16, Malformed> {
    let (whole, fraction) = match memchr::memchr(b'.', value) {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &value[..0]),
    };
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    if whole.len() > 1 || value.len() == whole.len() && whole.is_empty() || fraction.len() > 3 {
        return Err(Malformed);
    }
    if !digits(whole) || !digits(fraction) {
        return Err(Malformed);
    }
    let mut sum = whole.first().map_or(0, |digit| u16::from(digit - b'0'));
    for place in 0..3 {
        sum = sum * 10
            + fraction
                .get(place)
                .map_or(0, |digit| u16::from(digit - b'0'));
    }
    if sum > 1000 {
        return Err(Malformed);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 3261 20.15 type=test
    #[test]
    fn a_media_type_is_compared_without_its_parameters() {
        let media = MediaType::parse(b"Application / PIDF+xml;charset=\"utf-8\"").unwrap();
        assert!(media.is("application/pidf+xml"));
        assert!(!media.is("application/pidf"));
        for bad in ["", "text", "text/", "/xml", "text/plain x"] {
            assert!(MediaType::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    //= RFC 3261 20.1 type=test
    #[test]
    fn the_closest_range_decides_and_not_the_highest_q() {
        let accept = b"text/*;q=0.3, application/pidf+xml;q=0.5, */*, application/x;q=0";
        let q = |full| quality(ranges(accept), full);
        assert_eq!(q("application/pidf+xml"), Some(500));
        assert_eq!(q("text/plain"), Some(300));
        assert_eq!(q("application/x"), Some(0));
        assert_eq!(q("image/png"), Some(1000));
        assert_eq!(quality(ranges(b"text/plain, ;;, x"), "image/png"), None);
    }

    #[test]
    fn q_has_at_most_three_places_and_at_most_one() {
        for (text, value) in [
            ("1", 1000),
            ("0", 0),
            ("0.5", 500),
            (".25", 250),
            ("1.000", 1000),
            ("0.001", 1),
            ("0.", 0),
        ] {
            assert_eq!(thousandths(text.as_bytes()), Ok(value), "{text}");
        }
        for bad in ["1.001", "2", "0.0001", "", "x", "0.x", "-1"] {
            assert_eq!(thousandths(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }
}
