//! What holds of composition whatever sources say, in whatever order.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

/// One word of one source.
#[derive(Clone, Debug)]
struct Said {
    source: usize,
    state: Option<usize>,
    calls: Vec<(u8, usize)>,
    epoch: u64,
}

fn said() -> impl Strategy<Value = Said> {
    (
        0..4usize,
        proptest::option::of(0..HintState::ALL.len()),
        proptest::collection::vec((0..6u8, 0..CallState::ALL.len()), 0..3),
        0..3u64,
    )
        .prop_map(|(source, state, calls, epoch)| Said {
            source,
            state,
            calls,
            epoch,
        })
}

impl Said {
    fn update(&self, order: Option<Order>) -> HintUpdate {
        let mut update = HintUpdate::new(
            resource(),
            format!("source {}", self.source).into(),
            HintState::Idle,
        );
        update.order = order;
        update.state = self.state.map(|state| HintState::ALL[state]);
        update.calls = self
            .calls
            .iter()
            .map(|(id, state)| call(&id.to_string(), CallState::ALL[*state]))
            .collect();
        update
    }
}

/// What is shown, without the versions, which count how it came about, and without ended calls, which
/// remember what was.
fn shown(home: &Home) -> (Vec<Call>, Presence) {
    let snapshot = home.snapshot();
    let live = snapshot
        .dialogs
        .content
        .iter()
        .filter(|call| call.is_live())
        .cloned()
        .collect();
    (live, Presence::clone(&snapshot.presence.content))
}

proptest! {
    #[test]
    fn what_is_shown_does_not_depend_on_the_order_in_which_sources_speak(
        words in proptest::collection::vec(said(), 0..12),
        shuffle in any::<[u8; 16]>(),
    ) {
        // Within a source the number decides; between sources nothing does.
        let numbered: Vec<HintUpdate> = words
            .iter()
            .zip(1..)
            .map(|(said, seq)| said.update(Some(Order { epoch: 0, seq })))
            .collect();
        let mut in_order = Home::new();
        for update in &numbered {
            in_order.apply(update.clone()).unwrap();
        }
        let mut shuffled = numbered;
        let mut rng = Rng::new(shuffle);
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, rng.below(place as u64 + 1) as usize);
        }
        let mut out_of_order = Home::new();
        for update in shuffled {
            let again = update.clone();
            let _ = out_of_order.apply(update);
            let doubled = out_of_order.apply(again);
            prop_assert!(matches!(doubled, Err(Refused::Stale { .. })), "{doubled:?}");
        }
        prop_assert_eq!(shown(&in_order), shown(&out_of_order));
    }

    #[test]
    fn what_is_stale_changes_nothing(
        words in proptest::collection::vec(said(), 1..12),
        late in said(),
    ) {
        let mut home = Home::new();
        for (said, seq) in words.iter().zip(10..) {
            let _ = home.apply(said.update(Some(Order { epoch: said.epoch, seq })));
        }
        let before = home.snapshot();
        home.changes();
        let heard = words.iter().any(|said| said.source == late.source);
        let result = home.apply(late.update(Some(Order { epoch: 0, seq: 9 })));
        if heard {
            prop_assert!(matches!(result, Err(Refused::Stale { .. })), "{result:?}");
            prop_assert!(Arc::ptr_eq(&before, &home.snapshot()));
            prop_assert!(home.changes().is_empty());
        } else {
            prop_assert!(result.is_ok());
        }
    }

    #[test]
    fn without_sources_everything_is_idle_and_nothing_is_left(
        words in proptest::collection::vec(said(), 0..12),
        numbered in any::<bool>(),
    ) {
        let mut home = Home::new();
        home.compositor.watch(&resource(), 0).unwrap();
        for (said, seq) in words.iter().zip(1..) {
            let order = numbered.then_some(Order { epoch: 0, seq });
            home.apply(said.update(order)).unwrap();
        }
        let tag = home.publishes(dialogs(vec![call("1", CallState::Early)]));
        for source in 0..4 {
            let order = numbered.then_some(Order { epoch: 0, seq: 99 });
            home.withdraws(&format!("source {source}"), order).unwrap();
        }
        home.removes(tag, Aspect::Dialogs).unwrap();
        prop_assert_eq!(shown(&home), (vec![], Presence::default()));
        home.compositor.unwatch(&resource(), 0);
        home.passes(HOUR + HOUR);
        prop_assert!(home.compositor.is_empty() && home.wheel.is_empty());
    }

    #[test]
    fn a_document_never_names_two_dialogs_alike_and_the_most_telling_comes_first(
        words in proptest::collection::vec(said(), 0..12),
    ) {
        let mut home = Home::new();
        for said in &words {
            home.apply(said.update(None)).unwrap();
            let calls = home.calls();
            let mut ids: Vec<&String> = calls.iter().map(|(id, _)| id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), calls.len());
            prop_assert!(calls.is_sorted_by_key(|(_, state)| state.telling_rank()));
        }
    }

    #[test]
    fn a_version_names_one_content(words in proptest::collection::vec(said(), 0..16)) {
        let mut home = Home::new();
        let mut last = home.snapshot().dialogs.clone();
        for said in &words {
            home.apply(said.update(None)).unwrap();
            let next = home.snapshot().dialogs.clone();
            prop_assert_eq!(last.version < next.version, last.content != next.content);
            prop_assert!(last.version <= next.version);
            last = next;
        }
    }
}
