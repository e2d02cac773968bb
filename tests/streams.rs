//! Phones that come by connections, against real shards with a simulated clock: what is told them goes down the
//! connection that they came by, whichever shard owns them, and no farther than they read.

#[path = "streams/browser.rs"]
mod browser;
#[path = "streams/edges.rs"]
mod edges;
#[path = "streams/house.rs"]
mod house;
#[path = "streams/oracle.rs"]
mod oracle;
#[path = "streams/web.rs"]
mod web;

use std::time::Duration;

use house::{House, header, subscribe, tag};
use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::partition::ShardId;
use lampfield::shard::Shard;
use lampfield::shard::census::Census;
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::mail::{Block, Carried};
use lampfield::stats::Counter;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{ConnectionId, Flow};
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, STREAM, Settings};

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

#[test]
fn a_stalled_edge_holds_the_newest_state_of_each_phone_and_is_told_it_as_it_reads() {
    const PHONES: usize = 1_000;
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let edge = house.connect(0, "203.0.113.9:40000");
        for number in 0..PHONES {
            let text = subscribe(
                &format!("p{number}"),
                "1001",
                "203.0.113.9:40000",
                1,
                "",
                3600,
            );
            house.send(edge, text.as_bytes());
        }
        let inbox = house.inbox(edge);
        assert_eq!(notifies(&inbox).len(), PHONES);
        house.reads(edge, false);
        for round in 0..20 {
            let state = [HintState::Ringing, HintState::InUse][round % 2];
            house.set("1001", Some(state));
            house.pass(second());
            let most = limits::STREAM_QUEUE_BYTES + usize::from(shards) * 100_000;
            assert!(house.unread(edge) < most, "{} bytes", house.unread(edge));
        }
        let (written, postponed) = (house.unread(edge), house.count(Counter::NotifyPostponed));
        assert!(written >= limits::STREAM_QUEUE_BYTES, "{written}");
        assert!(shards == 1 || postponed > 0);
        // It reads slowly, and is not closed for it, however long that takes.
        for _ in 0..20 {
            house.read_some(edge, 4_000);
            house.pass(Duration::from_secs(5));
        }
        assert!(!house.is_closed(edge));
        house.set("1001", Some(HintState::Hold));
        house.reads(edge, true);
        house.pass(Duration::from_secs(2));
        let inbox = house.inbox(edge);
        let mut last: std::collections::BTreeMap<&str, &str> = Default::default();
        for notify in notifies(&inbox) {
            last.insert(header(notify, "Call-ID"), notify);
        }
        assert_eq!(last.len(), PHONES);
        for notify in last.values() {
            assert!(notify.contains("+sip.rendering"), "{notify}");
        }
        assert!(house.census().iter().all(|census| census.in_line == 0));
        assert_ends_empty(house, &[edge], &["1001"]);
    }
}

/// 40 NOTIFYs at once are less than holds others back.
fn subscribe_forty(house: &mut House, edge: ConnectionId) {
    for number in 0..40 {
        let contact = house.address(edge).to_string();
        let text = subscribe(&format!("p{number}"), "1001", &contact, 1, "", 3600);
        house.send(edge, text.as_bytes());
    }
    assert_eq!(notifies(&house.inbox(edge)).len(), 40);
    house.reads(edge, false);
    house.set("1001", Some(HintState::Ringing));
    assert!(house.unread(edge) < limits::STREAM_QUEUE_BYTES);
}

#[test]
fn what_waits_for_a_slow_reader_is_not_given_up_because_nobody_answers_it() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let edge = house.connect(0, "203.0.113.9:40000");
        subscribe_forty(&mut house, edge);
        let waits = house.unread(edge);
        // It takes 64·T1 and more until all of it has been read.
        let mut read = 0;
        while read < waits {
            house.read_some(edge, 400);
            read += 400;
            house.pass(second());
        }
        house.reads(edge, true);
        house.pass(second());
        assert_eq!(house.count(Counter::SubscriptionNotifyTimeout), 0);
        assert_eq!(house.count(Counter::SubscriptionParked), 0);
        house.set("1001", Some(HintState::InUse));
        assert_eq!(told_last(&house.inbox(edge), "confirmed"), 40);
        assert_ends_empty(house, &[edge], &["1001"]);
    }
}

#[test]
fn what_left_late_may_be_answered_later_and_silence_counts_after_all() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let edge = house.connect(0, "203.0.113.9:40000");
        subscribe_forty(&mut house, edge);
        for _ in 0..30 {
            house.read_some(edge, 100);
            house.pass(second());
        }
        // The phones have had two seconds when timer F of the first fires.
        house.answers(edge, None);
        house.reads(edge, true);
        house.pass(4 * second());
        assert_eq!(house.count(Counter::SubscriptionNotifyTimeout), 0);
        // What was not answered has been told again, and now they have had all the time that there is.
        assert!(told_last(&house.inbox(edge), "early") > 30);
        house.pass(33 * second());
        let given_up = house.count(Counter::SubscriptionNotifyTimeout);
        assert!(given_up > 30, "{given_up}");
        assert_ends_empty(house, &[edge], &["1001"]);
    }
}

/// How many phones were told this state last.
fn told_last(inbox: &[String], state: &str) -> usize {
    let mut last: std::collections::BTreeMap<&str, &str> = Default::default();
    for notify in notifies(inbox) {
        last.insert(header(notify, "Call-ID"), notify);
    }
    let shows = |notify: &&&str| notify.contains(&format!("<state>{state}</state>"));
    last.values().filter(shows).count()
}

#[test]
fn who_takes_nothing_any_more_is_closed_and_told_when_it_comes_back() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let phone = house.connect(0, PHONE);
        let tags = subscribe_all(&mut house, phone, "phone", &["1001"]);
        house.reads(phone, false);
        house.set("1001", Some(HintState::Ringing));
        // The NOTIFY is younger than the silence that closes the connection.
        house.pass(Duration::from_secs(limits::STREAM_STALL_SECONDS) - second());
        assert!(!house.is_closed(phone));
        house.pass(2 * second());
        assert!(house.is_closed(phone));
        assert_eq!(house.count(Counter::ConnectionStalled), 1);
        let again = house.connect(0, PHONE);
        let text = subscribe("phone", "1001", PHONE, 2, &tags[0], 600);
        house.send(again, text.as_bytes());
        let inbox = house.inbox(again);
        // Timer F of the NOTIFY and the end of the connection meet: what was never read proves nothing.
        assert!(inbox[0].starts_with("SIP/2.0 200 "), "{}", inbox[0]);
        assert!(notifies(&inbox)[0].contains("early"));
        assert_ends_empty(house, &[again], &["1001"]);
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

#[test]
fn who_asks_and_never_reads_is_closed_before_its_answers_fill_memory() {
    let mut house = House::new(&Settings::default(), 1);
    let flood = house.connect(0, PHONE);
    house.reads(flood, false);
    let text = subscribe("phone", "1001", PHONE, 1, "", 600).replace("SUBSCRIBE", "OPTIONS");
    let mut sent = 0;
    while !house.is_closed(flood) && sent < 10_000 {
        house.send(flood, text.as_bytes());
        sent += 1;
    }
    assert!(house.is_closed(flood));
    assert!(house.unread(flood) <= limits::STREAM_QUEUE_BYTES_MAX + 1_000);
    assert_eq!(house.count(Counter::ConnectionFlooded), 1);
    assert_ends_empty(house, &[], &[]);
}

#[test]
fn an_answer_waits_while_there_is_no_room_on_the_way_to_the_shard_that_has_the_connection() {
    const REQUESTS: usize = 400;
    let settings = Settings::default();
    let of_shards = settings.shards(2).expect("sound");
    let of_second = of_shards.into_iter().nth(1).expect("two");
    let mut now = Time::from_millis(1_000_000);
    let mut shard = Shard::new(of_second, now);
    let wall = WallOffset(1_790_000_000_000_000_000);
    let mut out = Effects::new(2);
    shard.step(now, Input::Tick { wall }, &mut out);
    let flow = Flow {
        listener: STREAM,
        local: None,
        peer: PHONE.parse().expect("an address"),
        connection: Some(ConnectionId::new(ShardId(0), 1)),
    };
    for number in 0..REQUESTS {
        let text = format!(
            "OPTIONS sip:{DEFAULT_DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP {PHONE};branch=z9hG4bK{number}\r\n\
             From: <sip:v@{DEFAULT_DOMAIN}>;tag=v\r\nTo: <sip:{DEFAULT_DOMAIN}>\r\nCall-ID: late-{number}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        let datagram = Input::Datagram {
            flow,
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: true,
        };
        shard.step(now, datagram, &mut out);
    }
    // The other shard takes a block now and then.
    let mut answers = Vec::new();
    let mut blocks = 0;
    while answers.len() < REQUESTS && blocks < 100 {
        blocks += 1;
        let block = out.forwards[0].take(Block::default).unwrap_or_default();
        for carried in block.iter() {
            let Carried::ToSend { bytes, .. } = carried else {
                panic!("only answers go there");
            };
            answers.push(String::from_utf8_lossy(bytes).into_owned());
        }
        for slot in out.released.drain(..) {
            shard.arena().release(slot);
        }
        now = now + Duration::from_millis(2);
        shard.step(now, Input::Tick { wall }, &mut out);
    }
    assert!(blocks > 2, "all fitted into {blocks} blocks");
    let ids: Vec<&str> = answers.iter().map(|text| header(text, "Call-ID")).collect();
    let expected: Vec<String> = (0..REQUESTS)
        .map(|number| format!("late-{number}"))
        .collect();
    assert_eq!(ids, expected);
    assert_eq!(shard.census().slots_leased, 0);
    assert_eq!(shard.census().answers_held, 0);
    assert_eq!(shard.stats().get(Counter::ResponseSendFailed), 0);
}
