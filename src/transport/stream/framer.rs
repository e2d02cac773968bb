//! The messages of a TCP or TLS connection, one behind the other (RFC 3261 18.3), with the line ends between them
//! that keep it alive (RFC 5626 4.4.1). It keeps what has come of one message, and looks into none.

use crate::config::limits;
use crate::sip::{BodyLength, body_length, head_length};

/// What was found in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// One whole message.
    Message(&'a [u8]),
    /// Two line ends in a row between messages: one is to be sent back.
    Ping,
    /// Nothing can be read from here on. `head`: of the message that broke the stream, as far as it came,
    /// so that it can be refused.
    Broken { head: &'a [u8], why: Broken },
}

/// Why nobody can tell where the next message begins, or waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    HeadersTooLong,
    BodyTooLong,
    /// Content-Length is no number, or several that differ.
    LengthMalformed,
}

/// How far the reading of one connection is.
#[derive(Debug, Default)]
pub struct Framer {
    /// What has come of a message whose rest has not. Empty, and without memory, between messages.
    begun: Vec<u8>,
    /// Where in `begun` the message stands that is not whole yet; what was handed out lies before.
    start: usize,
    /// How far behind `start` the end of the headers has been looked for.
    searched: usize,
    /// The length of the whole message, once its headers are there.
    length: Option<usize>,
    /// A line end was the last thing that came between messages.
    line_ended: bool,
    /// Of a line end between messages its first half has come.
    halved: bool,
    broken: bool,
}

/// What the bytes that have come amount to.
enum Measured {
    /// A message of so many bytes.
    Whole(usize),
    /// More has to come.
    Partial,
    /// The headers are that long, as far as they came.
    Broken(usize, Broken),
}

impl Framer {
    /// The next thing found in what has come, `bytes` being the newest of it. `None`: all of it is taken in, and
    /// `bytes` is empty. After `Broken` nothing more is found, and everything is thrown away.
    pub fn next<'s, 'b: 's>(&'s mut self, bytes: &mut &'b [u8]) -> Option<Found<'s>> {
        if self.broken {
            self.begun = Vec::new();
            self.start = 0;
            *bytes = &[];
            return None;
        }
        if self.is_partial() {
            self.begun.extend_from_slice(bytes);
            *bytes = &[];
            return self.next_begun();
        }
        self.begun = Vec::new();
        self.start = 0;
        if self.skip_line_ends(bytes) {
            return Some(Found::Ping);
        }
        if bytes.is_empty() {
            return None;
        }
        let text: &'b [u8] = bytes;
        match self.measure(text) {
            Measured::Whole(length) => {
                *bytes = &text[length..];
                Some(Found::Message(&text[..length]))
            }
            Measured::Partial => {
                self.begun.extend_from_slice(text);
                *bytes = &[];
                None
            }
            Measured::Broken(length, why) => {
                *bytes = &[];
                self.broken = true;
                let head = &text[..length];
                Some(Found::Broken { head, why })
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.start < self.begun.len()
    }

    /// Whether nothing more can be read.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn next_begun(&mut self) -> Option<Found<'_>> {
        let begun = core::mem::take(&mut self.begun);
        let mut text = &begun[self.start..];
        let before = text.len();
        // Nothing of the message has been looked at: line ends may stand before it.
        let pinged = self.searched == 0 && self.length.is_none() && self.skip_line_ends(&mut text);
        self.start += before - text.len();
        if pinged {
            self.begun = begun;
            return Some(Found::Ping);
        }
        let measured = if text.is_empty() {
            Measured::Partial
        } else {
            self.measure(text)
        };
        self.begun = begun;
        let start = self.start;
        match measured {
            Measured::Whole(length) => {
                self.start += length;
                Some(Found::Message(&self.begun[start..start + length]))
            }
            Measured::Partial => {
                self.begun.drain(..start);
                self.start = 0;
                None
            }
            Measured::Broken(length, why) => {
                self.start = self.begun.len();
                self.broken = true;
                let head = &self.begun[start..start + length];
                Some(Found::Broken { head, why })
            }
        }
    }

    fn measure(&mut self, text: &[u8]) -> Measured {
        let length = match self.length {
            Some(length) => length,
            None => match self.measure_head(text) {
                Ok(length) => length,
                Err(measured) => return measured,
            },
        };
        if text.len() < length {
            self.length = Some(length);
            return Measured::Partial;
        }
        self.length = None;
        self.searched = 0;
        Measured::Whole(length)
    }

    //= RFC 3261 18.3
    fn measure_head(&mut self, text: &[u8]) -> Result<usize, Measured> {
        let head = match head_length(text, self.searched) {
            Ok(head) if head <= limits::HEADER_BYTES => head,
            Err(searched) if searched <= limits::HEADER_BYTES => {
                self.searched = searched;
                return Err(Measured::Partial);
            }
            Ok(length) | Err(length) => {
                let length = length.min(limits::HEADER_BYTES);
                return Err(Measured::Broken(length, Broken::HeadersTooLong));
            }
        };
        let body = match body_length(&text[..head]) {
            BodyLength::Known(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyLength::Absent => 0,
            BodyLength::Malformed => {
                return Err(Measured::Broken(head, Broken::LengthMalformed));
            }
        };
        if body > limits::STREAM_BODY_BYTES {
            return Err(Measured::Broken(head, Broken::BodyTooLong));
        }
        Ok(head + body)
    }

    /// Passes over line ends between messages; true after the second one in a row.
    //= RFC 3261 7.5
    //= RFC 5626 4.4.1
    fn skip_line_ends(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some((&first, rest)) = bytes.split_first() {
            match first {
                b'\r' => self.halved = true,
                b'\n' => {
                    let whole = core::mem::take(&mut self.halved);
                    let second = whole && self.line_ended;
                    self.line_ended = whole && !second;
                    if second {
                        *bytes = rest;
                        return true;
                    }
                }
                _ => {
                    self.halved = false;
                    self.line_ended = false;
                    return false;
                }
            }
            *bytes = rest;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found, in a form that lives on.
    #[derive(Debug, PartialEq, Eq)]
    enum Kept {
        Message(Vec<u8>),
        Ping,
        Broken(Vec<u8>, Broken),
    }

    fn keep(found: Found<'_>) -> Kept {
        match found {
            Found::Message(bytes) => Kept::Message(bytes.to_vec()),
            Found::Ping => Kept::Ping,
            Found::Broken { head, why } => Kept::Broken(head.to_vec(), why),
        }
    }

    fn feed(framer: &mut Framer, mut bytes: &[u8], found: &mut Vec<Kept>) {
        while let Some(one) = framer.next(&mut bytes) {
            found.push(keep(one));
        }
        assert!(bytes.is_empty());
    }

    fn read(pieces: &[&[u8]]) -> Vec<Kept> {
        let (mut framer, mut found) = (Framer::default(), Vec::new());
        for piece in pieces {
            feed(&mut framer, piece, &mut found);
        }
        if !framer.is_partial() {
            // What was handed out is let go of with the next bytes at the latest.
            feed(&mut framer, b"", &mut found);
            assert_eq!(framer.begun.capacity(), 0);
        }
        found
    }

    fn message(number: usize, body: &str) -> String {
        format!(
            "MESSAGE sip:{number}@h SIP/2.0\r\nSubject: a\r\n\tb\r\nl: {}\r\n\r\n{body}",
            body.len()
        )
    }

    //= RFC 3261 18.3 type=test
    #[test]
    fn the_same_is_found_wherever_the_stream_is_cut() {
        let texts = [
            message(1, ""),
            message(2, "body\r\n\r\nwith empty lines\r\n\r\n"),
            message(3, "x"),
        ];
        let stream = format!(
            "\r\n{}\r\n\r\n\r\n{}{}\r\n\r\n",
            texts[0], texts[1], texts[2]
        );
        let stream = stream.as_bytes();
        let mut expected: Vec<Kept> = texts
            .iter()
            .map(|text| Kept::Message(text.as_bytes().to_vec()))
            .collect();
        expected.insert(1, Kept::Ping);
        expected.push(Kept::Ping);
        assert_eq!(read(&[stream]), expected);
        for first in 0..=stream.len() {
            let (head, tail) = stream.split_at(first);
            assert_eq!(read(&[head, tail]), expected, "cut at {first}");
            for second in (0..=tail.len()).step_by(7) {
                let (middle, tail) = tail.split_at(second);
                assert_eq!(
                    read(&[head, middle, tail]),
                    expected,
                    "cut at {first} and {second} later"
                );
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), expected);
    }

    //= RFC 5626 4.4.1 type=test
    #[test]
    fn two_line_ends_in_a_row_are_a_ping_and_one_is_nothing() {
        for (text, pings) in [
            ("\r\n", 0),
            ("\r\n\r\n", 1),
            ("\r\n\r\n\r\n", 1),
            ("\r\n\r\n\r\n\r\n", 2),
            ("\n\n\n\n", 0),
        ] {
            assert_eq!(read(&[text.as_bytes()]).len(), pings, "{text:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes).len(), pings, "{text:?}");
        }
    }

    #[test]
    fn a_message_without_a_length_has_no_body() {
        let found = read(&[b"OPTIONS sip:a SIP/2.0\r\n\r\nOPTIONS sip:b SIP/2.0\n\n"]);
        assert_eq!(
            found,
            [
                Kept::Message(b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec()),
                Kept::Message(b"OPTIONS sip:b SIP/2.0\n\n".to_vec())
            ]
        );
    }

    #[test]
    fn what_cannot_be_followed_breaks_the_stream_at_the_same_place_however_it_is_cut() {
        let endless = format!("OPTIONS sip:a SIP/2.0\r\nX: {}", "x".repeat(70_000));
        let good = message(1, "one");
        for (text, why) in [
            (
                "MESSAGE sip:a SIP/2.0\r\nl: x\r\n\r\nbody",
                Broken::LengthMalformed,
            ),
            (
                "MESSAGE sip:a SIP/2.0\r\nl: 99999999\r\n\r\nbody",
                Broken::BodyTooLong,
            ),
            (endless.as_str(), Broken::HeadersTooLong),
        ] {
            let stream = format!("{good}{text}");
            let stream = stream.as_bytes();
            let whole = read(&[stream]);
            assert_eq!(whole.len(), 2);
            assert!(matches!(&whole[1], Kept::Broken(_, found) if *found == why));
            for cut in (0..stream.len()).step_by(stream.len() / 97 + 1) {
                let (head, tail) = stream.split_at(cut);
                assert_eq!(read(&[head, tail]), whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_the_longest_message_has() {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for _ in 0..200 {
            feed(&mut framer, &[b'x'; 1000], &mut found);
            let longest = limits::HEADER_BYTES + limits::STREAM_BODY_BYTES;
            assert!(framer.begun.len() <= longest + 1000);
        }
        assert_eq!(found.len(), 1);
        assert!(framer.is_broken() && !framer.is_partial());
    }
}
