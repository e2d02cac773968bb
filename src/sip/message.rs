//! A message in place: where its start line, its headers and its body are, and how to ask for them.
//! Nothing is copied, and nothing judged but whether it can be read at all.

use super::method::Method;
use super::name::Name;
use super::request::Refusal;
use super::scan::{line_end, scan, split_line};
use super::values::Values;

/// What stands in the first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    Request {
        method: Method<'a>,
        /// The Request-URI as written.
        uri: &'a [u8],
    },
    /// 100 to 699.
    Response { status: u16 },
}

/// Why nothing can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing, line ends or NULs: a keep-alive.
    KeepAlive,
    /// A STUN message on the SIP port.
    Stun,
    /// The first line is none of SIP's.
    StartLine,
    /// A response of another SIP version, or with a status out of range.
    Response,
    /// The empty line behind the headers did not come.
    NoEnd,
    /// The headers reach beyond 65,535 bytes: their places are kept in 16 bits.
    TooLong,
}

/// Where one known header is: its first occurrence, and how many header lines there are of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub start: u16,
    pub end: u16,
    pub count: u16,
}

/// A message whose parts have been found, borrowed from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// From the first byte of the start line to the last of the empty line.
    pub(super) head: &'a [u8],
    /// The index in `head` of the first header line.
    pub(super) headers: u16,
    pub start: Start<'a>,
    pub body: &'a [u8],
    pub(super) places: [Place; Name::COUNT],
    pub(super) flaw: Option<Refusal>,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written.
    pub name: &'a [u8],
    /// Which of the known ones it is.
    pub known: Option<Name>,
    /// Trimmed; folds inside stay.
    pub value: &'a [u8],
}

impl<'a> Message<'a> {
    /// Scans a whole datagram, or a whole message of a stream.
    pub fn scan(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        scan(bytes, false)
    }

    /// Scans the beginning of a datagram that was cut at the receive buffer's end. What comes out can be refused
    /// with 513, nothing else; a header line that did not come whole is left out.
    pub fn scan_cut(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        scan(bytes, true)
    }

    /// The value of the first header of this name, trimmed; folds inside stay.
    pub fn first(&self, name: Name) -> Option<&'a [u8]> {
        let place = self.places[name as usize];
        (place.count > 0).then(|| &self.head[usize::from(place.start)..usize::from(place.end)])
    }

    /// How many header lines of this name there are.
    pub fn count(&self, name: Name) -> usize {
        usize::from(self.places[name as usize].count)
    }

    /// Whether there is a header of this name.
    pub fn has(&self, name: Name) -> bool {
        self.count(name) > 0
    }

    /// The value of every header line of this name, in order, trimmed, not split.
    pub fn lines_of(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let place = self.places[name as usize];
        let first = self.first(name);
        let mut left = place.count.saturating_sub(1);
        let mut at = usize::from(place.end);
        let head = self.head;
        // The tail of the first line is what follows its trimmed value: white space and the line end.
        if left > 0 {
            at = line_end(head, at).map_or(head.len(), |end| end.next);
        }
        first.into_iter().chain(core::iter::from_fn(move || {
            while left > 0 {
                let line = next_line(head, &mut at)?;
                if line.known == Some(name) {
                    left -= 1;
                    return Some(line.value);
                }
            }
            None
        }))
    }

    /// Every value of every header line of this name, in order: comma-joined ones are split, empty ones left out.
    //= RFC 3261 7.3.1
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines_of(name).flat_map(Values::new)
    }

    /// The header lines in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let head = self.head;
        let mut at = usize::from(self.headers);
        core::iter::from_fn(move || next_line(head, &mut at))
    }

    /// Everything up to and including the empty line.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// The method of a request.
    pub fn method(&self) -> Option<Method<'a>> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }
}

/// The next well-formed header line at or after `at`; `None` at the empty line.
fn next_line<'a>(head: &'a [u8], at: &mut usize) -> Option<Line<'a>> {
    loop {
        if let [b'\r', b'\n', ..] | [b'\n', ..] | [] = head[*at..] {
            return None;
        }
        let end = line_end(head, *at)?;
        let start = core::mem::replace(at, end.next);
        if let Some((name, known, value_start)) = split_line(head, start, end.end) {
            let value = &head[value_start..end.end];
            return Some(Line { name, known, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: &str = "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n";

    fn scanned(text: &str) -> Message<'_> {
        Message::scan(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}: {text}"))
    }

    //= RFC 3261 7.5 type=test
    #[test]
    fn the_parts_of_a_request_are_found() {
        let text = format!("\r\n\r\nOPTIONS sip:h SIP/2.0\r\n{HEADERS}l: 4\r\n\r\nbodyrest");
        let message = scanned(&text);
        assert_eq!(
            message.start,
            Start::Request {
                method: Method::Options,
                uri: b"sip:h"
            }
        );
        assert_eq!(message.body, b"body");
        assert_eq!(message.first(Name::From), Some(&b"<sip:a@h>;tag=1"[..]));
        assert_eq!(message.first(Name::To), None);
        assert_eq!(message.count(Name::ContentLength), 1);
        assert!(message.head().ends_with(b"\r\n\r\n"));
        let names: Vec<_> = message.lines().map(|line| line.name).collect();
        assert_eq!(names, [&b"Via"[..], b"From", b"l"]);
    }

    //= RFC 3261 7.3.1 type=test
    #[test]
    fn repeated_folded_and_comma_joined_headers_are_one_list() {
        let text = "OPTIONS sip:h SIP/2.0\r\nROUTE : <sip:a,b>,\r\n\t<sip:c> \r\nVia: v\r\nroute:<sip:d>\r\n ;x=1\r\n\r\n";
        let message = scanned(text);
        let values: Vec<_> = message.values(Name::Route).collect();
        assert_eq!(values, [&b"<sip:a,b>"[..], b"<sip:c>", b"<sip:d>\r\n ;x=1"]);
        assert_eq!(message.lines_of(Name::Route).count(), 2);
        assert_eq!(message.count(Name::Route), 2);
        assert_eq!(message.values(Name::Via).count(), 1);
        assert_eq!(message.values(Name::To).count(), 0);
    }

    #[test]
    fn a_header_of_nothing_is_there_and_empty() {
        let message =
            scanned("OPTIONS sip:h SIP/2.0\r\nSupported:\r\nAccept: \r\n \r\nTo: x\r\n\r\n");
        assert_eq!(message.first(Name::Supported), Some(&b""[..]));
        assert_eq!(message.first(Name::Accept), Some(&b""[..]));
        assert_eq!(message.first(Name::To), Some(&b"x"[..]));
    }

    #[test]
    fn lines_may_end_without_a_carriage_return() {
        let message = scanned("OPTIONS sip:h SIP/2.0\nTo: x\n y\nl: 1\n\nbc");
        assert_eq!(message.first(Name::To), Some(&b"x\n y"[..]));
        assert_eq!(message.body, b"b");
    }
}
