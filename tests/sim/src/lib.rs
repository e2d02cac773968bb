//! The world around a shard, simulated: its edge, the network, the phones, and those who judge.
//!
//! ```text
//! script/   scenario files: a language for conversations, and the stage on which they run
//! edge      what uring/ does for real shards, with a simulated clock
//! message   SIP as the other side reads it       lamp   documents as a phone reads them
//! ```
//! The simulator itself (`main.rs`) plays many phones on the same edge.

pub mod edge;
pub mod lamp;
pub mod message;
pub mod script;
pub mod witness;
