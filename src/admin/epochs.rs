//! Which epoch of each source all shards have been told of.
//!
//! The resources of a source are spread over all shards, and a change goes to one of them; that its
//! source has begun a new epoch concerns them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::limits;
use crate::hint::Order;
use crate::shard::control::HintChange;

/// The highest epoch of each source that every shard knows.
#[derive(Default)]
pub struct Epochs(Mutex<BTreeMap<Arc<str>, u64>>);

impl Epochs {
    /// Sources whose epoch in these changes is higher than what every shard knows, with that epoch.
    pub fn new_in(&self, changes: &[HintChange]) -> BTreeMap<Arc<str>, u64> {
        let known = self.known();
        let mut new = BTreeMap::new();
        for (source, order) in changes.iter().filter_map(numbered) {
            let told = known.get(source).copied().unwrap_or(0);
            if order.epoch > told {
                let highest = new.entry(Arc::clone(source)).or_insert(order.epoch);
                *highest = order.epoch.max(*highest);
            }
        }
        new
    }

    /// Every shard has been told. Of more sources than the limit, it is told with every change.
    pub fn told(&self, source: Arc<str>, epoch: u64) {
        let mut known = self.known();
        if known.len() < limits::NUMBERED_SOURCES || known.contains_key(&source) {
            let highest = known.entry(source).or_insert(epoch);
            *highest = epoch.max(*highest);
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u64>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn numbered(change: &HintChange) -> Option<(&Arc<str>, Order)> {
    match change {
        HintChange::Set(update) => Some((&update.source, update.order?)),
        HintChange::Remove { source, order, .. } => Some((source, (*order)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(source: &str, epoch: u64) -> HintChange {
        HintChange::Remove {
            resource: "1001@example.com".into(),
            source: source.into(),
            order: Some(Order { epoch, seq: 1 }),
        }
    }

    #[test]
    fn only_an_epoch_that_not_everybody_knows_is_new() {
        let epochs = Epochs::default();
        let new = epochs.new_in(&[removal("a", 0), removal("b", 3), removal("b", 2)]);
        assert_eq!(new.into_iter().collect::<Vec<_>>(), [("b".into(), 3)]);
        epochs.told("b".into(), 3);
        assert!(epochs.new_in(&[removal("b", 3)]).is_empty());
        assert_eq!(epochs.new_in(&[removal("b", 4)]).len(), 1);
    }
}
