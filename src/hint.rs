//! What is known of a resource: the plain data that travels from sources to documents.
//! It knows neither SIP nor how a state came or goes out, and nothing in it changes once it is shared.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

/// What is watched: the canonical `user@domain`.
pub type ResourceKey = Arc<str>;

/// The state of an extension, as sources name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintState {
    Idle,
    Trying,
    Ringing,
    Early,
    InUse,
    Busy,
    Hold,
    Unavailable,
    Dnd,
}

impl HintState {
    /// Every state, in the order in which help texts list them.
    pub const ALL: [HintState; 9] = [
        HintState::Idle,
        HintState::Trying,
        HintState::Ringing,
        HintState::Early,
        HintState::InUse,
        HintState::Busy,
        HintState::Hold,
        HintState::Unavailable,
        HintState::Dnd,
    ];

    /// The name that sources and operators write.
    pub const fn name(self) -> &'static str {
        match self {
            HintState::Idle => "idle",
            HintState::Trying => "trying",
            HintState::Ringing => "ringing",
            HintState::Early => "early",
            HintState::InUse => "inuse",
            HintState::Busy => "busy",
            HintState::Hold => "hold",
            HintState::Unavailable => "unavailable",
            HintState::Dnd => "dnd",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<HintState> {
        HintState::ALL
            .into_iter()
            .find(|state| state.name() == name)
    }
}

impl fmt::Display for HintState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state of one call (RFC 4235 3.7.1), in the order in which a call goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallState {
    Trying,
    Proceeding,
    Early,
    Confirmed,
    Terminated,
}

impl CallState {
    /// Every state, in order.
    pub const ALL: [CallState; 5] = [
        CallState::Trying,
        CallState::Proceeding,
        CallState::Early,
        CallState::Confirmed,
        CallState::Terminated,
    ];

    /// The word that documents use.
    pub const fn name(self) -> &'static str {
        match self {
            CallState::Trying => "trying",
            CallState::Proceeding => "proceeding",
            CallState::Early => "early",
            CallState::Confirmed => "confirmed",
            CallState::Terminated => "terminated",
        }
    }

    /// The state of this name, in any case: Kamailio writes `Trying`.
    pub fn from_name(name: &str) -> Option<CallState> {
        CallState::ALL
            .into_iter()
            .find(|state| state.name().eq_ignore_ascii_case(name))
    }

    /// How much a lamp that can show one call only wants to show this one; 0 is the most.
    /// A ringing call comes before one that is talked on: it is the one that can be picked up.
    pub const fn telling_rank(self) -> u8 {
        match self {
            CallState::Early => 0,
            CallState::Confirmed => 1,
            CallState::Proceeding => 2,
            CallState::Trying => 3,
            CallState::Terminated => 4,
        }
    }
}

/// Who called whom, seen from the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Initiator,
    Recipient,
}

impl Direction {
    /// The word that documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Initiator => "initiator",
            Direction::Recipient => "recipient",
        }
    }

    /// The direction of this name.
    pub fn from_name(name: &str) -> Option<Direction> {
        match name {
            "initiator" => Some(Direction::Initiator),
            "recipient" => Some(Direction::Recipient),
            _ => None,
        }
    }
}

/// One end of a call: identity, display name and target as documents carry them. Empty strings are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Party {
    pub identity: Box<str>,
    pub display: Box<str>,
    pub target: Box<str>,
    /// `+sip.rendering=no`: this end has put the call on hold.
    pub held: bool,
}

impl Party {
    /// Whether nothing is known of this end.
    pub fn is_empty(&self) -> bool {
        self.identity.is_empty() && self.display.is_empty() && self.target.is_empty() && !self.held
    }
}

/// One dialog of the resource (RFC 4235 4.1). Empty strings are absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Unique in the document and stable during the call.
    pub id: Box<str>,
    pub state: CallState,
    pub direction: Option<Direction>,
    pub call_id: Box<str>,
    pub local_tag: Box<str>,
    pub remote_tag: Box<str>,
    pub local: Party,
    pub remote: Party,
    /// Why a terminated call ended: `cancelled`, `rejected`, `replaced`, … (RFC 4235 3.7.1).
    pub event: Box<str>,
    /// What others have to say of it, such as the appearance that it holds (RFC 7463).
    pub extensions: Vec<ForeignElement>,
}

impl Call {
    /// A call of which nothing but its state is known.
    pub fn bare(id: &str, state: CallState) -> Call {
        Call {
            id: id.into(),
            state,
            direction: None,
            call_id: Box::default(),
            local_tag: Box::default(),
            remote_tag: Box::default(),
            local: Party::default(),
            remote: Party::default(),
            event: Box::default(),
            extensions: Vec::new(),
        }
    }

    /// Whether the call has not ended.
    pub fn is_live(&self) -> bool {
        self.state != CallState::Terminated
    }
}

/// Whether a presentity can be reached (RFC 3863 4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basic {
    Open,
    Closed,
}

impl Basic {
    /// The word that documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Basic::Open => "open",
            Basic::Closed => "closed",
        }
    }
}

/// A text for people, in a language where one is named. Empty strings are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Note {
    pub language: Box<str>,
    pub text: Box<str>,
}

/// One element of a namespace that we do not know, as XML text that is well formed by itself:
/// it declares every namespace it uses and holds no reference to an entity but the five predefined ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForeignElement(pub Box<str>);

/// One way to reach a presentity (RFC 3863 4.1.2). Empty strings are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub id: Box<str>,
    pub basic: Option<Basic>,
    /// What else stood in `<status>`.
    pub status_extensions: Vec<ForeignElement>,
    /// What stood between `<status>` and `<contact>`.
    pub extensions: Vec<ForeignElement>,
    pub contact: Box<str>,
    /// The contact's priority as it was written: `0` to `1` with at most three decimals.
    pub priority: Box<str>,
    pub notes: Vec<Note>,
    pub timestamp: Box<str>,
}

/// A person or a device of the presence data model (RFC 4479 3). Empty strings are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DataElement {
    pub id: Box<str>,
    /// Names of RPID activities (RFC 4480 3.2): `on-the-phone`, `busy`, `away`, …
    pub activities: Vec<Box<str>>,
    pub extensions: Vec<ForeignElement>,
    /// `deviceID`; devices only.
    pub device_id: Box<str>,
    pub notes: Vec<Note>,
    pub timestamp: Box<str>,
}

/// What is known of a presentity (RFC 3863, 4479, 4480).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Presence {
    pub tuples: Vec<Tuple>,
    pub persons: Vec<DataElement>,
    pub devices: Vec<DataElement>,
    pub notes: Vec<Note>,
    pub extensions: Vec<ForeignElement>,
}

/// A kind of message (RFC 3458 6.2, as RFC 3842 5.2 spells them), in the order in which summaries list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageClass {
    Voice,
    Fax,
    Pager,
    Multimedia,
    Text,
    None,
}

impl MessageClass {
    /// Every class, in order.
    pub const ALL: [MessageClass; 6] = [
        MessageClass::Voice,
        MessageClass::Fax,
        MessageClass::Pager,
        MessageClass::Multimedia,
        MessageClass::Text,
        MessageClass::None,
    ];

    /// The name of its line in a summary.
    pub const fn name(self) -> &'static str {
        match self {
            MessageClass::Voice => "Voice-Message",
            MessageClass::Fax => "Fax-Message",
            MessageClass::Pager => "Pager-Message",
            MessageClass::Multimedia => "Multimedia-Message",
            MessageClass::Text => "Text-Message",
            MessageClass::None => "None",
        }
    }
}

/// Messages of one class: `new/old (new_urgent/old_urgent)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageCount {
    pub class: MessageClass,
    pub new: u32,
    pub old: u32,
    pub urgent: Option<(u32, u32)>,
}

/// The messages that wait for a resource. An empty account is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mailbox {
    pub waiting: bool,
    /// The URI of the message account.
    pub account: Box<str>,
    /// At most one per class, in the order of the classes.
    pub counts: Vec<MessageCount>,
}

/// The place of an update within its source: a higher epoch beats every sequence number of a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    pub epoch: u64,
    pub seq: u64,
}

/// All that one source says of one resource: it replaces everything that this source said of it before.
#[derive(Clone, Debug, PartialEq)]
pub struct HintUpdate {
    pub resource: ResourceKey,
    pub source: Arc<str>,
    /// Without an order, the later arrival wins.
    pub order: Option<Order>,
    pub state: Option<HintState>,
    /// The calls behind the state, where they are known.
    pub calls: Vec<Call>,
    /// A presence note for people.
    pub note: Option<Note>,
    pub mailbox: Option<Mailbox>,
    /// Forgotten after this; without it, it stays until it is deleted.
    pub expires: Option<Duration>,
}

impl HintUpdate {
    /// `source` says `state` of `resource`, and nothing else.
    pub fn new(resource: ResourceKey, source: Arc<str>, state: HintState) -> HintUpdate {
        HintUpdate {
            resource,
            source,
            order: None,
            state: Some(state),
            calls: Vec::new(),
            note: None,
            mailbox: None,
            expires: None,
        }
    }
}

/// What one source says, without how and when it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HintContent {
    pub state: Option<HintState>,
    /// The calls behind the state, where they are known.
    pub calls: Vec<Call>,
    /// A presence note for people.
    pub note: Option<Note>,
    pub mailbox: Option<Mailbox>,
}

/// What a publisher's document says (RFC 3903), one aspect of a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// `partial`: calls that it does not name go on as they were (RFC 4235 4.1).
    Dialogs {
        calls: Vec<Call>,
        partial: bool,
    },
    Presence(Presence),
    Mailbox(Mailbox),
}

impl Published {
    /// Which side of the resource it speaks of.
    pub const fn aspect(&self) -> Aspect {
        match self {
            Published::Dialogs { .. } => Aspect::Dialogs,
            Published::Presence(_) => Aspect::Presence,
            Published::Mailbox(_) => Aspect::Mailbox,
        }
    }
}

/// One side of a resource's state: each event package shows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aspect {
    Dialogs,
    Presence,
    Mailbox,
}

impl Aspect {
    /// Every aspect, in the order of their discriminants.
    pub const ALL: [Aspect; 3] = [Aspect::Dialogs, Aspect::Presence, Aspect::Mailbox];
}

/// Content with a version that differs whenever the content does, and that is never used again for
/// another content of the same resource while the process lives. 0 is the version of "nothing known".
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    pub version: u64,
    pub content: T,
}

/// The composed state of one resource at one moment; shared, never changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Live calls, the most telling first, and after them calls that ended lately.
    pub dialogs: Versioned<Arc<[Call]>>,
    pub presence: Versioned<Arc<Presence>>,
    /// None: nobody has said anything about messages.
    pub mailbox: Versioned<Option<Arc<Mailbox>>>,
}

impl Snapshot {
    /// What is known of a resource of which nothing is known. Whoever needs it often keeps one and shares it.
    pub fn empty() -> Arc<Snapshot> {
        Arc::new(Snapshot {
            dialogs: Versioned {
                version: 0,
                content: Arc::new([]),
            },
            presence: Versioned {
                version: 0,
                content: Arc::new(Presence::default()),
            },
            mailbox: Versioned {
                version: 0,
                content: None,
            },
        })
    }

    /// The version of one aspect.
    pub fn version(&self, aspect: Aspect) -> u64 {
        match aspect {
            Aspect::Dialogs => self.dialogs.version,
            Aspect::Presence => self.presence.version,
            Aspect::Mailbox => self.mailbox.version,
        }
    }

    /// The call that a lamp shows: the most telling live one, else the one that ended last.
    pub fn telling_call(&self) -> Option<&Call> {
        self.dialogs.content.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_states_lead_back_to_their_states() {
        for state in HintState::ALL {
            assert_eq!(HintState::from_name(state.name()), Some(state));
        }
        for state in CallState::ALL {
            assert_eq!(CallState::from_name(state.name()), Some(state));
        }
        assert_eq!(HintState::from_name("Idle"), None);
    }

    #[test]
    fn a_higher_epoch_beats_every_sequence_number() {
        let restarted = Order { epoch: 2, seq: 0 };
        let before = Order {
            epoch: 1,
            seq: u64::MAX,
        };
        assert!(restarted > before);
    }

    #[test]
    fn a_snapshot_may_travel_between_threads() {
        fn travels<T: Send + Sync>(_: &T) {}
        travels(&Snapshot::empty());
    }
}
