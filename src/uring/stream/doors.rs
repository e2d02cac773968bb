//! Who may connect: how many connections each source has, in all shards together. The kernel spreads the connections of
//! one source over the shards by their ports, so none of these could count them alone. Asked once for each connection.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::policy::{Crowded, Policy, SourceLimits, Sources};

/// A limit that goes on being reached is named again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// The connections of a process by their sources.
#[derive(Debug, Default)]
pub struct Doors(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sources: Sources,
    limits: SourceLimits,
    /// It knows which addresses speak for many.
    policy: Option<Arc<Policy>>,
    /// When each limit was named last.
    told: [Option<Instant>; 3],
}

impl Doors {
    /// These hold for whoever connects from now on; who is there stays.
    pub fn adopt(&self, limits: SourceLimits, policy: Arc<Policy>) {
        let mut inner = self.inner();
        inner.limits = limits;
        // The one before is freed when nobody waits for the lock.
        let before = inner.policy.replace(policy);
        drop(inner);
        drop(before);
    }

    /// One more connection, if its source may have one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Crowded> {
        let mut inner = self.inner();
        let Inner {
            sources,
            limits,
            policy,
            told,
        } = &mut *inner;
        let edge = |policy: &Arc<Policy>| policy.edge(address).is_some();
        let many = is_localhost(address) || policy.as_ref().is_some_and(edge);
        let Err(crowded) = sources.enter(address, many, limits) else {
            return Ok(Place {
                doors: Arc::clone(self),
                address,
                heard: false,
            });
        };
        let told = &mut told[crowded as usize];
        let tell = told.is_none_or(|told| told.elapsed() >= AGAIN);
        if tell {
            *told = Some(Instant::now());
        }
        drop(inner);
        if tell {
            let limit = crowded.name();
            tracing::warn!(source = %address, limit, "a connection is refused: its source has as many as it may");
        }
        Err(crowded)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is on this host may speak for everybody: what ends TLS for others does.
fn is_localhost(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

/// The place of one connection, given back with it.
pub(super) struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
    heard: bool,
}

impl Place {
    /// Its first message has come.
    pub(super) fn heard(&mut self) {
        if !core::mem::replace(&mut self.heard, true) {
            self.doors.inner().sources.heard(self.address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.doors.inner();
        inner.sources.leave(self.address, self.heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Secrets;
    use crate::policy::{EdgeSettings, PolicySettings};

    fn doors() -> Arc<Doors> {
        let settings = PolicySettings {
            edges: vec![EdgeSettings {
                addresses: vec!["192.0.2.0/28".to_owned()],
                ..EdgeSettings::default()
            }],
            ..PolicySettings::default()
        };
        let policy = Policy::new(&settings, &Secrets::new([1; 32]), None).expect("sound");
        let limits = SourceLimits {
            connections: 2,
            handshakes: 1,
            connections_per_edge: 3,
        };
        let doors = Arc::new(Doors::default());
        doors.adopt(limits, Arc::new(policy));
        doors
    }

    fn refused(entered: Result<Place, Crowded>) -> Option<Crowded> {
        entered.err()
    }

    #[test]
    fn who_connects_is_let_in_as_far_as_its_source_may_and_leaves_by_being_dropped() {
        let doors = doors();
        let phone = "198.51.100.7".parse().expect("an address");
        let mut first = doors.enter(phone).expect("nobody is there");
        assert_eq!(refused(doors.enter(phone)), Some(Crowded::Handshakes));
        first.heard();
        first.heard();
        let second = doors.enter(phone).expect("the first was heard");
        assert_eq!(refused(doors.enter(phone)), Some(Crowded::Connections));
        drop(second);
        assert_eq!(refused(doors.enter(phone)), None);
        drop(first);
        assert!(doors.inner().sources.is_empty());
    }

    #[test]
    fn edges_and_this_host_have_a_bound_of_their_own() {
        for address in ["192.0.2.5", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let doors = doors();
            let address = address.parse().expect("an address");
            let places: Vec<Place> = (0..3).flat_map(|_| doors.enter(address)).collect();
            assert_eq!(places.len(), 3, "{address}");
            assert_eq!(refused(doors.enter(address)), Some(Crowded::Edge));
        }
    }

    #[test]
    fn a_limit_is_named_once_a_minute() {
        let doors = doors();
        let phone = "198.51.100.7".parse().expect("an address");
        let _place = doors.enter(phone);
        assert!(doors.inner().told.iter().all(Option::is_none));
        assert!(refused(doors.enter(phone)).is_some());
        let told = doors.inner().told;
        assert_eq!(told.iter().flatten().count(), 1);
        assert!(refused(doors.enter(phone)).is_some());
        assert_eq!(doors.inner().told, told);
    }
}
