//! What must hold of what is said by connections, and of the lamps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::shard::census::Census;
use lampfield::shard::control::{Answer, Ask, Page, SubscriptionRow};
use lampfield::stats::Counter;
use lampfield::time::{T64, Time};
use lampfield::transport::ConnectionId;

use super::wire::Wire;
use super::{EDGE, MAIL_MS, Streams};
use crate::lamp::{Document, Lamp};
use crate::message::Message;
use crate::web;
use crate::witness::DialogName;

/// News of a connection are at most so old on another shard: a question and an answer, and ticks.
const NEWS: Duration = Duration::from_millis(3 * MAIL_MS + 10);
/// How soon the dialogs of an edge that is back go on by its new connection.
const FOLLOWED: Duration = Duration::from_secs(2);
/// How long the NOTIFY after a 2xx may take.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What was said of a dialog.
#[derive(Debug)]
pub(super) struct Known {
    /// The connection that it was heard by last, or told by.
    connection: ConnectionId,
    since: Time,
    /// When the last NOTIFY was sent, and by which connection.
    told: Option<(Time, ConnectionId)>,
    /// Of the newest request that was accepted in it.
    asked: u32,
    /// Of its newest NOTIFY.
    cseq: u32,
    version: u32,
    ended: bool,
    /// Its phone has said that it does not know it.
    refused: bool,
    /// When its time ends.
    deadline: Time,
    /// The 2xx that no NOTIFY has followed yet.
    owed_since: Option<Time>,
}

impl Streams {
    /// The shard writes something to a connection.
    pub(super) fn judge(&mut self, id: ConnectionId, bytes: &[u8]) -> Result<(), String> {
        let is_web = self.wires.get(&id).is_some_and(|wire| wire.is_web);
        let bytes = if is_web {
            web::message_of(bytes)
        } else {
            bytes
        };
        if matches!(bytes, b"" | b"\r\n") {
            return Ok(());
        }
        let message = Message::read(bytes)?;
        match message.method() {
            Some("NOTIFY") => self.judge_notify(id, &message),
            Some(method) => Err(format!("a server has no reason to send {method}")),
            None => {
                self.judge_answer(id, &message);
                Ok(())
            }
        }
    }

    fn judge_answer(&mut self, id: ConnectionId, answer: &Message) {
        let cseq = answer.header("CSeq").unwrap_or_default();
        let name = DialogName {
            call_id: answer.header("Call-ID").unwrap_or_default().to_string(),
            phone_tag: answer.tag("From").unwrap_or_default().to_string(),
            server_tag: answer.tag("To").unwrap_or_default().to_string(),
        };
        let status = answer.status();
        self.note(|| format!("< {id:?} {status:?} {cseq} {}", name.call_id));
        let Some(seconds) = answer.header("Expires").and_then(|text| text.parse().ok()) else {
            return;
        };
        if status != Some(200) || !cseq.ends_with("SUBSCRIBE") {
            return;
        }
        let now = self.now;
        if let Some((_, phone)) = name.call_id.split_once('@') {
            let all = self.accepted.entry(phone.to_string()).or_default();
            all.push((now, id));
            // Those before the last of each connection say nothing more.
            all.dedup_by(|next, one| {
                one.1 == next.1 && {
                    *one = *next;
                    true
                }
            });
        }
        let known = self.known.entry(name).or_insert(Known {
            connection: id,
            since: now,
            told: None,
            asked: 0,
            cseq: 0,
            version: 0,
            ended: false,
            refused: false,
            deadline: now,
            owed_since: None,
        });
        // An older answer may be longer on its way, to a connection that its phone has left.
        let asked = answer.cseq().unwrap_or_default();
        if asked < known.asked {
            return;
        }
        known.asked = asked;
        if known.connection != id {
            known.connection = id;
            known.since = now;
        }
        known.deadline = now + Duration::from_secs(seconds);
        known.owed_since = Some(now);
    }

    fn judge_notify(&mut self, id: ConnectionId, message: &Message) -> Result<(), String> {
        let name = DialogName {
            call_id: message.header("Call-ID").unwrap_or_default().to_string(),
            phone_tag: message.tag("To").unwrap_or_default().to_string(),
            server_tag: message.tag("From").unwrap_or_default().to_string(),
        };
        let cseq = message.cseq().ok_or("a NOTIFY without CSeq")?;
        let state = message.header("Subscription-State").unwrap_or_default();
        self.note(|| format!("< {id:?} NOTIFY {cseq} {} {state}", name.call_id));
        if self.wires.get(&id).is_some_and(|wire| wire.end_heard) {
            return Err(format!("{id:?} says nothing more, and is told {name:?}"));
        }
        let now = self.now;
        let phone = name.call_id.split('@').nth(1).unwrap_or_default();
        let heard = self.accepted.get(phone);
        let lags = self.has_just_lagged(NEWS);
        let by_edge = self.is_behind_edge(phone) && self.is_of_edge(id);
        // Its phone's newest request may have come by a connection that has ended since, and its answer is still on its
        // way there, or is lost with it: nobody has seen the dialog move, and yet it has lost its way.
        let asked_by = self.asked_by(&name);
        let asked_in_vain = asked_by.is_some_and(|by| self.says_nothing_more(by));
        // The NOTIFY may be quicker than the 200, which another shard may send.
        let known = self.known.entry(name.clone()).or_insert(Known {
            connection: id,
            since: now,
            told: None,
            asked: 0,
            cseq: 0,
            version: 0,
            ended: false,
            refused: false,
            deadline: now + Duration::from_secs(super::EXPIRES_MAX),
            owed_since: None,
        });
        known.told = Some((now, id));
        if known.connection != id {
            if now.since(known.since) <= NEWS || lags {
                // It was on its way to the connection before, and its CSeq is gone with it.
                return Ok(());
            }
            // Others of its phone's may have taken it along, and have left it behind at another address of ours.
            let by = |&(when, by): &(Time, ConnectionId)| by == id && when >= known.since;
            let moves = heard.is_some_and(|heard| heard.iter().any(by));
            // When its connection has ended, it goes on by another one of its phone's, or of its edge's. That may be one
            // whose answer to the phone's last request has ended with it.
            let since = known.since;
            let says_nothing = self.wires.get(&known.connection);
            let says_nothing = says_nothing.is_some_and(|wire| wire.end_heard);
            let ended = says_nothing
                || asked_in_vain
                || self.closed.contains_key(&known.connection)
                || self.closed.values().any(|when| *when >= since);
            let another = |&(_, by): &(Time, ConnectionId)| by == id;
            let goes_on =
                ended && (by_edge || heard.is_some_and(|heard| heard.iter().any(another)));
            if !moves && !goes_on {
                return Err(format!("told by {id:?}: {name:?}, {known:?}"));
            }
            known.connection = id;
            known.since = now;
        }
        if known.ended {
            return Err(format!("told after its end: {name:?}"));
        }
        if cseq <= known.cseq {
            return Err(format!("CSeq {cseq} after {}: {name:?}", known.cseq));
        }
        known.cseq = cseq;
        known.owed_since = None;
        known.ended = state.starts_with("terminated");
        // A 200 may have been lost with its connection.
        let end = self.asked.get(&name.call_id).copied();
        if now > end.unwrap_or(known.deadline) + T64 {
            return Err(format!("told long after its time: {name:?}"));
        }
        match Document::read(message)? {
            Document::Dialog { version, full, .. } => {
                if version <= known.version && known.version != 0 {
                    let before = known.version;
                    return Err(format!("version {version} after {before}: {name:?}"));
                }
                known.version = version;
                match full {
                    true => Ok(()),
                    false => Err(format!("not the full state: {name:?}")),
                }
            }
            Document::Empty => Ok(()),
            other => Err(format!("a document that nobody asked for: {other:?}")),
        }
    }

    /// Whether a shard lags behind, or did so short a while ago.
    fn has_just_lagged(&self, while_ago: Duration) -> bool {
        self.now <= self.lagged_until + while_ago
    }

    /// The connection by which a request went in this dialog that its phone has no answer to.
    fn asked_by(&self, name: &DialogName) -> Option<ConnectionId> {
        let (_, phone) = name.call_id.split_once('@')?;
        let phone = self.phones.iter().find(|other| other.name == phone)?;
        phone.asked_by(&name.call_id)
    }

    fn says_nothing_more(&self, id: ConnectionId) -> bool {
        let wire = self.wires.get(&id);
        wire.is_some_and(|wire| wire.end_heard) || self.closed.contains_key(&id)
    }

    fn is_behind_edge(&self, phone: &str) -> bool {
        let mut phones = self.phones.iter();
        let phone = phones.find(|other| other.name == phone);
        phone.is_some_and(|phone| self.carriers[phone.carrier].address.ip() == IpAddr::from(EDGE))
    }

    fn is_of_edge(&self, id: ConnectionId) -> bool {
        let carrier = self.wires.get(&id).and_then(|wire| wire.carrier);
        carrier.is_some_and(|carrier| self.carriers[carrier].address.ip() == IpAddr::from(EDGE))
    }

    /// A phone says that it does not know a dialog.
    pub(super) fn refused(&mut self, notify: &Message) {
        let named = self.known.iter_mut().find(|(name, _)| {
            Some(name.call_id.as_str()) == notify.header("Call-ID")
                && Some(name.server_tag.as_str()) == notify.tag("From")
        });
        if let Some((_, known)) = named {
            known.refused = true;
        }
    }

    /// Once in a second.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let mut subscriptions = 0;
        for shard in self.edge.ids() {
            subscriptions += self.edge.shard(shard).census().subscriptions;
            if let Some((listener, counted, due)) = self.edge.shard(shard).miscounted_leases() {
                return Err(format!(
                    "{shard:?} counts {counted:?} on {listener:?}, and should {due:?}"
                ));
            }
            let Answer::Figures(figures) = self.ask(shard, Ask::ReadFigures)? else {
                return Err("no figures".to_string());
            };
            for counter in [Counter::Bug, Counter::DatagramForwardedTwice] {
                if figures.stats.get(counter) != 0 {
                    return Err(format!("{shard:?} has counted {counter:?}"));
                }
            }
        }
        let now = self.now;
        let late = Duration::from_secs(1);
        if self.has_just_lagged(late) {
            return Ok(());
        }
        self.known
            .retain(|_, known| now <= known.deadline + 2 * T64);
        self.asked.retain(|_, end| now <= *end + T64 + late);
        let alive = self.asked.len();
        if subscriptions > alive {
            let rows = self.rows()?;
            let extra = rows
                .values()
                .find(|row| !self.asked.contains_key(&*row.call_id));
            return Err(format!(
                "{subscriptions} subscriptions, and only {alive} can be alive: {extra:?}"
            ));
        }
        let heard = |wire: &Wire| wire.web.as_ref().is_some_and(|web| web.close_heard);
        if let Some((id, _)) = self
            .wires
            .iter()
            .find(|(_, wire)| heard(wire) && wire.known)
        {
            return Err(format!("{id:?} was closed by its peer, and is not over"));
        }
        self.nobody_is_forgotten()?;
        self.nobody_asks_in_vain()?;
        // Gone on both sides; who has not noticed has it still.
        let carriers = &self.carriers;
        self.wires.retain(|id, wire| {
            let used = carriers.iter().any(|carrier| carrier.wire == Some(*id));
            used || wire.open || wire.peer_reads && !wire.vanished
        });
        Ok(())
    }

    /// A 2xx is followed by a NOTIFY where its connection takes it.
    fn nobody_is_forgotten(&mut self) -> Result<(), String> {
        let patience = if self.crowd { PATIENCE * 20 } else { PATIENCE };
        for (name, known) in &mut self.known {
            let well = self
                .wires
                .get(&known.connection)
                .is_some_and(|wire| wire.is_well());
            if !well {
                known.owed_since = known.owed_since.map(|_| self.now);
            }
            let over = known.ended || known.refused;
            let owed = known.owed_since.filter(|_| !over);
            let since = owed.map(|since| since.max(self.lagged_until));
            if since.is_some_and(|since| self.now.since(since) > patience) {
                return Err(format!(
                    "no NOTIFY has followed the 2xx of {name:?}: {known:?}"
                ));
            }
        }
        Ok(())
    }

    /// What has come by a connection is answered, as nobody asks twice.
    fn nobody_asks_in_vain(&self) -> Result<(), String> {
        let patience = Duration::from_secs(super::ARRIVES_SECONDS);
        for phone in &self.phones {
            for by in phone.unanswered(self.now, patience) {
                let wire = self.wires.get(&by);
                if wire.is_some_and(|wire| wire.is_well() && wire.is_quiet()) {
                    return Err(format!("{} asks by {by:?}, and has no answer", phone.name));
                }
            }
        }
        Ok(())
    }

    fn rows(&mut self) -> Result<BTreeMap<String, SubscriptionRow>, String> {
        let mut rows = BTreeMap::new();
        for shard in self.edge.ids() {
            let mut from = None;
            loop {
                let ask = Ask::ListSubscriptions {
                    filter: Arc::default(),
                    page: Page {
                        from,
                        rows_max: 500,
                    },
                };
                let Answer::Subscriptions(page) = self.ask(shard, ask)? else {
                    return Err("no list of subscriptions".to_string());
                };
                let named = page
                    .rows
                    .into_iter()
                    .map(|row| (row.call_id.to_string(), row));
                rows.extend(named);
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(rows)
    }

    /// Every subscription that the server can tell something shows what is so.
    pub(super) fn healed(&mut self) -> Result<(), String> {
        let rows = self.rows()?;
        for phone in &self.phones {
            let wire = self.carriers[phone.carrier].wire;
            for key in &phone.keys {
                let Some(dialog) = &key.dialog else { continue };
                let Some(server_tag) = &dialog.server_tag else {
                    continue;
                };
                let name = DialogName {
                    call_id: dialog.call_id.clone(),
                    phone_tag: dialog.tag.clone(),
                    server_tag: server_tag.clone(),
                };
                let Some(known) = self.known.get(&name) else {
                    continue;
                };
                let lives = !known.ended && !known.refused && self.now < known.deadline;
                let Some(row) = rows.get(&name.call_id) else {
                    // Where silence ends nothing, only time and the phone do.
                    if self.keeps && self.parks && lives {
                        return Err(format!("{} has lost {name:?}: {known:?}", phone.name));
                    }
                    continue;
                };
                let heard = self.accepted.get(&phone.name).and_then(|all| all.last());
                let just_heard = heard.is_some_and(|(when, _)| self.now.since(*when) < PATIENCE);
                if known.ended || just_heard || row.state == "terminated" {
                    continue;
                }
                let way = self.wires.get(&known.connection);
                let reached =
                    way.is_some_and(|way| way.is_well()) && wire == Some(known.connection);
                let lost = self.closed.get(&known.connection);
                // Another of its phone's may have taken it along, and nothing had to be told.
                let along = self.accepted.get(&phone.name).is_some_and(|all| {
                    let elsewhere = |(when, by): &(Time, ConnectionId)| {
                        *by != known.connection && *when > known.since
                    };
                    all.iter().any(elsewhere)
                });
                // Its edge may have had another connection.
                let along = along || self.is_behind_edge(&phone.name);
                let over = lost.is_some_and(|lost| *lost + NEWS < self.now);
                if !self.keeps && over && !along {
                    return Err(format!(
                        "its connection has ended, and it has not: {row:?}, {known:?}"
                    ));
                }
                // One request of a phone is enough for all that it has.
                let woken = heard.is_some_and(|(when, by)| {
                    let lives = self.wires.get(by).is_some_and(|wire| wire.is_well());
                    lives && lost.is_some_and(|lost| *lost + NEWS < *when) && *when > known.since
                });
                if row.state == "parked" && woken {
                    return Err(format!(
                        "{} was heard, and not woken: {row:?}, {known:?}",
                        phone.name
                    ));
                }
                // Whom silence has parked is not asked by another way.
                let cut = known.told.is_some_and(|(when, by)| {
                    let lost = self.closed.get(&by);
                    lost.is_some_and(|lost| *lost < when + T64)
                });
                if row.state == "parked" && cut && self.is_edge_back(phone.carrier) {
                    return Err(format!("its edge is back, and it is not told: {known:?}"));
                }
                let truth = self.truth_of(key.resource);
                if reached && row.state == "active" && key.shown != Some(truth) {
                    return Err(format!(
                        "{} shows {:?}, and it is {truth:?}: {row:?}, {known:?}",
                        phone.name, key.shown
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether an edge has a connection by which it has said, a while ago, who it is.
    fn is_edge_back(&self, carrier: usize) -> bool {
        let carrier = &self.carriers[carrier];
        let Some(id) = carrier.wire.filter(|_| carrier.is_edge) else {
            return false;
        };
        let long_ago = |(when, by): &(Time, ConnectionId)| *by == id && *when + FOLLOWED < self.now;
        let heard = |&at: &usize| {
            let heard = self.accepted.get(&self.phones[at].name);
            heard.is_some_and(|heard| heard.iter().any(long_ago))
        };
        let well = self.wires.get(&id).is_some_and(|wire| wire.is_well());
        well && carrier.phones.iter().any(heard)
    }

    /// Every key of every phone has a subscription, and shows what is so.
    pub(super) fn all_right(&mut self) -> Result<(), String> {
        let rows = self.rows()?;
        for phone in &self.phones {
            for key in &phone.keys {
                let call_id = key.dialog.as_ref().map(|dialog| &dialog.call_id);
                let row = call_id.and_then(|call_id| rows.get(call_id));
                let lives = row.is_some_and(|row| row.state == "active");
                let truth = self.truth_of(key.resource);
                if !lives || key.shown != Some(truth) {
                    let carrier = &self.carriers[phone.carrier];
                    return Err(format!(
                        "{} at {carrier:?} should show {truth:?}: {key:?}, {row:?}",
                        phone.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn truth_of(&self, resource: usize) -> Lamp {
        match self.hints[resource] {
            HintState::Ringing => Lamp::Blinking,
            HintState::InUse => Lamp::Lit,
            HintState::Hold => Lamp::Held,
            _ => Lamp::Dark,
        }
    }

    /// Everything has ended: every table, wheel, lease and slot is empty.
    pub(super) fn nothing_left(&mut self) -> Result<(), String> {
        for shard in self.edge.ids() {
            let census = self.edge.shard(shard).census();
            if census != Census::default() {
                return Err(format!("{shard:?} is not empty: {census:?}"));
            }
        }
        if let Some((id, wire)) = self.wires.iter().find(|(_, wire)| wire.open) {
            return Err(format!("{id:?} is still open: {wire:?}"));
        }
        match self.sockets.generations.is_draining() {
            true => Err(format!("old listeners are still open: {:?}", self.sockets)),
            false => Ok(()),
        }
    }
}
