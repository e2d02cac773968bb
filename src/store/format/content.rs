//! What sources and publishers say, as it stands in records. A number that stands here once is never given to
//! another variant.

use super::Fault;
use super::code::{Code, Reader, fields, numbered};
use crate::hint::{
    Basic, Call, CallState, DataElement, Direction, ForeignElement, HintContent, HintState,
    Mailbox, MessageClass, MessageCount, Note, Order, Party, Presence, Published, Tuple,
};

numbered! { HintState {
    Idle = 0 Trying = 1 Ringing = 2 Early = 3 InUse = 4 Busy = 5 Hold = 6 Unavailable = 7 Dnd = 8
} }
numbered! { CallState { Trying = 0 Proceeding = 1 Early = 2 Confirmed = 3 Terminated = 4 } }
numbered! { Direction { Initiator = 0 Recipient = 1 } }
numbered! { Basic { Open = 0 Closed = 1 } }
numbered! { MessageClass { Voice = 0 Fax = 1 Pager = 2 Multimedia = 3 Text = 4 None = 5 } }

fields! { Order { epoch seq } }
fields! { Party { identity display target held } }
fields! { Call { id state direction call_id local_tag remote_tag local remote event extensions } }
fields! { Note { language text } }
fields! { Tuple { id basic status_extensions extensions contact priority notes timestamp } }
fields! { DataElement { id activities extensions device_id notes timestamp } }
fields! { Presence { tuples persons devices notes extensions } }
fields! { MessageCount { class new old urgent } }
fields! { Mailbox { waiting account counts } }
fields! { HintContent { state calls note mailbox } }

/// Calls, one after the other, as they stand in records.
pub fn put_calls<'a>(calls: impl Iterator<Item = &'a Call>, out: &mut Vec<u8>) {
    for call in calls {
        call.put(out);
    }
}

/// Presence as it stands in records.
pub fn put_presence(presence: &Presence, out: &mut Vec<u8>) {
    presence.put(out);
}

/// Messages waiting as they stand in records; nothing where nobody said anything.
pub fn put_mailbox(mailbox: Option<&Mailbox>, out: &mut Vec<u8>) {
    if let Some(mailbox) = mailbox {
        mailbox.put(out);
    }
}

impl Code for ForeignElement {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(ForeignElement(Code::get(from)?))
    }
}

impl Code for Published {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Published::Dialogs { calls, partial } => {
                out.push(0);
                calls.put(out);
                partial.put(out);
            }
            Published::Presence(presence) => {
                out.push(1);
                presence.put(out);
            }
            Published::Mailbox(mailbox) => {
                out.push(2);
                mailbox.put(out);
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(match u8::get(from)? {
            0 => Published::Dialogs {
                calls: Code::get(from)?,
                partial: Code::get(from)?,
            },
            1 => Published::Presence(Code::get(from)?),
            2 => Published::Mailbox(Code::get(from)?),
            _ => return Err(Fault::Value("published")),
        })
    }
}
