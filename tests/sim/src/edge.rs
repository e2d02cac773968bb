//! Plays the kernel edge for a few shards: gives them inputs, carries out their effects.
//! The clock is whatever the caller says it is, and the caller decides what becomes of what leaves.
//!
//! A real edge has duties towards a shard, and this one checks that the shard needs no more than
//! these: sends are read from the arena before released slots go back to it, a borrowed datagram
//! is overwritten as soon as `step` returns, and forwarded datagrams are never forwarded again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard::Shard;
use lampfield::shard::effects::{Destination, Effects, Event, SendTag, StreamOrder};
use lampfield::shard::input::Input;
use lampfield::shard::mail::{Block, Carried, Mail};
use lampfield::shard::settings::Settings;
use lampfield::store::records::Records;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{ConnectionId, Flow, ListenerId};

/// One datagram that a shard has sent.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub shard: ShardId,
    pub listener: ListenerId,
    pub source: Option<IpAddr>,
    pub peer: SocketAddr,
    pub tag: SendTag,
    pub bytes: Vec<u8>,
}

/// What a shard wants done with one of its connections.
#[derive(Clone, Debug)]
pub struct Streamed {
    pub connection: ConnectionId,
    /// What is written; `None`: it is closed.
    pub bytes: Option<Vec<u8>>,
}

/// What goes from one shard to another.
#[derive(Debug)]
pub enum Parcel {
    Mail(Mail),
    Block { from: ShardId, block: Block },
}

/// Everything that one turn of one shard has brought about.
#[derive(Debug, Default)]
pub struct Turn {
    pub datagrams: Vec<Datagram>,
    pub streams: Vec<Streamed>,
    pub parcels: Vec<(ShardId, Parcel)>,
    pub replies: Vec<Mail>,
    /// What is to outlive the process.
    pub records: Records,
    pub events: Vec<Event>,
}

/// The shards, and what each wants done at the end of its turn.
pub struct Edge {
    shards: Vec<Shard>,
    effects: Vec<Effects>,
    wall: WallOffset,
    /// Whether the turn under way has had only forwarded datagrams so far.
    only_forwarded: Vec<bool>,
}

impl Edge {
    /// One shard per entry of `settings`.
    pub fn new(settings: Vec<Settings>, now: Time, wall: WallOffset) -> Self {
        let count = u16::try_from(settings.len()).expect("few shards");
        let mut edge = Edge {
            shards: settings
                .into_iter()
                .map(|one| Shard::new(one, now))
                .collect(),
            effects: (0..count).map(|_| Effects::new(count)).collect(),
            wall,
            only_forwarded: vec![true; usize::from(count)],
        };
        for shard in edge.ids() {
            edge.step(shard, now, Input::Tick { wall });
        }
        edge
    }

    /// All shards.
    pub fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len() as u16).map(ShardId)
    }

    /// One shard, to look at.
    pub fn shard(&mut self, shard: ShardId) -> &mut Shard {
        &mut self.shards[usize::from(shard.0)]
    }

    /// A datagram from a socket of this shard.
    pub fn receive(&mut self, shard: ShardId, now: Time, flow: Flow, bytes: &[u8], cut_at: usize) {
        let mut buffer = bytes[..bytes.len().min(cut_at)].to_vec();
        let truncated = bytes.len() > cut_at;
        self.only_forwarded[usize::from(shard.0)] = false;
        self.datagram(shard, now, flow, &mut buffer, truncated, false);
    }

    /// What another shard has sent to this one.
    pub fn deliver(&mut self, shard: ShardId, now: Time, parcel: Parcel) {
        match parcel {
            Parcel::Mail(mail) => {
                self.only_forwarded[usize::from(shard.0)] = false;
                self.step(shard, now, Input::Mail(mail));
            }
            Parcel::Block { from, block } => {
                for carried in block.iter() {
                    match carried {
                        Carried::Received { flow, bytes } => {
                            let mut buffer = bytes.to_vec();
                            self.datagram(shard, now, flow, &mut buffer, false, true);
                        }
                        Carried::ToSend {
                            connection,
                            tag,
                            bytes,
                        } => {
                            let input = Input::ToSend {
                                sender: from,
                                connection,
                                tag,
                                bytes,
                            };
                            self.step(shard, now, input);
                        }
                    }
                }
            }
        }
    }

    /// Something has happened to a connection of this shard.
    pub fn connection(&mut self, shard: ShardId, now: Time, input: Input<'_>) {
        self.only_forwarded[usize::from(shard.0)] = false;
        self.step(shard, now, input);
    }

    /// The kernel has refused a send.
    pub fn send_failed(&mut self, shard: ShardId, now: Time, tag: SendTag, errno: i32) {
        self.only_forwarded[usize::from(shard.0)] = false;
        self.step(shard, now, Input::SendFailed { tag, errno });
    }

    /// A turn begins in which what comes has waited for so long.
    pub fn waited(&mut self, shard: ShardId, now: Time, waited: Duration) {
        self.step(shard, now, Input::Turn { waited });
    }

    /// Time has passed.
    pub fn tick(&mut self, shard: ShardId, now: Time) {
        self.only_forwarded[usize::from(shard.0)] = false;
        let wall = self.wall;
        self.step(shard, now, Input::Tick { wall });
    }

    /// When a shard wants its next tick.
    pub fn next_deadline(&self, shard: ShardId) -> Option<Time> {
        self.shards[usize::from(shard.0)].next_deadline()
    }

    /// Ends a turn: copies the sends out of their slots, then gives the released slots back.
    pub fn flush(&mut self, shard: ShardId) -> Result<Turn, String> {
        let index = usize::from(shard.0);
        let effects = &mut self.effects[index];
        let arena = self.shards[index].arena();
        let mut turn = Turn::default();
        for send in effects.sends.drain(..) {
            turn.datagrams.push(Datagram {
                shard,
                listener: send.listener,
                source: send.source,
                peer: send.peer,
                tag: send.tag,
                bytes: arena.bytes(send.slot).to_vec(),
            });
        }
        for send in effects.streams.drain(..) {
            turn.streams.push(Streamed {
                connection: send.connection,
                bytes: match send.order {
                    StreamOrder::Write(slot) => Some(arena.bytes(slot).to_vec()),
                    StreamOrder::WriteFramed(head, slot) => {
                        Some([head.as_bytes(), arena.bytes(slot)].concat())
                    }
                    StreamOrder::Close => None,
                    // Sources are counted at the true edge only.
                    StreamOrder::Heard | StreamOrder::Framed => continue,
                },
            });
        }
        for slot in effects.released.drain(..) {
            arena.release(slot);
        }
        for (destination, mail) in effects.mails.drain(..) {
            match destination {
                Destination::Shard(to) => turn.parcels.push((to, Parcel::Mail(mail))),
                Destination::Control => turn.replies.push(mail),
            }
        }
        for (to, lane) in effects.forwards.iter_mut().enumerate() {
            while let Some(block) = lane.take(Block::default) {
                let to = ShardId(to as u16);
                if to == shard {
                    return Err(format!("{shard:?} forwards a datagram to itself"));
                }
                let received = |carried| matches!(carried, Carried::Received { .. });
                let forwards = block.iter().any(received);
                let from = shard;
                turn.parcels.push((to, Parcel::Block { from, block }));
                if forwards && self.only_forwarded[index] {
                    return Err(format!("{shard:?} forwards a forwarded datagram to {to:?}"));
                }
            }
        }
        turn.records = std::mem::take(&mut effects.records);
        turn.events.append(&mut effects.events);
        self.only_forwarded[index] = true;
        Ok(turn)
    }

    fn datagram(
        &mut self,
        shard: ShardId,
        now: Time,
        flow: Flow,
        buffer: &mut [u8],
        truncated: bool,
        forwarded: bool,
    ) {
        self.step(
            shard,
            now,
            Input::Datagram {
                flow,
                bytes: buffer,
                truncated,
                forwarded,
            },
        );
        // The ring gives the buffer to the next datagram: nobody may have kept a view of it.
        buffer.fill(0xAA);
    }

    fn step(&mut self, shard: ShardId, now: Time, input: Input<'_>) {
        let index = usize::from(shard.0);
        self.shards[index].step(now, input, &mut self.effects[index]);
    }
}
