//! The header text that is a dialog's own, one part after the other in one allocation.

/// What is kept of a dialog's text. URIs and addresses stand as their owners wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The Call-ID.
    CallId,
    /// The value of From in the SUBSCRIBE: the watcher, its tag included. It is To in every NOTIFY.
    Remote,
    /// The value of To in the SUBSCRIBE, without our tag. It is From in every NOTIFY.
    Local,
    /// The Request-URI of the SUBSCRIBE: the entity of every document.
    Entity,
    /// The `id` parameter of Event; empty if there is none.
    EventId,
    /// The Request-URI of every NOTIFY: the watcher's Contact, or the first Route of a strict router.
    Target,
    /// The Route header lines of every NOTIFY, line ends included; empty without a route set.
    Routes,
}

const PARTS: usize = 7;

/// The parts of one dialog.
#[derive(Clone, Debug)]
pub struct Text {
    bytes: Box<[u8]>,
    ends: [u16; PARTS],
}

impl Text {
    /// From the parts in the order of [`Part`]. None: together they are longer than any request that is read.
    pub fn new(parts: [&[u8]; PARTS]) -> Option<Text> {
        let length = parts.iter().map(|part| part.len()).sum();
        u16::try_from(length).ok()?;
        let mut bytes = Vec::with_capacity(length);
        let ends = parts.map(|part| {
            bytes.extend_from_slice(part);
            bytes.len() as u16
        });
        Some(Text {
            bytes: bytes.into_boxed_slice(),
            ends,
        })
    }

    /// One part.
    pub fn part(&self, part: Part) -> &[u8] {
        let index = part as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[usize::from(start)..usize::from(self.ends[index])]
    }

    /// All parts, in the order of [`Part`].
    pub fn parts(&self) -> [&[u8]; PARTS] {
        let mut start = 0;
        self.ends.map(|end| {
            let part = &self.bytes[start..usize::from(end)];
            start = usize::from(end);
            part
        })
    }

    /// The same with another target: what a refresh with a new Contact does (RFC 3261 12.2.1.2).
    pub fn with_target(&self, target: &[u8]) -> Option<Text> {
        Text::new([
            self.part(Part::CallId),
            self.part(Part::Remote),
            self.part(Part::Local),
            self.part(Part::Entity),
            self.part(Part::EventId),
            target,
            self.part(Part::Routes),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_reads_back_and_only_the_target_changes() {
        let text = Text::new([
            b"call",
            b"<sip:a@x>;tag=1",
            b"<sip:b@x>",
            b"sip:b@x",
            b"",
            b"sip:a@192.0.2.1",
            b"",
        ])
        .unwrap();
        let moved = text.with_target(b"sip:a@192.0.2.1:5062;ob").unwrap();
        for (part, before, after) in [
            (Part::CallId, &b"call"[..], &b"call"[..]),
            (Part::Remote, b"<sip:a@x>;tag=1", b"<sip:a@x>;tag=1"),
            (Part::EventId, b"", b""),
            (Part::Target, b"sip:a@192.0.2.1", b"sip:a@192.0.2.1:5062;ob"),
            (Part::Routes, b"", b""),
        ] {
            assert_eq!(
                (text.part(part), moved.part(part)),
                (before, after),
                "{part:?}"
            );
        }
    }

    #[test]
    fn text_longer_than_a_datagram_is_refused() {
        let long = [b'a'; 40_000];
        assert!(Text::new([&long, &long, b"", b"", b"", b"", b""]).is_none());
    }
}
