//! Bodies whose instructions are counted: `instructions NAME RUNS` runs one so many times, and `cargo xtask bench` does
//! that under callgrind. What a body sets up before its runs must not depend on their number.

mod harness;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use harness::{Bench, subscribe};
use lampfield::arena::{Arena, SlotSize};
use lampfield::hint::HintState;
use lampfield::rng::Rng;
use lampfield::sip::{Message, quick_answer};
use lampfield::slab::Slab;
use lampfield::table::Table;
use lampfield::time::Time;
use lampfield::wheel::{Owner, Token, Wheel};

type Body = fn(u64);

/// With the runs that are enough to count it: what is large needs few.
const BODIES: &[(&str, u64, Body)] = &[
    (
        "wheel: set a timer and take it back",
        20_000,
        wheel_set_and_cancel,
    ),
    ("wheel: set a timer and let it fire", 20_000, wheel_fire),
    ("wheel: move one of 10,000 timers", 20_000, wheel_reschedule),
    ("slab: insert and remove", 20_000, slab_insert_and_remove),
    (
        "table: insert, find and remove among 10,000",
        20_000,
        table_cycle,
    ),
    (
        "arena: take and release a slot",
        20_000,
        arena_take_and_release,
    ),
    ("rng: 64 bits", 20_000, rng_next),
    ("sip: scan and check a SUBSCRIBE", 2_000, sip_request),
    ("sip: the branch of an answer", 2_000, sip_quick_answer),
    (
        "shard: a change to 100 watchers, each NOTIFY answered",
        40,
        shard_fan_out,
    ),
    (
        "shard: a new subscription and its NOTIFY, answered",
        2_000,
        shard_subscribe,
    ),
    (
        "shard: a new subscription refused for want of room",
        2_000,
        shard_refuse,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            for (name, runs, _) in BODIES {
                println!("{runs} {name}");
            }
            ExitCode::SUCCESS
        }
        [name, runs] => {
            let body = BODIES.iter().find(|(known, _, _)| *known == name);
            let (Some((_, _, body)), Ok(runs)) = (body, runs.parse()) else {
                eprintln!("no such body, or no number: {name} {runs}");
                return ExitCode::FAILURE;
            };
            body(runs);
            ExitCode::SUCCESS
        }
        // `cargo bench` starts every bench.
        _ => {
            println!("counted by `cargo xtask bench`");
            ExitCode::SUCCESS
        }
    }
}

const START: Time = Time::from_millis(1_000_000);

fn token(index: u32) -> Token {
    Token {
        owner: Owner::Subscription,
        index,
    }
}

/// A wheel with 10,000 timers up to an hour away.
fn wheel_with_residents(rng: &mut Rng) -> (Wheel, Vec<lampfield::wheel::TimerId>) {
    let mut wheel = Wheel::new(START);
    let timers = (0..10_000)
        .map(|index| {
            wheel.insert(
                START + Duration::from_millis(rng.below(3_600_000)),
                token(index),
            )
        })
        .collect();
    (wheel, timers)
}

fn wheel_set_and_cancel(runs: u64) {
    let (mut wheel, _) = wheel_with_residents(&mut Rng::new([1; 16]));
    for _ in 0..runs {
        let timer = wheel.insert(black_box(START + Duration::from_millis(500)), token(1));
        black_box(wheel.cancel(timer));
    }
}

fn wheel_fire(runs: u64) {
    let mut wheel = Wheel::new(START);
    for run in 0..runs {
        let now = START + Duration::from_millis(run * 500);
        wheel.insert(black_box(now + Duration::from_millis(500)), token(1));
        black_box(wheel.pop(now + Duration::from_millis(500)));
    }
}

fn wheel_reschedule(runs: u64) {
    let (mut wheel, timers) = wheel_with_residents(&mut Rng::new([2; 16]));
    for run in 0..runs {
        let when = START + Duration::from_millis(run * 7919 % 3_600_000);
        black_box(wheel.reschedule(timers[(run * 7 % 10_000) as usize], when));
    }
}

fn slab_insert_and_remove(runs: u64) {
    let mut slab = Slab::with_limit(10_000);
    for number in 0..5_000_u64 {
        assert!(slab.insert(number).is_ok());
    }
    for run in 0..runs {
        let key = slab.insert(black_box(run)).expect("there is room");
        black_box(slab.remove(key));
    }
}

fn table_cycle(runs: u64) {
    let mut rng = Rng::new([3; 16]);
    let hashes: Vec<u64> = (0..10_000).map(|_| rng.next_u64()).collect();
    let mut table = Table::new();
    for (index, hash) in hashes.iter().enumerate() {
        table.insert(*hash, index as u32);
    }
    for run in 0..runs {
        let index = (run * 7 % 10_000) as u32;
        let hash = hashes[index as usize];
        black_box(table.find(hash, |candidate| candidate == index));
        black_box(table.remove(hash, |candidate| candidate == index));
        table.insert(hash, index);
    }
}

fn arena_take_and_release(runs: u64) {
    let mut arena = Arena::new(1_000, 100);
    for _ in 0..100 {
        assert!(arena.take(SlotSize::Small).is_some());
    }
    for _ in 0..runs {
        let slot = arena.take(SlotSize::Small).expect("there is room");
        arena.set_len(black_box(slot), 900);
        black_box(arena.pointer(slot));
        arena.release(slot);
    }
}

fn rng_next(runs: u64) {
    let mut rng = Rng::new([4; 16]);
    for _ in 0..runs {
        black_box(rng.next_u64());
    }
}

fn sip_request(runs: u64) {
    let text = subscribe(1, 1001);
    for _ in 0..runs {
        let message = Message::scan(black_box(text.as_bytes())).expect("it is sound");
        black_box(message.request().expect("it is sound"));
    }
}

fn sip_quick_answer(runs: u64) {
    let answer = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKeb500000000fb9b6f28376c8b4e;rport\r\n\r\n";
    for _ in 0..runs {
        black_box(quick_answer(black_box(answer)));
    }
}

/// The phones' answers are written here too: a tenth of it.
fn shard_fan_out(runs: u64) {
    let mut bench = Bench::new();
    for phone in 0..100 {
        bench.subscribe(phone, 1001);
    }
    for round in 0..runs {
        let state = if round % 2 == 0 {
            HintState::InUse
        } else {
            HintState::Idle
        };
        bench.set(1001, state);
        bench.settle();
    }
    assert_eq!(bench.notifies as u64, 100 + 100 * runs);
}

fn shard_subscribe(runs: u64) {
    let mut bench = Bench::new();
    for phone in 0..runs as usize {
        bench.subscribe(phone, phone % 100);
    }
    assert_eq!(bench.notifies as u64, runs);
}

fn shard_refuse(runs: u64) {
    let mut bench = Bench::new();
    bench.overload();
    for phone in 0..runs as usize {
        bench.subscribe(phone, phone % 100);
    }
    assert_eq!(bench.notifies, 0);
}
