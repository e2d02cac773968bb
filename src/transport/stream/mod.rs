//! Messages out of the bytes of a connection, and bytes on their way out by it. Pure: bytes go in as they come, cut
//! anywhere; messages come out.

mod backlog;
mod frame;
mod framer;
mod handshake;
mod outgoing;
mod web;

pub use backlog::Backlog;
pub use frame::{CONTROL_BYTES, CloseCode, ControlFrame, FrameHead, Framed, Frames};
pub use framer::{Broken, Found, Framer};
pub use handshake::{Answer, Handshake, Refusal, WebRules};
pub use outgoing::Outgoing;
pub use web::{WebFound, WebSocket};
