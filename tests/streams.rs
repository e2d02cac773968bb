//! Phones that come by connections, against real shards with a simulated clock: what is told them goes down the
//! connection that they came by, whichever shard owns them, and no farther than they read.

#[path = "streams/browser.rs"]
mod browser;
#[path = "streams/edges.rs"]
mod edges;
#[path = "streams/ending.rs"]
mod ending;
#[path = "streams/house.rs"]
mod house;
#[path = "streams/oracle.rs"]
mod oracle;
#[path = "streams/slow.rs"]
mod slow;
#[path = "streams/web.rs"]
mod web;

use std::time::Duration;

use house::{House, header, subscribe, tag};
use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::shard::census::Census;
use lampfield::stats::Counter;
use lampfield::transport::ConnectionId;
use lampfield_sim::script::settings::Settings;

/// With one shard, and with so many that hardly anything is owned where it arrives.
const SHARDS: [u16; 2] = [1, 4];
const PHONE: &str = "192.168.7.20:49152";

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Phones hang up, hints are removed, hours pass: then every table must be empty.
fn assert_ends_empty(mut house: House, connections: &[ConnectionId], users: &[&str]) {
    for &connection in connections {
        house.close(connection);
    }
    for user in users {
        house.set(user, None);
    }
    house.pass(Duration::from_secs(3 * 3600));
    for census in house.census() {
        assert_eq!(census, Census::default());
    }
    assert_eq!(house.count(Counter::Bug), 0);
}

fn notifies(inbox: &[String]) -> Vec<&str> {
    let notify = |text: &&String| text.starts_with("NOTIFY ");
    inbox.iter().filter(notify).map(String::as_str).collect()
}

/// Subscribes to some keys by a connection; the tags that the server gave.
fn subscribe_all(house: &mut House, phone: ConnectionId, name: &str, keys: &[&str]) -> Vec<String> {
    let contact = house.address(phone).to_string();
    keys.iter()
        .map(|key| {
            let text = subscribe(name, key, &contact, 1, "", 600);
            house.send(phone, text.as_bytes());
            let inbox = house.inbox(phone);
            tag(header(&inbox[0], "To")).to_owned()
        })
        .collect()
}

//= RFC 3261 18.3 type=test
#[test]
fn a_phone_is_answered_and_told_by_its_connection_wherever_its_bytes_are_cut() {
    for shards in SHARDS {
        let text = subscribe("phone", "1001", PHONE, 1, "", 600);
        for piece in [1, 2, 7, 100, text.len()] {
            let mut house = House::new(&Settings::default(), shards);
            house.set("1001", Some(HintState::Ringing));
            let phone = house.connect(shards - 1, PHONE);
            for bytes in text.as_bytes().chunks(piece) {
                house.send(phone, bytes);
            }
            let inbox = house.inbox(phone);
            assert_eq!(inbox.len(), 2, "{inbox:?}");
            let (answer, notify) = (&inbox[0], &inbox[1]);
            assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
            let own = "<sip:192.0.2.1:5060;transport=tcp>";
            assert_eq!(header(answer, "Contact"), own);
            assert!(notify.starts_with("NOTIFY sip:phone@192.168.7.20:49152;transport=tcp "));
            assert!(header(notify, "Via").starts_with("SIP/2.0/TCP 192.0.2.1:5060;"));
            assert_eq!(header(notify, "Contact"), own);
            assert!(notify.contains("early"), "{notify}");
            let census = house.census();
            assert!(census.iter().all(|census| census.client_transactions == 0));
            // Timer J is 0: nothing remembers an answer.
            assert!(census.iter().all(|census| census.server_transactions == 0));
            assert_ends_empty(house, &[phone], &["1001"]);
        }
    }
}

#[test]
fn several_requests_in_one_piece_are_answered_in_their_order() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let phone = house.connect(0, PHONE);
        let texts: Vec<String> = (1..=5)
            .map(|key| subscribe("phone", &format!("10{key}"), PHONE, 1, "", 600))
            .collect();
        house.send(phone, texts.concat().as_bytes());
        let inbox = house.inbox(phone);
        let answers = inbox.iter().filter(|text| text.starts_with("SIP/2.0 200"));
        let order: Vec<&str> = answers.map(|text| header(text, "Call-ID")).collect();
        let expected = ["101", "102", "103", "104", "105"].map(|key| format!("phone-{key}"));
        assert_eq!(order, expected);
        assert_eq!(notifies(&inbox).len(), 5);
        assert_ends_empty(house, &[phone], &[]);
    }
}

//= RFC 5626 4.4.1 type=test
#[test]
fn a_ping_is_answered_with_a_pong() {
    let mut house = House::new(&Settings::default(), 1);
    let phone = house.connect(0, PHONE);
    for bytes in [&b"\r\n\r"[..], b"\n"] {
        house.send(phone, bytes);
    }
    assert_eq!(house.inbox(phone), ["\r\n"]);
    assert_ends_empty(house, &[phone], &[]);
}

#[test]
fn what_is_no_sip_closes_its_own_connection_and_no_other() {
    for (garbage, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), None),
        (
            subscribe("bad", "1001", PHONE, 1, "", 600)
                .replace("Content-Length: 0", "Content-Length: 0\r\nl: 7"),
            Some("400"),
        ),
        (
            subscribe("bad", "1001", PHONE, 1, "", 600)
                .replace("Content-Length: 0", "Content-Length: 70000"),
            Some("513"),
        ),
        (
            format!("{}{}", "SUBSCRIBE sip:a SIP/2.0\r\nX: ", "x".repeat(70_000)),
            None,
        ),
    ] {
        let mut house = House::new(&Settings::default(), 2);
        let good = house.connect(0, PHONE);
        let bad = house.connect(0, "203.0.113.66:1025");
        house.send(
            good,
            subscribe("phone", "1001", PHONE, 1, "", 600).as_bytes(),
        );
        house.inbox(good);
        house.send(bad, garbage.as_bytes());
        assert!(house.is_closed(bad), "{garbage:?}");
        let inbox = house.inbox(bad);
        let answered = inbox.first().and_then(|text| text.split(' ').nth(1));
        assert_eq!(answered, status);
        house.set("1001", Some(HintState::InUse));
        assert_eq!(notifies(&house.inbox(good)).len(), 1);
        assert_ends_empty(house, &[good], &["1001"]);
    }
}

//= RFC 3261 17.1.2.2 type=test
#[test]
fn an_unanswered_notify_is_not_repeated_and_a_newer_state_replaces_it_after_t1() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let phone = house.connect(0, PHONE);
        house.answers(phone, None);
        house.send(
            phone,
            subscribe("phone", "1001", PHONE, 1, "", 600).as_bytes(),
        );
        house.inbox(phone);
        // Within T1 it waits for the answer, and after that no longer.
        house.set("1001", Some(HintState::Ringing));
        house.pass(Duration::from_millis(400));
        assert!(house.inbox(phone).is_empty());
        house.pass(Duration::from_millis(200));
        let inbox = house.inbox(phone);
        assert_eq!(inbox.len(), 1, "{inbox:?}");
        assert_eq!(header(&inbox[0], "CSeq"), "2 NOTIFY");
        house.pass(Duration::from_secs(31));
        assert!(house.inbox(phone).is_empty());
        // RFC 6665 4.2.2: whoever does not answer for 64·T1 is no watcher any more.
        house.pass(2 * second());
        assert_eq!(house.count(Counter::SubscriptionNotifyTimeout), 1);
        assert_ends_empty(house, &[phone], &["1001"]);
    }
}

#[test]
fn a_connection_that_says_nothing_or_half_a_message_or_has_nothing_to_say_is_closed() {
    let mut house = House::new(&Settings::default(), 1);
    let silent = house.connect(0, PHONE);
    let half = house.connect(0, PHONE);
    let idle = house.connect(0, PHONE);
    let used = house.connect(0, PHONE);
    let text = subscribe("phone", "1001", PHONE, 1, "", 3600);
    house.send(used, text.as_bytes());
    let options = text.replace("SUBSCRIBE", "OPTIONS");
    house.send(idle, options.as_bytes());
    house.send(half, options.as_bytes());
    house.pass(Duration::from_secs(20));
    house.send(half, b"OPT");
    house.pass(Duration::from_secs(limits::STREAM_FIRST_MESSAGE_SECONDS - 20) + second());
    assert!(house.is_closed(silent) && !house.is_closed(half));
    house.pass(Duration::from_secs(20));
    assert!(house.is_closed(half) && !house.is_closed(idle));
    house.pass(Duration::from_secs(limits::STREAM_IDLE_SECONDS));
    assert!(house.is_closed(idle) && !house.is_closed(used));
    for (counter, count) in [
        (Counter::ConnectionSilent, 1),
        (Counter::ConnectionUnfinished, 1),
        (Counter::ConnectionIdle, 1),
    ] {
        assert_eq!(house.count(counter), count, "{counter:?}");
    }
    assert_ends_empty(house, &[used], &[]);
}

#[test]
fn a_message_that_trickles_in_is_given_up_as_soon_as_one_that_stops() {
    let mut house = House::new(&Settings::default(), 1);
    let phone = house.connect(0, PHONE);
    let text = subscribe("phone", "1001", PHONE, 1, "", 3600);
    house.send(phone, text.as_bytes());
    for piece in text.as_bytes().chunks(1).take(30) {
        assert!(!house.is_closed(phone));
        house.send(phone, piece);
        house.pass(second());
    }
    assert!(house.is_closed(phone));
    assert_eq!(house.count(Counter::ConnectionUnfinished), 1);
    assert_ends_empty(house, &[], &[]);
}

#[test]
fn a_connection_by_which_nobody_is_told_any_more_is_closed_whichever_shard_told_them() {
    const PHONES: usize = 8;
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let phones: Vec<ConnectionId> = (0..2 * PHONES)
            .map(|number| {
                let phone = house.connect(0, &format!("192.168.7.{}:5060", number + 1));
                let expires = if number < PHONES { 60 } else { 3600 };
                let contact = house.address(phone).to_string();
                let name = format!("p{number}");
                let text = subscribe(&name, "1001", &contact, 1, "", expires);
                house.send(phone, text.as_bytes());
                phone
            })
            .collect();
        house.pass(Duration::from_secs(3 * limits::STREAM_IDLE_SECONDS));
        let (left, used) = phones.split_at(PHONES);
        assert!(left.iter().all(|&phone| house.is_closed(phone)));
        assert!(used.iter().all(|&phone| !house.is_closed(phone)));
        assert_eq!(house.count(Counter::ConnectionIdle), PHONES as u64);
        assert_ends_empty(house, used, &[]);
    }
}
