//! `hint 1001 ringing`: what a source outside of SIP says, as the control thread passes it on.

use std::sync::Arc;

use lampfield::hint::{
    Call, CallState, Direction, HintState, HintUpdate, Mailbox, MessageClass, MessageCount, Note,
    Order, Party, ResourceKey,
};
use lampfield::shard::control::{Answer, Ask, HintChange, HintOutcome};

use super::language::Word;
use super::reader::duration;
use super::stage::Stage;

/// One `hint` step.
pub fn change(stage: &mut Stage, resource: &str, words: &[Word]) -> Result<(), String> {
    let resource = canonical(resource);
    let source = Word::value_of(words, "source").unwrap_or("").to_string();
    let order = match Word::value_of(words, "seq") {
        Some(seq) => Some(Order {
            epoch: number(Word::value_of(words, "epoch").unwrap_or("1"))?,
            seq: number(seq)?,
        }),
        None => None,
    };
    let state = words
        .iter()
        .find(|word| word.check.is_none())
        .map(|word| word.key.as_str());
    let change = match state {
        Some("gone") => HintChange::Remove {
            resource: ResourceKey::from(resource.as_str()),
            source: Arc::from(source.as_str()),
            order,
        },
        Some(_) | None => {
            let state = state.map(hint_state).transpose()?;
            let mut update = HintUpdate::new(
                ResourceKey::from(resource.as_str()),
                Arc::from(source.as_str()),
                HintState::Idle,
            );
            update.state = state;
            update.order = order;
            details(&mut update, words)?;
            HintChange::Set(update)
        }
    };
    let outcome = tell(stage, &resource, change)?;
    stage.hinted.push((resource, source));
    let outcome = match outcome {
        HintOutcome::Accepted { changed: true } => "changed",
        HintOutcome::Accepted { changed: false } => "unchanged",
        HintOutcome::Absent => "absent",
        HintOutcome::Stale { .. } => "stale",
        HintOutcome::Refused { .. } => "refused",
    };
    match Word::value_of(words, "outcome") {
        Some(wanted) if wanted != outcome => Err(format!("the hint's outcome is {outcome}")),
        None if outcome != "changed" && outcome != "unchanged" => {
            Err(format!("the hint's outcome is {outcome}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A source begins a snapshot of all it knows, or has told it: every shard hears of it.
pub fn snapshot(stage: &mut Stage, begins: bool, source: &str, epoch: u64) -> Result<(), String> {
    for shard in stage.edge.ids() {
        let source = Arc::from(source);
        let ask = match begins {
            true => Ask::BeginEpoch { source, epoch },
            false => Ask::EndSnapshot { source, epoch },
        };
        stage.ask(shard, ask)?;
    }
    Ok(())
}

/// Removes every hint that the scenario has set.
pub fn remove_all(stage: &mut Stage) -> Result<(), String> {
    for (resource, source) in std::mem::take(&mut stage.hinted) {
        let change = HintChange::Remove {
            resource: ResourceKey::from(resource.as_str()),
            source: Arc::from(source.as_str()),
            order: Some(Order {
                epoch: u64::MAX,
                seq: u64::MAX,
            }),
        };
        tell(stage, &resource, change)?;
    }
    Ok(())
}

fn tell(stage: &mut Stage, resource: &str, change: HintChange) -> Result<HintOutcome, String> {
    match stage.ask_home(resource, Ask::ChangeHints(vec![change]))? {
        Answer::HintsChanged(mut outcomes) if outcomes.len() == 1 => Ok(outcomes.remove(0)),
        other => Err(format!("a hint was answered with {other:?}")),
    }
}

/// `1001` means the default domain.
fn canonical(resource: &str) -> String {
    match resource.contains('@') {
        true => resource.to_string(),
        false => format!("{resource}@{}", super::settings::DEFAULT_DOMAIN),
    }
}

fn hint_state(name: &str) -> Result<HintState, String> {
    HintState::from_name(name).ok_or_else(|| format!("no state of a hint: {name}"))
}

fn details(update: &mut HintUpdate, words: &[Word]) -> Result<(), String> {
    if let Some(time) = Word::value_of(words, "expires") {
        update.expires = Some(duration(time)?);
    }
    if let Some(text) = Word::value_of(words, "note") {
        update.note = Some(Note {
            language: Box::default(),
            text: text.into(),
        });
    }
    if let Some(id) = Word::value_of(words, "call") {
        let state = Word::value_of(words, "call-state").unwrap_or("confirmed");
        let state = CallState::from_name(state).ok_or_else(|| format!("no state: {state}"))?;
        let party = |key: &str| {
            let identity = Word::value_of(words, key).unwrap_or_default();
            Party {
                identity: identity.into(),
                target: identity.into(),
                ..Party::default()
            }
        };
        update.calls.push(Call {
            direction: Word::value_of(words, "direction").and_then(Direction::from_name),
            call_id: Word::value_of(words, "call-id").unwrap_or_default().into(),
            local: party("local"),
            remote: party("remote"),
            ..Call::bare(id, state)
        });
    }
    if let Some(counts) = Word::value_of(words, "voice") {
        let (new, old) = counts.split_once('/').ok_or("voice=new/old")?;
        let count = MessageCount {
            class: MessageClass::Voice,
            new: number(new)? as u32,
            old: number(old)? as u32,
            urgent: None,
        };
        update.mailbox = Some(Mailbox {
            waiting: count.new > 0,
            account: Box::default(),
            counts: vec![count],
        });
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}
