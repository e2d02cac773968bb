//! Speaks TLS for a program that cannot: what comes to a port of loopback in the clear goes on to a server enciphered,
//! each connection by one of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// What both directions of a connection share.
type Session = Arc<Mutex<ClientConnection>>;

/// Begins; the address that it listens on. It lasts as long as the test program.
pub fn relay(server: SocketAddr, name: &'static str, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind((server.ip(), 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for clear in listener.incoming() {
            let clear = clear.expect("it can be accepted");
            let secured = TcpStream::connect(server).expect("the server listens");
            let name = ServerName::try_from(name).expect("a name");
            let session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
            join(clear, secured, session);
        }
    });
    address
}

/// Whichever direction ends takes the other along.
fn join(clear: TcpStream, secured: TcpStream, session: ClientConnection) {
    let session = Arc::new(Mutex::new(session));
    let another = |stream: &TcpStream| stream.try_clone().expect("a descriptor is free");
    let (up_clear, up_secured, up_session) =
        (another(&clear), another(&secured), Arc::clone(&session));
    thread::spawn(move || {
        let _ended = carry_up(&up_clear, &up_secured, &up_session);
        let _ended = up_secured.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ended = carry_down(&clear, &secured, &session);
        let _ended = clear.shutdown(Shutdown::Both);
    });
}

fn carry_up(mut clear: &TcpStream, secured: &TcpStream, session: &Session) -> io::Result<()> {
    // The handshake begins before anything is to be said.
    write(&mut session.lock().expect("nobody panics"), secured)?;
    let mut buffer = [0; 8192];
    loop {
        let length = clear.read(&mut buffer)?;
        let mut session = session.lock().expect("nobody panics");
        match length {
            0 => session.send_close_notify(),
            _ => session.writer().write_all(&buffer[..length])?,
        }
        write(&mut session, secured)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn carry_down(mut clear: &TcpStream, mut secured: &TcpStream, session: &Session) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        let length = secured.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut plain = Vec::new();
        let mut session = session.lock().expect("nobody panics");
        let mut cipher = &buffer[..length];
        while !cipher.is_empty() {
            session.read_tls(&mut cipher)?;
            let processed = session.process_new_packets();
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            match session.reader().read_to_end(&mut plain) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        write(&mut session, secured)?;
        drop(session);
        clear.write_all(&plain)?;
    }
}

fn write(session: &mut ClientConnection, mut secured: &TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut secured)?;
    }
    Ok(())
}
