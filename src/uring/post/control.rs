//! The control thread's end of the post: a way to each shard, and what they send back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Desk;
use super::Office;
use super::records::RecordsEnd;
use crate::shard::effects::ShardId;
use crate::shard::mail::Mail;
use crate::transport::ListenerId;
use crate::uring::socket::{AnySocket, ListenerSocket};

/// What the control thread wants of the loop itself.
#[derive(Debug)]
pub enum Command {
    /// Take a socket: to send on it, or to accept on it later.
    Hold {
        listener: ListenerId,
        socket: AnySocket,
        done: oneshot::Sender<Result<(), (AnySocket, io::Error)>>,
    },
    /// Receive on a socket that is held.
    Receive {
        listener: ListenerId,
        done: oneshot::Sender<()>,
    },
    /// Send on the socket of `listener` for `also` too.
    Share {
        listener: ListenerId,
        also: ListenerId,
        done: oneshot::Sender<bool>,
    },
    /// Hand the socket that `to` shares over to it.
    HandOver {
        to: ListenerId,
        done: oneshot::Sender<()>,
    },
    /// Stop to receive on a socket, and hand it out when its last completion has come. Where others share it, only
    /// the name goes, and nothing is handed out. A listening socket is closed here, and not handed out either.
    Disarm {
        listener: ListenerId,
        done: oneshot::Sender<Arc<ListenerSocket>>,
    },
    /// End after this turn.
    Stop,
}

/// The control thread's end.
pub struct Control {
    office: Arc<Office>,
    next: usize,
}

impl Control {
    pub(super) fn new(office: Arc<Office>) -> Control {
        Control { office, next: 0 }
    }

    /// A way to one shard, for any task of the control thread.
    pub fn shard(&self, shard: ShardId) -> ShardHandle {
        assert!(usize::from(shard.0) < self.office.desks.len());
        ShardHandle {
            office: self.office.clone(),
            shard,
        }
    }

    /// The end of the one thread that writes what outlives the process.
    pub fn records(&self) -> RecordsEnd {
        RecordsEnd::new(Arc::clone(&self.office))
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

    /// Gives the shard a socket to send on.
    pub async fn hold(
        &self,
        listener: ListenerId,
        socket: impl Into<AnySocket>,
    ) -> Result<(), HoldError> {
        let socket = socket.into();
        let held = self.obeyed(|done| Command::Hold {
            listener,
            socket,
            done,
        });
        match held.await {
            Some(Ok(())) => Ok(()),
            Some(Err((socket, error))) => Err(HoldError::Refused(socket, error)),
            None => Err(HoldError::Ended),
        }
    }

    /// Makes the shard receive on a socket that it holds; once this returns, it does.
    pub async fn receive(&self, listener: ListenerId) {
        let obeyed = self.obeyed(|done| Command::Receive { listener, done });
        // A shard that has ended receives nothing, and that is noticed elsewhere.
        let _ = obeyed.await;
    }

    /// Makes the shard receive on a socket that it did not have; once this returns, it does.
    pub async fn arm(
        &self,
        listener: ListenerId,
        socket: impl Into<AnySocket>,
    ) -> Result<(), HoldError> {
        self.hold(listener, socket).await?;
        self.receive(listener).await;
        Ok(())
    }

    /// Has the shard send on the socket of `listener` for `also` too. False: it has no such listener.
    pub async fn share(&self, listener: ListenerId, also: ListenerId) -> bool {
        let obeyed = self.obeyed(|done| Command::Share {
            listener,
            also,
            done,
        });
        obeyed.await.unwrap_or(false)
    }

    /// Hands a socket over to `to`, which shares it. Once this returns, that has begun, and nothing is lost meanwhile.
    pub async fn hand_over(&self, to: ListenerId) {
        let _ = self.obeyed(|done| Command::HandOver { to, done }).await;
    }

    /// Makes the shard stop to receive on a socket, and returns it once nothing in the kernel refers to it and
    /// everything that had come has been handled. None: the shard has no such listener, or others share its socket.
    pub async fn disarm(&self, listener: ListenerId) -> Option<Arc<ListenerSocket>> {
        self.obeyed(|done| Command::Disarm { listener, done }).await
    }

    async fn obeyed<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.command(command(done)).ok()?;
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

/// Why a shard does not take a socket.
#[derive(Debug)]
pub enum HoldError {
    /// The ring took it not; here is the socket again.
    Refused(AnySocket, io::Error),
    /// The shard has ended, or more commands wait than it has room for.
    Ended,
}
