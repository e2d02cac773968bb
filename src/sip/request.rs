//! Everything that a request must have before anyone acts on it, checked once.

use super::address::NameAddr;
use super::lex::{self, Malformed};
use super::limits::CSEQ_MAX;
use super::message::{Message, Start};
use super::method::Method;
use super::name::Name;
use super::uri::{Scheme, Tel, Uri};
use super::via::{MAGIC_COOKIE, Via};

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
            .filter(|number| *number <= u64::from(CSEQ_MAX))
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
        let from = NameAddr::parse(single(
            self,
            Name::From,
            "Missing From",
            "More Than One From",
        )?)
        .map_err(|_| Refusal::new(400, "Malformed From"))?;
        let to = NameAddr::parse(single(self, Name::To, "Missing To", "More Than One To")?)
            .map_err(|_| Refusal::new(400, "Malformed To"))?;
        let call_id = single(
            self,
            Name::CallId,
            "Missing Call-ID",
            "More Than One Call-ID",
        )?;
        if call_id.is_empty() || !lex::all(call_id, |byte| byte > b' ' && byte != 0x7f) {
            return Err(Refusal::new(400, "Malformed Call-ID"));
        }
        let cseq = CSeq::parse(single(
            self,
            Name::CSeq,
            "Missing CSeq",
            "More Than One CSeq",
        )?)
        .map_err(|_| Refusal::new(400, "Malformed CSeq"))?;
        if cseq.method != method.as_bytes() {
            return Err(Refusal::new(400, "CSeq Method Mismatch"));
        }
        if self.count(Name::MaxForwards) > 1 || !max_forwards_is_sound(self) {
            return Err(Refusal::new(400, "Malformed Max-Forwards"));
        }
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
    let raw = message
        .values(Name::Via)
        .next()
        .ok_or(Refusal::new(400, "Missing Via"))?;
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
