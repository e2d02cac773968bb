//! The ring by itself: datagrams in and out, what fails, what is cut, and what is handed over.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

use lampfield::shard::effects::SendTag;
use lampfield::transport::{Flow, ListenerId};
use lampfield::uring::clock;
use lampfield::uring::ring::RingOptions;
use lampfield::uring::socket::{self, SocketOptions};
use socket2::SockRef;

use crate::bench::{
    Bench, LISTENER, Told, alone, count_up, descriptors, flow_of, open, payload, peer, receive,
    shared,
};

/// A ring small enough that every queue of it overflows in a test.
fn small() -> RingOptions {
    RingOptions {
        submissions: 8,
        completions: 16,
        receive_buffers: 4,
        datagram_size_max: 512,
        listeners_max: 2,
    }
}

/// Answers `count` datagrams with what they carry.
fn echo(bench: &mut Bench, count: usize) {
    let mut echoed = 0;
    while echoed < count {
        for told in bench.turn_until(1) {
            bench.send(&flow_of(&told), payload(&told), SendTag::NONE);
            echoed += 1;
        }
    }
    while !bench.effects.is_empty() || bench.arena.leased() > 0 {
        assert_eq!(bench.turn(), []);
    }
}

#[test]
fn a_hundred_thousand_datagrams_are_echoed_and_none_is_lost() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&RingOptions::default(), "127.0.0.1:0");
    let client = thread::spawn(move || count_up(&peer("127.0.0.1:0", address), 100_000, 64));
    echo(&mut bench, 100_000);
    client.join().unwrap();
    assert_eq!(bench.ring.counters().sends_failed, 0);
    assert_eq!(bench.arena.leased(), 0);
}

#[test]
fn a_ring_whose_every_queue_overflows_loses_nothing_either() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "127.0.0.1:0");
    let client = thread::spawn(move || count_up(&peer("127.0.0.1:0", address), 20_000, 100));
    echo(&mut bench, 20_000);
    client.join().unwrap();
}

#[test]
fn a_datagram_longer_than_the_buffer_is_cut_and_says_so() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "127.0.0.1:0");
    let peer = peer("127.0.0.1:0", address);
    let long: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    for length in [511, 512, 513, 600, 5000] {
        peer.send(&long[..length]).unwrap();
        let told = bench.turn_until(1);
        assert_eq!(
            told,
            [Told::Datagram {
                flow: Flow {
                    listener: LISTENER,
                    local: None,
                    peer: peer.local_addr().unwrap(),
                    connection: None,
                },
                bytes: long[..length.min(512)].to_vec(),
                truncated: length > 512,
            }],
            "of {length} bytes"
        );
    }
    assert_eq!(bench.ring.counters().datagrams_truncated, 3);
}

#[test]
fn an_empty_datagram_is_told_and_does_not_end_the_receiving() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "127.0.0.1:0");
    let peer = peer("127.0.0.1:0", address);
    for _ in 0..20 {
        peer.send(b"").unwrap();
        peer.send(b"after").unwrap();
    }
    let told = bench.turn_until(40);
    for pair in told.chunks(2) {
        assert_eq!(payload(&pair[0]), b"");
        assert_eq!(payload(&pair[1]), b"after");
    }
}

#[test]
fn receiving_goes_on_after_every_buffer_was_full() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "127.0.0.1:0");
    let peer = peer("127.0.0.1:0", address);
    for number in 0..200_u32 {
        peer.send(&number.to_le_bytes()).unwrap();
    }
    let told = bench.turn_until(200);
    for (number, told) in (0_u32..).zip(&told) {
        assert_eq!(payload(told), number.to_le_bytes());
    }
    assert_eq!(told.len(), 200);
    assert!(bench.ring.counters().receives_without_buffer > 0);
    assert_eq!(bench.ring.counters().receives_failed, 0);
}

#[test]
fn what_the_kernel_drops_because_the_buffer_is_full_is_counted() {
    let _shared = shared();
    let mut bench = Bench::new(&small());
    let options = SocketOptions {
        receive_buffer: 4096,
        ..SocketOptions::default()
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let socket = socket::open(any, 1, &options).unwrap().pop().unwrap();
    let peer = peer("127.0.0.1:0", socket.address());
    for _ in 0..50 {
        peer.send(&[0; 400]).unwrap();
    }
    // What was dropped before it was ours is not for us to count.
    let before = socket.drops();
    assert!(before > 0);
    bench.ring.arm(LISTENER, socket).unwrap();
    for _ in 0..50 {
        peer.send(&[0; 400]).unwrap();
    }
    bench.ring.look_for_drops();
    let dropped = bench.ring.counters().datagrams_dropped;
    assert!(dropped > 0);
    let told = bench.turn_until(1).len() + bench.turn().len();
    assert_eq!(u64::from(before) + dropped + told as u64, 100);
    bench.ring.look_for_drops();
    assert_eq!(bench.ring.counters().datagrams_dropped, dropped);
}

#[test]
fn a_receive_that_fails_is_started_again_and_rests_where_it_keeps_failing() {
    let _shared = shared();
    let socket = open("127.0.0.1:0");
    let address = socket.address();
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    // Only a connected socket hears that nobody listens at the other end.
    SockRef::from(&socket).connect(&closed.into()).unwrap();
    let mut bench = Bench::new(&small());
    bench.ring.arm(LISTENER, socket).unwrap();
    let flow = Flow {
        listener: LISTENER,
        local: None,
        peer: closed,
        connection: None,
    };
    let mut sent = 0;
    while bench.ring.counters().receives_failed < 8 {
        bench.send(&flow, b"anybody there", SendTag::NONE);
        bench.turn();
        sent += 1;
        assert!(sent < 10_000, "nobody says that nobody listens");
    }
    let peer = UdpSocket::bind(closed).unwrap();
    peer.connect(address).unwrap();
    peer.send(b"now there is").unwrap();
    assert_eq!(bench.turn(), [], "the receive rests");
    bench.ring.retry(true);
    let told = bench.turn_until(1);
    assert_eq!(payload(&told[0]), b"now there is");
}

#[test]
fn a_send_that_fails_comes_back_with_its_tag_and_the_reason() {
    let _shared = shared();
    let (mut bench, _) = Bench::listening(&RingOptions::default(), "127.0.0.1:0");
    let to = |peer: &str| Flow {
        listener: LISTENER,
        local: None,
        peer: peer.parse().unwrap(),
        connection: None,
    };
    let good = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good_flow = to(&good.local_addr().unwrap().to_string());

    // Broadcast is not allowed on this socket; a port 0 is none; IPv6 is another family.
    bench.send(&to("255.255.255.255:5060"), b"everybody", SendTag(1));
    bench.send(&good_flow, b"one", SendTag(2));
    bench.send(&to("127.0.0.1:0"), b"nobody", SendTag(3));
    bench.send(&to("[::1]:5060"), b"elsewhere", SendTag::NONE);
    let closed = Flow {
        listener: ListenerId(99),
        ..good_flow
    };
    bench.send(&closed, b"closed", SendTag(5));
    bench.send(&good_flow, b"two", SendTag(6));

    let mut told = bench.turn_until(4);
    told.sort_by_key(|told| match told {
        Told::Failed { tag, .. } => tag.0,
        Told::Datagram { .. } => panic!("{told:?}"),
    });
    let failed = |tag, errno| Told::Failed {
        tag: SendTag(tag),
        errno,
    };
    assert_eq!(told[0], failed(1, libc::EACCES));
    assert_eq!(told[1], failed(3, libc::EINVAL));
    assert_eq!(told[2], failed(5, libc::EBADF));
    assert_eq!(told[3], failed(SendTag::NONE.0, libc::EAFNOSUPPORT));
    assert_eq!(receive(&good), b"one");
    assert_eq!(receive(&good), b"two");
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.arena.leased(), 0);
    assert_eq!(bench.ring.counters().sends_failed, 4);
}

#[test]
fn more_sends_than_the_ring_has_room_for_go_out_in_order() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "127.0.0.1:0");
    let peer = peer("127.0.0.1:0", address);
    let flow = Flow {
        listener: LISTENER,
        local: None,
        peer: peer.local_addr().unwrap(),
        connection: None,
    };
    for number in 0..100_u32 {
        bench.send(&flow, &number.to_le_bytes(), SendTag(7));
    }
    assert_eq!(bench.arena.leased(), 100);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.arena.leased(), 0, "all has been consumed");
    for number in 0..100_u32 {
        assert_eq!(receive(&peer), number.to_le_bytes());
    }
}

#[test]
fn a_slot_is_not_released_before_its_send_is_consumed() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&RingOptions::default(), "127.0.0.1:0");
    let peer = peer("127.0.0.1:0", address);
    let flow = Flow {
        listener: LISTENER,
        local: None,
        peer: peer.local_addr().unwrap(),
        connection: None,
    };
    bench.send(&flow, b"offered", SendTag(1));
    bench.ring.offer(&bench.arena, &mut bench.effects).unwrap();
    bench.ring.settle(&mut bench.arena);
    assert_eq!(bench.arena.leased(), 1);
    bench.ring.enter().unwrap();
    bench.ring.settle(&mut bench.arena);
    assert_eq!(bench.arena.leased(), 0);
    assert_eq!(receive(&peer), b"offered");
}

/// Asks a wildcard listener on `asked`, and accepts the answer from nowhere else.
fn answers_from(bench: &mut Bench, asked: SocketAddr) {
    let any = if asked.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let peer = peer(any, asked);
    peer.send(b"where").unwrap();
    let told = bench.turn_until(1);
    let flow = flow_of(&told[0]);
    assert_eq!(flow.local, Some(asked.ip()));
    bench.send(&flow, b"here", SendTag(1));
    assert_eq!(bench.turn(), []);
    assert_eq!(receive(&peer), b"here");
}

#[test]
fn a_wildcard_listener_answers_from_the_address_that_it_was_asked_on() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "0.0.0.0:0");
    for asked in ["127.0.0.1", "127.0.0.2", "127.255.255.254"] {
        let asked: IpAddr = asked.parse().unwrap();
        answers_from(&mut bench, SocketAddr::new(asked, address.port()));
    }
}

#[test]
fn an_ipv6_wildcard_listener_answers_from_the_address_that_it_was_asked_on() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&small(), "[::]:0");
    let asked: IpAddr = "::1".parse().unwrap();
    answers_from(&mut bench, SocketAddr::new(asked, address.port()));
}

#[test]
fn datagrams_are_echoed_over_ipv6() {
    let _shared = shared();
    let (mut bench, address) = Bench::listening(&RingOptions::default(), "[::1]:0");
    let client = thread::spawn(move || count_up(&peer("[::1]:0", address), 5_000, 64));
    echo(&mut bench, 5_000);
    client.join().unwrap();
}

#[test]
fn the_alarm_rings_when_it_should_and_can_be_moved_to_an_earlier_time() {
    let _shared = shared();
    let mut bench = Bench::new(&small());
    let hour = std::time::Duration::from_secs(3600);
    let moment = std::time::Duration::from_millis(5);
    for _ in 0..3 {
        bench.ring.wake_at(clock::now() + hour).unwrap();
        assert_eq!(bench.turn(), []);
        let due = clock::now() + moment;
        bench.ring.wake_at(due).unwrap();
        bench.ring.wake_at(due + hour).unwrap();
        assert_eq!(bench.turn(), []);
        // The completion of the alarm before may have been announced as well.
        while clock::now() < due {
            bench.wait();
            assert_eq!(bench.turn(), []);
        }
        while bench.ring.is_pending() {
            assert_eq!(bench.turn(), []);
        }
    }
}

#[test]
fn a_socket_that_moves_from_ring_to_ring_keeps_every_datagram() {
    let _shared = shared();
    let (first, address) = Bench::listening(&small(), "127.0.0.1:0");
    let mut benches = [first, Bench::new(&small())];
    let client = thread::spawn(move || count_up(&peer("127.0.0.1:0", address), 20_000, 50));
    let mut echoed = 0;
    let mut moves = 0;
    while echoed < 20_000 {
        let bench = &mut benches[moves % 2];
        for told in bench.turn_until(1) {
            bench.send(&flow_of(&told), payload(&told), SendTag::NONE);
            echoed += 1;
        }
        assert!(bench.ring.disarm(LISTENER));
        // What came before the last completion still counts, and its answers leave before the socket does.
        let (listener, socket) = loop {
            for told in bench.turn() {
                bench.send(&flow_of(&told), payload(&told), SendTag::NONE);
                echoed += 1;
            }
            if !bench.effects.is_empty() {
                continue;
            }
            if let Some(taken) = bench.ring.take_disarmed() {
                break taken;
            }
        };
        assert_eq!(listener, LISTENER);
        moves += 1;
        benches[moves % 2].ring.arm(LISTENER, socket).unwrap();
    }
    let last = &mut benches[moves % 2];
    while !last.effects.is_empty() {
        last.turn();
    }
    client.join().unwrap();
    assert!(moves > 100, "{moves} moves");
}

#[test]
fn an_unknown_listener_can_not_be_disarmed_and_a_full_ring_takes_no_more() {
    let _shared = shared();
    let (mut bench, _) = Bench::listening(&small(), "127.0.0.1:0");
    assert!(!bench.ring.disarm(ListenerId(8)));
    bench.ring.arm(ListenerId(8), open("127.0.0.1:0")).unwrap();
    let third = bench.ring.arm(ListenerId(9), open("127.0.0.1:0"));
    let (_, error) = third.expect_err("two are the limit");
    assert!(error.to_string().contains("at most 2 listeners"));
}

#[test]
fn a_ring_that_is_shut_leaves_no_descriptor_and_frees_its_ports() {
    let _alone = alone();
    let before = descriptors();
    let (mut bench, address) = Bench::listening(&small(), "127.0.0.1:0");
    bench.ring.arm(ListenerId(8), open("[::1]:0")).unwrap();
    let peer = peer("127.0.0.1:0", address);
    for _ in 0..100 {
        peer.send(b"not read any more").unwrap();
    }
    let hour = std::time::Duration::from_secs(3600);
    bench.ring.wake_at(clock::now() + hour).unwrap();
    bench.turn();
    assert!(descriptors() > before);

    bench.ring.shut().unwrap();
    open(&address.to_string());
    drop(bench);
    drop(peer);
    assert_eq!(descriptors(), before);
}
