//! Parameters of a header value: `;name`, `;name=value`, `;name="quoted value"`.

use super::lex::{self, Malformed};

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    pub name: &'a [u8],
    /// As written: with its quotes, if it has some.
    pub value: Option<&'a [u8]>,
}

impl<'a> Param<'a> {
    /// Names compare without regard to case.
    pub fn is(&self, name: &str) -> bool {
        lex::eq_ignore_case(self.name, name)
    }

    /// The value without its quotes; escapes inside stay.
    pub fn unquoted(&self) -> Option<&'a [u8]> {
        self.value.map(|value| match value {
            [b'"', inside @ .., b'"'] => inside,
            bare => bare,
        })
    }
}

/// Parameters whose grammar has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Params<'a> {
    raw: &'a [u8],
}

impl<'a> Params<'a> {
    /// `raw` is empty or begins with a semicolon, white space aside.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        Params::parse_each(raw, |_| Ok(()))
    }

    /// Checks the grammar and shows each parameter once on the way.
    pub(super) fn parse_each(
        raw: &'a [u8],
        mut see: impl FnMut(Param<'a>) -> Result<(), Malformed>,
    ) -> Result<Self, Malformed> {
        let mut at = 0;
        while let Some(param) = next(raw, &mut at)? {
            see(param)?;
        }
        Ok(Params { raw })
    }

    /// Not looked at: iterating ends at the first that is malformed.
    pub(super) const fn unchecked(raw: &'a [u8]) -> Self {
        Params { raw }
    }

    /// As written, with the leading semicolon.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// In the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let raw = self.raw;
        let mut at = 0;
        core::iter::from_fn(move || next(raw, &mut at).ok().flatten())
    }

    /// The first of this name.
    pub fn get(&self, name: &str) -> Option<Param<'a>> {
        self.iter().find(|param| param.is(name))
    }

    /// The value of the first of this name, as written.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.get(name)?.value
    }
}

/// The parameter that begins at `at`, which moves behind it; `None` at the end.
fn next<'a>(raw: &'a [u8], at: &mut usize) -> Result<Option<Param<'a>>, Malformed> {
    let start = lex::skip_space(raw, *at);
    if start == raw.len() {
        *at = start;
        return Ok(None);
    }
    if raw[start] != b';' {
        return Err(Malformed);
    }
    let name_start = lex::skip_space(raw, start + 1);
    let name_end = lex::skip(raw, name_start, lex::is_token);
    if name_end == name_start {
        return Err(Malformed);
    }
    let name = &raw[name_start..name_end];
    let after_name = lex::skip_space(raw, name_end);
    if raw.get(after_name) != Some(&b'=') {
        *at = after_name;
        return Ok(Some(Param { name, value: None }));
    }
    let value_start = lex::skip_space(raw, after_name + 1);
    let value_end = match raw.get(value_start) {
        Some(b'"') => lex::quoted_end(raw, value_start).ok_or(Malformed)?,
        Some(_) | None => lex::skip(raw, value_start, lex::is_value),
    };
    if value_end == value_start {
        return Err(Malformed);
    }
    *at = value_end;
    Ok(Some(Param {
        name,
        value: Some(&raw[value_start..value_end]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tokens_and_quoted_values_are_told_apart() {
        let params = Params::parse(b" ;lr; a = b\r\n ;C=\"x;y\\\"z\";d=[::1]").unwrap();
        let all: Vec<_> = params.iter().map(|p| (p.name, p.value)).collect();
        assert_eq!(
            all,
            [
                (&b"lr"[..], None),
                (b"a", Some(&b"b"[..])),
                (b"C", Some(br#""x;y\"z""#)),
                (b"d", Some(b"[::1]")),
            ]
        );
        assert_eq!(params.get("c").unwrap().unquoted(), Some(&br#"x;y\"z"#[..]));
        assert_eq!(params.value("lr"), None);
        assert!(params.get("LR").is_some());
        assert!(params.get("e").is_none());
    }

    #[test]
    fn empty_names_empty_values_and_open_quotes_are_malformed() {
        for bad in [
            ";",
            ";;a",
            "a=b",
            ";a=",
            ";=b",
            ";a=\"x",
            ";a=b c",
            ";a=b,c",
            ";a=\"x\"y",
            ";a b",
        ] {
            assert_eq!(Params::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        assert!(Params::parse(b"").is_ok());
        assert!(Params::parse(b" \r\n ").is_ok());
    }
}
