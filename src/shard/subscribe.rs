//! SUBSCRIBE: a new subscription, a fetch, a refresh, an end (RFC 6665 4.2.1).

use core::time::Duration;
use std::borrow::Cow;

use super::Shard;
use super::answer::{Refused, With, given_in_dialog};
use super::effects::Effects;
use super::phone::Before;
use super::quotas::{Asks, Held};
use super::settings::Settings;
use crate::config::limits;
use crate::hex;
use crate::partition::{Mark, Partition};
use crate::policy::{Action, Identity, Key};
use crate::sip::{Name, NameAddr, Request, Uri, Writer};
use crate::stats::Counter;
use crate::subscription::connections::Carried;
use crate::subscription::package::Package;
use crate::subscription::phones::{Link, PhoneName};
use crate::subscription::read::{self, Suppress, Unwanted, Wanted};
use crate::subscription::record::{Owed, Phase, Reason, Subscription};
use crate::subscription::tempo::{Rates, Tempo};
use crate::subscription::text::{Part, Text};
use crate::time::{T64, Time};
use crate::transaction::server::Given;
use crate::transport::{self, Flow, Lessee, Own, Path};
use crate::wheel::{Owner, Token};

impl Shard {
    pub(super) fn on_subscribe(
        &mut self,
        now: Time,
        request: &Request<'_>,
        flow: &Flow,
        out: &mut Effects,
    ) -> Result<Given, Refused> {
        match request.to_tag {
            None => self.on_new(now, request, flow, out),
            Some(tag) => self.on_refresh(now, request, tag, flow, out),
        }
    }

    /// Outside of a dialog: a new subscription, or with Expires 0 a fetch.
    fn on_new(
        &mut self,
        now: Time,
        request: &Request<'_>,
        flow: &Flow,
        out: &mut Effects,
    ) -> Result<Given, Refused> {
        let resource = self.settings.resource_of(request)?;
        let identity = self.admit(now, Action::Watch, request, flow, &resource)?;
        self.may_ask(now, &identity, request, flow)?;
        let wanted = read::wanted(request).map_err(refusal)?;
        let granted = self.granted(&wanted)?;
        let contact = read::contact(request)
            .map_err(refusal)?
            .ok_or(Refused::because(400, "Missing Contact"))?;
        let phone = self.settings.phone_name(&identity, request);
        if granted.seconds > 0
            && let Some(index) = self.begun_by(now, (request, flow), phone, &resource, &wanted)?
        {
            let renewal = Renewal {
                request,
                flow,
                identity: &identity,
                wanted: &wanted,
                granted,
            };
            return self.go_on(now, index, &renewal, out);
        }
        let asks = Asks {
            user: phone.identity,
            is_shared: phone.is_shared,
            source: flow.peer.ip(),
            domain: resource.domain(),
        };
        self.may_ask_of(now, resource.domain(), request, flow)?;
        if let Err(limit) = self.may_subscribe(&asks) {
            return Err(self.limited(limit, request, flow));
        }
        let (text, peer) = self.dialog_text(request, flow, &wanted, &contact)?;
        let copy = self
            .copy_of(now, resource.as_str(), out)
            .ok_or_else(|| self.busy(request, flow))?;
        let watchers = self.copies.copy(copy).watchers(wanted.package.aspect).len();
        if watchers >= limits::WATCHERS_PER_RESOURCE {
            return Err(self.limited(Counter::LimitWatchersPerResource, request, flow));
        }
        let partition = self.settings.phone_partition(request);
        let held = self.hold(flow.peer.ip(), resource.domain());
        let place = Accepted {
            held,
            text,
            flow: Flow { peer, ..*flow },
            copy,
            granted,
            partition,
        };
        let Some(index) = self.insert(now, place, phone, &wanted, request) else {
            self.let_hold_go(held);
            self.drop_copy_if_unwatched(copy, out);
            return Err(self.limited(Counter::LimitSubscriptions, request, flow));
        };
        self.stats.record(if granted.seconds == 0 {
            Counter::SubscriptionFetched
        } else {
            Counter::SubscriptionCreated
        });
        if granted.seconds > 0 {
            self.keep_subscription(now, index, out);
        }
        // Whoever subscribes is told, and a fetch has nothing else: no more than the body can be left out.
        self.subscriptions[index].bodiless = self.is_known(now, index, &wanted);
        self.enqueue(index, Owed::Prompt);
        self.heard_anew(now, index, out);
        Ok(given_in_dialog(
            200,
            self.subscriptions[index].tag(),
            granted.told(),
        ))
    }

    fn insert(
        &mut self,
        now: Time,
        accepted: Accepted,
        phone: PhoneName,
        wanted: &Wanted<'_>,
        request: &Request<'_>,
    ) -> Option<u32> {
        let Accepted {
            held,
            text,
            flow,
            copy,
            granted,
            partition,
        } = accepted;
        let (phase, expires_at) = standing(now, granted.seconds);
        let way = self.way(request, &flow);
        let record = Subscription {
            text,
            flow,
            expires_at,
            check: self.rng.next_u64(),
            slot: Subscription::NEW,
            link: Link::NOWHERE,
            carried: Carried::NOWHERE,
            phase,
            owed: Owed::Nothing,
            queued: None,
            in_line: false,
            bodiless: false,
            package: wanted.package.id,
            content_type: wanted.content_type,
            partition,
            spared_seconds: granted.spared,
            copy,
            position: 0,
            cseq: 0,
            first_cseq: 1,
            reserved: u32::MAX,
            awaits: 0,
            remote_cseq: request.cseq,
            way,
            in_flight: None,
            tempo: tempo(&wanted.rates, granted.seconds),
            source: held.source,
            domain: held.domain,
            deadline: None,
        };
        self.place(phone, record)
    }

    /// Gives a subscription its place in every table and list, and starts its deadline. None: a limit is reached.
    pub(super) fn place(&mut self, phone: PhoneName, record: Subscription) -> Option<u32> {
        let (copy, expires_at) = (record.copy, record.expires_at);
        let listener = record.flow.listener;
        let aspect = Package::from_id(record.package).aspect;
        let index = self.subscriptions.insert(phone, record)?;
        let deadline = self.wheel.insert(
            expires_at,
            Token {
                owner: Owner::Subscription,
                index,
            },
        );
        let position = self.copies.watch(copy, aspect, index).position;
        self.listeners.take(listener, Lessee::Dialog);
        let subscription = &mut self.subscriptions[index];
        subscription.deadline = Some(deadline);
        subscription.position = position;
        Some(index)
    }

    /// In a dialog: a refresh, or with Expires 0 the end.
    fn on_refresh(
        &mut self,
        now: Time,
        request: &Request<'_>,
        tag: &[u8],
        flow: &Flow,
        out: &mut Effects,
    ) -> Result<Given, Refused> {
        let unknown = Refused::plain(481);
        let tag = Mark::read(tag).ok_or(unknown)?;
        let index = self
            .subscriptions
            .find(tag, request.call_id, |remote| {
                tag_of(remote) == request.from_tag
            })
            .filter(|&index| !self.subscriptions[index].is_terminating())
            .ok_or(unknown)?;
        let subscription = &self.subscriptions[index];
        //= RFC 3261 12.2.2
        // The same again is one whose answer was lost with an earlier process: of this one, transactions remember it.
        if request.cseq < subscription.remote_cseq {
            return Err(Refused::because(500, "CSeq Too Low"));
        }
        let resource = self.watched_key(subscription.copy).ok_or(unknown)?;
        let identity = self.admit(now, Action::Watch, request, flow, &resource)?;
        let subscription = &self.subscriptions[index];
        // Who has proved who they are and is another one than before has no business in this dialog.
        if identity.name().is_some() && !self.is_watcher(index, &identity, request, flow) {
            self.stats.record(Counter::ForbiddenSubscribe);
            return Err(Refused::plain(403));
        }
        let wanted = read::wanted(request).map_err(refusal)?;
        let same_id = wanted.event_id == subscription.text.part(Part::EventId);
        if wanted.package.id != subscription.package || !same_id {
            return Err(unknown);
        }
        let granted = self.granted(&wanted)?;
        self.may_ask(now, &identity, request, flow)?;
        let renewal = Renewal {
            request,
            flow,
            identity: &identity,
            wanted: &wanted,
            granted,
        };
        self.go_on(now, index, &renewal, out)
    }

    /// The subscription goes on, or ends, as is asked for.
    fn go_on(
        &mut self,
        now: Time,
        index: u32,
        renewal: &Renewal<'_>,
        out: &mut Effects,
    ) -> Result<Given, Refused> {
        let &Renewal {
            request,
            flow,
            identity,
            wanted,
            granted,
        } = renewal;
        let before = self.retarget(index, request, flow)?;
        self.hold_from(index, flow.peer.ip());
        let same_type = wanted.content_type == self.subscriptions[index].content_type;
        let known = same_type && self.is_known(now, index, wanted);
        // Who is owed something, or may have missed something, is told.
        let standing = &self.subscriptions[index];
        let settled = standing.phase == Phase::Active
            && standing.owed == Owed::Nothing
            && standing.in_flight.is_none();
        self.renew(now, index, granted, wanted, request.cseq);
        let name = |settings: &Settings| settings.phone_name(identity, request);
        self.heard_in_dialog(now, index, &before, name, out);
        self.keep_change(now, index, before.text.is_some() || !same_type, out);
        //= RFC 5839 6.3
        if known && settled && wanted.known != Suppress::Anything {
            return Ok(self.suppress(now, index, granted, out));
        }
        // A NOTIFY of another state may reach the phone after it has said what it knows, and before this one.
        self.subscriptions[index].bodiless = known && settled;
        self.enqueue(index, Owed::Prompt);
        Ok(given_in_dialog(
            200,
            self.subscriptions[index].tag(),
            granted.told(),
        ))
    }

    /// Whether the phone says, and rightly, that it has what it would be told.
    fn is_known(&mut self, now: Time, index: u32, wanted: &Wanted<'_>) -> bool {
        let known = match wanted.known {
            Suppress::Nothing => return false,
            Suppress::Anything => None,
            Suppress::Tag(tag) => Some(tag),
        };
        let Some(tag) = self.entity_tag(now, index) else {
            return false;
        };
        known.is_none_or(|known| known == hex::text(tag))
    }

    /// No NOTIFY follows; of an end, nothing does.
    fn suppress(&mut self, now: Time, index: u32, granted: Granted, out: &mut Effects) -> Given {
        let tag = self.subscriptions[index].tag();
        if granted.seconds == 0 {
            self.end(index, out);
        } else {
            self.keep_tempo(now, index);
        }
        given_in_dialog(204, tag, granted.told())
    }

    /// Whether the identity is the one that subscribed. Who subscribed when nobody was asked for a proof may have to
    /// bring one now: it is the same one if its claim still is what it was.
    fn is_watcher(
        &self,
        index: u32,
        identity: &Identity,
        request: &Request<'_>,
        flow: &Flow,
    ) -> bool {
        let standing = self.subscriptions.phone(index).identity;
        let claimed = || {
            let from = self.settings.watcher_of(request)?;
            Some(Identity::claimed(
                &from,
                flow.peer.ip(),
                &self.settings.secrets,
            ))
        };
        identity.number() as u64 == standing
            || claimed().is_some_and(|claimed| claimed.number() as u64 == standing)
    }

    fn renew(&mut self, now: Time, index: u32, granted: Granted, wanted: &Wanted<'_>, cseq: u32) {
        self.subscriptions.unpark(index);
        let subscription = &mut self.subscriptions[index];
        subscription.remote_cseq = cseq;
        subscription.content_type = wanted.content_type;
        let (phase, expires_at) = standing(now, granted.seconds);
        subscription.phase = phase;
        match &mut subscription.tempo {
            Some(tempo) if !wanted.rates.is_empty() && granted.seconds > 0 => {
                **tempo = Tempo::new(wanted.rates);
            }
            Some(_) | None => subscription.tempo = tempo(&wanted.rates, granted.seconds),
        }
        subscription.expires_at = expires_at;
        subscription.spared_seconds = granted.spared;
        self.set_deadline(index, expires_at);
        self.stats.record(match granted.seconds {
            0 => Counter::SubscriptionUnsubscribed,
            _ => Counter::SubscriptionRefreshed,
        });
    }

    /// A Contact in a refresh is the new target; NOTIFYs follow the flow that the request came by. The route set stays.
    //= RFC 3261 12.2.2
    fn retarget(
        &mut self,
        index: u32,
        request: &Request<'_>,
        flow: &Flow,
    ) -> Result<Before, Refused> {
        let subscription = &self.subscriptions[index];
        let contact = read::contact(request).map_err(refusal)?;
        let stored = subscription.text.part(Part::Target);
        let routes = subscription.text.part(Part::Routes);
        let first_route = first_route(routes, stored);
        let target = match contact {
            Some(contact) => contact,
            None => Uri::parse(stored).map_err(|_| Refused::plain(500))?,
        };
        let peer = self.next_hop(request, flow, first_route, &target)?;
        // Behind a strict router the target is the last route, and a change of it is not followed.
        let moved = contact.is_some_and(|contact| contact.raw != stored)
            && first_route.is_none_or(|uri| uri.is_loose());
        let text = match contact {
            Some(contact) if moved => Some(
                subscription
                    .text
                    .with_target(contact.raw)
                    .ok_or(Refused::plain(500))?,
            ),
            Some(_) | None => None,
        };
        let subscription = &mut self.subscriptions[index];
        let before = Before {
            flow: subscription.flow,
            text: text.map(|text| core::mem::replace(&mut subscription.text, text)),
        };
        self.set_flow(index, Flow { peer, ..*flow });
        Ok(before)
    }

    /// From now on NOTIFYs of this dialog take this flow; its lease goes with it.
    pub(super) fn set_flow(&mut self, index: u32, flow: Flow) {
        self.listeners.take(flow.listener, Lessee::Dialog);
        let before = self.subscriptions[index].flow;
        self.subscriptions.set_flow(index, flow);
        self.listeners.give(before.listener, Lessee::Dialog);
        if before.connection != flow.connection || before.is_by_name() {
            self.leave_line(index);
        }
    }

    /// What of a new dialog is kept as text, and the address that its requests go to.
    fn dialog_text(
        &mut self,
        request: &Request<'_>,
        flow: &Flow,
        wanted: &Wanted<'_>,
        contact: &Uri<'_>,
    ) -> Result<(Text, core::net::SocketAddr), Refused> {
        if request.call_id.len() > limits::CALL_ID_BYTES
            || request.from_tag.len() > limits::TAG_BYTES
        {
            return Err(Refused::because(400, "Dialog Identifier Too Long"));
        }
        // Most phones have no route set, and memory is cleared only for those that have one.
        let mut room = Vec::new();
        if request.message.has(Name::RecordRoute) {
            room.resize(limits::ROUTE_SET_BYTES, 0);
        }
        let routing = read::routing(request, contact.raw, &mut room).map_err(refusal)?;
        let peer = self.next_hop(request, flow, routing.first, contact)?;
        let too_long = Refused::plain(513);
        let text = Text::new([
            request.call_id,
            &unfold(request.from.raw),
            &unfold(request.to.raw),
            request.uri,
            wanted.event_id,
            routing.target,
            &room[..routing.lines],
        ]);
        Ok((text.ok_or(too_long)?, peer))
    }

    fn next_hop(
        &self,
        request: &Request<'_>,
        flow: &Flow,
        route: Option<Uri<'_>>,
        contact: &Uri<'_>,
    ) -> Result<core::net::SocketAddr, Refused> {
        let gate = self.listeners.gate(flow.listener);
        let path = Path {
            route,
            contact: *contact,
            vias: request.message.values(Name::Via).take(2).count(),
            nat: self.settings.rules.policy.nat(gate),
            names: self.settings.rules.names,
        };
        let own = Own {
            listeners: self.listeners.own(),
            flow,
        };
        match transport::next_hop(&path, &own) {
            Ok(hop) => Ok(hop.peer),
            Err(why) if why.is_nonsense() => Err(Refused::because(400, why.name())),
            // Another transport, or a name that is not looked up.
            Err(why) => Err(Refused::because(501, why.name())),
        }
    }

    fn granted(&mut self, wanted: &Wanted<'_>) -> Result<Granted, Refused> {
        let rules = &self.settings.rules;
        let expiry = &rules.subscribe_expiry[usize::from(wanted.package.id.0)];
        let seconds = expiry
            .grant(wanted.seconds)
            .map_err(|min| Refused::with(423, With::MinExpires(min)))?;
        let spared = match expiry.spread(seconds) {
            most if most > 0 && rules.subscribe.jitter => {
                self.rng.below(u64::from(most) + 1) as u16
            }
            _ => 0,
        };
        Ok(Granted { seconds, spared })
    }

    /// The resource of a subscription; None: it was of a domain that is none of ours any more.
    fn watched_key(&self, copy: u32) -> Option<Key> {
        let resource = &self.copies.copy(copy).resource;
        let domains = self.settings.rules.policy.domains();
        let (_, domain) = resource.rsplit_once('@')?;
        let key = domains.named(resource).ok()?;
        (key.domain() == domain.as_bytes()).then_some(key)
    }
}

/// How long a subscription lasts.
#[derive(Clone, Copy)]
struct Granted {
    /// What was asked for, within bounds: so long it is kept.
    seconds: u32,
    /// So many seconds earlier is the phone told to be back.
    spared: u16,
}

impl Granted {
    /// What the answer says.
    fn told(self) -> u32 {
        self.seconds - u32::from(self.spared)
    }
}

/// What a new subscription is made of, beside what was asked for.
struct Accepted {
    held: Held,
    text: Text,
    flow: Flow,
    copy: u32,
    granted: Granted,
    partition: Partition,
}

/// With what a subscription goes on, or ends.
struct Renewal<'a> {
    request: &'a Request<'a>,
    flow: &'a Flow,
    identity: &'a Identity,
    wanted: &'a Wanted<'a>,
    granted: Granted,
}

/// Where a subscription stands that was granted so many seconds, and its deadline. With 0 it ends with its next NOTIFY:
/// a fetch, or an end; nothing but the deadline is kept for it.
fn standing(now: Time, seconds: u32) -> (Phase, Time) {
    match seconds {
        0 => (Phase::Terminating(Reason::Timeout), now + T64),
        _ => (Phase::Active, now + Duration::from_secs(u64::from(seconds))),
    }
}

/// How often it will be told, if it has asked for that; what ends is told once more in any case.
fn tempo(rates: &Rates, seconds: u32) -> Option<Box<Tempo>> {
    (!rates.is_empty() && seconds > 0).then(|| Box::new(Tempo::new(*rates)))
}

pub(super) fn refusal(unwanted: Unwanted) -> Refused {
    match unwanted {
        Unwanted::Event => Refused::with(489, With::Packages),
        Unwanted::Accept(Package { types, .. }) => Refused::with(406, With::Accept(types)),
        Unwanted::Malformed(reason) => Refused::because(400, reason),
    }
}

pub(super) fn tag_of(remote: &[u8]) -> &[u8] {
    NameAddr::parse(remote)
        .ok()
        .and_then(|address| address.tag)
        .unwrap_or(&[])
}

/// The first hop of a dialog's stored Route lines; behind a strict router it is the Request-URI itself.
pub(super) fn first_route<'a>(routes: &'a [u8], target: &'a [u8]) -> Option<Uri<'a>> {
    let line = routes.strip_prefix(b"Route: ")?;
    // NOT SIP: a line of our own making.
    let end = memchr::memchr(b'\r', line)?;
    let first = Uri::parse(NameAddr::parse(&line[..end]).ok()?.uri).ok()?;
    if first.is_loose() {
        Some(first)
    } else {
        Uri::parse(target).ok()
    }
}

/// One line without folds; borrowed as it is where there are none.
fn unfold(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut line = vec![0; raw.len()];
    let mut writer = Writer::new(&mut line);
    writer.unfolded(raw);
    let length = writer.len();
    line.truncate(length);
    Cow::Owned(line)
}
