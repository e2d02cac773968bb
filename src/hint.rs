//! What is known of a resource: the plain data that travels from sources to documents.
//! It knows neither SIP nor how a state came or goes out.

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

/// The state of one call (RFC 4235 3.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallState {
    Trying,
    Proceeding,
    Early,
    Confirmed,
    Terminated,
}

/// Who called whom, seen from the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Initiator,
    Recipient,
}

/// One end of a call: identity, display name and target as documents carry them. Empty strings are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    pub identity: Box<str>,
    pub display: Box<str>,
    pub target: Box<str>,
    /// `+sip.rendering=no`: this end has put the call on hold.
    pub held: bool,
}

/// One dialog of the resource (RFC 4235 4.1). Empty strings are absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
}
