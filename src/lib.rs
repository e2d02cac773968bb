//! Lampfield, a SIP event server: every subscribed phone's lamp is right.
//!
//! The modules in the order in which a datagram meets them:
//!
//! ```text
//!              one thread per core, nothing shared                     control thread
//!  +-----------------------------------------------------------+   +----------------------+
//!  | uring/   rings, buffers, sockets (the kernel edge)        |   | server  start, stop  |
//!  |    completion -> Input              Effects -> submission |   | admin   HTTP, metrics|
//!  +---------|---------------------------------^---------------+   | dns     host names   |
//!            v                                 |                   +----------------------+
//!  +-----------------------------------------------------------+             | mail
//!  | shard/  step(now, Input, &mut Effects)   next_deadline()  |<------------+
//!  |  1 transport/     which listener, which flow              |
//!  |  2 sip/           bytes -> borrowed Message               |     other shards
//!  |  3 transaction/   retransmission? answer? new?            |<--- mail
//!  |  4 policy/        who may; digest                         |
//!  |  5 subscription/  accept, refresh, expire, terminate      |
//!  |  6 notify/        who must hear; tail once, head each     |
//!  |  7 transaction/   a client transaction per NOTIFY         |
//!  |  state/ hints and publications   wheel  arena  stats  rng |
//!  +-----------------------------------------------------------+
//! ```
//!
//! Everything inside `shard/` and below is pure: no clock, socket, thread, lock, logging
//! call or `async`. It records effects; the edge carries them out.

pub mod arena;
pub mod bits;
pub mod hex;
pub mod hint;
pub mod partition;
pub mod quota;
pub mod rate;
pub mod rng;
pub mod slab;
pub mod stats;
pub mod table;
pub mod time;
pub mod wheel;

pub mod sip;

pub mod notify;
pub mod policy;
pub mod state;
pub mod store;
pub mod subscription;
pub mod transaction;
pub mod transport;

pub mod shard;

pub mod config;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod dns;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod uring;
