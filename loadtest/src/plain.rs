//! Lampfield's own shard behind `sendmmsg` and `recvmmsg` instead of its ring: one thread, one socket,
//! hints by the stub's HTTP. It shows what of a server's price is the shard's and what is the edge's.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::shard::Shard;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::mail::Mail;
use lampfield::shard::settings::Settings;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId};

use crate::stub;
use crate::sys::{self, Inbox, Outbox};

struct Plain {
    shard: Shard,
    out: Effects,
    domain: String,
    start: Instant,
    now: Time,
    outbox: Outbox,
}

/// Serves until the process is ended.
pub fn serve(listen: SocketAddr, admin: SocketAddr) -> io::Result<()> {
    let socket = sys::bind(listen)?;
    let http = TcpListener::bind(admin)?;
    let (sender, changes) = mpsc::channel();
    thread::spawn(move || stub::serve_http(&http, &sender));
    Plain::new(listen).run(&socket, &changes)
}

impl Plain {
    fn new(listen: SocketAddr) -> Self {
        let secrets = Secrets::new([1; 32]);
        let settings = PolicySettings {
            gates: vec![GateSettings::default()],
            ..PolicySettings::default()
        };
        let policy = Policy::new(&settings, &secrets, None).expect("the defaults are sound");
        let domain = policy.domains().default_domain().to_owned();
        let listener = Listener::new(ListenerId(0), listen, 0);
        let settings = Settings::new(
            ShardId(0),
            1,
            secrets,
            [2; 16],
            vec![listener],
            Arc::new(policy),
        );
        let now = Time::from_millis(1000);
        Plain {
            shard: Shard::new(settings, now),
            out: Effects::new(1),
            domain,
            start: Instant::now(),
            now,
            outbox: Outbox::default(),
        }
    }

    fn run(&mut self, socket: &UdpSocket, changes: &Receiver<(String, String)>) -> ! {
        let mut inbox = Inbox::default();
        loop {
            self.now = Time::from_millis(1000) + self.start.elapsed();
            let count = inbox.receive(socket);
            for index in 0..count {
                let (bytes, peer) = inbox.datagram(index);
                let flow = Flow {
                    listener: ListenerId(0),
                    local: None,
                    peer,
                    connection: None,
                };
                self.step(Input::Datagram {
                    flow,
                    bytes,
                    truncated: false,
                    forwarded: false,
                });
            }
            for (user, word) in changes.try_iter() {
                self.set(&user, &word);
            }
            let wall = WallOffset(0);
            self.step(Input::Tick { wall });
            let sent = self.flush(socket);
            if count == 0 && sent == 0 {
                let deadline = self.shard.next_deadline();
                let wait = deadline.map_or(Duration::MAX, |time| time.since(self.now));
                // Hints come by a channel that poll does not see.
                let wait = wait
                    .min(Duration::from_millis(2))
                    .as_micros()
                    .div_ceil(1000);
                sys::wait_readable(&[socket], wait as i32);
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.shard.step(self.now, input, &mut self.out);
    }

    fn set(&mut self, user: &str, word: &str) {
        let Some(state) = HintState::from_name(word) else {
            return;
        };
        let resource = format!("{user}@{}", self.domain).into();
        let update = HintUpdate::new(resource, "http".into(), state);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        self.step(Input::Mail(Mail::Request(Request { id: 1, ask })));
    }

    fn flush(&mut self, socket: &UdpSocket) -> usize {
        let count = self.out.sends.len();
        for send in self.out.sends.drain(..) {
            let bytes = self.shard.arena().bytes(send.slot);
            self.outbox.open().extend_from_slice(bytes);
            if self.outbox.close(send.peer) {
                self.outbox.flush(socket);
            }
        }
        self.outbox.flush(socket);
        for slot in self.out.released.drain(..) {
            self.shard.arena().release(slot);
        }
        self.out.mails.clear();
        self.out.events.clear();
        count
    }
}
