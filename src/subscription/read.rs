//! Reads what a SUBSCRIBE asks for (RFC 6665 4.2.1), and the dialog that it makes.

use crate::config::limits;
use crate::sip::{
    AcceptRange, Contact, EventHeader, Name, NameAddr, Request, Uri, Writer, expires, trim,
};
use crate::subscription::package::{self, ContentTypeId, Package};
use crate::subscription::tempo::Rates;

/// What a SUBSCRIBE asks for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub package: &'static Package,
    /// The `id` of Event; empty if there is none.
    pub event_id: &'a [u8],
    pub content_type: ContentTypeId,
    /// None: the package's default.
    pub seconds: Option<u32>,
    pub rates: Rates,
    /// What the phone knows already, and need not be told.
    pub known: Suppress<'a>,
}

/// Why it asks for nothing that can be given.
#[derive(Clone, Copy)]
pub enum Unwanted {
    /// 489: no Event, one that is malformed, or a package that is not served.
    Event,
    /// 406: no type in common.
    Accept(&'static Package),
    /// 400, with what is wrong.
    Malformed(&'static str),
}

/// What is asked for. Unknown parameters of Event are ignored.
//= RFC 6665 8.2.1
pub fn wanted<'a>(request: &Request<'a>) -> Result<Wanted<'a>, Unwanted> {
    let message = request.message;
    let event = single(request, Name::Event).ok_or(Unwanted::Event)?;
    let event = EventHeader::parse(event).map_err(|_| Unwanted::Event)?;
    let package = package::by_name(event.package).ok_or(Unwanted::Event)?;
    let accept = message.values(Name::Accept).filter_map(|raw| {
        let range = AcceptRange::parse(raw).ok()?;
        let params = range.media.params.as_bytes();
        Some((trim(&raw[..raw.len() - params.len()]), range.q))
    });
    let content_type = package.negotiate(accept).ok_or(Unwanted::Accept(package))?;
    Ok(Wanted {
        package,
        event_id: event.id.unwrap_or(&[]),
        content_type,
        seconds: asked_seconds(request)?,
        rates: Rates::read(&event.params),
        known: suppress(request),
    })
}

/// What a phone need not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppress<'a> {
    Nothing,
    /// The state with this entity tag.
    Tag(&'a [u8]),
    /// Whatever it is.
    Anything,
}

/// What Suppress-If-Match says; more than one say nothing: then all is told.
//= RFC 5839 5.3
fn suppress<'a>(request: &Request<'a>) -> Suppress<'a> {
    match single(request, Name::SuppressIfMatch) {
        Some(b"*") => Suppress::Anything,
        Some(tag) => Suppress::Tag(tag),
        None => Suppress::Nothing,
    }
}

/// The value of Expires; None if there is none.
pub fn asked_seconds(request: &Request<'_>) -> Result<Option<u32>, Unwanted> {
    match request.message.count(Name::Expires) {
        0 => Ok(None),
        1 => match expires(request.message.first(Name::Expires).expect("counted")) {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(Unwanted::Malformed("Malformed Expires")),
        },
        _ => Err(Unwanted::Malformed("More Than One Expires")),
    }
}

fn single<'a>(request: &Request<'a>, name: Name) -> Option<&'a [u8]> {
    request
        .message
        .first(name)
        .filter(|_| request.message.count(name) == 1)
}

/// The Contact of a request that makes or refreshes a dialog: exactly one, a SIP URI, without the header fields that
/// it may hold, as it is going to be a Request-URI. None: there is none.
//= RFC 3261 8.1.1.8
pub fn contact<'a>(request: &Request<'a>) -> Result<Option<Uri<'a>>, Unwanted> {
    if request.contacts > 1 {
        return Err(Unwanted::Malformed("More Than One Contact"));
    }
    let uri = match request.contact {
        None => return Ok(None),
        Some(Contact::Address(address)) => address.sip_uri().ok(),
        // A star is no address: it is for REGISTER only.
        Some(Contact::Star) => None,
    };
    match uri {
        Some(uri) => Ok(Some(uri.without_headers())),
        None => Err(Unwanted::Malformed("Malformed Contact")),
    }
}

/// The route set of a dialog as its requests carry it.
pub struct Routing<'a> {
    /// The Request-URI of every request in the dialog.
    pub target: &'a [u8],
    /// The lines of Route, line ends included.
    pub lines: usize,
    /// The first hop, if there is a route set.
    pub first: Option<Uri<'a>>,
}

/// Writes the Route lines of a dialog into `lines`.
///
/// A first route that is a strict router takes the place of the Request-URI, and the target becomes the last route.
//= RFC 3261 12.2.1.1
pub fn routing<'a>(
    request: &Request<'a>,
    target: &'a [u8],
    lines: &mut [u8],
) -> Result<Routing<'a>, Unwanted> {
    let malformed = Unwanted::Malformed("Malformed Record-Route");
    let too_long = Unwanted::Malformed("Too Many Record-Routes");
    let mut writer = Writer::new(lines);
    let mut first = None;
    for (number, raw) in request.message.values(Name::RecordRoute).enumerate() {
        if number >= limits::ROUTES {
            return Err(too_long);
        }
        let route = NameAddr::parse(raw).map_err(|_| malformed)?;
        let uri = Uri::parse(route.uri).map_err(|_| malformed)?;
        if first.is_none() {
            first = Some(uri);
            if !uri.is_loose() {
                continue;
            }
        }
        writer.name(Name::Route);
        writer.unfolded(raw);
        writer.line_end();
    }
    let strict = first.filter(|uri| !uri.is_loose());
    if strict.is_some() {
        writer.put(b"Route: <");
        writer.put(target);
        writer.put(b">\r\n");
    }
    let lines = writer.finish().ok_or(too_long)?;
    Ok(Routing {
        target: strict.map_or(target, |uri| uri.without_headers().raw),
        lines,
        first,
    })
}
