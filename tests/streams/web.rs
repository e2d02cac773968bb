//! Phones in browsers (RFC 7118), against real shards with a simulated clock. The other side of each connection is
//! another WebSocket library, and what that library makes of frames is what is made of them here.

use std::time::Duration;

use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::shard::census::Census;
use lampfield::stats::Counter;
use lampfield_sim::script::settings::{Settings, WEB};
use tungstenite::Message;

use crate::browser::{Browser, PAGE, REQUEST, subscribe};
use crate::house::{House, header, tag};

const SHARDS: [u16; 2] = [1, 4];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everything that there was is gone some hours later.
fn assert_ends_empty(mut house: House, browsers: &[&Browser], users: &[&str]) {
    for browser in browsers {
        house.close(browser.id);
    }
    for user in users {
        house.set(user, None);
    }
    house.pass(seconds(3 * 3600));
    for census in house.census() {
        assert_eq!(census, Census::default());
    }
    assert_eq!(house.count(Counter::Bug), 0);
}

//= RFC 7118 5.1 type=test
//= RFC 7118 5.2 type=test
//= RFC 7118 4.2 type=test
#[test]
fn a_page_is_answered_and_told_in_frames_wherever_its_bytes_are_cut() {
    for shards in SHARDS {
        for piece in [1, 2, 3, 7, 100, 4_000] {
            let mut house = House::new(&Settings::default(), shards);
            house.set("1001", Some(HintState::Ringing));
            let mut page = Browser::open(&mut house, shards - 1, piece);
            page.send(&mut house, subscribe("page", "1001", 1, "", 600));
            let inbox = page.texts(&mut house);
            assert_eq!(inbox.len(), 2, "{inbox:?}");
            let (answer, notify) = (&inbox[0], &inbox[1]);
            assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
            let own = "<sip:192.0.2.1:8080;transport=ws>";
            assert_eq!(header(answer, "Contact"), own);
            assert!(header(answer, "Via").starts_with("SIP/2.0/WS df7jal23ls0d.invalid;"));
            assert!(notify.starts_with("NOTIFY sip:page@df7jal23ls0d.invalid;transport=ws "));
            assert!(header(notify, "Via").starts_with("SIP/2.0/WS 192.0.2.1:8080;"));
            assert_eq!(header(notify, "Contact"), own);
            assert!(notify.contains("early"), "{notify}");
            house.set("1001", Some(HintState::InUse));
            assert!(page.texts(&mut house)[0].contains("confirmed"));
            let census = house.census();
            assert!(census.iter().all(|census| census.client_transactions == 0));
            assert_ends_empty(house, &[&page], &["1001"]);
        }
    }
}

//= RFC 6455 5.5.1 type=test
#[test]
fn a_page_that_closes_is_told_everything_when_it_is_opened_again() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let mut page = Browser::open(&mut house, 0, 4_000);
        page.send(&mut house, subscribe("page", "1001", 1, "", 600));
        let inbox = page.texts(&mut house);
        let to_tag = tag(header(&inbox[0], "To")).to_owned();
        assert_eq!(page.close(&mut house, 4001), Some(4001));
        assert!(house.is_closed(page.id));
        assert_eq!(house.count(Counter::ConnectionClosedByPeer), 1);
        house.set("1001", Some(HintState::Ringing));
        house.pass(seconds(60));
        let mut again = Browser::open(&mut house, shards - 1, 4_000);
        again.send(&mut house, subscribe("page", "1001", 2, &to_tag, 600));
        let inbox = again.texts(&mut house);
        assert!(inbox[0].starts_with("SIP/2.0 200 "), "{}", inbox[0]);
        assert!(inbox[1].contains("early"), "{}", inbox[1]);
        assert_ends_empty(house, &[&again], &["1001"]);
    }
}

//= RFC 7118 4.1 type=test
#[test]
fn what_opens_no_websocket_is_answered_and_closed() {
    for (from, to, status) in [
        ("Sec-WebSocket-Protocol: sip\r\n", "", "400"),
        ("Version: 13", "Version: 8", "426"),
        ("Upgrade: websocket\r\n", "", "426"),
        ("GET", "SUBSCRIBE", "405"),
        ("Host: ", "Host ", "400"),
    ] {
        let mut house = House::new(&Settings::default(), 1);
        let id = house.connect_to(WEB, 0, PAGE);
        house.reads(id, false);
        house.send(id, REQUEST.replacen(from, to, 1).as_bytes());
        let answer = String::from_utf8(house.take_bytes(id)).expect("text");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(house.is_closed(id));
        assert_eq!(house.count(Counter::ConnectionRefused), 1);
        assert_ends_empty(house, &[], &[]);
    }
}

#[test]
fn a_page_that_breaks_the_rules_is_told_which_and_closed() {
    let wrong_length = subscribe("page", "1001", 1, "", 600).replace("Length: 0", "Length: 7");
    for (what, message, raw, code, counter) in [
        (
            "unmasked",
            None,
            &[0x81, 1, b'x'][..],
            1002,
            Counter::ConnectionUnreadable,
        ),
        (
            "no SIP",
            Some("GET / HTTP/1.1\r\n\r\n"),
            &[],
            1007,
            Counter::ConnectionUnreadable,
        ),
        (
            "endless",
            None,
            &[0x82, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            1009,
            Counter::ConnectionTooLong,
        ),
        (
            "wrong length",
            Some(&wrong_length),
            &[],
            0,
            Counter::ConnectionOpened,
        ),
    ] {
        let mut house = House::new(&Settings::default(), 2);
        let mut good = Browser::open(&mut house, 0, 4_000);
        good.send(&mut house, subscribe("good", "1001", 1, "", 600));
        good.texts(&mut house);
        let mut bad = Browser::open(&mut house, 0, 4_000);
        match message {
            Some(text) => bad.send(&mut house, text.to_owned()),
            None => bad.send_raw(&mut house, raw),
        }
        let inbox = bad.messages(&mut house);
        if code == 0 {
            // Frames have their ends whatever is in them: the message is refused, and the page may go on.
            let Some(Message::Text(text)) = inbox.first() else {
                panic!("{inbox:?}");
            };
            assert!(text.starts_with("SIP/2.0 400 "), "{text}");
            assert!(!house.is_closed(bad.id));
            house.close(bad.id);
        } else {
            let Some(Message::Close(Some(frame))) = inbox.first() else {
                panic!("{what}: {inbox:?}");
            };
            assert_eq!(u16::from(frame.code), code, "{what}");
            assert!(house.is_closed(bad.id));
            assert_eq!(house.count(counter), 1, "{what}");
        }
        house.set("1001", Some(HintState::InUse));
        assert_eq!(good.texts(&mut house).len(), 1);
        assert_ends_empty(house, &[&good], &["1001"]);
    }
}

//= RFC 6455 5.5.3 type=test
//= RFC 7118 6 type=test
#[test]
fn pings_and_line_ends_are_answered_in_kind() {
    let mut house = House::new(&Settings::default(), 1);
    let mut page = Browser::open(&mut house, 0, 4_000);
    page.send_message(&mut house, Message::Ping("are you there".into()));
    assert_eq!(
        page.messages(&mut house),
        [Message::Pong("are you there".into())]
    );
    page.send(&mut house, "\r\n\r\n".to_owned());
    assert_eq!(page.texts(&mut house), ["\r\n"]);
    for nothing in ["", "\r\n"] {
        page.send(&mut house, nothing.to_owned());
        assert_eq!(page.messages(&mut house), []);
    }
    assert!(!house.is_closed(page.id));
    assert_ends_empty(house, &[&page], &[]);
}

//= RFC 7118 6 type=test
//= RFC 6455 5.5.2 type=test
#[test]
fn a_page_by_which_nothing_is_said_is_pinged_where_that_is_wanted() {
    let mut settings = Settings::default();
    settings.set("ping", "10").expect("a setting");
    let mut house = House::new(&settings, 1);
    let mut page = Browser::open(&mut house, 0, 4_000);
    page.send(&mut house, subscribe("page", "1001", 1, "", 3600));
    assert_eq!(page.texts(&mut house).len(), 2);
    house.pass(seconds(8));
    house.set("1001", Some(HintState::Ringing));
    assert_eq!(page.texts(&mut house).len(), 1);
    // What it was told counts, and what it says does not.
    house.pass(seconds(9));
    page.send(&mut house, "\r\n".to_owned());
    assert_eq!(page.messages(&mut house), []);
    for _ in 0..3 {
        house.pass(seconds(2));
        assert_eq!(page.messages(&mut house), [Message::Ping("".into())]);
        house.pass(seconds(8));
        assert_eq!(page.messages(&mut house), []);
    }
    // One that takes nothing is not sent one ping behind the other.
    house.pass(seconds(2));
    let unread = house.unread(page.id);
    house.pass(seconds(25));
    assert_eq!(house.unread(page.id), unread);
    house.pass(seconds(6));
    assert!(house.is_closed(page.id));
    assert_ends_empty(house, &[], &["1001"]);
}

//= RFC 7118 4.2 type=test
#[test]
fn what_is_no_utf_8_comes_and_goes_in_binary() {
    let mut house = House::new(&Settings::default(), 1);
    let mut page = Browser::open(&mut house, 0, 4_000);
    let text = subscribe("page", "1001", 1, "", 600);
    let from = text.find("From: ").expect("a From") + 6;
    let mut bytes = text.into_bytes();
    bytes.splice(from..from, *b"\"J\xfcrg\" ");
    page.send_message(&mut house, Message::Binary(bytes.into()));
    let inbox = page.messages(&mut house);
    let Message::Binary(answer) = &inbox[0] else {
        panic!("{inbox:?}");
    };
    assert!(answer.starts_with(b"SIP/2.0 200 "), "{answer:?}");
    assert!(answer.windows(5).any(|text| text == b"\"J\xfcrg"));
    page.send_message(
        &mut house,
        Message::Binary(subscribe("page", "1002", 1, "", 600).into()),
    );
    let inbox = page.texts(&mut house);
    assert!(inbox[0].starts_with("SIP/2.0 200 "), "{}", inbox[0]);
    assert_ends_empty(house, &[&page], &[]);
}

#[test]
fn a_page_that_says_nothing_or_half_a_message_or_has_nothing_to_say_is_closed_with_a_word() {
    let mut house = House::new(&Settings::default(), 1);
    let silent = house.connect_to(WEB, 0, PAGE);
    let mut opened = Browser::open(&mut house, 0, 4_000);
    let mut half = Browser::open(&mut house, 0, 4_000);
    let mut idle = Browser::open(&mut house, 0, 4_000);
    let mut used = Browser::open(&mut house, 0, 4_000);
    used.send(&mut house, subscribe("page", "1001", 1, "", 3600));
    used.texts(&mut house);
    let options = subscribe("page", "1001", 1, "", 0).replace("SUBSCRIBE", "OPTIONS");
    for page in [&mut half, &mut idle] {
        page.send(&mut house, options.clone());
        assert_eq!(page.texts(&mut house).len(), 1);
    }
    house.pass(seconds(10));
    // Keeping alive is not saying something, and a message that trickles in is none.
    opened.send(&mut house, "\r\n\r\n".to_owned());
    assert_eq!(opened.texts(&mut house).len(), 1);
    half.send_raw(&mut house, &[0x01, 0x81, 0, 0, 0, 0, b'S']);
    for _ in 0..7 {
        house.pass(seconds(5));
        half.send_raw(&mut house, &[0x00, 0x81, 0, 0, 0, 0, b'U']);
    }
    assert!(house.is_closed(silent));
    assert!(house.is_closed(half.id));
    assert!(!house.is_closed(idle.id));
    assert_eq!(half.last_code(&mut house), Some(1008));
    assert_eq!(opened.last_code(&mut house), Some(1008));
    house.pass(seconds(limits::STREAM_IDLE_SECONDS));
    assert_eq!(idle.last_code(&mut house), Some(1000));
    assert!(!house.is_closed(used.id));
    for (counter, count) in [
        (Counter::ConnectionSilent, 2),
        (Counter::ConnectionUnfinished, 1),
        (Counter::ConnectionIdle, 1),
    ] {
        assert_eq!(house.count(counter), count, "{counter:?}");
    }
    assert_ends_empty(house, &[&used], &[]);
}

#[test]
fn a_page_that_reads_nothing_is_held_the_newest_state_and_closed_when_it_stalls() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let mut edge = Browser::open(&mut house, 0, 4_000);
        for number in 0..300 {
            edge.send(
                &mut house,
                subscribe(&format!("p{number}"), "1001", 1, "", 3600),
            );
        }
        assert_eq!(edge.texts(&mut house).len(), 600);
        for round in 0..10 {
            let state = [HintState::Ringing, HintState::InUse][round % 2];
            house.set("1001", Some(state));
            house.pass(seconds(1));
            let most = limits::STREAM_QUEUE_BYTES + usize::from(shards) * 100_000;
            assert!(house.unread(edge.id) < most, "{}", house.unread(edge.id));
        }
        assert!(house.unread(edge.id) >= limits::STREAM_QUEUE_BYTES);
        house.set("1001", Some(HintState::Hold));
        // What waited goes out as it reads.
        let mut held = 0;
        for _ in 0..5 {
            let told = edge.texts(&mut house);
            house.pass(seconds(1));
            let shows = |text: &&String| text.contains("+sip.rendering");
            held += told.iter().filter(shows).count();
        }
        assert_eq!(held, 300);
        house.set("1001", Some(HintState::InUse));
        house.pass(seconds(limits::STREAM_STALL_SECONDS + 1));
        assert!(house.is_closed(edge.id));
        assert_eq!(house.count(Counter::ConnectionStalled), 1);
        assert_ends_empty(house, &[], &["1001"]);
    }
}

#[test]
fn a_page_that_pings_and_never_reads_is_closed_before_the_answers_fill_memory() {
    let mut house = House::new(&Settings::default(), 1);
    let mut page = Browser::open(&mut house, 0, 4_000);
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let mut sent = 0;
    while !house.is_closed(page.id) && sent < 10_000 {
        page.send_raw(&mut house, &ping);
        sent += 1;
    }
    assert!(house.is_closed(page.id), "{sent} pings");
    assert!(house.unread(page.id) <= limits::STREAM_QUEUE_BYTES_MAX + 200);
    assert_eq!(house.count(Counter::ConnectionFlooded), 1);
    assert_ends_empty(house, &[], &[]);
}
