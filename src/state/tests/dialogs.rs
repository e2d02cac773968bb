//! What watchers of dialogs see.

use super::*;

#[test]
fn a_state_without_details_is_one_dialog_of_its_source() {
    let mut home = Home::new();
    assert_eq!(home.says("pbx", HintState::Ringing), Ok(true));
    assert_eq!(home.live(), [CallState::Early]);
    let id = home.calls()[0].0.clone();
    home.says("pbx", HintState::InUse).unwrap();
    assert_eq!(home.calls(), [(id.clone(), CallState::Confirmed)]);
    home.says("pbx", HintState::Idle).unwrap();
    assert_eq!(home.calls(), [(id, CallState::Terminated)]);
}

#[test]
fn ending_one_source_leaves_the_others() {
    let mut home = Home::new();
    home.says("a", HintState::InUse).unwrap();
    home.says("b", HintState::Ringing).unwrap();
    assert_eq!(home.live(), [CallState::Early, CallState::Confirmed]);
    home.says("b", HintState::Idle).unwrap();
    assert_eq!(home.live(), [CallState::Confirmed]);
    home.withdraws("a", None).unwrap();
    assert_eq!(home.live(), []);
}

#[test]
fn dnd_lights_the_lamp_unless_configured_otherwise() {
    let mut home = Home::new();
    home.says("pbx", HintState::Dnd).unwrap();
    assert_eq!(home.live(), [CallState::Confirmed]);
    let presence = Arc::clone(&home.snapshot().presence.content);
    assert_eq!(presence.tuples[0].basic, Some(Basic::Open));
    assert_eq!(*presence.persons[0].activities[0], *"busy");

    let mut home = Home::with(Settings {
        dnd_shows: DndShows::Terminated,
        ..Settings::default()
    });
    home.says("pbx", HintState::Dnd).unwrap();
    assert_eq!(home.live(), []);
}

#[test]
fn unavailable_is_terminated_and_closed() {
    let mut home = Home::new();
    home.says("pbx", HintState::Unavailable).unwrap();
    assert_eq!(home.live(), []);
    let presence = Arc::clone(&home.snapshot().presence.content);
    assert_eq!(presence.tuples[0].basic, Some(Basic::Closed));
}

#[test]
fn details_take_the_place_of_the_dialog_that_stands_for_a_state() {
    let mut home = Home::new();
    let mut update = HintUpdate::new(resource(), "pbx".into(), HintState::Ringing);
    update.calls = vec![call("7", CallState::Early), call("8", CallState::Confirmed)];
    home.apply(update).unwrap();
    assert_eq!(
        home.calls(),
        [
            ("7".into(), CallState::Early),
            ("8".into(), CallState::Confirmed)
        ]
    );
}

#[test]
fn a_held_call_comes_after_one_that_is_talked_on() {
    let mut home = Home::new();
    home.says("a", HintState::Hold).unwrap();
    home.says("b", HintState::InUse).unwrap();
    let snapshot = home.snapshot();
    assert!(!snapshot.dialogs.content[0].local.held);
    assert!(snapshot.dialogs.content[1].local.held);
}

//= RFC 4235 3.7.1 type=test
#[test]
fn an_ended_call_is_named_with_its_reason_until_long_after_the_next_change() {
    let mut home = Home::new();
    let tag = home.publishes(dialogs(vec![call("7", CallState::Early)]));
    let mut rejected = call("7", CallState::Terminated);
    rejected.event = "rejected".into();
    let tag = home.modifies(tag, dialogs(vec![rejected])).unwrap();
    let snapshot = home.snapshot();
    assert_eq!(&*snapshot.dialogs.content[0].event, "rejected");

    home.passes(Duration::from_secs(5));
    let tag = home
        .modifies(tag, dialogs(vec![call("8", CallState::Trying)]))
        .unwrap();
    assert_eq!(
        home.calls(),
        [
            ("8".into(), CallState::Trying),
            ("7".into(), CallState::Terminated)
        ]
    );

    home.passes(Duration::from_secs(40));
    home.modifies(tag, dialogs(vec![])).unwrap();
    assert_eq!(home.calls(), [("8".into(), CallState::Terminated)]);
}

#[test]
fn one_dialog_seen_by_two_sources_is_shown_once_and_as_far_as_it_got() {
    let mut home = Home::new();
    home.publishes(dialogs(vec![call("7", CallState::Early)]));
    home.publishes(dialogs(vec![call("7", CallState::Confirmed)]));
    assert_eq!(home.calls(), [("7".into(), CallState::Confirmed)]);
}

//= RFC 4235 4.1.1 type=test
#[test]
fn two_dialogs_that_are_numbered_alike_get_different_ids() {
    let mut home = Home::new();
    let mut other = call("1", CallState::Confirmed);
    other.call_id = "other@pbx".into();
    home.publishes(dialogs(vec![call("1", CallState::Confirmed)]));
    home.publishes(dialogs(vec![other]));
    let calls = home.calls();
    assert_eq!(calls.len(), 2);
    assert_ne!(calls[0].0, calls[1].0);
}
