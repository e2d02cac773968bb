//! Writing XML: escaping that can't be forgotten, into a growing vector or a slice of fixed length.
//! It writes what it is told, in order; it knows no document.

/// Where bytes go.
pub trait Sink {
    fn push(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn push(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A sink of fixed length that says in the end whether everything fitted.
pub struct Slice<'a> {
    out: &'a mut [u8],
    len: usize,
    overflown: bool,
}

impl<'a> Slice<'a> {
    /// Writes from the beginning of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Slice {
            out,
            len: 0,
            overflown: false,
        }
    }

    /// How many bytes were written; None if they were too many.
    pub fn finish(self) -> Option<usize> {
        (!self.overflown).then_some(self.len)
    }
}

impl Sink for Slice<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.out.get_mut(self.len..end) {
            Some(place) if !self.overflown => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.overflown = true,
        }
    }
}

/// Character data. What XML can't carry at all becomes U+FFFD.
pub fn text(out: &mut impl Sink, text: &str) {
    escaped(out, text, |character| match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#13;"),
        _ if !is_allowed(character) => Some("\u{fffd}"),
        _ => None,
    });
}

/// ` name="value"`.
pub fn attribute(out: &mut impl Sink, name: &str, value: &str) {
    out.push(b" ");
    out.push(name.as_bytes());
    out.push(b"=\"");
    attribute_value(out, value);
    out.push(b"\"");
}

/// ` name="value"`, or nothing where the value is empty.
pub fn attribute_if_any(out: &mut impl Sink, name: &str, value: &str) {
    if !value.is_empty() {
        attribute(out, name, value);
    }
}

/// `<name>text</name>`.
pub fn element(out: &mut impl Sink, name: &str, content: &str) {
    out.push(b"<");
    out.push(name.as_bytes());
    out.push(b">");
    text(out, content);
    out.push(b"</");
    out.push(name.as_bytes());
    out.push(b">");
}

/// A URI as a peer wrote it, as the value of an attribute. Octets that can't stand in XML are
/// percent-encoded, which is what a URI should have had in their place.
pub fn uri_value(out: &mut impl Sink, uri: &[u8]) {
    if uri.iter().all(is_plain) {
        return out.push(uri);
    }
    for chunk in uri.utf8_chunks() {
        let mut plain = chunk.valid();
        while let Some(place) = plain.find(|c: char| c.is_control() || !is_allowed(c)) {
            let (before, rest) = plain.split_at(place);
            attribute_value(out, before);
            let odd = rest.chars().next().expect("a character was found");
            percent(out, &rest.as_bytes()[..odd.len_utf8()]);
            plain = &rest[odd.len_utf8()..];
        }
        attribute_value(out, plain);
        percent(out, chunk.invalid());
    }
}

/// The value of an attribute, without its quotes.
fn attribute_value(out: &mut impl Sink, value: &str) {
    escaped(out, value, |character| match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        // Otherwise a reader takes them for spaces.
        '\t' => Some("&#9;"),
        '\n' => Some("&#10;"),
        '\r' => Some("&#13;"),
        _ if !is_allowed(character) => Some("\u{fffd}"),
        _ => None,
    });
}

fn percent(out: &mut impl Sink, octets: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for octet in octets {
        out.push(&[
            b'%',
            DIGITS[usize::from(octet >> 4)],
            DIGITS[usize::from(octet & 15)],
        ]);
    }
}

fn escaped(out: &mut impl Sink, text: &str, replacement: impl Fn(char) -> Option<&'static str>) {
    if text.as_bytes().iter().all(is_plain) {
        return out.push(text.as_bytes());
    }
    let mut start = 0;
    for (place, character) in text.char_indices() {
        if let Some(replacement) = replacement(character) {
            out.push(&text.as_bytes()[start..place]);
            out.push(replacement.as_bytes());
            start = place + character.len_utf8();
        }
    }
    out.push(&text.as_bytes()[start..]);
}

/// Whether an octet is a character that stands for itself everywhere: nearly all there are.
fn is_plain(octet: &u8) -> bool {
    PLAIN[usize::from(*octet)]
}

const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut octet = b' ';
    while octet <= b'~' {
        plain[octet as usize] = !matches!(octet, b'&' | b'<' | b'>' | b'"');
        octet += 1;
    }
    plain
};

/// Whether XML 1.0 can carry the character (its production `Char`).
pub fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_has_a_meaning_in_xml_is_escaped() {
        assert_eq!(
            written(|out| text(out, "a<b>&\"c\"\r\n\0")),
            "a&lt;b&gt;&amp;\"c\"&#13;\n\u{fffd}"
        );
        assert_eq!(
            written(|out| attribute(out, "x", "a<b>&\"c\"\r\n\t\u{1b}")),
            " x=\"a&lt;b&gt;&amp;&quot;c&quot;&#13;&#10;&#9;\u{fffd}\""
        );
    }

    #[test]
    fn a_uri_keeps_what_its_phone_wrote() {
        assert_eq!(
            written(|out| uri_value(out, b"sip:1001@pbx.example;x=\"<&>\"")),
            "sip:1001@pbx.example;x=&quot;&lt;&amp;&gt;&quot;"
        );
        assert_eq!(
            written(|out| uri_value(out, "sip:j\u{f6}rg@h\u{fffe}".as_bytes())),
            "sip:j\u{f6}rg@h%EF%BF%BE"
        );
        assert_eq!(
            written(|out| uri_value(out, b"sip:\xffa\n\0@h")),
            "sip:%FFa%0A%00@h"
        );
    }

    #[test]
    fn a_slice_takes_what_fits_and_says_so() {
        let mut out = [0; 5];
        let mut sink = Slice::new(&mut out);
        sink.push(b"abc");
        sink.push(b"de");
        assert_eq!(sink.finish(), Some(5));
        assert_eq!(&out, b"abcde");

        let mut sink = Slice::new(&mut out);
        sink.push(b"abcdef");
        sink.push(b"g");
        assert_eq!(sink.finish(), None);
    }
}
