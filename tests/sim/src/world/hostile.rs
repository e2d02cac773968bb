//! Somebody who sends what nobody should: good messages with something wrong in them, and noise.

use std::net::SocketAddr;

use crate::random::Random;

/// The sender of bad input.
#[derive(Debug)]
pub struct Hostile {
    pub address: SocketAddr,
    serial: u32,
}

impl Hostile {
    pub fn new(address: SocketAddr) -> Self {
        Hostile { address, serial: 0 }
    }

    /// One datagram.
    pub fn datagram(&mut self, random: &mut Random) -> Vec<u8> {
        self.serial += 1;
        let mut bytes = self.good(random).into_bytes();
        for _ in 0..random.between(0, 4) {
            mangle(&mut bytes, random);
        }
        bytes
    }

    fn good(&self, random: &mut Random) -> String {
        let Hostile { address, serial } = self;
        let (method, more, body) = match random.below(5) {
            0 => ("OPTIONS", "", ""),
            1 => (
                "NOTIFY",
                "Event: dialog\r\nSubscription-State: active\r\n",
                "",
            ),
            2 => (
                "PUBLISH",
                "Event: dialog\r\nContent-Type: application/dialog-info+xml\r\n",
                "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" \
                 state=\"full\" entity=\"sip:x\"><dialog id=\"1\"><state>early</state></dialog></dialog-info>",
            ),
            _ => ("SUBSCRIBE", "Event: dialog\r\nExpires: 60\r\n", ""),
        };
        format!(
            "{method} sip:hostile@example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK-h{serial};rport\r\nMax-Forwards: 70\r\n\
             From: \"H\" <sip:hostile@example.com>;tag=h{serial}\r\nTo: <sip:hostile@example.com>\r\n\
             Call-ID: hostile-{serial}\r\nCSeq: {serial} {method}\r\n\
             Contact: <sip:hostile@{address}>\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

fn mangle(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => _ = bytes.remove(at),
        3 => bytes.insert(at, random.next() as u8),
        4 => {
            let end = (at + random.between(1, 60) as usize).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            for _ in 0..random.between(1, 40) {
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        5 => {
            let hard = [
                &b"\r\n"[..],
                b"\0",
                b"%00",
                b"\"",
                b"<",
                b";;",
                b",",
                b"99999999999999999999",
                b"\xFF\xFE",
            ];
            let piece = *random.pick(&hard);
            bytes.splice(at..at, piece.iter().copied());
        }
        _ => {
            let end = (at + random.between(1, 40) as usize).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}
