//! What can happen to a shard.

use core::time::Duration;

use crate::shard::effects::{SendTag, ShardId};
use crate::shard::mail::Mail;
use crate::time::WallOffset;
use crate::transport::{ConnectionId, Flow};

/// One thing that happened. Borrowed bytes go back to the ring when `step` returns.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram, from a socket of this shard or (`forwarded`) from the shard that received it.
    /// `truncated`: longer than the receive buffer; what came is its beginning.
    Datagram {
        flow: Flow,
        bytes: &'a [u8],
        truncated: bool,
        forwarded: bool,
    },
    /// The kernel refused or failed a send: an `errno` value.
    SendFailed { tag: SendTag, errno: i32 },
    /// A peer has connected: the flow names the connection, whose number was never used before.
    Opened { flow: Flow },
    /// The peer of a connection has proved these host names by its certificate. It has not said anything before.
    Proved {
        connection: ConnectionId,
        names: &'a [Box<str>],
    },
    /// What has come by a connection, cut anywhere.
    Stream {
        connection: ConnectionId,
        bytes: &'a [u8],
    },
    /// The kernel has taken so many more bytes of what was to be written.
    Written {
        connection: ConnectionId,
        bytes: usize,
    },
    /// The peer of a connection says nothing more, and may still read.
    Ended { connection: ConnectionId },
    /// A connection has ended: by its peer, or because of an error. Not told of those that the shard has closed.
    Closed { connection: ConnectionId },
    /// Another shard wants this written to a connection of this shard.
    ToSend {
        sender: ShardId,
        connection: ConnectionId,
        tag: SendTag,
        bytes: &'a [u8],
    },
    /// From another shard, or from the control thread.
    Mail(Mail),
    /// A turn begins: what it reads has waited for at most so long.
    Turn { waited: Duration },
    /// Time has passed: the wheel is advanced to `now`. Also carries the wall clock.
    Tick { wall: WallOffset },
}
