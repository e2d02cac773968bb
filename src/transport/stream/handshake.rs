//! How a WebSocket connection begins: one HTTP request, which is answered once (RFC 6455 4.2, RFC 7118 4.1). It serves
//! no pages, knows no file, and keeps nothing but what has come of the request.

use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::config::limits;
use crate::sip::Writer;

/// What a key is hashed with, to show that the answer is that of a WebSocket server.
//= RFC 6455 1.3
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key, once it is decoded.
const KEY_BYTES: usize = 16;
/// A hash of 20 bytes in base64.
const ACCEPT_BYTES: usize = 28;

/// Who may open a WebSocket connection to a listener, and how it is kept open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebRules {
    /// The one path that is served; none: whatever is asked for.
    pub path: Option<Box<str>>,
    /// The sites whose pages may, in lower case; none: all. Who names no site is no page, and may.
    pub origins: Box<[Box<str>]>,
    /// A connection by which we have said nothing for so long is pinged; none: never.
    pub ping: Option<Duration>,
}

/// What the request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// From here on there are frames. The proof that the key was read.
    Accepted([u8; ACCEPT_BYTES]),
    /// The connection is to be closed behind it.
    Refused(Refusal),
}

/// Why a request does not open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Malformed,
    Method,
    HttpVersion,
    Path,
    NoUpgrade,
    Version,
    Key,
    Origin,
    Subprotocol,
    TooLarge,
}

impl Refusal {
    /// The status line, more header lines, and a sentence for who reads the body.
    fn text(self) -> (&'static str, &'static str, &'static str) {
        const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        match self {
            Refusal::Malformed => ("400 Bad Request", "", "This is no HTTP request.\n"),
            Refusal::Method => (
                "405 Method Not Allowed",
                "Allow: GET\r\n",
                "Only WebSocket is spoken here.\n",
            ),
            Refusal::HttpVersion => (
                "505 HTTP Version Not Supported",
                "",
                "WebSocket begins with HTTP/1.1.\n",
            ),
            Refusal::Path => ("404 Not Found", "", "Nothing is served on this path.\n"),
            Refusal::NoUpgrade => (
                "426 Upgrade Required",
                UPGRADE,
                "Only WebSocket is spoken here.\n",
            ),
            Refusal::Version => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
                "Version 13 of WebSocket is spoken here.\n",
            ),
            Refusal::Key => (
                "400 Bad Request",
                "",
                "Sec-WebSocket-Key is no key of 16 bytes.\n",
            ),
            Refusal::Origin => (
                "403 Forbidden",
                "",
                "Pages of this site may not connect here.\n",
            ),
            Refusal::Subprotocol => (
                "400 Bad Request",
                "",
                "The subprotocol `sip` is spoken here, and was not offered.\n",
            ),
            Refusal::TooLarge => (
                "431 Request Header Fields Too Large",
                "",
                "The request is too large.\n",
            ),
        }
    }
}

impl Answer {
    /// Writes the answer, whole.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self {
            //= RFC 7118 4.1
            Answer::Accepted(accept) => {
                writer.put(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Accept: ",
                );
                writer.put(accept);
                writer.put(b"\r\n\r\n");
            }
            Answer::Refused(refusal) => {
                let (status, lines, body) = refusal.text();
                writer.put(b"HTTP/1.1 ");
                writer.put(status.as_bytes());
                writer.put(b"\r\n");
                writer.put(lines.as_bytes());
                writer.put(b"Connection: close\r\nContent-Type: text/plain\r\nContent-Length: ");
                writer.decimal(body.len() as u64);
                writer.put(b"\r\n\r\n");
                writer.put(body.as_bytes());
            }
        }
    }
}

/// How much of the request has come.
#[derive(Debug, Default)]
pub struct Handshake {
    begun: Vec<u8>,
}

impl Handshake {
    /// The answer, once the request is there; `bytes` is what came behind it then, and empty before.
    pub fn next(&mut self, bytes: &mut &[u8], rules: &WebRules) -> Option<Answer> {
        let known = self.begun.len();
        self.begun.extend_from_slice(bytes);
        // The end may have begun to come before.
        let from = known.saturating_sub(HEAD_END.len() - 1);
        let end = memchr::memmem::find(&self.begun[from..], HEAD_END);
        let head = end.map(|at| from + at + HEAD_END.len());
        if head.unwrap_or(self.begun.len()) > limits::WEB_REQUEST_BYTES {
            *bytes = &[];
            self.begun = Vec::new();
            return Some(Answer::Refused(Refusal::TooLarge));
        }
        let Some(head) = head else {
            *bytes = &[];
            return None;
        };
        *bytes = &bytes[head - known..];
        let begun = core::mem::take(&mut self.begun);
        Some(match judge(&begun[..head], rules) {
            Ok(accept) => Answer::Accepted(accept),
            Err(refusal) => Answer::Refused(refusal),
        })
    }
}

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The proof for a request that opens a connection. `head`: with its empty line.
//= RFC 6455 4.2.1
fn judge(head: &[u8], rules: &WebRules) -> Result<[u8; ACCEPT_BYTES], Refusal> {
    let request = Request::read(head)?;
    if request.method != "GET" {
        return Err(Refusal::Method);
    }
    if rules
        .path
        .as_deref()
        .is_some_and(|path| path != request.path())
    {
        return Err(Refusal::Path);
    }
    if !request.lists("Upgrade", "websocket", Case::Ignored)
        || !request.lists("Connection", "upgrade", Case::Ignored)
    {
        return Err(Refusal::NoUpgrade);
    }
    //= RFC 6455 4.4
    if request.only("Sec-WebSocket-Version") != Some("13") {
        return Err(Refusal::Version);
    }
    let key = request.only("Sec-WebSocket-Key").ok_or(Refusal::Key)?;
    let mut decoded = [0; KEY_BYTES + 2];
    if STANDARD.decode_slice(key, &mut decoded) != Ok(KEY_BYTES) {
        return Err(Refusal::Key);
    }
    //= RFC 6455 10.2
    if !rules.origins.is_empty() && request.values("Origin").any(|origin| !rules.admit(origin)) {
        return Err(Refusal::Origin);
    }
    //= RFC 7118 4.1
    if !request.lists("Sec-WebSocket-Protocol", "sip", Case::Counts) {
        return Err(Refusal::Subprotocol);
    }
    Ok(accept(key))
}

//= RFC 6455 4.2.2
fn accept(key: &str) -> [u8; ACCEPT_BYTES] {
    let hash = Sha1::new_with_prefix(key).chain_update(GUID).finalize();
    let mut text = [0; ACCEPT_BYTES];
    let length = STANDARD.encode_slice(hash, &mut text);
    assert_eq!(length, Ok(ACCEPT_BYTES), "20 bytes are 28 in base64");
    text
}

impl WebRules {
    fn admit(&self, origin: &str) -> bool {
        let mut allowed = self.origins.iter();
        allowed.any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// Whether upper and lower case are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Counts,
    Ignored,
}

/// A request, line by line.
struct Request<'a> {
    method: &'a str,
    target: &'a str,
    /// With their line ends, and without the empty line.
    lines: &'a str,
}

impl<'a> Request<'a> {
    //= RFC 9112 3
    fn read(head: &'a [u8]) -> Result<Self, Refusal> {
        let text = core::str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
        let text = text.strip_suffix("\r\n").ok_or(Refusal::Malformed)?;
        // NOT SIP: a request of HTTP.
        let (start, lines) = text.split_once("\r\n").ok_or(Refusal::Malformed)?;
        let mut words = start.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::Malformed);
        };
        match version.strip_prefix("HTTP/").map(str::as_bytes) {
            Some([b'1', b'.', b'1'..=b'9']) => {}
            Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(Refusal::HttpVersion),
            Some(_) | None => return Err(Refusal::Malformed),
        }
        let request = Request {
            method,
            target,
            lines,
        };
        let sound = is_token(method) && is_plain(target) && !target.is_empty();
        if !sound || !lines.split_terminator("\r\n").all(is_header) {
            return Err(Refusal::Malformed);
        }
        // A body would stand where frames are expected.
        let bodiless = request.values("Content-Length").all(|length| length == "0")
            && request.values("Transfer-Encoding").next().is_none();
        match bodiless && request.only("Host").is_some() {
            true => Ok(request),
            false => Err(Refusal::Malformed),
        }
    }

    /// Without scheme, host and query.
    fn path(&self) -> &'a str {
        let target = match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            Some(_) | None => self.target,
        };
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The values of all header lines of that name.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let lines = self.lines.split_terminator("\r\n");
        lines.filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            let same = found.eq_ignore_ascii_case(name);
            same.then(|| value.trim_matches([' ', '\t']))
        })
    }

    /// The value of the one header line of that name.
    fn only(&self, name: &'static str) -> Option<&'a str> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a list, which may stand in several lines, has this entry.
    fn lists(&self, name: &'static str, entry: &str, case: Case) -> bool {
        let entries = self.values(name).flat_map(|value| value.split(','));
        entries.map(str::trim).any(|each| match case {
            Case::Counts => each == entry,
            Case::Ignored => each.eq_ignore_ascii_case(entry),
        })
    }
}

//= RFC 9110 5.6.2
fn is_token(text: &str) -> bool {
    let is = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is)
}

/// No byte in it can be taken for the end of a line or of a word.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| !byte.is_ascii_control() && byte != b' ')
}

fn is_header(line: &str) -> bool {
    let control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    line.split_once(':')
        .is_some_and(|(name, value)| is_token(name) && !value.bytes().any(control))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: https://example.com\r\nSec-WebSocket-Protocol: chat, sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn rules(path: Option<&str>, origins: &[&str]) -> WebRules {
        WebRules {
            path: path.map(Box::from),
            origins: origins.iter().map(|&each| Box::from(each)).collect(),
            ping: None,
        }
    }

    fn answer_in(pieces: &[&[u8]], rules: &WebRules) -> (Option<Answer>, Vec<u8>) {
        let mut handshake = Handshake::default();
        let (mut answer, mut after) = (None, Vec::new());
        for mut bytes in pieces.iter().copied() {
            if answer.is_none() {
                answer = handshake.next(&mut bytes, rules);
            }
            after.extend_from_slice(bytes);
        }
        assert!(answer.is_none() || handshake.begun.capacity() == 0);
        (answer, after)
    }

    fn answer(request: &str, rules: &WebRules) -> Option<Answer> {
        answer_in(&[request.as_bytes()], rules).0
    }

    fn text(answer: &Answer) -> String {
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        answer.write(&mut writer);
        let length = writer.finish().expect("an answer is short");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    //= RFC 6455 4.2.2 type=test
    //= RFC 6455 1.3 type=test
    //= RFC 7118 4.1 type=test
    #[test]
    fn the_example_of_the_rfc_is_accepted_wherever_it_is_cut() {
        let stream = format!("{REQUEST}frames");
        let stream = stream.as_bytes();
        let expected = Answer::Accepted(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            let (answer, after) = answer_in(&[head, tail], &WebRules::default());
            assert_eq!(answer, Some(expected), "cut at {cut}");
            assert_eq!(after, b"frames", "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(answer_in(&bytes, &WebRules::default()).0, Some(expected));
        let text = text(&expected);
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        for line in [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Protocol: sip",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{text}");
        }
        assert!(text.ends_with("\r\n\r\n"));
    }

    //= RFC 6455 4.2.1 type=test
    //= RFC 6455 4.4 type=test
    //= RFC 9112 3 type=test
    //= RFC 9110 5.6.2 type=test
    #[test]
    fn what_opens_no_connection_is_told_why() {
        for (from, to, refusal, status) in [
            ("GET ", "POST ", Refusal::Method, "405"),
            ("GET ", "G(T ", Refusal::Malformed, "400"),
            ("HTTP/1.1", "HTTP/1.0", Refusal::HttpVersion, "505"),
            ("HTTP/1.1", "HTTP/2.0", Refusal::HttpVersion, "505"),
            ("HTTP/1.1", "SIP/2.0", Refusal::Malformed, "400"),
            ("/chat ", "/chat x ", Refusal::Malformed, "400"),
            (
                "Host: server.example.com\r\n",
                "",
                Refusal::Malformed,
                "400",
            ),
            ("Host:", "Host: x\r\nHost:", Refusal::Malformed, "400"),
            ("Host:", "Host :", Refusal::Malformed, "400"),
            ("Origin:", "\tfolded\r\nOrigin:", Refusal::Malformed, "400"),
            ("Origin:", "X: a\nb\r\nOrigin:", Refusal::Malformed, "400"),
            (
                "Origin:",
                "Content-Length: 3\r\nOrigin:",
                Refusal::Malformed,
                "400",
            ),
            (
                "Origin:",
                "Transfer-Encoding: x\r\nOrigin:",
                Refusal::Malformed,
                "400",
            ),
            ("Upgrade: websocket\r\n", "", Refusal::NoUpgrade, "426"),
            ("websocket", "h2c", Refusal::NoUpgrade, "426"),
            (", Upgrade", "", Refusal::NoUpgrade, "426"),
            ("Version: 13", "Version: 8", Refusal::Version, "426"),
            ("Sec-WebSocket-Version: 13\r\n", "", Refusal::Version, "426"),
            ("ZQ==", "", Refusal::Key, "400"),
            ("dGhl", "dGhldGhl", Refusal::Key, "400"),
            ("Sec-WebSocket-Key", "X", Refusal::Key, "400"),
            ("chat, sip", "chat, SIP", Refusal::Subprotocol, "400"),
            ("Sec-WebSocket-Protocol", "X", Refusal::Subprotocol, "400"),
        ] {
            let request = REQUEST.replacen(from, to, 1);
            assert_ne!(request, REQUEST, "{from}");
            let found = answer(&request, &WebRules::default());
            assert_eq!(found, Some(Answer::Refused(refusal)), "{request}");
            let text = text(&Answer::Refused(refusal));
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        }
        let version = text(&Answer::Refused(Refusal::Version));
        assert!(version.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        let method = text(&Answer::Refused(Refusal::Method));
        assert!(method.contains("\r\nAllow: GET\r\n"));
    }

    #[test]
    fn header_names_and_tokens_are_known_in_any_case_and_lists_in_several_lines() {
        let request = REQUEST
            .replace("Upgrade: websocket", "UPGRADE:WebSocket")
            .replace(
                "Connection: keep-alive, Upgrade",
                "connection: x\r\nconnection:\tupgrade ",
            )
            .replace("chat, sip", "chat\r\nsec-websocket-protocol: sip");
        let found = answer(&request, &WebRules::default());
        assert!(matches!(found, Some(Answer::Accepted(_))), "{found:?}");
    }

    #[test]
    fn only_the_path_that_is_configured_is_served() {
        let sip = rules(Some("/sip"), &[]);
        for (target, served) in [
            ("/sip", true),
            ("/sip?x=1", true),
            ("http://server.example.com/sip", true),
            ("/", false),
            ("/sip/", false),
            ("/x://y/sip", false),
            ("http://server.example.com", false),
        ] {
            let request = REQUEST.replacen("/chat", target, 1);
            let found = answer(&request, &sip);
            match served {
                true => assert!(matches!(found, Some(Answer::Accepted(_))), "{target}"),
                false => assert_eq!(found, Some(Answer::Refused(Refusal::Path)), "{target}"),
            }
        }
    }

    //= RFC 6455 10.2 type=test
    #[test]
    fn pages_of_other_sites_are_refused_where_sites_are_configured() {
        let site = rules(None, &["https://other.example", "https://example.com"]);
        assert!(matches!(answer(REQUEST, &site), Some(Answer::Accepted(_))));
        for origin in [
            "https://example.com.evil.example",
            "http://example.com",
            "https://example.com:8443",
            "null",
            "",
        ] {
            let request = REQUEST.replace("https://example.com", origin);
            let found = answer(&request, &site);
            assert_eq!(found, Some(Answer::Refused(Refusal::Origin)), "{origin}");
        }
        let two = REQUEST.replace("Origin:", "Origin: https://evil.example\r\nOrigin:");
        assert_eq!(answer(&two, &site), Some(Answer::Refused(Refusal::Origin)));
        let none = REQUEST.replace("Origin: https://example.com\r\n", "");
        assert!(matches!(answer(&none, &site), Some(Answer::Accepted(_))));
    }

    #[test]
    fn a_request_that_does_not_end_is_refused_at_the_limit() {
        let long = format!("{}X: {}", &REQUEST[..REQUEST.len() - 2], "x".repeat(20_000));
        for pieces in [vec![long.as_bytes()], long.as_bytes().chunks(100).collect()] {
            let (found, _) = answer_in(&pieces, &WebRules::default());
            assert_eq!(found, Some(Answer::Refused(Refusal::TooLarge)));
        }
        assert!(text(&Answer::Refused(Refusal::TooLarge)).starts_with("HTTP/1.1 431 "));
        let short = &long[..limits::WEB_REQUEST_BYTES];
        assert_eq!(answer(short, &WebRules::default()), None);
    }
}
