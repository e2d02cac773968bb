//! The kernel edge against real sockets on loopback. Each test waits for what must happen; none sleeps.
#![cfg(feature = "server")]

mod bench;
mod drive;
mod ring;
mod socket;
mod swap;
