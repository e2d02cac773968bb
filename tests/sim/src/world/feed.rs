//! What is really so: the states that sources have set, and so what every lamp should show.

use std::sync::Arc;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate, Order, ResourceKey};
use lampfield::shard::control::HintChange;
use lampfield::time::Time;

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
    /// When what the plain source says is forgotten.
    plain_until: Option<Time>,
    seq: u64,
}

impl Truth {
    /// A source changes its mind.
    pub fn change(&mut self, now: Time, key: &str, random: &mut Random) -> HintChange {
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
                let life = random.per_mille(200).then(|| random.millis(1_000, 60_000));
                self.plain_until = life.map(|life| now + life);
                let mut change = change(key, PLAIN, None, state);
                if let HintChange::Set(update) = &mut change {
                    update.expires = life;
                }
                change
            }
        }
    }

    /// What the plain source said is forgotten about now: nobody can say whether it still shows.
    pub fn is_doubtful(&self, now: Time) -> bool {
        self.plain_until.is_some_and(|until| {
            now + Duration::from_secs(1) > until && now < until + Duration::from_secs(3)
        })
    }

    /// Both sources fall silent.
    pub fn clear(&mut self, key: &str) -> [HintChange; 2] {
        self.numbered = None;
        self.plain = None;
        self.plain_until = None;
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
    pub fn lamp(&self, now: Time, published: impl Iterator<Item = Lamp>) -> Lamp {
        let forgotten = self.plain_until.is_some_and(|until| now > until);
        let plain = self.plain.filter(|_| !forgotten);
        let hints = [self.numbered, plain].into_iter().flatten().map(lamp_of);
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
