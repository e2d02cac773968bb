//! Where one message of a stream ends and the next begins: the empty line behind the headers, and what
//! Content-Length says. It holds no bytes, and judges nothing else of a message.

use super::name::Name;
use super::scan::{Length, line_end, split_line};

/// What the headers say of the body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    Known(u64),
    /// No Content-Length: there is no body, as nothing else could end it.
    Absent,
    /// No number, or several that differ: nobody knows where the next message begins.
    Malformed,
}

/// The length of the head of the message that `text` begins with, its empty line included. `Err`: it has not all come;
/// what will have to be searched next time begins there. `from` is what this said the last time, 0 at first.
pub fn head_length(text: &[u8], from: usize) -> Result<usize, usize> {
    let mut at = from;
    loop {
        let Some(found) = memchr::memchr(b'\n', &text[at..]) else {
            return Err(text.len());
        };
        at += found;
        match text[at + 1..] {
            [b'\n', ..] => return Ok(at + 2),
            [b'\r', b'\n', ..] => return Ok(at + 3),
            [] | [b'\r'] => return Err(at),
            [_, ..] => at += 1,
        }
    }
}

/// What the Content-Length headers of a head say together.
//= RFC 3261 18.3
pub fn body_length(head: &[u8]) -> BodyLength {
    let mut length = Length::Absent;
    let mut at = line_end(head, 0).map_or(head.len(), |line| line.next);
    while let Some(line) = line_end(head, at) {
        if let Some((_, Some(Name::ContentLength), value)) = split_line(head, at, line.end) {
            length.see(&head[value..line.end]);
        }
        at = line.next;
    }
    match length {
        Length::Absent => BodyLength::Absent,
        Length::Given(length) => BodyLength::Known(length),
        Length::Malformed => BodyLength::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_empty_line_wherever_the_search_was_interrupted() {
        let text = b"OPTIONS sip:a SIP/2.0\r\nSubject: x\r\n \r\n\ty\r\nl: 3\r\n\r\nabc";
        let whole = text.len() - 3;
        for cut in 0..=text.len() {
            let first = head_length(&text[..cut], 0);
            match first {
                Ok(length) => assert!(length == whole && cut >= whole),
                Err(from) => assert_eq!(head_length(text, from), Ok(whole), "cut at {cut}"),
            }
        }
        assert_eq!(head_length(b"A\n\nb", 0), Ok(3));
        assert_eq!(body_length(&text[..whole]), BodyLength::Known(3));
    }

    //= RFC 3261 18.3 type=test
    #[test]
    fn a_length_is_known_only_where_all_that_is_said_of_it_agrees() {
        for (lines, length) in [
            ("Content-Length: 12\r\n", BodyLength::Known(12)),
            ("l:12\r\nContent-length : 12\r\n", BodyLength::Known(12)),
            ("L: \r\n 12\r\n", BodyLength::Known(12)),
            ("X: l: 12\r\n", BodyLength::Absent),
            ("l: 12\r\nl: 13\r\n", BodyLength::Malformed),
            ("l: -1\r\n", BodyLength::Malformed),
            ("l: 99999999999999999999999\r\n", BodyLength::Malformed),
            ("l:\r\n", BodyLength::Malformed),
        ] {
            let head = format!("OPTIONS sip:a SIP/2.0\r\n{lines}\r\n");
            assert_eq!(body_length(head.as_bytes()), length, "{lines:?}");
        }
    }
}
