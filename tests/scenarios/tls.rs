//! TLS between the phones of scenarios and their shards: the server's own session on one end, another of the same library
//! on the other. Each connection shakes hands anew.

use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use lampfield::uring::stream::session::{Heard, Session};
use lampfield_sim::script::connections::{Cover, Covers};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::certificate::{Authority, NAME};

/// Covers with one certificate.
pub fn covers() -> Covers {
    let authority = Authority::new();
    let (client, server) = (authority.client(None), authority.issue(&[NAME]).server());
    Rc::new(move || {
        let name = ServerName::try_from(NAME).expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&client), name).expect("a session");
        client.set_buffer_limit(None);
        Box::new(Tls {
            client,
            server: Session::new(Arc::clone(&server)).expect("a session"),
        })
    })
}

struct Tls {
    client: ClientConnection,
    server: Session,
}

/// What the server has made of what came.
#[derive(Default)]
struct Came {
    pieces: Vec<Vec<u8>>,
    ended: bool,
}

impl Tls {
    /// Carries what both have to say, until neither has.
    fn pump(&mut self, cut: &mut dyn FnMut() -> usize) -> Result<Came, String> {
        let mut came = Came::default();
        loop {
            let mut up = Vec::new();
            while self.client.wants_write() {
                self.client
                    .write_tls(&mut up)
                    .map_err(|error| error.to_string())?;
            }
            let mut rest = &up[..];
            while !rest.is_empty() {
                let (mut piece, after) = rest.split_at(cut().min(rest.len()));
                rest = after;
                self.hear(&mut piece, cut, &mut came)?;
            }
            let mut down = Vec::new();
            self.server.flush(&mut down);
            self.read(&down, cut)?;
            if up.is_empty() && down.is_empty() {
                return Ok(came);
            }
        }
    }

    /// The server's end takes one piece.
    fn hear(
        &mut self,
        cipher: &mut &[u8],
        cut: &mut dyn FnMut() -> usize,
        came: &mut Came,
    ) -> Result<(), String> {
        loop {
            let mut plain = vec![0; cut()];
            match self.server.decipher(cipher, &mut plain) {
                Heard::Bytes(0) => return Ok(()),
                Heard::Bytes(length) => came.pieces.push(plain[..length].to_vec()),
                Heard::End => {
                    came.ended = true;
                    return Ok(());
                }
                Heard::Refused => return Err("the server refuses what comes".to_string()),
            }
        }
    }

    /// The phone's end takes what comes, cut; what is clear stays with it.
    fn read(&mut self, cipher: &[u8], cut: &mut dyn FnMut() -> usize) -> Result<(), String> {
        let mut rest = cipher;
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(cut().min(rest.len()));
            rest = after;
            while !piece.is_empty() {
                self.client
                    .read_tls(&mut piece)
                    .map_err(|error| error.to_string())?;
                self.client
                    .process_new_packets()
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// What is clear at the phone; and whether nothing follows.
    fn clear(&mut self) -> Result<(Vec<u8>, bool), String> {
        let mut plain = Vec::new();
        match self.client.reader().read_to_end(&mut plain) {
            Ok(_) => Ok((plain, true)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((plain, false)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Cover for Tls {
    fn up(&mut self, plain: &[u8], cut: &mut dyn FnMut() -> usize) -> Result<Vec<Vec<u8>>, String> {
        let written = self.client.writer().write_all(plain);
        written.map_err(|error| error.to_string())?;
        Ok(self.pump(cut)?.pieces)
    }

    fn down(&mut self, plain: &[u8], cut: &mut dyn FnMut() -> usize) -> Result<Vec<u8>, String> {
        self.server.encipher(plain);
        let mut cipher = Vec::new();
        self.server.flush(&mut cipher);
        if cipher.windows(7).any(|seven| seven == b"SIP/2.0") {
            return Err("what is enciphered can be read".to_string());
        }
        self.read(&cipher, cut)?;
        Ok(self.clear()?.0)
    }

    fn end(&mut self) -> Result<(), String> {
        self.client.send_close_notify();
        match self.pump(&mut || 4096)?.ended {
            true => Ok(()),
            false => Err("the server has not heard the end".to_string()),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        self.server.close();
        let mut cipher = Vec::new();
        self.server.flush(&mut cipher);
        self.read(&cipher, &mut || 4096)?;
        match self.clear()?.1 {
            true => Ok(()),
            false => Err("the phone was not told the end".to_string()),
        }
    }
}
