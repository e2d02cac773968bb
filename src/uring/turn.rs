//! One turn of a shard: what has happened goes in, what it wants done goes out.
//! It never waits; `drive` does.

use core::ops::ControlFlow;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::clock;
use super::post::{Command, Mailbox};
use super::ring::Ring;
use super::socket::{AnySocket, ListenerSocket};
use super::stream::Streams;
use crate::config::limits;
use crate::shard::Shard;
use crate::shard::admission::Level;
use crate::shard::alarms::Asker;
use crate::shard::effects::{Effects, Event};
use crate::shard::input::Input;
use crate::shard::lane::Lane;
use crate::shard::mail::{BLOCK_HEADER, BLOCK_SIZE, Carried};
use crate::stats::Counter;
use crate::time::{Time, WallOffset};
use crate::transport::ListenerId;

/// Completions of one turn: answers must not wait behind a flood for longer than a millisecond or two.
const COMPLETIONS_PER_TURN: usize = 512;
/// Mails of one turn, and blocks of forwarded datagrams.
const MAILS_PER_TURN: usize = 256;
const BLOCKS_PER_TURN: usize = 8;
/// Sends and mails that go out together: enough to share the cost of the call, few enough to stay in the cache.
const FLUSH_AT: usize = 256;
/// Records that go out together, in bytes: a batch of the store.
const RECORDS_FLUSH_AT: usize = 64 * 1024;
/// So many bytes of datagrams come in between two looks at the blocks of forwarded ones.
const LOOK_AFTER: usize = BLOCK_SIZE / 4;
/// A block with less room may not take what comes in before the next look.
const BLOCK_ROOM_MIN: usize = LOOK_AFTER + BLOCK_HEADER + limits::RECEIVE_BUFFER_BYTES;
/// How often what was written may bring about that more is.
const WRITES_PER_FLUSH: usize = 4;
/// Sockets that are ready and get their turn.
const SOCKETS_PER_TURN: usize = 256;
/// With less room a block leaves before a connection is read: what was kept of a message, and what is new.
const STREAM_ROOM_MIN: usize = 2 * limits::STREAM_READ_BYTES;
const SECOND: Duration = Duration::from_secs(1);
/// A shard turns once a second at least. After so long without a turn nobody ran it, and what came in meanwhile is read before
/// what became due is done: a phone that has refreshed in time is not to be told that its subscription has expired.
const STANDSTILL: Duration = Duration::from_secs(2);
/// It takes so long at least, as other shards pass on what they read, and at most.
const INPUT_FIRST: Duration = Duration::from_millis(250);
const INPUT_FIRST_MAX: Duration = Duration::from_secs(2);
/// How soon mail that found its queue full is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// A shard with its ring and its mailbox.
pub struct Turns {
    shard: Shard,
    pub(super) ring: Ring,
    pub(super) streams: Streams,
    pub(super) mailbox: Mailbox,
    effects: Effects,
    now: Time,
    wall: WallOffset,
    next_second: Time,
    /// When the last turn began.
    turned: Time,
    /// Since when what came in while the shard stood still is being read, before timers fire.
    catching_up: Option<Time>,
    /// Everything that had come by then has been taken in; None: nothing waited when the last turn was over.
    read_until: Option<Time>,
    /// How long what other shards passed on had waited when it was read in the last turn.
    passed_on: Duration,
    /// Bytes of datagrams since the blocks of forwarded ones were looked at.
    unlooked: usize,
    disarming: Vec<(ListenerId, oneshot::Sender<Arc<ListenerSocket>>)>,
    stopped: bool,
}

impl Turns {
    pub fn new(shard: Shard, ring: Ring, streams: Streams, mailbox: Mailbox) -> Turns {
        let effects = Effects::new(mailbox.shards());
        let mut turns = Turns {
            shard,
            ring,
            streams,
            mailbox,
            effects,
            now: clock::now(),
            wall: WallOffset::default(),
            next_second: Time::ZERO,
            turned: clock::now(),
            catching_up: None,
            read_until: None,
            passed_on: Duration::ZERO,
            unlooked: 0,
            disarming: Vec::new(),
            stopped: false,
        };
        // Before anything else it learns what time it is.
        turns.tick();
        turns
    }

    /// Whether the control thread wants this to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Everything that can be done without waiting, within limits. True: there is more.
    /// An error means that the ring is unusable.
    pub fn turn(&mut self) -> io::Result<bool> {
        self.now = clock::now();
        let began = self.now;
        if began.since(core::mem::replace(&mut self.turned, began)) >= STANDSTILL {
            self.catching_up = Some(began);
        }
        let waited = self
            .read_until
            .map_or(Duration::ZERO, |read| began.since(read));
        self.ring.poll()?;
        // What another shard passed on was read there in time, and has waited for this one.
        let waited = waited.max(core::mem::take(&mut self.passed_on));
        let turn = Input::Turn { waited };
        self.shard.step(self.now, turn, &mut self.effects);
        let all_read = self.take_completions()? & self.take_streams()? & self.take_mail()?;
        if all_read {
            self.read_until = Some(began);
        }
        self.catching_up = self.catching_up.filter(|since| {
            let passed = began.since(*since);
            passed < INPUT_FIRST || (!all_read && passed < INPUT_FIRST_MAX)
        });
        if self.catching_up.is_none() {
            self.tick();
        }
        self.hand_over()?;
        let due = self.set_alarm()?;
        self.submit()?;
        self.hand_out_disarmed();
        // What waits for room on its way to another shard is tried again when the mailbox tries.
        let ready = !self.mailbox.is_waiting() && self.streams.is_ready();
        let more = due || ready || self.ring.is_pending();
        self.read_until = more.then(|| self.read_until.unwrap_or(began));
        Ok(more)
    }

    /// Ends whatever the kernel still does for this shard.
    pub fn shut(&mut self) -> io::Result<()> {
        self.streams.shut();
        self.ring.shut()
    }

    /// Whether all were taken; so it is with what the next two take in.
    fn take_completions(&mut self) -> io::Result<bool> {
        let mut left = COMPLETIONS_PER_TURN;
        let overflowed = self.ring.counters().receives_without_buffer;
        loop {
            left -= self.reap(left);
            if left == 0 || !is_crowded(&self.effects) {
                let none_left = self.ring.counters().receives_without_buffer == overflowed;
                return Ok(left > 0 && none_left);
            }
            self.flush()?;
        }
    }

    fn reap(&mut self, limit: usize) -> usize {
        let Turns {
            shard,
            ring,
            mailbox,
            effects,
            now,
            unlooked,
            ..
        } = self;
        ring.reap(limit, |input| {
            if let Input::Datagram { bytes, .. } = &input {
                *unlooked += BLOCK_HEADER + bytes.len();
            }
            shard.step(*now, input, effects);
            if *unlooked >= LOOK_AFTER {
                *unlooked = 0;
                mailbox.send_crowded_blocks(effects, BLOCK_ROOM_MIN);
            }
            if is_crowded(effects) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// Takes in what connections have brought, as long as other shards keep up with what they own of it: what comes by a
    /// connection must not be lost, and may wait with its peer.
    fn take_streams(&mut self) -> io::Result<bool> {
        for _ in 0..SOCKETS_PER_TURN {
            self.mailbox
                .send_crowded_blocks(&mut self.effects, STREAM_ROOM_MIN);
            if self.effects.forwards.iter().any(Lane::is_long) {
                return Ok(false);
            }
            let Turns {
                shard,
                streams,
                effects,
                now,
                ..
            } = self;
            if !streams.take_one(*now, |input| shard.step(*now, input, effects)) {
                return Ok(true);
            }
            if is_crowded(&self.effects) {
                self.flush()?;
            }
        }
        Ok(false)
    }

    fn take_mail(&mut self) -> io::Result<bool> {
        if !self.mailbox.look() {
            return Ok(true);
        }
        while let Some(command) = self.mailbox.take_command() {
            self.obey(command)?;
        }
        let mut all = false;
        for _ in 0..MAILS_PER_TURN {
            let Some(mail) = self.mailbox.take_mail() else {
                all = true;
                break;
            };
            self.step(Input::Mail(mail))?;
        }
        for _ in 0..BLOCKS_PER_TURN {
            let Some((sender, block)) = self.mailbox.take_block() else {
                self.mailbox.all_read(all);
                return Ok(all);
            };
            self.passed_on = self.passed_on.max(block.waited(self.now));
            for carried in block.iter() {
                self.step(match carried {
                    Carried::Received { flow, bytes } => Input::Datagram {
                        flow,
                        bytes,
                        truncated: false,
                        forwarded: true,
                    },
                    Carried::ToSend {
                        connection,
                        tag,
                        bytes,
                    } => Input::ToSend {
                        sender,
                        connection,
                        tag,
                        bytes,
                    },
                })?;
            }
            self.mailbox.give_back(sender, block);
        }
        self.mailbox.all_read(false);
        Ok(false)
    }

    fn step(&mut self, input: Input<'_>) -> io::Result<()> {
        self.shard.step(self.now, input, &mut self.effects);
        if is_crowded(&self.effects) {
            self.flush()?;
        }
        Ok(())
    }

    /// One tick a turn: where more is due, the answers to what it sent are read in between.
    fn tick(&mut self) {
        if self.now >= self.next_second {
            self.next_second = self.now + SECOND;
            self.wall = clock::wall_offset();
            self.ring.retry(true);
            self.streams.look_after(self.now);
            self.count();
        } else if !self.is_due() {
            return self.ring.retry(false);
        }
        let tick = Input::Tick { wall: self.wall };
        self.shard.step(self.now, tick, &mut self.effects);
    }

    /// What only the edge sees stands among the shard's counters too.
    fn count(&mut self) {
        self.ring.look_for_drops();
        let (ring, mail) = (self.ring.counters(), self.mailbox.counters());
        let streams = self.streams.counters();
        let [refused_connections, refused_handshakes, refused_edge] = streams.refused;
        let stats = self.shard.stats();
        let counts = [
            (Counter::KernelEnter, ring.enters),
            (
                Counter::KernelReceiveWithoutBuffer,
                ring.receives_without_buffer,
            ),
            (Counter::KernelReceiveFailed, ring.receives_failed),
            (Counter::KernelDatagramDropped, ring.datagrams_dropped),
            (Counter::KernelSendFailed, ring.sends_failed),
            (Counter::KernelSendDeferred, ring.sends_deferred),
            (Counter::KernelAcceptFailed, streams.accepts_failed),
            (Counter::KernelConnectionFailed, streams.connections_failed),
            (Counter::KernelTlsFailed, streams.tls_failed),
            (Counter::RefusedConnections, refused_connections),
            (Counter::RefusedHandshakes, refused_handshakes),
            (Counter::RefusedEdge, refused_edge),
            (Counter::MailWake, mail.wakes),
            (Counter::MailDeferred, mail.mail_deferred),
            (Counter::MailLost, mail.mail_lost),
            (Counter::MailBlockDeferred, mail.blocks_deferred),
        ];
        for (counter, total) in counts {
            stats.add(counter, total - stats.get(counter));
        }
    }

    fn is_due(&self) -> bool {
        self.shard
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.now)
    }

    /// Makes sure of a completion when there is something to do next. True: that is now.
    fn set_alarm(&mut self) -> io::Result<bool> {
        let mut next = self.next_second;
        if let Some(deadline) = self.shard.next_deadline() {
            next = next.min(deadline);
        }
        if self.mailbox.is_waiting() {
            next = next.min(self.now + RETRY);
        }
        if next <= self.now {
            return Ok(true);
        }
        self.ring.wake_at(next)?;
        Ok(false)
    }

    /// In the middle of a turn.
    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.submit()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        for event in self.effects.events.drain(..) {
            report(&self.mailbox, &event);
        }
        self.write_streams();
        self.mailbox.send(&mut self.effects);
        self.ring.offer(self.shard.arena(), &mut self.effects)
    }

    /// Writes what connections take, and tells the shard: what waited for that may go on.
    fn write_streams(&mut self) {
        let Turns {
            shard,
            streams,
            effects,
            now,
            ..
        } = self;
        for _ in 0..WRITES_PER_FLUSH {
            streams.offer(*now, shard.arena(), &mut effects.streams);
            if !streams.report_written(|input| shard.step(*now, input, effects)) {
                return;
            }
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()?;
        self.ring.settle(self.shard.arena());
        self.now = clock::now();
        Ok(())
    }

    fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            // Whoever asked may have given up: then it stays as it was asked for.
            Command::Hold {
                listener,
                socket,
                done,
            } => {
                let held = match socket {
                    AnySocket::Datagrams(socket) => {
                        let held = self.ring.hold(listener, socket);
                        held.map_err(|(socket, error)| (AnySocket::from(socket), error))
                    }
                    AnySocket::Connections(socket) => {
                        self.streams.hold(listener, socket);
                        Ok(())
                    }
                };
                let _ = done.send(held);
            }
            Command::Receive { listener, done } => {
                self.ring.receive(listener);
                self.ring.submit()?;
                self.streams.listen(listener);
                let _ = done.send(());
            }
            Command::Share {
                listener,
                also,
                done,
            } => {
                let shared = self.ring.share(listener, also) || self.streams.share(listener, also);
                let _ = done.send(shared);
            }
            Command::HandOver { to, done } => {
                self.ring.hand_over(to);
                self.streams.hand_over(to);
                let _ = done.send(());
            }
            Command::Disarm { listener, done } => {
                let Turns {
                    shard,
                    streams,
                    effects,
                    now,
                    ..
                } = self;
                let listening = streams.disarm(listener, |input| shard.step(*now, input, effects));
                if !listening && !self.ring.unshare(listener) && self.ring.disarm(listener) {
                    self.disarming.push((listener, done));
                }
            }
            Command::Stop => self.stopped = true,
        }
        Ok(())
    }

    /// After the flush: what was answered in this turn has left the socket before it goes.
    fn hand_out_disarmed(&mut self) {
        if self.disarming.is_empty() {
            return;
        }
        while let Some((listener, socket)) = self.ring.take_disarmed() {
            let asked = self
                .disarming
                .iter()
                .position(|(asked, _)| *asked == listener);
            if let Some(asked) = asked {
                // Where nobody waits for it any more, it is closed.
                let _ = self.disarming.swap_remove(asked).1.send(socket);
            }
        }
    }
}

fn is_crowded(effects: &Effects) -> bool {
    effects.sends.len() >= FLUSH_AT
        || effects.streams.len() >= FLUSH_AT
        || effects.mails.len() >= FLUSH_AT
        || effects.records.size() >= RECORDS_FLUSH_AT
}

fn report(mailbox: &Mailbox, event: &Event) {
    let shard = mailbox.shard().0;
    match event {
        Event::Bug(what) => tracing::error!(shard, "a rule of our own was broken: {what}"),
        Event::Load(Level::Calm, _) => tracing::info!(shard, "the load is calm again"),
        Event::Load(level, because) => tracing::warn!(
            shard,
            "the load is {}, and less new work is taken on: {}",
            level.name(),
            because.name()
        ),
        Event::StoodStill(late) => tracing::warn!(
            shard,
            "the process or its machine stood still: timers are {:.1} s late, and whoever said nothing meanwhile is asked again",
            late.as_secs_f64()
        ),
        Event::Limit(limit, None) => tracing::warn!(shard, "the limit {limit} has been reached"),
        Event::Limit(limit, Some(Asker { from, wants, peer })) => tracing::warn!(
            shard,
            ?from,
            ?wants,
            %peer,
            "the limit {limit} has been reached; this is whose request was refused first"
        ),
    }
}
