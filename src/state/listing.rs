//! Looking at what the compositor knows, resource by resource, without changing it.

use core::time::Duration;
use std::sync::Arc;

use crate::hint::{HintState, Order, ResourceKey, Snapshot};
use crate::time::Time;

use super::{Compositor, Resource, ShardSet};

/// One resource.
#[derive(Clone, Debug)]
pub struct ResourceRow {
    pub resource: ResourceKey,
    pub snapshot: Arc<Snapshot>,
    /// What each source says, in the order of their names; what was removed is left out.
    pub sources: Vec<SourceRow>,
    pub publications: u32,
    pub watchers: ShardSet,
}

/// What one source says of a resource.
#[derive(Clone, Debug)]
pub struct SourceRow {
    pub source: Arc<str>,
    pub state: Option<HintState>,
    pub order: Option<Order>,
    pub expires_in: Option<Duration>,
}

impl Compositor {
    /// The resource of this name, if anything is known of it or anybody watches it.
    pub fn row(&self, now: Time, resource: &str) -> Option<ResourceRow> {
        let index = self.find(resource)?;
        Some(self.row_of(now, &self.resources[index]))
    }

    /// Resources in the order of their slots: at most `rows_max`, from the slot `from` on, and the slot
    /// where the next page begins. A resource that stays while the pages are read is on exactly one.
    pub fn rows(&self, now: Time, from: u32, rows_max: usize) -> (Vec<ResourceRow>, Option<u32>) {
        let mut rows = Vec::new();
        let mut next = self.resources.next_key(from);
        while let Some(index) = next {
            if rows.len() == rows_max {
                break;
            }
            rows.push(self.row_of(now, &self.resources[index]));
            next = self.resources.next_key(index + 1);
        }
        (rows, next)
    }

    fn row_of(&self, now: Time, record: &Resource) -> ResourceRow {
        let sources = record
            .hints
            .iter()
            .map(|key| &self.hints[*key])
            .filter_map(|hint| {
                Some(SourceRow {
                    source: Arc::clone(&hint.source),
                    state: hint.content.as_ref()?.state,
                    order: hint.order,
                    expires_in: hint.expires_at.map(|at| at.since(now)),
                })
            })
            .collect();
        ResourceRow {
            resource: Arc::clone(&record.key),
            snapshot: Arc::clone(&record.snapshot),
            sources,
            publications: record.publications.len() as u32,
            watchers: record.watchers,
        }
    }
}
