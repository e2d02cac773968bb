//! The control thread's end of the post: a way to each shard, and what they send back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Desk;
use super::Office;
use crate::shard::effects::ShardId;
use crate::shard::mail::Mail;
use crate::transport::ListenerId;
use crate::uring::socket::ListenerSocket;

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
