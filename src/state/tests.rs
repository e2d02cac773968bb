//! The compositor as its callers see it.

use core::time::Duration;
use std::sync::Arc;

use crate::hint::{
    Aspect, Basic, Call, CallState, HintState, HintUpdate, Mailbox, Note, Order, Presence,
    Published, ResourceKey, Snapshot, Tuple,
};
use crate::rng::Rng;
use crate::time::Time;
use crate::wheel::{Owner, Wheel};

use super::compose::PUBLISH_SOURCE;
use super::{Change, Compositor, DndShows, EntityTag, PublishRefused, Refused, Settings};

const HOUR: Duration = Duration::from_secs(3600);

/// A compositor with its clock and wheel.
struct Home {
    compositor: Compositor,
    wheel: Wheel,
    rng: Rng,
    now: Time,
}

impl Home {
    fn new() -> Home {
        Home::with(Settings::default())
    }

    fn with(settings: Settings) -> Home {
        let now = Time::from_millis(1_000_000);
        Home {
            compositor: Compositor::new(settings, [7; 16]),
            wheel: Wheel::new(now),
            rng: Rng::new([3; 16]),
            now,
        }
    }

    fn says(&mut self, source: &str, state: HintState) -> Result<bool, Refused> {
        self.apply(HintUpdate::new(resource(), source.into(), state))
    }

    fn says_in_order(
        &mut self,
        source: &str,
        epoch: u64,
        seq: u64,
        state: HintState,
    ) -> Result<bool, Refused> {
        let mut update = HintUpdate::new(resource(), source.into(), state);
        update.order = Some(Order { epoch, seq });
        self.apply(update)
    }

    fn apply(&mut self, update: HintUpdate) -> Result<bool, Refused> {
        self.compositor.apply(self.now, update, &mut self.wheel)
    }

    fn withdraws(&mut self, source: &str, order: Option<Order>) -> Result<Option<bool>, Refused> {
        self.compositor.withdraw(
            self.now,
            &resource(),
            &source.into(),
            order,
            &mut self.wheel,
        )
    }

    fn publishes(&mut self, content: Published) -> EntityTag {
        self.compositor
            .publish(
                self.now,
                &resource(),
                content,
                HOUR,
                &mut self.rng,
                &mut self.wheel,
            )
            .expect("a publication")
    }

    fn modifies(
        &mut self,
        tag: EntityTag,
        content: Published,
    ) -> Result<EntityTag, PublishRefused> {
        self.compositor.modify(
            self.now,
            &resource(),
            tag,
            content,
            HOUR,
            &mut self.rng,
            &mut self.wheel,
        )
    }

    fn removes(&mut self, tag: EntityTag, aspect: Aspect) -> Result<(), PublishRefused> {
        self.compositor
            .remove(self.now, &resource(), aspect, tag, &mut self.wheel)
    }

    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.wheel.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            while let Some(token) = self.wheel.pop(self.now) {
                self.compositor.expire(self.now, token, &mut self.wheel);
            }
        }
        self.now = end;
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.compositor.snapshot(&resource())
    }

    fn changes(&mut self) -> Vec<Change> {
        self.compositor.drain_changes().collect()
    }

    /// Id and state of each call.
    fn calls(&self) -> Vec<(String, CallState)> {
        self.snapshot()
            .dialogs
            .content
            .iter()
            .map(|call| (call.id.to_string(), call.state))
            .collect()
    }

    /// The states of live calls.
    fn live(&self) -> Vec<CallState> {
        self.calls()
            .into_iter()
            .map(|(_, state)| state)
            .filter(|state| *state != CallState::Terminated)
            .collect()
    }
}

fn resource() -> ResourceKey {
    "1001@example.com".into()
}

fn call(id: &str, state: CallState) -> Call {
    let mut call = Call::bare(id, state);
    call.call_id = format!("{id}@pbx").into();
    call
}

fn dialogs(calls: Vec<Call>) -> Published {
    Published::Dialogs {
        calls,
        partial: false,
    }
}

fn mailbox(waiting: bool) -> Mailbox {
    Mailbox {
        waiting,
        ..Mailbox::default()
    }
}

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
fn the_same_word_again_is_no_change() {
    let mut home = Home::new();
    assert_eq!(home.says("pbx", HintState::InUse), Ok(true));
    let before = home.snapshot();
    assert_eq!(home.says("pbx", HintState::InUse), Ok(false));
    assert!(Arc::ptr_eq(&before, &home.snapshot()));
    assert_eq!(home.changes().len(), 1);
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
fn a_resource_takes_no_more_sources_than_its_limit_and_keeps_those_it_has() {
    let mut home = Home::new();
    for number in 0..crate::config::limits::SOURCES_PER_RESOURCE {
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
