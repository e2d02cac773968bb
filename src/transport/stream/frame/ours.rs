//! What stands before the messages that we send, and our control frames.

use super::{CONTROL_BYTES, CloseCode, FIN};

/// What stands before a message of ours: a server masks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    bytes: [u8; 4],
    length: u8,
}

impl FrameHead {
    /// Of a message that a send slot holds: in text, unless it is none.
    //= RFC 7118 4.2
    pub fn of(message: &[u8]) -> FrameHead {
        let opcode = match core::str::from_utf8(message) {
            Ok(_) => 0x1,
            Err(_) => 0x2,
        };
        let length = u16::try_from(message.len()).expect("a send slot holds less than 64 KiB");
        let [high, low] = length.to_be_bytes();
        match length {
            0..126 => FrameHead {
                bytes: [FIN | opcode, low, 0, 0],
                length: 2,
            },
            126.. => FrameHead {
                bytes: [FIN | opcode, 126, high, low],
                length: 4,
            },
        }
    }

    /// What is to be written before the message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A control frame of ours.
#[derive(Clone, Copy, Debug)]
pub struct ControlFrame {
    bytes: [u8; 2 + CONTROL_BYTES],
    length: usize,
}

impl ControlFrame {
    /// The answer to a ping.
    //= RFC 6455 5.5.3
    pub fn pong(payload: &[u8]) -> ControlFrame {
        ControlFrame::new(0xa, payload)
    }

    /// To be said back: it keeps open what is between us.
    //= RFC 6455 5.5.2
    pub fn ping() -> ControlFrame {
        ControlFrame::new(0x9, &[])
    }

    /// The last frame: nothing is to be sent behind it.
    //= RFC 6455 5.5.1
    pub fn close(code: CloseCode) -> ControlFrame {
        ControlFrame::new(0x8, &code.number().to_be_bytes())
    }

    fn new(opcode: u8, payload: &[u8]) -> ControlFrame {
        assert!(payload.len() <= CONTROL_BYTES);
        let mut frame = ControlFrame {
            bytes: [0; 2 + CONTROL_BYTES],
            length: 2 + payload.len(),
        };
        frame.bytes[..2].copy_from_slice(&[FIN | opcode, payload.len() as u8]);
        frame.bytes[2..frame.length].copy_from_slice(payload);
        frame
    }

    /// What is to be written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
