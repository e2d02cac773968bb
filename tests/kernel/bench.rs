//! What the tests share: a ring with all that belongs to it, and plain sockets as its peers.

use std::net::{SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use lampfield::arena::{Arena, SlotSize};
use lampfield::shard::effects::{Effects, Send, SendTag};
use lampfield::shard::input::Input;
use lampfield::transport::{Flow, ListenerId};
use lampfield::uring::post::eventfd;
use lampfield::uring::ring::{Ring, RingOptions};
use lampfield::uring::socket::{self, ListenerSocket, SocketOptions};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Held by every test for reading, and for writing by the one that counts descriptors.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// To be held by every test that opens descriptors.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    DESCRIPTORS
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// To be held by a test that counts descriptors.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    DESCRIPTORS
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How many descriptors this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The only listener of most tests.
pub const LISTENER: ListenerId = ListenerId(7);

/// What a bench has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Datagram {
        flow: Flow,
        bytes: Vec<u8>,
        truncated: bool,
    },
    Failed {
        tag: SendTag,
        errno: i32,
    },
}

/// One ring, driven by hand.
pub struct Bench {
    pub ring: Ring,
    pub arena: Arena,
    pub effects: Effects,
    eventfd: OwnedFd,
}

impl Bench {
    pub fn new(options: &RingOptions) -> Bench {
        let eventfd = eventfd().unwrap();
        Bench {
            ring: Ring::new(options, eventfd.as_fd()).unwrap(),
            arena: Arena::new(1000, 100),
            effects: Effects::new(1),
            eventfd,
        }
    }

    /// A bench that already receives on `address`, and the address that it got.
    pub fn listening(options: &RingOptions, address: &str) -> (Bench, SocketAddr) {
        let mut bench = Bench::new(options);
        let socket = open(address);
        let address = socket.address();
        bench.ring.arm(LISTENER, socket).unwrap();
        (bench, address)
    }

    /// Wants a datagram sent; the slot is given up at once, as for an answer.
    pub fn send(&mut self, flow: &Flow, bytes: &[u8], tag: SendTag) {
        let slot = self
            .arena
            .take(SlotSize::fitting(bytes.len()).unwrap())
            .unwrap();
        self.arena.buffer(slot)[..bytes.len()].copy_from_slice(bytes);
        self.arena.set_len(slot, bytes.len());
        self.effects.sends.push(Send {
            slot,
            listener: flow.listener,
            source: flow.local,
            peer: flow.peer,
            tag,
        });
        self.effects.released.push(slot);
    }

    /// Sends what is wanted and takes what has come.
    pub fn turn(&mut self) -> Vec<Told> {
        self.ring.retry(false);
        self.ring.offer(&self.arena, &mut self.effects).unwrap();
        self.ring.enter().unwrap();
        self.ring.settle(&mut self.arena);
        let mut told = Vec::new();
        self.ring.reap(usize::MAX, |input| {
            told.push(tell(&input));
            ControlFlow::Continue(())
        });
        told
    }

    /// Turns until `count` things have been told; waits on the eventfd in between.
    pub fn turn_until(&mut self, count: usize) -> Vec<Told> {
        let mut told = self.turn();
        while told.len() < count {
            if !self.ring.is_pending() {
                self.wait();
            }
            told.extend(self.turn());
        }
        told
    }

    /// Waits until the ring announces something.
    pub fn wait(&self) {
        let mut poll = libc::pollfd {
            fd: self.eventfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live entry.
        let ready = unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as i32) };
        assert_eq!(ready, 1, "nothing has been announced");
        let mut count = 0_u64;
        // SAFETY: eight live bytes.
        let read = unsafe { libc::read(poll.fd, (&raw mut count).cast(), 8) };
        assert_eq!(read, 8);
    }
}

fn tell(input: &Input<'_>) -> Told {
    match input {
        Input::Datagram {
            flow,
            bytes,
            truncated,
            forwarded,
        } => {
            assert!(!forwarded);
            Told::Datagram {
                flow: *flow,
                bytes: bytes.to_vec(),
                truncated: *truncated,
            }
        }
        Input::SendFailed { tag, errno } => Told::Failed {
            tag: *tag,
            errno: *errno,
        },
        Input::Opened { .. }
        | Input::Proved { .. }
        | Input::Stream { .. }
        | Input::Written { .. }
        | Input::Ended { .. }
        | Input::Closed { .. }
        | Input::ToSend { .. }
        | Input::Mail(_)
        | Input::Turn { .. }
        | Input::Tick { .. } => panic!("a ring tells of nothing like it: {input:?}"),
    }
}

/// The bytes of a datagram.
pub fn payload(told: &Told) -> &[u8] {
    match told {
        Told::Datagram { bytes, .. } => bytes,
        Told::Failed { .. } => panic!("a datagram was expected: {told:?}"),
    }
}

/// The flow of a datagram.
pub fn flow_of(told: &Told) -> Flow {
    match told {
        Told::Datagram { flow, .. } => *flow,
        Told::Failed { .. } => panic!("a datagram was expected: {told:?}"),
    }
}

/// One socket on `address`.
pub fn open(address: &str) -> Arc<ListenerSocket> {
    let address = address.parse().unwrap();
    let mut sockets = socket::open(address, 1, &SocketOptions::default()).unwrap();
    sockets.pop().unwrap()
}

/// A peer that talks to `listener` only.
pub fn peer(address: &str, listener: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.connect(listener).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram at a peer.
pub fn receive(peer: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_536];
    let length = peer.recv(&mut buffer).expect("a datagram");
    buffer[..length].to_vec()
}

/// Sends numbers with at most `window` of them unanswered, and checks that each comes back once.
pub fn count_up(peer: &UdpSocket, count: u32, window: u32) {
    let read = |answer: &[u8]| u32::from_le_bytes(answer.try_into().unwrap());
    number_up(peer, count, window, |number| number.to_le_bytes(), read);
}

/// As `count_up`, with numbers that `write` packs into a datagram and `read` finds in its answer.
pub fn number_up<T: AsRef<[u8]>>(
    peer: &UdpSocket,
    count: u32,
    window: u32,
    write: impl Fn(u32) -> T,
    read: impl Fn(&[u8]) -> u32,
) {
    let mut seen = vec![false; count as usize];
    let mut see = || {
        let number = read(&receive(peer));
        let before = std::mem::replace(&mut seen[number as usize], true);
        assert!(!before, "{number} came twice");
    };
    for number in 0..count {
        if number >= window {
            see();
        }
        peer.send(write(number).as_ref()).unwrap();
    }
    for _ in 0..count.min(window) {
        see();
    }
}
