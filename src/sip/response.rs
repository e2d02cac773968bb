//! Everything that a response must have before anyone looks for its transaction.

use super::address::NameAddr;
use super::lex;
use super::message::{Message, Start};
use super::method::Method;
use super::name::Name;
use super::request::CSeq;
use super::via::Via;

/// A well-formed response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub message: &'a Message<'a>,
    pub status: u16,
    /// The topmost: ours, if it is an answer to us.
    pub via: Via<'a>,
    /// Empty if it has none: then it is no answer to us.
    pub branch: &'a [u8],
    pub cseq: u32,
    /// Of the request that it answers.
    pub method: Method<'a>,
    pub call_id: &'a [u8],
    pub from_tag: &'a [u8],
    pub to_tag: Option<&'a [u8]>,
}

impl Message<'_> {
    /// The response in it; `None` if it is a request, or broken: such a one is dropped.
    pub fn response(&self) -> Option<Response<'_>> {
        let Start::Response { status } = self.start else {
            return None;
        };
        if self.flaw.is_some() {
            return None;
        }
        let via = Via::parse(self.values(Name::Via).next()?).ok()?;
        let cseq = CSeq::parse(self.only(Name::CSeq)?).ok()?;
        let from = NameAddr::parse(self.only(Name::From)?).ok()?;
        let to = NameAddr::parse(self.only(Name::To)?).ok()?;
        Some(Response {
            message: self,
            status,
            via,
            branch: via.branch.unwrap_or(&[]),
            cseq: cseq.number,
            method: Method::parse(cseq.method)?,
            call_id: self.only(Name::CallId)?,
            from_tag: from.tag.unwrap_or(&[]),
            to_tag: to.tag,
        })
    }

    fn only(&self, name: Name) -> Option<&[u8]> {
        if self.count(name) > 1 {
            return None;
        }
        self.first(name)
    }
}

impl Response<'_> {
    /// The seconds of Retry-After; its comment and parameters are passed over. `None`: absent or malformed.
    //= RFC 3261 20.33
    pub fn retry_after(&self) -> Option<u32> {
        let value = self.message.first(Name::RetryAfter)?;
        let digits = lex::skip(value, 0, |byte| byte.is_ascii_digit());
        let after = lex::skip_space(value, digits);
        match value.get(after) {
            None | Some(b'(' | b';') => lex::expires(&value[..digits]).ok(),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "SIP/2.0 503 Busy\r\n\
        Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK0ab;received=192.0.2.1\r\n\
        f: <sip:1001@h>;tag=us\r\n\
        t: <sip:a@h>;tag=them\r\n\
        i: c3\r\n\
        CSeq: 7 NOTIFY\r\n\
        Retry-After: 30 (overloaded);duration=9\r\n\r\n";

    fn parses(from: &str, to: &str) -> bool {
        let text = SOUND.replacen(from, to, 1);
        assert_ne!(text, SOUND);
        Message::scan(text.as_bytes()).is_ok_and(|message| message.response().is_some())
    }

    #[test]
    fn a_sound_response_has_everything_in_its_place() {
        let message = Message::scan(SOUND.as_bytes()).unwrap();
        let response = message.response().unwrap();
        assert_eq!(
            (response.status, response.branch),
            (503, &b"z9hG4bK0ab"[..])
        );
        assert_eq!((response.cseq, response.method), (7, Method::Notify));
        assert_eq!(
            (response.from_tag, response.to_tag),
            (&b"us"[..], Some(&b"them"[..]))
        );
        assert_eq!(response.call_id, b"c3");
        assert_eq!(response.retry_after(), Some(30));
        assert_eq!(message.request().unwrap_err().status, 400);
        assert!(!message.is_answerable());
    }

    #[test]
    fn a_broken_response_is_none() {
        for (from, to) in [
            ("Via:", "X:"),
            ("CSeq: 7", "CSeq: 9292394834772304023312"),
            ("f: ", "g: "),
            ("t: ", "t: <sip:b@h>\r\nt: "),
            ("i: c3\r\n", ""),
            ("<sip:a@h>", "\"x <sip:a@h>"),
            ("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"),
        ] {
            assert!(!parses(from, to), "{to}");
        }
    }

    //= RFC 3261 20.33 type=test
    #[test]
    fn a_retry_after_that_is_no_number_is_none() {
        for (value, expected) in [
            ("0", Some(0)),
            ("5;duration=3", Some(5)),
            ("x", None),
            ("949302838503028349304023988", None),
            ("5 5", None),
        ] {
            let text = SOUND.replacen("30 (overloaded);duration=9", value, 1);
            let message = Message::scan(text.as_bytes()).unwrap();
            assert_eq!(
                message.response().unwrap().retry_after(),
                expected,
                "{value}"
            );
        }
    }
}
