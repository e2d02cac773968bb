//! One pass over a message: where the start line, the headers and the body are.
//!
//! The scanner judges only what it must to find its way; a message that can still be answered comes out,
//! with the first thing that is wrong with it kept for `Message::request` to refuse it by.

use super::lex;
use super::limits::{HEAD_OCTETS_MAX, HEADER_LINES_MAX};
use super::method::Method;
use super::name::Name;
use super::request::Refusal;
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
    /// The headers are longer than `HEAD_OCTETS_MAX`.
    TooLong,
}

/// Where one known header is: its first occurrence, and how many header lines there are of it.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u16,
    end: u16,
    count: u16,
}

/// A message whose parts have been found, borrowed from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// From the first byte of the start line to the last of the empty line.
    head: &'a [u8],
    /// The index in `head` of the first header line.
    headers: u16,
    pub start: Start<'a>,
    pub body: &'a [u8],
    places: [Place; Name::COUNT],
    pub(super) flaw: Option<Refusal>,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written.
    pub name: &'a [u8],
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
                if Name::of(line.name) == Some(name) {
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

fn scan(bytes: &[u8], cut: bool) -> Result<Message<'_>, Unreadable> {
    let text = skip_line_ends(bytes)?;
    let line = line_end(text, 0).ok_or(Unreadable::NoEnd)?;
    let (start, mut flaw) = start_line(&text[..line.end])?;
    if line.folded {
        note(&mut flaw, 400, "Malformed Start Line");
    }
    let mut places = [Place::default(); Name::COUNT];
    let mut at = line.next;
    let mut lines = 0;
    let mut length = Length::Absent;
    let headers = offset(at)?;
    let body_start = loop {
        match text[at..] {
            [b'\r', b'\n', ..] => break at + 2,
            [b'\n', ..] => break at + 1,
            _ => {}
        }
        let Some(end) = line_end(text, at) else {
            if cut {
                break at;
            }
            return Err(Unreadable::NoEnd);
        };
        let value_end = offset(end.end)?;
        lines += 1;
        match split_line(text, at, end.end) {
            Some((name, value_start)) => {
                if let Some(name) = Name::of(name) {
                    let place = &mut places[name as usize];
                    place.count += 1;
                    if place.count == 1 {
                        place.start = value_start as u16;
                        place.end = value_end;
                    }
                    if name == Name::ContentLength {
                        length.see(&text[value_start..end.end]);
                    }
                }
            }
            None => note(&mut flaw, 400, "Malformed Header"),
        }
        at = end.next;
    };
    if lines > HEADER_LINES_MAX {
        note(&mut flaw, 513, "Too Many Headers");
    }
    let rest = &text[body_start..];
    let body = if cut {
        flaw = Some(Refusal::new(513, "Message Too Large"));
        rest
    } else {
        length.body(rest, &mut flaw)
    };
    Ok(Message {
        head: &text[..body_start],
        headers,
        start,
        body,
        places,
        flaw,
    })
}

/// The first thing that is wrong is what the peer is told.
fn note(flaw: &mut Option<Refusal>, status: u16, reason: &'static str) {
    flaw.get_or_insert(Refusal::new(status, reason));
}

fn offset(at: usize) -> Result<u16, Unreadable> {
    const { assert!(HEAD_OCTETS_MAX == u16::MAX as usize) };
    u16::try_from(at).map_err(|_| Unreadable::TooLong)
}

/// Line ends before the start line are passed over; what is no SIP at all is named.
//= RFC 3261 7.5
fn skip_line_ends(bytes: &[u8]) -> Result<&[u8], Unreadable> {
    let at = lex::skip(bytes, 0, |byte| byte == b'\r' || byte == b'\n');
    let text = &bytes[at..];
    match text.first() {
        None => Err(Unreadable::KeepAlive),
        Some(0) if text.iter().all(|&byte| byte == 0) => Err(Unreadable::KeepAlive),
        //= RFC 5389 6
        Some(first) if first & 0xc0 == 0 && text.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42]) => {
            Err(Unreadable::Stun)
        }
        Some(_) => Ok(text),
    }
}

/// Where a line ends, folds included: the index after its last visible byte, and the index of the next line.
struct LineEnd {
    end: usize,
    next: usize,
    folded: bool,
}

fn line_end(text: &[u8], start: usize) -> Option<LineEnd> {
    let mut next = start;
    let mut folded = false;
    loop {
        next += memchr::memchr(b'\n', text.get(next..)?)? + 1;
        match text.get(next) {
            //= RFC 3261 7.3.1
            Some(b' ' | b'\t') => folded = true,
            Some(_) | None => break,
        }
    }
    let mut end = next - 1;
    while end > start && lex::is_space(text[end - 1]) {
        end -= 1;
    }
    Some(LineEnd { end, next, folded })
}

/// Name and the index of the value of the header line from `start` to `end`; `None` if it has no name.
fn split_line(text: &[u8], start: usize, end: usize) -> Option<(&[u8], usize)> {
    let name_end = lex::skip(&text[..end], start, lex::is_token);
    let colon = lex::skip_space(&text[..end], name_end);
    if name_end == start || text[..end].get(colon) != Some(&b':') {
        return None;
    }
    Some((
        &text[start..name_end],
        lex::skip_space(&text[..end], colon + 1),
    ))
}

/// The next well-formed header line at or after `at`; `None` at the empty line.
fn next_line<'a>(head: &'a [u8], at: &mut usize) -> Option<Line<'a>> {
    loop {
        if let [b'\r', b'\n', ..] | [b'\n', ..] | [] = head[*at..] {
            return None;
        }
        let end = line_end(head, *at)?;
        let start = core::mem::replace(at, end.next);
        if let Some((name, value_start)) = split_line(head, start, end.end) {
            let value = &head[value_start..end.end];
            return Some(Line { name, value });
        }
    }
}

fn start_line(line: &[u8]) -> Result<(Start<'_>, Option<Refusal>), Unreadable> {
    if let Some(rest) = line.strip_prefix(b"SIP/2.0 ") {
        return match *rest {
            [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9'] => Ok((response(a, b, c), None)),
            [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
                Ok((response(a, b, c), None))
            }
            _ => Err(Unreadable::Response),
        };
    }
    if line.len() >= 4 && lex::eq_ignore_case(&line[..4], "SIP/") {
        return Err(Unreadable::Response);
    }
    request_line(line)
}

fn response(a: u8, b: u8, c: u8) -> Start<'static> {
    let digit = |byte: u8| u16::from(byte - b'0');
    Start::Response {
        status: digit(a) * 100 + digit(b) * 10 + digit(c),
    }
}

//= RFC 3261 7.1
fn request_line(line: &[u8]) -> Result<(Start<'_>, Option<Refusal>), Unreadable> {
    let method_end = memchr::memchr(b' ', line).ok_or(Unreadable::StartLine)?;
    let uri_end = memchr::memrchr(b' ', line).ok_or(Unreadable::StartLine)?;
    let method = Method::parse(&line[..method_end]).ok_or(Unreadable::StartLine)?;
    let version = &line[uri_end + 1..];
    if version.len() < 4 || !lex::eq_ignore_case(&version[..4], "SIP/") {
        return Err(Unreadable::StartLine);
    }
    let uri = line.get(method_end + 1..uri_end).unwrap_or(&[]);
    let mut flaw = None;
    if !lex::eq_ignore_case(version, "SIP/2.0") {
        note(&mut flaw, 505, "Version Not Supported");
    }
    if uri.is_empty() || !lex::all(uri, lex::is_uri) {
        note(&mut flaw, 400, "Malformed Request-URI");
    }
    Ok((Start::Request { method, uri }, flaw))
}

/// What the Content-Length headers say.
enum Length {
    Absent,
    Given(u64),
    Malformed,
}

impl Length {
    //= RFC 3261 20.14
    fn see(&mut self, value: &[u8]) {
        *self = match (&*self, lex::decimal(value)) {
            (Length::Absent, Some(length)) => Length::Given(length),
            (Length::Given(before), Some(length)) if *before == length => Length::Given(length),
            (Length::Absent | Length::Given(_) | Length::Malformed, _) => Length::Malformed,
        };
    }

    /// What comes beyond the length is ignored; without one the body reaches to the end.
    //= RFC 3261 18.3
    fn body<'a>(&self, rest: &'a [u8], flaw: &mut Option<Refusal>) -> &'a [u8] {
        match *self {
            Length::Absent => rest,
            Length::Given(length) => match usize::try_from(length).ok().and_then(|n| rest.get(..n))
            {
                Some(body) => body,
                None => {
                    note(flaw, 400, "Body Shorter Than Content-Length");
                    rest
                }
            },
            Length::Malformed => {
                note(flaw, 400, "Malformed Content-Length");
                rest
            }
        }
    }
}
