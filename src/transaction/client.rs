//! Client transactions: one per NOTIFY on its way (RFC 3261 17.1.2). It owns the send slot until the
//! transaction ends, says when to send the slot again, and finds the transaction of an answer by the
//! branch that we made. It may not read or write messages.
//!
//! Timer K is not kept: after a final answer the slot and the record are free, and a duplicate of the
//! answer finds a branch whose check value no longer fits. It is counted and has no effect, which is
//! all that timer K is for.

use core::net::SocketAddr;
use core::time::Duration;

use crate::arena::SlotId;
use crate::partition::{Mark, Partition};
use crate::slab::Slab;
use crate::time::{T1, T2, T64, Time};
use crate::transport::{ConnectionId, Flow, ListenerId};
use crate::wheel::{Owner, TimerId, Token, Wheel};

/// The magic cookie that every branch begins with (RFC 3261 8.1.1.7).
pub const COOKIE: &[u8; 7] = b"z9hG4bK";

/// How far a client transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    /// A newer request took its place: it is sent no more, and its slot is gone.
    Replaced,
}

struct Client {
    /// What was sent, to be sent again; taken when the transaction is replaced. None over a connection: what it carries
    /// arrives, or it is closed.
    slot: Option<SlotId>,
    flow: Flow,
    check: u64,
    started: Time,
    /// The interval that timer E waits now.
    interval: Duration,
    timer: Option<TimerId>,
    user: u64,
    partition: Partition,
    state: State,
    /// Sent once and younger than T1: it counts as in flight.
    young: bool,
    /// Its peer is not known to answer.
    doubted: bool,
    /// It was to be sent again, and was not: nobody can say that its peer does not answer.
    stood_back: bool,
}

/// What timer E or F asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Send the slot again.
    Retransmit {
        slot: SlotId,
        flow: Flow,
        mark: Mark,
    },
    /// T1 is over, and nothing is sent again: it went by a connection.
    Waited,
    /// Timer F: no answer came. The slot, if there still was one, is to be released.
    /// `stood_back`: it was not sent as often as it should have been, so its silence proves nothing.
    TimedOut {
        slot: Option<SlotId>,
        replaced: bool,
        stood_back: bool,
        listener: ListenerId,
        peer: SocketAddr,
        /// When its request was first sent.
        started: Time,
    },
}

/// A transaction that an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    pub user: u64,
    /// To be released; none if the transaction had been replaced.
    pub slot: Option<SlotId>,
    pub replaced: bool,
    /// It had been sent more than once: the answer came late or a datagram was lost.
    pub retransmitted: bool,
    /// The one that it was begun on.
    pub listener: ListenerId,
    /// When its request was first sent.
    pub started: Time,
    /// It went by a connection, and says nothing of how datagrams fare.
    pub by_connection: bool,
}

/// The client transactions of a shard.
pub struct Clients {
    clients: Slab<Client>,
    young: usize,
    /// Of them, those to peers that are not known to answer.
    young_doubted: usize,
}

impl Clients {
    /// At most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Clients {
            clients: Slab::with_limit(limit),
            young: 0,
            young_doubted: 0,
        }
    }

    /// How many there are, replaced ones included.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many hold a send slot.
    pub fn slots(&self) -> usize {
        self.clients
            .iter()
            .filter(|(_, client)| client.slot.is_some())
            .count()
    }

    /// How many were sent once, less than T1 ago, and have no answer.
    pub fn young(&self) -> usize {
        self.young
    }

    /// How many of those went to peers that are not known to answer.
    pub fn young_doubted(&self) -> usize {
        self.young_doubted
    }

    /// Begins a transaction for `user`; the mark goes into its branch. None: the limit is reached.
    /// Without a slot it is never sent again: it went by a connection.
    pub fn begin(
        &mut self,
        now: Time,
        partition: Partition,
        check: u64,
        user: u64,
        slot: Option<SlotId>,
        flow: Flow,
        wheel: &mut Wheel,
    ) -> Option<Mark> {
        // What bounds the young ones is the receive buffer that their answers land in; a connection has its own.
        let young = slot.is_some();
        let client = Client {
            slot,
            flow,
            check,
            started: now,
            interval: T1,
            timer: None,
            user,
            partition,
            state: State::Trying,
            young,
            doubted: false,
            stood_back: false,
        };
        let index = self.clients.insert(client).ok()?;
        self.clients[index].timer = Some(wheel.insert(
            now + T1,
            Token {
                owner: Owner::ClientTransaction,
                index,
            },
        ));
        self.young += usize::from(young);
        Some(Mark {
            partition,
            slot: index,
            check,
        })
    }

    /// The peer of one that has just begun is not known to answer.
    pub fn doubt(&mut self, index: u32) {
        let client = &mut self.clients[index];
        client.doubted = true;
        self.young_doubted += usize::from(client.young);
    }

    /// Those that were begun on a listener, replaced ones included. Walks over all.
    pub fn begun_on(&self, listener: ListenerId) -> Vec<u32> {
        let begun =
            |(index, client): (u32, &Client)| (client.flow.listener == listener).then_some(index);
        self.clients.iter().filter_map(begun).collect()
    }

    /// The listener of each, in no order that means anything.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerId> {
        self.clients.iter().map(|(_, client)| client.flow.listener)
    }

    /// Whose transaction it is.
    pub fn user(&self, index: u32) -> u64 {
        self.clients[index].user
    }

    /// The living transaction of this number whose check value begins so: what a failed send names.
    pub fn named(&self, index: u32, check: u32) -> Option<u32> {
        let client = self.clients.get(index)?;
        (client.check as u32 == check).then_some(index)
    }

    /// Whether it is a living transaction of that user, and still the one that is sent for it.
    pub fn is_sent_for(&self, index: u32, user: u64) -> bool {
        let client = self.clients.get(index);
        client.is_some_and(|client| client.user == user && client.state != State::Replaced)
    }

    /// Whom its request went to.
    pub fn peer(&self, index: u32) -> SocketAddr {
        self.clients[index].flow.peer
    }

    /// The connection that its request went by.
    pub fn connection(&self, index: u32) -> Option<ConnectionId> {
        self.clients[index].flow.connection
    }

    /// When its request was first sent.
    pub fn started(&self, index: u32) -> Time {
        self.clients[index].started
    }

    /// The transaction that a mark names, if it still lives.
    pub fn find(&self, mark: Mark) -> Option<u32> {
        let client = self.clients.get(mark.slot)?;
        (client.check == mark.check && client.partition == mark.partition).then_some(mark.slot)
    }

    /// A provisional answer: from now on timer E waits T2 (RFC 3261 17.1.2.2).
    //= RFC 3261 17.1.2.2
    pub fn provisional(&mut self, index: u32) {
        self.settle(index);
        let client = &mut self.clients[index];
        if client.state == State::Trying {
            client.state = State::Proceeding;
        }
    }

    /// What timer E asked for was not done: something newer waits to go out in its place.
    pub fn stand_back(&mut self, index: u32) {
        self.clients[index].stood_back = true;
    }

    /// A final answer: the transaction is gone.
    pub fn finish(&mut self, index: u32, wheel: &mut Wheel) -> Finished {
        self.settle(index);
        let client = self.clients.remove(index);
        if let Some(timer) = client.timer {
            wheel.cancel(timer);
        }
        Finished {
            user: client.user,
            slot: client.slot,
            replaced: client.state == State::Replaced,
            retransmitted: client.interval > T1,
            listener: client.flow.listener,
            started: client.started,
            by_connection: client.flow.connection.is_some(),
        }
    }

    /// Stops sending it for good; a late answer is still recognised until timer F. Gives its slot back, if it has one.
    pub fn replace(&mut self, index: u32, wheel: &mut Wheel) -> Option<SlotId> {
        self.settle(index);
        let client = &mut self.clients[index];
        client.state = State::Replaced;
        if let Some(timer) = client.timer.take() {
            wheel.cancel(timer);
        }
        client.timer = Some(wheel.insert(
            client.started + T64,
            Token {
                owner: Owner::ClientTransaction,
                index,
            },
        ));
        client.slot.take()
    }

    /// Timer E or F of a transaction fired. After `TimedOut` it is gone.
    //= RFC 3261 17.1.2.2
    pub fn on_timer(&mut self, now: Time, index: u32, wheel: &mut Wheel) -> (u64, Fired) {
        self.settle(index);
        let client = &mut self.clients[index];
        let user = client.user;
        let end = client.started + T64;
        if now >= end {
            let client = self.clients.remove(index);
            return (
                user,
                Fired::TimedOut {
                    slot: client.slot,
                    replaced: client.state == State::Replaced,
                    stood_back: client.stood_back,
                    listener: client.flow.listener,
                    peer: client.flow.peer,
                    started: client.started,
                },
            );
        }
        //= RFC 3261 17.1.2.2
        let Some(slot) = client.slot else {
            client.timer = Some(wheel.insert(
                end,
                Token {
                    owner: Owner::ClientTransaction,
                    index,
                },
            ));
            return (user, Fired::Waited);
        };
        client.interval = match client.state {
            State::Trying => (client.interval * 2).min(T2),
            State::Proceeding => T2,
            State::Replaced => unreachable!("a replaced transaction waits for timer F only"),
        };
        let next = (now + client.interval).min(end);
        client.timer = Some(wheel.insert(
            next,
            Token {
                owner: Owner::ClientTransaction,
                index,
            },
        ));
        let mark = Mark {
            partition: client.partition,
            slot: index,
            check: client.check,
        };
        (
            user,
            Fired::Retransmit {
                slot,
                flow: client.flow,
                mark,
            },
        )
    }

    /// It no longer counts as in flight.
    fn settle(&mut self, index: u32) {
        let client = &mut self.clients[index];
        if client.young {
            client.young = false;
            self.young -= 1;
            self.young_doubted -= usize::from(client.doubted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            listener: ListenerId(1),
            local: None,
            peer: "192.0.2.1:5060".parse().unwrap(),
            connection: None,
        }
    }

    fn begin(clients: &mut Clients, now: Time, wheel: &mut Wheel) -> u32 {
        let partition = Partition::new(3).unwrap();
        let mark = clients
            .begin(now, partition, 77, 5, Some(SlotId(9)), flow(), wheel)
            .unwrap();
        clients.find(mark).unwrap()
    }

    //= RFC 3261 17.1.2.2 type=test
    #[test]
    fn an_unanswered_request_is_sent_eleven_times_and_given_up_after_32_seconds() {
        let start = Time::from_millis(1_000);
        let (mut wheel, mut clients) = (Wheel::new(start), Clients::new(10));
        let index = begin(&mut clients, start, &mut wheel);
        let mut sent_at = vec![0];
        loop {
            let now = wheel.next_deadline().expect("a timer runs");
            let Some(token) = wheel.pop(now) else {
                continue;
            };
            assert_eq!(
                token,
                Token {
                    owner: Owner::ClientTransaction,
                    index
                }
            );
            match clients.on_timer(now, index, &mut wheel) {
                (
                    5,
                    Fired::Retransmit {
                        slot: SlotId(9), ..
                    },
                ) => sent_at.push(now.since(start).as_millis()),
                (
                    5,
                    Fired::TimedOut {
                        slot: Some(SlotId(9)),
                        replaced: false,
                        stood_back: false,
                        listener: ListenerId(1),
                        peer,
                        started,
                    },
                ) => {
                    assert_eq!((peer, started), (flow().peer, start));
                    assert_eq!(now.since(start), T64);
                    break;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(
            sent_at,
            [
                0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500
            ]
        );
        assert!(clients.is_empty());
        assert_eq!(clients.young(), 0);
        assert_eq!(wheel.len(), 0);
    }

    //= RFC 3261 17.1.2.2 type=test
    #[test]
    fn over_a_connection_nothing_is_sent_again_and_timer_f_still_ends_it() {
        let (mut wheel, mut clients) = (Wheel::new(Time::ZERO), Clients::new(10));
        let partition = Partition::new(3).unwrap();
        let mark = clients
            .begin(Time::ZERO, partition, 77, 5, None, flow(), &mut wheel)
            .unwrap();
        assert_eq!((clients.young(), clients.slots()), (0, 0));
        let mut fired = Vec::new();
        while let Some(now) = wheel.next_deadline() {
            if wheel.pop(now).is_some() {
                fired.push((now.millis(), clients.on_timer(now, mark.slot, &mut wheel).1));
            }
        }
        let timed_out = Fired::TimedOut {
            slot: None,
            replaced: false,
            stood_back: false,
            listener: ListenerId(1),
            peer: flow().peer,
            started: Time::ZERO,
        };
        assert_eq!(fired, [(500, Fired::Waited), (32_000, timed_out)]);
        assert!(clients.is_empty());
    }

    #[test]
    fn a_provisional_answer_slows_the_retransmissions_to_t2() {
        let (mut wheel, mut clients) = (Wheel::new(Time::ZERO), Clients::new(10));
        let index = begin(&mut clients, Time::ZERO, &mut wheel);
        clients.provisional(index);
        let mut times = Vec::new();
        while let Some(now) = wheel.next_deadline() {
            if wheel.pop(now).is_some() {
                times.push(now.millis());
                clients.on_timer(now, index, &mut wheel);
            }
        }
        assert_eq!(
            times,
            [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500, 32000]
        );
    }

    #[test]
    fn a_replaced_request_is_sent_no_more_and_its_late_answer_is_recognised() {
        let (mut wheel, mut clients) = (Wheel::new(Time::ZERO), Clients::new(10));
        let index = begin(&mut clients, Time::ZERO, &mut wheel);
        assert_eq!(clients.young(), 1);
        assert_eq!(clients.replace(index, &mut wheel), Some(SlotId(9)));
        assert_eq!((clients.young(), clients.slots()), (0, 0));
        let mark = Mark {
            partition: Partition::new(3).unwrap(),
            slot: index,
            check: 77,
        };
        assert_eq!(clients.find(mark), Some(index));
        assert!(clients.finish(index, &mut wheel).replaced);
        assert_eq!(clients.find(mark), None);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn an_answer_with_another_check_value_finds_nothing() {
        let (mut wheel, mut clients) = (Wheel::new(Time::ZERO), Clients::new(10));
        let index = begin(&mut clients, Time::ZERO, &mut wheel);
        let partition = Partition::new(3).unwrap();
        assert_eq!(
            clients.find(Mark {
                partition,
                slot: index,
                check: 78
            }),
            None
        );
        assert_eq!(
            clients.find(Mark {
                partition,
                slot: index + 1,
                check: 77
            }),
            None
        );
    }

    #[test]
    fn at_the_limit_no_transaction_begins_and_no_timer_stays() {
        let (mut wheel, mut clients) = (Wheel::new(Time::ZERO), Clients::new(1));
        begin(&mut clients, Time::ZERO, &mut wheel);
        let partition = Partition::new(3).unwrap();
        assert!(
            clients
                .begin(
                    Time::ZERO,
                    partition,
                    1,
                    1,
                    Some(SlotId(1)),
                    flow(),
                    &mut wheel
                )
                .is_none()
        );
        assert_eq!(wheel.len(), 1);
    }
}
