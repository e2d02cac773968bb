//! The way from one shard to another: what waits on it, and what it takes on. What a peer would only send again is not
//! dropped here: it waits, in order, while the other shard lags behind.
//!
//! A block goes as soon as it may. While it may not, messages that came in here and belong over there stand behind it in
//! more blocks. What is for a connection over there has the first block to itself then: of a NOTIFY nothing is worth more
//! than the newest, so it waits with its subscription where there is no room.

use std::collections::VecDeque;

use super::effects::SendTag;
use super::mail::{BLOCK_SIZE, Block};
use crate::config::limits;
use crate::time::Time;
use crate::transport::{ConnectionId, Flow};

/// What is on its way to one shard and has not left yet.
#[derive(Debug, Default)]
pub struct Lane {
    /// Goes next.
    block: Block,
    /// Messages that came in later than those of the first block.
    behind: VecDeque<Block>,
    bounds: Bounds,
}

/// How many blocks may stand behind the first.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    for_new: usize,
    for_all: usize,
}

impl Lane {
    /// One of those of a process of so many shards. What each shard has to do is bounded, and so each lane has a part.
    pub fn new(shards: u16) -> Self {
        let others = usize::from(shards).saturating_sub(1).max(1);
        Lane {
            bounds: Bounds {
                for_new: (limits::FORWARD_BLOCKS_WAITING_OF_NEW / others).max(2),
                for_all: (limits::FORWARD_BLOCKS_WAITING / others).max(8),
            },
            ..Lane::default()
        }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty() && self.behind.is_empty()
    }

    /// Whether so much waits already that the other shard should not be asked for anything new.
    pub fn is_long(&self) -> bool {
        self.behind.len() >= self.bounds.for_new
    }

    /// Whether it should leave before more comes that takes so many bytes.
    pub fn is_crowded(&self, bytes: usize) -> bool {
        self.is_behind() || self.block.room() < bytes
    }

    /// Whether more waits than one block.
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Appends a message that came in here and belongs over there; false: too much waits already.
    #[must_use]
    pub fn push(&mut self, now: Time, flow: &Flow, bytes: &[u8]) -> bool {
        if self.behind.is_empty() && self.block.push(now, flow, bytes) {
            return true;
        }
        if let Some(last) = self.behind.back_mut()
            && last.push(now, flow, bytes)
        {
            return true;
        }
        if self.behind.len() >= self.bounds.for_all {
            return false;
        }
        let mut next = Block::default();
        let fits = next.push(now, flow, bytes);
        assert!(fits, "every message fits into an empty block");
        self.behind.push_back(next);
        true
    }

    /// Appends a message for a connection that is over there; false: there is no room now.
    #[must_use]
    pub fn push_to_send(
        &mut self,
        now: Time,
        connection: ConnectionId,
        tag: SendTag,
        bytes: &[u8],
    ) -> bool {
        self.block.push_to_send(now, connection, tag, bytes)
    }

    /// The next block to leave; where the lane goes on with an empty one, `empty` is asked for it.
    pub fn take(&mut self, empty: impl FnOnce() -> Block) -> Option<Block> {
        if self.block.is_empty() {
            self.behind.pop_front()
        } else {
            Some(core::mem::replace(&mut self.block, empty()))
        }
    }
}

const _: () = assert!(limits::FORWARD_BLOCKS_WAITING_OF_NEW < limits::FORWARD_BLOCKS_WAITING);
const _: () = assert!(limits::RECEIVE_BUFFER_BYTES < BLOCK_SIZE);

#[cfg(test)]
mod tests {
    use super::super::mail::Carried;
    use super::*;
    use crate::partition::ShardId;
    use crate::transport::ListenerId;

    const NOW: Time = Time::from_millis(1_000);

    fn flow() -> Flow {
        Flow {
            listener: ListenerId(1),
            local: None,
            peer: "192.0.2.1:5060".parse().unwrap(),
            connection: None,
        }
    }

    /// The numbers of the messages that came in, and how many are to be sent, of one block.
    fn read(block: &Block) -> (Vec<u32>, usize) {
        let (mut numbers, mut to_send) = (Vec::new(), 0);
        for carried in block.iter() {
            match carried {
                Carried::Received { bytes, .. } => {
                    numbers.push(u32::from_le_bytes(*bytes.first_chunk().unwrap()));
                }
                Carried::ToSend { .. } => to_send += 1,
            }
        }
        (numbers, to_send)
    }

    fn push(lane: &mut Lane, number: u32) -> bool {
        let mut bytes = [0; 1_000];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        lane.push(NOW, &flow(), &bytes)
    }

    #[test]
    fn what_came_in_leaves_in_order_however_much_waits_and_whatever_is_sent_in_between() {
        let mut lane = Lane::new(2);
        let connection = ConnectionId::new(ShardId(1), 1);
        let (mut pushed, mut left, mut sent) = (0, Vec::new(), 0);
        for round in 0..40 {
            for _ in 0..100 {
                assert!(push(&mut lane, pushed));
                pushed += 1;
            }
            let room = lane.push_to_send(NOW, connection, SendTag::NONE, b"to send");
            if round % 3 > 0 {
                let block = lane.take(Block::default).expect("something waits");
                let (numbers, to_send) = read(&block);
                left.extend(numbers);
                sent += to_send;
                assert!(room || !lane.block.is_empty() || lane.is_behind());
            }
        }
        assert!(lane.is_behind());
        while let Some(block) = lane.take(Block::default) {
            let (numbers, to_send) = read(&block);
            left.extend(numbers);
            sent += to_send;
        }
        assert!(lane.is_empty() && !lane.is_crowded(1));
        assert!(left.into_iter().eq(0..pushed));
        assert!(
            sent > 10,
            "{sent}: what is to be sent does not wait behind what came in"
        );
    }

    #[test]
    fn what_is_new_is_not_asked_for_long_before_anything_is_lost() {
        let mut lane = Lane::new(2);
        let (mut before_long, mut count) = (0, 0);
        while push(&mut lane, count) {
            count += 1;
            before_long += u32::from(!lane.is_long());
        }
        let bytes = |blocks: usize| (blocks * BLOCK_SIZE / 1_100) as u32;
        assert!(before_long > bytes(limits::FORWARD_BLOCKS_WAITING_OF_NEW));
        assert!(count > bytes(limits::FORWARD_BLOCKS_WAITING));
        let one = core::iter::from_fn(|| lane.take(Block::default));
        let left: usize = one.map(|block| block.iter().count()).sum();
        assert_eq!(left, count as usize);
    }

    #[test]
    fn a_part_of_what_may_wait_is_each_lanes() {
        let of = |shards| Lane::new(shards).bounds;
        assert_eq!(of(1).for_all, of(2).for_all);
        assert_eq!(of(5).for_all * 4, of(2).for_all);
        assert!(of(256).for_new < of(256).for_all);
    }
}
