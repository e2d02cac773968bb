//! STUN on the SIP port (RFC 5626 8): a phone asks under which address we see it, and keeps the way through its NAT open by
//! that. One request, one answer, and nothing is kept.

use core::net::{IpAddr, SocketAddr};

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
const HEADER: usize = 20;
/// Attributes from here on may be passed over by who does not know them.
const OPTIONAL: u16 = 0x8000;

/// Writes the answer to a binding request, and returns its length. None: it is none, is cut, or demands what is not served
/// (credentials, for one): then silence costs the least. With an address of IPv4 the answer has 32 bytes and with one of
/// IPv6 44, while no request has less than 20: who writes another's address into one gains next to nothing.
//= RFC 8489 6.3.1
pub fn answer(request: &[u8], peer: SocketAddr, out: &mut [u8]) -> Option<usize> {
    let header: &[u8; HEADER] = request.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let asks = header[..2] == BINDING_REQUEST && header[4..8] == MAGIC_COOKIE;
    if !asks || request.len() != HEADER + length || demands_more(&request[HEADER..]) {
        return None;
    }
    let id = &header[4..HEADER];
    let mut mapped = [0; 16];
    let (family, address) = match peer.ip().to_canonical() {
        IpAddr::V4(address) => {
            mapped[..4].copy_from_slice(&address.octets());
            (1, &mut mapped[..4])
        }
        IpAddr::V6(address) => {
            mapped.copy_from_slice(&address.octets());
            (2, &mut mapped[..])
        }
    };
    //= RFC 8489 14.2
    for (byte, key) in address.iter_mut().zip(id) {
        *byte ^= key;
    }
    let port = peer.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    let value = 4 + address.len();
    let parts: [&[u8]; 7] = [
        &BINDING_SUCCESS,
        &(4 + value as u16).to_be_bytes(),
        id,
        &XOR_MAPPED_ADDRESS,
        &(value as u16).to_be_bytes(),
        &[0, family],
        &port.to_be_bytes(),
    ];
    let mut at = 0;
    for part in parts.into_iter().chain([&*address]) {
        out.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    Some(at)
}

/// Whether an attribute must be understood, or makes no sense.
fn demands_more(mut attributes: &[u8]) -> bool {
    while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some(rest) = rest.get(length.next_multiple_of(4)..) else {
            return true;
        };
        if kind < OPTIONAL {
            return true;
        }
        attributes = rest;
    }
    !attributes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = (attributes.len() as u16).to_be_bytes();
        [
            &BINDING_REQUEST,
            &length,
            &MAGIC_COOKIE[..],
            &ID,
            attributes,
        ]
        .concat()
    }

    fn answered(request: &[u8], peer: &str) -> Option<Vec<u8>> {
        let mut out = [0; 64];
        let length = answer(request, peer.parse().expect("an address"), &mut out)?;
        Some(out[..length].to_vec())
    }

    //= RFC 8489 14.2 type=test
    #[test]
    fn the_mapped_addresses_are_those_of_the_test_vectors() {
        // RFC 5769 2.2 and 2.3.
        for (peer, attribute) in [
            (
                "192.0.2.1:32853",
                &[0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43][..],
            ),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                &[
                    0, 0x20, 0, 0x14, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1,
                    0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
                ],
            ),
        ] {
            let length = (attribute.len() as u16).to_be_bytes();
            let expected = [&BINDING_SUCCESS, &length, &MAGIC_COOKIE[..], &ID, attribute].concat();
            assert_eq!(answered(&request(&[]), peer), Some(expected), "{peer}");
        }
    }

    //= RFC 8489 6.3.1 type=test
    #[test]
    fn whatever_else_comes_is_met_with_silence() {
        let peer = "192.0.2.1:5060";
        // SOFTWARE may be there, and FINGERPRINT.
        let known = [
            0x80, 0x22, 0, 3, b'a', b'b', b'c', 0, 0x80, 0x28, 0, 4, 1, 2, 3, 4,
        ];
        let known = request(&known);
        assert!(answered(&known, peer).is_some());
        for end in 0..known.len() {
            assert_eq!(answered(&known[..end], peer), None, "{end}");
        }
        assert_eq!(answered(&[&known[..], b"x"].concat(), peer), None);
        // USERNAME: credentials are not served.
        assert_eq!(answered(&request(&[0, 6, 0, 1, b'u', 0, 0, 0]), peer), None);
        // An attribute that is longer than the message.
        assert_eq!(
            answered(&request(&[0x80, 0x22, 0, 9, 1, 2, 3, 4]), peer),
            None
        );
        let mut indication = request(&[]);
        indication[1] = 0x11;
        assert_eq!(answered(&indication, peer), None);
        let mut success = request(&[]);
        success[0] = 0x01;
        assert_eq!(answered(&success, peer), None);
    }
}
