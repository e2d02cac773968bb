//! A phone's connection, by TCP, TLS or WebSocket: bytes in, whole messages out. It never waits, and knows nothing of
//! phones.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};

use crate::certificates::NAME;
use crate::web::Web;
use crate::wire::number;

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// A connection that is open, or was.
pub struct Line {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
    web: Option<Box<Web>>,
    /// What has come of a message whose rest has not.
    begun: Vec<u8>,
    /// Messages that are to be written.
    out: Vec<u8>,
    /// The same as they go into the session, or onto the wire: in the frames of WebSocket.
    framed: Vec<u8>,
    /// What is to be written as it goes out, and how much of it has.
    wire: Vec<u8>,
    written: usize,
}

impl Line {
    /// Connects from this address; a handshake begins, and goes on while the line is served. `web`: messages are in the
    /// frames of WebSocket.
    pub fn connect(
        from: IpAddr,
        to: SocketAddr,
        trust: Option<&Arc<ClientConfig>>,
        web: bool,
    ) -> io::Result<Self> {
        let session = match trust {
            None => None,
            Some(config) => {
                let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name);
                Some(Box::new(session.map_err(io::Error::other)?))
            }
        };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&to.into())?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Line {
            socket: socket.into(),
            session,
            web: web.then(|| Box::new(Web::new(to.to_string()))),
            begun: Vec::new(),
            out: Vec::new(),
            framed: Vec::new(),
            wire: Vec::new(),
            written: 0,
        })
    }

    pub fn here(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Where the next message is written: append to it, then `flush`.
    pub fn open(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// The certificate that the server has shown, once it has.
    pub fn shown(&self) -> Option<&[u8]> {
        let session = self.session.as_ref()?;
        let chain = session.peer_certificates()?;
        chain.first().map(|certificate| certificate.as_ref())
    }

    /// Whether it is open for messages: each handshake that there is is done.
    pub fn is_ready(&self) -> bool {
        let handshaking = |session: &ClientConnection| session.is_handshaking();
        let opening = |web: &Web| !web.is_open();
        !self.session.as_deref().is_some_and(handshaking)
            && !self.web.as_deref().is_some_and(opening)
    }

    /// Writes what the kernel takes. False: there is more.
    pub fn flush(&mut self) -> io::Result<bool> {
        match &mut self.web {
            None => self.framed.append(&mut self.out),
            Some(web) => web.write(&mut self.out, &mut self.framed),
        }
        match &mut self.session {
            None => self.wire.append(&mut self.framed),
            Some(session) => {
                if !session.is_handshaking() && !self.framed.is_empty() {
                    session.writer().write_all(&self.framed)?;
                    self.framed.clear();
                }
                while session.wants_write() {
                    session.write_tls(&mut self.wire)?;
                }
            }
        }
        while self.written < self.wire.len() {
            match self.socket.write(&self.wire[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.wire.clear();
        self.written = 0;
        Ok(true)
    }

    /// Appends what has come, beginning with what is left of before. False: the server says nothing more.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        into.append(&mut self.begun);
        let Some(web) = &mut self.web else {
            return self.receive_clear(into);
        };
        let mut came = std::mem::take(&mut web.came);
        let lasts = self.receive_clear(&mut came);
        let web = self.web.as_mut().expect("it was there");
        web.came = came;
        let goes_on = web.read(into);
        let goes_on = goes_on.map_err(|wrong| io::Error::other(format!("{wrong:?}")))?;
        Ok(lasts? && goes_on)
    }

    fn receive_clear(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        loop {
            let length = match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(session) = &mut self.session else {
                into.extend_from_slice(&buffer[..length]);
                continue;
            };
            let mut came = &buffer[..length];
            while !came.is_empty() {
                session.read_tls(&mut came)?;
                session.process_new_packets().map_err(io::Error::other)?;
                match session.reader().read_to_end(into) {
                    Ok(_) => return Ok(false),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// What of a message has come without its rest.
    pub fn keep(&mut self, rest: &[u8]) {
        self.begun.extend_from_slice(rest);
    }
}

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// How long the first message is; none while it is not whole (RFC 3261 18.3).
pub fn whole(bytes: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"\r\nContent-Length:";
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let length = match memchr::memmem::find(&bytes[..head], LENGTH) {
        None => 0,
        Some(at) => {
            let digits = &bytes[at + LENGTH.len()..head];
            let end = memchr::memchr(b'\r', digits).unwrap_or(digits.len());
            // What is no number makes a message that cannot be read.
            number(digits[..end].trim_ascii()).unwrap_or(0) as usize
        }
    };
    let all = head + 4 + length;
    (all <= bytes.len()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let text = b"SIP/2.0 200 OK\r\nContent-Length:  3\r\n\r\nabcNOTIFY x\r\n\r\n";
        assert_eq!(whole(text), Some(41));
        assert_eq!(whole(&text[41..]), Some(12));
        for cut in 0..41 {
            assert_eq!(whole(&text[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_written_arrives_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut line = Line::connect("127.0.1.9".parse().unwrap(), to, None, false).unwrap();
        let (mut other, from) = listener.accept().unwrap();
        assert_eq!(line.here().unwrap(), from);
        line.open().extend_from_slice(b"hello");
        assert!(line.flush().unwrap());
        let mut buffer = [0; 5];
        other.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        let mut came = Vec::new();
        assert!(line.receive(&mut came).unwrap() && came.is_empty());
        drop(other);
        let patience = std::time::Instant::now();
        while line.receive(&mut came).unwrap() {
            assert!(patience.elapsed().as_secs() < 10);
        }
    }
}
