//! Peers that read slowly, late or never: nothing piles up for them, and what they are told is the newest.

use std::time::Duration;

use super::{PHONE, SHARDS, assert_ends_empty, notifies, second, subscribe_all};
use crate::house::{House, header, subscribe};
use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::partition::ShardId;
use lampfield::shard::Shard;
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::mail::{Block, Carried};
use lampfield::stats::Counter;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{ConnectionId, Flow};
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, STREAM, Settings};

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
