//! The phone's end of a WebSocket connection (RFC 6455, 7118). It shares nothing with the server's: what it sends is right
//! in every way that is allowed, by chance, and what it reads it reads strictly.

use crate::random::Random;

/// The key of the example in RFC 6455 1.3, and what must be answered to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Something that the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The connection is open.
    Opened,
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// With its code.
    Close(Option<u16>),
}

/// How far a connection is, as the phone sees it.
#[derive(Debug, Default)]
pub struct Page {
    /// What has come and is not whole.
    begun: Vec<u8>,
    open: bool,
    over: bool,
    /// What was in the pings that the server has not answered.
    pinged: Vec<Vec<u8>>,
}

/// The request that opens a connection, as one page or another writes it.
pub fn request(random: &mut Random) -> Vec<u8> {
    let mut headers = [
        "Host: sip.example.com".to_string(),
        "Upgrade: websocket".to_string(),
        random
            .pick(&["Connection: Upgrade", "connection: keep-alive, upgrade"])
            .to_string(),
        format!("Sec-WebSocket-Key: {KEY}"),
        random
            .pick(&[
                "Sec-WebSocket-Protocol: sip",
                "sec-websocket-protocol:chat, sip",
            ])
            .to_string(),
        "Sec-WebSocket-Version: 13".to_string(),
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64)".to_string(),
    ];
    for at in (1..headers.len()).rev() {
        headers.swap(at, random.below(at as u64 + 1) as usize);
    }
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET / HTTP/1.1\r\n{headers}\r\n").into_bytes()
}

impl Page {
    /// One message, in one frame or in several, with pings and pongs between them.
    pub fn message(&mut self, message: &[u8], random: &mut Random) -> Vec<u8> {
        let mut opcode = match core::str::from_utf8(message) {
            Ok(_) if random.per_mille(800) => TEXT,
            Ok(_) | Err(_) => BINARY,
        };
        let frames = *random.pick(&[1, 1, 1, 2, 5]);
        let mut bytes = Vec::new();
        let mut rest = message;
        for left in (0..frames).rev() {
            let length = match left {
                0 => rest.len(),
                _ => random.below(rest.len() as u64 + 1) as usize,
            };
            let (payload, after) = rest.split_at(length);
            let fin = if left == 0 { FIN } else { 0 };
            frame(&mut bytes, fin | opcode, payload, random);
            (rest, opcode) = (after, CONTINUATION);
            match random.below(20) {
                0 => bytes.extend(self.ping(random)),
                1 => frame(&mut bytes, FIN | PONG, b"by itself", random),
                _ => {}
            }
        }
        bytes
    }

    pub fn ping(&mut self, random: &mut Random) -> Vec<u8> {
        let payload = vec![b'p'; *random.pick(&[0, 1, 125])];
        let mut bytes = Vec::new();
        frame(&mut bytes, FIN | PING, &payload, random);
        self.pinged.push(payload);
        bytes
    }

    /// Everything that has come whole.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<Said>, String> {
        self.begun.extend_from_slice(bytes);
        let mut all = Vec::new();
        if !self.open {
            let Some(end) = self.begun.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(all);
            };
            let head: Vec<u8> = self.begun.drain(..end + 4).collect();
            check_opening(&String::from_utf8_lossy(&head))?;
            self.open = true;
            all.push(Said::Opened);
        }
        while let Some((opcode, payload)) = self.next_frame()? {
            if self.over {
                return Err(format!("a frame {opcode} after the last one"));
            }
            all.push(self.said(opcode, payload)?);
        }
        Ok(all)
    }

    fn said(&mut self, opcode: u8, payload: Vec<u8>) -> Result<Said, String> {
        match opcode {
            TEXT if core::str::from_utf8(&payload).is_err() => Err("text that is none".to_string()),
            TEXT | BINARY => Ok(Said::Message(payload)),
            PING => Ok(Said::Ping(payload)),
            PONG => {
                // Of several pings the last may be answered for all.
                let asked = self.pinged.iter().position(|ping| *ping == payload);
                let asked = asked.ok_or_else(|| format!("a pong to no ping: {payload:?}"))?;
                self.pinged.drain(..=asked);
                Ok(Said::Pong(payload))
            }
            CLOSE => {
                self.over = true;
                match payload[..] {
                    [] => Ok(Said::Close(None)),
                    [high, low, ..] => Ok(Said::Close(Some(u16::from_be_bytes([high, low])))),
                    [_] => Err("half a code".to_string()),
                }
            }
            _ => Err(format!("a frame of no kind: {opcode}")),
        }
    }

    /// What servers send is whole in one frame and not masked.
    fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        let [first, second, ..] = self.begun[..] else {
            return Ok(None);
        };
        if first & 0xf0 != FIN || second & MASKED != 0 {
            return Err(format!(
                "a server's frame begins with {first:#x} {second:#x}"
            ));
        }
        let (head, length) = match (second, &self.begun[2..]) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (126, _) => return Ok(None),
            (127, _) => return Err("no message is so long".to_string()),
            (short, _) => (2, usize::from(short)),
        };
        if head == 4 && length < 126 {
            return Err("a length that is written too long".to_string());
        }
        if self.begun.len() < head + length {
            return Ok(None);
        }
        let payload = self.begun.drain(..head + length).skip(head).collect();
        Ok(Some((first & 0x0f, payload)))
    }
}

pub fn pong(payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&mut bytes, FIN | PONG, payload, random);
    bytes
}

/// A code or none, and a reason or none.
pub fn close(code: Option<u16>, random: &mut Random) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend(code.to_be_bytes());
        payload.extend(random.pick(&["", "the page is closed"]).as_bytes());
    }
    let mut bytes = Vec::new();
    frame(&mut bytes, FIN | CLOSE, &payload, random);
    bytes
}

/// The message that a server says in one frame; empty: it says something else.
pub fn message_of(said: &[u8]) -> &[u8] {
    match said {
        [0x81 | 0x82, 126, _, _, message @ ..] | [0x81 | 0x82, _, message @ ..] => message,
        _ => b"",
    }
}

/// What clients send is masked.
fn frame(bytes: &mut Vec<u8>, first: u8, payload: &[u8], random: &mut Random) {
    bytes.push(first);
    match payload.len() {
        short @ ..=125 => bytes.push(MASKED | short as u8),
        long => {
            let length = u16::try_from(long).expect("messages are shorter");
            bytes.push(MASKED | 126);
            bytes.extend(length.to_be_bytes());
        }
    }
    let mask = (random.next() as u32).to_be_bytes();
    bytes.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
}

fn check_opening(answer: &str) -> Result<(), String> {
    let mut lines = answer.split("\r\n");
    let headers: Vec<(String, &str)> = lines
        .clone()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let is = |wanted: &str, expected: &str| {
        let mut named = headers.iter().filter(|(name, _)| name == wanted);
        let first = named.next();
        let right = first.is_some_and(|(_, value)| value.eq_ignore_ascii_case(expected));
        right && named.next().is_none()
    };
    let switches = lines
        .next()
        .is_some_and(|line| line.starts_with("HTTP/1.1 101 "));
    let opens = is("upgrade", "websocket") && is("connection", "upgrade");
    let agrees = is("sec-websocket-protocol", "sip") && is("sec-websocket-accept", ACCEPT);
    match switches && opens && agrees {
        true => Ok(()),
        false => Err(format!("the connection was not opened:\n{answer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Page {
        Page {
            open: true,
            ..Page::default()
        }
    }

    #[test]
    fn a_server_that_masks_or_splits_or_pads_is_not_believed() {
        for wrong in [
            &[0x81, 0x81, 0, 0, 0, 0, b'x'][..],
            &[0x01, 1, b'x'],
            &[0x81, 126, 0, 1, b'x'],
        ] {
            assert!(opened().read(wrong).is_err(), "{wrong:?}");
        }
        let right = opened().read(&[0x81, 1, b'x', 0x88, 2, 3, 0xe8]);
        let said = vec![Said::Message(vec![b'x']), Said::Close(Some(1000))];
        assert_eq!(right, Ok(said));
    }

    #[test]
    fn nothing_follows_the_last_frame_and_no_pong_comes_by_itself() {
        assert!(opened().read(&[0x88, 0, 0x81, 1, b'x']).is_err());
        assert!(opened().read(&[0x8a, 0]).is_err());
    }

    #[test]
    fn only_the_right_answer_opens() {
        let right = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
        );
        assert_eq!(
            Page::default().read(right.as_bytes()),
            Ok(vec![Said::Opened])
        );
        for wrong in [
            right.replace("101", "200"),
            right.replace(ACCEPT, KEY),
            right.replace("sip", "chat"),
        ] {
            assert!(Page::default().read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
