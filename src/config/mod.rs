//! Configuration: limits that every layer may name. It reads no clock and opens no socket.

pub mod limits;
