//! The bytes of a WebSocket connection: what is found in them is the same however they are cut, and no more than came;
//! what a client sends in frames, fragments and pings between them, is what comes out.

use lampfield::config::limits;
use lampfield::transport::stream::{
    Answer, CloseCode, Framed, Refusal, WebFound, WebRules, WebSocket,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The longest message.
const MOST: usize = limits::HEADER_BYTES + limits::STREAM_BODY_BYTES;

#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Accepted,
    Refused(Refusal),
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Closed(u16),
    Broken(CloseCode),
}

/// The input as a request, as frames, and as what frames carry.
pub fn web(data: &[u8]) {
    let raw = read_all_ways(data, data);
    assert!(!matches!(
        raw.first(),
        Some(Kept::Message(_) | Kept::Ping(_))
    ));
    let framed = [REQUEST, data].concat();
    let found = read_all_ways(&framed, data);
    assert_eq!(found.first(), Some(&Kept::Accepted));
    carried(data);
}

/// In frames as long as the input says, it comes out as it went in.
fn carried(data: &[u8]) {
    let mut stream = REQUEST.to_vec();
    let sizes = data.iter().map(|&byte| usize::from(byte) * 3);
    let (mut rest, mut opcode, mut frames) = (data, 0x2, 0);
    for (number, size) in sizes.enumerate() {
        let (payload, after) = rest.split_at(size.min(rest.len()));
        put(&mut stream, opcode, payload, number as u32);
        (rest, opcode) = (after, 0x0);
        frames += 1;
        if number % 3 == 0 {
            put(
                &mut stream,
                0x89,
                &data[..data.len().min(125)],
                number as u32,
            );
        }
        if rest.is_empty() {
            break;
        }
    }
    if frames > 0 {
        put(&mut stream, 0x80, rest, 7);
    } else {
        put(&mut stream, 0x82, rest, 7);
    }
    let found = read_all_ways(&stream, data);
    let mut messages = found.iter().filter(|one| !matches!(one, Kept::Ping(_)));
    assert_eq!(messages.next(), Some(&Kept::Accepted));
    match data.len() <= MOST {
        true => assert_eq!(messages.next(), Some(&Kept::Message(data.to_vec()))),
        false => assert_eq!(messages.next(), Some(&Kept::Broken(CloseCode::TooBig))),
    }
    assert_eq!(messages.next(), None);
}

fn put(stream: &mut Vec<u8>, first: u8, payload: &[u8], seed: u32) {
    let mask = seed.wrapping_mul(0x9e37_79b9).to_be_bytes();
    stream.push(first);
    match payload.len() {
        length @ 0..126 => stream.push(0x80 | length as u8),
        length @ 126..65536 => {
            stream.push(0x80 | 126);
            stream.extend((length as u16).to_be_bytes());
        }
        length => {
            stream.push(0x80 | 127);
            stream.extend((length as u64).to_be_bytes());
        }
    }
    stream.extend(mask);
    let bytes = payload.iter().zip(mask.iter().cycle());
    stream.extend(bytes.map(|(byte, mask)| byte ^ mask));
}

/// Once whole, and once in pieces that the input chooses.
fn read_all_ways(stream: &[u8], data: &[u8]) -> Vec<Kept> {
    let whole = read(core::iter::once(stream));
    let sizes = data.iter().map(|&byte| usize::from(byte % 23) + 1);
    let mut sizes = sizes.chain(core::iter::repeat(7));
    let mut rest = stream;
    let pieces = core::iter::from_fn(|| {
        let size = sizes.next().expect("endless").min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(read(pieces), whole, "cut in another way");
    let bytes: usize = whole.iter().map(Kept::length).sum();
    assert!(bytes <= stream.len(), "more was found than came");
    whole
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Kept> {
    let rules = WebRules::default();
    let (mut web, mut room, mut kept) = (WebSocket::default(), Vec::new(), Vec::new());
    for mut piece in pieces {
        while let Some(found) = web.next(&mut piece, &rules, &mut room) {
            kept.push(match found {
                WebFound::Handshake(Answer::Accepted(_)) => Kept::Accepted,
                WebFound::Handshake(Answer::Refused(refusal)) => Kept::Refused(refusal),
                WebFound::Framed(Framed::Message(bytes)) => {
                    assert!(bytes.len() <= MOST);
                    Kept::Message(bytes.to_vec())
                }
                WebFound::Framed(Framed::Ping(bytes)) => Kept::Ping(bytes.to_vec()),
                WebFound::Framed(Framed::Pong) => Kept::Pong,
                WebFound::Framed(Framed::Closed(code)) => Kept::Closed(code.number()),
                WebFound::Framed(Framed::Broken(code)) => Kept::Broken(code),
            });
        }
        assert!(piece.is_empty(), "everything is taken in");
    }
    let ended = |one: &&Kept| matches!(one, Kept::Refused(_) | Kept::Closed(_) | Kept::Broken(_));
    assert!(kept.iter().filter(ended).count() <= 1, "it ends once");
    kept
}

impl Kept {
    fn length(&self) -> usize {
        match self {
            Kept::Message(bytes) | Kept::Ping(bytes) => bytes.len(),
            Kept::Accepted | Kept::Refused(_) | Kept::Pong | Kept::Closed(_) | Kept::Broken(_) => 0,
        }
    }
}
