//! Sockets that change hands or are replaced while datagrams come in: none is lost, and what was begun on the old one
//! still leaves from it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lampfield::shard::effects::SendTag;
use lampfield::transport::{Flow, ListenerId};
use lampfield::uring::ring::RingOptions;
use lampfield::uring::socket::{self, ListenerSocket, SocketOptions};

use crate::bench::{Bench, LISTENER, Told, count_up, flow_of, payload, peer, receive, shared};

const CLIENTS: u16 = 8;
const DATAGRAMS: u32 = 10_000;

/// Eight peers that count up, each from its own port.
fn count_up_together(address: SocketAddr) -> Vec<thread::JoinHandle<()>> {
    let client = |_| {
        let peer = peer("127.0.0.1:0", address);
        thread::spawn(move || count_up(&peer, DATAGRAMS, 20))
    };
    (0..CLIENTS).map(client).collect()
}

/// Answers what has come; gives back the names that it came under.
fn echo(bench: &mut Bench) -> Vec<ListenerId> {
    let told = bench.turn();
    let came = told.iter().map(|told| {
        let flow = flow_of(told);
        (flow, payload(told).to_vec())
    });
    let came: Vec<(Flow, Vec<u8>)> = came.collect();
    for (flow, bytes) in &came {
        bench.send(flow, bytes, SendTag::NONE);
    }
    came.into_iter().map(|(flow, _)| flow.listener).collect()
}

#[test]
fn a_socket_that_is_handed_over_again_and_again_keeps_every_datagram_and_its_names() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&RingOptions::default(), "127.0.0.1:0");
    let clients = count_up_together(address);
    let mut name = LISTENER;
    let mut handed = 0;
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        let next = ListenerId(name.0 + 1);
        assert!(bench.ring.share(name, next));
        bench.ring.hand_over(next);
        // From the first datagram that bears the new name on, all do.
        let mut new = false;
        for _ in 0..20 {
            for came in echo(&mut bench) {
                new |= came == next;
                assert_eq!(came, if new { next } else { name });
            }
        }
        if new {
            handed += 1;
        }
        // The name before sends still, and then it is nobody's.
        let flow = Flow {
            listener: name,
            local: None,
            peer: address,
            connection: None,
        };
        assert!(bench.ring.unshare(name));
        bench.send(&flow, b"to ourselves", SendTag(5));
        let told = bench.turn_until(1);
        let failed = |told: &Told| matches!(told, Told::Failed { tag, errno } if tag.0 == 5 && *errno == libc::EBADF);
        let others = told.iter().filter(|told| !failed(told));
        for told in others {
            bench.send(&flow_of(told), payload(told), SendTag::NONE);
        }
        name = next;
    }
    for client in clients {
        client.join().unwrap();
    }
    assert!(handed > 20, "{handed} times");
    assert!(!bench.ring.unshare(name), "the last name is the socket's");
}

/// Replaces all sockets of an address while peers count up.
fn replace_under_load(count: u16) {
    let mut bench = Bench::new(&RingOptions::default());
    let options = SocketOptions::default();
    let any = "127.0.0.1:0".parse().unwrap();
    let mut sockets = socket::open(any, count, &options).unwrap();
    let address = sockets[0].address();
    let mut first = 100;
    let arm = |bench: &mut Bench, first: u32, sockets: &[Arc<ListenerSocket>]| {
        for (id, socket) in (first..).zip(sockets) {
            bench.ring.hold(ListenerId(id), socket.clone()).unwrap();
        }
        for (id, _) in (first..).zip(sockets) {
            bench.ring.receive(ListenerId(id));
        }
    };
    arm(&mut bench, first, &sockets);
    let clients = count_up_together(address);
    let mut swaps = 0;
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        let next = first + u32::from(count);
        let fresh = socket::open_beside(address, &sockets, count, &options).unwrap();
        arm(&mut bench, next, &fresh);
        echo(&mut bench);
        for old in &sockets {
            old.retire().unwrap();
        }
        let retired = std::time::Instant::now();
        while retired.elapsed() < Duration::from_millis(4)
            || !sockets.iter().all(|old| old.is_read_empty())
        {
            echo(&mut bench);
        }
        for id in first..next {
            assert!(bench.ring.disarm(ListenerId(id)));
        }
        for _ in 0..count {
            let (_, socket) = loop {
                match bench.ring.take_disarmed() {
                    Some(taken) => break taken,
                    None => drop(echo(&mut bench)),
                }
            };
            drop(socket);
        }
        (first, sockets) = (next, fresh);
        swaps += 1;
        for _ in 0..20 {
            echo(&mut bench);
        }
    }
    for client in clients {
        client.join().unwrap();
    }
    let lost = bench.ring.counters().datagrams_dropped;
    assert_eq!(lost, 0);
    assert!(swaps > 5, "{swaps} swaps");
}

#[test]
fn one_socket_that_is_replaced_under_load_loses_nothing() {
    let _shared = shared();
    replace_under_load(1);
}

#[test]
fn four_sockets_that_are_replaced_under_load_lose_nothing() {
    let _shared = shared();
    replace_under_load(4);
}

#[test]
fn a_retired_socket_sends_from_the_address_that_it_is_told_to_and_hears_nobody() {
    let _shared = shared();
    for (wildcard, near, local) in [
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"),
        ("[::]:0", "[::1]:0", "::1"),
    ] {
        let (mut bench, address) = Bench::listening(&RingOptions::default(), wildcard);
        let options = SocketOptions::default();
        let old = socket_of(&mut bench);
        let fresh = socket::open_beside(address, std::slice::from_ref(&old), 1, &options).unwrap();
        bench.ring.arm(LISTENER, old.clone()).unwrap();
        let newer = ListenerId(LISTENER.0 + 1);
        bench.ring.arm(newer, fresh[0].clone()).unwrap();
        bench.turn();
        old.retire().unwrap();

        let phone = UdpSocket::bind(near).unwrap();
        let flow = Flow {
            listener: LISTENER,
            local: Some(local.parse().unwrap()),
            peer: phone.local_addr().unwrap(),
            connection: None,
        };
        bench.send(&flow, b"from the old one", SendTag::NONE);
        bench.turn();
        let mut buffer = [0; 64];
        let (_, from) = phone.recv_from(&mut buffer).unwrap();
        assert_eq!(
            from,
            SocketAddr::new(local.parse().unwrap(), address.port())
        );

        phone.send_to(b"to whom?", from).unwrap();
        let told = bench.turn_until(1);
        assert_eq!(flow_of(&told[0]).listener, newer);
    }
}

/// The socket of a bench, taken from its ring.
fn socket_of(bench: &mut Bench) -> Arc<ListenerSocket> {
    assert!(bench.ring.disarm(LISTENER));
    loop {
        bench.turn();
        if let Some((_, socket)) = bench.ring.take_disarmed() {
            return socket;
        }
    }
}

#[test]
fn what_is_held_sends_and_does_not_receive_until_it_is_told_to() {
    let _shared = shared();
    let mut bench = Bench::new(&RingOptions::default());
    let options = SocketOptions::default();
    let any = "127.0.0.1:0".parse().unwrap();
    let socket = socket::open(any, 1, &options).unwrap().remove(0);
    let phone = peer("127.0.0.1:0", socket.address());
    bench.ring.hold(LISTENER, socket).unwrap();
    phone.send(b"early").unwrap();
    let flow = Flow {
        listener: LISTENER,
        local: None,
        peer: phone.local_addr().unwrap(),
        connection: None,
    };
    bench.send(&flow, b"sent", SendTag::NONE);
    assert_eq!(bench.turn(), []);
    assert_eq!(receive(&phone), b"sent");
    bench.ring.receive(LISTENER);
    let told = bench.turn_until(1);
    assert_eq!(payload(&told[0]), b"early");
}
