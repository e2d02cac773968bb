//! One shard's datagrams: receives that go on by themselves, and sends that never wait.
//! It turns completions into `Input` and `Effects` into submissions; when to do so is decided in `drive`.
//!
//! The kernel never holds a pointer into a send slot beyond `enter`: each send carries
//! `MSG_DONTWAIT` and there is no polling thread, so an entry that was consumed is over, and only a
//! failure completes. Slots are released once nothing that was offered is left unconsumed.

mod sockets;

use core::ops::ControlFlow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fixed, TimeoutFlags, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use self::sockets::{Armed, Receive};
use super::address::{CONTROL_SIZE, NAME_SIZE};
use super::buffers::Buffers;
use super::outgoing::Outgoing;
use crate::arena::{Arena, SlotId};
use crate::config::limits;
use crate::shard::effects::{Effects, Send, SendTag};
use crate::shard::input::Input;
use crate::time::Time;

/// How large a ring is. All counts are powers of two, except for `listeners_max`.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// Sends that go to the kernel in one call.
    pub submissions: u32,
    /// Completions that wait for us before the kernel has to put further ones aside.
    pub completions: u32,
    /// Datagrams that wait for us outside the sockets' own buffers.
    pub receive_buffers: u16,
    /// The longest datagram that is taken whole, in bytes.
    pub datagram_size_max: usize,
    /// Sockets at one time.
    pub listeners_max: u32,
}

impl Default for RingOptions {
    fn default() -> Self {
        RingOptions {
            submissions: 512,
            completions: 4096,
            receive_buffers: 1024,
            datagram_size_max: limits::RECEIVE_BUFFER_BYTES,
            listeners_max: limits::LISTENERS_MAX as u32,
        }
    }
}

/// What has happened at a ring since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// A receive stopped because every buffer was full, and was started again.
    pub receives_without_buffer: u64,
    /// A receive stopped with another error, and was started again.
    pub receives_failed: u64,
    /// Datagrams that the kernel threw away because a socket's buffer was full, as of the last look.
    pub datagrams_dropped: u64,
    /// Datagrams longer than `datagram_size_max`.
    pub datagrams_truncated: u64,
    /// Datagrams whose sender's address made no sense.
    pub datagrams_without_peer: u64,
    /// Sends that the kernel refused.
    pub sends_failed: u64,
    /// Sends that had to wait for a later call because the kernel took fewer than were offered.
    pub sends_deferred: u64,
    /// Calls into the kernel.
    pub enters: u64,
}

/// Sends that may wait because the kernel takes none; beyond it they fail with `EAGAIN`.
const BACKLOG_MAX: usize = 65_536;
const BUFFER_GROUP: u16 = 0;
/// What the kernel writes before the payload, rounded up so that buffers start on cache lines.
const HEADROOM: usize = 128;

const OURS: u64 = 1 << 63;
const RECEIVE: u64 = OURS | 1 << 32;
const CANCEL: u64 = OURS | 2 << 32;
const ALARM: u64 = OURS | 3 << 32;
const ALARM_MOVED: u64 = OURS | 4 << 32;

/// A ring with its sockets. Belongs to the thread that made it.
pub struct Ring {
    // Dropped first: its memory is what the fields below are read and written through.
    ring: IoUring,
    buffers: Buffers,
    outgoing: Outgoing,
    templates: Box<Templates>,
    options: RingOptions,
    sockets: Vec<Option<Armed>>,
    /// Entries pushed so far: names the place of the next one.
    pushed: u32,
    /// Sends that did not fit, in order.
    backlog: VecDeque<Send>,
    /// Sends that failed before they reached the kernel.
    refused: VecDeque<(SendTag, i32)>,
    /// Slots to be released when everything offered has been consumed.
    released: Vec<SlotId>,
    alarm: Option<Time>,
    /// A receive or a cancel found no room.
    unfinished: bool,
    counters: RingCounters,
}

/// What receive and timeout entries point at.
struct Templates {
    plain: libc::msghdr,
    wildcard: libc::msghdr,
    alarm: Timespec,
}

impl Ring {
    /// A ring whose completions are announced on `eventfd`.
    pub fn new(options: &RingOptions, eventfd: BorrowedFd<'_>) -> io::Result<Ring> {
        let ring = build(options)?;
        let submitter = ring.submitter();
        submitter.register_files_sparse(options.listeners_max)?;
        submitter.register_eventfd(eventfd.as_raw_fd())?;
        // SAFETY: `Ring` drops the ring before the buffers, after `shut` has ended every receive.
        let buffers = unsafe {
            Buffers::register(
                &submitter,
                BUFFER_GROUP,
                options.receive_buffers,
                options.datagram_size_max + HEADROOM,
            )?
        };
        let submissions = ring.params().sq_entries();
        Ok(Ring {
            ring,
            buffers,
            outgoing: Outgoing::new(submissions),
            templates: Box::new(Templates::new()),
            options: options.clone(),
            sockets: Vec::new(),
            pushed: 0,
            backlog: VecDeque::new(),
            refused: VecDeque::new(),
            released: Vec::new(),
            alarm: None,
            unfinished: false,
            counters: RingCounters::default(),
        })
    }

    /// What has happened so far.
    pub fn counters(&self) -> RingCounters {
        self.counters
    }

    /// Offers what a turn wants sent. The sends are on their way after the next `enter`.
    pub fn offer(&mut self, arena: &Arena, effects: &mut Effects) -> io::Result<()> {
        self.released.append(&mut effects.released);
        while let Some(send) = self.backlog.front().copied() {
            if !self.push_send(arena, &send)? {
                break;
            }
            self.backlog.pop_front();
        }
        for send in effects.sends.drain(..) {
            if self.backlog.is_empty() && self.push_send(arena, &send)? {
                continue;
            }
            self.counters.sends_deferred += 1;
            if self.backlog.len() < BACKLOG_MAX {
                self.backlog.push_back(send);
            } else {
                self.refused.push_back((send.tag, libc::EAGAIN));
            }
        }
        Ok(())
    }

    /// Makes sure that a completion comes at `at`, or earlier.
    pub fn wake_at(&mut self, at: Time) -> io::Result<()> {
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return Ok(());
        }
        self.templates.alarm = Timespec::new()
            .sec(at.nanos() / 1_000_000_000)
            .nsec((at.nanos() % 1_000_000_000) as u32);
        let time = &raw const self.templates.alarm;
        // A moved timer keeps the clock that it was started with.
        let entry = if self.alarm.is_some() {
            opcode::TimeoutUpdate::new(ALARM, time)
                .flags(TimeoutFlags::ABS)
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(ALARM_MOVED)
        } else {
            opcode::Timeout::new(time)
                .flags(TimeoutFlags::ABS | TimeoutFlags::BOOTTIME)
                .build()
                .user_data(ALARM)
        };
        // SAFETY: the entry points at the boxed templates, which live as long as the ring.
        if unsafe { self.push(&entry)? } {
            self.alarm = Some(at);
        }
        Ok(())
    }

    /// One call into the kernel: what was offered goes out, and what has arrived completes.
    /// An error means that the ring is unusable.
    pub fn enter(&mut self) -> io::Result<()> {
        self.enter_for(0)
    }

    /// As `enter`, if something was offered.
    pub fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.enter()
    }

    /// As `enter`, if nothing waits to be reaped.
    pub fn poll(&mut self) -> io::Result<()> {
        if self.refused.is_empty() && self.ring.completion().is_empty() {
            return self.enter();
        }
        Ok(())
    }

    /// Gives the arena what may be released by now.
    pub fn settle(&mut self, arena: &mut Arena) {
        if self.backlog.is_empty() && self.ring.submission().is_empty() {
            for slot in self.released.drain(..) {
                arena.release(slot);
            }
        }
    }

    /// Hands out at most `limit` completions, or fewer where `handle` breaks off.
    /// Each datagram's buffer goes back to the kernel when `handle` returns.
    pub fn reap(
        &mut self,
        limit: usize,
        mut handle: impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> usize {
        let mut reaped = 0;
        while reaped < limit {
            let flow = if let Some((tag, errno)) = self.refused.pop_front() {
                self.counters.sends_failed += 1;
                handle(Input::SendFailed { tag, errno })
            } else {
                let next = self.ring.completion().next();
                let Some(entry) = next else { break };
                self.complete(&entry, &mut handle)
            };
            reaped += 1;
            if flow.is_break() {
                break;
            }
        }
        if reaped > 0 {
            self.buffers.publish();
        }
        reaped
    }

    /// Whether a further turn would find something to do.
    pub fn is_pending(&mut self) -> bool {
        if !self.refused.is_empty() || !self.ring.completion().is_empty() {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow() || !queue.is_empty()
    }

    /// Whether completions are announced on the eventfd. Off while a turn runs: the turn looks by itself.
    pub fn announce(&mut self, on: bool) {
        // Elsewhere the kernel may read the flag before we can see what it has just queued.
        if cfg!(target_arch = "x86_64") {
            let queue = self.ring.completion();
            if on {
                queue.enable_eventfd();
                core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            } else {
                queue.disable_eventfd();
            }
        }
    }

    /// Ends everything that the kernel still does for this ring, and closes its sockets. Datagrams
    /// that arrive meanwhile are lost, as they are in the socket of a process that ends.
    pub fn shut(&mut self) -> io::Result<()> {
        for armed in self.sockets.iter_mut().flatten() {
            match armed.receive {
                Receive::Running | Receive::Unwanted => armed.receive = Receive::Stopping,
                Receive::Held | Receive::Resting | Receive::Stopping | Receive::Ended => {}
            }
        }
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any())
            .build()
            .user_data(CANCEL);
        while self.is_held() {
            // SAFETY: the entry points nowhere. Pushed each time around: an entry that the kernel
            // refused to look at would otherwise be waited for in vain.
            unsafe { self.push(&cancel)? };
            self.enter_for(1)?;
            self.reap(usize::MAX, |_| ControlFlow::Continue(()));
        }
        for index in 0..self.sockets.len() {
            if self.sockets[index].is_some() {
                self.give_up(index);
            }
        }
        self.ring.submitter().unregister_files()
    }

    fn is_held(&self) -> bool {
        let held = |armed: &Armed| match armed.receive {
            Receive::Running | Receive::Unwanted | Receive::Stopping => true,
            Receive::Held | Receive::Resting | Receive::Ended => false,
        };
        self.alarm.is_some() || self.sockets.iter().flatten().any(held)
    }

    fn enter_for(&mut self, completions: u32) -> io::Result<()> {
        let offered = self.ring.submission().len() as u32;
        self.counters.enters += 1;
        // SAFETY: everything that queued entries point at is alive: slots are not released before
        // `settle`, records stay in their places, templates are boxed.
        let result = unsafe {
            self.ring.submitter().enter::<libc::sigset_t>(
                offered,
                completions,
                EnterFlags::GETEVENTS.bits(),
                None,
            )
        };
        match result {
            Ok(_) => Ok(()),
            // Interrupted, short of memory, or completions have to be reaped first: what was not
            // consumed stays where it is, and the next call takes it.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                Some(_) | None => Err(error),
            },
        }
    }

    /// False: the kernel takes no more for now.
    fn push_send(&mut self, arena: &Arena, send: &Send) -> io::Result<bool> {
        assert!(
            send.tag == SendTag::NONE || send.tag.0 & OURS == 0,
            "the top bit of a tag is the ring's"
        );
        let Some(index) = self.find(send.listener) else {
            self.refused.push_back((send.tag, libc::EBADF));
            return Ok(true);
        };
        if !self.has_room()? {
            return Ok(false);
        }
        let place = self.pushed & (self.ring.params().sq_entries() - 1);
        let bytes = arena.bytes(send.slot);
        let entry = self.outgoing.entry(place, Fixed(index as u32), send, bytes);
        // SAFETY: the entry points into a slot, whose memory never moves and which is not released
        // before `settle`, and to the record of this very place.
        unsafe { self.push(&entry) }
    }

    fn has_room(&mut self) -> io::Result<bool> {
        if self.ring.submission().is_full() {
            self.enter()?;
        }
        Ok(!self.ring.submission().is_full())
    }

    /// Queues an entry; false: the kernel takes no more for now.
    ///
    /// # Safety
    /// What the entry points at stays until the kernel has consumed it.
    unsafe fn push(&mut self, entry: &Entry) -> io::Result<bool> {
        if !self.has_room()? {
            return Ok(false);
        }
        // SAFETY: promised by the caller.
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "there was room");
        self.pushed = self.pushed.wrapping_add(1);
        Ok(true)
    }

    fn complete(
        &mut self,
        entry: &cqueue::Entry,
        handle: &mut impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let data = entry.user_data();
        if data & OURS == 0 || data == SendTag::NONE.0 {
            // A send that went well does not complete.
            if entry.result() >= 0 {
                return ControlFlow::Continue(());
            }
            self.counters.sends_failed += 1;
            return handle(Input::SendFailed {
                tag: SendTag(data),
                errno: -entry.result(),
            });
        }
        match data & !0xffff_ffff {
            RECEIVE => self.received((data & 0xffff_ffff) as usize, entry, handle),
            ALARM => {
                self.alarm = None;
                ControlFlow::Continue(())
            }
            // A cancel that found nothing, or a timer that fired before it could be moved: the
            // completion of what it was meant for tells the rest.
            CANCEL | ALARM_MOVED => ControlFlow::Continue(()),
            _ => panic!("a completion of nothing that was submitted: {data:#x}"),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_held() {
            // The kernel must not write into buffers that are gone.
            self.shut().expect("a ring that can be shut");
        }
    }
}

impl Templates {
    fn new() -> Templates {
        // SAFETY: a struct of integers and pointers, for which zero is a value.
        let mut plain: libc::msghdr = unsafe { core::mem::zeroed() };
        plain.msg_namelen = NAME_SIZE as libc::socklen_t;
        let mut wildcard = plain;
        wildcard.msg_controllen = CONTROL_SIZE as _;
        Templates {
            plain,
            wildcard,
            alarm: Timespec::new(),
        }
    }
}

/// The ring itself, as the probe tries it too.
pub(super) fn build(options: &RingOptions) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(options.completions)
        .build(options.submissions)
}
