//! CPU of a shard's thread for one round trip over loopback, with so many of them in flight.
//!
//! `bare`: a datagram of 900 bytes out and its answer of 350 in, on a ring driven by hand: what the kernel
//! and the ring cost. `shard`: a whole shard that answers OPTIONS, with its loop and its SIP.
//! The peer is a bare ring on a thread of its own. `cargo bench --bench edge`; it pins to CPU 0 and 1.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lampfield::arena::{Arena, SlotSize};
use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::shard::Shard;
use lampfield::shard::effects::{Effects, Send, SendTag};
use lampfield::shard::input::Input;
use lampfield::shard::settings::Settings;
use lampfield::transport::{Flow, Listener, ListenerId};
use lampfield::uring::drive::{Plan, start};
use lampfield::uring::post::{eventfd, office};
use lampfield::uring::ring::{Ring, RingOptions};
use lampfield::uring::socket::{self, ListenerSocket, SocketOptions};
use lampfield::uring::{clock, pin};

const LISTENER: ListenerId = ListenerId(1);
const ROUND_TRIPS: u64 = 300_000;

fn main() {
    for in_flight in [1, 16, 64, 256, 1000] {
        let count = if in_flight == 1 {
            ROUND_TRIPS / 10
        } else {
            ROUND_TRIPS
        };
        report("bare", in_flight, count, bare(in_flight, count));
        report("shard", in_flight, count, shard(in_flight, count));
    }
}

fn report(what: &str, in_flight: u64, count: u64, (cpu, enters): (Duration, u64)) {
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    let enters = enters as f64 / count as f64;
    println!("{what:5} {in_flight:4} in flight: {each:.2} us per round trip, {enters:.3} enters");
}

/// The peer begins `in_flight` round trips; each thing that comes is answered with 900 bytes.
fn bare(in_flight: u64, count: u64) -> (Duration, u64) {
    let socket = listener();
    let address = socket.address();
    let peer = thread::spawn(move || {
        pin::pin_this_thread(1).unwrap();
        End::new(listener()).begin(address, &[0; 350], in_flight, count);
    });
    let named = thread::Builder::new().name("bare".into());
    let run = move || {
        pin::pin_this_thread(0).unwrap();
        let mut end = End::new(socket);
        let before = cpu_of("bare");
        end.answer_all(&[0; 900], count, count);
        (cpu_of("bare") - before, end.ring.counters().enters)
    };
    let measured = named.spawn(run).unwrap();
    peer.join().unwrap();
    measured.join().unwrap()
}

/// The same with OPTIONS, which the shard answers.
fn shard(in_flight: u64, count: u64) -> (Duration, u64) {
    let socket = listener();
    let address = socket.address();
    let (mut mailboxes, control) = office(1).unwrap();
    let plan = Plan {
        mailbox: mailboxes.pop().unwrap(),
        listeners: vec![(LISTENER, socket.into())],
        ring: RingOptions::default(),
        doors: Arc::default(),
        cpu: Some(0),
    };
    let settings = settings(address);
    let thread = start(plan, move || Shard::new(settings, clock::now())).unwrap();
    let begun = cpu_of("shard-0");
    let peer = thread::spawn(move || {
        pin::pin_this_thread(1).unwrap();
        let socket = listener();
        let text = options(socket.address(), address);
        End::new(socket).begin(address, text.as_bytes(), in_flight, count);
    });
    peer.join().unwrap();
    let cpu = cpu_of("shard-0") - begun;
    control.shard(ShardId(0)).stop();
    (cpu, thread.join().ring.enters)
}

/// A ring driven by hand.
struct End {
    ring: Ring,
    bell: File,
    arena: Arena,
    effects: Effects,
}

impl End {
    fn new(socket: Arc<ListenerSocket>) -> End {
        let bell = eventfd().unwrap();
        let mut ring = Ring::new(&RingOptions::default(), bell.as_fd()).unwrap();
        ring.arm(LISTENER, socket).unwrap();
        ring.announce(false);
        ring.submit().unwrap();
        End {
            ring,
            bell: blocking(bell),
            arena: Arena::new(10_000, 1),
            effects: Effects::new(1),
        }
    }

    fn begin(&mut self, to: SocketAddr, bytes: &[u8], in_flight: u64, count: u64) {
        let flow = Flow {
            listener: LISTENER,
            local: None,
            peer: to,
            connection: None,
        };
        for _ in 0..in_flight {
            put(&mut self.arena, &flow, bytes, &mut self.effects);
        }
        self.answer_all(bytes, count, count - in_flight);
    }

    /// Takes `count` datagrams, and answers the first `answers` of them.
    fn answer_all(&mut self, bytes: &[u8], count: u64, answers: u64) {
        let mut taken = 0;
        while taken < count || !self.effects.is_empty() {
            let End {
                ring,
                arena,
                effects,
                ..
            } = self;
            ring.offer(arena, effects).unwrap();
            ring.submit().unwrap();
            ring.settle(arena);
            ring.poll().unwrap();
            ring.reap(256, |input| {
                if let Input::Datagram { flow, .. } = input {
                    taken += 1;
                    if taken <= answers {
                        put(arena, &flow, bytes, effects);
                    }
                }
                ControlFlow::Continue(())
            });
            ring.retry(false);
            if taken < count && effects.is_empty() {
                self.wait();
            }
        }
    }

    fn wait(&mut self) {
        self.ring.announce(true);
        if !self.ring.is_pending() {
            let mut rings = [0; 8];
            self.bell.read_exact(&mut rings).unwrap();
        }
        self.ring.announce(false);
    }
}

/// Reading it waits. The standard library offers this on sockets only, and asks nothing of what it is given.
fn blocking(bell: OwnedFd) -> File {
    let bell = UdpSocket::from(bell);
    bell.set_nonblocking(false).unwrap();
    File::from(OwnedFd::from(bell))
}

fn put(arena: &mut Arena, flow: &Flow, bytes: &[u8], effects: &mut Effects) {
    let slot = arena.take(SlotSize::Small).unwrap();
    arena.buffer(slot)[..bytes.len()].copy_from_slice(bytes);
    arena.set_len(slot, bytes.len());
    effects.sends.push(Send {
        slot,
        listener: flow.listener,
        source: flow.local,
        peer: flow.peer,
        tag: SendTag::NONE,
    });
    effects.released.push(slot);
}

fn listener() -> Arc<ListenerSocket> {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut sockets = socket::open(any, 1, &SocketOptions::default()).unwrap();
    sockets.pop().unwrap()
}

fn options(from: SocketAddr, to: SocketAddr) -> String {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK7;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@{from}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: 1\r\n\
         CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

fn settings(address: SocketAddr) -> Settings {
    let secrets = Secrets::new([1; 32]);
    let policy = PolicySettings {
        gates: vec![GateSettings::default()],
        ..PolicySettings::default()
    };
    let policy = Policy::new(&policy, &secrets, None).expect("the defaults are sound");
    let listener = Listener::new(LISTENER, address, 0);
    let policy = Arc::new(policy);
    Settings::new(ShardId(0), 1, secrets, [2; 16], vec![listener], policy)
}

/// The time that the thread of this name has run, as the scheduler counts it.
fn cpu_of(name: &str) -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if std::fs::read_to_string(task.join("comm")).unwrap().trim() == name {
            let times = std::fs::read_to_string(task.join("schedstat")).unwrap();
            let nanos = times.split_ascii_whitespace().next().unwrap();
            return Duration::from_nanos(nanos.parse().unwrap());
        }
    }
    panic!("no thread {name}");
}
