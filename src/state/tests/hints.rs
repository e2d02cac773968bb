//! Words of sources: their order, their end.

use super::*;

#[test]
fn a_word_that_is_not_later_is_refused_with_what_stands() {
    let mut home = Home::new();
    home.says_in_order("pbx", 1, 5, HintState::InUse).unwrap();
    let standing = Order { epoch: 1, seq: 5 };
    for (epoch, seq) in [(1, 5), (1, 4), (0, 99)] {
        assert_eq!(
            home.says_in_order("pbx", epoch, seq, HintState::Idle),
            Err(Refused::Stale { standing })
        );
    }
    assert_eq!(home.live(), [CallState::Confirmed]);
    assert_eq!(
        home.says_in_order("pbx", 2, 0, HintState::Idle),
        Ok(true),
        "a feed that starts anew is heard"
    );
}

#[test]
fn a_removal_leaves_a_tombstone_for_an_hour() {
    let mut home = Home::new();
    let gone = Order { epoch: 1, seq: 6 };
    assert_eq!(home.withdraws("pbx", Some(gone)), Ok(None));
    assert_eq!(
        home.says_in_order("pbx", 1, 5, HintState::InUse),
        Err(Refused::Stale { standing: gone }),
        "the removal overtook it"
    );
    home.says_in_order("pbx", 1, 7, HintState::InUse).unwrap();
    let gone = Order { epoch: 1, seq: 8 };
    assert_eq!(home.withdraws("pbx", Some(gone)), Ok(Some(true)));
    home.passes(Duration::from_secs(3599));
    assert!(home.says_in_order("pbx", 1, 7, HintState::InUse).is_err());
    home.passes(Duration::from_secs(3601));
    assert!(home.compositor.is_empty() && home.wheel.is_empty());
    assert_eq!(home.says_in_order("pbx", 1, 7, HintState::InUse), Ok(true));
}

#[test]
fn a_hint_with_an_expiry_goes_away_on_time() {
    let mut home = Home::new();
    home.compositor.watch(&resource(), 0).unwrap();
    let mut update = HintUpdate::new(resource(), "pbx".into(), HintState::InUse);
    update.expires = Some(Duration::from_secs(60));
    home.apply(update).unwrap();
    home.passes(Duration::from_secs(59));
    assert_eq!(home.live(), [CallState::Confirmed]);
    home.passes(Duration::from_secs(2));
    assert_eq!(home.live(), []);
    assert_eq!(home.changes().len(), 2);
}

#[test]
fn a_later_word_without_expiry_stays() {
    let mut home = Home::new();
    let mut update = HintUpdate::new(resource(), "pbx".into(), HintState::InUse);
    update.expires = Some(Duration::from_secs(60));
    home.apply(update).unwrap();
    home.says("pbx", HintState::Ringing).unwrap();
    home.passes(HOUR);
    assert_eq!(home.live(), [CallState::Early]);
}

#[test]
fn a_snapshot_of_a_new_epoch_clears_what_it_does_not_name() {
    let mut home = Home::new();
    let other: ResourceKey = "1002@example.com".into();
    let pbx: Arc<str> = "pbx".into();
    home.says_in_order("pbx", 1, 1, HintState::InUse).unwrap();
    let mut update = HintUpdate::new(other.clone(), pbx.clone(), HintState::InUse);
    update.order = Some(Order { epoch: 1, seq: 2 });
    home.apply(update.clone()).unwrap();
    home.says("elsewhere", HintState::Ringing).unwrap();

    let now = home.now;
    home.compositor
        .begin_epoch(now, &pbx, 2, &mut home.wheel)
        .unwrap();
    assert!(
        matches!(home.apply(update.clone()), Err(Refused::Stale { .. })),
        "the old epoch is over for every resource"
    );
    update.order = Some(Order { epoch: 2, seq: 1 });
    home.apply(update).unwrap();
    assert_eq!(home.live().len(), 2, "nothing is cleared before the end");
    home.compositor
        .end_snapshot(now, &pbx, 2, &mut home.wheel)
        .unwrap();
    home.passes(Duration::from_secs(1));
    assert_eq!(home.live(), [CallState::Early], "other sources stay");
    let named = home.compositor.snapshot(&other);
    assert_eq!(named.dialogs.content[0].state, CallState::Confirmed);
}

#[test]
fn a_snapshot_that_never_ends_is_ended() {
    let mut home = Home::new();
    home.says_in_order("pbx", 1, 1, HintState::InUse).unwrap();
    home.passes(Duration::from_secs(60));
    let now = home.now;
    home.compositor
        .begin_epoch(now, &"pbx".into(), 2, &mut home.wheel)
        .unwrap();
    home.passes(Duration::from_secs(29));
    assert_eq!(home.live(), [CallState::Confirmed]);
    home.passes(Duration::from_secs(2));
    assert_eq!(home.live(), []);
}

#[test]
fn clearing_an_epoch_reaches_every_resource_in_steps() {
    let mut home = Home::new();
    for number in 0..2_000 {
        let key: ResourceKey = format!("{number}@example.com").into();
        let mut update = HintUpdate::new(key, "pbx".into(), HintState::InUse);
        update.order = Some(Order {
            epoch: 1,
            seq: number,
        });
        home.apply(update).unwrap();
    }
    let now = home.now;
    home.compositor
        .end_snapshot(now, &"pbx".into(), 2, &mut home.wheel)
        .unwrap();
    home.changes();
    home.now = home.now + Duration::from_millis(1);
    while let Some(token) = home.wheel.pop(home.now) {
        home.compositor.expire(home.now, token, &mut home.wheel);
    }
    let first_step = home.changes().len();
    assert!((1..1_000).contains(&first_step), "{first_step} in one step");
    home.passes(Duration::from_secs(1));
    assert_eq!(home.compositor.hints_len(), 0);
    assert_eq!(home.compositor.resources_len(), 0);
}

#[test]
fn a_resource_takes_no_more_sources_than_its_limit_and_keeps_those_it_has() {
    let mut home = Home::new();
    for number in 0..limits::SOURCES_PER_RESOURCE {
        home.says(&format!("s{number}"), HintState::InUse).unwrap();
    }
    assert_eq!(
        home.says("one more", HintState::InUse),
        Err(Refused::Full {
            limit: "sources_per_resource"
        })
    );
    assert_eq!(home.says("s0", HintState::Idle), Ok(true));
}

#[test]
fn a_word_that_is_too_long_is_refused_whole() {
    let mut home = Home::new();
    let mut update = HintUpdate::new(resource(), "pbx".into(), HintState::InUse);
    update.calls = vec![call("7", CallState::Confirmed)];
    update.calls[0].remote.display = "x".repeat(limits::HINT_BYTES).into();
    assert_eq!(
        home.apply(update),
        Err(Refused::Full {
            limit: "hint_bytes"
        })
    );
    assert!(home.compositor.is_empty());
}

#[test]
fn a_call_without_an_id_is_known_by_its_call_id_or_its_place() {
    let mut home = Home::new();
    let mut update = HintUpdate::new(resource(), "pbx".into(), HintState::InUse);
    let mut named = call("", CallState::Early);
    named.call_id = "abc@pbx".into();
    let nameless = Call::bare("", CallState::Confirmed);
    update.calls = vec![named, nameless];
    home.apply(update).unwrap();
    let calls = home.calls();
    assert_eq!(calls[0].0, "abc@pbx");
    assert!(!calls[1].0.is_empty() && calls[1].0 != calls[0].0);
}
