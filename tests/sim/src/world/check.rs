//! What must hold, asked of the shards and of the phones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lampfield::partition::ShardId;
use lampfield::shard::census::Census;
use lampfield::shard::control::{Answer, Ask, Page, Request};
use lampfield::shard::mail::Mail;
use lampfield::stats::Counter;
use lampfield::time::T64;

use super::World;
use super::phone::{Key, Phone};
use crate::edge::Parcel;
use crate::lamp::Lamp;
use crate::witness::DialogName;

/// How long the NOTIFY after a 2xx may take: the state is asked of another shard, and asked again after T1.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// A NOTIFY and its way when it is calm.
const JUST: Duration = Duration::from_millis(100);

impl World {
    /// Once in a second.
    pub(super) fn check(&mut self) -> Result<(), String> {
        // A crowd in a storm closes the window, and waits for it.
        let patience = if self.crowd || self.narrow || self.scarce {
            PATIENCE * 50
        } else {
            PATIENCE
        };
        // Where the silent keep everything that is needed to speak, the others wait until it has been calm for long.
        let may_wait = self.scarce;
        if let Some(name) = self.witness.overdue(self.now, patience)
            && !may_wait
        {
            return Err(format!("no NOTIFY has followed the 2xx of {name:?}"));
        }
        if let Some(name) = self.witness.unasked(self.now, patience)
            && !may_wait
        {
            return Err(format!(
                "its phone may have forgotten it, and is not asked: {name:?}"
            ));
        }
        if let Some(name) = self.witness.untold(self.now, patience)
            && !may_wait
        {
            return Err(format!("its time is over, and it was not told: {name:?}"));
        }
        // What should have ended while the host slept ends when it wakes.
        let late = Duration::from_secs(if self.naps { 30 } else { 1 });
        let alive = self
            .witness
            .dialogs
            .values()
            .filter(|dialog| {
                let forgotten = dialog.is_forgotten_at(self.now, late);
                self.now <= dialog.deadline + T64 + late && !forgotten
            })
            .count();
        let mut subscriptions = 0;
        for shard in self.edge.ids() {
            subscriptions += self.edge.shard(shard).census().subscriptions;
        }
        if subscriptions > alive && self.hostile.is_none() {
            return Err(format!(
                "{subscriptions} subscriptions, and only {alive} can be alive"
            ));
        }
        self.leases_are_right()?;
        self.no_bug_was_counted()?;
        match self.random.per_mille(50) {
            true => self.lists_are_whole(),
            false => Ok(()),
        }
    }

    /// Page by page, every subscription is listed once, with the CSeq of its last NOTIFY.
    fn lists_are_whole(&mut self) -> Result<(), String> {
        let rows_max = self.random.between(1, 20) as u32;
        for shard in self.edge.ids() {
            let mut rows = Vec::new();
            let mut from = None;
            loop {
                let ask = Ask::ListSubscriptions {
                    filter: Arc::default(),
                    page: Page { from, rows_max },
                };
                let Answer::Subscriptions(page) = self.ask_now(shard, ask)? else {
                    return Err("no list of subscriptions".to_string());
                };
                rows.extend(page.rows);
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            let subscriptions = self.edge.shard(shard).census().subscriptions;
            if rows.len() != subscriptions {
                return Err(format!(
                    "{} rows of {subscriptions} subscriptions",
                    rows.len()
                ));
            }
            for row in rows {
                if !self.witness.is_at(&row.call_id, row.cseq) {
                    return Err(format!("{row:?} is listed, and was never at that CSeq"));
                }
            }
        }
        Ok(())
    }

    fn ask_now(&mut self, shard: ShardId, ask: Ask) -> Result<Answer, String> {
        let request = Mail::Request(Request { id: 0, ask });
        self.edge.deliver(shard, self.now, Parcel::Mail(request));
        self.answers.clear();
        self.flush(shard)?;
        self.answers.pop().ok_or_else(|| "no answer".to_string())
    }

    fn no_bug_was_counted(&mut self) -> Result<(), String> {
        for shard in self.edge.ids() {
            let Answer::Figures(figures) = self.ask_now(shard, Ask::ReadFigures)? else {
                return Err("no figures".to_string());
            };
            for counter in [Counter::Bug, Counter::DatagramForwardedTwice] {
                if figures.stats.get(counter) != 0 {
                    return Err(format!("{shard:?} has counted {counter:?}"));
                }
            }
        }
        Ok(())
    }

    /// What a lamp of that resource should show.
    fn truth_of(&self, resource: usize) -> Lamp {
        let published = self
            .publishers
            .iter()
            .filter(|publisher| publisher.resource == resource)
            .filter_map(|publisher| publisher.wants);
        self.truth[resource].lamp(self.now, published)
    }

    /// Publications that nobody knows of any more may stand until they expire.
    fn only_hinted(&self, resource: usize) -> bool {
        self.publishers
            .iter()
            .all(|publisher| publisher.resource != resource)
    }

    fn is_doubtful(&self, resource: usize) -> bool {
        self.truth[resource].is_doubtful(self.now)
    }

    fn dialog_of(&self, phone: usize, key: usize) -> Option<DialogName> {
        self.phones[phone].keys[key].dialog.as_ref()?.name()
    }

    /// Every subscription that the server has not given up shows what is so.
    pub(super) fn healed(&self) -> Result<(), String> {
        let mut documents = BTreeMap::new();
        for (index, phone) in self.phones.iter().enumerate() {
            for (number, key) in phone.keys.iter().enumerate() {
                let Some(name) = self.dialog_of(index, number) else {
                    continue;
                };
                if self.parks && !self.crowd && !self.narrow && !self.scarce {
                    self.is_awake(phone, &name)?;
                }
                let moved = key
                    .dialog
                    .as_ref()
                    .is_some_and(|dialog| dialog.known_at != phone.address);
                // What has just been found at another port is being told now.
                let just_heard = phone.accepted.is_some_and(|at| self.now < at + JUST);
                if moved
                    || just_heard
                    || key.retired
                    || self.is_doubtful(key.resource)
                    || self.witness.gone(self.now, &name)
                    || !self.only_hinted(key.resource)
                {
                    continue;
                }
                self.agrees(&mut documents, phone, key)?;
                let truth = self.truth_of(key.resource);
                if key.is_lamp() && key.shown != Some(truth) {
                    return Err(format!(
                        "{} shows {:?} for {}, and it is {truth:?}: {name:?}, parks: {}",
                        phone.name, key.shown, self.resources[key.resource], self.parks
                    ));
                }
            }
        }
        Ok(())
    }

    /// One accepted request of a phone wakes all of its keys that were parked.
    fn is_awake(&self, phone: &Phone, name: &DialogName) -> Result<(), String> {
        let (Some(dialog), Some(accepted)) = (self.witness.dialogs.get(name), phone.accepted)
        else {
            return Ok(());
        };
        let lives = !dialog.ended
            && dialog.dead.is_none()
            && dialog.probed.is_none()
            && self.now < dialog.deadline;
        let parked_since = dialog.last.as_ref().map(|last| last.first_sent + T64);
        let long_ago = parked_since.is_some_and(|since| since + Duration::from_secs(3) < accepted);
        let had_time = self.now > accepted + PATIENCE;
        match lives
            && dialog.unanswered_at(self.now, self.witness.sends_fail)
            && long_ago
            && had_time
        {
            true => Err(format!("{} was heard, and not woken: {name:?}", phone.name)),
            false => Ok(()),
        }
    }

    /// Whoever watches the same is told the same.
    fn agrees<'a>(
        &'a self,
        documents: &mut BTreeMap<(usize, &str), &'a Key>,
        phone: &Phone,
        key: &'a Key,
    ) -> Result<(), String> {
        let first = documents
            .entry((key.resource, key.package.0))
            .or_insert(key);
        match first.document == key.document {
            true => Ok(()),
            false => Err(format!(
                "{} ({:?}) shows of {}:\n{}\nand somebody else:\n{}",
                phone.name, key.dialog, self.resources[key.resource], key.document, first.document
            )),
        }
    }

    /// Every key of every phone has a living subscription, and shows what is so.
    pub(super) fn all_right(&self) -> Result<(), String> {
        for (index, phone) in self.phones.iter().enumerate() {
            for (number, key) in phone
                .keys
                .iter()
                .enumerate()
                .filter(|(_, key)| !key.retired)
            {
                let name = self.dialog_of(index, number);
                let resource = &self.resources[key.resource];
                let Some(name) = name.filter(|name| !self.witness.gone(self.now, name)) else {
                    return Err(format!(
                        "{} has no subscription to {resource}: {key:?}",
                        phone.name
                    ));
                };
                let truth = self.truth_of(key.resource);
                if key.is_lamp() && key.shown != Some(truth) && !self.is_doubtful(key.resource) {
                    return Err(format!(
                        "{} shows {:?} for {resource}, and it is {truth:?}: {name:?}",
                        phone.name, key.shown
                    ));
                }
            }
        }
        Ok(())
    }

    /// A planned stop has told every subscription that it ends.
    pub(super) fn all_told_that_it_ends(&self) -> Result<(), String> {
        let untold = self
            .witness
            .dialogs
            .iter()
            .find(|(name, dialog)| !dialog.ended && !self.witness.gone(self.now, name));
        match untold {
            None => Ok(()),
            Some((name, _)) => Err(format!("not told that it ends: {name:?}")),
        }
    }

    /// Everything has ended: every table, wheel, lease and slot is empty.
    pub(super) fn nothing_left(&mut self) -> Result<(), String> {
        for shard in self.edge.ids() {
            let census = self.edge.shard(shard).census();
            if census != Census::default() {
                return Err(format!("{shard:?} is not empty: {census:?}"));
            }
            let Answer::Leases(leases) = self.ask_now(shard, Ask::ReadLeases)? else {
                return Err("no leases".to_string());
            };
            if let Some(leased) = leases.iter().find(|(_, leases)| !leases.is_zero()) {
                return Err(format!("{shard:?} leases for nothing: {leased:?}"));
            }
        }
        let sockets = &self.swaps.sockets;
        if sockets.generations.is_draining() || sockets.len() != self.swaps.addresses.len() {
            return Err(format!("old transports are still open: {sockets:?}"));
        }
        Ok(())
    }
}
