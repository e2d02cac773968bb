//! The presence of a resource: published tuples, persons and devices merged by id, and a tuple for each hint.

use crate::config::limits;
use crate::hint::{Basic, DataElement, HintContent, HintState, Presence, Published, Tuple};

use super::compose::{Contribution, Says, derived_id};

/// What all voices together say of a presentity.
pub(super) fn compose(resource: &str, contributions: &[Contribution<'_>]) -> Presence {
    let mut composed = Presence::default();
    // When each tuple was said: the later one of two with the same id stands, in the place of the earlier.
    let mut said_at = Vec::new();
    for contribution in contributions {
        match contribution.says {
            Says::Hint(content) => {
                add_hint(&mut composed, &mut said_at, resource, contribution, content)
            }
            Says::Published(Published::Presence(presence)) => {
                add_published(&mut composed, &mut said_at, contribution.arrival, presence);
            }
            Says::Published(Published::Dialogs { .. } | Published::Mailbox(_)) => {}
        }
    }
    composed
}

fn add_published(
    composed: &mut Presence,
    said_at: &mut Vec<u64>,
    arrival: u64,
    presence: &Presence,
) {
    for tuple in &presence.tuples {
        add_tuple(composed, said_at, arrival, tuple.clone());
    }
    for person in &presence.persons {
        merge_element(&mut composed.persons, person);
    }
    for device in &presence.devices {
        merge_element(&mut composed.devices, device);
    }
    merge(&mut composed.notes, &presence.notes);
    merge(&mut composed.extensions, &presence.extensions);
}

fn add_hint(
    composed: &mut Presence,
    said_at: &mut Vec<u64>,
    resource: &str,
    contribution: &Contribution<'_>,
    content: &HintContent,
) {
    if let Some((basic, activity)) = shown(content) {
        let tuple = Tuple {
            id: derived_id("h", resource, contribution.source),
            basic: Some(basic),
            contact: format!("sip:{resource}").into(),
            ..Tuple::default()
        };
        add_tuple(composed, said_at, contribution.arrival, tuple);
        if let Some(activity) = activity {
            let person = DataElement {
                // One person, however many sources see what it does.
                id: derived_id("p", resource, ""),
                activities: vec![activity.into()],
                ..DataElement::default()
            };
            merge_element(&mut composed.persons, &person);
        }
    }
    if let Some(note) = &content.note {
        merge(&mut composed.notes, core::slice::from_ref(note));
    }
}

/// What a hint says of presence: whether it can be reached, and what it does.
fn shown(content: &HintContent) -> Option<(Basic, Option<&'static str>)> {
    const ON_THE_PHONE: Option<&str> = Some("on-the-phone");
    match content.state {
        Some(HintState::Idle) => Some((Basic::Open, None)),
        Some(
            HintState::Trying
            | HintState::Ringing
            | HintState::Early
            | HintState::InUse
            | HintState::Busy
            | HintState::Hold,
        ) => Some((Basic::Open, ON_THE_PHONE)),
        Some(HintState::Unavailable) => Some((Basic::Closed, None)),
        Some(HintState::Dnd) => Some((Basic::Open, Some("busy"))),
        None if content.calls.iter().any(|call| call.is_live()) => {
            Some((Basic::Open, ON_THE_PHONE))
        }
        None => None,
    }
}

fn add_tuple(composed: &mut Presence, said_at: &mut Vec<u64>, arrival: u64, tuple: Tuple) {
    match composed
        .tuples
        .iter()
        .position(|other| other.id == tuple.id)
    {
        Some(place) if said_at[place] < arrival => {
            composed.tuples[place] = tuple;
            said_at[place] = arrival;
        }
        Some(_) => {}
        None if composed.tuples.len() < limits::PRESENCE_PARTS_PER_RESOURCE => {
            composed.tuples.push(tuple);
            said_at.push(arrival);
        }
        None => {}
    }
}

//= RFC 4479 3.2
/// Joins what is said of one person or device: each activity, note and foreign element once.
fn merge_element(elements: &mut Vec<DataElement>, element: &DataElement) {
    let place = match elements.iter().position(|known| known.id == element.id) {
        Some(place) => place,
        None if elements.len() < limits::PRESENCE_PARTS_PER_RESOURCE => {
            elements.push(DataElement {
                id: element.id.clone(),
                ..DataElement::default()
            });
            elements.len() - 1
        }
        None => return,
    };
    let known = &mut elements[place];
    merge(&mut known.activities, &element.activities);
    merge(&mut known.extensions, &element.extensions);
    merge(&mut known.notes, &element.notes);
    if known.device_id.is_empty() {
        known.device_id = element.device_id.clone();
    }
    // Timestamps of one form sort by time; of different forms, either is as good.
    if known.timestamp < element.timestamp {
        known.timestamp = element.timestamp.clone();
    }
}

fn merge<T: Clone + PartialEq>(known: &mut Vec<T>, said: &[T]) {
    for one in said {
        if known.len() < limits::PRESENCE_PARTS_PER_RESOURCE && !known.contains(one) {
            known.push(one.clone());
        }
    }
}
