//! The pure shard without a kernel: a fan-out with every answer, and a new subscription with its NOTIFY.
//! `cargo bench --bench shard`; the time per element is CPU per NOTIFY or per subscription.

mod harness;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use harness::{Bench, subscribe};
use lampfield::hint::HintState;
use lampfield::shard::input::Input;

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for watchers in [1_000, 10_000] {
        let mut bench = Bench::new();
        for phone in 0..watchers {
            bench.subscribe(phone, 1001);
        }
        bench.settle();
        group.throughput(Throughput::Elements(watchers as u64));
        group.sample_size(20);
        let mut busy = false;
        group.bench_function(format!("{watchers}_watchers"), |bencher| {
            bencher.iter(|| {
                busy = !busy;
                bench.notifies = 0;
                bench.set(
                    1001,
                    if busy {
                        HintState::InUse
                    } else {
                        HintState::Idle
                    },
                );
                bench.settle();
                assert_eq!(bench.notifies, watchers);
            });
        });
    }
    group.finish();
}

fn new_subscription(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe");
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::new();
    let mut phone = 0;
    group.bench_function("new_subscription_with_its_notify", |bencher| {
        bencher.iter_batched(
            || {
                phone += 1;
                (phone, subscribe(phone, phone % 1_000))
            },
            |(phone, text)| {
                let flow = Bench::flow(phone);
                let bytes = black_box(text.as_bytes());
                bench.input(Input::Datagram {
                    flow,
                    bytes,
                    truncated: false,
                    forwarded: false,
                });
                bench.turn();
                bench.turn();
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, fan_out, new_subscription);
criterion_main!(benches);
