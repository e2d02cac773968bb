//! The system calls that the standard library lacks: datagrams in batches, processor affinity,
//! large socket buffers. The only file of this crate with `unsafe`; it knows nothing of SIP.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How many datagrams one system call moves at most.
pub const BATCH: usize = 64;
/// The longest datagram that is received whole.
const DATAGRAM_BYTES: usize = 8192;
/// What each socket asks for as its receive buffer: a burst to 50,000 phones fits.
static RECEIVE_BUFFER_BYTES: libc::c_int = 96 * 1024 * 1024;

/// Room for one number that the kernel adds to a datagram, aligned as its header must be.
type Control = [u64; 8];

/// Datagrams that came in with one call.
pub struct Inbox {
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Default for Inbox {
    fn default() -> Self {
        // SAFETY: all three are plain C structures for which all-zero bytes are a valid value.
        let (name, vector, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Inbox {
            bytes: vec![0; BATCH * DATAGRAM_BYTES],
            names: vec![name; BATCH],
            controls: vec![[0; 8]; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
        }
    }
}

impl Inbox {
    /// Receives what is there without waiting; how many came.
    pub fn receive(&mut self, socket: &UdpSocket) -> usize {
        let base = self.bytes.as_mut_ptr();
        for index in 0..BATCH {
            // SAFETY: index < BATCH, and `bytes` holds BATCH pieces of DATAGRAM_BYTES.
            self.vectors[index].iov_base = unsafe { base.add(index * DATAGRAM_BYTES) }.cast();
            self.vectors[index].iov_len = DATAGRAM_BYTES;
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: every header points to a name, a vector, a buffer and control bytes that this Inbox owns and that
        // live beyond the call; their lengths are the true ones.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// The datagram with this number of the last `receive`, and who sent it.
    pub fn datagram(&self, index: usize) -> (&[u8], SocketAddr) {
        let length = (self.headers[index].msg_len as usize).min(DATAGRAM_BYTES);
        let start = index * DATAGRAM_BYTES;
        let bytes = &self.bytes[start..start + length];
        (bytes, address_of(&self.names[index]))
    }

    /// The traffic class (RFC 2474) of that datagram, where its socket shows it: the upper six bits are the DSCP.
    pub fn class(&self, index: usize) -> Option<u8> {
        let header = &raw const self.headers[index].msg_hdr;
        // SAFETY: the header is that of the last `receive`, whose control bytes and their length the kernel wrote;
        // they are owned by this Inbox and aligned. A control message of these kinds holds at least one byte.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(header);
            if control.is_null() {
                return None;
            }
            match ((*control).cmsg_level, (*control).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_TOS) => Some(*libc::CMSG_DATA(control)),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let class = libc::CMSG_DATA(control).cast::<libc::c_int>();
                    Some(class.read_unaligned() as u8)
                }
                _ => None,
            }
        }
    }
}

/// From now on each datagram of this socket comes with its traffic class.
pub fn show_class(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVTOS),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is a c_int that lives beyond the call, and its size is given.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Datagrams that wait to be sent with one call, in one piece of memory.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Where each datagram ends, and whom it goes to.
    ends: Vec<(usize, SocketAddr)>,
}

impl Outbox {
    /// Where the next datagram is written: append to it, then `close`.
    pub fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was appended since the last `close` is a datagram to `peer`. True: the batch is full, flush it.
    #[must_use]
    pub fn close(&mut self, peer: SocketAddr) -> bool {
        self.ends.push((self.bytes.len(), peer));
        self.ends.len() >= BATCH
    }

    /// What was appended since the last `close` is forgotten.
    pub fn discard(&mut self) {
        let end = self.ends.last().map_or(0, |(end, _)| *end);
        self.bytes.truncate(end);
    }

    /// Sends everything, waiting where the socket is full. How many the kernel refused.
    pub fn flush(&mut self, socket: &UdpSocket) -> usize {
        let mut refused = 0;
        let mut done = 0;
        while done < self.ends.len() {
            let sent = self.send_batch(socket, done);
            if sent > 0 {
                done += sent;
            } else if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                wait(&[socket], libc::POLLOUT, 10);
            } else {
                refused += 1;
                done += 1;
            }
        }
        self.bytes.clear();
        self.ends.clear();
        refused
    }

    fn send_batch(&self, socket: &UdpSocket, first: usize) -> usize {
        // SAFETY: plain C structures for which all-zero bytes are a valid value.
        let (mut names, mut vectors, mut headers): (
            [libc::sockaddr_storage; BATCH],
            [libc::iovec; BATCH],
            [libc::mmsghdr; BATCH],
        ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        let count = (self.ends.len() - first).min(BATCH);
        for offset in 0..count {
            let index = first + offset;
            let start = if index == 0 {
                0
            } else {
                self.ends[index - 1].0
            };
            let (end, peer) = self.ends[index];
            vectors[offset].iov_base = self.bytes[start..end].as_ptr().cast_mut().cast();
            vectors[offset].iov_len = end - start;
            let header = &mut headers[offset].msg_hdr;
            header.msg_namelen = write_address(&mut names[offset], peer);
            header.msg_name = (&raw mut names[offset]).cast();
            header.msg_iov = &raw mut vectors[offset];
            header.msg_iovlen = 1;
        }
        // SAFETY: the first `count` headers point to names and vectors on this stack frame and to bytes
        // that `self` owns; the kernel only reads them, and only during the call.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).unwrap_or(0)
    }
}

/// A bound socket with a receive buffer as large as the system allows.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // The forced option needs CAP_NET_ADMIN; without it the system's limit applies.
    for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
        // SAFETY: the value is a c_int that lives beyond the call, and its size is given.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const RECEIVE_BUFFER_BYTES).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
    Ok(socket)
}

/// Waits until one of the sockets can be read, at most so long. Whether one can.
pub fn wait_readable(sockets: &[&UdpSocket], milliseconds: i32) -> bool {
    wait(sockets, libc::POLLIN, milliseconds)
}

fn wait(sockets: &[&UdpSocket], events: libc::c_short, milliseconds: i32) -> bool {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|socket| libc::pollfd {
            fd: socket.as_raw_fd(),
            events,
            revents: 0,
        })
        .collect();
    // SAFETY: `polled` is an array of exactly the given length that lives beyond the call.
    let ready = unsafe {
        libc::poll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            milliseconds,
        )
    };
    ready > 0
}

/// Sockets that are waited for together, each by its number.
pub struct Poller {
    descriptor: OwnedFd,
    events: Vec<libc::epoll_event>,
    came: usize,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Poller {
            // SAFETY: the descriptor was just made and is nobody else's.
            descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; 512],
            came: 0,
        })
    }

    /// From now on this socket is waited for until it can be read. It leaves when it is closed.
    pub fn add(&self, socket: &impl AsRawFd, number: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, number, false)
    }

    /// Whether it is waited for until it can be written, too.
    pub fn want_room(&self, socket: &impl AsRawFd, number: usize, room: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, number, room)
    }

    fn control(
        &self,
        what: libc::c_int,
        socket: &impl AsRawFd,
        number: usize,
        room: bool,
    ) -> io::Result<()> {
        let room = if room { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | room) as u32,
            u64: number as u64,
        };
        // SAFETY: the event lives beyond the call; both descriptors are open.
        let failed = unsafe {
            libc::epoll_ctl(
                self.descriptor.as_raw_fd(),
                what,
                socket.as_raw_fd(),
                &raw mut event,
            )
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits at most so long until something is ready; how many are.
    pub fn wait(&mut self, milliseconds: i32) -> usize {
        // SAFETY: `events` is an array of exactly the given length that lives beyond the call.
        let came = unsafe {
            libc::epoll_wait(
                self.descriptor.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                milliseconds,
            )
        };
        self.came = usize::try_from(came).unwrap_or(0);
        self.came
    }

    /// The number of one of those that were ready at the last `wait`.
    pub fn ready(&self, index: usize) -> usize {
        assert!(index < self.came);
        self.events[index].u64 as usize
    }
}

/// Keeps this thread, and the threads that it starts, on one processor.
pub fn stay_on(processor: usize) -> io::Result<()> {
    set_affinity(processor)
}

/// Makes the program that `command` starts run on one processor only, and end when we end.
pub fn keep_on(command: &mut Command, processor: Option<usize>) {
    let prepare = move || {
        if let Some(processor) = processor {
            set_affinity(processor)?;
        }
        // SAFETY: no pointers; it concerns only the calling process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes two system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

fn set_affinity(processor: usize) -> io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is an empty set; CPU_SET checks the range; the size given is the set's own.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The processors that this process may use, in order.
pub fn processors() -> Vec<usize> {
    // SAFETY: a zeroed cpu_set_t is valid, the call writes at most the size given, CPU_ISSET only reads.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return vec![0];
        }
        (0..libc::CPU_SETSIZE as usize)
            .filter(|&processor| libc::CPU_ISSET(processor, &set))
            .collect()
    }
}

/// Asks a process that we started to end.
pub fn terminate(process: u32) {
    // SAFETY: no pointers; the number is that of a child that has not been waited for, so it names nobody else.
    unsafe { libc::kill(process as libc::pid_t, libc::SIGTERM) };
}

/// Asks a process that we started to end as if by the keyboard.
pub fn interrupt(process: u32) {
    // SAFETY: as in `terminate`.
    unsafe { libc::kill(process as libc::pid_t, libc::SIGINT) };
}

fn address_of(storage: &libc::sockaddr_storage) -> SocketAddr {
    if i32::from(storage.ss_family) == libc::AF_INET6 {
        // SAFETY: the family says that the kernel wrote a sockaddr_in6, which is smaller than the storage.
        let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
        let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
        SocketAddrV6::new(address, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into()
    } else {
        // SAFETY: likewise a sockaddr_in; where nothing was written, zero bytes are a valid one.
        let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
        let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
        SocketAddrV4::new(address, u16::from_be(name.sin_port)).into()
    }
}

fn write_address(storage: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: a sockaddr_in is smaller than the storage and no stricter aligned.
            let name = unsafe { &mut *(&raw mut *storage).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = v4.port().to_be();
            name.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            // SAFETY: a sockaddr_in6 is smaller than the storage and no stricter aligned.
            let name = unsafe { &mut *(&raw mut *storage).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = v6.port().to_be();
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_class_of_a_datagram_is_seen_where_it_was_asked_for() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let [sender, receiver] = [(); 2].map(|()| bind(address.parse().unwrap()).unwrap());
            let mut inbox = Inbox::default();
            let mut class = |expected: usize| {
                sender
                    .send_to(b"x", receiver.local_addr().unwrap())
                    .unwrap();
                wait_readable(&[&receiver], 1000);
                assert_eq!(inbox.receive(&receiver), expected);
                inbox.class(0)
            };
            assert_eq!(class(1), None);
            show_class(&receiver).unwrap();
            assert_eq!(class(1), Some(0));
        }
    }

    #[test]
    fn a_batch_of_datagrams_arrives_in_order_with_its_sender() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let sender = bind(address.parse().unwrap()).unwrap();
            let receiver = bind(address.parse().unwrap()).unwrap();
            let mut outbox = Outbox::default();
            for number in 0..10u8 {
                outbox.open().extend_from_slice(&[number; 3]);
                assert!(!outbox.close(receiver.local_addr().unwrap()));
            }
            assert_eq!(outbox.flush(&sender), 0);
            let mut inbox = Inbox::default();
            let mut heard = 0u8;
            while heard < 10 {
                wait_readable(&[&receiver], 1000);
                for index in 0..inbox.receive(&receiver) {
                    let (bytes, peer) = inbox.datagram(index);
                    assert_eq!(bytes, [heard; 3]);
                    assert_eq!(peer, sender.local_addr().unwrap());
                    heard += 1;
                }
            }
        }
    }
}
