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
