//! Changes go to a phone as fast as it takes them: what comes faster waits its turn, and the newest state is what goes
//! out then. What a phone asked for, by a subscribe, a refresh or an end, waits for nobody.

use super::Shard;
use super::ready::Urgency;
use crate::stats::Counter;
use crate::subscription::record::{Owed, Phase, Queue, Queued};
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

    /// Whether the watcher has asked to be told less often than this; then the deadline sees to it.
    pub(super) fn is_too_soon(&mut self, now: Time, index: u32) -> bool {
        let subscription = &mut self.subscriptions[index];
        // What shows whether a phone is there waits for nothing, and neither does an end.
        if subscription.phase != Phase::Active {
            return false;
        }
        let Some(tempo) = &mut subscription.tempo else {
            return false;
        };
        let waited = tempo.waits();
        if tempo.may_tell(now) {
            return false;
        }
        let when = subscription.next_deadline();
        if !waited {
            self.stats.record(Counter::NotifyPaced);
        }
        self.set_deadline(index, when);
        true
    }

    /// Whether what is owed has to wait for that reason.
    pub(super) fn must_hold(&mut self, now: Time, index: u32) -> bool {
        self.subscriptions[index].owed < Owed::Prompt && self.is_too_soon(now, index)
    }

    /// A NOTIFY has been sent: the next one is due, or may be sent, at another time.
    pub(super) fn keep_tempo(&mut self, now: Time, index: u32) {
        let subscription = &mut self.subscriptions[index];
        let Some(tempo) = &mut subscription.tempo else {
            return;
        };
        tempo.told(now);
        let when = subscription.next_deadline();
        self.set_deadline(index, when);
    }

    /// The rate that a watcher asked for is a reason to tell it something now: what has waited, or the state as it is.
    pub(super) fn on_tempo(&mut self, now: Time, index: u32) {
        let subscription = &mut self.subscriptions[index];
        let Some(tempo) = &mut subscription.tempo else {
            return;
        };
        if !tempo.fire(now) || subscription.phase != Phase::Active {
            return;
        }
        if subscription.owed == Owed::Nothing {
            self.enqueue(index, Owed::Change);
        } else {
            self.queue_again(index, Urgency::FanOut);
        }
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
            Queue::Prompt | Queue::FanOut | Queue::PromptHeld | Queue::FanOutHeld => {
                self.ready.holds(place, index)
            }
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
