//! Polls in the runtime's ring, and the list of the sockets that have become ready.

use core::marker::PhantomData;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring_06::{cqueue, opcode, types};
use tokio::sync::Notify;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

use super::listening::ListeningSocket;
use crate::transport::{ConnectionId, ListenerId};

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Accept(ListenerId),
    Read(ConnectionId),
    Write(ConnectionId),
}

/// What is ready, in the order in which it became so.
#[derive(Default)]
pub struct Inbox {
    ready: RefCell<VecDeque<Ready>>,
    bell: Notify,
}

impl Inbox {
    /// Whether nothing is ready.
    pub fn is_empty(&self) -> bool {
        self.ready.borrow().is_empty()
    }

    /// Waits until something has become ready since this was last awaited.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(super) fn pop(&self) -> Option<Ready> {
        self.ready.borrow_mut().pop_front()
    }

    pub(super) fn push(&self, ready: Ready) {
        self.ready.borrow_mut().push_back(ready);
        self.bell.notify_one();
    }

    pub(super) fn wait_for_connections(
        self: &Rc<Self>,
        listener: ListenerId,
        socket: &Arc<ListeningSocket>,
    ) {
        self.wait(Arc::clone(socket), libc::POLLIN, Ready::Accept(listener));
    }

    pub(super) fn wait_to_read(self: &Rc<Self>, id: ConnectionId, descriptor: &Rc<OwnedFd>) {
        self.wait(Rc::clone(descriptor), libc::POLLIN, Ready::Read(id));
    }

    pub(super) fn wait_to_write(self: &Rc<Self>, id: ConnectionId, descriptor: &Rc<OwnedFd>) {
        self.wait(Rc::clone(descriptor), libc::POLLOUT, Ready::Write(id));
    }

    fn wait<S: AsRawFd + Unpin + 'static>(
        self: &Rc<Self>,
        socket: S,
        events: libc::c_short,
        ready: Ready,
    ) {
        let inbox = Rc::clone(self);
        let poll = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), events as u32).build();
        let poll = UnsubmittedOneshot::new(socket, Polled(PhantomData), poll);
        tokio_uring::spawn(async move {
            // An error of the poll, too, is for who reads to find.
            poll.submit().await;
            inbox.push(ready);
        });
    }
}

/// The socket stays open as long as it is polled.
struct Polled<S>(PhantomData<S>);

impl<S> OneshotOutputTransform for Polled<S> {
    type Output = ();
    type StoredData = S;

    fn transform_oneshot_output(self, _socket: S, _entry: cqueue::Entry) {}
}
