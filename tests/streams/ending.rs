//! A phone's connection ends: it is told everything when it comes back, or its subscriptions end with it.

use std::time::Duration;

use super::{PHONE, SHARDS, assert_ends_empty, notifies, subscribe_all};
use crate::house::{House, header, subscribe};
use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::stats::Counter;
use lampfield_sim::script::settings::Settings;

#[test]
fn a_phone_whose_connection_has_gone_is_told_everything_when_it_comes_back_with_one_request() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let first = house.connect(0, PHONE);
        let keys = ["1001", "1002", "1003"];
        let tags = subscribe_all(&mut house, first, "phone", &keys);
        // Another device of the same user stays away: it is elsewhere, and its dialogs are its own.
        let other = house.connect(0, "192.168.7.99:40000");
        let text = subscribe("phone", "1004", "192.168.7.99:40000", 1, "", 600);
        house.send(other, text.as_bytes());
        house.close(other);
        house.close(first);
        house.set("1002", Some(HintState::Ringing));
        house.set("1003", Some(HintState::InUse));
        house.pass(Duration::from_secs(60));
        assert_eq!(house.count(Counter::SubscriptionNotifyTimeout), 0);

        let second = house.connect(shards - 1, "192.168.7.20:50000");
        let text = subscribe("phone", "1001", "192.168.7.20:50000", 2, &tags[0], 600);
        house.send(second, text.as_bytes());
        let inbox = house.inbox(second);
        assert!(inbox[0].starts_with("SIP/2.0 200 "), "{}", inbox[0]);
        let told = notifies(&inbox);
        assert_eq!(told.len(), keys.len(), "{told:?}");
        for (key, shows) in [
            ("1001", "terminated"),
            ("1002", "early"),
            ("1003", "confirmed"),
        ] {
            let call_id = format!("phone-{key}");
            let notify = told.iter().find(|text| header(text, "Call-ID") == call_id);
            let state = format!("<state>{shows}</state>");
            let notify = notify.expect("each key is told");
            assert!(notify.contains(&state) || key == "1001", "{notify}");
        }
        // From now on changes go by the new connection at once.
        house.set("1003", Some(HintState::Ringing));
        assert_eq!(notifies(&house.inbox(second)).len(), 1);
        assert_ends_empty(house, &[second], &keys);
    }
}

#[test]
fn who_says_nothing_more_is_answered_and_closed_and_told_the_rest_when_it_comes_back() {
    for shards in SHARDS {
        for on_close in ["keep", "end"] {
            let mut settings = Settings::default();
            settings.set("on_close", on_close).unwrap();
            let mut house = House::new(&settings, shards);
            let first = house.connect(0, PHONE);
            let tags = subscribe_all(&mut house, first, "phone", &["1001"]);
            let last: Vec<String> = (2..=5)
                .map(|key| subscribe("phone", &format!("100{key}"), PHONE, 1, "", 600))
                .collect();
            house.send_last(first, last.concat().as_bytes());
            let inbox = house.inbox(first);
            let answered = |text: &&String| text.starts_with("SIP/2.0 200 ");
            assert_eq!(inbox.iter().filter(answered).count(), 4, "{inbox:?}");
            // On one shard they are told before the end is seen.
            assert!(house.is_closed(first));
            assert_eq!(house.count(Counter::ConnectionClosedByPeer), 1);
            house.set("1001", Some(HintState::Ringing));
            house.set("1003", Some(HintState::Ringing));
            assert!(house.inbox(first).is_empty());
            let again = house.connect(shards - 1, "192.168.7.20:50000");
            let text = subscribe("phone", "1001", "192.168.7.20:50000", 2, &tags[0], 600);
            house.send(again, text.as_bytes());
            let inbox = house.inbox(again);
            match on_close {
                "keep" => assert_eq!(notifies(&inbox).len(), 5, "{inbox:?}"),
                _ => assert!(inbox[0].starts_with("SIP/2.0 481 "), "{inbox:?}"),
            }
            assert_ends_empty(house, &[again], &["1001", "1003"]);
        }
    }
}

#[test]
fn who_says_nothing_more_after_half_a_request_or_one_that_nobody_answers_is_closed() {
    let mut house = House::new(&Settings::default(), 1);
    let half = house.connect(0, PHONE);
    let acknowledged = house.connect(0, PHONE);
    let text = subscribe("phone", "1001", PHONE, 1, "", 600);
    house.send_last(half, &text.as_bytes()[..100]);
    assert!(house.is_closed(half));
    house.send_last(acknowledged, text.replace("SUBSCRIBE", "ACK").as_bytes());
    assert!(!house.is_closed(acknowledged));
    house.pass(Duration::from_secs(limits::STREAM_LAST_ANSWERS_SECONDS));
    assert!(house.is_closed(acknowledged));
    assert_ends_empty(house, &[], &[]);
}

#[test]
fn a_phone_that_does_not_come_back_is_forgotten_when_it_expires() {
    let mut house = House::new(&Settings::default(), 2);
    let phone = house.connect(0, PHONE);
    subscribe_all(&mut house, phone, "phone", &["1001"]);
    house.close(phone);
    house.pass(Duration::from_secs(598));
    let subscriptions = |house: &mut House| -> usize {
        let census = house.census();
        census.iter().map(|census| census.subscriptions).sum()
    };
    assert_eq!(subscriptions(&mut house), 1);
    house.pass(Duration::from_secs(3));
    assert_eq!(subscriptions(&mut house), 0);
    assert_ends_empty(house, &[], &[]);
}

#[test]
fn a_switch_ends_subscriptions_with_their_connection() {
    for shards in SHARDS {
        let mut settings = Settings::default();
        settings.set("on_close", "end").unwrap();
        let mut house = House::new(&settings, shards);
        let phone = house.connect(0, PHONE);
        subscribe_all(&mut house, phone, "phone", &["1001", "1002"]);
        house.close(phone);
        assert_eq!(house.count(Counter::SubscriptionCut), 2);
        assert!(
            house
                .census()
                .iter()
                .all(|census| census.subscriptions == 0)
        );
        assert_ends_empty(house, &[], &[]);
    }
}
