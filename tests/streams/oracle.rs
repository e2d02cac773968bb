//! Random frames, cut at random: what is found in them is what another library finds.

use std::io::{self, Read, Write};

use lampfield::config::limits;
use lampfield::transport::stream::{Framed, Frames};
use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

const MESSAGE_BYTES: usize = limits::HEADER_BYTES + limits::STREAM_BODY_BYTES;

#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Closed,
    Broken,
    /// A text was none, which that library says as soon as it sees it, and we when the message is whole.
    NoText,
}

/// One frame, right or wrong.
#[derive(Clone, Debug)]
struct Piece {
    first: u8,
    masked: bool,
    mask: [u8; 4],
    payload: Vec<u8>,
}

impl Piece {
    fn write(&self, out: &mut Vec<u8>) {
        let masked = u8::from(self.masked) << 7;
        out.push(self.first);
        match self.payload.len() {
            length @ 0..126 => out.push(masked | length as u8),
            length @ 126..65536 => {
                out.push(masked | 126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(masked | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        let mask = if self.masked { self.mask } else { [0; 4] };
        if self.masked {
            out.extend(mask);
        }
        let bytes = self.payload.iter().zip(mask.iter().cycle());
        out.extend(bytes.map(|(byte, mask)| byte ^ mask));
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    let first = prop_oneof![
        30 => prop_oneof![Just(0x81_u8), Just(0x82), Just(0x80), Just(0x00), Just(0x01), Just(0x02)],
        10 => prop_oneof![Just(0x89_u8), Just(0x8a)],
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        8 => "[a-zäß\r\n]{0,20}".prop_map(String::into_bytes),
        4 => prop::collection::vec(any::<u8>(), 0..300),
        2 => prop::collection::vec(Just(b'x'), 120..130),
        1 => (20_000..70_000_usize).prop_map(|length| vec![b'y'; length]),
        2 => (any::<u16>(), "[a-z]{0,5}").prop_map(|(code, reason)| {
            [&code.to_be_bytes()[..], reason.as_bytes()].concat()
        }),
    ];
    let masked = prop::bool::weighted(0.99);
    (first, masked, any::<[u8; 4]>(), payload).prop_map(|(first, masked, mask, payload)| Piece {
        first,
        masked,
        mask,
        payload,
    })
}

fn read_ours(stream: &[u8], cuts: &[usize]) -> Vec<Kept> {
    let (mut frames, mut room, mut kept) = (Frames::default(), Vec::new(), Vec::new());
    let mut sizes = cuts.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let size = sizes
            .next()
            .map_or(rest.len(), |&size| size.min(rest.len()));
        let (mut bytes, after) = rest.split_at(size);
        rest = after;
        while let Some(found) = frames.next(&mut bytes, &mut room) {
            kept.push(match found {
                Framed::Message(bytes) => Kept::Message(bytes.to_vec()),
                Framed::Ping(bytes) => Kept::Ping(bytes.to_vec()),
                Framed::Pong => continue,
                Framed::Closed(_) => Kept::Closed,
                Framed::Broken(_) => Kept::Broken,
            });
        }
    }
    kept
}

/// What comes is the stream, and what is answered goes nowhere.
struct Tape<'a>(&'a [u8]);

impl Read for Tape<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.0.read(buffer),
        }
    }
}

impl Write for Tape<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_theirs(stream: &[u8]) -> Vec<Kept> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    let mut socket = WebSocket::from_raw_socket(Tape(stream), Role::Server, Some(config));
    let mut kept = Vec::new();
    loop {
        kept.push(match socket.read() {
            Ok(Message::Text(text)) => Kept::Message(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Kept::Message(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Kept::Ping(bytes.to_vec()),
            Ok(Message::Pong(_)) => continue,
            // That is what it makes of a code that nobody may send.
            Ok(Message::Close(Some(frame))) if frame.reason.as_str() == "Protocol violation" => {
                kept.push(Kept::Broken);
                return kept;
            }
            Ok(Message::Close(_)) => {
                kept.push(Kept::Closed);
                return kept;
            }
            Ok(Message::Frame(_)) => panic!("frames are not asked for"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return kept,
            Err(Error::Utf8(_)) => {
                kept.push(Kept::NoText);
                return kept;
            }
            Err(_) => {
                kept.push(Kept::Broken);
                return kept;
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_mean_what_they_mean_to_another_library(
        pieces in prop::collection::vec(piece(), 1..12),
        cuts in prop::collection::vec(1..200_usize, 0..6),
    ) {
        let mut stream = Vec::new();
        for piece in &pieces {
            piece.write(&mut stream);
        }
        let (mut ours, mut theirs) = (read_ours(&stream, &cuts), read_theirs(&stream));
        if theirs.last() == Some(&Kept::NoText) {
            theirs.pop();
            prop_assert!(ours.len() >= theirs.len());
            let later = ours.split_off(theirs.len());
            let message = |kept: &Kept| matches!(kept, Kept::Message(_));
            prop_assert!(!later.iter().any(message), "{:?}", later);
        }
        prop_assert_eq!(ours, theirs);
    }
}
