//! What phones write and read. The writer is a phone's; the reader understands only what a notifier
//! must write (long header names, one line each), so that it shares no mistake with the server's own parser.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::SocketAddr;

use crate::configuration::Transport;

/// How many Via lines a message may have.
const VIAS: usize = 8;
/// How many proxies may have recorded their route.
const ROUTES: usize = 4;
/// Through a proxy: where it shall send a request to, and where it had a message from. The tests' proxy knows both.
pub const NEXT: &str = "X-Next";
const CAME_FROM: &[u8] = b"X-Came-From";

/// A message as far as a phone needs it. All slices borrow the datagram.
#[derive(Debug, Default)]
pub struct Heard<'a> {
    /// The status of a response, 0 for a request.
    pub status: u16,
    /// The method of a request, or the one in the CSeq of a response.
    pub method: &'a [u8],
    pub request_uri: &'a [u8],
    /// The Via lines, with their line ends, as they came; those not used are empty.
    pub vias: [&'a [u8]; VIAS],
    /// The Record-Route values, in order.
    pub routes: [&'a [u8]; ROUTES],
    /// The address that the proxy had it from.
    pub came_from: &'a [u8],
    pub from: &'a [u8],
    pub to: &'a [u8],
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub contact: &'a [u8],
    pub event: &'a [u8],
    pub subscription_state: &'a [u8],
    pub expires: Option<u32>,
    pub retry_after: Option<u32>,
    pub entity_tag: &'a [u8],
    pub if_match: &'a [u8],
    pub body: &'a [u8],
}

/// Why a datagram is not a message that a phone would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    StartLine,
    Header,
    ContentLength,
    Missing,
}

impl<'a> Heard<'a> {
    /// Reads one datagram.
    pub fn read(datagram: &'a [u8]) -> Result<Self, Unreadable> {
        let mut heard = Heard::default();
        let (start, mut rest) = line(datagram).ok_or(Unreadable::StartLine)?;
        if let Some(after) = start.strip_prefix(b"SIP/2.0 ") {
            let digits = after.get(..3).and_then(number);
            heard.status = digits.ok_or(Unreadable::StartLine)? as u16;
        } else {
            let end = memchr::memchr(b' ', start).ok_or(Unreadable::StartLine)?;
            heard.method = &start[..end];
            heard.request_uri = start[end + 1..].strip_suffix(b" SIP/2.0").unwrap_or(b"");
        }
        let mut content_length = None;
        loop {
            let whole = rest;
            let (text, after) = line(rest).ok_or(Unreadable::Header)?;
            rest = after;
            if text.is_empty() {
                break;
            }
            let colon = memchr::memchr(b':', text).ok_or(Unreadable::Header)?;
            let value = text[colon + 1..].trim_ascii();
            match &text[..colon] {
                b"Via" => {
                    let free = heard.vias.iter_mut().find(|via| via.is_empty());
                    *free.ok_or(Unreadable::Header)? = &whole[..whole.len() - rest.len()];
                }
                b"Record-Route" => {
                    let free = heard.routes.iter_mut().find(|route| route.is_empty());
                    *free.ok_or(Unreadable::Header)? = value;
                }
                CAME_FROM => heard.came_from = value,
                b"From" => heard.from = value,
                b"To" => heard.to = value,
                b"Call-ID" => heard.call_id = value,
                b"CSeq" => heard.read_cseq(value)?,
                b"Contact" => heard.contact = value,
                b"Event" => heard.event = value,
                b"Subscription-State" => heard.subscription_state = value,
                b"Expires" => heard.expires = Some(number(value).ok_or(Unreadable::Header)?),
                b"Retry-After" => heard.retry_after = number(value),
                b"SIP-ETag" => heard.entity_tag = value,
                b"SIP-If-Match" => heard.if_match = value,
                b"Content-Length" => {
                    content_length = Some(number(value).ok_or(Unreadable::ContentLength)?);
                }
                _ => {}
            }
        }
        // RFC 3261 18.3: what goes beyond the length is not the body; less than it is an error.
        let length = content_length.ok_or(Unreadable::ContentLength)? as usize;
        if length != rest.len() {
            return Err(Unreadable::ContentLength);
        }
        heard.body = rest;
        let whole = [heard.from, heard.to, heard.call_id, heard.method];
        if heard.vias[0].is_empty() || whole.iter().any(|part| part.is_empty()) {
            return Err(Unreadable::Missing);
        }
        Ok(heard)
    }

    fn read_cseq(&mut self, value: &'a [u8]) -> Result<(), Unreadable> {
        let space = memchr::memchr(b' ', value).ok_or(Unreadable::Header)?;
        self.cseq = number(&value[..space]).ok_or(Unreadable::Header)?;
        self.method = value[space..].trim_ascii();
        Ok(())
    }

    /// The same for two messages that are one, sent again.
    pub fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let own = self.vias.iter().rfind(|via| !via.is_empty());
        own.hash(&mut hasher);
        self.subscription_state.hash(&mut hasher);
        self.body.hash(&mut hasher);
        hasher.finish()
    }

    /// The tag of a From or To value.
    pub fn tag(value: &'a [u8]) -> Option<&'a [u8]> {
        let close = memchr::memchr(b'>', value)?;
        parameter(&value[close..], b"tag=")
    }

    /// What stands between the angle brackets of a Contact value.
    pub fn target(value: &'a [u8]) -> Option<&'a [u8]> {
        let open = memchr::memchr(b'<', value)? + 1;
        let close = open + memchr::memchr(b'>', &value[open..])?;
        Some(&value[open..close])
    }
}

/// The value of a `;name=value` parameter; `name` ends with its equals sign.
pub fn parameter<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|&byte| byte == b';')
        .find_map(|piece| piece.trim_ascii().strip_prefix(name))
}

/// Decimal digits only.
pub fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |value, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
    })
}

/// The first line without its CRLF, and what follows it.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', text)?;
    let before = text[..end].strip_suffix(b"\r")?;
    Some((before, &text[end + 1..]))
}

/// The event package that phones of one load ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Package {
    Dialog,
    Presence,
    MessageSummary,
}

impl Package {
    pub fn event(self) -> &'static str {
        match self {
            Package::Dialog => "dialog",
            Package::Presence => "presence",
            Package::MessageSummary => "message-summary",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Package::Dialog => "application/dialog-info+xml",
            Package::Presence => "application/pidf+xml",
            Package::MessageSummary => "application/simple-message-summary",
        }
    }
}

/// What a SUBSCRIBE is made of.
pub struct Subscribe<'a> {
    pub transport: Transport,
    /// Host and port that this phone sends from.
    pub here: &'a str,
    /// What its Call-ID ends with: a dialog keeps it wherever it goes.
    pub home: &'a str,
    /// Host and port of the server.
    pub server: &'a str,
    pub phone: u32,
    pub incarnation: u32,
    pub run: u32,
    pub cseq: u32,
    /// The name of the From address: keys of one phone share it.
    pub owner: u32,
    pub resource: &'a str,
    pub package: Package,
    pub expires: u32,
    /// The dialog's tag and remote target, once there is a dialog.
    pub dialog: Option<(&'a [u8], &'a [u8])>,
    /// How many proxies recorded their route.
    pub edges: u8,
    /// The dialog's Route header fields, with their line ends.
    pub routes: &'a [u8],
    /// Where a proxy shall send it.
    pub next: Option<SocketAddr>,
}

impl Subscribe<'_> {
    /// About what a desk phone sends.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Subscribe {
            here,
            home,
            server,
            phone,
            incarnation,
            run,
            cseq,
            owner,
            resource,
            expires,
            ..
        } = self;
        let (via, by) = (self.transport.via(), self.transport.parameter());
        out.extend_from_slice(b"SUBSCRIBE ");
        match self.dialog {
            Some((_, target)) => out.extend_from_slice(target),
            None => put(out, format_args!("sip:{resource}@{server}")),
        }
        out.extend_from_slice(b" SIP/2.0\r\n");
        for edge in 0..self.edges {
            put(
                out,
                format_args!(
                    "Via: SIP/2.0/UDP {here};branch=z9hG4bK{edge}e{run:x}.{phone}.{incarnation}.{cseq}\r\n"
                ),
            );
        }
        put(
            out,
            format_args!(
                "Via: SIP/2.0/{via} {here};branch=z9hG4bK{run:x}.{phone}.{incarnation}.{cseq};rport\r\n"
            ),
        );
        if self.dialog.is_none() {
            for edge in (0..self.edges).rev() {
                put(
                    out,
                    format_args!(
                        "Record-Route: <sip:{here};lr;ftag=p{phone}x{incarnation};edge={edge}>\r\n"
                    ),
                );
            }
        }
        out.extend_from_slice(self.routes);
        if let Some(next) = self.next {
            put(out, format_args!("{NEXT}: sip:{next}\r\n"));
        }
        put(
            out,
            format_args!(
                "From: \"Phone {owner}\" <sip:p{owner}@{server}>;tag=p{phone}x{incarnation}\r\nTo: <sip:{resource}@{server}>"
            ),
        );
        if let Some((tag, _)) = self.dialog {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag);
        }
        put(
            out,
            format_args!(
                "\r\nCall-ID: {phone}-{incarnation}-{run:08x}@{home}\r\nCSeq: {cseq} SUBSCRIBE\r\n\
                 Contact: <sip:p{owner}k{phone}@{here}{by}>\r\nMax-Forwards: 70\r\nEvent: {}\r\nAccept: {}\r\n\
                 Expires: {expires}\r\nAllow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE\r\n\
                 User-Agent: Yealink SIP-T46U 108.86.0.20\r\nContent-Length: 0\r\n\r\n",
                self.package.event(),
                self.package.content_type(),
            ),
        );
    }
}

/// Asks the server what it can do: from somebody who connects, asks, and goes.
pub fn write_options(
    out: &mut Vec<u8>,
    transport: Transport,
    here: &str,
    server: &str,
    visitor: u64,
) {
    let via = transport.via();
    put(
        out,
        format_args!(
            "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/{via} {here};branch=z9hG4bKv{visitor};rport\r\n\
             From: <sip:v{visitor}@{server}>;tag=v{visitor}\r\nTo: <sip:{server}>\r\nCall-ID: v{visitor}-@{here}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ),
    );
}

/// The answer to a request: everything that RFC 3261 8.2.6.2 has it copy.
pub fn write_answer(out: &mut Vec<u8>, heard: &Heard<'_>, status: &str) {
    out.extend_from_slice(b"SIP/2.0 ");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b"\r\n");
    for via in heard.vias {
        out.extend_from_slice(via);
    }
    for (name, value) in [
        ("From: ", heard.from),
        ("To: ", heard.to),
        ("Call-ID: ", heard.call_id),
    ] {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    put(out, format_args!("CSeq: {} ", heard.cseq));
    out.extend_from_slice(heard.method);
    out.extend_from_slice(
        b"\r\nUser-Agent: Yealink SIP-T46U 108.86.0.20\r\nContent-Length: 0\r\n\r\n",
    );
}

/// Appends formatted text.
pub fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe() -> Vec<u8> {
        let mut out = Vec::new();
        Subscribe {
            transport: Transport::Udp,
            here: "127.0.0.2:6000",
            home: "127.0.0.2:6000",
            server: "127.0.0.1:5060",
            phone: 7,
            incarnation: 1,
            run: 0xabc,
            cseq: 1,
            owner: 3,
            resource: "1001",
            package: Package::Dialog,
            expires: 3600,
            dialog: None,
            edges: 2,
            routes: b"",
            next: None,
        }
        .write(&mut out);
        out
    }

    #[test]
    fn what_a_phone_writes_it_can_read() {
        let bytes = subscribe();
        let heard = Heard::read(&bytes).unwrap();
        assert_eq!(heard.method, b"SUBSCRIBE");
        assert_eq!(heard.request_uri, b"sip:1001@127.0.0.1:5060");
        assert!(heard.routes[1].ends_with(b"edge=0>") && heard.routes[2].is_empty());
        assert_eq!(heard.status, 0);
        assert_eq!(heard.cseq, 1);
        assert_eq!(heard.vias.iter().filter(|via| !via.is_empty()).count(), 3);
        assert_eq!(Heard::tag(heard.from), Some(&b"p7x1"[..]));
        assert_eq!(Heard::tag(heard.to), None);
        assert_eq!(
            Heard::target(heard.contact),
            Some(&b"sip:p3k7@127.0.0.2:6000"[..])
        );
    }

    #[test]
    fn an_answer_copies_what_it_must() {
        let bytes = subscribe();
        let heard = Heard::read(&bytes).unwrap();
        let mut out = Vec::new();
        write_answer(&mut out, &heard, "200 OK");
        let answer = Heard::read(&out).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.method, b"SUBSCRIBE");
        assert_eq!(answer.vias, heard.vias);
        assert_eq!((answer.from, answer.to), (heard.from, heard.to));
        assert_eq!((answer.call_id, answer.cseq), (heard.call_id, heard.cseq));
    }

    #[test]
    fn a_wrong_content_length_is_unreadable() {
        let mut bytes = subscribe();
        bytes.push(b'x');
        assert_eq!(Heard::read(&bytes).unwrap_err(), Unreadable::ContentLength);
        assert_eq!(
            Heard::read(b"SIP/2.0 2").unwrap_err(),
            Unreadable::StartLine
        );
    }
}
