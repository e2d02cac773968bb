//! Messages out of the bytes of a connection. Pure: bytes go in as they come, cut anywhere; messages come out.

mod framer;

pub use framer::{Broken, Found, Framer};
