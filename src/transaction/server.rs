//! Server transactions: the answers we gave, kept for timer J so that a retransmission gets its
//! answer again and has no other effect. Only the outcome is kept; the retransmission brings the
//! headers that the answer echoes. It may not write messages.

use chunks::Chunks;

use crate::partition::{Mark, Partition};
use crate::table::Table;
use crate::time::{T64, Time};
use crate::transport::ListenerId;
use crate::wheel::{Owner, TimerId, Token, Wheel};

/// What was answered: enough to write the same answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub status: u16,
    /// The To tag that we gave; None: a check value of the request.
    pub tag: Option<Mark>,
    /// Seconds in `Expires`, or in `Min-Expires` or `Retry-After` of a refusal.
    pub seconds: u32,
    /// The entity tag in `SIP-ETag`; 0 if there is none.
    pub entity_tag: u64,
}

/// A request's identity, hashed under a key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Branch, sent-by and method (RFC 3261 17.2.3).
    pub transaction: u128,
    /// From tag, Call-ID and CSeq: what two copies of one request share that came by two ways (RFC 3261 8.2.2.2).
    pub merge: u64,
}

/// What is known of a request before anything is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Never seen.
    New,
    /// A retransmission: answer as before, from the listener that the request first came in on.
    Retransmission(Given, ListenerId),
    /// The same request by another way: 482.
    Merged,
}

/// Stands for no tag; no partition has this number.
const NO_TAG: u16 = u16::MAX;

struct Completed {
    transaction: u128,
    merge: u64,
    check: u64,
    entity_tag: u64,
    slot: u32,
    seconds: u32,
    listener: ListenerId,
    /// Timer J fires, in milliseconds, the low 32 bits.
    until: u32,
    status: u16,
    partition: u16,
}

const _: () = assert!(
    size_of::<Completed>() <= 64,
    "320,000 of them are kept at 10,000 requests a second"
);

/// The completed server transactions of a shard, in the order in which timer J fires for them.
pub struct Servers {
    completed: Chunks<Completed>,
    by_transaction: Table,
    by_merge: Table,
    timer: Option<TimerId>,
    limit: usize,
}

impl Servers {
    /// At most `limit` answers are kept; beyond it the oldest goes first.
    pub fn new(limit: usize) -> Self {
        Servers {
            completed: Chunks::default(),
            by_transaction: Table::new(),
            by_merge: Table::new(),
            timer: None,
            limit,
        }
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.completed.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks the request up.
    //= RFC 3261 17.2.3
    pub fn known(&self, key: RequestKey, has_to_tag: bool) -> Known {
        if let Some(found) = self.find(key.transaction) {
            return Known::Retransmission(found.given(), found.listener);
        }
        //= RFC 3261 8.2.2.2
        if !has_to_tag
            && self
                .by_merge
                .find(key.merge, |index| self.completed[index].merge == key.merge)
                .is_some()
        {
            return Known::Merged;
        }
        Known::New
    }

    /// Keeps an answer to what came in on `listener` for 64·T1. Some: an older one had to go before its time,
    /// and this was its listener.
    pub fn remember(
        &mut self,
        now: Time,
        key: RequestKey,
        given: Given,
        listener: ListenerId,
        wheel: &mut Wheel,
    ) -> Option<ListenerId> {
        let full = self.completed.len() >= self.limit;
        let forgotten = full.then(|| self.forget_first());
        let until = now + T64;
        let index = self.completed.push(Completed {
            transaction: key.transaction,
            merge: key.merge,
            check: given.tag.map_or(0, |tag| tag.check),
            entity_tag: given.entity_tag,
            slot: given.tag.map_or(0, |tag| tag.slot),
            seconds: given.seconds,
            listener,
            until: until.millis() as u32,
            status: given.status,
            partition: given.tag.map_or(NO_TAG, |tag| tag.partition.number()),
        });
        self.by_transaction.insert(fold(key.transaction), index);
        self.by_merge.insert(key.merge, index);
        if self.timer.is_none() {
            self.timer = Some(wheel.insert(
                until,
                Token {
                    owner: Owner::ServerTransaction,
                    index: 0,
                },
            ));
        }
        forgotten
    }

    /// Timer J of the oldest one fired: forgets what is due and waits for the next. `forgotten` is told the
    /// listener of each.
    pub fn on_timer(
        &mut self,
        now: Time,
        wheel: &mut Wheel,
        mut forgotten: impl FnMut(ListenerId),
    ) {
        self.timer = None;
        while let Some(first) = self.completed.first() {
            let left = first.until.wrapping_sub(now.millis() as u32).cast_signed();
            if left > 0 {
                let when = Time::from_millis(now.millis() + u64::from(left.unsigned_abs()));
                self.timer = Some(wheel.insert(
                    when,
                    Token {
                        owner: Owner::ServerTransaction,
                        index: 0,
                    },
                ));
                return;
            }
            forgotten(self.forget_first());
        }
    }

    /// The listener of each answer that is remembered, oldest first.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerId> {
        self.completed.iter().map(|completed| completed.listener)
    }

    fn find(&self, transaction: u128) -> Option<&Completed> {
        let index = self.by_transaction.find(fold(transaction), |index| {
            self.completed[index].transaction == transaction
        })?;
        Some(&self.completed[index])
    }

    fn forget_first(&mut self) -> ListenerId {
        let (index, first) = self.completed.pop().expect("there is a first");
        self.by_transaction
            .remove(fold(first.transaction), |candidate| candidate == index);
        self.by_merge
            .remove(first.merge, |candidate| candidate == index);
        first.listener
    }
}

impl Completed {
    fn given(&self) -> Given {
        Given {
            status: self.status,
            tag: Partition::new(self.partition).map(|partition| Mark {
                partition,
                slot: self.slot,
                check: self.check,
            }),
            seconds: self.seconds,
            entity_tag: self.entity_tag,
        }
    }
}

fn fold(wide: u128) -> u64 {
    wide as u64
}

mod chunks {
    //! A queue in chunks: it grows without moving what it holds, and each element keeps its number.

    use core::ops::Index;
    use std::collections::VecDeque;

    const CHUNK: usize = 1024;

    /// Elements are numbered in the order of their coming; numbers wrap at 2^32.
    pub struct Chunks<T> {
        chunks: VecDeque<VecDeque<T>>,
        spare: Option<VecDeque<T>>,
        first: u32,
        length: usize,
        /// How many have left the first chunk: what keeps positions aligned to chunks.
        gone: usize,
    }

    impl<T> Default for Chunks<T> {
        fn default() -> Self {
            Chunks {
                chunks: VecDeque::new(),
                spare: None,
                first: 0,
                length: 0,
                gone: 0,
            }
        }
    }

    impl<T> Chunks<T> {
        pub fn len(&self) -> usize {
            self.length
        }

        pub fn first(&self) -> Option<&T> {
            self.chunks.front()?.front()
        }

        pub fn iter(&self) -> impl Iterator<Item = &T> {
            self.chunks.iter().flatten()
        }

        pub fn push(&mut self, value: T) -> u32 {
            let position = self.gone + self.length;
            if position / CHUNK == self.chunks.len() {
                let chunk = self
                    .spare
                    .take()
                    .unwrap_or_else(|| VecDeque::with_capacity(CHUNK));
                self.chunks.push_back(chunk);
            }
            self.chunks
                .back_mut()
                .expect("a chunk with room")
                .push_back(value);
            self.length += 1;
            self.first.wrapping_add(self.length as u32 - 1)
        }

        pub fn pop(&mut self) -> Option<(u32, T)> {
            let value = self.chunks.front_mut()?.pop_front()?;
            let number = self.first;
            self.first = self.first.wrapping_add(1);
            self.length -= 1;
            self.gone += 1;
            if self.gone == CHUNK || self.length == 0 {
                self.spare = self.chunks.pop_front();
                self.gone = 0;
            }
            Some((number, value))
        }
    }

    impl<T> Index<u32> for Chunks<T> {
        type Output = T;
        fn index(&self, number: u32) -> &T {
            let offset = number.wrapping_sub(self.first) as usize;
            assert!(
                offset < self.length,
                "the number of an element that is still here"
            );
            let position = self.gone + offset;
            let chunk = position / CHUNK;
            let within = if chunk == 0 {
                position - self.gone
            } else {
                position % CHUNK
            };
            &self.chunks[chunk][within]
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn elements_keep_their_numbers_while_others_come_and_go() {
            let mut chunks = Chunks::default();
            let mut model = VecDeque::new();
            let mut next = 0u32;
            for round in 0..10_000u32 {
                for _ in 0..(round % 7) {
                    assert_eq!(chunks.push(next), next);
                    model.push_back(next);
                    next += 1;
                }
                for _ in 0..(round % 5) {
                    assert_eq!(chunks.pop(), model.pop_front().map(|v| (v, v)));
                }
                if let (Some(&front), Some(&back)) = (model.front(), model.back()) {
                    assert_eq!(
                        (chunks[front], chunks[back], chunks[(front + back) / 2]),
                        (front, back, (front + back) / 2)
                    );
                }
                assert_eq!(chunks.len(), model.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn key(number: u64) -> RequestKey {
        RequestKey {
            transaction: u128::from(number) << 64 | u128::from(number),
            merge: number + 1_000_000,
        }
    }

    const HERE: ListenerId = ListenerId(1);

    fn answer(status: u16) -> Given {
        let tag = Mark {
            partition: Partition::new(7).unwrap(),
            slot: 9,
            check: 11,
        };
        Given {
            status,
            tag: Some(tag),
            seconds: 600,
            entity_tag: 3,
        }
    }

    //= RFC 3261 17.2.2 type=test
    #[test]
    fn a_retransmission_is_answered_until_timer_j_fires_and_not_after() {
        let start = Time::from_millis(5);
        let mut wheel = Wheel::new(start);
        let mut servers = Servers::new(100);
        assert_eq!(servers.known(key(1), false), Known::New);
        servers.remember(start, key(1), answer(200), HERE, &mut wheel);
        let later = start + Duration::from_secs(16);
        servers.remember(later, key(2), answer(202), HERE, &mut wheel);
        assert_eq!(
            servers.known(key(1), false),
            Known::Retransmission(answer(200), HERE)
        );

        let end = start + T64;
        assert!(wheel.pop(end - Duration::from_millis(2)).is_none());
        assert_eq!(
            wheel.pop(end).map(|token| token.owner),
            Some(Owner::ServerTransaction)
        );
        servers.on_timer(end, &mut wheel, |_| {});
        assert_eq!(servers.known(key(1), false), Known::New);
        assert_eq!(
            servers.known(key(2), false),
            Known::Retransmission(answer(202), HERE)
        );
        assert!(wheel.pop(later + T64).is_some());
        servers.on_timer(later + T64, &mut wheel, |_| {});
        assert!(servers.is_empty());
        assert!(wheel.pop(later + T64 + T64).is_none());
    }

    //= RFC 3261 8.2.2.2 type=test
    #[test]
    fn the_same_request_by_another_way_is_merged_unless_it_is_in_a_dialog() {
        let mut wheel = Wheel::new(Time::ZERO);
        let mut servers = Servers::new(100);
        servers.remember(Time::ZERO, key(1), answer(200), HERE, &mut wheel);
        let other_way = RequestKey {
            transaction: 99,
            merge: key(1).merge,
        };
        assert_eq!(servers.known(other_way, false), Known::Merged);
        assert_eq!(servers.known(other_way, true), Known::New);
    }

    #[test]
    fn at_the_limit_the_oldest_answer_goes() {
        let mut wheel = Wheel::new(Time::ZERO);
        let mut servers = Servers::new(2);
        assert_eq!(
            servers.remember(Time::ZERO, key(1), answer(200), HERE, &mut wheel),
            None
        );
        assert_eq!(
            servers.remember(Time::ZERO, key(2), answer(200), ListenerId(2), &mut wheel),
            None
        );
        assert_eq!(
            servers.remember(Time::ZERO, key(3), answer(200), HERE, &mut wheel),
            Some(HERE)
        );
        assert_eq!(servers.known(key(1), false), Known::New);
        assert_eq!(
            servers.known(key(3), false),
            Known::Retransmission(answer(200), HERE)
        );
        assert_eq!(servers.len(), 2);
    }
}
