//! Whole shards: threads, mail to them, datagrams that another one owns, deadlines, hand-over, end.
//! The shards are real ones; what they are asked is SIP of the simplest kind.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::shard::Shard;
use lampfield::shard::control::{Answer, Ask, Request};
use lampfield::shard::mail::Mail;
use lampfield::shard::settings::Settings;
use lampfield::stats::Counter;
use lampfield::transport::Listener;
use lampfield::uring::clock;
use lampfield::uring::drive::{Plan, ShardThread, start};
use lampfield::uring::post::{Control, ShardHandle, office};
use lampfield::uring::ring::RingOptions;
use lampfield::uring::socket::{self, SocketOptions};

use crate::bench::{LISTENER, PATIENCE, alone, descriptors, number_up, peer, receive, shared};

/// Shards that run and listen on one address.
struct House {
    address: SocketAddr,
    control: Control,
    threads: Vec<ShardThread>,
}

impl House {
    fn open(shards: u16) -> House {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets = socket::open(any, shards, &SocketOptions::default()).unwrap();
        let address = sockets[0].address();
        let (mailboxes, control) = office(shards).unwrap();
        let threads = mailboxes
            .into_iter()
            .zip(sockets)
            .map(|(mailbox, socket)| {
                let settings = settings(mailbox.shard(), shards, address);
                let plan = Plan {
                    mailbox,
                    listeners: vec![(LISTENER, socket.into())],
                    ring: RingOptions::default(),
                    doors: Arc::default(),
                    cpu: None,
                };
                start(plan, move || Shard::new(settings, clock::now())).unwrap()
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

fn settings(shard: ShardId, shards: u16, address: SocketAddr) -> Settings {
    let secrets = Secrets::new([1; 32]);
    let policy = PolicySettings {
        gates: vec![GateSettings::default()],
        ..PolicySettings::default()
    };
    let policy = Policy::new(&policy, &secrets, None).expect("the defaults are sound");
    let listener = Listener::new(LISTENER, address, 0);
    Settings::new(
        shard,
        shards,
        secrets,
        [2; 16],
        vec![listener],
        Arc::new(policy),
    )
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

/// A question whose answer is short.
fn ask(id: u64) -> Mail {
    Mail::Request(Request {
        id,
        ask: Ask::ReportChanges(false),
    })
}

async fn answered(control: &mut Control) -> (ShardId, u64, Answer) {
    match control.receive().await {
        (from, Mail::Reply(reply)) => {
            assert_eq!(from, reply.shard);
            (from, reply.id, reply.answer)
        }
        (_, mail) => panic!("not a reply: {mail:?}"),
    }
}

/// One of a shard's counters, as it stood at most a second ago.
async fn count(control: &mut Control, shard: u16, counter: Counter) -> u64 {
    let figures = Mail::Request(Request {
        id: 0,
        ask: Ask::ReadFigures,
    });
    control
        .shard(ShardId(shard))
        .deliver(figures)
        .await
        .unwrap();
    match answered(control).await.2 {
        Answer::Figures(figures) => figures.stats.get(counter),
        answer => panic!("not the figures: {answer:?}"),
    }
}

/// What a peer asks, with a number that the answer brings back.
struct Question {
    method: &'static str,
    user: usize,
    more: &'static str,
}

impl Question {
    fn text(&self, peer: &UdpSocket, number: u32) -> Vec<u8> {
        let (method, user, more) = (self.method, self.user, self.more);
        let (us, to) = (peer.local_addr().unwrap(), peer.peer_addr().unwrap());
        format!(
            "{method} sip:1001@{to} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {us};branch=z9hG4bK{number};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:user{user}@{to}>;tag=f{user}\r\n\
             To: <sip:1001@{to}>\r\n\
             Call-ID: {user}@{us}\r\n\
             CSeq: {number} {method}\r\n\
             Contact: <sip:user{user}@{us}>\r\n\
             {more}Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }
}

/// The number that an answer brings back.
fn number_of(answer: &[u8]) -> u32 {
    let text = std::str::from_utf8(answer).unwrap();
    assert!(text.starts_with("SIP/2.0 "), "{text}");
    let (_, after) = text.split_once("CSeq: ").unwrap();
    let (number, _) = after.split_once(' ').unwrap();
    number.parse().unwrap()
}

/// So many peers at once, each asking `count` times with at most 32 questions unanswered.
fn peers_ask(address: SocketAddr, peers: usize, count: u32, method: &'static str) {
    let peers: Vec<_> = (0..peers)
        .map(|user| {
            let peer = peer("127.0.0.1:0", address);
            let question = Question {
                method,
                user,
                more: "Event: no-such-package\r\n",
            };
            thread::spawn(move || {
                let write = |number| question.text(&peer, number);
                number_up(&peer, count, 32, write, number_of);
            })
        })
        .collect();
    for peer in peers {
        peer.join().unwrap();
    }
}

#[test]
fn two_shards_answer_forty_thousand_questions_and_lose_none() {
    let _shared = shared();
    let house = House::open(2);
    peers_ask(house.address, 8, 5_000, "OPTIONS");
    house.close();
}

#[test]
fn what_the_other_shard_owns_is_answered_by_it() {
    let _shared = shared();
    let mut house = House::open(2);
    peers_ask(house.address, 8, 2_000, "SUBSCRIBE");
    wait_for(async {
        let mut asked = 0;
        let mut forwarded = 0;
        for shard in 0..2 {
            asked += count(&mut house.control, shard, Counter::RequestSubscribe).await;
            forwarded += count(&mut house.control, shard, Counter::DatagramForwarded).await;
        }
        assert_eq!(asked, 16_000);
        assert!(forwarded > 0 && forwarded < asked, "{forwarded}");
    });
    house.close();
}

#[test]
fn mail_wakes_a_sleeping_shard_each_time() {
    let _shared = shared();
    let mut house = House::open(1);
    let shard = house.shard(0);
    wait_for(async {
        for id in 0..2_000 {
            shard.send(ask(id)).unwrap();
            let (from, answered, _) = answered(&mut house.control).await;
            assert_eq!((from, answered), (ShardId(0), id));
        }
    });
    house.close();
}

#[test]
fn mail_is_not_lost_where_nobody_reads_it_for_a_while() {
    let _shared = shared();
    let mut house = House::open(1);
    let shard = house.shard(0);
    const MAILS: u64 = 30_000;
    wait_for(async {
        for id in 0..MAILS {
            shard.deliver(ask(id)).await.unwrap();
        }
        for id in 0..MAILS {
            assert_eq!(answered(&mut house.control).await.1, id);
        }
    });
    house.close();
}

#[test]
fn a_deadline_wakes_a_sleeping_shard() {
    let _shared = shared();
    let house = House::open(1);
    let phone = peer("127.0.0.1:0", house.address);
    let question = Question {
        method: "SUBSCRIBE",
        user: 1,
        more: "Event: presence\r\nExpires: 600\r\n",
    };
    phone.send(&question.text(&phone, 1)).unwrap();
    assert!(receive(&phone).starts_with(b"SIP/2.0 200 "));
    let first = receive(&phone);
    assert!(first.starts_with(b"NOTIFY "));
    // Nobody answers, so it comes again, and only time can be the reason.
    assert_eq!(receive(&phone), first);
    assert_eq!(receive(&phone), first);
    house.close();
}

#[test]
fn a_socket_that_moves_between_shards_keeps_every_datagram() {
    let _shared = shared();
    let house = House::open(2);
    let address = house.address;
    let (first, second) = (house.shard(0), house.shard(1));
    let moves = wait_for(async {
        // One socket is left of the address, and it is handed to and fro.
        drop(first.disarm(LISTENER).await.unwrap());
        assert!(first.disarm(LISTENER).await.is_none());
        let client = thread::spawn(move || peers_ask(address, 2, 10_000, "OPTIONS"));
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
    House::open(1).close();
    let before = descriptors();
    let house = House::open(2);
    let (address, shard) = (house.address, house.shard(1));
    peers_ask(address, 2, 100, "OPTIONS");
    assert!(descriptors() > before);
    house.close();

    assert!(shard.send(ask(1)).is_err());
    assert!(wait_for(shard.deliver(ask(1))).is_err());
    assert!(wait_for(shard.disarm(LISTENER)).is_none());
    drop(shard);
    assert_eq!(descriptors(), before);
    socket::open(address, 1, &SocketOptions::default()).unwrap();
}
