//! Opening listeners: what is shared among our shards is shared with nobody else.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use lampfield::uring::probe::probe;
use lampfield::uring::ring::RingOptions;
use lampfield::uring::socket::{self, SocketOptions};

use crate::bench::{Bench, LISTENER, open, peer, shared};

fn refused(address: SocketAddr) -> socket::OpenError {
    socket::open(address, 2, &SocketOptions::default()).expect_err("it can not be opened")
}

#[test]
fn the_kernel_that_runs_the_tests_has_what_is_needed() {
    let _shared = shared();
    if let Err(missing) = probe() {
        panic!("{missing}");
    }
}

#[test]
fn the_shards_of_a_listener_share_one_address() {
    let _shared = shared();
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let sockets = socket::open(address.parse().unwrap(), 4, &SocketOptions::default()).unwrap();
        assert_eq!(sockets.len(), 4);
        assert_ne!(sockets[0].address().port(), 0);
        for socket in &sockets {
            assert_eq!(socket.address(), sockets[0].address());
        }
    }
}

#[test]
fn the_kernel_spreads_peers_over_the_sockets_of_a_listener() {
    let _shared = shared();
    let any = "127.0.0.1:0".parse().unwrap();
    let sockets = socket::open(any, 2, &SocketOptions::default()).unwrap();
    let address = sockets[0].address();
    let mut benches: Vec<Bench> = sockets
        .into_iter()
        .map(|socket| {
            let mut bench = Bench::new(&RingOptions::default());
            bench.ring.arm(LISTENER, socket).unwrap();
            bench
        })
        .collect();
    for _ in 0..64 {
        peer("127.0.0.1:0", address).send(b"any of you").unwrap();
    }
    let told: Vec<usize> = benches
        .iter_mut()
        .map(|bench| bench.turn_until(1).len() + bench.turn().len())
        .collect();
    assert_eq!(told.iter().sum::<usize>(), 64, "{told:?}");
}

#[test]
fn both_families_may_have_the_same_port() {
    let _shared = shared();
    let port = open("0.0.0.0:0").address().port();
    let _v4 = open(&format!("0.0.0.0:{port}"));
    let _v6 = open(&format!("[::]:{port}"));
}

#[test]
fn an_address_that_another_socket_has_is_refused_even_if_that_one_would_share_it() {
    let _shared = shared();
    let ours = socket::open("127.0.0.1:0".parse().unwrap(), 2, &SocketOptions::default()).unwrap();
    let error = refused(ours[0].address());
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(
        text.contains(&format!("udp:{}", ours[0].address())),
        "{text}"
    );
    assert!(text.contains("ss -lunp"), "{text}");

    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = refused(plain.local_addr().unwrap());
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn an_address_that_is_not_ours_is_refused_in_words() {
    let _shared = shared();
    let error = refused("203.0.113.9:5060".parse().unwrap());
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("no interface of this machine"));
}

#[test]
fn code_points_and_buffer_sizes_are_set() {
    let _shared = shared();
    let options = SocketOptions {
        device: None,
        receive_buffer: 200_000,
        send_buffer: 100_000,
        dscp: Some(24),
    };
    for (address, level, name) in [
        ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_TOS),
        ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    ] {
        let socket = socket::open(address.parse().unwrap(), 1, &options)
            .unwrap()
            .pop()
            .unwrap();
        assert_eq!(option(&socket, level, name), 24 << 2);
        assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF), 400_000);
        assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF), 200_000);
    }
}

fn option(socket: &impl std::os::fd::AsRawFd, level: i32, name: i32) -> i32 {
    let mut value = 0_i32;
    let mut length = 4;
    // SAFETY: both pointers are to live integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0);
    value
}
