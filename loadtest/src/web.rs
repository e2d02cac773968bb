//! A phone's half of WebSocket (RFC 6455, RFC 7118) as bytes in and bytes out: it asks for `sip`, wraps each message into a
//! masked frame of its own, and takes messages out of the server's frames. It knows no socket, and shares nothing with
//! the server's own half.

use crate::line::whole;
use crate::wire::put;

/// The key of RFC 6455 1.3 and the proof that belongs to it: it keeps no secret, and need not be another each time.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &[u8] = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const LAST: u8 = 0x80;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Where a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has been said.
    New,
    /// The server has not agreed yet.
    Asked,
    Open,
    /// The server has said that it ends.
    Closed,
}

/// One conversation.
pub struct Web {
    host: String,
    stage: Stage,
    /// What has come and is no whole frame yet.
    pub came: Vec<u8>,
    /// Answers to pings and to an end that are to be written.
    owed: Vec<u8>,
    mask: u32,
}

/// What the server must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    Refused(String),
    Frame(&'static str),
}

impl Web {
    pub fn new(host: String) -> Self {
        Web {
            host,
            stage: Stage::New,
            came: Vec::new(),
            owed: Vec::new(),
            mask: 0x9e37_79b9,
        }
    }

    /// Whether messages may be written.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Moves whole messages as they are to be sent: first the wish to speak, then frames.
    pub fn write(&mut self, messages: &mut Vec<u8>, into: &mut Vec<u8>) {
        if self.stage == Stage::New {
            put(
                into,
                format_args!(
                    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
                    self.host
                ),
            );
            self.stage = Stage::Asked;
        }
        into.append(&mut self.owed);
        if self.stage != Stage::Open {
            return;
        }
        let mut start = 0;
        while let Some(length) = whole(&messages[start..]) {
            self.frame(TEXT, &messages[start..start + length], into);
            start += length;
        }
        messages.drain(..start);
    }

    /// A frame of the client, masked as each must be (RFC 6455 5.3).
    fn frame(&mut self, kind: u8, payload: &[u8], into: &mut Vec<u8>) {
        const MASKED: u8 = 0x80;
        into.push(LAST | kind);
        match payload.len() {
            short @ 0..=125 => into.push(MASKED | short as u8),
            middle @ 126..=0xffff => {
                into.push(MASKED | 126);
                into.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            long => {
                into.push(MASKED | 127);
                into.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        self.mask = self
            .mask
            .wrapping_mul(0x0019_660d)
            .wrapping_add(0x3c6e_f35f);
        let mask = self.mask.to_be_bytes();
        into.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        into.extend(masked.map(|(byte, mask)| byte ^ mask));
    }

    /// Takes messages out of what has come. False: the server ends it. Something may be owed afterwards.
    pub fn read(&mut self, messages: &mut Vec<u8>) -> Result<bool, Wrong> {
        let came = std::mem::take(&mut self.came);
        let mut rest = &came[..];
        if self.stage == Stage::Asked {
            let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                self.came = came;
                return Ok(true);
            };
            agreed(&rest[..end + 2])?;
            rest = &rest[end + 4..];
            self.stage = Stage::Open;
        }
        while self.stage == Stage::Open
            && let Some(frame) = Frame::read(rest)?
        {
            let Frame { kind, payload, .. } = frame;
            rest = frame.rest;
            match kind {
                TEXT if whole(payload) == Some(payload.len()) => {
                    messages.extend_from_slice(payload);
                }
                TEXT => return Err(Wrong::Frame("it is not one whole message")),
                PING | CLOSE => {
                    let mut owed = std::mem::take(&mut self.owed);
                    self.frame(if kind == PING { PONG } else { CLOSE }, payload, &mut owed);
                    self.owed = owed;
                    if kind == CLOSE {
                        self.stage = Stage::Closed;
                    }
                }
                _ => return Err(Wrong::Frame("its kind is none that is sent")),
            }
        }
        self.came = rest.to_vec();
        Ok(self.stage != Stage::Closed)
    }
}

/// Whether the head of the server's answer agrees to what was asked.
fn agreed(head: &[u8]) -> Result<(), Wrong> {
    let has = |line: &[u8]| {
        head.split(|&byte| byte == b'\n')
            .any(|it| it.trim_ascii() == line)
    };
    let yes = head.starts_with(b"HTTP/1.1 101 ");
    if yes && has(PROOF) && has(b"Sec-WebSocket-Protocol: sip") {
        return Ok(());
    }
    Err(Wrong::Refused(String::from_utf8_lossy(head).into_owned()))
}

/// A frame of the server.
struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first one; None while it is not whole.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, Wrong> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0xf0 != LAST {
            return Err(Wrong::Frame("it is not the last of its message"));
        }
        let (length, rest) = match second {
            short @ 0..=125 => (u64::from(*short), rest),
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            // RFC 6455 5.1: a server's frames are not masked.
            _ => return Err(Wrong::Frame("it is masked")),
        };
        if rest.len() < length as usize {
            return Ok(None);
        }
        let (payload, rest) = rest.split_at(length as usize);
        let kind = first & 0x0f;
        Ok(Some(Frame {
            kind,
            payload,
            rest,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
    const MESSAGE: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc";

    fn asked() -> Web {
        let mut web = Web::new("127.0.0.1:80".to_owned());
        let mut out = Vec::new();
        web.write(&mut Vec::new(), &mut out);
        assert!(out.starts_with(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        web
    }

    /// What the server writes.
    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[LAST | kind, payload.len() as u8], payload].concat()
    }

    #[test]
    fn nothing_is_said_before_the_server_has_agreed_and_then_each_message_has_its_masked_frame() {
        let mut web = asked();
        let (mut messages, mut out) = (MESSAGE.repeat(2), Vec::new());
        web.write(&mut messages, &mut out);
        assert!(out.is_empty() && messages.len() == 2 * MESSAGE.len());
        web.came.extend_from_slice(AGREED);
        assert_eq!(web.read(&mut Vec::new()), Ok(true));
        web.write(&mut messages, &mut out);
        assert!(messages.is_empty());
        let each = 2 + 4 + MESSAGE.len();
        assert_eq!(out.len(), 2 * each);
        for frame in out.chunks(each) {
            assert_eq!(frame[..2], [LAST | TEXT, 0x80 | MESSAGE.len() as u8]);
            let payload = frame[6..].iter().zip(frame[2..6].iter().cycle());
            let clear: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(clear, MESSAGE);
        }
    }

    #[test]
    fn messages_are_found_in_frames_wherever_they_are_cut_and_pings_are_answered() {
        let long = [b"NOTIFY x\r\nContent-Length: 300\r\n\r\n", &[b'x'; 300][..]].concat();
        let middle = [&[LAST | TEXT, 126, 1, 77][..], &long].concat();
        assert_eq!(long.len(), 256 + 77);
        let parts = [
            AGREED.to_vec(),
            frame(TEXT, MESSAGE),
            frame(PING, b"hm"),
            middle,
        ];
        let stream = parts.concat();
        for cut in 0..stream.len() {
            let (mut web, mut came) = (asked(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                web.came.extend_from_slice(part);
                assert_eq!(web.read(&mut came), Ok(true), "cut at {cut}");
            }
            assert_eq!(came, [MESSAGE, &long].concat(), "cut at {cut}");
            let mut out = Vec::new();
            web.write(&mut Vec::new(), &mut out);
            assert_eq!(out[..2], [LAST | PONG, 0x80 | 2]);
        }
    }

    #[test]
    fn the_end_is_seen_and_answered() {
        let mut web = asked();
        web.came = [AGREED, &frame(CLOSE, &[3, 0xe9])].concat();
        assert_eq!(web.read(&mut Vec::new()), Ok(false));
        let mut out = Vec::new();
        web.write(&mut MESSAGE.to_vec(), &mut out);
        assert_eq!(out[..2], [LAST | CLOSE, 0x80 | 2]);
        assert_eq!(out.len(), 2 + 4 + 2, "and nothing is said after it");
    }

    #[test]
    fn what_a_server_must_not_do_is_wrong() {
        let refused = b"HTTP/1.1 403 Forbidden\r\n\r\n";
        let unproven = b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
        for bad in [&refused[..], unproven] {
            let mut web = asked();
            web.came.extend_from_slice(bad);
            let read = web.read(&mut Vec::new());
            assert!(matches!(read, Err(Wrong::Refused(_))), "{read:?}");
        }
        let masked = [&[LAST | TEXT, 0x80 | 2, 0, 0, 0, 0][..], b"ab"].concat();
        let two = frame(TEXT, &MESSAGE.repeat(2));
        let begun = [&[TEXT, MESSAGE.len() as u8], MESSAGE].concat();
        for bad in [masked, two, begun, frame(2, MESSAGE)] {
            let mut web = asked();
            web.came = [AGREED, &bad].concat();
            let read = web.read(&mut Vec::new());
            assert!(matches!(read, Err(Wrong::Frame(_))), "{read:?}");
        }
    }
}
