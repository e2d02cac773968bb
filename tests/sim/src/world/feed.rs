//! What is really so: the states that sources have set, and so what every lamp should show.

use std::sync::Arc;

use lampfield::hint::{HintState, HintUpdate, Order, ResourceKey};
use lampfield::shard::control::HintChange;

use crate::lamp::Lamp;
use crate::random::Random;

/// A source that numbers its changes: they may arrive in any order, and twice.
pub const NUMBERED: &str = "numbered";
/// A source whose changes arrive in order.
pub const PLAIN: &str = "plain";

/// What the sources say of one resource.
#[derive(Debug, Default)]
pub struct Truth {
    numbered: Option<HintState>,
    plain: Option<HintState>,
    seq: u64,
}

impl Truth {
    /// A source changes its mind.
    pub fn change(&mut self, key: &str, random: &mut Random) -> HintChange {
        let state = match random.per_mille(150) {
            true => None,
            false => Some(*random.pick(&HintState::ALL)),
        };
        match random.per_mille(500) {
            true => {
                self.numbered = state;
                self.seq += 1;
                let order = Order {
                    epoch: 1,
                    seq: self.seq,
                };
                change(key, NUMBERED, Some(order), state)
            }
            false => {
                self.plain = state;
                change(key, PLAIN, None, state)
            }
        }
    }

    /// Both sources fall silent.
    pub fn clear(&mut self, key: &str) -> [HintChange; 2] {
        self.numbered = None;
        self.plain = None;
        self.seq += 1;
        let order = Order {
            epoch: 1,
            seq: self.seq,
        };
        [
            change(key, NUMBERED, Some(order), None),
            change(key, PLAIN, None, None),
        ]
    }

    /// What a lamp shows, with what publishers say besides.
    pub fn lamp(&self, published: impl Iterator<Item = Lamp>) -> Lamp {
        let hints = [self.numbered, self.plain]
            .into_iter()
            .flatten()
            .map(lamp_of);
        hints
            .chain(published)
            .min_by_key(|lamp| rank(*lamp))
            .unwrap_or(Lamp::Dark)
    }
}

fn change(key: &str, source: &str, order: Option<Order>, state: Option<HintState>) -> HintChange {
    let (resource, source) = (ResourceKey::from(key), Arc::from(source));
    match state {
        None => HintChange::Remove {
            resource,
            source,
            order,
        },
        Some(state) => {
            let mut update = HintUpdate::new(resource, source, state);
            update.order = order;
            HintChange::Set(update)
        }
    }
}

fn lamp_of(state: HintState) -> Lamp {
    match state {
        HintState::Idle | HintState::Unavailable => Lamp::Dark,
        HintState::Trying => Lamp::Trying,
        HintState::Ringing | HintState::Early => Lamp::Blinking,
        HintState::InUse | HintState::Busy | HintState::Dnd => Lamp::Lit,
        HintState::Hold => Lamp::Held,
    }
}

/// The most telling first.
fn rank(lamp: Lamp) -> u8 {
    match lamp {
        Lamp::Blinking => 0,
        Lamp::Lit => 1,
        Lamp::Held => 2,
        Lamp::Trying => 3,
        Lamp::Dark => 4,
    }
}
