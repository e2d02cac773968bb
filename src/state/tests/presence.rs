//! What watchers of presence and of messages see.

use super::*;

#[test]
fn tuples_of_several_publishers_are_merged_and_go_with_their_publication() {
    let mut home = Home::new();
    let presence = |id: &str, basic| {
        Published::Presence(Presence {
            tuples: vec![Tuple {
                id: id.into(),
                basic: Some(basic),
                ..Tuple::default()
            }],
            ..Presence::default()
        })
    };
    let desk = home.publishes(presence("desk", Basic::Open));
    let mobile = home.publishes(presence("mobile", Basic::Open));
    home.publishes(presence("desk", Basic::Closed));
    let tuples = |home: &Home| -> Vec<(String, Option<Basic>)> {
        home.snapshot()
            .presence
            .content
            .tuples
            .iter()
            .map(|tuple| (tuple.id.to_string(), tuple.basic))
            .collect()
    };
    assert_eq!(
        tuples(&home),
        [
            ("desk".into(), Some(Basic::Closed)),
            ("mobile".into(), Some(Basic::Open))
        ],
        "the later word on one tuple stands"
    );
    home.removes(mobile, Aspect::Presence).unwrap();
    home.modifies(desk, presence("desk", Basic::Open)).unwrap();
    assert_eq!(tuples(&home), [("desk".into(), Some(Basic::Open))]);
}

//= RFC 4479 3.2 type=test
#[test]
fn activities_of_one_person_are_not_doubled() {
    let mut home = Home::new();
    home.says("a", HintState::InUse).unwrap();
    home.says("b", HintState::Ringing).unwrap();
    home.says("c", HintState::Dnd).unwrap();
    let presence = Arc::clone(&home.snapshot().presence.content);
    assert_eq!(presence.persons.len(), 1);
    let activities: Vec<&str> = presence.persons[0]
        .activities
        .iter()
        .map(|activity| &**activity)
        .collect();
    assert_eq!(activities, ["on-the-phone", "busy"]);
    assert_eq!(presence.tuples.len(), 3);
}

#[test]
fn a_note_is_shown_with_the_presence() {
    let mut home = Home::new();
    let mut update = HintUpdate::new(resource(), "pbx".into(), HintState::Idle);
    let note = Note {
        language: "en".into(),
        text: "back at two".into(),
    };
    update.note = Some(note.clone());
    home.apply(update).unwrap();
    assert_eq!(home.snapshot().presence.content.notes, [note]);
}

#[test]
fn the_configured_source_wins_on_messages_waiting_else_the_newest() {
    let says = |home: &mut Home, source: &str, waiting| {
        let mut update = HintUpdate::new(resource(), source.into(), HintState::Idle);
        update.mailbox = Some(mailbox(waiting));
        home.apply(update).unwrap();
    };
    let waiting = |home: &Home| {
        home.snapshot()
            .mailbox
            .content
            .as_deref()
            .map(|mailbox| mailbox.waiting)
    };
    let mut home = Home::new();
    assert_eq!(waiting(&home), None);
    says(&mut home, "z", true);
    says(&mut home, "a", false);
    assert_eq!(waiting(&home), Some(false));
    home.publishes(Published::Mailbox(mailbox(true)));
    assert_eq!(waiting(&home), Some(true));

    for (configured, expected) in [("z", true), (PUBLISH_SOURCE, false), ("silent", false)] {
        let mut home = Home::with(Settings {
            mailbox_source: Some(configured.into()),
            ..Settings::default()
        });
        home.publishes(Published::Mailbox(mailbox(false)));
        says(&mut home, "z", true);
        says(&mut home, "a", false);
        assert_eq!(waiting(&home), Some(expected), "{configured}");
    }
}
