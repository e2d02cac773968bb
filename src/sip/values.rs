//! Splits a header value at its commas, leaving those in quotes and angle brackets alone.

use super::lex;

/// The elements of one comma-joined value, trimmed, empty ones left out.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    pub fn new(value: &'a [u8]) -> Self {
        Values { rest: value }
    }

    /// What has not been returned yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = element_end(self.rest);
            let element = lex::trim(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

/// The index of the first comma that separates, or the length.
/// A quote or bracket that never closes takes the rest with it: the element is malformed, and stays one.
fn element_end(value: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr3(b',', b'"', b'<', &value[at..]) {
        at += found;
        match value[at] {
            b',' => return at,
            b'"' => match lex::quoted_end(value, at) {
                Some(end) => at = end,
                None => return value.len(),
            },
            _ => match memchr::memchr(b'>', &value[at..]) {
                Some(closing) => at += closing + 1,
                None => return value.len(),
            },
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(value: &str) -> Vec<&str> {
        Values::new(value.as_bytes())
            .map(|element| core::str::from_utf8(element).unwrap())
            .collect()
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        assert_eq!(
            split(r#""a, \"b" <sip:x,y@z>;p=1 ,<sip:b>,, c"#),
            [r#""a, \"b" <sip:x,y@z>;p=1"#, "<sip:b>", "c"]
        );
        assert_eq!(split(" , ,"), [""; 0]);
    }

    #[test]
    fn an_open_quote_or_bracket_takes_the_rest() {
        assert_eq!(split(r#"a,"b,c"#), ["a", r#""b,c"#]);
        assert_eq!(split("a,<b,c"), ["a", "<b,c"]);
    }
}
