//! TLS of one connection: bytes to bytes. What comes in is deciphered into a buffer of the thread's, what goes out is
//! enciphered behind what is on its way. It reads no socket, and holds no more than one record and the handshake.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

/// What the bytes that came were worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many bytes in the clear; 0: a part of the handshake, or of a record.
    Bytes(usize),
    /// The peer says nothing more.
    End,
    /// It is no TLS, or not acceptable; an alert stands in what goes out.
    Refused,
}

/// The server's end of one connection.
pub struct Session(ServerConnection);

impl Session {
    /// None: the configuration does not allow any.
    pub fn new(config: Arc<ServerConfig>) -> Option<Session> {
        let mut connection = ServerConnection::new(config).ok()?;
        // What waits is bounded by the shard.
        connection.set_buffer_limit(None);
        Some(Session(connection))
    }

    /// Takes from `cipher` what fits, and puts what is clear now into `plain`. Called again while either has something.
    pub fn decipher(&mut self, cipher: &mut &[u8], plain: &mut [u8]) -> Heard {
        let mut heard = self.read_plain(plain);
        while heard == Heard::Bytes(0) && !cipher.is_empty() {
            let taken = self.0.read_tls(cipher);
            if !matches!(taken, Ok(bytes) if bytes > 0) || self.0.process_new_packets().is_err() {
                return Heard::Refused;
            }
            heard = self.read_plain(plain);
        }
        heard
    }

    fn read_plain(&mut self, plain: &mut [u8]) -> Heard {
        match self.0.reader().read(plain) {
            Ok(0) => Heard::End,
            Ok(bytes) => Heard::Bytes(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Bytes(0),
            Err(_) => Heard::Refused,
        }
    }

    /// Enciphers some bytes.
    pub fn encipher(&mut self, plain: &[u8]) {
        let written = self.0.writer().write_all(plain);
        assert!(written.is_ok(), "a session without a limit takes all");
    }

    /// Says that nothing more will come.
    pub fn close(&mut self) {
        self.0.send_close_notify();
    }

    /// Appends everything that is to go out.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        while self.0.wants_write() {
            let written = self.0.write_tls(out);
            assert!(written.is_ok(), "memory takes all");
        }
    }
}
