//! The JSON of hints: strict on the way in, plain on the way out. It knows no HTTP.

use core::time::Duration;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::hint::{
    Call, CallState, Direction, HintState, HintUpdate, Mailbox, MessageClass, MessageCount, Note,
    Order, Party, Presence, ResourceKey, Snapshot,
};
use crate::shard::control::{ResourceRow, SourceRow};

/// The source of a hint that names none.
pub const DEFAULT_SOURCE: &str = "http";

/// What one source says of one resource.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HintBody {
    /// Among many hints only: elsewhere the path names it.
    pub resource: Option<String>,
    /// Among many hints only: this one is a removal.
    pub remove: Option<bool>,
    #[serde(default, deserialize_with = "state")]
    state: Option<HintState>,
    #[serde(default)]
    calls: Vec<CallBody>,
    note: Option<NoteBody>,
    mailbox: Option<MailboxBody>,
    source: Option<String>,
    epoch: Option<u64>,
    seq: Option<u64>,
    /// Seconds.
    expires: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallBody {
    id: Option<String>,
    #[serde(deserialize_with = "call_state")]
    state: CallState,
    #[serde(default, deserialize_with = "direction")]
    direction: Option<Direction>,
    #[serde(default)]
    call_id: String,
    #[serde(default)]
    local_tag: String,
    #[serde(default)]
    remote_tag: String,
    #[serde(default)]
    local: PartyBody,
    #[serde(default)]
    remote: PartyBody,
    #[serde(default)]
    event: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PartyBody {
    identity: String,
    display: String,
    target: String,
    held: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NoteBody {
    Text(String),
    #[serde(rename_all = "snake_case")]
    WithLanguage(LanguageNote),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LanguageNote {
    text: String,
    language: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailboxBody {
    /// Without it: whether there is a new message.
    waiting: Option<bool>,
    #[serde(default)]
    account: String,
    voice: Option<CountBody>,
    fax: Option<CountBody>,
    pager: Option<CountBody>,
    multimedia: Option<CountBody>,
    text: Option<CountBody>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CountBody {
    new: u32,
    old: u32,
    #[serde(default)]
    urgent_new: u32,
    #[serde(default)]
    urgent_old: u32,
}

fn state<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<HintState>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let unknown = || {
        let known = HintState::ALL.map(HintState::name).join(", ");
        serde::de::Error::custom(format!("unknown state `{name}`, expected one of {known}"))
    };
    HintState::from_name(&name).map(Some).ok_or_else(unknown)
}

fn call_state<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<CallState, D::Error> {
    let name = String::deserialize(deserializer)?;
    CallState::from_name(&name).ok_or_else(|| {
        let known = CallState::ALL.map(CallState::name).join(", ");
        serde::de::Error::custom(format!(
            "unknown call state `{name}`, expected one of {known}"
        ))
    })
}

fn direction<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Direction>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Direction::from_name(&name).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "unknown direction `{name}`, expected initiator or recipient"
        ))
    })
}

/// The place of a change in its source: both numbers or neither.
pub fn order(epoch: Option<u64>, seq: Option<u64>) -> Result<Option<Order>, String> {
    match (epoch, seq) {
        (None, None) => Ok(None),
        (epoch, Some(seq)) => Ok(Some(Order {
            epoch: epoch.unwrap_or(0),
            seq,
        })),
        (Some(_), None) => Err("epoch: an `epoch` needs a `seq` beside it".to_owned()),
    }
}

/// The name of a source; none: the default one.
pub fn source(name: Option<&str>) -> Arc<str> {
    name.unwrap_or(DEFAULT_SOURCE).into()
}

impl HintBody {
    /// Its source and its place there: all that a removal needs.
    pub fn origin(&self) -> Result<(Arc<str>, Option<Order>), String> {
        Ok((source(self.source.as_deref()), order(self.epoch, self.seq)?))
    }

    /// Whether it says nothing about a state.
    pub fn is_empty(&self) -> bool {
        self.state.is_none()
            && self.calls.is_empty()
            && self.note.is_none()
            && self.mailbox.is_none()
            && self.expires.is_none()
    }

    /// The update that it means. An error names the member that is wrong.
    pub fn into_update(self, resource: ResourceKey) -> Result<HintUpdate, String> {
        let (source, order) = self.origin()?;
        if self.state.is_none() && self.note.is_none() && self.mailbox.is_none() {
            return Err("state: one of `state`, `note` and `mailbox` must be there".to_owned());
        }
        if self.expires == Some(0) {
            return Err("expires: 0 seconds are none; use DELETE to remove".to_owned());
        }
        let calls: Vec<Call> = self
            .calls
            .into_iter()
            .enumerate()
            .map(|(index, call)| call.into_call(index))
            .collect();
        for (index, call) in calls.iter().enumerate() {
            if calls[..index].iter().any(|earlier| earlier.id == call.id) {
                return Err(format!("calls[{index}].id: `{}` is there twice", call.id));
            }
        }
        Ok(HintUpdate {
            resource,
            source,
            order,
            state: self.state,
            calls,
            note: self.note.map(NoteBody::into_note),
            mailbox: self.mailbox.map(MailboxBody::into_mailbox),
            expires: self
                .expires
                .map(|seconds| Duration::from_secs(seconds.into())),
        })
    }
}

impl CallBody {
    fn into_call(self, index: usize) -> Call {
        let id = match (self.id, self.call_id.as_str()) {
            (Some(id), _) => id.into_boxed_str(),
            (None, "") => format!("call-{index}").into(),
            (None, call_id) => call_id.into(),
        };
        Call {
            id,
            state: self.state,
            direction: self.direction,
            call_id: self.call_id.into(),
            local_tag: self.local_tag.into(),
            remote_tag: self.remote_tag.into(),
            local: self.local.into_party(),
            remote: self.remote.into_party(),
            event: self.event.into(),
            extensions: Vec::new(),
        }
    }
}

impl PartyBody {
    fn into_party(self) -> Party {
        Party {
            identity: self.identity.into(),
            display: self.display.into(),
            target: self.target.into(),
            held: self.held,
        }
    }
}

impl NoteBody {
    fn into_note(self) -> Note {
        let (text, language) = match self {
            NoteBody::Text(text) => (text, String::new()),
            NoteBody::WithLanguage(note) => (note.text, note.language),
        };
        Note {
            language: language.into(),
            text: text.into(),
        }
    }
}

impl MailboxBody {
    fn into_mailbox(self) -> Mailbox {
        let counts: Vec<MessageCount> = [
            (MessageClass::Voice, self.voice),
            (MessageClass::Fax, self.fax),
            (MessageClass::Pager, self.pager),
            (MessageClass::Multimedia, self.multimedia),
            (MessageClass::Text, self.text),
        ]
        .into_iter()
        .filter_map(|(class, count)| count.map(|count| count.into_count(class)))
        .collect();
        let any_new = counts.iter().any(|count| count.new > 0);
        Mailbox {
            waiting: self.waiting.unwrap_or(any_new),
            account: self.account.into(),
            counts,
        }
    }
}

impl CountBody {
    fn into_count(self, class: MessageClass) -> MessageCount {
        let urgent = (self.urgent_new, self.urgent_old);
        MessageCount {
            class,
            new: self.new,
            old: self.old,
            urgent: (urgent != (0, 0)).then_some(urgent),
        }
    }
}

/// One resource as its home shard knows it.
pub fn hint_json(row: &ResourceRow) -> Value {
    let mut object = snapshot_json(&row.resource, &row.snapshot);
    let members = object.as_object_mut().expect("it is an object");
    let sources: Vec<Value> = row.sources.iter().map(source_json).collect();
    members.insert("sources".into(), sources.into());
    members.insert("publications".into(), row.publications.into());
    members.insert("watching_shards".into(), row.watchers.len().into());
    object
}

fn source_json(row: &SourceRow) -> Value {
    json!({
        "source": &*row.source,
        "state": row.state.map(HintState::name),
        "epoch": row.order.map(|order| order.epoch),
        "seq": row.order.map(|order| order.seq),
        "expires_in": row.expires_in.map(|left| left.as_secs()),
    })
}

/// The composed state of a resource, as its watchers are told it.
pub fn snapshot_json(resource: &str, snapshot: &Snapshot) -> Value {
    let calls: Vec<Value> = snapshot.dialogs.content.iter().map(call_json).collect();
    json!({
        "resource": resource,
        "lamp": snapshot.telling_call().map_or("terminated", |call| call.state.name()),
        "versions": {
            "dialog": snapshot.dialogs.version,
            "presence": snapshot.presence.version,
            "message-summary": snapshot.mailbox.version,
        },
        "calls": calls,
        "presence": presence_json(&snapshot.presence.content),
        "mailbox": snapshot.mailbox.content.as_deref().map(mailbox_json),
    })
}

fn call_json(call: &Call) -> Value {
    json!({
        "id": &*call.id,
        "state": call.state.name(),
        "direction": call.direction.map(Direction::name),
        "call_id": &*call.call_id,
        "local_tag": &*call.local_tag,
        "remote_tag": &*call.remote_tag,
        "local": party_json(&call.local),
        "remote": party_json(&call.remote),
        "event": &*call.event,
    })
}

fn party_json(party: &Party) -> Value {
    json!({
        "identity": &*party.identity,
        "display": &*party.display,
        "target": &*party.target,
        "held": party.held,
    })
}

/// What people look for: open or closed, what they do, what they say.
fn presence_json(presence: &Presence) -> Value {
    let open = presence
        .tuples
        .iter()
        .filter_map(|tuple| tuple.basic)
        .map(|basic| basic.name())
        .collect::<Vec<_>>();
    let activities: Vec<&str> = presence
        .persons
        .iter()
        .flat_map(|person| person.activities.iter().map(|activity| &**activity))
        .collect();
    let persons = presence.persons.iter().flat_map(|person| &person.notes);
    let tuples = presence.tuples.iter().flat_map(|tuple| &tuple.notes);
    let notes: Vec<&str> = presence
        .notes
        .iter()
        .chain(persons)
        .chain(tuples)
        .map(|note| &*note.text)
        .collect();
    json!({ "tuples": open, "activities": activities, "notes": notes })
}

fn mailbox_json(mailbox: &Mailbox) -> Value {
    let mut object = json!({ "waiting": mailbox.waiting, "account": &*mailbox.account });
    let members = object.as_object_mut().expect("it is an object");
    for count in &mailbox.counts {
        let (urgent_new, urgent_old) = count.urgent.unwrap_or_default();
        let value = json!({
            "new": count.new,
            "old": count.old,
            "urgent_new": urgent_new,
            "urgent_old": urgent_old,
        });
        members.insert(class_name(count.class).to_owned(), value);
    }
    object
}

const fn class_name(class: MessageClass) -> &'static str {
    match class {
        MessageClass::Voice => "voice",
        MessageClass::Fax => "fax",
        MessageClass::Pager => "pager",
        MessageClass::Multimedia => "multimedia",
        MessageClass::Text => "text",
        MessageClass::None => "none",
    }
}
