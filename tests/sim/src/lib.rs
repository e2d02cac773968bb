//! The world around a shard, simulated: its edge, the network, the phones, and those who judge.
//!
//! ```text
//! edge      what uring/ does for real shards, with a clock that others turn
//! post      what is on its way between shards
//! message   SIP as the other side reads it       lamp   documents as a phone reads them
//! web       a WebSocket client
//! witness/  what must hold of every datagram, whatever happens
//! script/   scenario files: a language for conversations, and the stage on which they run
//! world/    the simulator: phones, publishers, feeds and a bad network, by seed
//! restart/  the same for a server that is killed again and again, and has a disk
//! streams/  the same for phones and edges that come by connections
//! ```

pub mod edge;
pub mod lamp;
pub mod message;
mod post;
mod random;
pub mod restart;
pub mod script;
pub mod sockets;
pub mod streams;
mod web;
pub mod witness;
pub mod world;
