//! NOTIFYs that do not fit into a datagram: they go by a connection that their phone has open, if it has one that takes and
//! answers, and else say less. Nobody is dialled for it.

use hashbrown::HashMap;

use super::Shard;
use super::effects::Effects;
use super::ready::Urgency;
use crate::config::limits;
use crate::subscription::record::Owed;
use crate::transport::{ConnectionId, Flow};

/// The way that a NOTIFY takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// That of its dialog, unless it is too large for it.
    Usual,
    /// A connection that the phone has besides.
    By(Flow),
    /// That of its dialog, whatever has to be left out.
    Trimmed,
}

/// The connections that carry NOTIFYs of dialogs that came by datagrams.
#[derive(Default)]
pub(super) struct Detours(HashMap<ConnectionId, Detour>);

#[derive(Default)]
struct Detour {
    /// Whose NOTIFYs may be on their way there.
    subscriptions: Vec<u32>,
    /// One was not answered within T1: nothing more goes this way.
    doubtful: bool,
}

impl Detours {
    /// How many connections have been used.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Shard {
    /// A connection of the same phone that takes something now. What says that a subscription ends is said where it is
    /// heard for certain.
    pub(super) fn detour(&self, index: u32) -> Option<Flow> {
        if self.subscriptions[index].is_terminating() || self.subscriptions.phone(index).is_shared {
            return None;
        }
        let mut next = Some(self.subscriptions.first_of_phone(index));
        for _ in 0..limits::DETOUR_LOOKS {
            let other = &self.subscriptions[next?];
            next = other.link.next();
            if let Some(connection) = other.flow.connection
                && !other.is_cut()
                && !self.is_behind(connection)
                && self
                    .detours
                    .0
                    .get(&connection)
                    .is_none_or(|detour| !detour.doubtful)
            {
                return Some(other.flow);
            }
        }
        None
    }

    /// A NOTIFY of this subscription goes by that connection.
    pub(super) fn begin_detour(&mut self, flow: Flow, index: u32) {
        let Some(connection) = flow.connection else {
            return;
        };
        let (subscriptions, clients) = (&self.subscriptions, &self.clients);
        let detour = self.detours.0.entry(connection).or_default();
        detour.subscriptions.retain(|&other| {
            let in_flight = subscriptions.get(other).and_then(|other| other.in_flight);
            other != index && in_flight.is_some_and(|at| clients.connection(at) == flow.connection)
        });
        detour.subscriptions.push(index);
    }

    /// A NOTIFY by a connection was not answered within T1. Where it took a detour, the dialog's own way is taken after all.
    pub(super) fn doubt_detour(&mut self, index: u32, transaction: u32) {
        let taken = self.clients.connection(transaction);
        let subscription = &self.subscriptions[index];
        let in_flight = subscription.in_flight == Some(transaction);
        if let Some(connection) = taken
            && subscription.flow.connection.is_none()
            && in_flight
        {
            self.detours.0.entry(connection).or_default().doubtful = true;
            self.enqueue(index, Owed::Prompt);
        }
    }

    /// A connection has gone, and what took a detour by it may not have arrived.
    pub(super) fn end_detours(&mut self, connection: ConnectionId, out: &mut Effects) {
        let Some(gone) = self.detours.0.remove(&connection) else {
            return;
        };
        for index in gone.subscriptions {
            let Some(subscription) = self.subscriptions.living(index) else {
                continue;
            };
            let Some(transaction) = subscription.in_flight else {
                continue;
            };
            if self.clients.connection(transaction) != Some(connection) {
                continue;
            }
            subscription.in_flight = None;
            subscription.owed = subscription.owed.max(Owed::Change);
            out.released.extend(self.finish(transaction).slot);
            self.queue_again(index, Urgency::Prompt);
        }
    }
}
