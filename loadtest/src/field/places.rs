//! Where the server can be reached, what it calls each place in its Contact, and so where a phone's next request
//! goes. It is what must be true: every NOTIFY is held against it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::configuration::{Configuration, Listener, Transport};

/// How long after a swap a NOTIFY may still speak of the time before: it may have waited in a phone's own queue.
const GRACE: Duration = Duration::from_secs(1);

/// One of the addresses that there are or have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceId(u16);

#[derive(Clone)]
struct Place {
    transport: Transport,
    address: SocketAddr,
    /// Where its phones are sent once it is no longer listened on.
    heir: Option<PlaceId>,
    /// It was taken out of the configuration, be it back or not.
    went: bool,
    says: Face,
    said: Face,
}

/// How a place shows itself in what it sends.
#[derive(Clone, Default, PartialEq, Eq)]
struct Face {
    /// Host, port, and the transport where a URI names it.
    contact: String,
    /// None: nothing is expected of it.
    dscp: Option<u8>,
}

/// All addresses, in the order in which they came.
pub struct Places {
    all: Vec<Place>,
    /// Every name that a Contact ever had, and the place that it led to.
    names: Vec<(String, PlaceId)>,
    /// Where new dialogs go, by transport.
    mains: Vec<PlaceId>,
    /// When the last swap was done; none while one is under way.
    settled: Option<Duration>,
}

impl Places {
    /// As it is at the start.
    pub fn new(configuration: &Configuration) -> Self {
        let mut places = Places {
            all: Vec::new(),
            names: Vec::new(),
            mains: Vec::new(),
            settled: Some(Duration::ZERO),
        };
        places.begin(configuration);
        places.settle(Duration::ZERO);
        places
    }

    /// A swap to this configuration begins: until it is done, what was said before and after are both right.
    pub fn begin(&mut self, next: &Configuration) {
        self.settled = None;
        for place in &mut self.all {
            place.said = place.says.clone();
        }
        for listener in &next.listeners {
            let id = self.find_or_add(listener.transport, listener.address);
            let face = Face {
                contact: listener.name() + listener.transport.parameter(),
                dscp: listener.dscp,
            };
            let place = &mut self.all[usize::from(id.0)];
            place.heir = None;
            place.says = face.clone();
            if place.said.contact.is_empty() {
                place.said = face.clone();
            }
            self.names.retain(|(name, _)| *name != face.contact);
            self.names.push((face.contact, id));
        }
        self.mains.clear();
        for oldest in next.oldest() {
            let oldest = &next.listeners[oldest];
            let heir = self.find_or_add(oldest.transport, oldest.address);
            self.mains.push(heir);
            let contact = oldest.name() + oldest.transport.parameter();
            let others = self.all.iter_mut();
            for place in others.filter(|place| place.transport == oldest.transport) {
                let served = |listener: &Listener| {
                    (listener.transport, listener.address) == (place.transport, place.address)
                };
                if !next.listeners.iter().any(served) {
                    place.heir = Some(heir);
                    place.went = true;
                    place.says.contact.clone_from(&contact);
                }
            }
        }
    }

    /// The swap is done.
    pub fn settle(&mut self, now: Duration) {
        self.settled = Some(now);
    }

    /// Where new dialogs go.
    pub fn main(&self, transport: Transport) -> PlaceId {
        let of = |id: &&PlaceId| self.all[usize::from(id.0)].transport == transport;
        *self
            .mains
            .iter()
            .find(of)
            .expect("a transport that is served")
    }

    /// When the last swap was done; none while one is under way.
    pub fn settled(&self) -> Option<Duration> {
        self.settled
    }

    pub fn address(&self, id: PlaceId) -> SocketAddr {
        self.all[usize::from(id.0)].address
    }

    /// Whether the place was taken out of the configuration.
    pub fn is_removed(&self, id: PlaceId) -> bool {
        self.all[usize::from(id.0)].heir.is_some()
    }

    /// Whether it was, at some time.
    pub fn has_been_removed(&self, id: PlaceId) -> bool {
        self.all[usize::from(id.0)].went
    }

    /// Where a remote target leads.
    pub fn lead(&self, target: &[u8]) -> Option<PlaceId> {
        let told = told(target)?;
        let named = self.names.iter().find(|(name, _)| *name == told);
        named.map(|(_, id)| *id)
    }

    /// Whether a message that left from this place may bear this Contact now.
    pub fn may_say(&self, id: PlaceId, target: &[u8], now: Duration) -> bool {
        let said = told(target);
        self.may(id, now, |face| said.as_ref() == Some(&face.contact))
    }

    /// Whether it may bear this value of the traffic class.
    pub fn may_mark(&self, id: PlaceId, class: u8, now: Duration) -> bool {
        self.may(id, now, |face| {
            face.dscp.is_none_or(|dscp| dscp == class >> 2)
        })
    }

    fn may(&self, id: PlaceId, now: Duration, fits: impl Fn(&Face) -> bool) -> bool {
        let place = &self.all[usize::from(id.0)];
        let young = self.settled.is_none_or(|done| now < done + GRACE);
        fits(&place.says) || (young && fits(&place.said))
    }

    fn find_or_add(&mut self, transport: Transport, address: SocketAddr) -> PlaceId {
        let same = |place: &Place| (place.transport, place.address) == (transport, address);
        let known = self.all.iter().position(same);
        let index = known.unwrap_or(self.all.len());
        if known.is_none() {
            self.all.push(Place {
                transport,
                address,
                heir: None,
                went: false,
                says: Face::default(),
                said: Face::default(),
            });
        }
        PlaceId(u16::try_from(index).expect("a load has few addresses"))
    }
}

/// Of `sip:user@host:port;parameters`: host, port, and the transport where it is named.
fn told(target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let rest = target.strip_prefix("sip:")?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let mut parts = rest.split('?').next()?.split(';');
    let host_port = parts.next()?;
    let transport = parts.find(|part| part.starts_with("transport="));
    Some(match transport {
        None => host_port.to_owned(),
        Some(transport) => format!("{host_port};{transport}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(60);

    #[test]
    fn a_removed_place_sends_its_phones_to_the_one_that_is_left() {
        let [a, b]: [SocketAddr; 2] =
            ["127.0.0.1:5060", "127.0.0.2:5060"].map(|a| a.parse().unwrap());
        let mut places = Places::new(&Configuration::new(a));
        let old = places.main(Transport::Udp);
        let mut next = Configuration::new(a);
        next.listeners.push(Listener::new(b));
        places.begin(&next);
        places.settle(Duration::ZERO);
        assert!(places.may_say(old, b"sip:127.0.0.1:5060", LATER));
        next.listeners.remove(0);
        places.begin(&next);
        assert!(
            places.may_say(old, b"sip:127.0.0.1:5060", LATER),
            "the swap is under way"
        );
        places.settle(Duration::ZERO);
        assert!(!places.may_say(old, b"sip:127.0.0.1:5060", LATER));
        assert!(places.may_say(old, b"sip:lamp@127.0.0.2:5060;x=y", LATER));
        assert!(places.is_removed(old));
        assert_eq!(
            places.lead(b"sip:127.0.0.2:5060"),
            Some(places.main(Transport::Udp))
        );
    }

    #[test]
    fn names_and_marks_change_with_the_swap_and_are_wrong_afterwards() {
        let a: SocketAddr = "127.0.0.1:5060".parse().unwrap();
        let mut places = Places::new(&Configuration::new(a));
        let id = places.main(Transport::Udp);
        assert!(places.may_mark(id, 99, LATER), "nobody said which");
        let mut next = Configuration::new(a);
        next.listeners[0].advertise = Some("sip.example.com:5060".into());
        next.listeners[0].dscp = Some(46);
        places.begin(&next);
        places.settle(Duration::from_secs(50));
        assert_eq!(places.lead(b"sip:sip.example.com:5060"), Some(id));
        assert!(places.may_mark(id, 46 << 2, LATER));
        assert!(!places.may_mark(id, 26 << 2, LATER));
        next.listeners[0].dscp = Some(26);
        places.begin(&next);
        assert!(places.may_mark(id, 46 << 2, LATER));
        places.settle(LATER);
        assert!(!places.may_mark(id, 46 << 2, LATER + GRACE));
        assert!(!places.may_say(id, b"sip:127.0.0.1:5060", LATER + GRACE));
    }
}
