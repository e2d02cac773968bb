//! Publications from birth to end.

use super::*;

//= RFC 3903 6 type=test
#[test]
fn a_publication_lives_through_refresh_and_modify_and_ends_with_its_removal() {
    let mut home = Home::new();
    let first = home.publishes(dialogs(vec![call("7", CallState::Early)]));
    home.changes();
    let now = home.now;
    let refreshed = home
        .compositor
        .refresh(
            now,
            &resource(),
            Aspect::Dialogs,
            first,
            HOUR,
            &mut home.wheel,
        )
        .unwrap();
    assert!(home.changes().is_empty(), "a refresh tells nobody");
    let second = home
        .modifies(refreshed, dialogs(vec![call("7", CallState::Confirmed)]))
        .unwrap();
    assert_ne!(first, second);
    assert_eq!(home.live(), [CallState::Confirmed]);
    home.removes(second, Aspect::Dialogs).unwrap();
    assert_eq!(home.changes().len(), 2);
    assert_eq!(
        home.removes(second, Aspect::Dialogs),
        Err(PublishRefused::UnknownTag)
    );
    assert!(home.compositor.is_empty() && home.wheel.is_empty());
}

//= RFC 3903 6 type=test
#[test]
fn of_two_modifies_with_one_tag_the_second_fails() {
    let mut home = Home::new();
    let tag = home.publishes(dialogs(vec![call("7", CallState::Early)]));
    assert!(
        home.modifies(tag, dialogs(vec![call("7", CallState::Confirmed)]))
            .is_ok()
    );
    assert_eq!(
        home.modifies(tag, dialogs(vec![])),
        Err(PublishRefused::UnknownTag)
    );
    assert_eq!(home.live(), [CallState::Confirmed]);
}

#[test]
fn a_tag_counts_only_for_its_resource_and_aspect() {
    let mut home = Home::new();
    let tag = home.publishes(dialogs(vec![call("7", CallState::Early)]));
    assert_eq!(
        home.removes(tag, Aspect::Presence),
        Err(PublishRefused::UnknownTag)
    );
    let now = home.now;
    assert_eq!(
        home.compositor.remove(
            now,
            "1002@example.com",
            Aspect::Dialogs,
            tag,
            &mut home.wheel
        ),
        Err(PublishRefused::UnknownTag)
    );
    assert_eq!(home.live(), [CallState::Early]);
}

#[test]
fn an_entity_tag_is_read_back_from_its_text_and_foreign_ones_are_not() {
    let mut home = Home::new();
    let tag = home.publishes(dialogs(vec![]));
    assert_eq!(EntityTag::parse(&tag.text()), Some(tag));
    for foreign in [
        "",
        "*",
        "a.1418037841.1.1.0",
        "ABCDEF0123456789",
        "00000000000000000",
    ] {
        assert_eq!(EntityTag::parse(foreign.as_bytes()), None, "{foreign}");
    }
}

//= RFC 3903 6 type=test
#[test]
fn an_expired_publication_darkens_the_lamp() {
    let mut home = Home::new();
    home.compositor.watch(&resource(), 3).unwrap();
    home.publishes(dialogs(vec![call("7", CallState::Confirmed)]));
    home.changes();
    home.passes(HOUR - Duration::from_millis(1));
    assert!(home.changes().is_empty());
    home.passes(Duration::from_secs(1));
    let changes = home.changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        changes[0].snapshot.telling_call().unwrap().state,
        CallState::Terminated
    );
    assert!(changes[0].shards.contains(3));
}

#[test]
fn a_refresh_just_after_the_expiry_leaves_no_gap() {
    let mut home = Home::new();
    let tag = home.publishes(dialogs(vec![call("7", CallState::Confirmed)]));
    home.changes();
    home.passes(HOUR + Duration::from_millis(500));
    let now = home.now;
    home.compositor
        .refresh(
            now,
            &resource(),
            Aspect::Dialogs,
            tag,
            HOUR,
            &mut home.wheel,
        )
        .unwrap();
    home.passes(Duration::from_secs(2));
    assert!(home.changes().is_empty());
}

//= RFC 4235 4.1 type=test
#[test]
fn a_partial_publication_changes_only_the_dialogs_that_it_names() {
    let mut home = Home::new();
    let tag = home.publishes(dialogs(vec![
        call("7", CallState::Confirmed),
        call("8", CallState::Early),
    ]));
    let partial = Published::Dialogs {
        calls: vec![call("8", CallState::Terminated)],
        partial: true,
    };
    home.modifies(tag, partial).unwrap();
    assert_eq!(
        home.calls(),
        [
            ("7".into(), CallState::Confirmed),
            ("8".into(), CallState::Terminated)
        ]
    );
}

#[test]
fn partial_publications_do_not_pile_up() {
    let mut home = Home::new();
    let mut tag = home.publishes(dialogs(vec![]));
    for number in 0..200 {
        let id = number.to_string();
        for state in [CallState::Early, CallState::Terminated] {
            let partial = Published::Dialogs {
                calls: vec![call(&id, state)],
                partial: true,
            };
            tag = home.modifies(tag, partial).unwrap();
        }
    }
    assert_eq!(home.live(), []);
    for number in 0..200 {
        let partial = Published::Dialogs {
            calls: vec![call(&number.to_string(), CallState::Early)],
            partial: true,
        };
        tag = home.modifies(tag, partial).unwrap();
    }
    assert_eq!(home.live().len(), limits::CALLS_PER_RESOURCE);
}

#[test]
fn publishers_of_one_resource_are_bounded() {
    let mut home = Home::new();
    for _ in 0..limits::SOURCES_PER_RESOURCE {
        home.publishes(dialogs(vec![]));
    }
    let now = home.now;
    assert_eq!(
        home.compositor.publish(
            now,
            &resource(),
            dialogs(vec![]),
            HOUR,
            &mut home.rng,
            &mut home.wheel
        ),
        Err(PublishRefused::Full {
            limit: "publications_per_resource"
        })
    );
}

//= RFC 4235 3.7.1 type=test
#[test]
fn a_dialog_that_ended_for_one_publication_has_ended_for_a_lost_one_too() {
    let mut home = Home::new();
    let of = |state, tag: &str| {
        let mut call = call("7", state);
        call.call_id = "7@pbx".into();
        call.local_tag = tag.into();
        dialogs(vec![call])
    };
    // Kamailio publishes ringing before it knows the tag of trying, and so never modifies that.
    home.publishes(of(CallState::Trying, ""));
    let known = home.publishes(of(CallState::Early, "a"));
    // Another dialog of the same call lives on: it rings elsewhere.
    home.publishes(of(CallState::Early, "b"));
    assert_eq!(home.live().len(), 1);
    let known = home
        .modifies(known, of(CallState::Terminated, "a"))
        .unwrap();
    assert_eq!(home.live(), [CallState::Early]);
    home.removes(known, Aspect::Dialogs).unwrap();
    assert_eq!(home.live(), [CallState::Early]);
    home.publishes(of(CallState::Terminated, "b"));
    assert!(home.live().is_empty());
    home.passes(HOUR / 2);
    assert!(home.live().is_empty());
}
