//! Listening TCP sockets: one for each shard, in one `SO_REUSEPORT` group. The kernel gives each connection to one of
//! them, and there it stays.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::session::Session;
use crate::config::limits;
use crate::transport::Endpoint;
use crate::uring::socket::{OpenError, SocketOptions, Step, set_up_listening};

/// Connections that wait to be accepted; the kernel's own limit, `net.core.somaxconn`, is usually 4,096.
const BACKLOG: i32 = 4096;
/// A peer that says nothing for so long is asked by the kernel whether it is still there, three times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 3;

/// One shard's socket of a listener.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: OwnedFd,
    endpoint: Endpoint,
    /// What the handshakes of new connections are made with.
    tls: RwLock<Option<Arc<ServerConfig>>>,
}

/// A connection that has come.
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) peer: SocketAddr,
    /// The address that it was opened to, where the listener is bound to all of them.
    pub(super) local: Option<IpAddr>,
    pub(super) session: Option<Session>,
}

impl ListeningSocket {
    /// What it is bound to; where port 0 was asked for, with the port that it got.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// What new connections have from now on; those that there are stay as they are.
    pub fn set_live(&self, options: &SocketOptions) -> io::Result<()> {
        set_up_listening(&SockRef::from(&self.socket), self.endpoint.address, options)
    }

    /// New connections are made with this from now on; those that there are stay as they are.
    pub fn secure(&self, tls: Option<Arc<ServerConfig>>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        tls.clone()
    }

    /// Stops listening: every poll of it completes.
    pub(super) fn shut(&self) {
        // It fails where that has been done before.
        let _ = SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
    }

    /// Whether it takes connections to any address of this machine.
    fn is_wildcard(&self) -> bool {
        self.endpoint.address.ip().is_unspecified()
    }
}

impl AsRawFd for ListeningSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Opens one socket for each of `shards`, all bound to `address` and to nobody else's socket.
pub fn open(
    endpoint: Endpoint,
    shards: u16,
    options: &SocketOptions,
) -> Result<Vec<Arc<ListeningSocket>>, OpenError> {
    let mut sockets: Vec<ListeningSocket> = Vec::with_capacity(usize::from(shards));
    let mut endpoint = endpoint;
    for shard in 0..shards {
        let socket = open_one(endpoint, shard > 0, options)?;
        endpoint = socket.endpoint;
        sockets.push(socket);
    }
    // Nothing comes before all of the group are bound.
    for socket in &sockets {
        let listens = SockRef::from(&socket.socket).listen(BACKLOG);
        listens.map_err(|error| OpenError::new(endpoint, Step::Listen, error))?;
    }
    Ok(sockets.into_iter().map(Arc::new).collect())
}

/// As with datagrams, the first socket of a group is bound alone, and is refused where anybody else has the address.
fn open_one(
    endpoint: Endpoint,
    further: bool,
    options: &SocketOptions,
) -> Result<ListeningSocket, OpenError> {
    let address = endpoint.address;
    let failed = |step| move |error| OpenError::new(endpoint, step, error);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec().nonblocking(),
        Some(Protocol::TCP),
    )
    .map_err(failed(Step::Create))?;
    // Connections of a process before this one may still be on their way out.
    socket
        .set_reuse_address(true)
        .map_err(failed(Step::SetUp))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed(Step::SetUp))?;
    }
    let step = match options.device {
        Some(_) => Step::Device,
        None => Step::SetUp,
    };
    set_up_listening(&socket, address, options).map_err(failed(step))?;
    if further {
        socket.set_reuse_port(true).map_err(failed(Step::Share))?;
    }
    socket
        .bind(&SockAddr::from(address))
        .map_err(failed(Step::Bind))?;
    if !further {
        socket.set_reuse_port(true).map_err(failed(Step::Share))?;
    }
    let bound = socket.local_addr().map_err(failed(Step::Bind))?;
    Ok(ListeningSocket {
        endpoint: Endpoint {
            address: bound.as_socket().unwrap_or(address),
            ..endpoint
        },
        socket: socket.into(),
        tls: RwLock::new(None),
    })
}

/// Takes the next connection, without waiting for one.
pub(super) fn accept(listening: &ListeningSocket) -> io::Result<Accepted> {
    let (socket, peer) = SockRef::from(&listening.socket).accept()?;
    let absent = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let peer = peer.as_socket().ok_or_else(absent)?;
    set_up(&socket)?;
    let local = match listening.is_wildcard() {
        true => Some(socket.local_addr()?.as_socket().ok_or_else(absent)?.ip()),
        false => None,
    };
    let session = match (listening.endpoint.transport.is_secure(), listening.tls()) {
        (false, _) => None,
        (true, tls) => Some(tls.and_then(Session::new).ok_or_else(absent)?),
    };
    Ok(Accepted {
        socket: socket.into(),
        peer,
        local,
        session,
    })
}

/// Whoever it was learns at once that it may not: nothing of the connection stays behind.
pub(super) fn refuse(accepted: &Accepted) {
    // It fails where the peer has gone already.
    let _ = SockRef::from(&accepted.socket).set_linger(Some(Duration::ZERO));
}

fn set_up(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // What the peer's side does not acknowledge for so long has lost its way.
    let stall = Duration::from_secs(limits::STREAM_STALL_SECONDS);
    socket.set_tcp_user_timeout(Some(stall))?;
    // What the kernel has taken and not sent is as old as what waits here, and no longer ours to replace.
    socket.set_tcp_notsent_lowat(limits::STREAM_QUEUE_BYTES as u32)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Transport;
    use std::net::TcpStream;

    #[test]
    fn a_connection_has_the_options_of_its_listener_and_new_ones_have_newer_ones() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let endpoint = Endpoint {
                transport: Transport::Tcp,
                address: address.parse().expect("an address"),
            };
            let options = |dscp, device: Option<&str>| SocketOptions {
                receive_buffer: 100_000,
                send_buffer: SocketOptions::KERNELS_OWN,
                dscp,
                device: device.map(Into::into),
            };
            let first = options(Some(46), Some("lo"));
            let listening = open(endpoint, 1, &first).expect("a socket").remove(0);
            let address = listening.endpoint().address;
            let class = |socket: &OwnedFd| {
                let socket = SockRef::from(socket);
                let class = match address.is_ipv4() {
                    true => socket.tos_v4(),
                    false => socket.tclass_v6(),
                };
                class.expect("an option") >> 2
            };
            let _peer = TcpStream::connect(address).expect("it listens");
            let before = accept(&listening).expect("a connection");
            assert_eq!(class(&before.socket), 46);
            let socket = SockRef::from(&before.socket);
            assert_eq!(socket.recv_buffer_size().expect("an option"), 200_000);
            let device = socket.device().expect("an option");
            assert_eq!(device.as_deref(), Some(&b"lo"[..]));
            listening.set_live(&options(None, None)).expect("options");
            let _peer = TcpStream::connect(address).expect("it listens");
            let after = accept(&listening).expect("a connection");
            assert_eq!((class(&after.socket), class(&before.socket)), (0, 46));
        }
    }
}
