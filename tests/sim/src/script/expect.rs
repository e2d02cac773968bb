//! `< NOTIFY active early`: compares what a phone has got with what the scenario expects.

use super::language::{Compare, Line, Word};
use super::stage::{Arrival, Stage, show};
use super::variables::{fill_lines, fill_words};
use crate::lamp::{Document, Lamp};
use crate::message::{Message, parameter};

/// One `<` step.
pub fn expect(stage: &mut Stage, name: &str, words: &[Word], lines: &[Line]) -> Result<(), String> {
    let words = fill_words(stage, words)?;
    let lines = fill_lines(stage, lines)?;
    let first = words[0].key.as_str();
    if first == "nothing" {
        return match stage.phone(name).inbox.front() {
            None => Ok(()),
            Some(arrival) => Err(format!(
                "expected nothing; came:\n{}",
                show(&arrival.message)
            )),
        };
    }
    if first.ends_with('?') && stage.phone(name).inbox.is_empty() {
        return Ok(());
    }
    let arrival = next(stage, name, &words)?;
    check(stage, name, &words, &lines, &arrival)
        .map_err(|error| format!("{error}; came:\n{}", show(&arrival.message)))?;
    remember(stage, name, &words, &lines, arrival)
}

/// The next message, or with `in=label` the next one of that dialog.
fn next(stage: &mut Stage, name: &str, words: &[Word]) -> Result<Arrival, String> {
    let call_id = match Word::value_of(words, "in") {
        Some(label) => {
            let conversation = stage.conversations.get(label);
            Some(
                conversation
                    .ok_or_else(|| format!("no dialog {label}"))?
                    .call_id
                    .clone(),
            )
        }
        None => None,
    };
    let inbox = &mut stage.phone(name).inbox;
    let position = match &call_id {
        Some(call_id) => inbox
            .iter()
            .position(|arrival| arrival.message.header("Call-ID") == Some(call_id)),
        None => Some(0),
    };
    position
        .and_then(|position| inbox.remove(position))
        .ok_or_else(|| format!("expected {}; nothing has come", words[0].key))
}

fn check(
    stage: &Stage,
    name: &str,
    words: &[Word],
    lines: &[Line],
    arrival: &Arrival,
) -> Result<(), String> {
    let message = &arrival.message;
    match (words[0].key.as_str(), message.status(), message.method()) {
        ("again", _, _) => {
            let read = stage.phones[name]
                .read
                .as_ref()
                .ok_or("nothing was read before")?;
            if read.bytes != message.bytes {
                return Err("expected the same message again".to_string());
            }
        }
        (wanted, Some(status), _) if is_status(wanted, status) => {}
        (wanted, _, Some(method)) if wanted == method => check_notify(words, message)?,
        (wanted, _, _) => return Err(format!("expected {wanted}")),
    }
    for word in &words[1..] {
        if let Some((compare, value)) = &word.check {
            check_word(stage, arrival, &word.key, *compare, value)?;
        }
    }
    lines.iter().try_for_each(|line| check_line(message, line))
}

/// `200`, `4xx`, `400|481`; with `?` at the end, no answer is right as well.
fn is_status(wanted: &str, status: u16) -> bool {
    let status = status.to_string();
    wanted.trim_end_matches('?').split('|').any(|one| {
        let digits = one.chars().zip(status.chars());
        one.len() == status.len() && digits.into_iter().all(|(w, s)| w == s || w == 'x')
    })
}

/// The plain words: first the subscription's state, then what the document says.
fn check_notify(words: &[Word], message: &Message) -> Result<(), String> {
    let mut plain = words[1..].iter().filter(|word| word.check.is_none());
    let Some(state) = plain.next() else {
        return Ok(());
    };
    let header = message.header("Subscription-State").unwrap_or_default();
    let is = header.split(';').next().unwrap_or_default().trim();
    if is != state.key {
        return Err(format!("expected the subscription to be {}", state.key));
    }
    let document = Document::read(message)?;
    plain.try_for_each(|word| match shows(&document, &word.key) {
        Some(true) => Ok(()),
        Some(false) => Err(format!("expected {} in {document:?}", word.key)),
        None => Err(format!("no word for a document: {}", word.key)),
    })
}

/// Whether a document says what a word means; `None` for a word without a meaning.
fn shows(document: &Document, word: &str) -> Option<bool> {
    let lamp = match word {
        "idle" => Some(Lamp::Dark),
        "trying" => Some(Lamp::Trying),
        "early" | "ringing" => Some(Lamp::Blinking),
        "confirmed" | "inuse" => Some(Lamp::Lit),
        "hold" => Some(Lamp::Held),
        _ => None,
    };
    if let Some(lamp) = lamp {
        let dialog_info = matches!(document, Document::Dialog { .. });
        return Some(dialog_info && document.lamp() == lamp);
    }
    match (word, document) {
        ("empty", _) => Some(*document == Document::Empty),
        ("full", Document::Dialog { full, .. }) => Some(*full),
        ("partial", Document::Dialog { full, .. }) => Some(!*full),
        ("yes", Document::Mailbox { waiting, .. }) => Some(*waiting),
        ("no", Document::Mailbox { waiting, .. }) => Some(!*waiting),
        ("open" | "closed", Document::Presence { basic, .. }) => {
            Some(basic.iter().any(|one| one == word))
        }
        (activity, Document::Presence { activities, .. }) => {
            Some(activities.iter().any(|one| one == activity))
        }
        ("full" | "partial" | "yes" | "no" | "open" | "closed", _) => Some(false),
        _ => None,
    }
}

fn check_word(
    stage: &Stage,
    arrival: &Arrival,
    key: &str,
    compare: Compare,
    value: &str,
) -> Result<(), String> {
    let message = &arrival.message;
    let state = message.header("Subscription-State").unwrap_or_default();
    let of_state = |name| parameter(state, name).map(str::to_string);
    let document = || Document::read(message);
    let is = match (key, message.status()) {
        ("as" | "in", _) => return Ok(()),
        ("expires", None) => of_state("expires"),
        ("expires", Some(_)) => message.header("Expires").map(str::to_string),
        ("reason", _) => of_state("reason"),
        ("retry-after", None) => of_state("retry-after"),
        ("retry-after", Some(_)) => message.header("Retry-After").map(str::to_string),
        ("etag", _) => message.header("SIP-ETag").map(str::to_string),
        ("cseq", _) => message.cseq().map(|cseq| cseq.to_string()),
        ("event", _) => message.header("Event").map(str::to_string),
        ("size", _) => Some(message.bytes.len().to_string()),
        ("uri", _) => message.request_uri().map(str::to_string),
        ("listener", _) => stage.transports.name(arrival.listener).cloned(),
        ("version", _) => match document()? {
            Document::Dialog { version, .. } => Some(version.to_string()),
            _ => None,
        },
        ("dialogs", _) => match document()? {
            Document::Dialog { dialogs, .. } => Some(dialogs.len().to_string()),
            _ => None,
        },
        ("entity", _) => match document()? {
            Document::Dialog { entity, .. } | Document::Presence { entity, .. } => Some(entity),
            _ => None,
        },
        ("tuples", _) => match document()? {
            Document::Presence { basic, .. } => Some(basic.len().to_string()),
            _ => None,
        },
        ("voice" | "fax", _) => match document()? {
            Document::Mailbox { counts, .. } => counts
                .into_iter()
                .find(|(class, _)| class.to_ascii_lowercase().starts_with(key))
                .map(|(_, count)| count),
            _ => None,
        },
        _ => return Err(format!("no check: {key}")),
    };
    compare_values(key, is.as_deref(), compare, value)
}

fn check_line(message: &Message, line: &Line) -> Result<(), String> {
    let values = |name: &str| -> Vec<String> {
        match name {
            "body" => vec![message.text()],
            "start" => vec![message.start.clone()],
            _ => message.all(name).map(str::to_string).collect(),
        }
    };
    match line {
        Line::Header { name, value } => match values(name).iter().any(|is| is == value) {
            true => Ok(()),
            false => Err(format!("expected {name}: {value}")),
        },
        Line::More { name, .. } => match values(name).is_empty() {
            true => Err(format!("expected a header {name}")),
            false => Ok(()),
        },
        Line::Without { name } => match values(name).is_empty() {
            true => Ok(()),
            false => Err(format!("expected no header {name}")),
        },
        Line::Compare {
            name,
            compare,
            value,
        } => {
            let values = values(name);
            let contains = values.iter().any(|is| is.contains(value.as_str()));
            match (compare, values.is_empty()) {
                (_, true) => Err(format!("expected a header {name}")),
                (Compare::ContainsNot, false) if contains => {
                    Err(format!("expected {name} without {value}"))
                }
                (Compare::Contains, false) if !contains => {
                    Err(format!("expected {name} with {value}"))
                }
                _ => Ok(()),
            }
        }
        Line::Keep { name, .. } => match values(name).is_empty() {
            true => Err(format!("expected a header {name}")),
            false => Ok(()),
        },
        Line::Text(text) => match message
            .text()
            .lines()
            .any(|line| line.trim() == text.trim())
        {
            true => Ok(()),
            false => Err(format!("expected the line {text:?} in the body")),
        },
    }
}

fn compare_values(
    key: &str,
    is: Option<&str>,
    compare: Compare,
    value: &str,
) -> Result<(), String> {
    let shown = is.unwrap_or("absent");
    let numbers = || -> Result<(i64, i64), String> {
        let number = |text: &str| text.parse().map_err(|_| format!("no number: {key} {text}"));
        Ok((number(shown)?, number(value)?))
    };
    let holds = match compare {
        Compare::Is => shown == value,
        Compare::IsNot => shown != value,
        Compare::Contains => shown.contains(value),
        Compare::ContainsNot => !shown.contains(value),
        Compare::AtMost => numbers().map(|(is, limit)| is <= limit)?,
        Compare::AtLeast => numbers().map(|(is, limit)| is >= limit)?,
    };
    match holds {
        true => Ok(()),
        false => Err(format!("{key} is {shown}, expected {compare:?} {value}")),
    }
}

/// What later steps refer to: the dialog's tag, entity tags, labels, variables.
fn remember(
    stage: &mut Stage,
    name: &str,
    words: &[Word],
    lines: &[Line],
    arrival: Arrival,
) -> Result<(), String> {
    let message = &arrival.message;
    for line in lines {
        if let Line::Keep { name, variable } = line {
            let value = message.header(name).unwrap_or_default().to_string();
            stage.variables.insert(variable.clone(), value);
        }
    }
    if message
        .status()
        .is_some_and(|status| (200..300).contains(&status))
    {
        let call_id = message.header("Call-ID");
        for conversation in stage.conversations.values_mut() {
            if Some(conversation.call_id.as_str()) == call_id && conversation.method == "SUBSCRIBE"
            {
                conversation.to_tag = message.tag("To").map(str::to_string);
                conversation.target = message
                    .header("Contact")
                    .map(|contact| crate::message::address(contact).to_string());
            }
        }
    }
    for (variable, value) in [
        ("etag", message.header("SIP-ETag")),
        ("to-tag", message.tag("To")),
        ("call-id", message.header("Call-ID")),
    ] {
        if let (Some(value), Some(_)) = (value, message.status()) {
            stage
                .variables
                .insert(variable.to_string(), value.to_string());
        }
    }
    if let Some(label) = Word::value_of(words, "as") {
        if let Some(etag) = message.header("SIP-ETag") {
            stage
                .variables
                .insert(format!("{label}.etag"), etag.to_string());
        }
        stage.kept.insert(label.to_string(), arrival.clone());
    }
    let phone = stage.phone(name);
    phone.read = Some(arrival.message.clone());
    if arrival.message.method().is_some() {
        phone.asked = Some(arrival);
    }
    Ok(())
}
