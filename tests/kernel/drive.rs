//! Whole shards: threads, mail between them, forwarded datagrams, deadlines, hand-over, end.
//! What they drive is a machine that echoes; the real one has tests of its own.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use lampfield::arena::{Arena, SlotSize};
use lampfield::shard::control::{Answer, Ask, Reply, Request};
use lampfield::shard::effects::{Destination, Effects, Send, SendTag, ShardId};
use lampfield::shard::input::Input;
use lampfield::shard::mail::Mail;
use lampfield::time::Time;
use lampfield::transport::Flow;
use lampfield::uring::Machine;
use lampfield::uring::drive::{Plan, ShardThread, start};
use lampfield::uring::post::{Control, ShardHandle, office};
use lampfield::uring::ring::RingOptions;
use lampfield::uring::socket::{self, SocketOptions};

use crate::bench::{LISTENER, PATIENCE, alone, count_up, descriptors, peer, shared};

/// A request with a number of at least this is passed on to the other shard first.
const PASS_ON: u64 = 1_000_000;
/// A request with a number of at least this is answered after as many milliseconds as it is beyond it.
const LATER: u64 = 2_000_000;

/// Echoes datagrams, or lets the other shard do it; answers requests at once or later.
struct Echo {
    shard: ShardId,
    forwards: bool,
    arena: Arena,
    later: Option<(Time, u64)>,
}

impl Echo {
    fn new(shard: ShardId, forwards: bool) -> Echo {
        Echo {
            shard,
            forwards,
            arena: Arena::new(10_000, 10),
            later: None,
        }
    }

    fn answer(&mut self, flow: Flow, bytes: &[u8], out: &mut Effects) {
        let slot = self.arena.take(SlotSize::Small).unwrap();
        self.arena.buffer(slot)[..bytes.len()].copy_from_slice(bytes);
        self.arena.set_len(slot, bytes.len());
        out.sends.push(Send {
            slot,
            listener: flow.listener,
            source: flow.local,
            peer: flow.peer,
            tag: SendTag::NONE,
        });
        out.released.push(slot);
    }

    fn requested(&mut self, now: Time, request: Request, out: &mut Effects) {
        let id = request.id;
        if id >= LATER {
            self.later = Some((now + Duration::from_millis(id - LATER), id));
        } else if id >= PASS_ON {
            let passed = Mail::Request(Request {
                id: id - PASS_ON,
                ask: request.ask,
            });
            let other = Destination::Shard(ShardId(1 - self.shard.0));
            out.mails.push((other, passed));
        } else {
            self.reply(id, out);
        }
    }

    fn reply(&self, id: u64, out: &mut Effects) {
        let reply = Mail::Reply(Reply {
            id,
            shard: self.shard,
            answer: Answer::Done,
        });
        out.mails.push((Destination::Control, reply));
    }
}

impl Machine for Echo {
    fn step(&mut self, now: Time, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::Datagram {
                flow,
                bytes,
                forwarded,
                ..
            } => {
                if self.forwards && !forwarded {
                    let other = ShardId(1 - self.shard.0);
                    assert!(out.forward(other, &flow, bytes), "its block is full");
                } else {
                    self.answer(flow, bytes, out);
                }
            }
            Input::SendFailed { tag, errno } => panic!("{tag:?} failed: {errno}"),
            Input::Mail(Mail::Request(request)) => self.requested(now, request, out),
            Input::Mail(mail) => panic!("not mail to a shard: {mail:?}"),
            Input::Tick { wall } => {
                assert!(wall.unix_seconds(now) > 1_577_836_800);
                if let Some((_, id)) = self.later.take_if(|(due, _)| *due <= now) {
                    self.reply(id, out);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.later.map(|(due, _)| due)
    }

    fn arena(&mut self) -> &mut Arena {
        &mut self.arena
    }
}

/// Shards that run and listen on one address.
struct House {
    address: SocketAddr,
    control: Control,
    threads: Vec<ShardThread>,
}

impl House {
    fn open(shards: u16, forwards: bool) -> House {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets = socket::open(any, shards, &SocketOptions::default()).unwrap();
        let address = sockets[0].address();
        let (mailboxes, control) = office(shards).unwrap();
        let threads = mailboxes
            .into_iter()
            .zip(sockets)
            .map(|(mailbox, socket)| {
                let shard = mailbox.shard();
                let plan = Plan {
                    mailbox,
                    listeners: vec![(LISTENER, socket)],
                    ring: RingOptions::default(),
                    cpu: None,
                };
                start(plan, move || Echo::new(shard, forwards)).unwrap()
            })
            .collect();
        House {
            address,
            control,
            threads,
        }
    }

    fn shard(&self, shard: u16) -> ShardHandle {
        self.control.shard(ShardId(shard))
    }

    fn close(self) {
        for shard in 0..self.control.shards() {
            self.shard(shard).stop();
        }
        for thread in self.threads {
            let ended = thread.join();
            assert_eq!(ended.ring.sends_failed, 0);
            assert_eq!(ended.mail.mail_lost, 0);
        }
    }
}

/// Runs on a control thread, and fails if it takes too long.
fn wait_for<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let patient = async { tokio::time::timeout(PATIENCE, future).await };
    runtime.block_on(patient).expect("it takes too long")
}

fn request(id: u64) -> Mail {
    Mail::Request(Request {
        id,
        ask: Ask::ReadFigures,
    })
}

async fn reply(control: &mut Control) -> (ShardId, u64) {
    match control.receive().await {
        (from, Mail::Reply(reply)) => {
            assert_eq!(from, reply.shard);
            (from, reply.id)
        }
        (_, mail) => panic!("not a reply: {mail:?}"),
    }
}

/// So many peers at once, each counting to `count`.
fn peers_count_up(address: SocketAddr, peers: usize, count: u32) {
    let peers: Vec<_> = (0..peers)
        .map(|_| peer("127.0.0.1:0", address))
        .map(|peer| thread::spawn(move || count_up(&peer, count, 32)))
        .collect();
    for peer in peers {
        peer.join().unwrap();
    }
}

#[test]
fn two_shards_echo_a_hundred_thousand_datagrams_and_lose_none() {
    let _shared = shared();
    let house = House::open(2, false);
    peers_count_up(house.address, 8, 12_500);
    house.close();
}

#[test]
fn datagrams_that_the_other_shard_owns_are_echoed_by_it() {
    let _shared = shared();
    let house = House::open(2, true);
    peers_count_up(house.address, 8, 2_500);
    house.close();
}

#[test]
fn mail_wakes_a_sleeping_shard_each_time() {
    let _shared = shared();
    let mut house = House::open(1, false);
    let shard = house.shard(0);
    wait_for(async {
        for id in 0..2_000 {
            shard.send(request(id)).unwrap();
            assert_eq!(reply(&mut house.control).await, (ShardId(0), id));
        }
    });
    house.close();
}

#[test]
fn mail_goes_from_shard_to_shard_in_order() {
    let _shared = shared();
    let mut house = House::open(2, false);
    let shard = house.shard(0);
    wait_for(async {
        for id in 0..500 {
            shard.deliver(request(PASS_ON + id)).await.unwrap();
        }
        for id in 0..500 {
            assert_eq!(reply(&mut house.control).await, (ShardId(1), id));
        }
    });
    house.close();
}

#[test]
fn mail_is_not_lost_where_nobody_reads_it_for_a_while() {
    let _shared = shared();
    let mut house = House::open(1, false);
    let shard = house.shard(0);
    const MAILS: u64 = 30_000;
    wait_for(async {
        for id in 0..MAILS {
            shard.deliver(request(id)).await.unwrap();
        }
        for id in 0..MAILS {
            assert_eq!(reply(&mut house.control).await, (ShardId(0), id));
        }
    });
    house.close();
}

#[test]
fn a_deadline_wakes_a_sleeping_shard() {
    let _shared = shared();
    let mut house = House::open(1, false);
    let shard = house.shard(0);
    wait_for(async {
        for milliseconds in [0, 1, 7, 30] {
            shard.send(request(LATER + milliseconds)).unwrap();
            let expected = (ShardId(0), LATER + milliseconds);
            assert_eq!(reply(&mut house.control).await, expected);
        }
    });
    house.close();
}

#[test]
fn a_socket_that_moves_between_shards_keeps_every_datagram() {
    let _shared = shared();
    let house = House::open(2, false);
    let address = house.address;
    let (first, second) = (house.shard(0), house.shard(1));
    let moves = wait_for(async {
        // One socket is left of the address, and it is handed to and fro.
        drop(first.disarm(LISTENER).await.unwrap());
        assert!(first.disarm(LISTENER).await.is_none());
        let client = thread::spawn(move || peers_count_up(address, 2, 20_000));
        let mut owners = [second, first];
        let mut moves = 0;
        while !client.is_finished() {
            let socket = owners[0].disarm(LISTENER).await.unwrap();
            owners[1].arm(LISTENER, socket).await.unwrap();
            owners.swap(0, 1);
            moves += 1;
        }
        client.join().unwrap();
        moves
    });
    assert!(moves > 10, "{moves} moves");
    house.close();
}

#[test]
fn shards_that_are_stopped_leave_nothing_behind() {
    let _alone = alone();
    // The first use of a runtime may open descriptors that stay.
    House::open(1, false).close();
    let before = descriptors();
    let house = House::open(2, false);
    let (address, shard) = (house.address, house.shard(1));
    peers_count_up(address, 2, 100);
    assert!(descriptors() > before);
    house.close();

    assert!(shard.send(request(1)).is_err());
    assert!(wait_for(shard.deliver(request(1))).is_err());
    assert!(wait_for(shard.disarm(LISTENER)).is_none());
    drop(shard);
    assert_eq!(descriptors(), before);
    socket::open(address, 1, &SocketOptions::default()).unwrap();
}
