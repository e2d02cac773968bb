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
use lampfield::shard::lane::Lane;
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
    Block {
        from: ShardId,
        block: Block,
        /// When the first message of it was put there: not before, and not after.
        begun: [Time; 2],
    },
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
    turns: Vec<UnderWay>,
    /// Of each shard, by which other: when the first of what waits for that one was put there: not before, and not after.
    lanes: Vec<Vec<Option<[Time; 2]>>>,
    /// Blocks that have been read, to be filled again.
    empty: Vec<Block>,
}

/// What is known of the turn of a shard that is under way.
#[derive(Debug)]
struct UnderWay {
    /// It has begun.
    begun: bool,
    /// How long what other shards passed on had waited when it was read in the turn before.
    passed_on: Duration,
    /// It has had only forwarded datagrams so far.
    only_forwarded: bool,
    /// Something had found no room on its way to another shard when it began.
    left_over: bool,
    /// When something was done last.
    now: Time,
}

impl Default for UnderWay {
    fn default() -> Self {
        UnderWay {
            begun: false,
            passed_on: Duration::ZERO,
            only_forwarded: true,
            left_over: false,
            now: Time::ZERO,
        }
    }
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
            turns: (0..count).map(|_| UnderWay::default()).collect(),
            lanes: vec![vec![None; usize::from(count)]; usize::from(count)],
            empty: Vec::new(),
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
        self.turns[usize::from(shard.0)].only_forwarded = false;
        self.datagram(shard, now, flow, &mut buffer, truncated, false);
    }

    /// What another shard has sent to this one.
    pub fn deliver(&mut self, shard: ShardId, now: Time, parcel: Parcel) {
        match parcel {
            Parcel::Mail(mail) => {
                self.turns[usize::from(shard.0)].only_forwarded = false;
                self.step(shard, now, Input::Mail(mail));
            }
            Parcel::Block {
                from, mut block, ..
            } => {
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
                // As the true edge: what has waited so long presses on the turns that follow.
                let passed_on = &mut self.turns[usize::from(shard.0)].passed_on;
                *passed_on = block.waited(now).max(*passed_on);
                block.clear();
                self.empty.push(block);
            }
        }
    }

    /// Something has happened to a connection of this shard.
    pub fn connection(&mut self, shard: ShardId, now: Time, input: Input<'_>) {
        self.turns[usize::from(shard.0)].only_forwarded = false;
        self.step(shard, now, input);
    }

    /// The kernel has refused a send.
    pub fn send_failed(&mut self, shard: ShardId, now: Time, tag: SendTag, errno: i32) {
        self.turns[usize::from(shard.0)].only_forwarded = false;
        self.step(shard, now, Input::SendFailed { tag, errno });
    }

    /// A turn begins in which what comes has waited for so long.
    pub fn waited(&mut self, shard: ShardId, now: Time, waited: Duration) {
        self.turns[usize::from(shard.0)].begun = true;
        self.step(shard, now, Input::Turn { waited });
    }

    /// Time has passed.
    pub fn tick(&mut self, shard: ShardId, now: Time) {
        self.turns[usize::from(shard.0)].only_forwarded = false;
        let wall = self.wall;
        self.step(shard, now, Input::Tick { wall });
    }

    /// When a shard wants its next tick.
    pub fn next_deadline(&self, shard: ShardId) -> Option<Time> {
        self.shards[usize::from(shard.0)].next_deadline()
    }

    /// Whether something waits here for room on its way to another shard.
    pub fn is_waiting(&self, shard: ShardId) -> bool {
        let lanes = &self.effects[usize::from(shard.0)].forwards;
        lanes.iter().any(|lane| !lane.is_empty())
    }

    /// Whether so much does that connections should not be read now.
    pub fn is_long(&self, shard: ShardId) -> bool {
        let lanes = &self.effects[usize::from(shard.0)].forwards;
        lanes.iter().any(Lane::is_long)
    }

    /// Ends a turn: copies the sends out of their slots, then gives the released slots back.
    pub fn flush(&mut self, shard: ShardId) -> Result<Turn, String> {
        self.flush_into(shard, |_, _| usize::MAX)
    }

    /// The same where the way to another shard may have room for a few more blocks only: how many, if more than one waits
    /// and if not. What has none stays, for the next turn.
    pub fn flush_into(
        &mut self,
        shard: ShardId,
        room: impl Fn(ShardId, bool) -> usize,
    ) -> Result<Turn, String> {
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
        let under_way = std::mem::take(&mut self.turns[index]);
        for (to, lane) in effects.forwards.iter_mut().enumerate() {
            let to = ShardId(to as u16);
            let mut sent = 0;
            while !lane.is_empty() && sent < room(to, lane.is_behind()) {
                sent += 1;
                let empty = || self.empty.pop().unwrap_or_default();
                let block = lane.take(empty).expect("it is not empty");
                if to == shard {
                    return Err(format!("{shard:?} forwards a datagram to itself"));
                }
                let received = |carried| matches!(carried, Carried::Received { .. });
                let forwards = block.iter().any(received);
                let begun = self.lanes[index][usize::from(to.0)].expect("something waits");
                // What stands behind it came later.
                self.lanes[index][usize::from(to.0)] = Some([begun[0], under_way.now]);
                let from = shard;
                let parcel = Parcel::Block { from, block, begun };
                turn.parcels.push((to, parcel));
                if forwards && under_way.only_forwarded && !under_way.left_over {
                    return Err(format!("{shard:?} forwards a forwarded datagram to {to:?}"));
                }
            }
            self.turns[index].left_over |= !lane.is_empty();
            if lane.is_empty() {
                self.lanes[index][usize::from(to.0)] = None;
            }
        }
        self.turns[index].passed_on = under_way.passed_on;
        turn.records = std::mem::take(&mut effects.records);
        turn.events.append(&mut effects.events);
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
        let turn = &mut self.turns[index];
        if !std::mem::replace(&mut turn.begun, true) {
            let waited = std::mem::take(&mut turn.passed_on);
            let begins = Input::Turn { waited };
            self.shards[index].step(now, begins, &mut self.effects[index]);
        }
        turn.now = now;
        self.shards[index].step(now, input, &mut self.effects[index]);
        for (begun, lane) in self.lanes[index]
            .iter_mut()
            .zip(&self.effects[index].forwards)
        {
            if begun.is_none() && !lane.is_empty() {
                *begun = Some([now; 2]);
            }
        }
    }
}
