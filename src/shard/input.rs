//! What can happen to a shard.

use crate::shard::effects::SendTag;
use crate::shard::mail::Mail;
use crate::time::WallOffset;
use crate::transport::Flow;

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
    /// From another shard, or from the control thread.
    Mail(Mail),
    /// Time has passed: the wheel is advanced to `now`. Also carries the wall clock.
    Tick { wall: WallOffset },
}
