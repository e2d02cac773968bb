//! One shard's datagrams: receives that go on by themselves, and sends that never wait.
//! It turns completions into `Input` and `Effects` into submissions; when to do so is decided in `drive`.
//!
//! The kernel never holds a pointer into a send slot beyond `enter`: each send carries
//! `MSG_DONTWAIT` and there is no polling thread, so an entry that was consumed is over, and only a
//! failure completes. Slots are released once nothing that was offered is left unconsumed.

use core::ops::ControlFlow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, TimeoutFlags, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use super::address::{self, CONTROL_SIZE, NAME_SIZE};
use super::buffers::Buffers;
use super::outgoing::Outgoing;
use super::socket::ListenerSocket;
use crate::arena::{Arena, SlotId};
use crate::config::limits;
use crate::shard::effects::{Effects, Send, SendTag};
use crate::shard::input::Input;
use crate::time::Time;
use crate::transport::{Flow, ListenerId};

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
            listeners_max: 64,
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
/// After so many failures in a row a receive is only started again once a second.
const FAILURES_IN_A_ROW_MAX: u32 = 8;
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

struct Armed {
    listener: ListenerId,
    socket: ListenerSocket,
    receive: Receive,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// An entry of it is queued or in the kernel; one completion without `F_MORE` will come.
    Running,
    /// Nothing of it is anywhere; to be started again.
    Resting,
    /// As `Running`, and to be cancelled as soon as there is room for the entry.
    Unwanted,
    /// As `Running`, and cancelled.
    Stopping,
    /// Disarmed: the last completion has come. The socket only sends, until it is taken.
    Ended,
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

    /// Starts to receive on a socket. It must be a blocking one: the kernel gives up at once on others.
    pub fn arm(
        &mut self,
        listener: ListenerId,
        socket: ListenerSocket,
    ) -> Result<(), (ListenerSocket, io::Error)> {
        let index = self.sockets.iter().position(Option::is_none);
        let index = index.unwrap_or(self.sockets.len());
        if index == self.options.listeners_max as usize {
            let full = io::Error::other(format!(
                "a shard takes at most {} listeners",
                self.options.listeners_max
            ));
            return Err((socket, full));
        }
        let file = [socket.as_raw_fd()];
        if let Err(error) = self
            .ring
            .submitter()
            .register_files_update(index as u32, &file)
        {
            return Err((socket, error));
        }
        let armed = Some(Armed {
            listener,
            socket,
            receive: Receive::Resting,
            failures: 0,
        });
        if index == self.sockets.len() {
            self.sockets.push(armed);
        } else {
            self.sockets[index] = armed;
        }
        self.start_receive(index);
        Ok(())
    }

    /// Stops to receive on a socket. What has come meanwhile is still reaped; with the last completion
    /// the socket can be taken, and until then it sends. False: there is no such listener here.
    #[must_use]
    pub fn disarm(&mut self, listener: ListenerId) -> bool {
        let Some(index) = self.find(listener) else {
            return false;
        };
        let armed = self.sockets[index].as_mut().expect("just found");
        match armed.receive {
            Receive::Unwanted | Receive::Stopping | Receive::Ended => {}
            Receive::Resting => armed.receive = Receive::Ended,
            Receive::Running => {
                armed.receive = Receive::Unwanted;
                self.cancel(index);
            }
        }
        true
    }

    /// A socket that was disarmed and whose last completion has come: nothing refers to it any more,
    /// and this ring sends no longer on it.
    pub fn take_disarmed(&mut self) -> Option<(ListenerId, ListenerSocket)> {
        let ended = |armed: &Armed| armed.receive == Receive::Ended;
        let index = self
            .sockets
            .iter()
            .position(|armed| armed.as_ref().is_some_and(ended))?;
        Some(self.give_up(index))
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

    /// Tries again what found no room: receives to be started, and others to be cancelled. With `all`
    /// also those receives are started that kept failing.
    pub fn retry(&mut self, all: bool) {
        if !core::mem::take(&mut self.unfinished) && !all {
            return;
        }
        for index in 0..self.sockets.len() {
            let Some(armed) = &self.sockets[index] else {
                continue;
            };
            match armed.receive {
                Receive::Running | Receive::Stopping | Receive::Ended => {}
                Receive::Unwanted => self.cancel(index),
                Receive::Resting if all || armed.failures < FAILURES_IN_A_ROW_MAX => {
                    self.start_receive(index);
                }
                Receive::Resting => {}
            }
        }
    }

    /// Ends everything that the kernel still does for this ring, and closes its sockets. Datagrams
    /// that arrive meanwhile are lost, as they are in the socket of a process that ends.
    pub fn shut(&mut self) -> io::Result<()> {
        for armed in self.sockets.iter_mut().flatten() {
            match armed.receive {
                Receive::Running | Receive::Unwanted => armed.receive = Receive::Stopping,
                Receive::Resting | Receive::Stopping | Receive::Ended => {}
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
            Receive::Resting | Receive::Ended => false,
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

    fn start_receive(&mut self, index: usize) {
        let Some(armed) = &mut self.sockets[index] else {
            return;
        };
        let header = if armed.socket.is_wildcard() {
            &raw const self.templates.wildcard
        } else {
            &raw const self.templates.plain
        };
        let entry = opcode::RecvMsgMulti::new(Fixed(index as u32), header, self.buffers.group())
            .build()
            .user_data(RECEIVE | index as u64);
        // SAFETY: the header is one of the boxed templates; the buffers outlive the ring.
        let queued = unsafe { self.push(&entry) };
        // Should the ring be unusable, the turn's own call says so.
        match (queued, &mut self.sockets[index]) {
            (Ok(true), Some(armed)) => armed.receive = Receive::Running,
            (Ok(_) | Err(_), _) => self.unfinished = true,
        }
    }

    fn cancel(&mut self, index: usize) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(RECEIVE | index as u64))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(CANCEL);
        // SAFETY: the entry points nowhere.
        let queued = unsafe { self.push(&entry) };
        match (queued, &mut self.sockets[index]) {
            (Ok(true), Some(armed)) => armed.receive = Receive::Stopping,
            (Ok(_) | Err(_), _) => self.unfinished = true,
        }
    }

    /// Takes a socket out of the file table.
    fn give_up(&mut self, index: usize) -> (ListenerId, ListenerSocket) {
        let armed = self.sockets[index].take().expect("an armed socket");
        let removed = self
            .ring
            .submitter()
            .register_files_update(index as u32, &[-1]);
        assert!(
            removed.is_ok(),
            "a place of our own file table: {removed:?}"
        );
        (armed.listener, armed.socket)
    }

    fn find(&self, listener: ListenerId) -> Option<usize> {
        self.sockets.iter().position(|armed| {
            armed
                .as_ref()
                .is_some_and(|armed| armed.listener == listener)
        })
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

    fn received(
        &mut self,
        index: usize,
        entry: &cqueue::Entry,
        handle: &mut impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
            if let Ok(length) = usize::try_from(entry.result()) {
                flow = self.datagram(index, buffer, length, handle);
            }
            self.buffers.give_back(buffer);
        }
        if !cqueue::more(entry.flags()) {
            self.receive_ended(index, entry.result());
        }
        flow
    }

    fn datagram(
        &mut self,
        index: usize,
        buffer: u16,
        length: usize,
        handle: &mut impl FnMut(Input<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let armed = self.sockets[index]
            .as_mut()
            .expect("a receive has a socket");
        armed.failures = 0;
        let header = if armed.socket.is_wildcard() {
            &self.templates.wildcard
        } else {
            &self.templates.plain
        };
        let message = RecvMsgOut::parse(self.buffers.bytes(buffer, length), header)
            .expect("a buffer has room for more than the headers");
        let Some(peer) = address::read_name(message.name_data()) else {
            self.counters.datagrams_without_peer += 1;
            return ControlFlow::Continue(());
        };
        let payload = message.payload_data();
        let size_max = self.options.datagram_size_max;
        let truncated = message.is_payload_truncated() || payload.len() > size_max;
        self.counters.datagrams_truncated += u64::from(truncated);
        handle(Input::Datagram {
            flow: Flow {
                listener: armed.listener,
                local: address::read_local(message.control_data()),
                peer,
            },
            bytes: &payload[..payload.len().min(size_max)],
            truncated,
            forwarded: false,
        })
    }

    /// The kernel has let go of a receive: after an error, an empty datagram, or because it was cancelled.
    fn receive_ended(&mut self, index: usize, result: i32) {
        let armed = self.sockets[index]
            .as_mut()
            .expect("a receive has a socket");
        match armed.receive {
            Receive::Unwanted | Receive::Stopping | Receive::Ended => {
                armed.receive = Receive::Ended;
                return;
            }
            Receive::Running | Receive::Resting => armed.receive = Receive::Resting,
        }
        if result == -libc::ENOBUFS {
            self.counters.receives_without_buffer += 1;
        } else if result < 0 {
            self.counters.receives_failed += 1;
            armed.failures += 1;
        }
        if armed.failures < FAILURES_IN_A_ROW_MAX {
            self.start_receive(index);
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
