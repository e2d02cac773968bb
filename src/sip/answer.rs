//! The part that every answer has in common, taken from the request.

use core::net::{IpAddr, SocketAddr};

use super::address::NameAddr;
use super::host::Host;
use super::message::Message;
use super::name::Name;
use super::values::Values;
use super::via::{Rport, Via};
use super::writer::Writer;

/// What an answer's common part is made from.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    /// `None`: the usual phrase of the status.
    pub reason: Option<&'a str>,
    /// Where the request came from.
    pub source: SocketAddr,
    /// The tag that To gets if it has none. `None`: leave it without (100 only).
    pub to_tag: Option<&'a [u8]>,
    /// Echo the Record-Route headers (an answer that makes a dialog).
    pub record_route: bool,
}

impl Answer<'_> {
    /// Writes the status line, every Via, From, To, Call-ID and CSeq, each line ended, without the empty line.
    /// Headers that the request lacks are left out. False, and nothing written: there is no usable top Via.
    //= RFC 3261 8.2.6.2
    #[must_use]
    pub fn write(&self, message: &Message<'_>, writer: &mut Writer<'_>) -> bool {
        let Some(top) = message.top_via_for_answer() else {
            return false;
        };
        self.write_to(message, &top, writer);
        true
    }

    /// The same for a message whose top Via has been read already.
    pub fn write_to(&self, message: &Message<'_>, top: &Via<'_>, writer: &mut Writer<'_>) {
        self.status_line(writer);
        vias(message, top, self.source, writer);
        copy(message, Name::From, writer);
        self.to(message, writer);
        copy(message, Name::CallId, writer);
        copy(message, Name::CSeq, writer);
        if self.record_route {
            for value in message.lines_of(Name::RecordRoute) {
                line(Name::RecordRoute, value, writer);
            }
        }
    }

    fn status_line(&self, writer: &mut Writer<'_>) {
        writer.put(b"SIP/2.0 ");
        writer.decimal(self.status);
        writer.put(b" ");
        writer.put(self.reason.unwrap_or(reason_phrase(self.status)).as_bytes());
        writer.line_end();
    }

    fn to(&self, message: &Message<'_>, writer: &mut Writer<'_>) {
        let Some(to) = message.first(Name::To) else {
            return;
        };
        writer.name(Name::To);
        writer.unfolded(to);
        let has_tag = NameAddr::tag_in(to).is_some();
        if let Some(tag) = self.to_tag
            && !has_tag
        {
            writer.put(b";tag=");
            writer.put(tag);
        }
        writer.line_end();
    }
}

fn copy(message: &Message<'_>, name: Name, writer: &mut Writer<'_>) {
    if let Some(value) = message.first(name) {
        line(name, value, writer);
    }
}

fn line(name: Name, value: &[u8], writer: &mut Writer<'_>) {
    writer.name(name);
    writer.unfolded(value);
    writer.line_end();
}

fn vias(message: &Message<'_>, top: &Via<'_>, source: SocketAddr, writer: &mut Writer<'_>) {
    let mut first_written = false;
    for value in message.lines_of(Name::Via) {
        if first_written {
            line(Name::Via, value, writer);
            continue;
        }
        // The first line that holds a value holds the top Via; others may be joined to it.
        let mut values = Values::new(value);
        if values.next().is_none() {
            continue;
        }
        first_written = true;
        writer.name(Name::Via);
        top_via(top, source, writer);
        let rest = values.rest();
        if !rest.is_empty() {
            writer.put(b",");
            writer.unfolded(rest);
        }
        writer.line_end();
    }
}

/// The top Via with `received` and `rport` as they must be; all else as it came.
//= RFC 3261 18.2.1
//= RFC 3581 4
fn top_via(via: &Via<'_>, source: SocketAddr, writer: &mut Writer<'_>) {
    let asked = via.rport != Rport::Absent;
    let address = source.ip().to_canonical();
    let received = asked || via.received.is_some() || via.host.address() != Some(address);
    if !asked && via.received.is_none() {
        writer.unfolded(via.raw);
    } else {
        // Written anew without those two, whose values only we can know.
        let params = via.params.as_bytes();
        writer.unfolded(&via.raw[..via.raw.len() - params.len()]);
        for param in via.params.iter() {
            if param.is("received") || param.is("rport") {
                continue;
            }
            writer.put(b";");
            writer.put(param.name);
            if let Some(value) = param.value {
                writer.put(b"=");
                writer.unfolded(value);
            }
        }
    }
    if received {
        writer.put(b";received=");
        writer.address(address);
    }
    if asked {
        writer.put(b";rport=");
        writer.decimal(source.port());
    }
}

/// Where an answer goes: back to the source address, to the port that it came from if the Via asks for it,
/// else to the one that the Via names.
//= RFC 3261 18.2.2
//= RFC 3581 4
pub fn destination(via: &Via<'_>, source: SocketAddr) -> SocketAddr {
    let port = match via.rport {
        Rport::Asked | Rport::Given(_) => source.port(),
        Rport::Absent => via.port.unwrap_or(5060),
    };
    SocketAddr::new(source.ip(), port)
}

/// Whether the request says that it comes from where it came from.
pub fn is_direct(via: &Via<'_>, source: IpAddr) -> bool {
    match via.host {
        Host::Name(_) => false,
        Host::V4(_) | Host::V6(_) => via.host.address() == Some(source.to_canonical()),
    }
}

/// The phrase that usually follows a status.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Failure",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(via: &str, to: &str, answer: Answer<'_>) -> String {
        let text = format!(
            "SUBSCRIBE sip:1@h SIP/2.0\r\n{via}\r\nFrom: \"A, \\\"B\" <sip:a@h>;tag=1\r\n{to}\r\n\
             i: c\r\nRecord-Route: <sip:p;lr>\r\nCSeq:  1\r\n SUBSCRIBE\r\nrecord-route: <sip:q;lr>,<sip:r;lr>\r\n\r\n"
        );
        let message = Message::scan(text.as_bytes()).unwrap();
        let mut buffer = [0; 2048];
        let mut writer = Writer::new(&mut buffer);
        let written = answer.write(&message, &mut writer);
        let length = writer.finish().unwrap();
        assert_eq!(written, length > 0);
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn plain() -> Answer<'static> {
        Answer {
            status: 200,
            reason: None,
            source: "192.0.2.9:5071".parse().unwrap(),
            to_tag: Some(b"new"),
            record_route: false,
        }
    }

    fn top_via(via: &str) -> String {
        let text = answer(&format!("Via: {via}"), "To: <sip:1@h>", plain());
        let line = text.split("\r\n").nth(1).unwrap();
        line.strip_prefix("Via: ").unwrap().to_owned()
    }

    //= RFC 3261 8.2.6.2 type=test
    #[test]
    fn an_answer_copies_what_identifies_the_request() {
        let text = answer(
            "v: SIP/2.0/UDP 192.0.2.9:5071;branch=z9hG4bK1, SIP/2.0/TCP x\r\nVia: SIP/2.0/UDP y;k=\"v\"",
            "t: <sip:1@h>",
            Answer {
                record_route: true,
                ..plain()
            },
        );
        assert_eq!(
            text,
            "SIP/2.0 200 OK\r\n\
             Via: SIP/2.0/UDP 192.0.2.9:5071;branch=z9hG4bK1, SIP/2.0/TCP x\r\n\
             Via: SIP/2.0/UDP y;k=\"v\"\r\n\
             From: \"A, \\\"B\" <sip:a@h>;tag=1\r\n\
             To: <sip:1@h>;tag=new\r\n\
             Call-ID: c\r\n\
             CSeq: 1 SUBSCRIBE\r\n\
             Record-Route: <sip:p;lr>\r\n\
             Record-Route: <sip:q;lr>,<sip:r;lr>\r\n"
        );
    }

    #[test]
    fn a_tag_that_is_there_stays_alone() {
        let text = answer("Via: SIP/2.0/UDP y", "To: <sip:1@h>;tag=old", plain());
        assert!(text.contains("To: <sip:1@h>;tag=old\r\n"), "{text}");
        let trying = Answer {
            status: 100,
            to_tag: None,
            ..plain()
        };
        let text = answer("Via: SIP/2.0/UDP y", "To: <sip:1@h;tag=inside>", trying);
        assert!(text.contains("To: <sip:1@h;tag=inside>\r\n"), "{text}");
        let text = answer("Via: SIP/2.0/UDP y", "To: <sip:1@h;tag=inside>", plain());
        assert!(
            text.contains("To: <sip:1@h;tag=inside>;tag=new\r\n"),
            "{text}"
        );
    }

    //= RFC 3261 18.2.1 type=test
    #[test]
    fn received_says_where_the_request_came_from_if_the_via_does_not() {
        assert_eq!(
            top_via("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1"),
            "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1"
        );
        assert_eq!(
            top_via("SIP/2.0/UDP 10.0.0.1:5060 ; branch=z9hG4bK1"),
            "SIP/2.0/UDP 10.0.0.1:5060 ; branch=z9hG4bK1;received=192.0.2.9"
        );
        assert_eq!(
            top_via("SIP/2.0/UDP host"),
            "SIP/2.0/UDP host;received=192.0.2.9"
        );
        assert_eq!(
            top_via("SIP/2.0/UDP 192.0.2.9;received=6.6.6.6;branch=b"),
            "SIP/2.0/UDP 192.0.2.9;branch=b;received=192.0.2.9",
            "a peer does not say where it came from"
        );
    }

    //= RFC 3581 4 type=test
    #[test]
    fn rport_is_filled_in_together_with_received() {
        assert_eq!(
            top_via("SIP/2.0/UDP 192.0.2.9:5060;rport;branch=b;x"),
            "SIP/2.0/UDP 192.0.2.9:5060;branch=b;x;received=192.0.2.9;rport=5071"
        );
        assert_eq!(
            top_via("SIP/2.0/UDP 192.0.2.9:5060;RPORT=1;branch=b"),
            "SIP/2.0/UDP 192.0.2.9:5060;branch=b;received=192.0.2.9;rport=5071"
        );
    }

    #[test]
    fn an_ipv6_source_is_written_without_brackets() {
        let source = Answer {
            source: "[2001:db8::9]:5060".parse().unwrap(),
            ..plain()
        };
        let text = answer(
            "Via: SIP/2.0/UDP [2001:db8::1];rport",
            "To: <sip:1@h>",
            source,
        );
        assert!(
            text.contains(";received=2001:db8::9;rport=5060\r\n"),
            "{text}"
        );
    }

    #[test]
    fn without_a_usable_via_nothing_is_written() {
        assert_eq!(answer("X: y", "To: <sip:1@h>", plain()), "");
        assert_eq!(answer("Via: SIP/2.0/UDP", "To: <sip:1@h>", plain()), "");
    }

    //= RFC 3261 18.2.2 type=test
    #[test]
    fn an_answer_goes_to_the_source_and_to_the_port_that_the_via_names() {
        let source = "192.0.2.9:5071".parse().unwrap();
        let port = |via: &str| destination(&Via::parse(via.as_bytes()).unwrap(), source).port();
        assert_eq!(port("SIP/2.0/UDP h"), 5060);
        assert_eq!(port("SIP/2.0/UDP h:5062"), 5062);
        assert_eq!(port("SIP/2.0/UDP h:5062;rport"), 5071);
    }
}
