//! The kernel edge: completions become `Input`, `Effects` become submissions.
//! It holds rings, buffers, sockets and threads, and knows nothing of SIP.
//!
//! ```text
//!  probe     is this kernel able to?             socket   UDP sockets, bound and set up
//!  ring      one shard's datagrams:              address  SocketAddr and control messages, as the kernel writes them
//!     buffers   where datagrams land             post     mail between threads, and who has to be woken
//!     outgoing  what a send points at            turn     one turn of a shard: in, step, out
//!  stream    connections, and what they wait for drive    a shard's thread: turns, and waiting between them
//!  clock     CLOCK_BOOTTIME and the wall         pin      which CPU that thread runs on
//! ```

mod address;
mod buffers;
mod outgoing;
mod turn;

pub mod clock;
pub mod drive;
pub mod pin;
pub mod post;
pub mod probe;
pub mod ring;
pub mod socket;
pub mod stream;
