//! Who asks. Compared and hashed as one number; only who has proven a name carries it.

use core::hash::{Hash, Hasher};
use core::net::IpAddr;
use std::sync::Arc;

use super::key::Key;
use crate::partition::Secrets;

/// Who sends a request.
#[derive(Clone, Debug)]
pub struct Identity {
    number: u128,
    name: Option<Arc<str>>,
}

impl Identity {
    /// Who has authenticated as `user@domain`, wherever the request came from.
    pub fn authenticated(name: Arc<str>, secrets: &Secrets) -> Identity {
        Identity {
            number: secrets.hash_wide(&[b"authenticated", name.as_bytes()]),
            name: Some(name),
        }
    }

    /// Who claims an address-of-record: another source address is somebody else.
    pub fn claimed(address_of_record: &Key, source: IpAddr, secrets: &Secrets) -> Identity {
        let parts: [&[u8]; 3] = [b"claimed", address_of_record.as_bytes(), &octets(source)];
        Identity {
            number: secrets.hash_wide(&parts),
            name: None,
        }
    }

    /// Stands for the identity in tables.
    pub fn number(&self) -> u128 {
        self.number
    }

    /// The canonical `user@domain` of who has authenticated.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }
}

/// One form for an address, whichever clothes it wears.
pub(super) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.number == other.number
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_claims_the_same_name_from_another_address_is_somebody_else() {
        let secrets = Secrets::new([3; 32]);
        let alice = Key::new(b"alice", "d").unwrap();
        let claimed =
            |key: &Key, source: &str| Identity::claimed(key, source.parse().unwrap(), &secrets);
        let here = claimed(&alice, "192.0.2.1");
        assert_eq!(here, claimed(&alice, "192.0.2.1"));
        assert_eq!(here, claimed(&alice, "::ffff:192.0.2.1"));
        assert_ne!(here, claimed(&alice, "192.0.2.2"));
        assert_ne!(here, claimed(&Key::new(b"bob", "d").unwrap(), "192.0.2.1"));
        assert_ne!(here, Identity::authenticated("alice@d".into(), &secrets));
        assert_eq!(here.name(), None);
    }
}
