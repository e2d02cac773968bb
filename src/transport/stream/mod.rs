//! Messages out of the bytes of a connection, and bytes on their way out by it. Pure: bytes go in as they come, cut
//! anywhere; messages come out.

mod framer;
mod outgoing;

pub use framer::{Broken, Found, Framer};
pub use outgoing::Outgoing;
