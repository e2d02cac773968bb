//! The real program is killed while phones are served, and starts again: in small what `cargo xtask load restart` and
//! `cargo xtask load restore` do. The load tool judges; `loadtest/README.md` says what it sees.
#![cfg(feature = "server")]

#[path = "support/load.rs"]
mod load;

use load::play;

#[test]
fn whatever_was_answered_outlives_every_kill() {
    play("restart --count 300 --rate 200 --kills 6 --shards 1");
}

#[test]
fn whatever_was_answered_outlives_every_kill_of_two_shards_that_wait_for_the_disk() {
    play("restart --count 300 --rate 200 --kills 4 --shards 2 --durability disk");
}

#[test]
fn everybody_is_told_of_a_restart() {
    play("restore --count 2000 --shards 2");
}

#[test]
fn nobody_is_told_of_a_planned_restart_what_it_knows_where_that_is_asked_for() {
    play("restore --count 2000 --shards 2 --orderly --changed-only");
}
