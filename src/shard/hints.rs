//! Hints between their home shard and the shards that watch them: a shard keeps a copy while it has
//! a watcher. What changed is worked through after the input that changed it.

use std::sync::Arc;

use super::Shard;
use super::effects::{Destination, Effects, ShardId};
use super::mail::Mail;
use super::ready::Urgency;
use crate::hint::{Aspect, ResourceKey, Snapshot};
use crate::notify::copies::Update;
use crate::shard::control::Changed;
use crate::state::Change;
use crate::stats::Counter;
use crate::subscription::record::Owed;
use crate::time::{T1, Time};
use crate::wheel::{Owner, Token};

impl Shard {
    /// The copy of a resource, begun and asked for if this is its first watcher. None: a limit is reached.
    pub(super) fn copy_of(&mut self, now: Time, resource: &str, out: &mut Effects) -> Option<u32> {
        let hash = self.settings.secrets.hash(&[resource.as_bytes()]);
        if let Some(copy) = self.copies.find(hash, resource) {
            return Some(copy);
        }
        let Some(copy) = self.copies.insert(hash, ResourceKey::from(resource)) else {
            self.stats.record(Counter::LimitResources);
            return None;
        };
        self.ask_home(now, copy, out);
        Some(copy)
    }

    /// Asks the home shard for the state of a copy, and to be told of every change from now on.
    pub(super) fn ask_home(&mut self, now: Time, copy: u32, out: &mut Effects) {
        let resource = Arc::clone(&self.copies.copy(copy).resource);
        let home = self.home_of(&resource);
        if home == self.settings.shard {
            // A full compositor gives nothing; the copy asks again, as it does where mail is lost.
            if let Ok((serial, snapshot)) = self.compositor.watch(&resource, home.0) {
                self.take_snapshot(now, copy, serial, snapshot, out);
                return;
            }
        } else {
            self.mail(
                out,
                home,
                Mail::Watch {
                    resource,
                    shard: self.settings.shard,
                },
            );
        }
        let timer = self.wheel.insert(
            now + T1,
            Token {
                owner: Owner::Copy,
                index: copy,
            },
        );
        self.copies.copy_mut(copy).asked = Some(timer);
    }

    /// The home shard has not answered within T1.
    pub(super) fn on_copy_timer(&mut self, now: Time, copy: u32, out: &mut Effects) {
        let Some(waiting) = self.copies.living(copy) else {
            return;
        };
        waiting.asked = None;
        self.stats.record(Counter::MailGap);
        self.ask_home(now, copy, out);
    }

    /// Gives the copy up if nobody watches it any more.
    pub(super) fn drop_copy_if_unwatched(&mut self, copy: u32, out: &mut Effects) {
        if !self.copies.copy(copy).is_unwatched() {
            return;
        }
        let gone = self.copies.remove(copy);
        if let Some(timer) = gone.asked {
            self.wheel.cancel(timer);
        }
        let home = self.home_of(&gone.resource);
        if home == self.settings.shard {
            self.compositor.unwatch(&gone.resource, home.0);
        } else {
            self.mail(
                out,
                home,
                Mail::Unwatch {
                    resource: gone.resource,
                    shard: self.settings.shard,
                },
            );
        }
    }

    /// Another shard has its first watcher of one of our resources, or missed a mail.
    pub(super) fn on_watch(&mut self, resource: ResourceKey, shard: ShardId, out: &mut Effects) {
        // A full compositor says nothing: the shard that asks will ask again.
        if let Ok((serial, snapshot)) = self.compositor.watch(&resource, shard.0) {
            self.mail(
                out,
                shard,
                Mail::Hint {
                    resource,
                    serial,
                    snapshot,
                },
            );
        }
    }

    /// The home shard says what a resource is now.
    pub(super) fn on_hint(
        &mut self,
        now: Time,
        resource: &str,
        serial: u64,
        snapshot: Arc<Snapshot>,
        out: &mut Effects,
    ) {
        let hash = self.settings.secrets.hash(&[resource.as_bytes()]);
        // It may have been given up while the mail was on its way.
        if let Some(copy) = self.copies.find(hash, resource) {
            self.take_snapshot(now, copy, serial, snapshot, out);
        }
    }

    /// A copy learns a state: whoever shows what differs must hear of it.
    fn take_snapshot(
        &mut self,
        now: Time,
        copy: u32,
        serial: u64,
        snapshot: Arc<Snapshot>,
        out: &mut Effects,
    ) {
        let asked = self.copies.copy_mut(copy).asked.take();
        if let Some(timer) = asked {
            self.wheel.cancel(timer);
        }
        match self.copies.update(copy, serial, snapshot) {
            Update::Stale => {}
            Update::Taken { changed, gap } => {
                for aspect in Aspect::ALL {
                    if changed[aspect as usize] {
                        self.owe_change(copy, aspect);
                    }
                }
                if gap {
                    self.stats.record(Counter::MailGap);
                    self.ask_home(now, copy, out);
                }
            }
        }
    }

    /// Every watcher of the aspect is owed a NOTIFY, and stands in the queue unless it may not be told now.
    fn owe_change(&mut self, copy: u32, aspect: Aspect) {
        for &index in self.copies.copy(copy).watchers(aspect) {
            let subscription = &mut self.subscriptions[index];
            // The last NOTIFY is the last: it tells the newest state when it goes out, and no newer one after that.
            if subscription.is_terminating() && subscription.owed == Owed::Nothing {
                continue;
            }
            let urgency = match subscription.owed {
                Owed::Nothing | Owed::Change | Owed::Due => Urgency::FanOut,
                Owed::Prompt => Urgency::Prompt,
            };
            subscription.owed = subscription.owed.max(Owed::Change);
            subscription.bodiless = false;
            if subscription.queued.is_none() && subscription.may_notify() {
                subscription.queued = Some(self.ready.push(urgency, index));
            }
        }
    }

    /// Sends what changed in the compositor to whoever watches it.
    pub(super) fn spread_changes(&mut self, now: Time, out: &mut Effects) {
        if !self.compositor.has_changes() {
            return;
        }
        let mut changes = core::mem::take(&mut self.changes);
        changes.extend(self.compositor.drain_changes());
        for change in changes.drain(..) {
            self.spread(now, change, out);
        }
        self.changes = changes;
    }

    fn spread(&mut self, now: Time, change: Change, out: &mut Effects) {
        let Change {
            resource,
            serial,
            snapshot,
            shards,
        } = change;
        if self.report_changes {
            let changed = Changed {
                resource: Arc::clone(&resource),
                snapshot: Arc::clone(&snapshot),
            };
            self.mail_control(out, Mail::Changed(changed));
        }
        for shard in shards.iter() {
            if shard == self.settings.shard.0 {
                self.on_hint(now, &resource, serial, Arc::clone(&snapshot), out);
            } else {
                let mail = Mail::Hint {
                    resource: Arc::clone(&resource),
                    serial,
                    snapshot: Arc::clone(&snapshot),
                };
                self.mail(out, ShardId(shard), mail);
            }
        }
    }

    /// The shard that composes a resource.
    pub(super) fn home_of(&self, resource: &str) -> ShardId {
        self.owners.of(self.settings.secrets.resource(resource))
    }

    pub(super) fn mail(&mut self, out: &mut Effects, shard: ShardId, mail: Mail) {
        self.stats.record(Counter::MailSent);
        out.mails.push((Destination::Shard(shard), mail));
    }

    pub(super) fn mail_control(&mut self, out: &mut Effects, mail: Mail) {
        out.mails.push((Destination::Control, mail));
    }
}
