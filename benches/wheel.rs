//! The timer wheel beside a binary heap with lazy deletion: what a timer costs while a million others are waiting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lampfield::rng::Rng;
use lampfield::time::Time;
use lampfield::wheel::{Owner, TimerId, Token, Wheel};

/// Subscriptions that wait for their expiry, up to an hour away.
const RESIDENT: u32 = 1_000_000;

const NOW: Time = Time::from_millis(1_000_000);

fn token(index: u32) -> Token {
    Token {
        owner: Owner::Subscription,
        index,
    }
}

fn within_an_hour(rng: &mut Rng) -> Time {
    NOW + Duration::from_millis(1_000 + rng.below(3_600_000))
}

fn full_wheel(rng: &mut Rng) -> (Wheel, Vec<TimerId>) {
    let mut wheel = Wheel::new(NOW);
    let timers = (0..RESIDENT)
        .map(|index| wheel.insert(within_an_hour(rng), token(index)))
        .collect();
    (wheel, timers)
}

fn full_heap(rng: &mut Rng) -> BinaryHeap<Reverse<(u64, u32)>> {
    (0..RESIDENT)
        .map(|index| Reverse((within_an_hour(rng).nanos(), index)))
        .collect()
}

/// Timer E of a NOTIFY that is answered at once.
fn set_and_cancel(criterion: &mut Criterion) {
    let mut group =
        criterion.benchmark_group("set a 500 ms timer and take it back, 1 M others waiting");
    let mut rng = Rng::new([1; 16]);
    let (mut wheel, _) = full_wheel(&mut rng);
    let soon = NOW + Duration::from_millis(500);
    group.bench_function("wheel", |bencher| {
        bencher.iter(|| {
            let timer = wheel.insert(black_box(soon), token(7));
            black_box(wheel.cancel(timer))
        });
    });
    // A heap can't take an inner element out: it comes up as the earliest.
    let mut heap = full_heap(&mut rng);
    group.bench_function("binary heap", |bencher| {
        bencher.iter(|| {
            heap.push(Reverse((black_box(soon).nanos(), 7)));
            black_box(heap.pop())
        });
    });
    group.finish();
}

/// Refreshes come in any order: each touches another part of memory.
fn move_at_random(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one of 1 M timers, chosen at random");
    let mut rng = Rng::new([2; 16]);
    let (mut wheel, mut timers) = full_wheel(&mut rng);
    // Drawn before, so that drawing is not measured.
    let draws: Vec<(u32, Time)> = (0..1 << 20)
        .map(|_| (rng.below(RESIDENT.into()) as u32, within_an_hour(&mut rng)))
        .collect();
    let mut draws_of_reschedule = draws.iter().cycle();
    group.bench_function("reschedule", |bencher| {
        bencher.iter(|| {
            let (chosen, when) = draws_of_reschedule.next().expect("a cycle has no end");
            wheel.reschedule(timers[*chosen as usize], *when)
        });
    });
    let mut draws_of_cancel = draws.iter().cycle();
    group.bench_function("cancel and set again", |bencher| {
        bencher.iter(|| {
            let (chosen, when) = draws_of_cancel.next().expect("a cycle has no end");
            wheel.cancel(timers[*chosen as usize]);
            timers[*chosen as usize] = wheel.insert(*when, token(*chosen));
        });
    });
    group.finish();
}

fn fire_all(criterion: &mut Criterion) {
    let mut group =
        criterion.benchmark_group("set 100,000 timers within a minute, and let all fire");
    group.sample_size(10);
    let mut rng = Rng::new([3; 16]);
    let times: Vec<Time> = (0..100_000)
        .map(|_| NOW + Duration::from_millis(1 + rng.below(60_000)))
        .collect();
    let end = NOW + Duration::from_secs(61);
    group.bench_function("wheel", |bencher| {
        bencher.iter_batched(
            || Wheel::new(NOW),
            |mut wheel| {
                for (index, when) in times.iter().enumerate() {
                    wheel.insert(*when, token(index as u32));
                }
                while wheel.pop(end).is_some() {}
                wheel
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("binary heap", |bencher| {
        bencher.iter_batched(
            BinaryHeap::new,
            |mut heap| {
                for (index, when) in times.iter().enumerate() {
                    heap.push(Reverse((when.nanos(), index as u32)));
                }
                while heap.pop().is_some() {}
                heap
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, set_and_cancel, move_at_random, fire_all);
criterion_main!(benches);
