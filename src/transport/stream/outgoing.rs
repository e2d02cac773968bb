//! What is on its way out by a connection, and how the connection ends: each side says that it says nothing more, and
//! what was to be written before that is. Pure: the socket is its caller's, and so is the cipher.

use crate::time::Time;

/// The outgoing side of one connection.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// What is to be written; what was is still at its beginning. Empty, and without memory, when all is.
    bytes: Vec<u8>,
    written: usize,
    /// Bytes of the shard's that are in `bytes`, enciphered or not, and were not said to be written.
    unsaid: usize,
    /// Nothing more is accepted to be written, and until when it may go on.
    closing: Option<Time>,
    /// Our side has ended.
    shut: bool,
    /// The peer says nothing more.
    ended: bool,
}

impl Outgoing {
    /// Something of the shard's is to be written as it is.
    pub fn append(&mut self, plain: &[u8]) {
        self.unsaid += plain.len();
        self.bytes.extend_from_slice(plain);
    }

    /// So many bytes of the shard's are to be written in another form, which is appended to the buffer.
    pub fn append_as(&mut self, plain: usize) -> &mut Vec<u8> {
        self.unsaid += plain;
        &mut self.bytes
    }

    /// What can be written now.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So many bytes of that have been taken.
    pub fn take(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.bytes.len() {
            self.bytes = Vec::new();
            self.written = 0;
        }
    }

    /// No more is taken for now: what was is forgotten. The bytes of the shard's that `taken` bytes stood for.
    pub fn settle(&mut self, taken: usize) -> usize {
        self.bytes.drain(..self.written);
        self.written = 0;
        // Enciphered, a message is longer, and when all is out, all of it is.
        let said = match self.bytes.is_empty() {
            true => self.unsaid,
            false => taken.min(self.unsaid.saturating_sub(1)),
        };
        self.unsaid -= said;
        said
    }

    /// From now on only what is on its way is written, until then. True: it had not been told before.
    pub fn close(&mut self, until: Time) -> bool {
        let first = self.closing.is_none();
        self.closing.get_or_insert(until);
        first
    }

    /// Until when it lasts at most, if it was closed.
    pub fn lingers_until(&self) -> Option<Time> {
        self.closing
    }

    /// Whether our side is to end now: it was closed, and all is written. It says so once.
    pub fn ends(&mut self) -> bool {
        let ends = self.closing.is_some() && !self.shut && self.bytes.is_empty();
        self.shut |= ends;
        ends
    }

    /// The peer says nothing more; it may still read.
    pub fn hear_end(&mut self) {
        self.ended = true;
    }

    /// Whether neither side has anything more to say.
    pub fn is_over(&self) -> bool {
        self.ended && self.shut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_be_written_is_before_our_side_ends_and_both_sides_are_waited_for() {
        let until = Time::from_millis(5_000);
        let mut out = Outgoing::default();
        out.append(b"abcdef");
        out.take(4);
        assert_eq!((out.settle(4), out.rest()), (4, &b"ef"[..]));
        assert!(!out.ends());
        assert!(out.close(until) && !out.close(Time::from_millis(9_000)));
        assert_eq!(out.lingers_until(), Some(until));
        assert!(!out.ends());
        out.take(2);
        assert_eq!(out.settle(2), 2);
        assert!(out.ends() && !out.ends() && !out.is_over());
        out.hear_end();
        assert!(out.is_over());
    }

    #[test]
    fn whoever_ends_first_is_still_told_what_is_on_its_way() {
        let mut out = Outgoing::default();
        out.append(b"abc");
        out.hear_end();
        assert!(!out.ends() && !out.is_over());
        assert_eq!(out.rest(), b"abc");
        out.close(Time::from_millis(1));
        out.take(3);
        assert!(out.ends() && out.is_over());
    }

    #[test]
    fn of_what_is_enciphered_all_is_said_to_be_written_when_all_is_and_not_before() {
        let mut out = Outgoing::default();
        out.append_as(10).extend_from_slice(&[0; 32]);
        out.take(20);
        assert_eq!(out.settle(20), 9);
        out.take(12);
        assert_eq!(out.settle(12), 1);
        // A handshake is nobody's.
        out.append_as(0).extend_from_slice(&[0; 8]);
        out.take(8);
        assert_eq!(out.settle(8), 0);
    }
}
