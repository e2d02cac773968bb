//! One publisher: a publication of one resource, as its agent knows it (RFC 3903).

use crate::lamp::State;
use crate::wire::{Heard, put};

/// What a publisher has out.
pub struct Publisher {
    pub resource: u32,
    pub cseq: u32,
    pub awaits_answer: bool,
    /// Of the last 200; empty before the first and after a removal.
    entity_tag: Box<[u8]>,
    /// None: the publication is being removed.
    body: Option<String>,
}

impl Publisher {
    pub fn new(resource: u32) -> Self {
        Publisher {
            resource,
            cseq: 0,
            awaits_answer: false,
            entity_tag: Box::default(),
            body: None,
        }
    }

    /// Prepares the next PUBLISH. Idle removes the publication; the rest publish or modify it.
    pub fn next(&mut self, state: State) {
        self.cseq += 1;
        self.awaits_answer = true;
        let shown = match state {
            State::Idle | State::Unavailable => None,
            State::Ringing => Some("early"),
            State::InUse | State::Hold | State::Messages(_) => Some("confirmed"),
        };
        self.body = shown.map(|word| {
            format!(
                "<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{}\" state=\"full\" entity=\"sip:publisher@example.com\">\
                 <dialog id=\"call{}\" call-id=\"c{}@pbx\" local-tag=\"lt\" remote-tag=\"rt\" direction=\"recipient\"><state>{word}</state>\
                 <remote><identity display=\"Alice\">sip:alice@example.com</identity></remote></dialog></dialog-info>\n",
                self.cseq, self.resource, self.resource
            )
        });
    }

    /// Whether anything is published: there is nothing to remove otherwise.
    pub fn is_out(&self) -> bool {
        !self.entity_tag.is_empty()
    }

    /// Writes the PUBLISH that is awaiting its answer.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        here: &str,
        server: &str,
        index: u32,
        run: u32,
        resource: &str,
    ) {
        let cseq = self.cseq;
        put(
            out,
            format_args!(
                "PUBLISH sip:{resource}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{run:x}.b{index}.{cseq};rport\r\n\
                 From: <sip:b{index}@{server}>;tag=b{index}\r\nTo: <sip:{resource}@{server}>\r\nCall-ID: b{index}-{run:08x}@{here}\r\n\
                 CSeq: {cseq} PUBLISH\r\nMax-Forwards: 70\r\nEvent: dialog\r\n"
            ),
        );
        if self.is_out() {
            out.extend_from_slice(b"SIP-If-Match: ");
            out.extend_from_slice(&self.entity_tag);
            out.extend_from_slice(b"\r\n");
        }
        match &self.body {
            Some(body) => put(
                out,
                format_args!(
                    "Expires: 3600\r\nContent-Type: application/dialog-info+xml\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
            ),
            None => put(out, format_args!("Expires: 0\r\nContent-Length: 0\r\n\r\n")),
        }
    }

    /// Takes the answer. False: it is not the one that was awaited or not a good one.
    pub fn take_answer(&mut self, heard: &Heard<'_>) -> bool {
        self.awaits_answer = false;
        if heard.status != 200 {
            return false;
        }
        self.entity_tag = match self.body {
            Some(_) => heard.entity_tag.into(),
            None => Box::default(),
        };
        self.body.is_none() || self.is_out()
    }
}

/// The publisher's number in a Call-ID that a publisher made.
pub fn publisher_of(call_id: &[u8]) -> Option<u32> {
    let digits = call_id.strip_prefix(b"b")?;
    crate::wire::number(&digits[..memchr::memchr(b'-', digits)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_made_modified_and_removed() {
        let mut publisher = Publisher::new(4);
        let write = |publisher: &Publisher| {
            let mut out = Vec::new();
            publisher.write(&mut out, "127.0.0.1:6", "127.0.0.1:5", 9, 1, "1004");
            out
        };
        publisher.next(State::Ringing);
        let bytes = write(&publisher);
        let heard = Heard::read(&bytes).unwrap();
        assert_eq!(publisher_of(heard.call_id), Some(9));
        assert!(heard.if_match.is_empty() && !heard.body.is_empty());
        let answer = Heard {
            status: 200,
            entity_tag: b"tag1",
            ..Heard::default()
        };
        assert!(publisher.take_answer(&answer));
        publisher.next(State::Idle);
        let bytes = write(&publisher);
        let heard = Heard::read(&bytes).unwrap();
        assert_eq!(heard.if_match, b"tag1");
        assert_eq!((heard.expires, heard.body), (Some(0), &b""[..]));
        assert!(publisher.take_answer(&answer));
        assert!(!publisher.is_out());
    }
}
