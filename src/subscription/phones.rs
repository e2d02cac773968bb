//! The phones of a shard: who has which subscriptions. A phone is known as long as it has one.

use crate::slab::Slab;
use crate::subscription::turns::Turns;
use crate::table::Table;
use crate::wheel::TimerId;

/// Stands for no subscription.
const NONE: u32 = u32::MAX;

/// Who a phone is. Two devices of one identity are two phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhoneName {
    /// A keyed hash of whoever uses it.
    pub identity: u64,
    /// A keyed hash of its identity and its instance, or else its Contact.
    pub device: u64,
    /// Its instance tells: it is the same one wherever it is.
    pub by_instance: bool,
    /// It stands for many, as an operator panel or an edge does: no single phone's appetite is its own.
    pub is_shared: bool,
}

impl PhoneName {
    fn is_of(&self, other: &PhoneName) -> bool {
        self.identity == other.identity && self.device == other.device
    }
}

/// Who uses phones, and how many subscriptions all of them have: another Contact is another phone, but no other user.
struct Identity {
    name: u64,
    subscriptions: u32,
}

/// One phone, and the head of the list of its subscriptions.
struct Phone {
    name: PhoneName,
    /// Its place among the identities.
    identity: u32,
    first: u32,
    subscriptions: u32,
    parked: u32,
    /// A NOTIFY to it had to be sent again since it was last heard.
    is_doubtful: bool,
    /// It has answered a NOTIFY, and none since had to be sent again.
    is_answering: bool,
    turns: Turns,
}

/// The place of a subscription in its phone's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    phone: u32,
    previous: u32,
    next: u32,
}

/// All phones of a shard.
pub struct Phones {
    phones: Slab<Phone>,
    by_device: Table,
    identities: Slab<Identity>,
    by_identity: Table,
    parked: usize,
}

/// Where the links lie: in the subscriptions.
pub trait Links {
    fn link(&mut self, subscription: u32) -> &mut Link;
}

impl Phones {
    /// At most as many as there can be subscriptions.
    pub fn new(limit: usize) -> Self {
        Phones {
            phones: Slab::with_limit(limit),
            by_device: Table::new(),
            identities: Slab::with_limit(limit),
            by_identity: Table::new(),
            parked: 0,
        }
    }

    /// How many phones there are.
    pub fn len(&self) -> usize {
        self.phones.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many subscriptions are parked.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// How many subscriptions all phones of this identity have.
    pub fn subscriptions_of(&self, identity: u64) -> usize {
        self.find_identity(identity)
            .map_or(0, |at| self.identities[at].subscriptions as usize)
    }

    /// Puts a new subscription at the head of its phone's list and returns its link.
    pub fn enter(&mut self, name: PhoneName, subscription: u32, links: &mut impl Links) -> Link {
        let phone = self.find(name).unwrap_or_else(|| self.add(name));
        let record = &mut self.phones[phone];
        let next = core::mem::replace(&mut record.first, subscription);
        record.subscriptions += 1;
        self.identities[record.identity].subscriptions += 1;
        if next != NONE {
            links.link(next).previous = subscription;
        }
        Link {
            phone,
            previous: NONE,
            next,
        }
    }

    /// Takes a subscription out of its phone's list; the last one takes the phone with it, and what is returned is the
    /// timer that ran for that one.
    #[must_use]
    pub fn leave(&mut self, link: Link, links: &mut impl Links) -> Option<TimerId> {
        if link.next != NONE {
            links.link(link.next).previous = link.previous;
        }
        let record = &mut self.phones[link.phone];
        match link.previous {
            NONE => record.first = link.next,
            previous => links.link(previous).next = link.next,
        }
        record.subscriptions -= 1;
        let (left, identity) = (record.subscriptions, record.identity);
        self.leave_identity(identity);
        if left > 0 {
            return None;
        }
        let mut gone = self.phones.remove(link.phone);
        self.by_device
            .remove(gone.name.device, |phone| phone == link.phone);
        gone.turns.take_timer()
    }

    /// The turns of a phone by its number.
    pub fn turns(&mut self, phone: u32) -> &mut Turns {
        &mut self.phones[phone].turns
    }

    /// The turns of the phone of this link.
    pub fn turns_beside(&self, link: Link) -> &Turns {
        &self.phones[link.phone].turns
    }

    /// The number of the phone of this link, and its turns; None: it need not wait for any.
    #[inline]
    pub fn turns_of(&mut self, link: Link) -> (u32, Option<&mut Turns>) {
        let phone = &mut self.phones[link.phone];
        let turns = (!phone.name.is_shared).then_some(&mut phone.turns);
        (link.phone, turns)
    }

    /// Who the phone of this link is.
    pub fn name(&self, link: Link) -> PhoneName {
        self.phones[link.phone].name
    }

    /// The first subscription of a phone; None: it has none.
    pub fn first_of(&self, name: PhoneName) -> Option<u32> {
        self.find(name).map(|phone| self.phones[phone].first)
    }

    /// The first subscription of the phone of this link.
    pub fn first(&self, link: Link) -> u32 {
        self.phones[link.phone].first
    }

    /// A subscription of this phone is parked.
    pub fn park(&mut self, link: Link) {
        self.phones[link.phone].parked += 1;
        self.parked += 1;
    }

    /// A subscription of this phone is parked no longer.
    pub fn unpark(&mut self, link: Link) {
        self.phones[link.phone].parked -= 1;
        self.parked -= 1;
    }

    /// A NOTIFY to the phone of this link was not answered in time.
    pub fn doubt(&mut self, link: Link) {
        let phone = &mut self.phones[link.phone];
        phone.is_doubtful = true;
        phone.is_answering = false;
    }

    /// The phone of this link has answered a NOTIFY.
    pub fn note_answer(&mut self, link: Link) {
        self.phones[link.phone].is_answering = true;
    }

    /// Whether it has, and none since had to be sent again.
    pub fn is_answering(&self, link: Link) -> bool {
        self.phones[link.phone].is_answering
    }

    /// The phone of this link is heard. Whether it may have missed something: some of its subscriptions are parked, or
    /// NOTIFYs to it had to be sent again.
    pub fn hear(&mut self, link: Link) -> bool {
        let phone = &mut self.phones[link.phone];
        core::mem::take(&mut phone.is_doubtful) || phone.parked > 0
    }

    fn find(&self, name: PhoneName) -> Option<u32> {
        self.by_device
            .find(name.device, |phone| self.phones[phone].name.is_of(&name))
    }

    fn find_identity(&self, identity: u64) -> Option<u32> {
        let is_it = |at: u32| self.identities[at].name == identity;
        self.by_identity.find(identity, is_it)
    }

    fn add_identity(&mut self, name: u64) -> u32 {
        let identity = Identity {
            name,
            subscriptions: 0,
        };
        let Ok(index) = self.identities.insert(identity) else {
            unreachable!("there is room for an identity for each subscription")
        };
        self.by_identity.insert(name, index);
        index
    }

    fn leave_identity(&mut self, index: u32) {
        let identity = &mut self.identities[index];
        identity.subscriptions -= 1;
        if identity.subscriptions == 0 {
            let gone = self.identities.remove(index);
            self.by_identity.remove(gone.name, |at| at == index);
        }
    }

    fn add(&mut self, name: PhoneName) -> u32 {
        let identity = self.find_identity(name.identity);
        let identity = identity.unwrap_or_else(|| self.add_identity(name.identity));
        let phone = Phone {
            name,
            identity,
            first: NONE,
            subscriptions: 0,
            parked: 0,
            is_doubtful: false,
            is_answering: false,
            turns: Turns::default(),
        };
        let Ok(index) = self.phones.insert(phone) else {
            unreachable!("there is room for a phone for each subscription")
        };
        self.by_device.insert(name.device, index);
        index
    }
}

impl Link {
    /// The link of a subscription that is in no list yet.
    pub const NOWHERE: Link = Link {
        phone: NONE,
        previous: NONE,
        next: NONE,
    };

    /// The next subscription of the same phone.
    pub fn next(self) -> Option<u32> {
        (self.next != NONE).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Links for Vec<Link> {
        fn link(&mut self, subscription: u32) -> &mut Link {
            &mut self[subscription as usize]
        }
    }

    /// The only device of somebody.
    fn named(identity: u64) -> PhoneName {
        PhoneName {
            identity,
            device: identity << 8,
            by_instance: false,
            is_shared: false,
        }
    }

    fn listed(phones: &Phones, links: &[Link], identity: u64) -> Vec<u32> {
        let mut at = phones.first_of(named(identity));
        core::iter::from_fn(|| {
            let here = at?;
            at = links[here as usize].next();
            Some(here)
        })
        .collect()
    }

    #[test]
    fn subscriptions_come_and_go_in_any_order_and_the_last_takes_its_phone_along() {
        let mut phones = Phones::new(10);
        let mut links = vec![Link::NOWHERE; 4];
        for subscription in 0..4 {
            let identity = if subscription == 2 { 8 } else { 7 };
            links[subscription as usize] = phones.enter(named(identity), subscription, &mut links);
        }
        assert_eq!(listed(&phones, &links, 7), [3, 1, 0]);
        assert_eq!(
            (
                phones.subscriptions_of(named(7).identity),
                phones.subscriptions_of(named(8).identity),
                phones.len()
            ),
            (3, 1, 2)
        );
        for (gone, left) in [(1, vec![3, 0]), (3, vec![0]), (0, vec![])] {
            assert!(phones.leave(links[gone], &mut links).is_none());
            assert_eq!(listed(&phones, &links, 7), left);
        }
        let left = phones.subscriptions_of(named(7).identity);
        assert_eq!((left, phones.len()), (0, 1));
        assert_eq!(phones.name(links[2]), named(8));
    }

    #[test]
    fn another_contact_is_another_phone_and_no_other_user() {
        let mut phones = Phones::new(10);
        let mut links = vec![Link::NOWHERE; 3];
        let at = |device| PhoneName { device, ..named(7) };
        for (index, device) in [(0, 1), (1, 2), (2, 2)] {
            links[index] = phones.enter(at(device), index as u32, &mut links);
        }
        let of_user = |phones: &Phones| phones.subscriptions_of(named(7).identity);
        assert_eq!((of_user(&phones), phones.len()), (3, 2));
        for (gone, left) in [(1, 2), (0, 1), (2, 0)] {
            let _ = phones.leave(links[gone], &mut links);
            assert_eq!(of_user(&phones), left);
        }
        assert_eq!((phones.identities.len(), phones.len()), (0, 0));
    }

    #[test]
    fn a_phone_that_is_heard_may_have_missed_what_is_parked_or_was_sent_again() {
        let mut phones = Phones::new(10);
        let mut links = vec![Link::NOWHERE; 1];
        links[0] = phones.enter(named(7), 0, &mut links);
        assert!(!phones.hear(links[0]));
        phones.park(links[0]);
        assert_eq!((phones.hear(links[0]), phones.parked()), (true, 1));
        phones.unpark(links[0]);
        assert_eq!((phones.hear(links[0]), phones.parked()), (false, 0));
        phones.doubt(links[0]);
        assert_eq!(
            (phones.hear(links[0]), phones.hear(links[0])),
            (true, false)
        );
    }
}
