//! Which subscriptions a connection carries: one list for each connection that carries any.

use hashbrown::HashMap;

use crate::transport::ConnectionId;

/// Stands for no subscription.
const NONE: u32 = u32::MAX;
/// Stands in `previous` of a link that is in no list.
const OUTSIDE: u32 = u32::MAX - 1;

/// The place of a subscription in its connection's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    previous: u32,
    next: u32,
}

impl Carried {
    /// In no list.
    pub const NOWHERE: Carried = Carried {
        previous: OUTSIDE,
        next: NONE,
    };
}

/// Where the places lie: in the subscriptions.
pub trait Places {
    fn place(&mut self, subscription: u32) -> &mut Carried;
}

/// The lists of a shard.
#[derive(Default)]
pub struct Connections {
    /// The first of each list.
    first: HashMap<ConnectionId, u32>,
}

impl Connections {
    /// How many connections carry something.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The first of those that a connection carries.
    pub fn first(&self, connection: ConnectionId) -> Option<u32> {
        self.first.get(&connection).copied()
    }

    /// Puts a subscription at the head of a list.
    pub fn enter(&mut self, connection: ConnectionId, subscription: u32, places: &mut impl Places) {
        let next = self.first.insert(connection, subscription).unwrap_or(NONE);
        if next != NONE {
            places.place(next).previous = subscription;
        }
        let previous = NONE;
        *places.place(subscription) = Carried { previous, next };
    }

    /// Takes a subscription out of the list that it is in, if it is in one.
    pub fn leave(&mut self, connection: ConnectionId, subscription: u32, places: &mut impl Places) {
        let place = core::mem::replace(places.place(subscription), Carried::NOWHERE);
        if place == Carried::NOWHERE {
            return;
        }
        if place.next != NONE {
            places.place(place.next).previous = place.previous;
        }
        match (place.previous, place.next) {
            (NONE, NONE) => _ = self.first.remove(&connection),
            (NONE, next) => _ = self.first.insert(connection, next),
            (previous, next) => places.place(previous).next = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ShardId;

    impl Places for Vec<Carried> {
        fn place(&mut self, subscription: u32) -> &mut Carried {
            &mut self[subscription as usize]
        }
    }

    #[test]
    fn subscriptions_come_and_go_in_any_order_and_the_last_takes_its_list_along() {
        let one = ConnectionId::new(ShardId(0), 1);
        let other = ConnectionId::new(ShardId(1), 1);
        let mut connections = Connections::default();
        let mut places = vec![Carried::NOWHERE; 5];
        for subscription in 0..5 {
            let connection = if subscription == 2 { other } else { one };
            connections.enter(connection, subscription, &mut places);
        }
        assert_eq!(connections.len(), 2);
        let listed = |connections: &Connections, places: &[Carried]| {
            let mut at = connections.first(one).unwrap_or(NONE);
            let mut listed = Vec::new();
            while at != NONE {
                listed.push(at);
                at = places[at as usize].next;
            }
            listed
        };
        assert_eq!(listed(&connections, &places), [4, 3, 1, 0]);
        for (gone, left) in [
            (3, vec![4, 1, 0]),
            (4, vec![1, 0]),
            (0, vec![1]),
            (1, vec![]),
        ] {
            connections.leave(one, gone, &mut places);
            // Who is in no list leaves none.
            connections.leave(one, gone, &mut places);
            assert_eq!(listed(&connections, &places), left);
        }
        assert_eq!((connections.len(), connections.first(other)), (1, Some(2)));
    }
}
