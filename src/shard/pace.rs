//! Changes go to a phone as fast as it takes them: what comes faster waits its turn, and the newest state is what goes
//! out then. What a phone asked for, by a subscribe, a refresh or an end, waits for nobody.

use super::Shard;
use super::ready::Urgency;
use crate::stats::Counter;
use crate::subscription::record::{Owed, Queue, Queued};
use crate::time::Time;
use crate::wheel::{Owner, Token};

impl Shard {
    /// Whether a change may go to the phone of this subscription now. If not, it waits for its turn, and counts as
    /// queued.
    pub(super) fn may_tell_change(&mut self, now: Time, index: u32) -> bool {
        let Some(rate) = self.settings.rules.pace else {
            return true;
        };
        let (phone, turns) = self.subscriptions.turns_of(index);
        let Some(turns) = turns else {
            return true;
        };
        if turns.take(now, &rate) {
            return true;
        }
        let number = turns.wait(index);
        let when = turns.needs_timer(&rate);
        let queue = Queue::Line;
        self.subscriptions[index].queued = Some(Queued { queue, number });
        self.stats.record(Counter::NotifyPaced);
        if let Some(when) = when {
            self.set_phone_timer(phone, when);
        }
        false
    }

    /// A phone takes the next change, or several.
    pub(super) fn on_phone_timer(&mut self, now: Time, phone: u32) {
        self.subscriptions.turns(phone).take_timer();
        while let Some((index, number)) = self.subscriptions.turns(phone).first() {
            if !self.is_waiting(index, number) {
                self.subscriptions.turns(phone).leave();
                continue;
            }
            // Where the rate is gone meanwhile, everybody's turn has come.
            let rate = self.settings.rules.pace;
            match self.subscriptions.turns(phone).call(now, rate.as_ref()) {
                Ok(()) => {
                    let place = self.ready.push(Urgency::FanOut, index);
                    let subscription = &mut self.subscriptions[index];
                    subscription.owed = Owed::Due;
                    subscription.queued = Some(place);
                }
                Err(when) => return self.set_phone_timer(phone, when),
            }
        }
    }

    /// Whether a subscription still stands in that place of its phone's line. It may have been told meanwhile, or be gone;
    /// and what must not be told now waits no longer.
    fn is_waiting(&mut self, index: u32, number: u32) -> bool {
        let Some(subscription) = self.subscriptions.living(index) else {
            return false;
        };
        let queue = Queue::Line;
        if subscription.queued != Some(Queued { queue, number }) {
            return false;
        }
        if !subscription.may_notify() {
            subscription.queued = None;
        }
        subscription.queued.is_some()
    }

    /// Whether a subscription stands where it believes to stand, and somebody will look there.
    pub(super) fn is_queued(&self, place: Queued, index: u32) -> bool {
        match place.queue {
            Queue::Prompt | Queue::FanOut => self.ready.holds(place, index),
            Queue::Line => {
                let turns = self.subscriptions.turns_beside(index);
                let timer = turns.timer().and_then(|timer| self.wheel.when(timer));
                turns.holds(place.number, index) && timer.is_some()
            }
        }
    }

    fn set_phone_timer(&mut self, phone: u32, when: Time) {
        let owner = Owner::Phone;
        let timer = self.wheel.insert(
            when,
            Token {
                owner,
                index: phone,
            },
        );
        self.subscriptions.turns(phone).set_timer(timer);
    }
}
