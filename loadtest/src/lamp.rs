//! What a lamp can show, and how it is read from the documents that notifiers send.

use crate::wire::{Package, number};

/// The state of an extension as the load sets it. A cut of the states that hints can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Idle,
    Ringing,
    InUse,
    Hold,
    Unavailable,
    /// A mailbox with so many new messages.
    Messages(u32),
}

/// What a phone shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lamp {
    /// Nothing has been shown yet.
    #[default]
    Dark,
    Terminated,
    Trying,
    Proceeding,
    Early,
    Confirmed,
    Held,
    Open,
    Closed,
    Busy,
    Messages(u32),
}

impl State {
    /// The states through which a load cycles: consecutive ones show differently.
    pub fn cycle(package: Package, step: u32) -> State {
        match package {
            Package::Dialog => [State::Ringing, State::InUse, State::Idle][step as usize % 3],
            Package::Presence => [State::Unavailable, State::Idle][step as usize % 2],
            Package::MessageSummary => State::Messages(step + 1),
        }
    }

    /// The JSON that sets it.
    pub fn json(self) -> String {
        match self {
            State::Idle => r#"{"state":"idle"}"#.into(),
            State::Ringing => r#"{"state":"ringing"}"#.into(),
            State::InUse => r#"{"state":"inuse"}"#.into(),
            State::Hold => r#"{"state":"hold"}"#.into(),
            State::Unavailable => r#"{"state":"unavailable"}"#.into(),
            State::Messages(count) => {
                format!(r#"{{"mailbox":{{"voice":{{"new":{count},"old":0}}}}}}"#)
            }
        }
    }

    /// Whether a phone that shows `lamp` is right.
    pub fn shows_as(self, package: Package, lamp: Lamp) -> bool {
        match package {
            Package::Dialog => match self {
                State::Idle | State::Unavailable => lamp == Lamp::Terminated,
                State::Ringing => lamp == Lamp::Early,
                State::InUse => lamp == Lamp::Confirmed,
                State::Hold => lamp == Lamp::Held,
                State::Messages(_) => false,
            },
            Package::Presence => match self {
                State::Idle => lamp == Lamp::Open,
                State::Unavailable => lamp == Lamp::Closed,
                State::Ringing | State::InUse | State::Hold => {
                    matches!(lamp, Lamp::Busy | Lamp::Open)
                }
                State::Messages(_) => false,
            },
            Package::MessageSummary => match self {
                State::Messages(count) => lamp == Lamp::Messages(count),
                // A mailbox of which nothing is known has no messages.
                State::Idle => lamp == Lamp::Messages(0),
                State::Ringing | State::InUse | State::Hold | State::Unavailable => false,
            },
        }
    }
}

impl Lamp {
    /// What a phone shows after this document; none where it cannot be understood.
    pub fn read(package: Package, body: &[u8]) -> Option<Lamp> {
        match package {
            Package::Dialog => Self::read_dialog(body),
            Package::Presence => Self::read_presence(body),
            Package::MessageSummary => Self::read_mailbox(body),
        }
    }

    fn read_dialog(body: &[u8]) -> Option<Lamp> {
        let word = element(body, b"<state")?;
        Some(match word {
            b"terminated" => Lamp::Terminated,
            b"trying" => Lamp::Trying,
            b"proceeding" => Lamp::Proceeding,
            b"early" => Lamp::Early,
            b"confirmed" if memchr::memmem::find(body, b"\"+sip.rendering\"").is_some() => {
                Lamp::Held
            }
            b"confirmed" => Lamp::Confirmed,
            _ => return None,
        })
    }

    fn read_presence(body: &[u8]) -> Option<Lamp> {
        let busy = [&b":on-the-phone"[..], b":busy"]
            .iter()
            .any(|activity| memchr::memmem::find(body, activity).is_some());
        Some(match element(body, b"<basic")? {
            b"open" if busy => Lamp::Busy,
            b"open" => Lamp::Open,
            b"closed" => Lamp::Closed,
            _ => return None,
        })
    }

    fn read_mailbox(body: &[u8]) -> Option<Lamp> {
        let waiting = after(body, b"Messages-Waiting:")?.trim_ascii_start();
        if waiting.starts_with(b"no") {
            return Some(Lamp::Messages(0));
        }
        let counts = after(body, b"Voice-Message:")?.trim_ascii_start();
        let end = memchr::memchr(b'/', counts)?;
        number(&counts[..end]).map(Lamp::Messages)
    }
}

/// The version that a dialog-info document carries.
pub fn version(body: &[u8]) -> Option<u32> {
    let root = after(body, b"<dialog-info")?;
    let root = &root[..memchr::memchr(b'>', root)?];
    let value = after(root, b"version=\"")?;
    number(&value[..memchr::memchr(b'"', value)?])
}

/// The text of the first element whose start tag begins so.
fn element<'a>(body: &'a [u8], open: &[u8]) -> Option<&'a [u8]> {
    let inside = after(body, open)?;
    // `<state` is also how the attribute-free `<statement>` would begin: a name ends with a space or a bracket.
    if !matches!(inside.first(), Some(b'>' | b' ')) {
        return None;
    }
    let text = &inside[memchr::memchr(b'>', inside)? + 1..];
    Some(text[..memchr::memchr(b'<', text)?].trim_ascii())
}

fn after<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    memchr::memmem::find(text, what).map(|position| &text[position + what.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lamp_is_read_from_each_kind_of_document() {
        let dialog = b"<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"urn:x\" version=\"17\" state=\"full\" entity=\"sip:a@b\">\
            <dialog id=\"d\"><state event=\"x\">early</state></dialog></dialog-info>";
        assert_eq!(Lamp::read(Package::Dialog, dialog), Some(Lamp::Early));
        assert_eq!(version(dialog), Some(17));
        let presence =
            b"<presence><tuple id=\"t\"><status><basic>open</basic></status></tuple></presence>";
        assert_eq!(Lamp::read(Package::Presence, presence), Some(Lamp::Open));
        let mailbox = b"Messages-Waiting: yes\r\nVoice-Message: 3/1 (0/0)\r\n";
        assert_eq!(
            Lamp::read(Package::MessageSummary, mailbox),
            Some(Lamp::Messages(3))
        );
        assert_eq!(
            Lamp::read(Package::Dialog, b"<dialog-info version=\"1\">"),
            None
        );
    }

    #[test]
    fn consecutive_states_never_show_alike() {
        for package in [Package::Dialog, Package::Presence, Package::MessageSummary] {
            for step in 0..7 {
                let lamp = match State::cycle(package, step) {
                    State::Idle if package == Package::Presence => Lamp::Open,
                    State::Idle => Lamp::Terminated,
                    State::Unavailable => Lamp::Closed,
                    State::Ringing => Lamp::Early,
                    State::InUse => Lamp::Confirmed,
                    State::Hold => Lamp::Held,
                    State::Messages(count) => Lamp::Messages(count),
                };
                assert!(State::cycle(package, step).shows_as(package, lamp));
                assert!(!State::cycle(package, step + 1).shows_as(package, lamp));
            }
        }
    }
}
