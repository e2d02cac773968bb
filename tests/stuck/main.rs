//! No subscription can be stuck: whatever fails and ends at whatever step of its life, it shows the newest state, or it is
//! gone in time, and nothing of it is left. No kernel, no clock.

mod connections;
#[path = "../streams/house.rs"]
mod house;
mod names;
mod sends;
#[path = "../support/site.rs"]
mod site;
mod storm;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
