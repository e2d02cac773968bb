//! What the control thread asks of a shard, and what the shard answers: plain data, nothing that acts.
//!
//! Every request gets exactly one reply with the same `id`. Questions about one resource go to its
//! home shard; questions about everything go to every shard, and the asker puts the answers together.
//! Work per request is bounded: a list is answered page by page.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use crate::hint::{HintUpdate, Order, ResourceKey, Snapshot};
use crate::shard::effects::ShardId;
use crate::shard::filter::{SubscriptionFilter, SubscriptionView};
use crate::shard::settings::{Rules, Settings};
pub use crate::state::{ResourceRow, SourceRow};
use crate::stats::{Gauges, Stats};
use crate::store::format::Fault;
use crate::store::records::Records;
use crate::transport::{Leases, ListenerId, ListenerTable};

/// A question from the control thread.
#[derive(Debug)]
pub struct Request {
    /// Chosen by the asker, given back with the reply.
    pub id: u64,
    pub ask: Ask,
}

/// The answer of one shard.
#[derive(Debug)]
pub struct Reply {
    pub id: u64,
    pub shard: ShardId,
    pub answer: Answer,
}

/// What may be asked. Which variant of [`Answer`] belongs to it stands with each.
#[derive(Debug)]
pub enum Ask {
    /// Sets and removes hints of resources whose home this shard is, in order: [`Answer::HintsChanged`].
    ChangeHints(Vec<HintChange>),
    /// A source begins anew: what it numbers with lower epochs is refused from now on. Asked of every
    /// shard: [`Answer::HintsChanged`] with one outcome.
    BeginEpoch { source: Arc<str>, epoch: u64 },
    /// A source has told all it knows in this epoch: what is left of lower ones goes. Asked of every
    /// shard: [`Answer::HintsChanged`] with one outcome.
    EndSnapshot { source: Arc<str>, epoch: u64 },
    /// One resource of this shard: [`Answer::Hint`].
    ShowHint(ResourceKey),
    /// The resources of this shard: [`Answer::Hints`].
    ListHints(Page),
    /// The subscriptions of this shard: [`Answer::Subscriptions`].
    ListSubscriptions {
        filter: Arc<SubscriptionFilter>,
        page: Page,
    },
    /// [`Answer::Figures`].
    ReadFigures,
    /// From now on mail a [`Changed`] to the control thread for every change of a resource, or stop it: [`Answer::Done`].
    ReportChanges(bool),
    /// From now on this holds in place of what held before. What subscriptions and publications were granted
    /// stays theirs, and so does what transactions lease: [`Answer::Done`].
    Adopt(Adoption),
    /// [`Answer::Leases`].
    ReadLeases,
    /// A draining listener is closed; `to` takes over what is left on it: [`Answer::Closed`].
    CloseListener {
        listener: ListenerId,
        to: ListenerId,
    },
    /// Records of an earlier process are yours: [`Answer::Restored`]. What others need to know comes first.
    Restore(Records),
    /// All records have been read: from now on whoever is owed something is told: [`Answer::Done`].
    Resume,
    /// Accept no new request. Where subscriptions outlive the process, write down the last word of each, and tell
    /// nobody anything; else end every subscription with `terminated;reason=deactivated`, paced so that
    /// all have been sent within the given time: [`Answer::Drained`], once, at the end.
    Drain { within: Duration },
}

/// What a reload brings to a shard, all in one step.
#[derive(Clone, Debug)]
pub struct Adoption {
    pub rules: Arc<Rules>,
    pub listeners: Arc<ListenerTable>,
    /// At most so many NOTIFYs on their way at once.
    pub in_flight_max: usize,
}

impl From<Settings> for Adoption {
    /// What of a shard's settings may be replaced.
    fn from(settings: Settings) -> Self {
        Adoption {
            rules: Arc::new(settings.rules),
            listeners: Arc::new(settings.listeners),
            in_flight_max: settings.in_flight_max,
        }
    }
}

/// The answers.
#[derive(Debug)]
pub enum Answer {
    Done,
    /// One outcome per change, in their order.
    HintsChanged(Vec<HintOutcome>),
    Hint(Option<Box<ResourceRow>>),
    Hints(Rows<ResourceRow>),
    Subscriptions(Rows<SubscriptionRow>),
    Figures(Box<Figures>),
    /// By listener.
    Leases(Vec<(ListenerId, Leases)>),
    /// What was still leased.
    Closed(Leases),
    /// `notified`: subscriptions that were told; `kept`: those that outlive the process; `left`: those for which the
    /// time was too short.
    Drained {
        notified: u64,
        kept: u64,
        left: u64,
    },
    /// `kept` records say what is so; the time of `gone` was over.
    Restored {
        kept: u64,
        gone: u64,
        aside: Vec<Aside>,
    },
}

/// A record that is not believed, or has no place here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub key: Box<[u8]>,
    pub fault: Fault,
}

/// Where a list goes on, and how long its answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the answer before; `None` is the beginning.
    pub from: Option<u32>,
    /// At most so many rows. The shard also stops after `LIST_LOOKS_PER_PAGE` entries,
    /// with fewer rows or none, and says where to go on.
    pub rows_max: u32,
}

/// One page of a list, in the order of the slots that the entries live in.
#[derive(Debug)]
pub struct Rows<T> {
    pub rows: Vec<T>,
    /// Where the next page begins; `None`: that was all.
    pub next: Option<u32>,
}

/// One change that a source makes to a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum HintChange {
    Set(HintUpdate),
    Remove {
        resource: ResourceKey,
        source: Arc<str>,
        order: Option<Order>,
    },
}

impl HintChange {
    /// The resource that it concerns: its home shard is where the change goes.
    pub fn resource(&self) -> &ResourceKey {
        match self {
            HintChange::Set(update) => &update.resource,
            HintChange::Remove { resource, .. } => resource,
        }
    }
}

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintOutcome {
    /// Taken; `changed` says whether watchers see a difference.
    Accepted { changed: bool },
    /// A removal of what was not there.
    Absent,
    /// An earlier change than the one that stands.
    Stale { standing: Order },
    /// A limit of `config::limits`, by its name.
    Refused { limit: &'static str },
}

/// A resource whose composed state is new, reported while [`Ask::ReportChanges`] is on.
#[derive(Clone, Debug)]
pub struct Changed {
    pub resource: ResourceKey,
    pub snapshot: Arc<Snapshot>,
}

/// One subscription, copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    pub watcher: Box<str>,
    pub resource: Box<str>,
    pub package: Box<str>,
    pub state: &'static str,
    pub expires_in_seconds: u64,
    pub peer: SocketAddr,
    pub cseq: u32,
    pub version: u32,
    pub dirty: bool,
    pub in_flight: bool,
    pub call_id: Box<str>,
}

impl From<&SubscriptionView<'_>> for SubscriptionRow {
    fn from(view: &SubscriptionView<'_>) -> Self {
        SubscriptionRow {
            watcher: view.watcher.into(),
            resource: view.resource.into(),
            package: view.package.into(),
            state: view.state,
            expires_in_seconds: view.expires_in_seconds,
            peer: view.peer,
            cseq: view.cseq,
            version: view.version,
            dirty: view.dirty,
            in_flight: view.in_flight,
            call_id: view.call_id.into(),
        }
    }
}

/// The figures of one shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub stats: Stats,
    pub gauges: Gauges,
}
