//! SIP messages: one scanner over borrowed bytes, one writer into borrowed bytes.
//!
//! Nothing here allocates, keeps state or knows what a message is for. A datagram becomes a
//! [`Message`] (where everything is), then a [`Request`] or a [`Response`] (everything that must be there is,
//! and is well-formed). What a value means beyond its grammar is the caller's business.

pub mod accept;
pub mod address;
pub mod answer;
pub mod authorization;
pub mod event;
mod frame;
pub mod host;
mod lex;
pub mod message;
pub mod method;
pub mod name;
pub mod params;
pub mod quick;
pub mod request;
pub mod response;
mod scan;
pub mod uri;
pub mod values;
pub mod via;
pub mod writer;

pub use accept::{AcceptRange, MediaType};
pub use address::{Contact, NameAddr};
pub use answer::{Answer, reason_phrase};
pub use authorization::{AuthParam, Credentials};
pub use event::{EventHeader, SubscriptionState};
pub use frame::{BodyLength, body_length, head_length};
pub use host::Host;
pub use lex::{Malformed, decimal, eq_ignore_case, expires, trim};
pub use message::{Line, Message, Start, Unreadable};
pub use method::Method;
pub use name::Name;
pub use params::{Param, Params};
pub use quick::{QuickAnswer, quick_answer};
pub use request::{CSeq, Refusal, Request, Target};
pub use response::Response;
pub use uri::{Scheme, Tel, Uri, UriError};
pub use via::{Rport, Transport, Via};
pub use writer::Writer;
