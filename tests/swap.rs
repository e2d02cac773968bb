//! Transports of the real program are replaced while phones are served: in small what `cargo xtask load swap` and
//! `cargo xtask load expire` do. The load tool judges; `loadtest/README.md` says what it sees and what it can't see.
#![cfg(feature = "server")]

#[path = "support/load.rs"]
mod load;

use load::play;

#[test]
fn nobody_can_tell_that_transports_are_replaced() {
    play("swap --count 1000 --swaps 18 --pause 200 --rate 500 --shards 1");
}

#[test]
fn nobody_can_tell_that_transports_of_two_shards_are_replaced() {
    play("swap --count 1000 --swaps 18 --pause 200 --rate 500 --shards 2");
}

#[test]
fn nobody_on_a_connection_can_tell_that_transports_and_certificates_are_replaced() {
    play(
        "swap --tcp 100 --tls 100 --visits 40 --count 1500 --swaps 20 --pause 200 --rate 500 --shards 2",
    );
}

#[test]
fn nobody_in_a_browser_can_tell_that_transports_and_certificates_are_replaced() {
    play(
        "swap --ws 50 --wss 50 --visits 20 --count 900 --swaps 20 --pause 200 --rate 300 --shards 2",
    );
}

#[test]
fn nobody_behind_a_real_edge_proxy_can_tell_that_transports_are_replaced() {
    // That everything closes is seen without the proxy.
    play("swap --kamailio --hurry --count 300 --swaps 18 --pause 300 --rate 200 --shards 2");
}

#[test]
fn no_subscription_that_expires_while_transports_are_replaced_is_stuck() {
    play("expire --count 2000 --rate 600 --shards 2");
}
