//! One shard: everything of its phones and resources, behind one function.
//!
//! [`Shard::step`] takes what happened and records what is to be done; [`Shard::next_deadline`] says when
//! time alone is reason enough for the next step. Nothing else of a shard is touched from outside but its
//! arena, whose slots the edge reads and releases, and its counters, which the edge adds its own to.

pub mod admission;
mod admit;
mod again;
pub mod alarms;
mod answer;
mod ask;
mod audit;
pub mod census;
mod connected;
pub mod control;
mod deliver;
mod detour;
mod drain;
pub mod edges;
pub mod effects;
pub mod filter;
mod hints;
mod identify;
pub mod input;
mod journal;
pub mod lane;
mod late;
pub mod mail;
mod names;
mod notice;
mod outcome;
mod overload;
mod pace;
mod phone;
mod publish;
mod quotas;
mod ready;
mod receive;
mod restore;
mod rewrite;
pub mod settings;
mod standstill;
mod streams;
mod subscribe;

use crate::arena::Arena;
use crate::config::limits;
use crate::notify::copies::Copies;
use crate::notify::tails::Tails;
use crate::notify::window::Window;
use crate::partition::Owners;
use crate::policy::NonceWindows;
use crate::rng::Rng;
use crate::state::{Change, Compositor};
use crate::stats::{Counter, Stats};
use crate::subscription::record::Subscriptions;
use crate::time::{Time, WallOffset};
use crate::transaction::client::Clients;
use crate::transaction::server::Servers;
use crate::transport::{Lessee, Listeners};
use crate::wheel::{Owner, Token, Wheel};

use admission::{Admission, Capacity};
use alarms::Alarms;
use connected::Waiting;
use detour::Detours;
use drain::Drain;
use edges::Edges;
use effects::{Effects, Event};
use input::Input;
use journal::Journal;
use mail::Mail;
use names::Names;
use quotas::Tallies;
use ready::Ready;
use receive::Datagram;
use restore::Since;
use settings::Settings;
use standstill::Standstill;
use streams::Streams;

/// One thread's share of all phones and resources.
pub struct Shard {
    settings: Settings,
    listeners: Listeners,
    owners: Owners,
    /// Of the step that runs.
    now: Time,
    wall: WallOffset,
    rng: Rng,
    wheel: Wheel,
    arena: Arena,
    stats: Stats,
    alarms: Alarms,
    admission: Admission,
    clients: Clients,
    servers: Servers,
    subscriptions: Subscriptions,
    nonce_windows: NonceWindows,
    quotas: Tallies,
    copies: Copies,
    tails: Tails<notice::Shown>,
    compositor: Compositor,
    /// What the compositor changed, while it is spread; empty between steps.
    changes: Vec<Change>,
    ready: Ready,
    streams: Streams,
    waiting: Waiting,
    edges: Edges,
    late: late::Late,
    detours: Detours,
    names: Names,
    window: Window,
    journal: Journal,
    rewriting: Option<rewrite::Rewriting>,
    /// Of the records that are being read.
    since: Since,
    /// Until then somebody may ask again for what was done before, whose transaction is gone.
    asked_again_until: Time,
    /// No slot or transaction was free: nothing is told until a timer says so.
    stalled: bool,
    standstill: Standstill,
    drain: Option<Drain>,
    audit: audit::Audit,
    report_changes: bool,
}

impl Shard {
    /// A shard that knows nothing yet.
    pub fn new(settings: Settings, now: Time) -> Self {
        let mut shard = Shard {
            listeners: Listeners::new(&settings.listeners),
            owners: Owners::new(settings.shards),
            now,
            wall: WallOffset::default(),
            rng: Rng::new(settings.seed),
            wheel: Wheel::new(now),
            arena: Arena::new(limits::SEND_SLOTS_SMALL, limits::SEND_SLOTS_LARGE),
            stats: Stats::new(),
            alarms: Alarms::new(),
            admission: Admission::new(Capacity {
                transactions: settings.client_transactions_max,
                ..settings.capacity
            }),
            clients: Clients::new(settings.client_transactions_max),
            servers: Servers::new(limits::SERVER_TRANSACTIONS_PER_SHARD),
            subscriptions: Subscriptions::new(settings.subscriptions_max),
            quotas: Tallies::new(settings.subscriptions_max),
            nonce_windows: NonceWindows::new(limits::NONCE_WINDOWS_PER_SHARD),
            copies: Copies::new(limits::RESOURCES_PER_SHARD),
            tails: Tails::new(limits::TAILS_PER_SHARD),
            compositor: Compositor::new(
                settings.compose.clone(),
                settings.secrets.derive(b"resources"),
            ),
            changes: Vec::new(),
            ready: Ready::default(),
            streams: Streams::new(),
            waiting: Waiting::default(),
            edges: Edges::default(),
            late: late::Late::default(),
            detours: Detours::default(),
            names: Names::new(),
            window: Window::new(settings.in_flight_max),
            journal: Journal::new(settings.incarnation),
            rewriting: None,
            since: Since::default(),
            asked_again_until: now,
            stalled: false,
            standstill: Standstill::default(),
            drain: None,
            audit: audit::Audit::default(),
            report_changes: false,
            settings,
        };
        if shard.journal.is_on() {
            shard.compositor.keep();
        }
        shard
    }

    /// Takes in what happened; what is to be done about it is added to `out`.
    pub fn step(&mut self, now: Time, input: Input<'_>, out: &mut Effects) {
        self.now = now;
        self.journal.begin_input();
        match input {
            Input::Datagram {
                flow,
                bytes,
                truncated,
                forwarded,
            } => {
                self.on_datagram(
                    now,
                    Datagram {
                        flow,
                        bytes,
                        truncated,
                        forwarded,
                    },
                    out,
                );
            }
            Input::Opened { flow } => self.on_opened(now, flow, out),
            Input::Proved { connection, names } => self.on_proved(connection, names),
            Input::Stream { connection, bytes } => self.on_stream(now, connection, bytes, out),
            Input::Written { connection, bytes } => self.on_written(now, connection, bytes, out),
            Input::Ended { connection } => self.on_ended(now, connection, out),
            Input::Closed { connection } => self.on_closed(now, connection, out),
            Input::ToSend {
                sender,
                connection,
                tag,
                bytes,
            } => self.on_to_send(now, sender, connection, tag, bytes, out),
            Input::SendFailed { tag, errno } => self.on_send_failed(now, tag, errno, out),
            Input::Mail(mail) => self.on_mail(now, mail, out),
            Input::Turn { waited } => self.admission.waited(now, waited),
            Input::Tick { wall } => {
                self.wall = wall;
                self.stats.record(Counter::Turn);
                self.on_time(now, out);
            }
        }
        self.spread_changes(now, out);
        self.keep_state(out);
    }

    /// When the next `Tick` is due, if nothing else happens; a time that has passed: now.
    pub fn next_deadline(&self) -> Option<Time> {
        let busy = self.is_draining_now() || self.is_rewriting_now() || self.is_following();
        if busy || self.may_deliver() {
            return Some(self.now);
        }
        let held = self.journal.next_deadline(self.now);
        [self.wheel.next_deadline(), self.next_look(), held]
            .into_iter()
            .flatten()
            .min()
    }

    /// The send slots: the edge reads those of this turn and releases them after the flush.
    pub fn arena(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// The counters: the edge adds what only it can see.
    pub fn stats(&mut self) -> &mut Stats {
        &mut self.stats
    }

    fn on_time(&mut self, now: Time, out: &mut Effects) {
        let mut all_fired = false;
        let mut late = None;
        for _ in 0..limits::TIMERS_PER_STEP {
            if out.is_nearly_full() {
                break;
            }
            let Some(token) = self.wheel.pop(now) else {
                all_fired = true;
                break;
            };
            if late.is_none() {
                let first = now.since(self.wheel.reached());
                self.note_late(now, first, out);
                late = Some(first);
            }
            self.on_timer(now, token, out);
        }
        self.admission.late(now, late.unwrap_or_default());
        // What is late is done first: only what is left over then breaks a rule.
        if all_fired {
            self.audit_some(now, out);
        }
        self.spread_changes(now, out);
        self.let_go(now, out);
        self.drain_some(now, out);
        self.rewrite_some(now, out);
        self.follow_some();
        self.deliver(now, out);
        self.weigh(now);
        let (admission, events) = (&mut self.admission, &mut out.events);
        self.alarms.look(now, &self.stats, admission, events);
    }

    fn on_timer(&mut self, now: Time, token: Token, out: &mut Effects) {
        match token.owner {
            Owner::ClientTransaction => self.on_client_timer(now, token.index, out),
            Owner::ServerTransaction => {
                let listeners = &mut self.listeners;
                let forgotten = |listener| listeners.give(listener, Lessee::Server);
                self.servers.on_timer(now, &mut self.wheel, forgotten);
            }
            Owner::Subscription => self.on_deadline(now, token.index, out),
            Owner::Publication => {
                self.compositor.expire(now, token, &mut self.wheel);
                self.stats.record(Counter::PublicationExpired);
            }
            Owner::Hint => {
                if self.compositor.expire(now, token, &mut self.wheel) {
                    self.stats.record(Counter::HintExpired);
                }
            }
            Owner::Copy => self.on_copy_timer(now, token.index, out),
            Owner::Connection => self.on_connection_timer(now, token.index, out),
            Owner::Phone => self.on_phone_timer(now, token.index),
            Owner::Shard if token.index == late::TIMER => self.put_late(now, out),
            Owner::Name => self.on_name_timer(now, token.index, out),
            Owner::Shard => self.stalled = false,
        }
    }

    fn on_mail(&mut self, now: Time, mail: Mail, out: &mut Effects) {
        self.stats.record(Counter::MailReceived);
        match mail {
            Mail::Watch { resource, shard } => self.on_watch(resource, shard, out),
            Mail::Unwatch { resource, shard } => self.compositor.unwatch(&resource, shard.0),
            Mail::Hint {
                resource,
                serial,
                snapshot,
            } => self.on_hint(now, &resource, serial, snapshot, out),
            Mail::Written { serial, kept, lost } => {
                self.stats.add(Counter::RecordKept, kept);
                self.on_kept(now, serial, lost, out);
            }
            Mail::Store(news) => self.on_store(news),
            Mail::Connection { connection, news } => {
                self.on_connection_news(now, connection, news, out);
            }
            Mail::Edge(introduced) => self.on_edge(&introduced),
            Mail::Resolved(resolution) => self.on_resolved(now, *resolution, out),
            Mail::Request(request) => self.on_control(now, request, out),
            // They go to the control thread, and to nobody else.
            Mail::Reply(_) | Mail::Changed(_) | Mail::Resolve(_) => {
                self.stats.record(Counter::Bug);
                out.events
                    .push(Event::Bug("mail for the control thread came to a shard"));
            }
        }
    }
}
