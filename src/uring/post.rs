//! Mail between threads, and who has to be woken for it.
//! It moves mail and blocks of datagrams; what they mean is the shard's business.
//!
//! Each pair of shards has queues of its own, so no two writers meet. Waking a sleeping thread costs
//! as much as six NOTIFYs: a batch wakes once, and never a thread that is awake.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use std::os::fd::AsFd;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use tokio::sync::{Notify, oneshot};

use super::socket::ListenerSocket;
use crate::config::limits;
use crate::shard::effects::{Destination, Effects, ShardId};
use crate::shard::mail::{Block, Mail};
use crate::transport::ListenerId;

/// The thread looks at its mail by itself.
const AWAKE: u8 = 0;
/// The thread waits for its eventfd.
const ASLEEP: u8 = 1;
/// There is mail that the thread has not looked at, and it has been woken if it slept.
const POSTED: u8 = 2;

/// So many blocks are on their way to a shard before the next one waits to be filled.
const BLOCKS_UNREAD: usize = 2;

/// Mailboxes for so many shards, and the control thread's end.
pub fn office(shards: u16) -> io::Result<(Vec<Mailbox>, Control)> {
    assert!(shards > 0 && usize::from(shards) <= limits::SHARDS_MAX);
    let desks = (0..shards)
        .map(|_| Desk::new(shards))
        .collect::<io::Result<Box<[Desk]>>>()?;
    let replies = (0..shards)
        .map(|_| ArrayQueue::new(limits::MAIL_QUEUED))
        .collect();
    let office = Arc::new(Office {
        desks,
        replies,
        replied: Notify::new(),
    });
    let mailboxes = (0..shards)
        .map(|shard| Mailbox::new(ShardId(shard), office.clone()))
        .collect();
    Ok((mailboxes, Control { office, next: 0 }))
}

/// What all threads share.
struct Office {
    desks: Box<[Desk]>,
    /// Mail to the control thread, by sender.
    replies: Box<[ArrayQueue<Mail>]>,
    replied: Notify,
}

/// What others leave for one shard.
struct Desk {
    state: CachePadded<AtomicU8>,
    eventfd: OwnedFd,
    /// By sender.
    mail: Box<[ArrayQueue<Mail>]>,
    blocks: Box<[ArrayQueue<Block>]>,
    /// Blocks that have been read, on their way back to who sent them.
    empty_blocks: Box<[ArrayQueue<Block>]>,
    requests: ArrayQueue<Mail>,
    commands: ArrayQueue<Command>,
    /// Told when requests have been taken, for who waits because there was no room.
    room: Notify,
    closed: AtomicBool,
}

/// What the control thread wants of the loop itself.
#[derive(Debug)]
pub enum Command {
    /// Receive on a socket too.
    Arm {
        listener: ListenerId,
        socket: ListenerSocket,
        done: oneshot::Sender<Result<(), (ListenerSocket, io::Error)>>,
    },
    /// Stop to receive on a socket, and hand it out when its last completion has come.
    Disarm {
        listener: ListenerId,
        done: oneshot::Sender<ListenerSocket>,
    },
    /// End after this turn.
    Stop,
}

impl Desk {
    fn new(shards: u16) -> io::Result<Desk> {
        let mail_max = (limits::MAIL_QUEUED / usize::from(shards)).max(64);
        Ok(Desk {
            state: CachePadded::new(AtomicU8::new(AWAKE)),
            eventfd: eventfd()?,
            mail: (0..shards).map(|_| ArrayQueue::new(mail_max)).collect(),
            blocks: block_queues(shards),
            empty_blocks: block_queues(shards),
            requests: ArrayQueue::new(limits::MAIL_QUEUED),
            commands: ArrayQueue::new(limits::MAIL_QUEUED_FOR_CONTROL),
            room: Notify::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// Says that something has been left here; true: its thread had to be woken.
    fn signal(&self) -> bool {
        let slept = self.state.swap(POSTED, Ordering::AcqRel) == ASLEEP;
        if slept {
            ring_bell(self.eventfd.as_fd());
        }
        slept
    }
}

fn block_queues(shards: u16) -> Box<[ArrayQueue<Block>]> {
    (0..shards)
        .map(|_| ArrayQueue::new(limits::FORWARD_BLOCKS_QUEUED))
        .collect()
}

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
    /// Mail has been left that was not all looked at.
    unread: bool,
    next_sender: usize,
    counters: MailCounters,
}

impl Mailbox {
    fn new(shard: ShardId, office: Arc<Office>) -> Mailbox {
        let ends = office.desks.len() + 1;
        Mailbox {
            shard,
            office,
            waiting: (0..ends).map(|_| VecDeque::new()).collect(),
            blocks_wait: false,
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
        self.blocks_wait = false;
        for shard in 0..effects.forwards.len() {
            if !effects.forwards[shard].is_empty() {
                self.send_block(shard, &mut effects.forwards[shard], false);
            }
        }
    }

    /// Sends those blocks of forwarded datagrams that have less than `room` bytes free.
    pub fn send_crowded_blocks(&mut self, effects: &mut Effects, room: usize) {
        for shard in 0..effects.forwards.len() {
            if effects.forwards[shard].room() < room {
                self.send_block(shard, &mut effects.forwards[shard], true);
            }
        }
    }

    /// Whether mail or a block waits here for room elsewhere: nobody tells when there is some.
    pub fn is_waiting(&self) -> bool {
        self.blocks_wait || self.waiting.iter().any(|queue| !queue.is_empty())
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
    /// take more than many that are nearly empty. Once it is full the shard drops and counts.
    fn send_block(&mut self, shard: usize, block: &mut Block, crowded: bool) {
        let sender = usize::from(self.shard.0);
        let desk = &self.office.desks[shard];
        let queue = &desk.blocks[sender];
        if queue.is_full() || (queue.len() >= BLOCKS_UNREAD && !crowded) {
            self.blocks_wait = true;
            self.counters.blocks_deferred += 1;
            return;
        }
        let empty = desk.empty_blocks[sender].pop().unwrap_or_default();
        let full = core::mem::replace(block, empty);
        assert!(queue.push(full).is_ok(), "nobody else writes to this queue");
        self.counters.wakes += u64::from(desk.signal());
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

/// The control thread's end.
pub struct Control {
    office: Arc<Office>,
    next: usize,
}

impl Control {
    /// A way to one shard, for any task of the control thread.
    pub fn shard(&self, shard: ShardId) -> ShardHandle {
        assert!(usize::from(shard.0) < self.office.desks.len());
        ShardHandle {
            office: self.office.clone(),
            shard,
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.office.desks.len() as u16
    }

    /// The next mail to the control thread; waits for it. Nothing is lost if it is dropped while it waits.
    pub async fn receive(&mut self) -> (ShardId, Mail) {
        loop {
            if let Some(mail) = self.try_receive() {
                return mail;
            }
            self.office.replied.notified().await;
        }
    }

    /// The next mail to the control thread, if there is some: from each shard in turn.
    pub fn try_receive(&mut self) -> Option<(ShardId, Mail)> {
        for _ in 0..self.office.replies.len() {
            let sender = self.next;
            self.next = (sender + 1) % self.office.replies.len();
            if let Some(mail) = self.office.replies[sender].pop() {
                return Some((ShardId(sender as u16), mail));
            }
        }
        None
    }
}

/// A way to one shard, from any other thread.
#[derive(Clone)]
pub struct ShardHandle {
    office: Arc<Office>,
    shard: ShardId,
}

impl ShardHandle {
    /// Whose this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Sends mail; it comes back where there is no room, or the shard has ended.
    pub fn send(&self, mail: Mail) -> Result<(), Mail> {
        let desk = self.desk();
        if desk.closed.load(Ordering::Acquire) {
            return Err(mail);
        }
        desk.requests.push(mail)?;
        desk.signal();
        Ok(())
    }

    /// Sends mail as soon as there is room; it comes back only where the shard has ended.
    pub async fn deliver(&self, mut mail: Mail) -> Result<(), Mail> {
        loop {
            let room = self.desk().room.notified();
            let mut room = core::pin::pin!(room);
            room.as_mut().enable();
            match self.send(mail) {
                Ok(()) => return Ok(()),
                Err(back) if self.desk().closed.load(Ordering::Acquire) => return Err(back),
                Err(back) => mail = back,
            }
            room.await;
        }
    }

    /// Makes the shard receive on a socket; once this returns, it does.
    pub async fn arm(&self, listener: ListenerId, socket: ListenerSocket) -> Result<(), ArmError> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Arm {
            listener,
            socket,
            done,
        })
        .map_err(|_| ArmError::Ended)?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((socket, error))) => Err(ArmError::Refused(socket, error)),
            Err(_) => Err(ArmError::Ended),
        }
    }

    /// Makes the shard stop to receive on a socket, and returns it once nothing in the kernel refers
    /// to it and everything that had come has been handled. None: the shard has no such listener.
    pub async fn disarm(&self, listener: ListenerId) -> Option<ListenerSocket> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Disarm { listener, done }).ok()?;
        answer.await.ok()
    }

    /// Makes the shard end after its turn: nothing is received or sent any more, and its thread ends.
    pub fn stop(&self) {
        // A shard that has no room for a command, or has ended, has been told before.
        let _ = self.command(Command::Stop);
    }

    fn command(&self, command: Command) -> Result<(), Command> {
        let desk = self.desk();
        if desk.closed.load(Ordering::Acquire) {
            return Err(command);
        }
        desk.commands.push(command)?;
        desk.signal();
        if desk.closed.load(Ordering::Acquire) {
            while desk.commands.pop().is_some() {}
        }
        Ok(())
    }

    fn desk(&self) -> &Desk {
        &self.office.desks[usize::from(self.shard.0)]
    }
}

/// Why a shard does not receive on a socket.
#[derive(Debug)]
pub enum ArmError {
    /// The ring took it not; here is the socket again.
    Refused(ListenerSocket, io::Error),
    /// The shard has ended, or more commands wait than it has room for.
    Ended,
}

/// A counter that a thread can wait for; reading it never blocks.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn ring_bell(eventfd: BorrowedFd<'_>) {
    let one = 1_u64;
    // SAFETY: the pointer is to eight live bytes.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
    // It fails only at 2^64 - 2 rings that nobody has read; nobody ever reads, and that is 500 years off.
    assert_eq!(written, 8, "an eventfd takes a ring");
}
