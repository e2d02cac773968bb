//! A site of phones that comes back at once, and phones that come and go for a while: in small what `cargo xtask load storm`
//! and `cargo xtask load churn --minutes` do. What is judged is who is there in the end, never how long it took.
#![cfg(feature = "server")]

#[path = "support/load.rs"]
mod load;

use load::play;

#[test]
fn all_come_back_and_no_live_phone_is_refused() {
    play("storm --count 5500 --seconds 2 --shards 2");
}

#[test]
fn all_come_back_who_left_subscriptions_behind() {
    play("storm --count 2200 --seconds 2 --shards 2 --ghosts");
}

#[test]
fn nothing_is_left_of_phones_that_come_reboot_die_and_expire() {
    play("churn --minutes 0.4 --count 600 --rate 300 --expires 9 --shards 2");
}
