//! A store that fell behind is given everything anew: what the compositor knows, then every subscription, some in each
//! turn and no more before the store has heard of those. What changes meanwhile is written as always.

use super::Shard;
use super::effects::Effects;
use crate::state::Shelf;
use crate::store::rewrite::StoreNews;
use crate::time::Time;

/// So much is given out in one turn.
const PER_TURN: usize = 256;

/// How far it has come.
pub(super) struct Rewriting {
    /// Under which it was asked for.
    number: u32,
    next: Next,
}

enum Next {
    State(Shelf),
    /// From this one on.
    Subscription(u32),
}

impl Shard {
    pub(super) fn on_store(&mut self, news: StoreNews) {
        self.journal.degraded = news != StoreNews::Whole;
        self.rewriting = match news {
            StoreNews::Failed | StoreNews::Whole => None,
            StoreNews::Back { number } => Some(Rewriting {
                number,
                next: Next::State(Shelf::Sources),
            }),
        };
    }

    /// Whether it goes on now. A shard that ends leaves it at that: its last words are worth more.
    pub(super) fn is_rewriting_now(&self) -> bool {
        self.rewriting.is_some() && self.journal.is_all_written() && self.drain.is_none()
    }

    pub(super) fn rewrite_some(&mut self, now: Time, out: &mut Effects) {
        if !self.is_rewriting_now() || !out.records.is_empty() {
            return;
        }
        let Some(Rewriting { number, next }) = self.rewriting.take() else {
            return;
        };
        let next = match next {
            Next::State(shelf) => match self.compositor.touch_some(shelf, PER_TURN) {
                Some(shelf) => Next::State(shelf),
                None => Next::Subscription(0),
            },
            Next::Subscription(from) => {
                let Some(from) = self.rewrite_subscriptions(now, from, out) else {
                    self.open_records(out);
                    out.records.whole = number;
                    return;
                };
                Next::Subscription(from)
            }
        };
        self.rewriting = Some(Rewriting { number, next });
    }

    /// None: that was the last.
    fn rewrite_subscriptions(&mut self, now: Time, from: u32, out: &mut Effects) -> Option<u32> {
        let mut next = from;
        for _ in 0..PER_TURN {
            let index = self.subscriptions.next_from(next)?;
            if self.is_kept(index) {
                self.keep_subscription(now, index, out);
            }
            next = index + 1;
        }
        Some(next)
    }
}
