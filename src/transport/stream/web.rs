//! One WebSocket connection, from the request that opens it to the frame that closes it. Bytes go in as they come, cut
//! anywhere; SIP messages come out, each whole (RFC 7118).

use super::frame::{CloseCode, Framed, Frames};
use super::handshake::{Answer, Handshake, WebRules};

/// What was found in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebFound<'a> {
    /// The request that opens the connection, or was meant to, and what it is to be answered.
    Handshake(Answer),
    /// Something in a frame.
    Framed(Framed<'a>),
}

/// How far the reading of one connection is.
#[derive(Debug)]
pub enum WebSocket {
    /// The request has not all come.
    Opening(Handshake),
    Open(Frames),
    /// It was refused: whatever comes is thrown away.
    Refused,
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket::Opening(Handshake::default())
    }
}

impl WebSocket {
    /// The next thing found in what has come, `bytes` being the newest of it. `None`: all of it is taken in, and `bytes`
    /// is empty. A whole message stands in `room`, whose memory is the caller's.
    pub fn next<'s>(
        &'s mut self,
        bytes: &mut &[u8],
        rules: &WebRules,
        room: &'s mut Vec<u8>,
    ) -> Option<WebFound<'s>> {
        match self {
            WebSocket::Opening(handshake) => {
                let answer = handshake.next(bytes, rules)?;
                *self = match answer {
                    Answer::Accepted(_) => WebSocket::Open(Frames::default()),
                    Answer::Refused(_) => WebSocket::Refused,
                };
                Some(WebFound::Handshake(answer))
            }
            WebSocket::Open(frames) => frames.next(bytes, room).map(WebFound::Framed),
            WebSocket::Refused => {
                *bytes = &[];
                None
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        match self {
            WebSocket::Open(frames) => frames.is_partial(),
            WebSocket::Opening(_) | WebSocket::Refused => false,
        }
    }

    /// Whether frames are spoken.
    pub fn is_open(&self) -> bool {
        matches!(self, WebSocket::Open(_))
    }

    /// The close frame that says why we end it; none where frames are not spoken.
    pub fn close_frame(&self, code: CloseCode) -> Option<super::ControlFrame> {
        self.is_open().then(|| super::ControlFrame::close(code))
    }
}
