//! The sockets of a ring, and what its receives bring: a part of `Ring`.

use core::ops::ControlFlow;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut};
use io_uring::{cqueue, opcode};

use super::{CANCEL, RECEIVE, Ring};
use crate::shard::input::Input;
use crate::transport::{Flow, ListenerId};
use crate::uring::address;
use crate::uring::socket::ListenerSocket;

/// After so many failures in a row a receive is only started again once a second.
const FAILURES_IN_A_ROW_MAX: u32 = 8;

/// A socket that a ring has, and how far its receive is.
pub(super) struct Armed {
    /// What comes in bears this name.
    pub(super) listener: ListenerId,
    /// What goes out may bear one of these as well: the socket was, or is about to be, theirs.
    also: Vec<ListenerId>,
    /// The name for what comes in once the present receive has ended.
    next: Option<ListenerId>,
    pub(super) socket: Arc<ListenerSocket>,
    pub(super) receive: Receive,
    pub(super) failures: u32,
    /// What its kernel counter stood at when it was last looked at.
    drops: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    /// An entry of it is queued or in the kernel; one completion without `F_MORE` will come.
    Running,
    /// None was started yet: the socket only sends.
    Held,
    /// Nothing of it is anywhere; to be started again.
    Resting,
    /// As `Running`, and to be cancelled as soon as there is room for the entry.
    Unwanted,
    /// As `Running`, and cancelled.
    Stopping,
    /// Disarmed: the last completion has come. The socket only sends, until it is taken.
    Ended,
}

impl Armed {
    /// The name that came in goes out still.
    fn take_next(&mut self) {
        if let Some(next) = self.next.take() {
            self.also.retain(|&also| also != next);
            let before = core::mem::replace(&mut self.listener, next);
            if before != next {
                self.also.push(before);
            }
        }
    }
}

impl Ring {
    /// Takes a socket, and starts to receive on it.
    pub fn arm(
        &mut self,
        listener: ListenerId,
        socket: Arc<ListenerSocket>,
    ) -> Result<(), (Arc<ListenerSocket>, io::Error)> {
        self.hold(listener, socket)?;
        self.receive(listener);
        Ok(())
    }

    /// Takes a socket to send on it. It must be a blocking one: the kernel gives up at once on others.
    pub fn hold(
        &mut self,
        listener: ListenerId,
        socket: Arc<ListenerSocket>,
    ) -> Result<(), (Arc<ListenerSocket>, io::Error)> {
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
        let drops = socket.drops();
        let armed = Some(Armed {
            listener,
            also: Vec::new(),
            next: None,
            socket,
            receive: Receive::Held,
            failures: 0,
            drops,
        });
        if index == self.sockets.len() {
            self.sockets.push(armed);
        } else {
            self.sockets[index] = armed;
        }
        Ok(())
    }

    /// Starts to receive on a socket that is held.
    pub fn receive(&mut self, listener: ListenerId) {
        if let Some(index) = self.find(listener)
            && let Some(armed) = &mut self.sockets[index]
            && armed.receive == Receive::Held
        {
            armed.receive = Receive::Resting;
            self.start_receive(index);
        }
    }

    /// From now on `also` sends on the socket of `listener` too. False: there is no such listener here.
    #[must_use]
    pub fn share(&mut self, listener: ListenerId, also: ListenerId) -> bool {
        let Some(index) = self.find(listener) else {
            return false;
        };
        let armed = self.sockets[index].as_mut().expect("just found");
        armed.also.push(also);
        true
    }

    /// Hands a socket over to `to`, which shares it: the receive is cancelled, reaped to its last completion, and
    /// started anew, and what comes in from then on bears that name.
    pub fn hand_over(&mut self, to: ListenerId) {
        let Some(index) = self.find(to) else { return };
        let armed = self.sockets[index].as_mut().expect("just found");
        armed.next = Some(to);
        match armed.receive {
            Receive::Running => {
                armed.receive = Receive::Unwanted;
                self.cancel(index);
            }
            Receive::Held | Receive::Resting => {
                armed.take_next();
                armed.receive = Receive::Resting;
                self.start_receive(index);
            }
            // It goes away, or is on its way to another name already: this one is the next.
            Receive::Unwanted | Receive::Stopping | Receive::Ended => {}
        }
    }

    /// Takes one name of a socket away. False: it was the only one, and the socket is still there.
    #[must_use]
    pub fn unshare(&mut self, listener: ListenerId) -> bool {
        let Some(index) = self.find(listener) else {
            return true;
        };
        let armed = self.sockets[index].as_mut().expect("just found");
        if armed.next == Some(listener) {
            armed.next = None;
        }
        if let Some(at) = armed.also.iter().position(|&also| also == listener) {
            armed.also.remove(at);
            return true;
        }
        match armed.also.pop() {
            Some(other) => {
                armed.listener = other;
                true
            }
            None => false,
        }
    }

    /// Stops to receive on a socket. What has come meanwhile is still reaped; with the last completion
    /// the socket can be taken, and until then it sends. False: there is no such listener here.
    #[must_use]
    pub fn disarm(&mut self, listener: ListenerId) -> bool {
        let Some(index) = self.find(listener) else {
            return false;
        };
        let armed = self.sockets[index].as_mut().expect("just found");
        armed.next = None;
        match armed.receive {
            Receive::Unwanted | Receive::Stopping | Receive::Ended => {}
            Receive::Held | Receive::Resting => armed.receive = Receive::Ended,
            Receive::Running => {
                armed.receive = Receive::Unwanted;
                self.cancel(index);
            }
        }
        true
    }

    /// A socket that was disarmed and whose last completion has come: nothing refers to it any more,
    /// and this ring sends no longer on it.
    pub fn take_disarmed(&mut self) -> Option<(ListenerId, Arc<ListenerSocket>)> {
        let ended = |armed: &Armed| armed.receive == Receive::Ended;
        let index = self
            .sockets
            .iter()
            .position(|armed| armed.as_ref().is_some_and(ended))?;
        Some(self.give_up(index))
    }

    /// Looks how many datagrams the kernel has thrown away: one call for each socket.
    pub fn look_for_drops(&mut self) {
        for armed in self.sockets.iter_mut().flatten() {
            let drops = armed.socket.drops();
            self.counters.datagrams_dropped += u64::from(drops.wrapping_sub(armed.drops));
            armed.drops = drops;
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
                Receive::Held | Receive::Running | Receive::Stopping | Receive::Ended => {}
                Receive::Unwanted => self.cancel(index),
                Receive::Resting if all || armed.failures < FAILURES_IN_A_ROW_MAX => {
                    self.start_receive(index);
                }
                Receive::Resting => {}
            }
        }
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
    pub(super) fn give_up(&mut self, index: usize) -> (ListenerId, Arc<ListenerSocket>) {
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

    pub(super) fn find(&self, listener: ListenerId) -> Option<usize> {
        self.sockets.iter().position(|armed| {
            armed
                .as_ref()
                .is_some_and(|armed| armed.listener == listener || armed.also.contains(&listener))
        })
    }

    pub(super) fn received(
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
                connection: None,
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
                if armed.next.is_none() {
                    armed.receive = Receive::Ended;
                    return;
                }
                armed.take_next();
                armed.receive = Receive::Resting;
            }
            Receive::Held | Receive::Running | Receive::Resting => {
                armed.receive = Receive::Resting;
            }
        }
        if result == -libc::ENOBUFS {
            self.counters.receives_without_buffer += 1;
        } else if result < 0 && result != -libc::ECANCELED {
            self.counters.receives_failed += 1;
            armed.failures += 1;
        }
        if armed.failures < FAILURES_IN_A_ROW_MAX {
            self.start_receive(index);
        }
    }
}
