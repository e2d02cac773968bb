//! The frames of a WebSocket connection that its client has opened (RFC 6455 5): the messages that come in them, here,
//! and those that go out. It keeps what has come of one message, and knows nothing of SIP.

mod ours;

use core::num::NonZeroU16;

pub use ours::{ControlFrame, FrameHead};

use crate::config::limits;

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const HEAD_BYTES: usize = 14;
/// What a control frame carries at most.
//= RFC 6455 5.5
pub const CONTROL_BYTES: usize = 125;
/// The longest message: as much as one of another stream may have.
const MESSAGE_BYTES: usize = limits::HEADER_BYTES + limits::STREAM_BODY_BYTES;
/// The last frame of its message.
const FIN: u8 = 0x80;
/// The bits of extensions, of which none is spoken.
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Why a WebSocket connection is closed, as the other side is told.
//= RFC 6455 7.4.1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    Normal,
    /// We stop to serve.
    GoingAway,
    ProtocolError,
    /// It said that it would be text, and is none; or it is no SIP.
    Invalid,
    /// What was sent is right, and not wanted here.
    Policy,
    TooBig,
    /// What the other side has said, in its own close frame.
    Theirs(NonZeroU16),
}

impl CloseCode {
    /// As it stands in a close frame.
    pub const fn number(self) -> u16 {
        match self {
            CloseCode::Normal => 1000,
            CloseCode::GoingAway => 1001,
            CloseCode::ProtocolError => 1002,
            CloseCode::Invalid => 1007,
            CloseCode::Policy => 1008,
            CloseCode::TooBig => 1009,
            CloseCode::Theirs(number) => number.get(),
        }
    }
}

/// What was found in the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// One whole message, unmasked.
    Message(&'a [u8]),
    /// It is to be said back.
    Ping(&'a [u8]),
    Pong,
    /// The other side closes: it is to be told the same.
    Closed(CloseCode),
    /// It cannot go on, and is to be told why.
    Broken(CloseCode),
}

/// How far the reading of frames is.
#[derive(Debug)]
pub struct Frames {
    /// What has come of the head of the next frame.
    head: [u8; HEAD_BYTES],
    head_length: usize,
    /// The frame whose payload comes now.
    frame: Option<Frame>,
    /// Of a message that is not whole: what it is, and what has come, unmasked. Without memory between messages.
    kind: Option<Kind>,
    begun: Vec<u8>,
    control: [u8; CONTROL_BYTES],
    control_length: usize,
    over: bool,
}

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Begin(Kind),
    Control(Control),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Close,
    Ping,
    Pong,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    length: usize,
    /// How much of it has come.
    taken: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Frames {
            head: [0; HEAD_BYTES],
            head_length: 0,
            frame: None,
            kind: None,
            begun: Vec::new(),
            control: [0; CONTROL_BYTES],
            control_length: 0,
            over: false,
        }
    }
}

impl Frames {
    /// The next thing found in what has come, `bytes` being the newest of it; a whole message stands in `room`, whose
    /// memory is the caller's. `None`: all of it is taken in, and `bytes` is empty. After `Closed` and `Broken` nothing
    /// more is found, and everything is thrown away.
    pub fn next<'s>(&'s mut self, bytes: &mut &[u8], room: &'s mut Vec<u8>) -> Option<Framed<'s>> {
        loop {
            if self.over {
                self.begun = Vec::new();
                *bytes = &[];
                return None;
            }
            let mut frame = match self.frame {
                Some(frame) => frame,
                None => match self.next_head(bytes)? {
                    Ok(frame) => frame,
                    Err(code) => return Some(self.broken(code)),
                },
            };
            let length = bytes.len().min(frame.length - frame.taken);
            let (came, rest) = bytes.split_at(length);
            *bytes = rest;
            let whole = frame.taken + length == frame.length;
            match frame.opcode {
                Opcode::Control(control) => {
                    self.control[frame.taken..frame.taken + length].copy_from_slice(came);
                    unmask(&mut self.control[frame.taken..frame.taken + length], &frame);
                    self.control_length = frame.length;
                    if whole {
                        self.frame = None;
                        return Some(self.on_control(control));
                    }
                }
                Opcode::Begin(_) | Opcode::Continuation => {
                    let alone = frame.fin && whole && self.begun.is_empty();
                    let message = if alone { &mut *room } else { &mut self.begun };
                    if alone {
                        message.clear();
                    }
                    let start = message.len();
                    message.extend_from_slice(came);
                    unmask(&mut message[start..], &frame);
                    if whole {
                        self.frame = None;
                        if frame.fin {
                            if !alone {
                                *room = core::mem::take(&mut self.begun);
                            }
                            return Some(self.on_message(room));
                        }
                        continue;
                    }
                }
            }
            frame.taken += length;
            self.frame = (!whole).then_some(frame);
            if bytes.is_empty() {
                return None;
            }
        }
    }

    /// Whether a message or a frame has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.over && (self.head_length > 0 || self.frame.is_some() || self.kind.is_some())
    }

    fn on_message<'s>(&mut self, message: &'s [u8]) -> Framed<'s> {
        //= RFC 6455 8.1
        let valid = match self.kind.take() {
            Some(Kind::Text) => core::str::from_utf8(message).is_ok(),
            Some(Kind::Binary) | None => true,
        };
        match valid {
            true => Framed::Message(message),
            false => {
                self.over = true;
                Framed::Broken(CloseCode::Invalid)
            }
        }
    }

    fn on_control(&mut self, control: Control) -> Framed<'_> {
        let payload = &self.control[..self.control_length];
        match control {
            Control::Ping => Framed::Ping(payload),
            Control::Pong => Framed::Pong,
            Control::Close => {
                self.over = true;
                match close_code(payload) {
                    Ok(code) => Framed::Closed(code),
                    Err(code) => Framed::Broken(code),
                }
            }
        }
    }

    fn broken(&mut self, code: CloseCode) -> Framed<'static> {
        self.over = true;
        Framed::Broken(code)
    }

    /// The head of the next frame. None: more has to come.
    fn next_head(&mut self, bytes: &mut &[u8]) -> Option<Result<Frame, CloseCode>> {
        loop {
            let wanted = match self.head_length {
                0 | 1 => 2,
                _ => head_length(self.head[1]),
            };
            if self.head_length == wanted {
                break;
            }
            let length = bytes.len().min(wanted - self.head_length);
            if length == 0 {
                return None;
            }
            let (came, rest) = bytes.split_at(length);
            *bytes = rest;
            self.head[self.head_length..self.head_length + length].copy_from_slice(came);
            self.head_length += length;
            if self.head_length == 2
                && let Err(code) = self.check_head()
            {
                return Some(Err(code));
            }
        }
        let read = self.read_head();
        self.head_length = 0;
        if let Ok(frame) = &read {
            self.frame = Some(*frame);
            if let Opcode::Begin(kind) = frame.opcode {
                self.kind = Some(kind);
            }
        }
        Some(read)
    }

    /// What the first two bytes show to be wrong.
    //= RFC 6455 5.2
    fn check_head(&self) -> Result<(), CloseCode> {
        let [first, second, ..] = self.head;
        //= RFC 6455 5.1
        let masked = second & MASKED != 0;
        let opcode = opcode(first).ok_or(CloseCode::ProtocolError)?;
        let sound = match opcode {
            //= RFC 6455 5.4
            Opcode::Continuation => self.kind.is_some(),
            Opcode::Begin(_) => self.kind.is_none(),
            //= RFC 6455 5.5
            Opcode::Control(_) => {
                first & FIN != 0 && usize::from(second & !MASKED) <= CONTROL_BYTES
            }
        };
        match masked && sound && first & RESERVED == 0 {
            true => Ok(()),
            false => Err(CloseCode::ProtocolError),
        }
    }

    fn read_head(&self) -> Result<Frame, CloseCode> {
        let head = &self.head[..self.head_length];
        let (lengths, mask) = head[2..].split_at(self.head_length - 6);
        let length = match lengths {
            [] => u64::from(head[1] & !MASKED),
            bytes => bytes
                .iter()
                .fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let opcode = opcode(head[0]).ok_or(CloseCode::ProtocolError)?;
        let most = match opcode {
            Opcode::Control(_) => CONTROL_BYTES,
            Opcode::Begin(_) | Opcode::Continuation => MESSAGE_BYTES - self.begun.len(),
        };
        if length > most {
            return Err(CloseCode::TooBig);
        }
        Ok(Frame {
            opcode,
            fin: head[0] & FIN != 0,
            mask: [mask[0], mask[1], mask[2], mask[3]],
            length,
            taken: 0,
        })
    }
}

fn opcode(first: u8) -> Option<Opcode> {
    match first & 0x0f {
        0x0 => Some(Opcode::Continuation),
        0x1 => Some(Opcode::Begin(Kind::Text)),
        0x2 => Some(Opcode::Begin(Kind::Binary)),
        0x8 => Some(Opcode::Control(Control::Close)),
        0x9 => Some(Opcode::Control(Control::Ping)),
        0xa => Some(Opcode::Control(Control::Pong)),
        _ => None,
    }
}

/// With its mask, as every frame has one.
fn head_length(second: u8) -> usize {
    match second & !MASKED {
        126 => 2 + 2 + 4,
        127 => HEAD_BYTES,
        _ => 2 + 4,
    }
}

/// `bytes` are what comes in `frame` behind what was taken before.
//= RFC 6455 5.3
fn unmask(bytes: &mut [u8], frame: &Frame) {
    let mut mask = frame.mask;
    mask.rotate_left(frame.taken % 4);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// What a close frame says, or what is wrong with it.
//= RFC 6455 5.5.1
fn close_code(payload: &[u8]) -> Result<CloseCode, CloseCode> {
    let (code, reason) = match payload {
        [] => return Ok(CloseCode::Normal),
        [_] => return Err(CloseCode::ProtocolError),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    //= RFC 6455 7.4.2
    let usable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    match NonZeroU16::new(code).filter(|_| usable) {
        None => Err(CloseCode::ProtocolError),
        Some(_) if core::str::from_utf8(reason).is_err() => Err(CloseCode::Invalid),
        Some(code) => Ok(CloseCode::Theirs(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found, in a form that lives on.
    #[derive(Debug, PartialEq, Eq)]
    enum Kept {
        Message(Vec<u8>),
        Ping(Vec<u8>),
        Pong,
        Closed(u16),
        Broken(CloseCode),
    }

    fn keep(found: Framed<'_>) -> Kept {
        match found {
            Framed::Message(bytes) => Kept::Message(bytes.to_vec()),
            Framed::Ping(bytes) => Kept::Ping(bytes.to_vec()),
            Framed::Pong => Kept::Pong,
            Framed::Closed(code) => Kept::Closed(code.number()),
            Framed::Broken(code) => Kept::Broken(code),
        }
    }

    fn read(pieces: &[&[u8]]) -> Vec<Kept> {
        let (mut frames, mut room, mut found) = (Frames::default(), Vec::new(), Vec::new());
        for mut bytes in pieces.iter().copied() {
            while let Some(one) = frames.next(&mut bytes, &mut room) {
                found.push(keep(one));
            }
            assert!(bytes.is_empty());
        }
        if !frames.is_partial() {
            assert_eq!(frames.begun.capacity(), 0);
        }
        found
    }

    /// A frame as a client sends it; `first` is FIN, the reserved bits and the opcode.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length @ 126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        bytes
    }

    //= RFC 6455 5.7 type=test
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(read(&[&hello]), [Kept::Message(b"Hello".to_vec())]);
        assert_eq!(hello[..], frame(0x81, b"Hello"));
        assert_eq!(FrameHead::of(b"Hello").as_bytes(), [0x81, 0x05]);
        assert_eq!(
            FrameHead::of(&[0xff; 256]).as_bytes(),
            [0x82, 0x7e, 0x01, 0x00]
        );
        assert_eq!(
            ControlFrame::pong(b"Hello").as_bytes(),
            [0x8a, 0x05, b'H', b'e', b'l', b'l', b'o']
        );
        assert_eq!(ControlFrame::ping().as_bytes(), [0x89, 0x00]);
        assert_eq!(
            ControlFrame::close(CloseCode::TooBig).as_bytes(),
            [0x88, 0x02, 0x03, 0xf1]
        );
    }

    //= RFC 6455 5.4 type=test
    //= RFC 6455 5.3 type=test
    #[test]
    fn the_same_is_found_wherever_frames_are_cut() {
        let long: Vec<u8> = (0..300_u16).map(|n| n as u8 & 0x7f).collect();
        let stream = [
            frame(0x82, &long),
            frame(0x01, b"INVITE "),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x8a, b"yes"),
            frame(0x80, b"sip:a\r\n"),
            frame(0x81, b""),
            frame(0x82, &[0xff, 0xfe]),
            frame(0x88, &[0x03, 0xe9, b'b', b'y', b'e']),
        ]
        .concat();
        let expected = [
            Kept::Message(long),
            Kept::Ping(b"are you there".to_vec()),
            Kept::Pong,
            Kept::Message(b"INVITE sip:a\r\n".to_vec()),
            Kept::Message(Vec::new()),
            Kept::Message(vec![0xff, 0xfe]),
            Kept::Closed(1001),
        ];
        assert_eq!(read(&[&stream]), expected);
        for first in 0..=stream.len() {
            let (head, tail) = stream.split_at(first);
            assert_eq!(read(&[head, tail]), expected, "cut at {first}");
            for second in (0..=tail.len()).step_by(5) {
                let (middle, tail) = tail.split_at(second);
                assert_eq!(read(&[head, middle, tail]), expected);
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), expected);
    }

    //= RFC 6455 5.1 type=test
    //= RFC 6455 5.2 type=test
    //= RFC 6455 5.5 type=test
    //= RFC 6455 5.5.1 type=test
    //= RFC 6455 7.4.1 type=test
    //= RFC 6455 7.4.2 type=test
    //= RFC 6455 8.1 type=test
    #[test]
    fn what_a_client_may_not_send_ends_the_connection_with_its_code() {
        let too_long = vec![b'x'; MESSAGE_BYTES + 1];
        let nearly = vec![b'x'; MESSAGE_BYTES - 1];
        for (what, stream, code) in [
            ("unmasked", vec![0x81, 0x01, b'x'], CloseCode::ProtocolError),
            ("compressed", frame(0xc1, b"x"), CloseCode::ProtocolError),
            ("opcode", frame(0x83, b"x"), CloseCode::ProtocolError),
            ("control", frame(0x8b, b"x"), CloseCode::ProtocolError),
            ("ping cut", frame(0x09, b"x"), CloseCode::ProtocolError),
            (
                "long ping",
                frame(0x89, &[0; 126]),
                CloseCode::ProtocolError,
            ),
            ("no begin", frame(0x80, b"x"), CloseCode::ProtocolError),
            (
                "begun twice",
                [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
                CloseCode::ProtocolError,
            ),
            ("half a code", frame(0x88, b"x"), CloseCode::ProtocolError),
            (
                "code 1005",
                frame(0x88, &[3, 237]),
                CloseCode::ProtocolError,
            ),
            ("code 0", frame(0x88, &[0, 0]), CloseCode::ProtocolError),
            ("reason", frame(0x88, &[3, 232, 0xff]), CloseCode::Invalid),
            ("no UTF-8", frame(0x81, &[0xff]), CloseCode::Invalid),
            (
                "no UTF-8 in two",
                [frame(0x01, &[0xc3]), frame(0x80, b"x")].concat(),
                CloseCode::Invalid,
            ),
            ("too long", frame(0x82, &too_long), CloseCode::TooBig),
            (
                "too long in two",
                [frame(0x02, &nearly), frame(0x80, b"xy")].concat(),
                CloseCode::TooBig,
            ),
            (
                "endless",
                [&[0x82, 0xff][..], &[0xff; 12]].concat(),
                CloseCode::TooBig,
            ),
        ] {
            let after = [&stream[..], &frame(0x81, b"after")].concat();
            assert_eq!(read(&[&after]), [Kept::Broken(code)], "{what}");
            let bytes: Vec<&[u8]> = after.chunks(1).collect();
            assert_eq!(read(&bytes), [Kept::Broken(code)], "{what}, byte by byte");
        }
    }

    #[test]
    fn the_longest_message_is_taken_and_control_frames_in_it_do_not_count() {
        let longest = vec![b'x'; MESSAGE_BYTES];
        assert_eq!(
            read(&[&frame(0x82, &longest)]),
            [Kept::Message(longest.clone())]
        );
        let stream = [
            frame(0x02, &longest[1..]),
            frame(0x89, &[7; CONTROL_BYTES]),
            frame(0x80, b"x"),
        ]
        .concat();
        assert_eq!(
            read(&[&stream]),
            [
                Kept::Ping(vec![7; CONTROL_BYTES]),
                Kept::Message(longest.clone())
            ]
        );
    }

    #[test]
    fn a_character_may_be_cut_by_frames() {
        let stream = [frame(0x01, &[0xc3]), frame(0x80, &[0xa4])].concat();
        assert_eq!(read(&[&stream]), [Kept::Message("ä".as_bytes().to_vec())]);
    }

    #[test]
    fn a_close_without_a_code_is_a_normal_one() {
        assert_eq!(read(&[&frame(0x88, b"")]), [Kept::Closed(1000)]);
        assert_eq!(read(&[&frame(0x88, &[0x0f, 0xa1])]), [Kept::Closed(4001)]);
    }
}
