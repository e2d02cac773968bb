//! Who is told, and how what is known is counted and listed.

use super::*;

#[test]
fn the_same_word_again_is_no_change() {
    let mut home = Home::new();
    assert_eq!(home.says("pbx", HintState::InUse), Ok(true));
    let before = home.snapshot();
    assert_eq!(home.says("pbx", HintState::InUse), Ok(false));
    assert!(Arc::ptr_eq(&before, &home.snapshot()));
    assert_eq!(home.changes().len(), 1);
}

#[test]
fn a_version_changes_with_its_aspect_and_only_with_it() {
    let mut home = Home::new();
    home.says("pbx", HintState::InUse).unwrap();
    let before = home.snapshot();
    home.publishes(Published::Mailbox(mailbox(true)));
    let after = home.snapshot();
    assert_eq!(
        before.version(Aspect::Dialogs),
        after.version(Aspect::Dialogs)
    );
    assert_eq!(
        before.version(Aspect::Presence),
        after.version(Aspect::Presence)
    );
    assert!(before.version(Aspect::Mailbox) < after.version(Aspect::Mailbox));
    home.says("pbx", HintState::Hold).unwrap();
    let held = home.snapshot();
    assert!(after.version(Aspect::Dialogs) < held.version(Aspect::Dialogs));
    assert_eq!(
        after.version(Aspect::Presence),
        held.version(Aspect::Presence),
        "held is as present as in use"
    );
}

#[test]
fn serials_of_a_watched_resource_have_no_gap_and_never_go_back() {
    let mut home = Home::new();
    let (serial, snapshot) = home.compositor.watch(&resource(), 1).unwrap();
    assert_eq!(*snapshot, *Snapshot::empty());
    home.compositor.watch(&resource(), 200).unwrap();
    for state in [HintState::Ringing, HintState::InUse, HintState::Idle] {
        home.says("pbx", state).unwrap();
    }
    let changes = home.changes();
    let serials: Vec<u64> = changes.iter().map(|change| change.serial).collect();
    assert_eq!(serials, [serial + 1, serial + 2, serial + 3]);
    assert_eq!(changes[0].shards.iter().collect::<Vec<_>>(), [1, 200]);

    home.compositor.unwatch(&resource(), 1);
    home.compositor.unwatch(&resource(), 200);
    home.withdraws("pbx", None).unwrap();
    assert!(home.compositor.is_empty());
    let (again, _) = home.compositor.watch(&resource(), 1).unwrap();
    assert!(again >= serial + 3);
}

#[test]
fn nothing_is_left_of_a_resource_that_nobody_watches_and_nobody_speaks_of() {
    let mut home = Home::new();
    home.compositor.watch(&resource(), 0).unwrap();
    home.says("pbx", HintState::InUse).unwrap();
    let tag = home.publishes(dialogs(vec![call("7", CallState::Early)]));
    home.compositor.unwatch(&resource(), 0);
    home.withdraws("pbx", None).unwrap();
    assert!(!home.compositor.is_empty());
    home.removes(tag, Aspect::Dialogs).unwrap();
    assert!(home.compositor.is_empty() && home.wheel.is_empty());
    assert_eq!(home.withdraws("pbx", None), Ok(None));
}

#[test]
fn pages_name_each_resource_once() {
    let mut home = Home::new();
    for number in 0..25 {
        let key: ResourceKey = format!("{number}@example.com").into();
        home.apply(HintUpdate::new(key, "pbx".into(), HintState::InUse))
            .unwrap();
    }
    let mut seen = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let (rows, next) = home.compositor.rows(home.now, at, 10);
        assert!(rows.len() <= 10);
        seen.extend(rows.into_iter().map(|row| row.resource));
        from = next;
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);
}

#[test]
fn a_timer_of_the_compositor_bears_its_owner() {
    let mut home = Home::new();
    home.publishes(dialogs(vec![]));
    home.now = home.now + HOUR + HOUR;
    assert_eq!(
        home.wheel.pop(home.now).map(|token| token.owner),
        Some(Owner::Publication)
    );
}
