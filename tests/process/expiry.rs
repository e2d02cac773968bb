//! Subscriptions that run out while their NOTIFYs wait for answers leave nothing behind that an operator could find.

use std::time::Instant;

use crate::phone::Phone;
use crate::server::{PATIENCE, Scratch, Server, errors};

const PHONES: usize = 20;

/// The rows of `show subscriptions` that fit.
fn like(server: &Server, conditions: &str) -> usize {
    let output = server.tell(&["show", "subscriptions", "--json", "--like", conditions]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    String::from_utf8_lossy(&output.stdout).lines().count()
}

/// Asks until so many rows fit.
fn until(server: &Server, conditions: &str, wanted: usize) {
    let began = Instant::now();
    loop {
        let count = like(server, conditions);
        if count == wanted {
            return;
        }
        // Less than the 64·T1 after which an unanswered end is an end anyway.
        assert!(began.elapsed() < PATIENCE, "{conditions}: {count}");
    }
}

#[test]
fn show_subscriptions_like_expiry_0_comes_back_empty_after_a_storm_of_expiries() {
    let scratch = Scratch::new("expiry");
    let file = scratch.file("lampfield.toml", "[packages.dialog]\nexpires_min = 1\n");
    let server = Server::start(&["--config", &file]);
    let phones: Vec<Phone> = (0..PHONES)
        .map(|number| Phone::new(server.sip[0], &format!("{}", 100 + number)))
        .collect();
    for phone in &phones {
        phone.subscribe("1001", "dialog", 5);
        phone.notified(|_| true);
    }
    // A NOTIFY waits for its answer on every phone, and goes on waiting while the time runs out.
    let set = server.tell(&["set-hint", "1001", "ringing"]);
    assert_eq!(set.status.code(), Some(0), "{}", errors(&set));
    until(&server, "in_flight=true", PHONES);
    until(&server, "expiry=0", PHONES);
    for phone in &phones {
        let last = phone.notified(|notify| {
            let state = notify.header("Subscription-State");
            state.starts_with("terminated")
        });
        assert_eq!(
            last.header("Subscription-State"),
            "terminated;reason=timeout"
        );
    }
    until(&server, "expiry=0", 0);
    assert_eq!(like(&server, ""), 0);
}
