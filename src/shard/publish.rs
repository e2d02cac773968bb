//! PUBLISH: the event state compositor's side of RFC 3903.

use core::time::Duration;

use super::Shard;
use super::answer::{Refused, With};
use super::quotas::Asks;
use super::subscribe::refusal;
use crate::config::limits;
use crate::hint::{Published, ResourceKey};
use crate::policy::Action;
use crate::sip::{EventHeader, MediaType, Name, Request};
use crate::state::{EntityTag, PublishRefused};
use crate::stats::Counter;
use crate::subscription::package::{self, Package};
use crate::subscription::read::asked_seconds;
use crate::time::Time;
use crate::transaction::server::Given;
use crate::transport::Flow;

impl Shard {
    //= RFC 3903 6
    pub(super) fn on_publish(
        &mut self,
        now: Time,
        request: &Request<'_>,
        flow: &Flow,
    ) -> Result<Given, Refused> {
        let resource = self.settings.resource_of(request)?;
        let identity = self.admit(now, Action::Publish, request, flow, &resource)?;
        let user = identity.number() as u64;
        self.may_ask(now, &identity, request, flow)?;
        let package = published_package(request).ok_or(Refused::with(489, With::Packages))?;
        let condition = condition(request)?;
        let asked = asked_seconds(request).map_err(refusal)?;
        let grant = self.settings.rules.publish_expiry.grant(asked);
        let seconds = grant.map_err(|min| Refused::with(423, With::MinExpires(min)))?;
        if self.drain.is_some() {
            return Err(self.stopping(request, flow));
        }
        let asks = Asks {
            user,
            is_shared: self.settings.is_many(&identity, request),
            source: flow.peer.ip(),
            domain: resource.domain(),
        };
        let asked = self.asked_by(request, flow, user);
        let aspect = package.aspect;
        let done = match seconds {
            0 => None,
            _ => self.published_by(now, resource.as_str(), aspect, condition, asked)?,
        };
        let is_new = condition == Condition::Initial && done.is_none() && seconds > 0;
        if is_new {
            self.may_ask_of(now, resource.domain(), request, flow)?;
            if let Err(limit) = self.may_publish(&asks) {
                return Err(self.limited(limit, request, flow));
            }
        }
        let publisher = self.publisher(&asks);
        let resource = ResourceKey::from(resource.as_str());
        let (condition, content) = match done {
            // Of what was done nothing is left to do but to begin its time anew.
            Some(tag) => (Condition::Match(tag), None),
            None => (condition, content(request, package)?),
        };
        let says_anew = content.is_some();
        let (tag, counter) = self
            .publish(now, &resource, package, condition, content, seconds)
            .map_err(|why| self.unpublished(why, request, flow))?;
        self.stats.record(counter);
        if let (true, Some(tag)) = (is_new, tag) {
            self.compositor.credit(&resource, tag, publisher);
        }
        if let (true, Some(tag)) = (says_anew, tag) {
            self.compositor.note_asked(&resource, aspect, tag, asked);
        }
        Ok(Given {
            status: 200,
            tag: None,
            seconds,
            entity_tag: tag.map_or(0, EntityTag::number),
        })
    }

    fn unpublished(&mut self, why: Unpublished, request: &Request<'_>, flow: &Flow) -> Refused {
        match why {
            Unpublished::Refused(refused) => refused,
            Unpublished::By(PublishRefused::UnknownTag) => {
                self.stats.record(Counter::PublicationStale);
                Refused::plain(412)
            }
            Unpublished::By(PublishRefused::Full { limit }) => {
                self.limited(Counter::limit(limit), request, flow)
            }
        }
    }

    fn publish(
        &mut self,
        now: Time,
        resource: &ResourceKey,
        package: &'static Package,
        condition: Condition,
        content: Option<Published>,
        seconds: u32,
    ) -> Result<(Option<EntityTag>, Counter), Unpublished> {
        let expires = Duration::from_secs(u64::from(seconds));
        let may_be_done = self.may_be_asked_again(now);
        let (state, rng, wheel) = (&mut self.compositor, &mut self.rng, &mut self.wheel);
        match (condition, content) {
            (Condition::Initial, None) => {
                Err(Unpublished::Refused(Refused::because(400, "Missing Body")))
            }
            (Condition::Initial, Some(content)) => {
                let tag = state.publish(now, resource, content, expires, rng, wheel)?;
                if seconds == 0 {
                    state.remove(now, resource, package.aspect, tag, wheel)?;
                }
                Ok((Some(tag), Counter::PublicationCreated))
            }
            (Condition::Unknown, _) => Err(PublishRefused::UnknownTag.into()),
            (Condition::Match(tag), _) if seconds == 0 => {
                match state.remove(now, resource, package.aspect, tag, wheel) {
                    Ok(()) => Ok((None, Counter::PublicationRemoved)),
                    // No record tells of what has gone, and gone it is: whoever is answered 412 may publish anew.
                    Err(PublishRefused::UnknownTag) if may_be_done => {
                        Ok((None, Counter::RetransmissionAnswered))
                    }
                    Err(refused) => Err(refused.into()),
                }
            }
            (Condition::Match(tag), None) => {
                let tag = state.refresh(now, resource, package.aspect, tag, expires, wheel)?;
                Ok((Some(tag), Counter::PublicationRefreshed))
            }
            (Condition::Match(tag), Some(content)) => {
                let tag = state.modify(now, resource, tag, content, expires, rng, wheel)?;
                Ok((Some(tag), Counter::PublicationModified))
            }
        }
    }
}

/// Why nothing was published.
enum Unpublished {
    Refused(Refused),
    By(PublishRefused),
}

impl From<PublishRefused> for Unpublished {
    fn from(refused: PublishRefused) -> Self {
        Unpublished::By(refused)
    }
}

/// What SIP-If-Match says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// There is none.
    Initial,
    Match(EntityTag),
    /// A tag that we never gave: 412.
    Unknown,
}

fn condition(request: &Request<'_>) -> Result<Condition, Refused> {
    match (
        request.message.count(Name::SipIfMatch),
        request.message.first(Name::SipIfMatch),
    ) {
        (0, _) => Ok(Condition::Initial),
        (1, Some(tag)) if !tag.is_empty() => {
            Ok(EntityTag::parse(tag).map_or(Condition::Unknown, Condition::Match))
        }
        _ => Err(Refused::because(400, "Malformed SIP-If-Match")),
    }
}

fn published_package(request: &Request<'_>) -> Option<&'static Package> {
    let value = request
        .message
        .first(Name::Event)
        .filter(|_| request.message.count(Name::Event) == 1)?;
    package::by_name(EventHeader::parse(value).ok()?.package)
}

/// What the body says; None if there is no body.
fn content(request: &Request<'_>, package: &'static Package) -> Result<Option<Published>, Refused> {
    let message = request.message;
    if message.body.is_empty() {
        return Ok(None);
    }
    if message.body.len() > limits::BODY_BYTES {
        return Err(Refused::plain(413));
    }
    //= RFC 3261 8.2.3
    if message
        .values(Name::ContentEncoding)
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refused::with(415, With::AcceptEncoding));
    }
    let unsupported = Refused::with(415, With::Accept(package.publish_types));
    let media = message
        .first(Name::ContentType)
        .and_then(|value| MediaType::parse(value).ok())
        .ok_or(unsupported)?;
    let number = package
        .publish_types
        .iter()
        .position(|known| media.is(known))
        .ok_or(unsupported)?;
    package
        .parse(number, message.body)
        .map(Some)
        .map_err(|malformed| Refused::because(400, malformed.0))
}
