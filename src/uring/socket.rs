//! UDP sockets of a listener: one for each shard, in one `SO_REUSEPORT` group, and what goes wrong in words.
//! It opens and describes them; nothing is received or sent here.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::stream::ListeningSocket;
use crate::transport::{Endpoint, Transport};

/// How a listener's sockets are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Bytes that the kernel keeps for us while we are busy; [`SocketOptions::KERNELS_OWN`] for connections only.
    pub receive_buffer: usize,
    /// Bytes on their way out of one socket.
    pub send_buffer: usize,
    /// Differentiated services code point of everything that is sent, 0 to 63.
    pub dscp: Option<u8>,
    /// The network device that datagrams come in and go out by; none: whichever the routes say.
    pub device: Option<Box<str>>,
}

impl Default for SocketOptions {
    /// Room for the answers to a burst of some thousand NOTIFYs, as the kernel counts: 2.3 KiB for 350 bytes.
    fn default() -> Self {
        SocketOptions {
            receive_buffer: 8 << 20,
            send_buffer: 4 << 20,
            dscp: None,
            device: None,
        }
    }
}

impl SocketOptions {
    /// A buffer of whatever size the kernel thinks right: it adapts those of connections by itself.
    pub const KERNELS_OWN: usize = 0;

    /// Whether a socket that has the other options can be given these while it lives.
    pub fn fit_live(&self, other: &SocketOptions) -> bool {
        self.device == other.device
    }
}

/// One shard's socket of a listener.
#[derive(Debug)]
pub struct ListenerSocket {
    descriptor: OwnedFd,
    address: SocketAddr,
}

impl ListenerSocket {
    /// The address that it is bound to; where port 0 was asked for, the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The size of its receive buffer as the kernel counts: with its own share of each datagram.
    pub fn receive_buffer(&self) -> usize {
        SockRef::from(self).recv_buffer_size().unwrap_or(0)
    }

    /// Whether it takes datagrams to any address of this machine.
    pub fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }

    /// Sets on the living socket what of the options can be.
    pub fn set_live(&self, options: &SocketOptions) -> io::Result<()> {
        let socket = SockRef::from(self);
        set_buffer(&socket, Buffer::Receive, options.receive_buffer)?;
        set_buffer(&socket, Buffer::Send, options.send_buffer)?;
        // What is not marked any more goes out as the kernel would have it.
        set_code_point(&socket, self.address, options.dscp.unwrap_or(0))
    }

    /// Lets other sockets of this user bind to the address beside this one.
    fn share(&self) -> io::Result<()> {
        SockRef::from(self).set_reuse_port(true)
    }

    /// From now on the kernel delivers to the other sockets of the address. This one still sends, and gives out what
    /// it had received. It cannot be undone: the socket is connected to itself, and no datagram comes from there.
    pub fn retire(&self) -> io::Result<()> {
        let mut peer = self.address;
        if self.is_wildcard() {
            peer.set_ip(match peer {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        SockRef::from(self).connect(&SockAddr::from(peer))
    }

    /// Whether nothing has been received that nobody has read.
    pub fn is_read_empty(&self) -> bool {
        const RECEIVED: usize = 0;
        self.memory()[RECEIVED] == 0
    }

    /// How many datagrams the kernel has thrown away since the socket was made, because its buffer was
    /// full. It wraps.
    pub fn drops(&self) -> u32 {
        self.memory()[DROPS]
    }

    fn memory(&self) -> [u32; DROPS + 1] {
        let mut figures = [0_u32; DROPS + 1];
        let mut length = size_of_val(&figures) as libc::socklen_t;
        // SAFETY: both pointers are to live values, of the length given.
        let result = unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                (&raw mut figures).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0, "every kernel that has io_uring has SO_MEMINFO");
        figures
    }
}

/// The place of the count of drops among the figures of a socket's memory, and the last that is read.
const DROPS: usize = 8;

/// One shard's socket of a listener, whatever comes by it.
#[derive(Clone, Debug)]
pub enum AnySocket {
    Datagrams(Arc<ListenerSocket>),
    Connections(Arc<ListeningSocket>),
}

impl AnySocket {
    /// What it is bound to.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            AnySocket::Datagrams(socket) => udp(socket.address()),
            AnySocket::Connections(socket) => socket.endpoint(),
        }
    }

    /// As for datagrams. A listening socket is never replaced by another one of its address.
    pub fn retire(&self) -> io::Result<()> {
        match self {
            AnySocket::Datagrams(socket) => socket.retire(),
            AnySocket::Connections(_) => Ok(()),
        }
    }

    /// Whether everything has been read that had come to it. What waits to be accepted is, when it is closed.
    pub fn is_read_empty(&self) -> bool {
        match self {
            AnySocket::Datagrams(socket) => socket.is_read_empty(),
            AnySocket::Connections(_) => true,
        }
    }

    /// What new connections are made with from now on, where they speak TLS.
    pub fn secure(&self, tls: Option<Arc<ServerConfig>>) {
        match self {
            AnySocket::Datagrams(_) => {}
            AnySocket::Connections(socket) => socket.secure(tls),
        }
    }

    /// As for datagrams; new connections have what is set on a listening socket.
    pub fn set_live(&self, options: &SocketOptions) -> io::Result<()> {
        match self {
            AnySocket::Datagrams(socket) => socket.set_live(options),
            AnySocket::Connections(socket) => socket.set_live(options),
        }
    }
}

impl From<Arc<ListenerSocket>> for AnySocket {
    fn from(socket: Arc<ListenerSocket>) -> Self {
        AnySocket::Datagrams(socket)
    }
}

impl From<Arc<ListeningSocket>> for AnySocket {
    fn from(socket: Arc<ListeningSocket>) -> Self {
        AnySocket::Connections(socket)
    }
}

/// Not named by the libc crate for all of its targets; it is the same on all that io_uring is used on.
const SO_MEMINFO: libc::c_int = 55;

impl AsFd for ListenerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for ListenerSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Opens one socket for each of `shards`, all bound to `address` and to nobody else's socket.
pub fn open(
    address: SocketAddr,
    shards: u16,
    options: &SocketOptions,
) -> Result<Vec<Arc<ListenerSocket>>, OpenError> {
    let mut sockets = Vec::with_capacity(usize::from(shards));
    let mut address = address;
    for shard in 0..shards {
        let place = match shard {
            0 if shards == 1 => Place::Alone,
            0 => Place::First,
            _ => Place::Further,
        };
        let socket = open_one(address, place, options)?;
        address = socket.address;
        if shard == 0 {
            warn_of_small_buffer(&socket, options);
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Opens as many sockets beside `standing` on the same address, which may be some of ours only.
pub fn open_beside(
    address: SocketAddr,
    standing: &[Arc<ListenerSocket>],
    shards: u16,
    options: &SocketOptions,
) -> Result<Vec<Arc<ListenerSocket>>, OpenError> {
    for socket in standing {
        let failed = |error| OpenError::new(udp(address), Step::Share, error);
        socket.share().map_err(failed)?;
    }
    let sockets = (0..shards).map(|_| open_one(address, Place::Further, options));
    sockets.collect()
}

/// The first socket of a group is bound alone, so that it is refused where any other socket has the
/// address, also one of a process that would share it. Only then does it let others in: ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Alone,
    First,
    Further,
}

fn open_one(
    address: SocketAddr,
    place: Place,
    options: &SocketOptions,
) -> Result<Arc<ListenerSocket>, OpenError> {
    let failed = |step| move |error| OpenError::new(udp(address), step, error);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.cloexec(),
        Some(Protocol::UDP),
    )
    .map_err(failed(Step::Create))?;
    if place == Place::Further {
        socket.set_reuse_port(true).map_err(failed(Step::Share))?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed(Step::SetUp))?;
    }
    set_up(&socket, address, options).map_err(failed(Step::SetUp))?;
    if let Some(device) = &options.device {
        let bound = socket.bind_device(Some(device.as_bytes()));
        bound.map_err(failed(Step::Device))?;
    }
    socket
        .bind(&SockAddr::from(address))
        .map_err(failed(Step::Bind))?;
    if place == Place::First {
        socket.set_reuse_port(true).map_err(failed(Step::Share))?;
    }
    let bound = socket.local_addr().map_err(failed(Step::Bind))?;
    Ok(Arc::new(ListenerSocket {
        address: bound.as_socket().unwrap_or(address),
        descriptor: socket.into(),
    }))
}

fn set_up(socket: &Socket, address: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    set_buffer(socket, Buffer::Receive, options.receive_buffer)?;
    set_buffer(socket, Buffer::Send, options.send_buffer)?;
    let wildcard = address.ip().is_unspecified();
    match address {
        SocketAddr::V4(_) => {
            // A NOTIFY larger than the path may be fragmented anywhere: one that is dropped because
            // an ICMP message got lost would leave a lamp wrong.
            let dont = libc::IP_PMTUDISC_DONT;
            set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, dont)?;
            if wildcard {
                set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
            }
        }
        SocketAddr::V6(_) => {
            if wildcard {
                set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            }
        }
    }
    match options.dscp {
        Some(dscp) => set_code_point(socket, address, dscp),
        None => Ok(()),
    }
}

/// The options of a listening socket: the connections that come to it have them from their beginning.
pub(super) fn set_up_listening(
    socket: &Socket,
    address: SocketAddr,
    options: &SocketOptions,
) -> io::Result<()> {
    let buffers = [
        (Buffer::Receive, options.receive_buffer),
        (Buffer::Send, options.send_buffer),
    ];
    for (buffer, bytes) in buffers {
        if bytes != SocketOptions::KERNELS_OWN {
            set_buffer(socket, buffer, bytes)?;
        }
    }
    set_code_point(socket, address, options.dscp.unwrap_or(0))?;
    socket.bind_device(options.device.as_ref().map(|device| device.as_bytes()))
}

fn set_code_point(socket: &Socket, address: SocketAddr, dscp: u8) -> io::Result<()> {
    let class = i32::from(dscp) << 2;
    match address {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_TOS, class),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class),
    }
}

fn warn_of_small_buffer(socket: &ListenerSocket, options: &SocketOptions) {
    let asked = options.receive_buffer;
    // The kernel counts its own share as well, and doubles for that.
    let given = socket.receive_buffer() / 2;
    if given < asked {
        tracing::warn!(
            "udp:{}: the receive buffer is {given} bytes instead of {asked}: a burst may be lost; \
             raise net.core.rmem_max, or grant CAP_NET_ADMIN",
            socket.address
        );
    }
}

#[derive(Clone, Copy)]
enum Buffer {
    Receive,
    Send,
}

/// With CAP_NET_ADMIN as large as asked for, else as large as `rmem_max` and `wmem_max` allow.
fn set_buffer(socket: &Socket, buffer: Buffer, bytes: usize) -> io::Result<()> {
    let force = match buffer {
        Buffer::Receive => libc::SO_RCVBUFFORCE,
        Buffer::Send => libc::SO_SNDBUFFORCE,
    };
    // The kernel doubles what it is given, and refuses what overflows when doubled.
    let value = i32::try_from(bytes).unwrap_or(i32::MAX).min(i32::MAX / 2);
    if set_option(socket, libc::SOL_SOCKET, force, value).is_ok() {
        return Ok(());
    }
    match buffer {
        Buffer::Receive => socket.set_recv_buffer_size(value as usize),
        Buffer::Send => socket.set_send_buffer_size(value as usize),
    }
}

fn set_option(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer is to a live integer of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn udp(address: SocketAddr) -> Endpoint {
    Endpoint {
        transport: Transport::Udp,
        address,
    }
}

/// Why a listener could not be opened.
#[derive(Debug)]
pub struct OpenError {
    endpoint: Endpoint,
    step: Step,
    error: io::Error,
}

/// How far the opening came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    SetUp,
    Device,
    Share,
    Bind,
    Listen,
}

impl OpenError {
    pub(super) fn new(endpoint: Endpoint, step: Step, error: io::Error) -> OpenError {
        OpenError {
            endpoint,
            step,
            error,
        }
    }

    /// The address that was asked for.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// What the kernel said.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// Whether this machine has no such address, or no such family of addresses.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.error.raw_os_error(),
            Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
        )
    }

    fn advice(&self) -> Option<String> {
        let port = self.endpoint.address.port();
        match self.error.raw_os_error()? {
            libc::EADDRINUSE => {
                let kind = if self.endpoint.transport.is_stream() {
                    "t"
                } else {
                    "u"
                };
                Some(format!(
                    "another socket has it; `ss -l{kind}np sport = {port}` shows whose"
                ))
            }
            libc::EADDRNOTAVAIL => Some("no interface of this machine has this address".into()),
            libc::EACCES if port < 1024 => Some(format!(
                "port {port} needs CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start"
            )),
            libc::ENODEV => Some("`ip link` lists the devices".into()),
            libc::EPERM if self.step == Step::Device => Some("needs CAP_NET_RAW".into()),
            libc::EAFNOSUPPORT => Some("this kernel has IPv6 switched off".into()),
            libc::EMFILE | libc::ENFILE => Some("raise the limit of open files (ulimit -n)".into()),
            _ => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.step {
            Step::Create => "create a socket",
            Step::SetUp => "set the socket's options",
            Step::Device => "bind to the device",
            Step::Share => "share the address among the shards",
            Step::Bind => "bind",
            Step::Listen => "listen",
        };
        let (endpoint, error) = (self.endpoint, &self.error);
        write!(f, "cannot listen on {endpoint}: {doing}: {error}")?;
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for OpenError {}
