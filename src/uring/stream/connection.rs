//! One connection: its socket, and what is on its way out.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use socket2::SockRef;

use super::doors::Place;
use super::session::{Heard, Session};
use crate::time::Time;
use crate::transport::ListenerId;
use crate::transport::stream::{CloseCode, ControlFrame, Outgoing};

/// How far writing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    All,
    /// The kernel takes no more for now; the socket is to be waited for, unless that has begun before.
    Some,
    Failed,
}

pub(super) struct Connection {
    /// As its listener was called when it came.
    listener: ListenerId,
    socket: Rc<OwnedFd>,
    session: Option<Box<Session>>,
    /// Among the connections of its source.
    place: Place,
    /// What goes out goes in frames of WebSocket.
    framed: bool,
    out: Outgoing,
    /// The kernel took no more, and a poll waits until it does.
    waits: bool,
}

impl Connection {
    pub(super) fn new(
        listener: ListenerId,
        socket: OwnedFd,
        session: Option<Session>,
        place: Place,
    ) -> Connection {
        Connection {
            listener,
            socket: Rc::new(socket),
            session: session.map(Box::new),
            place,
            framed: false,
            out: Outgoing::default(),
            waits: false,
        }
    }

    pub(super) fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Its first message has come.
    pub(super) fn heard(&mut self) {
        self.place.heard();
    }

    pub(super) fn descriptor(&self) -> &Rc<OwnedFd> {
        &self.socket
    }

    /// Until when it lasts at most, if it was closed.
    pub(super) fn lingers_until(&self) -> Option<Time> {
        self.out.lingers_until()
    }

    /// Reads without waiting; 0 is the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut &*SockRef::from(&*self.socket), buffer)
    }

    /// What came, in the clear, piece by piece; what TLS has to answer stands in what goes out.
    pub(super) fn decipher(&mut self, cipher: &mut &[u8], plain: &mut [u8]) -> Heard {
        let session = self
            .session
            .as_mut()
            .expect("only what is secure is deciphered");
        let heard = session.decipher(cipher, plain);
        session.flush(self.out.append_as(0));
        heard
    }

    /// The host names that its peer has proved, once.
    pub(super) fn proven(&mut self) -> Vec<Box<str>> {
        let session = self.session.as_mut();
        session.map(|session| session.proven()).unwrap_or_default()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        match &mut self.session {
            None => self.out.append(bytes),
            Some(session) => {
                session.encipher(bytes);
                session.flush(self.out.append_as(bytes.len()));
            }
        }
    }

    /// It is one of WebSocket, and has been opened as such.
    pub(super) fn speak_frames(&mut self) {
        self.framed = true;
    }

    /// A message of a WebSocket connection, behind the head of its frame.
    pub(super) fn append_framed(&mut self, head: &[u8], message: &[u8]) {
        self.append(head);
        self.append(message);
    }

    /// It is about to be ended by us, and its peer hears so where its protocol has words for it: as far as the kernel
    /// takes them at once.
    //= RFC 6455 7.4.1
    pub(super) fn say_farewell(&mut self) {
        if self.lingers_until().is_some() {
            return;
        }
        if self.framed {
            self.append(ControlFrame::close(CloseCode::GoingAway).as_bytes());
        }
        if let Some(session) = &mut self.session {
            session.close();
            session.flush(self.out.append_as(0));
        }
        self.write();
    }

    /// The poll for writing has completed.
    pub(super) fn can_write(&mut self) {
        self.waits = false;
    }

    /// Writes what the kernel takes, and says how many bytes of the shard's that were.
    pub(super) fn write(&mut self) -> (Taken, usize) {
        let (taken, bytes) = self.write_out();
        let said = self.out.settle(bytes);
        if self.out.ends() {
            // The peer reads what is on its way, and then the end; what it says meanwhile is read and
            // thrown away, since closing over it would take that from it again.
            let _ = SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write);
        }
        (taken, said)
    }

    fn write_out(&mut self) -> (Taken, usize) {
        let mut taken = 0;
        while !self.waits && !self.out.rest().is_empty() {
            match SockRef::from(&*self.socket).send_with_flags(self.out.rest(), SEND_FLAGS) {
                Ok(bytes) => {
                    self.out.take(bytes);
                    taken += bytes;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.waits = true;
                        return (Taken::Some, taken);
                    }
                    _ => return (Taken::Failed, taken),
                },
            }
        }
        (Taken::All, taken)
    }

    /// From now on it only writes what is on its way. True: it had not been told before.
    pub(super) fn close(&mut self, until: Time) -> bool {
        let first = self.out.close(until);
        if let Some(session) = self.session.as_mut().filter(|_| first) {
            session.close();
            session.flush(self.out.append_as(0));
        }
        first
    }

    /// The peer says nothing more; it may still read.
    pub(super) fn hear_end(&mut self) {
        self.out.hear_end();
    }

    /// Whether neither side has anything more to say.
    pub(super) fn is_over(&self) -> bool {
        self.out.is_over()
    }

    /// Ends both directions at once: every poll completes.
    pub(super) fn shut(&mut self) {
        // It fails where the peer has done so already.
        let _ = SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Both);
    }
}

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
