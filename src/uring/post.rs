//! Mail between threads, and who has to be woken for it.
//! It moves mail and blocks of datagrams; what they mean is the shard's business.
//!
//! Each pair of shards has queues of its own, so no two writers meet. Waking a sleeping thread costs
//! as much as six NOTIFYs: a batch wakes once, and never a thread that is awake.

mod control;
mod mailbox;
mod records;

pub use control::{Command, Control, HoldError, ShardHandle};
pub use mailbox::{MailCounters, Mailbox};
pub use records::RecordsEnd;

use records::Shelf;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use tokio::sync::Notify;

use crate::config::limits;
use crate::shard::effects::ShardId;
use crate::shard::mail::{Block, Mail};

/// The thread looks at its mail by itself.
const AWAKE: u8 = 0;
/// The thread waits for its eventfd.
const ASLEEP: u8 = 1;
/// There is mail that the thread has not looked at, and it has been woken if it slept.
const POSTED: u8 = 2;

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
        shelf: Shelf::new(shards),
    });
    let mailboxes = (0..shards)
        .map(|shard| Mailbox::new(ShardId(shard), office.clone()))
        .collect();
    Ok((mailboxes, Control::new(office)))
}

/// What all threads share.
struct Office {
    desks: Box<[Desk]>,
    /// Mail to the control thread, by sender.
    replies: Box<[ArrayQueue<Mail>]>,
    replied: Notify,
    /// Records on their way to the store.
    shelf: Shelf,
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
