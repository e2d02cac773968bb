//! A restart forgets nothing that somebody was promised beside the dialog itself: whom each subscription and publication
//! counts for, and how often a watcher wants to be told. No kernel, no clock, and a disk that loses nothing.

#[path = "support/lives.rs"]
mod lives;

use std::time::Duration;

use lampfield::hint::HintState;

use lives::{CONTACT, House, SOURCE, request, subscribe};

#[test]
fn a_restored_subscription_counts_for_the_source_that_it_came_from() {
    let mut house = House::new(&[("quota", "source subscriptions 1")]);
    assert_eq!(house.status(SOURCE, &subscribe("one")), 200);
    assert_eq!(house.status(SOURCE, &subscribe("two")), 503);
    for _ in 0..3 {
        house.restart();
        assert_eq!(house.status(SOURCE, &subscribe("two")), 503);
    }
    assert_eq!(house.status(CONTACT, &subscribe("three")), 200);
}

#[test]
fn a_restored_publication_counts_for_whoever_published_it() {
    const BODY: &str = "Messages-Waiting: yes\r\n";
    let more = "Event: message-summary\r\nContent-Type: application/simple-message-summary\r\n";
    for quota in ["user", "source", "domain"] {
        let mut house = House::new(&[("quota", &format!("{quota} publications 1"))]);
        let publish = |number| {
            let text = request("PUBLISH", "pbx", more, BODY);
            let text = String::from_utf8(text).expect("a text");
            text.replacen("z9hG4bK-pbx", &format!("z9hG4bK-pbx{number}"), 1)
                .replacen("CSeq: 1", &format!("CSeq: {number}"), 1)
                .into_bytes()
        };
        assert_eq!(house.status(SOURCE, &publish(1)), 200, "{quota}");
        assert_eq!(house.status(SOURCE, &publish(2)), 503, "{quota}");
        for number in 3..6 {
            house.restart();
            assert_eq!(house.status(SOURCE, &publish(number)), 503, "{quota}");
        }
        // What has ended counts for nobody.
        house.pass(Duration::from_secs(3_602));
        assert_eq!(house.status(SOURCE, &publish(6)), 200, "{quota}");
    }
}

/// A machine without a clock of its own begins in the past: what was granted an hour would last for years.
#[test]
fn nothing_lasts_longer_because_the_clock_was_set_back() {
    let mut house = House::new(&[]);
    let more = "Event: message-summary\r\nContent-Type: application/simple-message-summary\r\n";
    let publish = request("PUBLISH", "pbx", more, "Messages-Waiting: yes\r\n");
    assert_eq!(house.status(SOURCE, &publish), 200);
    assert_eq!(house.status(SOURCE, &subscribe("one")), 200);
    house.pass(Duration::from_secs(600));
    house.clock_back = Duration::from_secs(50 * 365 * 86_400);
    house.restart();
    house.pass(Duration::from_secs(1));
    assert_eq!(house.subscriptions(), 1);
    house.pass(Duration::from_secs(3_000));
    assert_eq!(house.subscriptions(), 0);
    assert_eq!(house.kept(), (0, 0));
}

#[test]
fn how_often_a_watcher_wants_to_be_told_holds_over_a_restart() {
    let mut house = House::new(&[]);
    let rates = ";max-rate=0.2;min-rate=0.05";
    let event = format!("Event: dialog{rates}\r\n");
    assert_eq!(
        house.status(SOURCE, &request("SUBSCRIBE", "one", &event, "")),
        200
    );
    house.pass(Duration::from_secs(10));
    house.sent.clear();
    house.restart();
    house.pass(Duration::from_secs(1));
    let began = house.now;
    let told = house.told();
    assert_eq!(told.len(), 1, "the first one waits for nothing: {told:?}");
    assert!(told[0].1.ends_with(rates), "{told:?}");
    // A change waits until five seconds after it, and silence ends after twenty.
    house.set(HintState::Ringing);
    house.pass(Duration::from_secs(29));
    let told = house.told();
    let after: Vec<u64> = told
        .iter()
        .map(|(when, _)| when.since(began - Duration::from_secs(1)).as_secs())
        .collect();
    assert_eq!(after, [5, 25], "{told:?}");
    assert!(
        told.iter().all(|(_, state)| state.ends_with(rates)),
        "{told:?}"
    );
}
