//! The compositor as its callers see it.

mod dialogs;
mod feeds;
mod hints;
mod laws;
mod presence;
mod publications;
mod watchers;

use core::time::Duration;
use std::sync::Arc;

use crate::config::limits;
use crate::hint::{
    Aspect, Basic, Call, CallState, HintState, HintUpdate, Mailbox, Note, Order, Presence,
    Published, ResourceKey, Snapshot, Tuple,
};
use crate::rng::Rng;
use crate::time::Time;
use crate::wheel::{Owner, Wheel};

use super::compose::PUBLISH_SOURCE;
use super::{Change, Compositor, DndShows, EntityTag, PublishRefused, Refused, Settings};

const HOUR: Duration = Duration::from_secs(3600);

/// A compositor with its clock and wheel.
struct Home {
    compositor: Compositor,
    wheel: Wheel,
    rng: Rng,
    now: Time,
}

impl Home {
    fn new() -> Home {
        Home::with(Settings::default())
    }

    fn with(settings: Settings) -> Home {
        let now = Time::from_millis(1_000_000);
        Home {
            compositor: Compositor::new(settings, [7; 16]),
            wheel: Wheel::new(now),
            rng: Rng::new([3; 16]),
            now,
        }
    }

    fn says(&mut self, source: &str, state: HintState) -> Result<bool, Refused> {
        self.apply(HintUpdate::new(resource(), source.into(), state))
    }

    fn says_in_order(
        &mut self,
        source: &str,
        epoch: u64,
        seq: u64,
        state: HintState,
    ) -> Result<bool, Refused> {
        let mut update = HintUpdate::new(resource(), source.into(), state);
        update.order = Some(Order { epoch, seq });
        self.apply(update)
    }

    fn apply(&mut self, update: HintUpdate) -> Result<bool, Refused> {
        self.compositor.apply(self.now, update, &mut self.wheel)
    }

    fn withdraws(&mut self, source: &str, order: Option<Order>) -> Result<Option<bool>, Refused> {
        self.compositor.withdraw(
            self.now,
            &resource(),
            &source.into(),
            order,
            &mut self.wheel,
        )
    }

    fn publishes(&mut self, content: Published) -> EntityTag {
        self.compositor
            .publish(
                self.now,
                &resource(),
                content,
                HOUR,
                &mut self.rng,
                &mut self.wheel,
            )
            .expect("a publication")
    }

    fn modifies(
        &mut self,
        tag: EntityTag,
        content: Published,
    ) -> Result<EntityTag, PublishRefused> {
        self.compositor.modify(
            self.now,
            &resource(),
            tag,
            content,
            HOUR,
            &mut self.rng,
            &mut self.wheel,
        )
    }

    fn removes(&mut self, tag: EntityTag, aspect: Aspect) -> Result<(), PublishRefused> {
        self.compositor
            .remove(self.now, &resource(), aspect, tag, &mut self.wheel)
    }

    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.wheel.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            while let Some(token) = self.wheel.pop(self.now) {
                self.compositor.expire(self.now, token, &mut self.wheel);
            }
        }
        self.now = end;
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.compositor.snapshot(&resource())
    }

    fn changes(&mut self) -> Vec<Change> {
        self.compositor.drain_changes().collect()
    }

    /// Id and state of each call.
    fn calls(&self) -> Vec<(String, CallState)> {
        self.snapshot()
            .dialogs
            .content
            .iter()
            .map(|call| (call.id.to_string(), call.state))
            .collect()
    }

    /// The states of live calls.
    fn live(&self) -> Vec<CallState> {
        self.calls()
            .into_iter()
            .map(|(_, state)| state)
            .filter(|state| *state != CallState::Terminated)
            .collect()
    }
}

fn resource() -> ResourceKey {
    "1001@example.com".into()
}

fn call(id: &str, state: CallState) -> Call {
    let mut call = Call::bare(id, state);
    call.call_id = format!("{id}@pbx").into();
    call
}

fn dialogs(calls: Vec<Call>) -> Published {
    Published::Dialogs {
        calls,
        partial: false,
    }
}

fn mailbox(waiting: bool) -> Mailbox {
    Mailbox {
        waiting,
        ..Mailbox::default()
    }
}
