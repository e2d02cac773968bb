//! A shard's thread: turn after turn, and between them it waits on one eventfd.
//! The ring writes to it when something completes, other threads when they leave mail for a sleeper.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pin;
use super::post::{MailCounters, Mailbox};
use super::ring::{Ring, RingCounters, RingOptions};
use super::socket::AnySocket;
use super::stream::{Doors, Streams};
use super::turn::Turns;
use crate::partition::ShardId;
use crate::shard::Shard;
use crate::transport::ListenerId;

/// Turns without waiting, before the runtime's other tasks get theirs.
const TURNS_IN_A_ROW: usize = 16;
/// Entries of the runtime's own ring, for streams and files.
const RUNTIME_ENTRIES: u32 = 256;

/// What a shard's thread needs to begin.
pub struct Plan {
    pub mailbox: Mailbox,
    pub listeners: Vec<(ListenerId, AnySocket)>,
    pub ring: RingOptions,
    /// Those of the process.
    pub doors: Arc<Doors>,
    /// The CPU to stay on.
    pub cpu: Option<usize>,
}

/// What a shard's thread leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub ring: RingCounters,
    pub mail: MailCounters,
}

/// A shard that runs.
pub struct ShardThread {
    shard: ShardId,
    thread: JoinHandle<Ended>,
}

/// Starts a shard. When this returns, it receives on its listeners.
/// `make` builds the shard on its own thread, so that its memory lies where it is used.
pub fn start(plan: Plan, make: impl FnOnce() -> Shard + Send + 'static) -> io::Result<ShardThread> {
    let shard = plan.mailbox.shard();
    let (ready, begun) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(format!("shard-{}", shard.0))
        .spawn(move || run(plan, make, &ready))?;
    match begun.recv() {
        Ok(Ok(())) => Ok(ShardThread { shard, thread }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(io::Error::other(format!(
            "the thread of shard {} ended before it began",
            shard.0
        ))),
    }
}

impl ShardThread {
    /// Whose thread this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end. A panic over there is one here.
    pub fn join(self) -> Ended {
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn run(plan: Plan, make: impl FnOnce() -> Shard, ready: &mpsc::Sender<io::Result<()>>) -> Ended {
    let shard = plan.mailbox.shard();
    let began = begin(plan, make);
    let (mut turns, told) = match began {
        Ok(turns) => (turns, ready.send(Ok(()))),
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ended::default();
        }
    };
    assert!(told.is_ok(), "the starter waits");
    let driven = tokio_uring::builder()
        .entries(RUNTIME_ENTRIES)
        .start(drive(&mut turns));
    if let Err(error) = driven.and_then(|()| turns.shut()) {
        panic!("the ring of shard {} is unusable: {error}", shard.0);
    }
    Ended {
        ring: turns.ring.counters(),
        mail: turns.mailbox.counters(),
    }
}

fn begin(plan: Plan, make: impl FnOnce() -> Shard) -> io::Result<Turns> {
    if let Some(cpu) = plan.cpu {
        pin::pin_this_thread(cpu)?;
    }
    let mut ring = Ring::new(&plan.ring, plan.mailbox.eventfd())?;
    let mut streams = Streams::new(plan.mailbox.shard(), plan.doors);
    for (listener, socket) in plan.listeners {
        match socket {
            AnySocket::Datagrams(socket) => {
                ring.arm(listener, socket).map_err(|(_, error)| error)?;
            }
            AnySocket::Connections(socket) => streams.hold(listener, socket),
        }
    }
    ring.submit()?;
    Ok(Turns::new(make(), ring, streams, plan.mailbox))
}

async fn drive(turns: &mut Turns) -> io::Result<()> {
    // A descriptor of its own: the mailbox keeps the one that others write to.
    let bell = turns.mailbox.eventfd().try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and owned and held by the result for as long as that lives.
    let bell = unsafe { AsyncFd::register_with_interest(bell, Interest::READABLE)? };
    let inbox = turns.streams.inbox();
    turns.streams.listen_all();
    let mut in_a_row = 0;
    turns.ring.announce(false);
    loop {
        let more = turns.turn()?;
        if turns.is_stopped() {
            return Ok(());
        }
        in_a_row += 1;
        if more && in_a_row < TURNS_IN_A_ROW {
            continue;
        }
        in_a_row = 0;
        if more {
            // Through the wait all the same, since it is there that the runtime submits for its
            // other tasks; a task that merely yields would keep it from that.
            turns.mailbox.ring_own_bell();
        } else if !fall_asleep(turns) {
            continue;
        }
        // The count behind the bell is never read: each ring is a new edge.
        tokio::select! {
            rung = bell.readable() => rung?.clear_ready(),
            () = inbox.rung() => {}
        }
        turns.ring.announce(false);
        turns.mailbox.wake_up();
    }
}

/// From here on completions and mail ring the bell. False: there are some already.
fn fall_asleep(turns: &mut Turns) -> bool {
    turns.ring.announce(true);
    if turns.mailbox.fall_asleep() {
        if !turns.ring.is_pending() {
            return true;
        }
        turns.mailbox.wake_up();
    }
    turns.ring.announce(false);
    false
}
