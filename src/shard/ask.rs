//! Questions of the control thread, and their answers.

use std::sync::Arc;

use super::Shard;
use super::control::{
    Adoption, Answer, Ask, HintChange, HintOutcome, Page, Reply, Request, Rows, SubscriptionRow,
};
use super::effects::Effects;
use super::filter::{SubscriptionFilter, SubscriptionView};
use super::mail::Mail;
use super::settings::Rules;
use crate::config::limits;
use crate::sip::{NameAddr, Uri};
use crate::state::Refused;
use crate::stats::Counter;
use crate::subscription::package::Package;
use crate::subscription::record::{Owed, Subscription};
use crate::subscription::text::Part;
use crate::time::Time;
use crate::transport::{Leases, ListenerId};

impl Shard {
    pub(super) fn on_control(&mut self, now: Time, request: Request, out: &mut Effects) {
        let answer = match request.ask {
            Ask::ChangeHints(changes) => {
                let outcomes = changes
                    .into_iter()
                    .map(|change| self.change_hint(now, change))
                    .collect();
                Answer::HintsChanged(outcomes)
            }
            Ask::BeginEpoch { source, epoch } => {
                let state = &mut self.compositor;
                let begun = state.begin_epoch(now, &source, epoch, &mut self.wheel);
                Answer::HintsChanged(vec![self.outcome(begun.map(|()| Some(false)))])
            }
            Ask::EndSnapshot { source, epoch } => {
                let state = &mut self.compositor;
                let ended = state.end_snapshot(now, &source, epoch, &mut self.wheel);
                Answer::HintsChanged(vec![self.outcome(ended.map(|()| Some(false)))])
            }
            Ask::ShowHint(resource) => {
                Answer::Hint(self.compositor.row(now, &resource).map(Box::new))
            }
            Ask::ListHints(page) => {
                let rows_max = (page.rows_max as usize).min(limits::LIST_LOOKS_PER_PAGE);
                let (rows, next) = self.compositor.rows(now, page.from.unwrap_or(0), rows_max);
                Answer::Hints(Rows { rows, next })
            }
            Ask::ListSubscriptions { filter, page } => {
                Answer::Subscriptions(self.list(now, &filter, page))
            }
            Ask::ReadFigures => {
                let figures = super::control::Figures {
                    stats: self.stats.clone(),
                    gauges: self.gauges(now),
                };
                Answer::Figures(Box::new(figures))
            }
            Ask::ReportChanges(report) => {
                self.report_changes = report;
                Answer::Done
            }
            Ask::Adopt(adoption) => {
                self.adopt(&adoption);
                Answer::Done
            }
            Ask::ReadLeases => Answer::Leases(self.listeners.leases().collect()),
            Ask::CloseListener { listener, to } => {
                Answer::Closed(self.close_listener(listener, to, out))
            }
            Ask::Restore(records) => self.restore(now, &records, out),
            Ask::Resume => {
                self.journal.silent = false;
                self.may_ask_again(now);
                Answer::Done
            }
            Ask::Drain { within } => return self.begin_drain(now, request.id, within),
        };
        let reply = Reply {
            id: request.id,
            shard: self.settings.shard,
            answer,
        };
        self.keep_state(out);
        self.send_reply(Mail::Reply(reply), out);
    }

    fn adopt(&mut self, adoption: &Adoption) {
        let Adoption {
            rules,
            listeners,
            in_flight_max,
        } = adoption;
        self.settings.rules = Rules::clone(rules);
        // They were rendered as the rules before demanded.
        self.tails.forget();
        self.listeners.adopt(listeners);
        self.window.limit(*in_flight_max);
    }

    fn close_listener(
        &mut self,
        listener: ListenerId,
        to: ListenerId,
        out: &mut Effects,
    ) -> Leases {
        let leaving = self.listeners.is_leaving(listener);
        let left = self.listeners.close(listener, to);
        if leaving {
            self.fail_begun_on(listener, out);
        }
        left
    }

    fn change_hint(&mut self, now: Time, change: HintChange) -> HintOutcome {
        let taken = match change {
            HintChange::Set(update) => self
                .compositor
                .apply(now, update, &mut self.wheel)
                .map(Some),
            HintChange::Remove {
                resource,
                source,
                order,
            } => {
                self.stats.record(Counter::HintDeleted);
                self.compositor
                    .withdraw(now, &resource, &source, order, &mut self.wheel)
            }
        };
        if let Ok(Some(changed)) = taken {
            self.stats.record(if changed {
                Counter::HintSet
            } else {
                Counter::HintUnchanged
            });
        }
        self.outcome(taken)
    }

    fn outcome(&mut self, taken: Result<Option<bool>, Refused>) -> HintOutcome {
        match taken {
            Ok(Some(changed)) => HintOutcome::Accepted { changed },
            Ok(None) => HintOutcome::Absent,
            Err(Refused::Stale { standing }) => {
                self.stats.record(Counter::HintStale);
                HintOutcome::Stale { standing }
            }
            Err(Refused::Full { limit }) => {
                self.stats.record(Counter::limit(limit));
                HintOutcome::Refused { limit }
            }
        }
    }

    fn list(
        &self,
        now: Time,
        filter: &Arc<SubscriptionFilter>,
        page: Page,
    ) -> Rows<SubscriptionRow> {
        let mut rows = Vec::new();
        let mut from = page.from.unwrap_or(0);
        for _ in 0..limits::LIST_LOOKS_PER_PAGE {
            let Some(index) = self.subscriptions.next_from(from) else {
                return Rows { rows, next: None };
            };
            if rows.len() >= page.rows_max as usize {
                break;
            }
            from = index + 1;
            let view = self.view(now, &self.subscriptions[index]);
            if filter.matches(&view) {
                rows.push(SubscriptionRow::from(&view));
            }
        }
        Rows {
            rows,
            next: Some(from),
        }
    }

    fn view<'a>(&'a self, now: Time, subscription: &'a Subscription) -> SubscriptionView<'a> {
        let text = |part| core::str::from_utf8(subscription.text.part(part)).unwrap_or("?");
        SubscriptionView {
            watcher: watcher(subscription.text.part(Part::Remote)),
            resource: &self.copies.copy(subscription.copy).resource,
            package: Package::from_id(subscription.package).name,
            state: subscription.state_name(),
            expires_in_seconds: u64::from(if subscription.is_terminating() {
                0
            } else {
                subscription.seconds_left(now)
            }),
            peer: subscription.flow.peer,
            cseq: subscription.cseq,
            version: subscription.cseq.saturating_sub(subscription.first_cseq),
            dirty: subscription.owed != Owed::Nothing,
            in_flight: subscription.in_flight.is_some(),
            call_id: text(Part::CallId),
        }
    }
}

/// `user@host` of a From value.
fn watcher(remote: &[u8]) -> &str {
    let uri = NameAddr::parse(remote)
        .ok()
        .and_then(|address| Uri::parse(address.uri).ok());
    let Some(uri) = uri else { return "?" };
    let start = b"sip:".len() + usize::from(uri.secure);
    let rest = &uri.raw[start..];
    let end = memchr::memchr2(b';', b'?', rest).unwrap_or(rest.len());
    core::str::from_utf8(&rest[..end]).unwrap_or("?")
}
