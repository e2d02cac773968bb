//! TLS of one connection: bytes to bytes. What comes in is deciphered into a buffer of the thread's, what goes out is
//! enciphered behind what is on its way. It reads no socket, and holds no more than one record and the handshake.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use webpki::EndEntityCert;

use crate::config::limits;

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
pub struct Session {
    connection: ServerConnection,
    /// What its peer has proved has been asked for.
    asked: bool,
}

impl Session {
    /// None: the configuration does not allow any.
    pub fn new(config: Arc<ServerConfig>) -> Option<Session> {
        let mut connection = ServerConnection::new(config).ok()?;
        // What waits is bounded by the shard.
        connection.set_buffer_limit(None);
        Some(Session {
            connection,
            asked: false,
        })
    }

    /// The host names that the peer's certificate proves: told once, when the handshake is over. Whoever shows one has been
    /// verified.
    pub fn proven(&mut self) -> Vec<Box<str>> {
        if self.asked || self.connection.is_handshaking() {
            return Vec::new();
        }
        self.asked = true;
        let chain = self.connection.peer_certificates().unwrap_or_default();
        chain.first().map(names_of).unwrap_or_default()
    }

    /// Takes from `cipher` what fits, and puts what is clear now into `plain`. Called again while either has something.
    pub fn decipher(&mut self, cipher: &mut &[u8], plain: &mut [u8]) -> Heard {
        let mut heard = self.read_plain(plain);
        while heard == Heard::Bytes(0) && !cipher.is_empty() {
            let taken = self.connection.read_tls(cipher);
            if !matches!(taken, Ok(bytes) if bytes > 0)
                || self.connection.process_new_packets().is_err()
            {
                return Heard::Refused;
            }
            heard = self.read_plain(plain);
        }
        heard
    }

    fn read_plain(&mut self, plain: &mut [u8]) -> Heard {
        match self.connection.reader().read(plain) {
            Ok(0) => Heard::End,
            Ok(bytes) => Heard::Bytes(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Bytes(0),
            Err(_) => Heard::Refused,
        }
    }

    /// Enciphers some bytes.
    pub fn encipher(&mut self, plain: &[u8]) {
        let written = self.connection.writer().write_all(plain);
        assert!(written.is_ok(), "a session without a limit takes all");
    }

    /// Says that nothing more will come.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Appends everything that is to go out.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let written = self.connection.write_tls(out);
            assert!(written.is_ok(), "memory takes all");
        }
    }
}

/// The names of a certificate as SIP reads them: those of its SIP URIs, or else its DNS names. A wildcard is no name of
/// anybody.
//= RFC 5922 7.1
fn names_of(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let domain = |uri: &str| {
        let scheme = uri.get(..4)?;
        let domain = uri.get(4..)?;
        let is_domain = scheme.eq_ignore_ascii_case("sip:") && !domain.contains('@');
        is_domain.then(|| Box::from(domain))
    };
    let domains = parsed.valid_uri_names().filter_map(domain);
    let domains: Vec<Box<str>> = domains.take(limits::CERTIFICATE_NAMES).collect();
    if !domains.is_empty() {
        return domains;
    }
    let names = parsed.valid_dns_names().map(Box::from);
    names.take(limits::CERTIFICATE_NAMES).collect()
}
