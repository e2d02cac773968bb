//! Credentials and challenges: `Digest name=value, name="quoted value"`.
//!
//! Commas separate parameters here, so these values must not be split with `Message::values`;
//! take each header line as a whole (`Message::lines_of`).

use super::lex::{self, Malformed};

/// The value of Authorization, Proxy-Authorization, WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub scheme: &'a [u8],
    rest: &'a [u8],
}

/// One parameter of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthParam<'a> {
    pub name: &'a [u8],
    /// Without quotes; escapes stay.
    pub value: &'a [u8],
    pub quoted: bool,
}

impl<'a> AuthParam<'a> {
    /// Names compare without regard to case.
    pub fn is(&self, name: &str) -> bool {
        lex::eq_ignore_case(self.name, name)
    }

    /// Whether `value` holds escapes that [`AuthParam::unescaped`] would undo.
    pub fn has_escapes(&self) -> bool {
        self.quoted && memchr::memchr(b'\\', self.value).is_some()
    }

    /// The value with its quoted pairs undone.
    pub fn unescaped(&self) -> impl Iterator<Item = u8> + use<'a> {
        let (value, quoted) = (self.value, self.quoted);
        let mut at = 0;
        core::iter::from_fn(move || {
            if quoted && value.get(at) == Some(&b'\\') && at + 1 < value.len() {
                at += 1;
            }
            let byte = *value.get(at)?;
            at += 1;
            Some(byte)
        })
    }
}

impl<'a> Credentials<'a> {
    /// Checks the grammar of every parameter. A scheme that has other contents than parameters
    /// (`Bearer token`) is parsed with [`Credentials::scheme_of`].
    //= RFC 3261 25.1
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let (scheme, rest) = Credentials::scheme_of(raw)?;
        let mut at = 0;
        while next(rest, &mut at)?.is_some() {}
        Ok(Credentials { scheme, rest })
    }

    /// The scheme, and all that follows it.
    pub fn scheme_of(raw: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        let raw = lex::trim(raw);
        let end = lex::skip(raw, 0, lex::is_token);
        match raw.get(end) {
            Some(byte) if end > 0 && lex::is_space(*byte) => {
                Ok((&raw[..end], lex::trim(&raw[end..])))
            }
            Some(_) | None => Err(Malformed),
        }
    }

    /// Whether the scheme is `name`, in any case.
    pub fn is(&self, name: &str) -> bool {
        lex::eq_ignore_case(self.scheme, name)
    }

    /// The parameters in order. A name may come twice; refusing that is the caller's.
    pub fn params(&self) -> impl Iterator<Item = AuthParam<'a>> + use<'a> {
        let rest = self.rest;
        let mut at = 0;
        core::iter::from_fn(move || next(rest, &mut at).ok().flatten())
    }

    /// The first parameter of this name.
    pub fn get(&self, name: &str) -> Option<AuthParam<'a>> {
        self.params().find(|param| param.is(name))
    }
}

/// The parameter at `at`, which moves behind it and its comma. Empty elements are passed over.
fn next<'a>(raw: &'a [u8], at: &mut usize) -> Result<Option<AuthParam<'a>>, Malformed> {
    let start = lex::skip(raw, *at, |byte| byte == b',' || lex::is_space(byte));
    if start == raw.len() {
        *at = start;
        return Ok(None);
    }
    let name_end = lex::skip(raw, start, lex::is_token);
    let equals = lex::skip_space(raw, name_end);
    if name_end == start || raw.get(equals) != Some(&b'=') {
        return Err(Malformed);
    }
    let value_start = lex::skip_space(raw, equals + 1);
    let quoted = raw.get(value_start) == Some(&b'"');
    let (value, value_end) = if quoted {
        let end = lex::quoted_end(raw, value_start).ok_or(Malformed)?;
        (&raw[value_start + 1..end - 1], end)
    } else {
        // Wider than a token: some clients leave the quotes of a URI or of base64 out.
        let end = lex::skip(raw, value_start, lex::is_value);
        if end == value_start {
            return Err(Malformed);
        }
        (&raw[value_start..end], end)
    };
    let after = lex::skip_space(raw, value_end);
    match raw.get(after) {
        None | Some(b',') => {
            *at = after;
            Ok(Some(AuthParam {
                name: &raw[start..name_end],
                value,
                quoted,
            }))
        }
        Some(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 3261 25.1 type=test
    #[test]
    fn digest_credentials_come_apart() {
        let raw = b"Digest username=\"b\\\"ob\", realm=\"a, b\",\r\n nc=00000001, qop=auth ,uri=\"sip:x;y=z\", response=\"\"";
        let credentials = Credentials::parse(raw).unwrap();
        assert!(credentials.is("digest"));
        let username = credentials.get("USERNAME").unwrap();
        assert_eq!(username.value, br#"b\"ob"#);
        assert!(username.has_escapes());
        assert!(username.unescaped().eq(br#"b"ob"#.iter().copied()));
        assert_eq!(credentials.get("realm").unwrap().value, b"a, b");
        assert_eq!(credentials.get("nc").unwrap().value, b"00000001");
        assert_eq!(credentials.get("uri").unwrap().value, b"sip:x;y=z");
        assert_eq!(credentials.get("response").unwrap().value, b"");
        assert_eq!(credentials.params().count(), 6);
    }

    #[test]
    fn broken_credentials_are_malformed() {
        for bad in [
            "",
            "Digest",
            "Digest x",
            "Digest x=",
            "Digest =y",
            "Digest x=\"y",
            "Digest x=y z=w",
            "Digest x=\"y\"z",
            "\"Digest\" x=y",
        ] {
            assert_eq!(Credentials::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn a_token_scheme_is_recognised_without_parameters() {
        assert_eq!(
            Credentials::scheme_of(b"Bearer  abc.def=="),
            Ok((&b"Bearer"[..], &b"abc.def=="[..]))
        );
    }
}
