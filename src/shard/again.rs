//! What is asked again over a crash or a standstill: what was asked has been done, and whoever asked did not hear of that.
//! Otherwise transactions remember what was asked (`crate::transaction::server`); where they are gone, what was begun tells,
//! for as long as anybody would ask again.

use super::Shard;
use super::answer::Refused;
use super::publish::Condition;
use super::subscribe::tag_of;
use crate::hint::Aspect;
use crate::policy::Key;
use crate::sip::Request;
use crate::state::EntityTag;
use crate::stats::Counter;
use crate::subscription::phones::PhoneName;
use crate::subscription::read::Wanted;
use crate::subscription::text::Part;
use crate::time::{T64, Time};
use crate::transport::Flow;

impl Shard {
    /// Another process may have been there before this one.
    pub(super) fn may_ask_again(&mut self, now: Time) {
        if self.journal.is_on() {
            self.expect_repeats(now);
        }
    }

    /// Whatever was answered before may be asked again, and its transaction be gone.
    pub(super) fn expect_repeats(&mut self, now: Time) {
        self.asked_again_until = now + T64;
    }

    /// Whether a request may be the retransmission of one whose transaction is gone.
    pub(super) fn may_be_asked_again(&self, now: Time) -> bool {
        now < self.asked_again_until
    }

    /// The same request by another way than before.
    //= RFC 3261 8.2.2.2
    pub(super) fn merged(&mut self) -> Refused {
        self.stats.record(Counter::RequestMerged);
        Refused::because(482, "Request Merged")
    }

    /// The subscription that this very request has begun before: the phone must not have two.
    //= RFC 3261 17.2.3
    pub(super) fn begun_by(
        &mut self,
        now: Time,
        (request, flow): (&Request<'_>, &Flow),
        phone: PhoneName,
        resource: &Key,
        wanted: &Wanted<'_>,
    ) -> Result<Option<u32>, Refused> {
        if !self.may_be_asked_again(now) {
            return Ok(None);
        }
        let way = self.way(request, flow);
        let mut next = self.subscriptions.phones().first_of(phone);
        while let Some(index) = next {
            let subscription = &self.subscriptions[index];
            next = subscription.link.next();
            let is_it = subscription.remote_cseq == request.cseq
                && subscription.text.part(Part::CallId) == request.call_id
                && tag_of(subscription.text.part(Part::Remote)) == request.from_tag
                && subscription.package == wanted.package.id
                && subscription.text.part(Part::EventId) == wanted.event_id
                && *self.copies.copy(subscription.copy).resource == *resource.as_str()
                && !subscription.is_terminating();
            if is_it && are_two(subscription.way, way) {
                return Err(self.merged());
            }
            if is_it {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// By which request, of whom, and by which way a publication is what it is. Whoever is not the one who asked has
    /// not asked again, and is not told the entity tag.
    pub(super) fn asked_by(&self, request: &Request<'_>, flow: &Flow, user: u64) -> (u64, u16) {
        let (cseq, user) = (request.cseq.to_le_bytes(), user.to_le_bytes());
        let parts = [request.from_tag, request.call_id, &cseq, &user];
        (self.settings.secrets.hash(&parts), self.way(request, flow))
    }

    /// By which way a request came: a short number of whoever sent it last, so that one in 65,535 is taken for another.
    /// Not of its branch: who gives up an address that does not answer sends the same under another branch to the next
    /// one, which may be ours too, and has heard of nothing that was begun. 0: by a connection, which whoever has lost it
    /// replaces by any other.
    //= RFC 3263 4.3
    pub(super) fn way(&self, request: &Request<'_>, flow: &Flow) -> u16 {
        match flow.connection {
            Some(_) => 0,
            None => (self.settings.secrets.hash(&[request.via.sent_by()]) as u16).max(1),
        }
    }

    /// The publication that this very request has made or changed before. Who is answered 412 instead would
    /// begin anew, beside what it has published.
    //= RFC 3903 6
    pub(super) fn published_by(
        &mut self,
        now: Time,
        resource: &str,
        aspect: Aspect,
        condition: Condition,
        (request, way): (u64, u16),
    ) -> Result<Option<EntityTag>, Refused> {
        if !self.may_be_asked_again(now) {
            return Ok(None);
        }
        let may_be = match condition {
            Condition::Initial => true,
            Condition::Match(tag) => !self.compositor.has_publication(resource, aspect, tag),
            Condition::Unknown => false,
        };
        if !may_be {
            return Ok(None);
        }
        match self.compositor.asked_for(resource, aspect, request) {
            Some((_, before)) if are_two(before, way) => Err(self.merged()),
            Some((tag, _)) => Ok(Some(tag)),
            None => Ok(None),
        }
    }
}

fn are_two(one: u16, other: u16) -> bool {
    one != 0 && other != 0 && one != other
}
