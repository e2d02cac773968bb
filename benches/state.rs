//! What a change of a hint costs its home shard, and what a document costs whoever makes it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use lampfield::hint::{
    Call, CallState, Direction, HintState, HintUpdate, Party, ResourceKey, Snapshot,
};
use lampfield::state::{Compositor, Settings};
use lampfield::subscription::package::{self, ContentTypeId, Package, RenderOptions};
use lampfield::time::Time;
use lampfield::wheel::Wheel;

/// Resources that are known and watched while one of them changes.
const RESIDENT: usize = 100_000;

const NOW: Time = Time::from_millis(1_000_000);

fn ringing() -> Call {
    let party = |number: &str| Party {
        identity: format!("sip:{number}@example.com").into(),
        display: format!("Desk {number}").into(),
        target: format!("sip:{number}@192.0.2.7:5062").into(),
        held: false,
    };
    Call {
        direction: Some(Direction::Recipient),
        call_id: "a84b4c76e66710@pbx.example.com".into(),
        local_tag: "1928301774".into(),
        remote_tag: "314159".into(),
        local: party("1001"),
        remote: party("1002"),
        ..Call::bare("a84b4c76e66710", CallState::Early)
    }
}

fn compositor(wheel: &mut Wheel) -> (Compositor, Vec<ResourceKey>) {
    let mut compositor = Compositor::new(Settings::default(), [7; 16]);
    let keys: Vec<ResourceKey> = (0..RESIDENT)
        .map(|number| format!("{number}@example.com").into())
        .collect();
    for key in &keys {
        compositor.watch(key, 0).expect("room for the resource");
        let update = HintUpdate::new(key.clone(), "pbx".into(), HintState::Idle);
        compositor.apply(NOW, update, wheel).expect("a first word");
    }
    compositor.drain_changes().for_each(drop);
    (compositor, keys)
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state/change");
    let mut wheel = Wheel::new(NOW);
    let (mut compositor, keys) = compositor(&mut wheel);
    let source: Arc<str> = "pbx".into();
    for (name, calls) in [("bare", vec![]), ("with details", vec![ringing()])] {
        let mut turn = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                turn += 1;
                let key = &keys[turn * 7_919 % RESIDENT];
                let state = match turn / RESIDENT % 2 {
                    0 => HintState::Ringing,
                    _ => HintState::Idle,
                };
                let mut update = HintUpdate::new(key.clone(), source.clone(), state);
                update.calls.clone_from(&calls);
                let changed = compositor.apply(NOW, update, &mut wheel);
                compositor.drain_changes().for_each(drop);
                black_box(changed)
            });
        });
    }
    group.finish();
}

fn document(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state/document");
    let dialog = package::by_name(b"dialog").expect("the dialog package");
    let mut snapshot = Snapshot::clone(&Snapshot::empty());
    snapshot.dialogs.content = [ringing()].into();
    let options = RenderOptions::default();
    group.bench_function("dialog tail", |bencher| {
        bencher.iter(|| {
            dialog.tail(
                ContentTypeId(0),
                "1001@example.com",
                black_box(&snapshot),
                &options,
            )
        });
    });
    let entity = b"sip:1001@example.com:5060;user=phone";
    let mut out = vec![0; Package::head_size_max(entity)];
    group.bench_function("dialog head", |bencher| {
        bencher.iter(|| dialog.head(ContentTypeId(0), black_box(7), entity, &mut out));
    });
    let mut body = vec![0; Package::head_size_max(entity)];
    let length = dialog
        .head(ContentTypeId(0), 0, entity, &mut body)
        .expect("room for the head");
    body.truncate(length);
    body.extend_from_slice(
        &dialog
            .tail(ContentTypeId(0), "1001@example.com", &snapshot, &options)
            .bytes,
    );
    group.bench_function("dialog read", |bencher| {
        bencher.iter(|| dialog.parse(0, black_box(&body)));
    });
    group.finish();
}

criterion_group!(benches, change, document);
criterion_main!(benches);
