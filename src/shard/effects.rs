//! What a shard wants done: filled by `step` over a whole turn, flushed once by the edge.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::arena::SlotId;
use crate::config::limits;
pub use crate::partition::ShardId;
use crate::shard::admission::{Level, Measure};
use crate::shard::alarms::Asker;
use crate::shard::lane::Lane;
use crate::shard::mail::Mail;
use crate::store::records::Records;
use crate::time::Time;
use crate::transport::stream::FrameHead;
use crate::transport::{ConnectionId, Flow, ListenerId};

/// Where mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    Shard(ShardId),
    Control,
}

/// Given back with `Input::SendFailed`: names the client transaction, or nothing (`SendTag::NONE`) for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendTag(pub u64);

impl SendTag {
    /// A send whose failure concerns nobody but the counters.
    pub const NONE: SendTag = SendTag(u64::MAX);
}

/// One datagram to send: the bytes are those of the arena's slot.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    pub slot: SlotId,
    pub listener: ListenerId,
    /// Send from this address (wildcard listeners).
    pub source: Option<IpAddr>,
    pub peer: SocketAddr,
    pub tag: SendTag,
}

/// Something to be done with a connection of this shard.
#[derive(Clone, Copy, Debug)]
pub struct StreamSend {
    pub connection: ConnectionId,
    pub order: StreamOrder,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub enum StreamOrder {
    /// Append the bytes of the arena's slot to what is on its way: `Input::Written` tells how far that is.
    Write(SlotId),
    /// Its first message has come: it is no longer one that might never say anything.
    Heard,
    /// It speaks WebSocket from now on.
    Framed,
    /// Append the same, as one message behind the head of its WebSocket frame.
    WriteFramed(FrameHead, SlotId),
    /// Read no more, write what is on its way as far as the peer takes it soon, and close.
    /// The shard has forgotten the connection.
    Close,
}

/// Everything that one turn wants done.
#[derive(Debug, Default)]
pub struct Effects {
    /// Datagrams, in order.
    pub sends: Vec<Send>,
    /// What connections are to carry, in order.
    pub streams: Vec<StreamSend>,
    /// Slots to be released once the sends of this turn have been consumed by the ring.
    pub released: Vec<SlotId>,
    /// Mail to other shards and to the control thread, in order.
    pub mails: Vec<(Destination, Mail)>,
    /// Messages that another shard owns or has the connection for, packed by destination: index is the shard's number.
    pub forwards: Vec<Lane>,
    /// What is to outlive the process, in order.
    pub records: Records,
    /// State changes worth a line: the edge writes them.
    pub events: Vec<Event>,
}

impl Effects {
    /// For a process of `shards` shards.
    pub fn new(shards: u16) -> Self {
        Effects {
            forwards: (0..shards).map(|_| Lane::new(shards)).collect(),
            ..Effects::default()
        }
    }

    /// Packs a datagram that `owner` owns. False: more waits for it than it will ever want; the datagram is dropped and
    /// the caller counts it.
    #[must_use]
    pub fn forward(&mut self, now: Time, owner: ShardId, flow: &Flow, bytes: &[u8]) -> bool {
        self.forwards[usize::from(owner.0)].push(now, flow, bytes)
    }

    /// Packs a message for a connection of another shard. False: there is no room now.
    #[must_use]
    pub fn carry(&mut self, now: Time, to: ConnectionId, tag: SendTag, bytes: &[u8]) -> bool {
        let shard = usize::from(to.shard().0);
        self.forwards[shard].push_to_send(now, to, tag, bytes)
    }

    /// Whether the turn should be flushed before more is done: the most that one input causes might not fit.
    pub fn is_nearly_full(&self) -> bool {
        self.sends.len() + self.streams.len() + limits::SENDS_RESERVED >= limits::SENDS_PER_TURN
            || self.mails.len() >= limits::MAILS_PER_TURN
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
            && self.streams.is_empty()
            && self.released.is_empty()
            && self.mails.is_empty()
            && self.records.is_empty()
            && self.events.is_empty()
            && self.forwards.iter().all(Lane::is_empty)
    }
}

/// Something that an operator may want to read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rule of our own was broken; the subscription or transaction concerned has been ended.
    Bug(&'static str),
    /// How far a shard is behind with its work, and what waits most.
    Load(Level, Measure),
    /// Nobody ran this shard for so long: its timers fire late by that.
    StoodStill(Duration),
    /// A limit was reached, and whoever asked first for what it refuses. Not before a while has passed is the same one named
    /// again.
    Limit(&'static str, Option<Asker>),
}
