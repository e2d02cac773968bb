//! Answers to what came by a connection of another shard, while there is no room on the way to it. By a connection nothing
//! is asked twice, so an answer must not be lost for want of room: it waits here, in its slot, until there is some.

use core::time::Duration;
use std::collections::VecDeque;

use super::Shard;
use super::answer::Outgoing;
use super::effects::{Effects, SendTag};
use super::streams::Put;
use crate::arena::SlotId;
use crate::config::limits;
use crate::stats::Counter;
use crate::time::Time;
use crate::transport::ConnectionId;
use crate::wheel::{Owner, Token};

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_millis(1);
/// What the shard's own timer is called that says so; 0 is that of what stalled.
pub(super) const TIMER: u32 = 1;

/// What waits, in order.
#[derive(Default)]
pub(super) struct Late(VecDeque<(ConnectionId, SlotId)>);

impl Late {
    /// How many wait, each with its send slot.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Shard {
    /// Back the way that the request came. Its slot is free after the turn in which it goes.
    //= RFC 3261 18.2.2
    pub(super) fn put_out(&mut self, answer: Outgoing, out: &mut Effects) {
        let Outgoing { send, connection } = answer;
        let Some(connection) = connection else {
            out.released.push(send.slot);
            return out.sends.push(send);
        };
        match self.put(self.now, connection, send.slot, send.tag, out) {
            Put::NoRoom if self.late.len() < limits::ANSWERS_HELD => {
                if self.late.0.is_empty() {
                    self.try_later();
                }
                self.late.0.push_back((connection, send.slot));
            }
            put @ (Put::Done | Put::NoRoom | Put::Gone) => self.put_ended(put, send.slot, out),
        }
    }

    /// There may be room again.
    pub(super) fn put_late(&mut self, now: Time, out: &mut Effects) {
        for _ in 0..self.late.0.len() {
            let Some((connection, slot)) = self.late.0.pop_front() else {
                break;
            };
            match self.put(now, connection, slot, SendTag::NONE, out) {
                Put::NoRoom => self.late.0.push_back((connection, slot)),
                put @ (Put::Done | Put::Gone) => self.put_ended(put, slot, out),
            }
        }
        if !self.late.0.is_empty() {
            self.try_later();
        }
    }

    fn put_ended(&mut self, put: Put, slot: SlotId, out: &mut Effects) {
        out.released.push(slot);
        match put {
            Put::Done => {}
            Put::NoRoom | Put::Gone => self.stats.record(Counter::ResponseSendFailed),
        }
    }

    fn try_later(&mut self) {
        let token = Token {
            owner: Owner::Shard,
            index: TIMER,
        };
        self.wheel.insert(self.now + AGAIN, token);
    }
}
