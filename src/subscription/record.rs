//! The record of a subscription, and the table of all of a shard's.

use crate::partition::{Mark, Partition};
use crate::slab::Slab;
use crate::subscription::connections::{Carried, Connections, Places};
use crate::subscription::package::{ContentTypeId, PackageId};
use crate::subscription::phones::{Link, Links, PhoneName, Phones};
use crate::subscription::tempo::Tempo;
use crate::subscription::text::{Part, Text};
use crate::subscription::turns::Turns;
use crate::table::Table;
use crate::time::Time;
use crate::transport::{ConnectionId, Flow};
use crate::wheel::TimerId;

/// Why a subscription ends, as its last NOTIFY says (RFC 6665 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Timeout,
    Deactivated,
    Rejected,
    NoResource,
}

impl Reason {
    /// The value of the `reason` parameter.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Timeout => "timeout",
            Reason::Deactivated => "deactivated",
            Reason::Rejected => "rejected",
            Reason::NoResource => "noresource",
        }
    }
}

/// Where a subscription stands. In every phase its one deadline runs, and is enough to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Each change is notified.
    Active,
    /// The phone asked for a pause with Retry-After: the newest state is sent when it is over.
    Silent { until: Time },
    /// Its phone has subscribed anew, as after a reboot: it goes on if the phone answers what it is sent, and else ends
    /// at that time at the latest. None: nothing has been sent yet, and nobody is given up who was not asked.
    Probed { until: Option<Time> },
    /// The phone did not answer, or its connection has gone: nothing is sent until it is heard again, or until expiry.
    Parked,
    /// One last NOTIFY is owed or on its way; nothing else will be sent.
    Terminating(Reason),
}

/// What the watcher is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owed {
    Nothing,
    /// The state has changed: a NOTIFY younger than T1 is waited for, and the phone's turn.
    Change,
    /// The same, and its turn has come.
    Due,
    /// A subscribe, refresh or end: it replaces what is on its way at once.
    Prompt,
}

/// Its place among those to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    pub queue: Queue,
    pub number: u32,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// With what phones wait for.
    Prompt,
    /// With what fans out.
    FanOut,
    /// The same, of phones that are not known to answer.
    PromptHeld,
    FanOutHeld,
    /// In the line of its phone, which takes no more changes now.
    Line,
}

/// One subscription.
pub struct Subscription {
    pub text: Text,
    /// Where NOTIFYs go: the listener and local address that the watcher's last request came in on, and the next hop.
    /// Changed by `Subscriptions::set_flow`.
    pub flow: Flow,
    pub expires_at: Time,
    /// The random part of our tag.
    pub check: u64,
    /// The slot in our tag: where the record stood in the process that gave it. [`Subscription::NEW`] before that.
    pub slot: u32,
    /// Its place among the subscriptions of its phone.
    pub link: Link,
    /// Its place among those that its connection carries; nowhere without one, and after it has gone. Among those that wait
    /// for an edge it stands under that one's name.
    pub carried: Carried,
    pub phase: Phase,
    pub owed: Owed,
    /// Where it stands among those to be told.
    pub queued: Option<Queued>,
    /// It waits until its connection takes more.
    pub in_line: bool,
    /// The next NOTIFY needs no body, as its phone knows the state; a change takes that back.
    pub bodiless: bool,
    pub package: PackageId,
    pub content_type: ContentTypeId,
    pub partition: Partition,
    /// So many seconds longer than it was told is it kept.
    pub spared_seconds: u16,
    /// The copy of the watched hint, and the place in its list of watchers.
    pub copy: u32,
    pub position: u32,
    /// Of the last NOTIFY; 0 before the first.
    pub cseq: u32,
    /// The CSeq of the document with version 0.
    pub first_cseq: u32,
    /// No NOTIFY with a higher CSeq is sent before more are reserved; `u32::MAX` where nothing is kept.
    pub reserved: u32,
    /// The records that have to be kept before the next NOTIFY is sent.
    pub awaits: u64,
    /// Of the last SUBSCRIBE.
    pub remote_cseq: u32,
    /// By which way the first one came, as a number; 0: nobody can say.
    pub way: u16,
    /// The client transaction of the NOTIFY on its way.
    pub in_flight: Option<u32>,
    /// How often it wants to be told, if it has said so.
    pub tempo: Option<Box<Tempo>>,
    /// Whose quotas it counts against: the source of the last request, and the domain of the resource.
    pub source: u32,
    pub domain: u32,
    pub deadline: Option<TimerId>,
}

impl Subscription {
    /// It has no slot yet.
    pub const NEW: u32 = u32::MAX;

    /// Our tag of the dialog.
    pub fn tag(&self) -> Mark {
        Mark {
            partition: self.partition,
            slot: self.slot,
            check: self.check,
        }
    }

    /// Seconds left, rounded up: what `expires` in Subscription-State says. It is what the phone was told, and once that
    /// is over, what is left in truth.
    pub fn seconds_left(&self, now: Time) -> u32 {
        let left = self
            .expires_at
            .since(now)
            .as_nanos()
            .div_ceil(1_000_000_000) as u32;
        let spared = u32::from(self.spared_seconds);
        if left > spared { left - spared } else { left }
    }

    /// When the deadline must fire next.
    pub fn next_deadline(&self) -> Time {
        match self.phase {
            Phase::Silent { until } | Phase::Probed { until: Some(until) } => {
                self.expires_at.min(until)
            }
            Phase::Active => {
                let due = self.tempo.as_ref().and_then(|tempo| tempo.due());
                due.map_or(self.expires_at, |due| due.min(self.expires_at))
            }
            Phase::Probed { until: None } | Phase::Parked | Phase::Terminating(_) => {
                self.expires_at
            }
        }
    }

    /// Whether a change waits because its watcher wants to be told less often.
    pub fn is_held(&self) -> bool {
        self.phase == Phase::Active && self.tempo.as_ref().is_some_and(|tempo| tempo.waits())
    }

    /// Whether the connection that it is told by has gone.
    pub fn is_cut(&self) -> bool {
        let gone =
            |connection: ConnectionId| connection.is_of_edge() || self.carried == Carried::NOWHERE;
        self.flow.connection.is_some_and(gone)
    }

    /// Whether it ends and refuses every further request.
    pub fn is_terminating(&self) -> bool {
        matches!(self.phase, Phase::Terminating(_))
    }

    /// Whether a NOTIFY may go out now.
    pub fn may_notify(&self) -> bool {
        match self.phase {
            Phase::Active | Phase::Probed { .. } | Phase::Terminating(_) => true,
            Phase::Silent { .. } | Phase::Parked => false,
        }
    }

    /// The name of its state, for people.
    pub fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Active => "active",
            Phase::Silent { .. } => "silent",
            Phase::Probed { .. } => "probed",
            Phase::Parked => "parked",
            Phase::Terminating(_) => "terminated",
        }
    }
}

/// All subscriptions of a shard.
pub struct Subscriptions {
    records: Slab<Subscription>,
    /// Those that stand in another slot than their tag says, by its check value.
    moved: Table,
    phones: Phones,
    connections: Connections,
}

impl Places for Slab<Subscription> {
    fn place(&mut self, subscription: u32) -> &mut Carried {
        &mut self[subscription].carried
    }
}

impl Links for Slab<Subscription> {
    fn link(&mut self, subscription: u32) -> &mut Link {
        &mut self[subscription].link
    }
}

impl Subscriptions {
    /// At most `limit`.
    pub fn new(limit: usize) -> Self {
        Subscriptions {
            records: Slab::with_limit(limit),
            moved: Table::new(),
            phones: Phones::new(limit),
            connections: Connections::default(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one of that phone; None: the limit is reached.
    pub fn insert(&mut self, phone: PhoneName, subscription: Subscription) -> Option<u32> {
        let index = self.records.insert(subscription).ok()?;
        let link = self.phones.enter(phone, index, &mut self.records);
        let record = &mut self.records[index];
        record.link = link;
        if record.slot == Subscription::NEW {
            record.slot = index;
        } else if record.slot != index {
            self.moved.insert(record.check, index);
        }
        self.enter_connection(index);
        Some(index)
    }

    /// From now on NOTIFYs go by this flow.
    pub fn set_flow(&mut self, index: u32, flow: Flow) {
        let record = &self.records[index];
        let stays = record.flow.connection == flow.connection && !record.is_cut();
        if !stays {
            self.cut(index);
        }
        self.records[index].flow = flow;
        if !stays {
            self.enter_connection(index);
        }
    }

    /// Its connection carries it no more.
    pub fn cut(&mut self, index: u32) {
        if let Some(connection) = self.records[index].flow.connection {
            self.connections.leave(connection, index, &mut self.records);
        }
    }

    /// The first of those that a connection carries.
    pub fn first_of_connection(&self, connection: ConnectionId) -> Option<u32> {
        self.connections.first(connection)
    }

    /// How many connections carry subscriptions.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn enter_connection(&mut self, index: u32) {
        let connection = self.records[index].flow.connection;
        if let Some(connection) =
            connection.filter(|&connection| connection != ConnectionId::FORMER)
        {
            self.connections.enter(connection, index, &mut self.records);
        }
    }

    /// Removes one, and returns with it the timer of its phone if that goes too.
    pub fn remove(&mut self, index: u32) -> (Subscription, Option<TimerId>) {
        self.unpark(index);
        self.cut(index);
        let gone = self.records.remove(index);
        if gone.slot != index {
            self.moved.remove(gone.check, |moved| moved == index);
        }
        let timer = self.phones.leave(gone.link, &mut self.records);
        (gone, timer)
    }

    /// The turns of a phone by its number.
    pub fn turns(&mut self, phone: u32) -> &mut Turns {
        self.phones.turns(phone)
    }

    /// The turns of the phone that has this one.
    pub fn turns_beside(&self, index: u32) -> &Turns {
        self.phones.turns_beside(self.records[index].link)
    }

    /// The number of the phone that has this one, and its turns; None: it need not wait for any.
    #[inline]
    pub fn turns_of(&mut self, index: u32) -> (u32, Option<&mut Turns>) {
        self.phones.turns_of(self.records[index].link)
    }

    /// Whose it is.
    pub fn phone(&self, index: u32) -> PhoneName {
        self.phones.name(self.records[index].link)
    }

    /// The first of all subscriptions of the phone that this one belongs to; each names the next.
    pub fn first_of_phone(&self, index: u32) -> u32 {
        self.phones.first(self.records[index].link)
    }

    /// The phones that have subscriptions.
    pub fn phones(&self) -> &Phones {
        &self.phones
    }

    /// Nothing more is sent until the phone is heard.
    pub fn park(&mut self, index: u32) {
        let record = &mut self.records[index];
        assert!(
            record.phase == Phase::Active,
            "what is told can stop being told"
        );
        record.phase = Phase::Parked;
        self.phones.park(record.link);
    }

    /// It is told again, if it was parked.
    pub fn unpark(&mut self, index: u32) -> bool {
        let record = &mut self.records[index];
        let parked = record.phase == Phase::Parked;
        if parked {
            record.phase = Phase::Active;
            self.phones.unpark(record.link);
        }
        parked
    }

    /// A NOTIFY of this one was not answered in time.
    pub fn doubt(&mut self, index: u32) {
        self.phones.doubt(self.records[index].link);
    }

    /// The phone of this one has answered.
    pub fn note_answer(&mut self, index: u32) {
        self.phones.note_answer(self.records[index].link);
    }

    /// Whether what is sent to this one will probably be answered. Where a possible ghost is, nobody may be any more.
    pub fn is_answering(&self, index: u32) -> bool {
        let record = &self.records[index];
        !matches!(record.phase, Phase::Probed { .. }) && self.phones.is_answering(record.link)
    }

    /// The phone of this one is heard. Whether any of its subscriptions may have missed something.
    pub fn hear(&mut self, index: u32) -> bool {
        self.phones.hear(self.records[index].link)
    }

    /// The phone of this one bears another name from now on, as far as this one is concerned. Returns the timer of the
    /// former one if that is gone.
    #[must_use]
    pub fn rename(&mut self, index: u32, name: PhoneName) -> Option<TimerId> {
        let parked = self.unpark(index);
        let link = self.records[index].link;
        let timer = self.phones.leave(link, &mut self.records);
        self.records[index].link = self.phones.enter(name, index, &mut self.records);
        if parked {
            self.park(index);
        }
        timer
    }

    /// The one of that number, if it lives.
    pub fn living(&mut self, index: u32) -> Option<&mut Subscription> {
        self.records.get_mut(index)
    }

    /// The one of that number, if it lives, to look at.
    pub fn get(&self, index: u32) -> Option<&Subscription> {
        self.records.get(index)
    }

    /// The dialog that a request is in: our tag, its Call-ID and its From tag must all be those of the dialog.
    //= RFC 3261 12.2.2
    pub fn find(
        &self,
        tag: Mark,
        call_id: &[u8],
        is_remote_tag: impl FnOnce(&[u8]) -> bool,
    ) -> Option<u32> {
        let is_its = |index: u32| {
            let record = self.records.get(index);
            record.is_some_and(|record| record.tag() == tag)
        };
        let index = if is_its(tag.slot) {
            tag.slot
        } else {
            self.moved.find(tag.check, is_its)?
        };
        let record = &self.records[index];
        let same = record.text.part(Part::CallId) == call_id
            && is_remote_tag(record.text.part(Part::Remote));
        same.then_some(index)
    }

    /// The number of the first subscription from `first` on.
    pub fn next_from(&self, first: u32) -> Option<u32> {
        self.records.next_key(first)
    }
}

impl core::ops::Index<u32> for Subscriptions {
    type Output = Subscription;
    fn index(&self, index: u32) -> &Subscription {
        &self.records[index]
    }
}

impl core::ops::IndexMut<u32> for Subscriptions {
    fn index_mut(&mut self, index: u32) -> &mut Subscription {
        &mut self.records[index]
    }
}

const _: () = assert!(
    size_of::<Subscription>() <= 256,
    "a million of them are kept"
);
