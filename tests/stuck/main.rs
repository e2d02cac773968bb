//! No subscription can be stuck: whatever fails and ends at whatever step of its life, it shows the newest state, or it is
//! gone in time, and nothing of it is left. No kernel, no clock.

mod connections;
#[path = "../streams/house.rs"]
mod house;
mod names;
mod sends;
#[path = "../support/site.rs"]
mod site;
mod step;
mod storm;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use house::House;
use lampfield::shard::census::Census;
use lampfield::stats::Counter;
use lampfield::time::T64;

/// All cases of one matrix: each is lived through, and those that fail are named.
#[derive(Default)]
struct Matrix {
    count: usize,
    failures: usize,
}

impl Matrix {
    fn live(&mut self, case: impl Debug, life: impl FnOnce() -> Result<(), String>) {
        self.count += 1;
        let outcome = catch_unwind(AssertUnwindSafe(life))
            .unwrap_or_else(|_| Err("a panic, see above".to_string()));
        if let Err(error) = outcome {
            println!("{case:?}: {error}");
            self.failures += 1;
        }
    }

    fn assert_all_hold(self) {
        println!("{} cases", self.count);
        assert!(
            self.failures == 0,
            "{} of {} failed",
            self.failures,
            self.count
        );
    }
}

/// How many there are on all shards.
fn subscriptions(house: &mut House) -> usize {
    let census = house.census();
    census.iter().map(|one| one.subscriptions).sum()
}

/// What was granted for so many seconds is gone 64·T1 after these; and without the hint, every table is empty.
fn nothing_is_left(house: &mut House, expires: u32) -> Result<(), String> {
    house.pass(Duration::from_secs(expires.into()) + T64 + Duration::from_millis(5));
    match subscriptions(house) {
        0 => {}
        left => return Err(format!("{left} stuck")),
    }
    house.set("1001", None);
    house.pass(Duration::from_secs(3 * 3600));
    let census = house.census();
    if let Some(census) = census.iter().find(|one| **one != Census::default()) {
        return Err(format!("something is left: {census:?}"));
    }
    match house.count(Counter::Bug) {
        0 => Ok(()),
        bugs => Err(format!("{bugs} bugs")),
    }
}
