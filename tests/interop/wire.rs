//! What lies between an edge and the server: connections go through it until the test cuts it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// It lasts as long as the test program.
pub struct Wire {
    /// Who connects here is connected to the server.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    /// Both ends of every connection.
    ends: Vec<TcpStream>,
}

impl Wire {
    pub fn to(server: SocketAddr) -> Wire {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for edge in listener.incoming() {
                let edge = edge.expect("it can be accepted");
                let mut state = shared.lock().expect("nobody panics");
                // Who comes while it is cut is sent away.
                if !state.is_cut {
                    let server = TcpStream::connect(server).expect("the server listens");
                    carry(&edge, &server);
                    carry(&server, &edge);
                    state.ends.extend([edge, server]);
                }
            }
        });
        Wire { address, state }
    }

    /// Every connection ends, and there is none before it is mended.
    pub fn cut(&self) {
        let mut state = self.state();
        state.is_cut = true;
        for end in state.ends.drain(..) {
            // It may have ended before.
            let _ended = end.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.state().is_cut = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics")
    }
}

/// One direction, whose end is the end of both.
fn carry(from: &TcpStream, to: &TcpStream) {
    let another = |stream: &TcpStream| stream.try_clone().expect("a descriptor is free");
    let (mut from, mut to) = (another(from), another(to));
    thread::spawn(move || {
        let _carried = io::copy(&mut from, &mut to);
        for end in [from, to] {
            let _ended = end.shutdown(Shutdown::Both);
        }
    });
}
