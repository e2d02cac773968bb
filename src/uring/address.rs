//! Socket addresses and packet-information control messages, as the kernel reads and writes them.
//! Bytes in, plain types out, and back; it calls nothing.

use core::mem::{offset_of, size_of};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for the larger of the two address families.
pub const NAME_SIZE: usize = size_of::<libc::sockaddr_in6>();

/// Room for one packet-information message of either family, header and padding included.
pub const CONTROL_SIZE: usize = CONTROL_HEADER + align(size_of::<libc::in6_pktinfo>());

const CONTROL_HEADER: usize = align(size_of::<libc::cmsghdr>());

/// A peer's address where a submission entry can point at it.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    /// Nobody's address, to be overwritten.
    pub const EMPTY: Name = Name {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// Writes `address`, and returns how many bytes of this are meant.
    pub fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(address) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: in_addr(*address.ip()),
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(address) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: in6_addr(*address.ip()),
                    sin6_scope_id: address.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

/// The address that the kernel wrote into `name`; `None` where it is neither IPv4 nor IPv6.
pub fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            const ADDRESS: usize = offset_of!(libc::sockaddr_in, sin_addr);
            let octets: [u8; 4] = name.get(ADDRESS..ADDRESS + 4)?.try_into().ok()?;
            Some(SocketAddr::V4(SocketAddrV4::new(octets.into(), port)))
        }
        libc::AF_INET6 => {
            const ADDRESS: usize = offset_of!(libc::sockaddr_in6, sin6_addr);
            const SCOPE: usize = offset_of!(libc::sockaddr_in6, sin6_scope_id);
            let octets: [u8; 16] = name.get(ADDRESS..ADDRESS + 16)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(SCOPE..SCOPE + 4)?.try_into().ok()?);
            let address = SocketAddrV6::new(octets.into(), port, 0, scope);
            Some(SocketAddr::V6(address))
        }
        _ => None,
    }
}

/// The local address that a datagram came to, from its control messages; one that we can also send from.
pub fn read_local(mut control: &[u8]) -> Option<IpAddr> {
    while control.len() >= CONTROL_HEADER {
        let length = usize::from_ne_bytes(control[..size_of::<usize>()].try_into().ok()?);
        let level = i32_at(control, offset_of!(libc::cmsghdr, cmsg_level))?;
        let kind = i32_at(control, offset_of!(libc::cmsghdr, cmsg_type))?;
        let data = control.get(CONTROL_HEADER..length)?;
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // `spec_dst` is a local address also where the datagram was sent to a group or to everyone.
                const ADDRESS: usize = offset_of!(libc::in_pktinfo, ipi_spec_dst);
                let octets: [u8; 4] = data.get(ADDRESS..ADDRESS + 4)?.try_into().ok()?;
                return Some(IpAddr::V4(octets.into()));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let octets: [u8; 16] = data.get(..16)?.try_into().ok()?;
                let address = Ipv6Addr::from(octets);
                return (!address.is_multicast()).then_some(IpAddr::V6(address));
            }
            _ => control = control.get(align(length)..)?,
        }
    }
    None
}

/// A control message that makes a datagram leave from one of our addresses.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Source([u8; CONTROL_SIZE]);

impl Source {
    /// No address yet.
    pub const EMPTY: Source = Source([0; CONTROL_SIZE]);

    /// Writes `source`, and returns how many bytes of this are meant.
    /// `scope` is the interface that a link-local address belongs to, else 0.
    pub fn set(&mut self, source: IpAddr, scope: u32) -> usize {
        self.0 = [0; CONTROL_SIZE];
        match source {
            IpAddr::V4(address) => {
                const DATA: usize = size_of::<libc::in_pktinfo>();
                const ADDRESS: usize = CONTROL_HEADER + offset_of!(libc::in_pktinfo, ipi_spec_dst);
                self.header(libc::IPPROTO_IP, libc::IP_PKTINFO, DATA);
                self.0[ADDRESS..ADDRESS + 4].copy_from_slice(&address.octets());
                CONTROL_HEADER + align(DATA)
            }
            IpAddr::V6(address) => {
                const DATA: usize = size_of::<libc::in6_pktinfo>();
                const SCOPE: usize = CONTROL_HEADER + offset_of!(libc::in6_pktinfo, ipi6_ifindex);
                self.header(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, DATA);
                self.0[CONTROL_HEADER..CONTROL_HEADER + 16].copy_from_slice(&address.octets());
                self.0[SCOPE..SCOPE + 4].copy_from_slice(&scope.to_ne_bytes());
                CONTROL_HEADER + align(DATA)
            }
        }
    }

    fn header(&mut self, level: i32, kind: i32, data: usize) {
        const LEVEL: usize = offset_of!(libc::cmsghdr, cmsg_level);
        const KIND: usize = offset_of!(libc::cmsghdr, cmsg_type);
        self.0[..size_of::<usize>()].copy_from_slice(&(CONTROL_HEADER + data).to_ne_bytes());
        self.0[LEVEL..LEVEL + 4].copy_from_slice(&level.to_ne_bytes());
        self.0[KIND..KIND + 4].copy_from_slice(&kind.to_ne_bytes());
    }
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    }
}

fn in6_addr(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: address.octets(),
    }
}

/// Control messages start at multiples of a machine word.
const fn align(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_bytes(address: SocketAddr) -> Vec<u8> {
        let mut name = Name::EMPTY;
        let length = name.set(address) as usize;
        // SAFETY: a union of two plain structs of bytes and integers, all of them written.
        let bytes = unsafe { core::mem::transmute::<Name, [u8; NAME_SIZE]>(name) };
        bytes[..length].to_vec()
    }

    #[test]
    fn an_address_comes_back_as_it_was_written() {
        for text in ["192.0.2.1:5060", "[2001:db8::7]:65535", "[fe80::1%3]:5062"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(read_name(&name_bytes(address)), Some(address));
        }
    }

    #[test]
    fn a_name_that_is_cut_or_of_another_family_is_none() {
        let whole = name_bytes("[2001:db8::7]:5060".parse().unwrap());
        for length in 0..whole.len() {
            assert_eq!(read_name(&whole[..length]), None, "of {length} bytes");
        }
        assert_eq!(read_name(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_source_that_we_wrote_is_a_local_address_when_read() {
        for text in ["127.0.0.2", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            let mut source = Source::EMPTY;
            let length = source.set(address, 0);
            assert_eq!(read_local(&source.0[..length]), Some(address));
        }
    }

    #[test]
    fn another_control_message_before_it_is_skipped_and_a_cut_one_is_none() {
        let mut other = Source::EMPTY;
        other.header(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4);
        let mut control = other.0[..CONTROL_HEADER + align(4)].to_vec();
        let mut source = Source::EMPTY;
        let length = source.set("127.0.0.2".parse().unwrap(), 0);
        control.extend_from_slice(&source.0[..length]);

        assert_eq!(read_local(&control), Some("127.0.0.2".parse().unwrap()));
        for cut in 0..control.len() - 4 {
            assert_eq!(read_local(&control[..cut]), None, "of {cut} bytes");
        }
    }

    #[test]
    fn a_control_length_of_zero_or_beyond_the_end_ends_the_reading() {
        let mut control = [0_u8; 64];
        assert_eq!(read_local(&control), None);
        control[..8].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(read_local(&control), None);
    }
}
