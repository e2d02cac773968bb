//! Nothing is allocated per message in the steady state: an allocator that counts says so.

#[path = "../benches/harness/mod.rs"]
mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use harness::{Bench, subscribe};
use lampfield::hint::HintState;
use lampfield::shard::input::Input;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn change(bench: &mut Bench, busy: bool) {
    bench.set(
        1001,
        if busy {
            HintState::InUse
        } else {
            HintState::Idle
        },
    );
    bench.settle();
}

#[test]
fn a_fan_out_allocates_for_the_change_and_not_for_each_watcher() {
    let per_change = |watchers: usize| {
        let mut bench = Bench::new();
        for phone in 0..watchers {
            bench.subscribe(phone, 1001);
        }
        for round in 0..8 {
            change(&mut bench, round % 2 == 0);
        }
        bench.notifies = 0;
        let count = allocations(|| change(&mut bench, true));
        assert_eq!(bench.notifies, watchers);
        count
    };
    // The queue of those to be told doubles a few times on its way to a thousand.
    let (many, one) = (per_change(1_000), per_change(1));
    assert!(
        many <= one + 12,
        "{many} allocations for 1,000 watchers, {one} for one"
    );
}

#[test]
fn a_refresh_and_its_notify_allocate_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(7, 1001);
    let tag = bench.last_to_tag();
    let refresh = |cseq: u32| {
        subscribe(7, 1001)
            .replace(
                "To: <sip:1001@localhost>",
                &format!("To: <sip:1001@localhost>;tag={tag}"),
            )
            .replace("CSeq: 1 ", &format!("CSeq: {cseq} "))
            .replace(
                "branch=z9hG4bK7x1001",
                &format!("branch=z9hG4bK7x1001x{cseq}"),
            )
    };
    // The tables of remembered answers take their first memory here.
    for cseq in 2..4_500 {
        bench.receive(7, &refresh(cseq));
    }
    bench.notifies = 0;
    let texts: Vec<String> = (4_500..4_600).map(refresh).collect();
    let count = allocations(|| {
        for text in &texts {
            bench.receive(7, text);
        }
    });
    assert_eq!(bench.notifies, 100);
    // A segment of the tables of remembered answers grows now and then: less than once in two requests is none per request.
    assert!(count < 50, "{count} allocations for 100 refreshes");
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    let mut bench = Bench::new();
    bench.subscribe(1, 1001);
    let text = subscribe(2, 1001);
    let flow = Bench::flow(2);
    let made = allocations(|| {
        bench.input(Input::Datagram {
            flow,
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: false,
        });
    });
    assert!(made > 0, "a new subscription keeps its text");
}
