//! A shard's end of the post: what it sends, what it takes, and how it falls asleep.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::queue::ArrayQueue;

use super::control::Command;
use super::{ASLEEP, AWAKE, Desk, Office, POSTED, ring_bell};
use crate::config::limits;
use crate::shard::effects::{Destination, Effects, ShardId};
use crate::shard::lane::Lane;
use crate::shard::mail::{Block, Mail};

/// So many blocks are on their way to a shard before the next one waits to be filled.
const BLOCKS_UNREAD: usize = 2;

/// What has happened at a shard's mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailCounters {
    /// Mail that had to wait because a queue was full.
    pub mail_deferred: u64,
    /// Mail that was thrown away because too much waited already.
    pub mail_lost: u64,
    /// Blocks of forwarded datagrams that had to wait because earlier ones were not read yet.
    pub blocks_deferred: u64,
    /// Threads that had to be woken.
    pub wakes: u64,
}

/// A shard's end: it belongs to the shard's thread.
pub struct Mailbox {
    shard: ShardId,
    office: Arc<Office>,
    /// Mail that found its queue full, by shard, the control thread last.
    waiting: Vec<VecDeque<Mail>>,
    /// A block stayed in the effects, since its reader lags behind.
    blocks_wait: bool,
    /// Records stayed in the effects, since they are not written fast enough.
    records_wait: bool,
    /// Mail has been left that was not all looked at.
    unread: bool,
    next_sender: usize,
    counters: MailCounters,
}

impl Mailbox {
    pub(super) fn new(shard: ShardId, office: Arc<Office>) -> Mailbox {
        let ends = office.desks.len() + 1;
        Mailbox {
            shard,
            office,
            waiting: (0..ends).map(|_| VecDeque::new()).collect(),
            blocks_wait: false,
            records_wait: false,
            unread: false,
            next_sender: 0,
            counters: MailCounters::default(),
        }
    }

    /// Whose mailbox this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.office.desks.len() as u16
    }

    /// What has happened so far.
    pub fn counters(&self) -> MailCounters {
        self.counters
    }

    /// What others write to when this thread sleeps.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.desk().eventfd.as_fd()
    }

    /// Sends what a turn wants sent to others, and wakes those that sleep.
    pub fn send(&mut self, effects: &mut Effects) {
        if !effects.mails.is_empty() || self.is_waiting() {
            self.send_mail(effects);
        }
        self.records_wait = !effects.records.is_empty()
            && !self.office.shelf.leave(self.shard, &mut effects.records);
        self.blocks_wait = false;
        for shard in 0..effects.forwards.len() {
            if !effects.forwards[shard].is_empty() {
                self.send_blocks(shard, &mut effects.forwards[shard], false);
            }
        }
    }

    /// Sends those blocks of forwarded datagrams that have less than `room` bytes free.
    pub fn send_crowded_blocks(&mut self, effects: &mut Effects, room: usize) {
        for shard in 0..effects.forwards.len() {
            if effects.forwards[shard].is_crowded(room) {
                self.send_blocks(shard, &mut effects.forwards[shard], true);
            }
        }
    }

    /// Whether mail or a block waits here for room elsewhere: nobody tells when there is some.
    pub fn is_waiting(&self) -> bool {
        self.blocks_wait || self.records_wait || self.waiting.iter().any(|queue| !queue.is_empty())
    }

    /// Looks whether something has been left; only then are the queues worth a look.
    pub fn look(&mut self) -> bool {
        let state = &self.desk().state;
        let posted = state.load(Ordering::Relaxed) == POSTED
            && state.swap(AWAKE, Ordering::AcqRel) == POSTED;
        self.unread |= posted;
        self.unread
    }

    /// The next mail, from each sender in turn.
    pub fn take_mail(&mut self) -> Option<Mail> {
        for _ in 0..=self.office.desks.len() {
            let sender = self.turn_to_next_sender();
            let desk = &self.office.desks[usize::from(self.shard.0)];
            let mail = match desk.mail.get(sender) {
                Some(queue) => queue.pop(),
                None => desk.requests.pop().inspect(|_| desk.room.notify_waiters()),
            };
            if mail.is_some() {
                return mail;
            }
        }
        None
    }

    /// The next block of forwarded datagrams, and who sent it.
    pub fn take_block(&mut self) -> Option<(ShardId, Block)> {
        for _ in 0..=self.office.desks.len() {
            let sender = self.turn_to_next_sender();
            let queue = self.desk().blocks.get(sender);
            if let Some(block) = queue.and_then(ArrayQueue::pop) {
                return Some((ShardId(sender as u16), block));
            }
        }
        None
    }

    /// Every shard in turn, and the control thread after the last.
    fn turn_to_next_sender(&mut self) -> usize {
        let sender = self.next_sender;
        self.next_sender = (sender + 1) % (self.office.desks.len() + 1);
        sender
    }

    /// Returns a block that has been read, to be filled again.
    pub fn give_back(&mut self, sender: ShardId, mut block: Block) {
        block.clear();
        // Where there is no room for it, its memory is simply freed.
        let _ = self.desk().empty_blocks[usize::from(sender.0)].push(block);
    }

    /// The next command of the control thread.
    pub fn take_command(&mut self) -> Option<Command> {
        self.desk().commands.pop()
    }

    /// All that was left has been read; false: a limit was reached before.
    pub fn all_read(&mut self, all: bool) {
        self.unread = !all;
    }

    /// From now on the thread has to be woken. False: something has been left meanwhile.
    #[must_use]
    pub fn fall_asleep(&mut self) -> bool {
        !self.unread
            && self
                .desk()
                .state
                .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// The thread is awake again, whatever woke it.
    pub fn wake_up(&mut self) {
        if self.desk().state.swap(AWAKE, Ordering::AcqRel) == POSTED {
            self.unread = true;
        }
    }

    /// Wakes this very thread at its next wait.
    pub fn ring_own_bell(&self) {
        ring_bell(self.eventfd());
    }

    fn desk(&self) -> &Desk {
        &self.office.desks[usize::from(self.shard.0)]
    }

    fn send_mail(&mut self, effects: &mut Effects) {
        let control = self.office.desks.len();
        for (destination, mail) in effects.mails.drain(..) {
            let end = match destination {
                Destination::Shard(shard) => usize::from(shard.0),
                Destination::Control => control,
            };
            if self.waiting[end].len() < limits::MAIL_WAITING {
                self.waiting[end].push_back(mail);
            } else {
                self.counters.mail_lost += 1;
            }
        }
        for end in 0..=control {
            if !self.waiting[end].is_empty() {
                self.send_waiting(end);
            }
        }
    }

    /// Sends in order what fits, and keeps the rest for the next turn.
    fn send_waiting(&mut self, end: usize) {
        let sender = usize::from(self.shard.0);
        let queue = match self.office.desks.get(end) {
            Some(desk) => &desk.mail[sender],
            None => &self.office.replies[sender],
        };
        let mut sent = 0;
        while let Some(mail) = self.waiting[end].pop_front() {
            if let Err(mail) = queue.push(mail) {
                self.waiting[end].push_front(mail);
                self.counters.mail_deferred += 1;
                break;
            }
            sent += 1;
        }
        if sent == 0 {
            return;
        }
        match self.office.desks.get(end) {
            Some(desk) => self.counters.wakes += u64::from(desk.signal()),
            None => self.office.replied.notify_one(),
        }
    }

    /// Where the other shard lags behind, the block stays and goes on to be filled: a few full ones
    /// take more than many that are nearly empty. What does not fit into it stays behind it.
    fn send_blocks(&mut self, shard: usize, lane: &mut Lane, crowded: bool) {
        let sender = usize::from(self.shard.0);
        let desk = &self.office.desks[shard];
        let queue = &desk.blocks[sender];
        let mut sent = false;
        while !lane.is_empty() {
            let waits = queue.len() >= BLOCKS_UNREAD && !crowded && !lane.is_behind();
            if waits || queue.is_full() {
                self.blocks_wait = true;
                self.counters.blocks_deferred += 1;
                break;
            }
            let empty = || desk.empty_blocks[sender].pop().unwrap_or_default();
            let next = lane.take(empty).expect("it is not empty");
            assert!(queue.push(next).is_ok(), "nobody else writes to this queue");
            sent = true;
        }
        if sent {
            self.counters.wakes += u64::from(desk.signal());
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.desk().closed.store(true, Ordering::Release);
        self.desk().room.notify_waiters();
        // Whoever waits for an answer to a command learns that none will come.
        while self.desk().commands.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Control, office};
    use super::*;
    use crate::shard::control::{Ask, Request};
    use crate::time::Time;
    use crate::transport::{Flow, ListenerId};

    const TO_SECOND: Destination = Destination::Shard(ShardId(1));

    fn two() -> (Mailbox, Mailbox, Control, Effects) {
        let (mailboxes, control) = office(2).unwrap();
        let [first, second] = mailboxes.try_into().ok().expect("two mailboxes");
        (first, second, control, Effects::new(2))
    }

    fn mail(id: u64) -> Mail {
        Mail::Request(Request {
            id,
            ask: Ask::ReadFigures,
        })
    }

    fn taken(mailbox: &mut Mailbox) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(mail) = mailbox.take_mail() {
            match mail {
                Mail::Request(request) => ids.push(request.id),
                mail => panic!("{mail:?}"),
            }
        }
        mailbox.all_read(true);
        ids
    }

    fn put(effects: &mut Effects, bytes: &[u8]) -> bool {
        let flow = Flow {
            listener: ListenerId(1),
            local: None,
            peer: "192.0.2.1:5060".parse().unwrap(),
            connection: None,
        };
        effects.forward(Time::ZERO, ShardId(1), &flow, bytes)
    }

    #[test]
    fn a_batch_wakes_a_sleeper_once_and_nobody_who_is_awake() {
        let (mut first, mut second, control, mut effects) = two();
        effects.mails.push((TO_SECOND, mail(1)));
        first.send(&mut effects);
        assert_eq!(first.counters().wakes, 0);
        assert!(!second.fall_asleep(), "mail has come");
        assert!(second.look());
        assert_eq!(taken(&mut second), [1]);
        assert!(!second.look());

        assert!(second.fall_asleep());
        effects.mails.extend([2, 3].map(|id| (TO_SECOND, mail(id))));
        assert!(put(&mut effects, b"datagram"));
        first.send(&mut effects);
        effects.mails.push((TO_SECOND, mail(4)));
        first.send(&mut effects);
        assert_eq!(first.counters().wakes, 1);
        second.wake_up();
        assert!(second.look());
        assert_eq!(taken(&mut second), [2, 3, 4]);

        assert!(second.fall_asleep());
        control.shard(ShardId(1)).send(mail(5)).unwrap();
        second.wake_up();
        assert!(second.look());
        assert_eq!(taken(&mut second), [5]);
    }

    #[test]
    fn what_was_left_unread_keeps_the_thread_awake() {
        let (mut first, mut second, _control, mut effects) = two();
        effects.mails.extend([1, 2].map(|id| (TO_SECOND, mail(id))));
        first.send(&mut effects);
        assert!(second.look());
        assert!(second.take_mail().is_some());
        second.all_read(false);
        assert!(!second.fall_asleep());
        assert!(second.look());
        assert_eq!(taken(&mut second), [2]);
        assert!(second.fall_asleep());
    }

    #[test]
    fn mail_that_finds_its_queue_full_waits_and_comes_in_order() {
        let (mut first, mut second, _control, mut effects) = two();
        const MAILS: u64 = limits::MAIL_QUEUED as u64;
        for id in 0..MAILS {
            effects.mails.push((TO_SECOND, mail(id)));
        }
        first.send(&mut effects);
        assert!(first.is_waiting());
        assert_eq!(first.counters().mail_deferred, 1);
        let mut read = taken(&mut second);
        assert!(read.len() < MAILS as usize);
        while first.is_waiting() {
            first.send(&mut effects);
            read.extend(taken(&mut second));
        }
        assert!(read.into_iter().eq(0..MAILS));
        assert_eq!(first.counters().mail_lost, 0);
    }

    #[test]
    fn mail_beyond_what_may_wait_is_lost_and_counted() {
        let (mut first, mut second, _control, mut effects) = two();
        for id in 0..limits::MAIL_WAITING as u64 + 10 {
            effects.mails.push((TO_SECOND, mail(id)));
        }
        first.send(&mut effects);
        assert_eq!(first.counters().mail_lost, 10);
        assert_eq!(taken(&mut second).first(), Some(&0));
    }

    #[test]
    fn a_block_waits_to_be_filled_while_its_reader_lags_behind() {
        let (mut first, mut second, _control, mut effects) = two();
        for _ in 0..BLOCKS_UNREAD {
            assert!(put(&mut effects, b"one"));
            first.send(&mut effects);
            assert!(effects.forwards[1].is_empty());
            assert!(!first.is_waiting());
        }
        for _ in 0..10 {
            assert!(put(&mut effects, b"more"));
            first.send(&mut effects);
            assert!(first.is_waiting());
        }
        let (sender, block) = second.take_block().unwrap();
        assert_eq!((sender, block.iter().count()), (ShardId(0), 1));
        second.give_back(sender, block);
        first.send(&mut effects);
        assert!(!first.is_waiting());
        let mut counts = Vec::new();
        while let Some((_, block)) = second.take_block() {
            counts.push(block.iter().count());
        }
        assert_eq!(counts, [1, 10]);
    }

    #[test]
    fn crowded_blocks_go_at_once_until_the_queue_is_full_and_nothing_is_lost_after() {
        let (mut first, mut second, _control, mut effects) = two();
        let bytes = [0; 4096];
        let mut taken_in = 0;
        while put(&mut effects, &bytes) {
            taken_in += 1;
            first.send_crowded_blocks(&mut effects, 2 * bytes.len());
        }
        assert!(first.is_waiting());
        let mut read = 0;
        while read < taken_in {
            let (sender, block) = second.take_block().expect("no datagram is lost");
            read += block.iter().count();
            second.give_back(sender, block);
            first.send(&mut effects);
        }
        assert_eq!(read, taken_in);
        assert!(taken_in > (limits::FORWARD_BLOCKS_QUEUED - 1) * 12);
    }
}
