//! Ports of loopback for whom a test starts: chosen before there is anybody to hold them.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that Linux hands out to whoever does not choose, and above those that SIPp and its like begin with.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port that nobody has now, neither for UDP nor for TCP, and that no other test is given while this one lives.
pub fn free(ip: impl Into<IpAddr>) -> SocketAddr {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let ip = ip.into();
    for _ in 0..COUNT {
        // Test programs that run at once look in different places.
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(257).wrapping_add(tried);
        let port = FIRST + (place % u32::from(COUNT)) as u16;
        let name = net::SocketAddr::from_abstract_name(format!("lampfield-test-port-{port}"));
        let Ok(claim) = UnixDatagram::bind_addr(&name.expect("a short name")) else {
            continue;
        };
        let address = SocketAddr::new(ip, port);
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            // Nobody else can claim it before this process ends.
            let _open = claim.into_raw_fd();
            return address;
        }
    }
    panic!("loopback has no free port");
}
