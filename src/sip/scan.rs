//! The one pass over a message: where the start line, the headers and the body are.
//!
//! It judges only what it must to find its way; a message that can still be answered comes out, with the first thing
//! that is wrong with it kept for `Message::request` to refuse it by.

use crate::config::limits;

use super::lex;
use super::message::{Message, Place, Start, Unreadable};
use super::method::Method;
use super::name::Name;
use super::request::Refusal;

/// `cut`: what came is the beginning of a longer datagram.
pub(super) fn scan(bytes: &[u8], cut: bool) -> Result<Message<'_>, Unreadable> {
    let text = skip_line_ends(bytes)?;
    let line = line_end(text, 0).ok_or(Unreadable::NoEnd)?;
    // Not trimmed as header lines are: spaces behind the start line are an error of their own.
    let first_line = &text[..line.next - 1];
    let first_line = first_line.strip_suffix(b"\r").unwrap_or(first_line);
    let (start, mut flaw) = start_line(first_line)?;
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
            Some((_, Some(name), value_start)) => {
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
            Some((_, None, _)) => {}
            None => note(&mut flaw, 400, "Malformed Header"),
        }
        at = end.next;
    };
    if lines > limits::HEADERS {
        note(&mut flaw, 400, "Too Many Headers");
    }
    if body_start > limits::HEADER_BYTES {
        note(&mut flaw, 400, "Headers Too Long");
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
    const { assert!(limits::HEADER_BYTES <= u16::MAX as usize) };
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
pub(super) struct LineEnd {
    pub end: usize,
    pub next: usize,
    pub folded: bool,
}

#[inline]
pub(super) fn line_end(text: &[u8], start: usize) -> Option<LineEnd> {
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
    let line = &text[start..next - 1];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = start + lex::trim_end(line).len();
    Some(LineEnd { end, next, folded })
}

/// Name and the index of the value of the header line from `start` to `end`; `None` if it has no name.
#[inline]
pub(super) fn split_line(
    text: &[u8],
    start: usize,
    end: usize,
) -> Option<(&[u8], Option<Name>, usize)> {
    let line = &text[start..end];
    let colon = lex::find_near(b':', line)?;
    let name = lex::trim_end(&line[..colon]);
    let known = Name::of(name);
    if known.is_none() && !lex::is_all_token(name) {
        return None;
    }
    Some((name, known, start + lex::skip_space(line, colon + 1)))
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
    let mut flaw = None;
    let whole = line;
    let line = line.trim_ascii_end();
    if line.len() != whole.len() {
        note(&mut flaw, 400, "Malformed Start Line");
    }
    let method_end = memchr::memchr(b' ', line).ok_or(Unreadable::StartLine)?;
    let uri_end = memchr::memrchr(b' ', line).ok_or(Unreadable::StartLine)?;
    let method = Method::parse(&line[..method_end]).ok_or(Unreadable::StartLine)?;
    let version = &line[uri_end + 1..];
    if version.len() < 4 || !lex::eq_ignore_case(&version[..4], "SIP/") {
        return Err(Unreadable::StartLine);
    }
    let uri = line.get(method_end + 1..uri_end).unwrap_or(&[]);
    //= RFC 3261 21.5.6
    if !lex::eq_ignore_case(version, "SIP/2.0") {
        note(&mut flaw, 505, "Version Not Supported");
    }
    if uri.len() > limits::URI_BYTES {
        note(&mut flaw, 414, "Request-URI Too Long");
    }
    if uri.is_empty() || !lex::all(uri, lex::is_uri) {
        note(&mut flaw, 400, "Malformed Request-URI");
    }
    Ok((Start::Request { method, uri }, flaw))
}

/// What the Content-Length headers say.
pub(super) enum Length {
    Absent,
    Given(u64),
    Malformed,
}

impl Length {
    //= RFC 3261 20.14
    pub(super) fn see(&mut self, value: &[u8]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: &str = "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n";

    fn scanned(text: &str) -> Message<'_> {
        Message::scan(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}: {text}"))
    }

    fn flaw(text: &str) -> Option<u16> {
        scanned(text).flaw.map(|flaw| flaw.status)
    }

    #[test]
    fn the_status_of_a_response_is_read_and_its_phrase_is_not() {
        for (line, status) in [
            ("SIP/2.0 200 OK", 200),
            ("SIP/2.0 100 ", 100),
            ("SIP/2.0 699", 699),
            ("SIP/2.0 404 = 2**3 * \u{0442}", 404),
        ] {
            let text = format!("{line}\r\n{HEADERS}\r\n");
            assert_eq!(scanned(&text).start, Start::Response { status }, "{line}");
        }
        for line in [
            "SIP/2.0 700 x",
            "SIP/2.0 099 x",
            "SIP/2.0 2000 x",
            "SIP/3.0 200 OK",
            "SIP/2.0 4294967301 x",
        ] {
            let text = format!("{line}\r\n{HEADERS}\r\n");
            assert_eq!(
                Message::scan(text.as_bytes()).err(),
                Some(Unreadable::Response),
                "{line}"
            );
        }
    }

    //= RFC 5389 6 type=test
    #[test]
    fn what_is_no_sip_is_named() {
        let mut stun = [0_u8; 20];
        stun[1] = 1;
        stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        for (bytes, why) in [
            (&b""[..], Unreadable::KeepAlive),
            (b"\r\n\r\n", Unreadable::KeepAlive),
            (b"\0\0\0\0", Unreadable::KeepAlive),
            (&stun, Unreadable::Stun),
            (b"GET / HTTP/1.1\r\n\r\n", Unreadable::StartLine),
            (b"hello\r\n\r\n", Unreadable::StartLine),
            (b"\0\0x\r\n\r\n", Unreadable::StartLine),
            (b"OPTIONS sip:h", Unreadable::NoEnd),
            (b"OPTIONS sip:h SIP/2.0\r\n", Unreadable::NoEnd),
            (b"OPTIONS sip:h SIP/2.0\r\nVia: x\r\n", Unreadable::NoEnd),
        ] {
            assert_eq!(Message::scan(bytes).err(), Some(why), "{bytes:?}");
        }
    }

    //= RFC 3261 20.14 type=test
    //= RFC 3261 18.3 type=test
    #[test]
    fn the_body_follows_its_length() {
        let body = |length: &str| {
            let text = format!("OPTIONS sip:h SIP/2.0\r\n{HEADERS}{length}\r\nabc");
            let message = scanned(&text);
            (message.body.len(), message.flaw.map(|flaw| flaw.status))
        };
        assert_eq!(body(""), (3, None), "to the end of the datagram");
        assert_eq!(
            body("Content-Length: 2\r\n"),
            (2, None),
            "the rest is ignored"
        );
        assert_eq!(body("Content-Length: 0\r\n"), (0, None));
        assert_eq!(body("l:2\r\nContent-Length : 2\r\n"), (2, None));
        for wrong in [
            "4",
            "-1",
            "",
            "2 2",
            "18446744073709551616",
            "99999999999",
            "0x1",
        ] {
            let length = format!("Content-Length: {wrong}\r\n");
            assert_eq!(body(&length), (3, Some(400)), "{wrong}");
        }
        assert_eq!(body("l: 1\r\nl: 2\r\n"), (3, Some(400)), "two that differ");
    }

    //= RFC 3261 7.1 type=test
    //= RFC 3261 21.5.6 type=test
    #[test]
    fn a_start_line_gone_wrong_can_still_be_answered() {
        let status = |line: &str| flaw(&format!("{line}\r\n{HEADERS}\r\n"));
        assert_eq!(status("OPTIONS sip:h sip/2.0"), None);
        assert_eq!(status("OPTIONS sip:h SIP/7.0"), Some(505));
        assert_eq!(status("OPTIONS  sip:h SIP/2.0"), Some(400));
        assert_eq!(status("OPTIONS sip:h  SIP/2.0"), Some(400));
        assert_eq!(status("OPTIONS sip:h; lr SIP/2.0"), Some(400));
        assert_eq!(status("OPTIONS <sip:h> SIP/2.0"), Some(400));
        assert_eq!(status("OPTIONS sip:h SIP/2.0 "), Some(400));
        assert_eq!(status("OPTIONS SIP/2.0"), Some(400));
        assert_eq!(status("OPTIONS sip:h\r\n SIP/2.0"), Some(400));
        let long = format!("OPTIONS sip:{} SIP/2.0", "h".repeat(limits::URI_BYTES));
        assert_eq!(status(&long), Some(414));
    }

    #[test]
    fn limits_are_refused_and_not_ignored() {
        let many = format!(
            "OPTIONS sip:h SIP/2.0\r\n{HEADERS}{}\r\n",
            "X: y\r\n".repeat(limits::HEADERS)
        );
        assert_eq!(flaw(&many), Some(400));
        let long = format!(
            "OPTIONS sip:h SIP/2.0\r\n{HEADERS}X: {}\r\n\r\n",
            "y".repeat(limits::HEADER_BYTES)
        );
        assert_eq!(flaw(&long), Some(400));
        let too_long = format!(
            "OPTIONS sip:h SIP/2.0\r\nX: {}\r\n\r\n",
            "y".repeat(1 << 16)
        );
        assert_eq!(
            Message::scan(too_long.as_bytes()).err(),
            Some(Unreadable::TooLong)
        );
        assert_eq!(
            flaw(&format!(
                "OPTIONS sip:h SIP/2.0\r\n{HEADERS}no colon\r\n\r\n"
            )),
            Some(400)
        );
    }

    #[test]
    fn a_datagram_that_was_cut_keeps_its_whole_headers_and_is_refused() {
        let text = format!("OPTIONS sip:h SIP/2.0\r\n{HEADERS}To: <sip:b@h>\r\nCall-ID: ab");
        let message = Message::scan_cut(text.as_bytes()).unwrap();
        assert_eq!(message.flaw.map(|flaw| flaw.status), Some(513));
        assert_eq!(message.first(Name::To), Some(&b"<sip:b@h>"[..]));
        assert_eq!(message.first(Name::CallId), None);
        assert_eq!(message.lines().count(), 3);
        let whole = format!("OPTIONS sip:h SIP/2.0\r\n{HEADERS}l: 999\r\n\r\nbody");
        let message = Message::scan_cut(whole.as_bytes()).unwrap();
        assert_eq!(message.flaw.map(|flaw| flaw.status), Some(513));
    }
}
