//! The planned end, for at most so long: every subscription is told that it ends, paced by the window; or, where it
//! outlives the process, the last word of each is written down, and nobody is told anything.

use core::time::Duration;

use super::Shard;
use super::control::{Answer, Reply};
use super::effects::Effects;
use super::mail::Mail;
use crate::stats::Counter;
use crate::subscription::record::Reason;
use crate::time::Time;
use crate::wheel::{Owner, Token};

/// Subscriptions that one turn begins to end.
const PER_TURN: usize = 512;

/// How far it has come.
pub(super) struct Drain {
    request: u64,
    until: Time,
    /// The subscription to look at next; None: all have been looked at.
    next: Option<u32>,
    notified: u64,
    kept: u64,
}

impl Shard {
    pub(super) fn begin_drain(&mut self, now: Time, request: u64, within: Duration) {
        self.drain = Some(Drain {
            request,
            until: now + within,
            next: Some(0),
            notified: 0,
            kept: 0,
        });
        self.journal.silent = self.journal.is_on();
        // So that the time being over is noticed where nothing else happens.
        let token = Token {
            owner: Owner::Shard,
            index: 0,
        };
        self.wheel.insert(now + within, token);
    }

    /// Ends some more subscriptions, and says when all are ended or the time is over.
    pub(super) fn drain_some(&mut self, now: Time, out: &mut Effects) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        let mut left = PER_TURN.saturating_sub(self.ready.len());
        while let Some(index) = drain
            .next
            .and_then(|from| self.subscriptions.next_from(from))
            .filter(|_| left > 0)
        {
            left -= 1;
            drain.next = Some(index + 1);
            if self.journal.is_on() {
                self.keep_last(now, index, out);
                drain.kept += 1;
            } else if !self.subscriptions[index].is_terminating() {
                //= RFC 6665 4.2.2
                self.terminate(now, index, Reason::Deactivated);
                self.stats.record(Counter::SubscriptionDeactivated);
                drain.notified += 1;
            }
        }
        if left > 0 {
            drain.next = None;
        }
        let all_told = drain.next.is_none() && self.is_at_rest();
        if drain.request != DONE && (all_told || now >= drain.until) {
            let total = self.subscriptions.len() as u64;
            let answer = Answer::Drained {
                notified: drain.notified,
                kept: drain.kept,
                left: total.saturating_sub(drain.kept),
            };
            self.mail_control(
                out,
                Mail::Reply(Reply {
                    id: drain.request,
                    shard: self.settings.shard,
                    answer,
                }),
            );
            drain.request = DONE;
        }
        self.drain = Some(drain);
    }

    /// Whether nobody waits for anything any more.
    fn is_at_rest(&self) -> bool {
        if self.journal.is_on() {
            self.journal.is_settled()
        } else {
            self.subscriptions.is_empty()
        }
    }

    /// Whether it has work of its own to do now, and need not wait for answers or for the time to be over.
    pub(super) fn is_draining_now(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let goes_on = drain.next.is_some() && self.ready.len() < PER_TURN;
            drain.request != DONE && (goes_on || self.is_at_rest())
        })
    }
}

/// Stands for a request that has been answered: the shard stays closed to new ones.
const DONE: u64 = u64::MAX;
