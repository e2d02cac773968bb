//! Lists of address ranges: whom a listener trusts, and which addresses are edges.

use core::net::IpAddr;

use super::Fault;
use super::domains::address_in;

/// Address ranges, joined and sorted, so that a look-up is one binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last address of each range; they neither overlap nor touch.
    ranges: Vec<(u128, u128)>,
}

impl Networks {
    /// From `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1`, `2001:db8::/32`.
    pub fn new(texts: &[String]) -> Result<Networks, Fault> {
        let mut ranges = Vec::with_capacity(texts.len());
        for text in texts {
            ranges.push(range(text)?);
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                Some(_) | None => joined.push((first, last)),
            }
        }
        Ok(Networks { ranges: joined })
    }

    /// Whether the address is in one of the ranges; an IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        after > 0 && number <= self.ranges[after - 1].1
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// IPv4 addresses stand in the block that IPv6 sets aside for them.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn range(text: &str) -> Result<(u128, u128), Fault> {
    let (host, prefix) = match text.split_once('/') {
        Some((host, prefix)) => (host, Some(prefix)),
        None => (text, None),
    };
    let Some(address) = address_in(host) else {
        return Err(Fault::new(
            text,
            "an address or a network, such as \"192.0.2.1\" or \"2001:db8::/32\"",
        ));
    };
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let bits: u32 = match prefix {
        None => widest,
        Some(prefix) => match prefix.parse() {
            Ok(bits) if bits <= widest => bits,
            Ok(_) | Err(_) => {
                return Err(Fault::new(
                    text,
                    format!("a prefix length from 0 to {widest}, such as \"{host}/{widest}\""),
                ));
            }
        },
    };
    let hosts = 1u128
        .checked_shl(widest - bits)
        .map_or(u128::MAX, |size| size - 1);
    let first = number(address) & !hosts;
    if first != number(address) {
        let network = core::net::Ipv6Addr::from_bits(first).to_canonical();
        return Err(Fault::new(
            text,
            format!("the first address of the network: \"{network}/{bits}\""),
        ));
    }
    Ok((first, first | hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Result<Networks, Fault> {
        Networks::new(
            &texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn contains(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_found_in_its_network_and_in_no_other() {
        let list = networks(&["192.0.2.0/24", "10.1.2.3", "2001:db8::/32", "[::1]"]).unwrap();
        for inside in [
            "192.0.2.0",
            "192.0.2.255",
            "::ffff:192.0.2.7",
            "10.1.2.3",
            "2001:db8:ffff::1",
            "::1",
        ] {
            assert!(contains(&list, inside), "{inside}");
        }
        for outside in ["192.0.1.255", "192.0.3.0", "10.1.2.4", "2001:db9::", "::2"] {
            assert!(!contains(&list, outside), "{outside}");
        }
    }

    #[test]
    fn every_ipv4_address_is_not_every_ipv6_address() {
        let list = networks(&["0.0.0.0/0"]).unwrap();
        assert!(contains(&list, "203.0.113.9"));
        assert!(!contains(&list, "2001:db8::1"));
        let list = networks(&["::/0"]).unwrap();
        assert!(contains(&list, "2001:db8::1"));
    }

    #[test]
    fn overlapping_networks_are_one() {
        let list = networks(&["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"]).unwrap();
        assert_eq!(list, networks(&["10.0.0.0/7"]).unwrap());
    }

    #[test]
    fn a_wrong_network_says_what_to_write_instead() {
        let message = |text: &str| networks(&[text]).unwrap_err().to_string();
        assert!(message("192.0.2.1/24").contains("\"192.0.2.0/24\""));
        assert!(message("192.0.2.0/33").contains("0 to 32"));
        assert!(message("pbx.example.com").contains("192.0.2.1"));
        assert!(message("2001:db8::1/64").contains("\"2001:db8::/64\""));
    }
}
