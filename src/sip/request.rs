//! Everything that a request must have before anyone acts on it, checked once.

use crate::config::limits;

use super::address::{Contact, NameAddr};
use super::lex::{self, Malformed};
use super::message::{Message, Start};
use super::method::Method;
use super::name::Name;
use super::uri::{Scheme, Tel, Uri};
use super::via::{MAGIC_COOKIE, Via};

/// The largest CSeq number that is allowed: below 2^31.
const CSEQ_MAX: u64 = (1 << 31) - 1;

/// An answer to a request that can't be served: its status and what the reason phrase says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

impl Refusal {
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Refusal { status, reason }
    }
}

/// What the Request-URI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Sip(Uri<'a>),
    Tel(Tel<'a>),
}

/// The CSeq header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    //= RFC 3261 8.1.1.5
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let raw = lex::trim(raw);
        let digits_end = lex::skip(raw, 0, |byte| byte.is_ascii_digit());
        let method_start = lex::skip_space(raw, digits_end);
        let number = lex::decimal(&raw[..digits_end])
            .filter(|number| *number <= CSEQ_MAX)
            .ok_or(Malformed)?;
        let method = &raw[method_start..];
        if method_start == digits_end || !lex::is_all_token(method) {
            return Err(Malformed);
        }
        Ok(CSeq {
            number: number as u32,
            method,
        })
    }
}

/// A request that has what RFC 3261 8.1.1 demands, well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub message: &'a Message<'a>,
    pub method: Method<'a>,
    /// The Request-URI as written.
    pub uri: &'a [u8],
    pub target: Target<'a>,
    /// The topmost.
    pub via: Via<'a>,
    pub from: NameAddr<'a>,
    pub to: NameAddr<'a>,
    /// Empty for a request of RFC 2543 that has none.
    pub from_tag: &'a [u8],
    pub to_tag: Option<&'a [u8]>,
    pub call_id: &'a [u8],
    pub cseq: u32,
    /// The first of them; all are well-formed.
    pub contact: Option<Contact<'a>>,
    /// How many there are.
    pub contacts: usize,
}

impl Message<'_> {
    /// The request in it, or how to refuse it. A response is no request: look at `start` first.
    //= RFC 3261 8.1.1
    pub fn request(&self) -> Result<Request<'_>, Refusal> {
        let Start::Request { method, uri } = self.start else {
            return Err(Refusal::new(400, "Not A Request"));
        };
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        let via = top_via(self)?;
        let from = single(self, Name::From, "Missing From", "More Than One From")?;
        let from = party(from, "Malformed From", "From Tag Too Long")?;
        let to = single(self, Name::To, "Missing To", "More Than One To")?;
        let to = party(to, "Malformed To", "To Tag Too Long")?;
        let call_id = call_id(self)?;
        let cseq = single(self, Name::CSeq, "Missing CSeq", "More Than One CSeq")?;
        let cseq = CSeq::parse(cseq).map_err(|_| Refusal::new(400, "Malformed CSeq"))?;
        if cseq.method != method.as_bytes() {
            return Err(Refusal::new(400, "CSeq Method Mismatch"));
        }
        if self.count(Name::MaxForwards) > 1 || !max_forwards_is_sound(self) {
            return Err(Refusal::new(400, "Malformed Max-Forwards"));
        }
        if !date_is_sound(self) {
            return Err(Refusal::new(400, "Malformed Date"));
        }
        let (contact, contacts) = contacts(self)?;
        Ok(Request {
            message: self,
            method,
            uri,
            target: target(uri)?,
            via,
            from,
            to,
            from_tag: from.tag.unwrap_or(&[]),
            to_tag: to.tag,
            call_id,
            cseq: cseq.number,
            contact,
            contacts,
        })
    }

    /// Whether it is a request that an answer can be sent to: not an ACK, and its top Via says where from.
    pub fn is_answerable(&self) -> bool {
        match self.start {
            Start::Request {
                method: Method::Ack,
                ..
            }
            | Start::Response { .. } => false,
            Start::Request { .. } => self.top_via_for_answer().is_some(),
        }
    }

    /// The top Via, as far as an answer needs it: a malformed parameter does not make it unusable.
    pub fn top_via_for_answer(&self) -> Option<Via<'_>> {
        let raw = self.values(Name::Via).next()?;
        Via::parse(raw).or_else(|_| Via::parse_sent_by(raw)).ok()
    }
}

fn top_via<'a>(message: &'a Message<'a>) -> Result<Via<'a>, Refusal> {
    let mut values = message.values(Name::Via);
    let raw = values.next().ok_or(Refusal::new(400, "Missing Via"))?;
    if values.take(limits::VIAS).count() == limits::VIAS {
        return Err(Refusal::new(483, "Too Many Hops"));
    }
    let via = Via::parse(raw).map_err(|_| Refusal::new(400, "Malformed Via"))?;
    // A cookie with nothing behind it identifies no transaction.
    if via.has_magic_cookie()
        && via
            .branch
            .is_some_and(|branch| branch.len() == MAGIC_COOKIE.len())
    {
        return Err(Refusal::new(400, "Missing Transaction Identifier"));
    }
    Ok(via)
}

fn single<'a>(
    message: &'a Message<'a>,
    name: Name,
    missing: &'static str,
    more_than_one: &'static str,
) -> Result<&'a [u8], Refusal> {
    match message.count(name) {
        0 => Err(Refusal::new(400, missing)),
        1 => Ok(message.first(name).expect("counted")),
        _ => Err(Refusal::new(400, more_than_one)),
    }
}

/// From or To.
fn party<'a>(
    raw: &'a [u8],
    malformed: &'static str,
    tag_too_long: &'static str,
) -> Result<NameAddr<'a>, Refusal> {
    let address = NameAddr::parse(raw).map_err(|_| Refusal::new(400, malformed))?;
    if address.tag.is_some_and(|tag| tag.len() > limits::TAG_BYTES) {
        return Err(Refusal::new(400, tag_too_long));
    }
    Ok(address)
}

//= RFC 3261 20.8
fn call_id<'a>(message: &'a Message<'a>) -> Result<&'a [u8], Refusal> {
    let call_id = single(
        message,
        Name::CallId,
        "Missing Call-ID",
        "More Than One Call-ID",
    )?;
    if call_id.is_empty() || !lex::all(call_id, |byte| byte > b' ' && byte != 0x7f) {
        return Err(Refusal::new(400, "Malformed Call-ID"));
    }
    if call_id.len() > limits::CALL_ID_BYTES {
        return Err(Refusal::new(400, "Call-ID Too Long"));
    }
    Ok(call_id)
}

/// The first Contact, and how many there are.
fn contacts<'a>(message: &'a Message<'a>) -> Result<(Option<Contact<'a>>, usize), Refusal> {
    let mut first = None;
    let mut count = 0;
    for raw in message.values(Name::Contact) {
        let contact = Contact::parse(raw).map_err(|_| Refusal::new(400, "Malformed Contact"))?;
        if matches!(contact, Contact::Address(address) if address.uri.len() > limits::URI_BYTES) {
            return Err(Refusal::new(400, "Contact Too Long"));
        }
        first.get_or_insert(contact);
        count += 1;
    }
    Ok((first, count))
}

/// Nobody here reads a Date; one of another zone than GMT is a sign of a broken sender, and refused as such.
//= RFC 3261 20.17
fn date_is_sound(message: &Message<'_>) -> bool {
    message.first(Name::Date).is_none_or(|value| {
        value.len() > 3 && lex::eq_ignore_case(&value[value.len() - 3..], "GMT")
    })
}

//= RFC 3261 20.22
fn max_forwards_is_sound(message: &Message<'_>) -> bool {
    message
        .first(Name::MaxForwards)
        .is_none_or(|value| lex::decimal(value).is_some_and(|hops| hops <= 255))
}

//= RFC 3261 8.2.2.1
fn target(uri: &[u8]) -> Result<Target<'_>, Refusal> {
    let malformed = Refusal::new(400, "Malformed Request-URI");
    match Scheme::split(uri) {
        Ok((Scheme::Sip | Scheme::Sips, _)) => {
            let uri = Uri::parse(uri).map_err(|_| malformed)?;
            // Headers in a Request-URI are not allowed.
            //= RFC 3261 19.1.1
            if uri.headers.is_some() {
                return Err(malformed);
            }
            Ok(Target::Sip(uri))
        }
        Ok((Scheme::Tel, _)) => Tel::parse(uri).map(Target::Tel).map_err(|_| malformed),
        Ok((Scheme::Other(_), _)) => Err(Refusal::new(416, "Unsupported URI Scheme")),
        Err(Malformed) => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "SUBSCRIBE sip:1001@h.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK77;rport\r\n\
        Max-Forwards: 70\r\n\
        From: \"A\" <sip:a@h.example>;tag=a1\r\n\
        To: <sip:1001@h.example>;tag=b2\r\n\
        Call-ID: c3@192.0.2.9\r\n\
        CSeq: 4 SUBSCRIBE\r\n\
        Contact: <sip:a@192.0.2.9>, <sip:b@192.0.2.9>\r\n\
        \r\n";

    /// What the sound request is refused with after `from` became `to`.
    fn refusal(from: &str, to: &str) -> Option<Refusal> {
        assert!(SOUND.contains(from), "{from}");
        let text = SOUND.replacen(from, to, 1);
        let message = Message::scan(text.as_bytes()).expect("readable");
        message.request().err()
    }

    #[test]
    fn a_sound_request_has_everything_in_its_place() {
        let message = Message::scan(SOUND.as_bytes()).unwrap();
        let request = message.request().unwrap();
        assert_eq!(request.method, Method::Subscribe);
        assert_eq!(request.uri, b"sip:1001@h.example");
        assert!(matches!(request.target, Target::Sip(uri) if uri.user == Some(b"1001")));
        assert_eq!(request.via.branch, Some(&b"z9hG4bK77"[..]));
        assert_eq!(
            (request.from_tag, request.to_tag),
            (&b"a1"[..], Some(&b"b2"[..]))
        );
        assert_eq!((request.call_id, request.cseq), (&b"c3@192.0.2.9"[..], 4));
        let Some(Contact::Address(contact)) = request.contact else {
            panic!("no contact");
        };
        assert_eq!(contact.uri, b"sip:a@192.0.2.9");
        assert_eq!(request.contacts, 2);
        assert!(message.is_answerable());
        assert!(message.response().is_none());
    }

    //= RFC 3261 8.1.1 type=test
    #[test]
    fn a_mandatory_header_that_is_missing_broken_or_there_twice_is_400() {
        let headers = [
            (
                "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK77;rport\r\n",
                "Via",
            ),
            ("From: \"A\" <sip:a@h.example>;tag=a1\r\n", "From"),
            ("To: <sip:1001@h.example>;tag=b2\r\n", "To"),
            ("Call-ID: c3@192.0.2.9\r\n", "Call-ID"),
            ("CSeq: 4 SUBSCRIBE\r\n", "CSeq"),
        ];
        for (line, name) in headers {
            let refusals = [
                refusal(line, "").unwrap(),
                refusal(line, &format!("{name}: , ;\r\n")).unwrap(),
                refusal(line, &format!("{name}:\r\n")).unwrap(),
            ];
            for refusal in refusals {
                assert_eq!(refusal.status, 400, "{name}");
                assert!(
                    refusal.reason.contains(name) || name == "Via",
                    "{refusal:?}"
                );
            }
            if name != "Via" {
                let twice = refusal(line, &format!("{line}{line}")).unwrap();
                assert_eq!(twice.reason, format!("More Than One {name}"));
            }
        }
    }

    //= RFC 3261 8.1.1.5 type=test
    #[test]
    fn a_cseq_is_a_number_below_2_31_and_the_method() {
        let refused = |value: &str| refusal("4 SUBSCRIBE", value).map(|refusal| refusal.reason);
        assert_eq!(refused("2147483647 SUBSCRIBE"), None);
        assert_eq!(refused("0009\r\n  SUBSCRIBE"), None);
        for bad in [
            "2147483648 SUBSCRIBE",
            "-1 SUBSCRIBE",
            "x SUBSCRIBE",
            "4",
            "4SUBSCRIBE",
            "SUBSCRIBE",
            "4 SUB SCRIBE",
        ] {
            assert_eq!(refused(bad), Some("Malformed CSeq"), "{bad}");
        }
        for other in ["4 NOTIFY", "4 subscribe"] {
            assert_eq!(refused(other), Some("CSeq Method Mismatch"), "{other}");
        }
    }

    //= RFC 3261 8.2.2.1 type=test
    #[test]
    fn a_request_uri_of_an_unknown_scheme_is_416_and_a_broken_one_400() {
        let status =
            |uri: &str| refusal("sip:1001@h.example SIP", &format!("{uri} SIP")).map(|r| r.status);
        assert_eq!(status("sips:1001@h.example"), None);
        assert_eq!(status("tel:+1001"), None);
        assert_eq!(status("soap.beep://192.0.2.103:3002"), Some(416));
        for bad in [
            "1001",
            "sip:",
            "sip:1001@h:0",
            "sip:a@h?x=y",
            "sip:a@[::1",
            "tel:",
            ":x",
        ] {
            assert_eq!(status(bad), Some(400), "{bad}");
        }
    }

    //= RFC 3261 20.8 type=test
    //= RFC 3261 20.17 type=test
    //= RFC 3261 20.22 type=test
    #[test]
    fn broken_values_beside_the_mandatory_ones_are_400_too() {
        assert_eq!(
            refusal("70", "256").unwrap().reason,
            "Malformed Max-Forwards"
        );
        assert_eq!(refusal("70", "x").unwrap().reason, "Malformed Max-Forwards");
        assert_eq!(refusal("Max-Forwards: 70\r\n", ""), None);
        let dated = |date: &str| refusal("Max", &format!("Date: {date}\r\nMax"));
        assert_eq!(dated("Sat, 13 Nov 2010 23:29:00 GMT"), None);
        assert_eq!(
            dated("Sat, 13 Nov 2010 23:29:00 EST").unwrap().reason,
            "Malformed Date"
        );
        assert_eq!(refusal("70", "0068"), None);
        assert_eq!(
            refusal("Contact: <sip:a@192.0.2.9>", "Contact: <sip:a@>")
                .unwrap()
                .reason,
            "Malformed Contact"
        );
        assert_eq!(refusal("Contact: <sip:a@192.0.2.9>", "Contact: *"), None);
        assert_eq!(
            refusal("z9hG4bK77", "z9hG4bK").unwrap().reason,
            "Missing Transaction Identifier"
        );
        assert_eq!(refusal("z9hG4bK77", "77"), None, "a branch of RFC 2543");
        assert_eq!(refusal(";tag=a1", ""), None, "RFC 2543 knows no tags");
        let long = format!("<sip:{}@h>", "a".repeat(limits::URI_BYTES));
        assert_eq!(
            refusal("<sip:a@192.0.2.9>", &long).unwrap().reason,
            "Contact Too Long"
        );
        assert_eq!(
            refusal("c3@", &"c".repeat(limits::CALL_ID_BYTES))
                .unwrap()
                .reason,
            "Call-ID Too Long"
        );
        assert_eq!(
            refusal(
                "tag=b2",
                &format!("tag={}", "t".repeat(limits::TAG_BYTES + 1))
            )
            .unwrap()
            .reason,
            "To Tag Too Long"
        );
    }

    #[test]
    fn too_many_hops_are_483() {
        let via = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n";
        let status = |more: usize| {
            refusal("Max-Forwards", &format!("{}Max-Forwards", via.repeat(more))).map(|r| r.status)
        };
        assert_eq!(status(limits::VIAS - 1), None);
        assert_eq!(status(limits::VIAS), Some(483));
    }

    #[test]
    fn a_request_is_answerable_while_its_top_via_says_where_it_came_from() {
        let answerable = |from: &str, to: &str| {
            let text = SOUND.replacen(from, to, 1);
            Message::scan(text.as_bytes()).unwrap().is_answerable()
        };
        assert!(answerable(";rport", ";;,;"));
        assert!(answerable("CSeq: 4 SUBSCRIBE\r\n", ""));
        assert!(!answerable("Via", "X-Via"));
        assert!(!answerable("SIP/2.0/UDP 192.0.2.9", "SIP/2.0/UDP"));
        assert!(!answerable("SUBSCRIBE sip", "ACK sip"));
    }
}
