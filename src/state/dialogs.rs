//! The dialogs of a resource: the union of what all live sources say, and what ended lately.

use core::time::Duration;

use crate::config::limits;
use crate::hint::{Call, CallState, Direction, HintContent, HintState, Published};
use crate::time::Time;

use super::compose::{Contribution, DndShows, Ended, Says, Settings, derived_id};

/// The most ended calls that are remembered of a resource.
const ENDED_MAX: usize = 4;
/// An ended call is forgotten at the first change of calls later than this: by then every NOTIFY
/// that was on its way has arrived or failed.
const ENDED_MEMORY: Duration = Duration::from_secs(32);

/// The calls that go on, the most telling first.
pub(super) fn live_calls(
    resource: &str,
    settings: &Settings,
    contributions: &[Contribution<'_>],
) -> Vec<Call> {
    let mut calls = Vec::new();
    for contribution in contributions {
        match contribution.says {
            Says::Hint(content) => {
                let detailed = detailed_calls(content);
                if let Some(call) = detailed
                    .is_empty()
                    .then(|| synthetic_call(resource, contribution.source, content, settings))
                    .flatten()
                {
                    add(&mut calls, &call, contribution.source);
                }
                for call in detailed {
                    add(&mut calls, call, contribution.source);
                }
            }
            Says::Published(Published::Dialogs { calls: said, .. }) => {
                for call in said.iter().filter(|call| call.is_live()) {
                    add(&mut calls, call, contribution.source);
                }
            }
            Says::Published(Published::Presence(_) | Published::Mailbox(_)) => {}
        }
    }
    // The sort is stable: among equals, the order of the sources stands.
    calls.sort_by_key(|call| (call.state.telling_rank(), call.local.held));
    calls
}

/// The calls that ended lately, the last one first: what was live before and is not any more,
/// and what is remembered from before that.
pub(super) fn ended_calls(
    now: Time,
    before: &[Call],
    live: &[Call],
    contributions: &[Contribution<'_>],
    remembered: &[Ended],
) -> Vec<Ended> {
    let goes_on = |id: &str| live.iter().any(|call| &*call.id == id);
    let was_live = |id: &str| before.iter().any(|call| call.is_live() && &*call.id == id);
    let gone = before
        .iter()
        .filter(|call| call.is_live() && !goes_on(&call.id))
        .map(|call| Ended {
            call: terminated(call, contributions),
            at: now,
        });
    let ended: Vec<Ended> = gone.collect();
    if ended.is_empty() && live.iter().all(|call| was_live(&call.id)) {
        // The same calls go on: whoever was told of the ended ones is not told again by forgetting them.
        return remembered.to_vec();
    }
    let still_remembered = remembered
        .iter()
        .filter(|ended| now.since(ended.at) < ENDED_MEMORY && !goes_on(&ended.call.id))
        .cloned();
    ended
        .into_iter()
        .chain(still_remembered)
        .take(ENDED_MAX)
        .collect()
}

/// The live calls that a source names. "Idle" and "unavailable" leave none.
fn detailed_calls(content: &HintContent) -> Vec<&Call> {
    match content.state {
        Some(HintState::Idle | HintState::Unavailable) => Vec::new(),
        None
        | Some(
            HintState::Trying
            | HintState::Ringing
            | HintState::Early
            | HintState::InUse
            | HintState::Busy
            | HintState::Hold
            | HintState::Dnd,
        ) => content.calls.iter().filter(|call| call.is_live()).collect(),
    }
}

/// The call that stands for a state without details.
fn synthetic_call(
    resource: &str,
    source: &str,
    content: &HintContent,
    settings: &Settings,
) -> Option<Call> {
    let (state, direction) = match content.state? {
        HintState::Idle | HintState::Unavailable => return None,
        HintState::Trying => (CallState::Trying, Some(Direction::Initiator)),
        HintState::Ringing => (CallState::Early, Some(Direction::Recipient)),
        HintState::Early => (CallState::Early, Some(Direction::Initiator)),
        HintState::InUse | HintState::Busy | HintState::Hold => (CallState::Confirmed, None),
        HintState::Dnd => match settings.dnd_shows {
            DndShows::Confirmed => (CallState::Confirmed, None),
            DndShows::Terminated => return None,
        },
    };
    let mut call = Call::bare(&derived_id("", resource, source), state);
    call.direction = direction;
    call.local.held = content.state == Some(HintState::Hold);
    Some(call)
}

/// Adds a source's call to the union, as long as there is room: the lamp has long been on.
fn add(calls: &mut Vec<Call>, call: &Call, source: &str) {
    let Some(same_id) = calls.iter_mut().find(|other| other.id == call.id) else {
        if calls.len() < limits::CALLS_PER_RESOURCE {
            calls.push(call.clone());
        }
        return;
    };
    if same_id.call_id == call.call_id {
        // Two sources see one dialog: the one that has seen it go further is right.
        if call.state > same_id.state {
            *same_id = call.clone();
        }
        return;
    }
    // Two dialogs whose sources number them alike: ids must differ within a document.
    let mut renamed = call.clone();
    renamed.id = derived_id(&format!("{}-", call.id), &call.call_id, source);
    let is_new = calls.iter().all(|other| other.id != renamed.id);
    if is_new && calls.len() < limits::CALLS_PER_RESOURCE {
        calls.push(renamed);
    }
}

/// A call as its last appearance: with the reason, where a source gives one.
fn terminated(call: &Call, contributions: &[Contribution<'_>]) -> Call {
    let mut ended = call.clone();
    ended.state = CallState::Terminated;
    ended.local.held = false;
    ended.remote.held = false;
    ended.event = contributions
        .iter()
        .flat_map(|contribution| match contribution.says {
            Says::Hint(content) => content.calls.as_slice(),
            Says::Published(Published::Dialogs { calls, .. }) => calls.as_slice(),
            Says::Published(Published::Presence(_) | Published::Mailbox(_)) => &[],
        })
        .find(|said| said.id == call.id && said.call_id == call.call_id && !said.is_live())
        .map(|said| said.event.clone())
        .unwrap_or_default();
    ended
}
