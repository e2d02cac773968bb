//! NOTIFYs that do not fit into a datagram, against real shards with a simulated clock: they go by a connection that their
//! phone has open, and where it has none that takes and answers, they say less. Each is counted with what was done.

#[path = "streams/house.rs"]
mod house;

use std::time::Duration;

use house::{House, answer_of, header, subscribe, tag};
use lampfield::hint::{Call, CallState, HintState, HintUpdate, Party};
use lampfield::shard::census::Census;
use lampfield::stats::Counter;
use lampfield::transport::ConnectionId;
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, Settings};

/// With one shard, and with so many that hardly anything is owned where it arrives.
const SHARDS: [u16; 2] = [1, 4];
const DATAGRAMS: &str = "192.168.7.20:5060";
const CONNECTION: &str = "192.168.7.20:49152";
const NOTIFY_BYTES: usize = 1_300;

/// A SUBSCRIBE of one device, by whichever transport.
fn of_device(text: String) -> String {
    let instance = ">;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\"\r\nMax";
    text.replace(";transport=tcp>\r\nMax", instance)
        .replace(">\r\nMax", instance)
}

fn by_datagram(user: &str, cseq: u32, to_tag: &str, expires: u32) -> String {
    let text = subscribe("phone", user, DATAGRAMS, cseq, to_tag, expires);
    of_device(text.replace("/TCP", "/UDP").replace(";transport=tcp", ""))
}

/// A call with so many details that no datagram holds them.
fn long_call(user: &str, state: CallState) -> HintUpdate {
    let resource = format!("{user}@{DEFAULT_DOMAIN}");
    let mut update = HintUpdate::new(resource.as_str().into(), "test".into(), HintState::Ringing);
    let mut call = Call::bare("one", state);
    call.remote = Party {
        identity: format!("sip:{}@example.com", "i".repeat(300)).into(),
        display: "d".repeat(400).into(),
        target: format!("sip:{}@example.com", "t".repeat(300)).into(),
        held: false,
    };
    update.calls = vec![call];
    update
}

/// The phone watches 1001 by UDP and has a connection, by which it watches 1002 if `also`.
fn both(shards: u16, also: bool) -> (House, ConnectionId, String) {
    let mut house = House::new(&Settings::default(), shards);
    let connection = house.connect(shards - 1, CONNECTION);
    if also {
        let text = subscribe("phone", "1002", CONNECTION, 1, "", 3600);
        house.send(connection, of_device(text).as_bytes());
        assert_eq!(house.inbox(connection).len(), 2);
    }
    house.datagram(0, DATAGRAMS, &by_datagram("1001", 1, "", 3600));
    let sent = house.datagrams();
    assert!(sent[0].starts_with("SIP/2.0 200 "), "{sent:?}");
    let tag = tag(header(&sent[0], "To")).to_owned();
    answer(&mut house, &sent[1]);
    (house, connection, tag)
}

fn answer(house: &mut House, notify: &str) {
    assert!(notify.starts_with("NOTIFY "), "{notify}");
    house.datagram(0, DATAGRAMS, &answer_of(notify));
}

/// The phone unsubscribes and hangs up, hours pass: then every table must be empty.
fn assert_ends_empty(mut house: House, connection: ConnectionId, tag: &str) {
    if !tag.is_empty() {
        house.datagram(0, DATAGRAMS, &by_datagram("1001", 9, tag, 0));
    }
    if !house.is_closed(connection) {
        house.close(connection);
    }
    for user in ["1001", "1002"] {
        house.set(user, None);
    }
    house.pass(Duration::from_secs(3 * 3600));
    for census in house.census() {
        assert_eq!(census, Census::default());
    }
    assert_eq!(house.count(Counter::Bug), 0);
}

//= RFC 3261 18.1.1 type=test
#[test]
fn what_does_not_fit_goes_by_the_connection_that_the_phone_has_open() {
    for shards in SHARDS {
        let (mut house, connection, tag) = both(shards, true);
        house.say(long_call("1001", CallState::Early));
        assert!(house.datagrams().is_empty());
        let inbox = house.inbox(connection);
        assert_eq!(inbox.len(), 1, "{inbox:?}");
        let notify = &inbox[0];
        assert!(notify.len() > NOTIFY_BYTES, "{notify}");
        assert!(notify.contains(&"d".repeat(400)) && notify.contains(&"t".repeat(300)));
        assert!(
            header(notify, "Via").starts_with("SIP/2.0/TCP "),
            "{notify}"
        );
        // The dialog stays where it is: the next refresh comes by UDP.
        assert_eq!(header(notify, "Contact"), "<sip:192.0.2.1:5060>");
        assert_eq!(header(notify, "CSeq"), "2 NOTIFY");
        assert_eq!(house.count(Counter::OversizeByConnection), 1);
        // It was answered: what fits goes by a datagram again.
        house.set("1001", Some(HintState::Idle));
        let sent = house.datagrams();
        assert_eq!(header(&sent[0], "CSeq"), "3 NOTIFY");
        answer(&mut house, &sent[0]);
        assert_eq!(house.count(Counter::OversizeDetails), 0);
        assert_ends_empty(house, connection, &tag);
    }
}

#[test]
fn without_a_connection_of_its_own_a_phone_is_told_less_and_in_one_piece() {
    for shards in SHARDS {
        let (mut house, connection, tag) = both(shards, false);
        house.say(long_call("1001", CallState::Early));
        let sent = house.datagrams();
        assert_eq!(sent.len(), 1);
        assert!(sent[0].len() <= NOTIFY_BYTES && sent[0].contains("<state>early</state>"));
        assert!(!sent[0].contains(&"d".repeat(400)));
        answer(&mut house, &sent[0]);
        assert_eq!(house.count(Counter::OversizeDetails), 1);
        assert_eq!(house.count(Counter::OversizeByConnection), 0);
        assert!(house.inbox(connection).is_empty());
        assert_ends_empty(house, connection, &tag);
    }
}

#[test]
fn a_connection_that_closes_or_does_not_answer_is_no_way_and_the_lamp_is_right_all_the_same() {
    for shards in SHARDS {
        for closes in [true, false] {
            let (mut house, connection, tag) = both(shards, true);
            house.answers(connection, None);
            house.say(long_call("1001", CallState::Early));
            assert_eq!(house.inbox(connection).len(), 1);
            match closes {
                true => house.close(connection),
                false => house.pass(Duration::from_millis(600)),
            }
            let sent = house.datagrams();
            assert_eq!(sent.len(), 1, "{closes} {sent:?}");
            assert!(sent[0].len() <= NOTIFY_BYTES && sent[0].contains("<state>early</state>"));
            assert_eq!(header(&sent[0], "CSeq"), "3 NOTIFY");
            answer(&mut house, &sent[0]);
            // It is not tried again.
            house.say(long_call("1001", CallState::Confirmed));
            let sent = house.datagrams();
            assert!(sent[0].contains("<state>confirmed</state>"), "{sent:?}");
            answer(&mut house, &sent[0]);
            assert_eq!(house.count(Counter::SubscriptionNotifyTimeout), 0);
            assert_eq!(house.count(Counter::OversizeByConnection), 1);
            assert_eq!(house.count(Counter::OversizeDetails), 2);
            match closes {
                true => assert_ends_empty(house, connection, &tag),
                false => {
                    house.answers(connection, Some(200));
                    assert_ends_empty(house, connection, &tag);
                }
            }
        }
    }
}

#[test]
fn a_connection_that_takes_nothing_is_no_way() {
    for shards in SHARDS {
        let (mut house, connection, tag) = both(shards, true);
        house.reads(connection, false);
        // One NOTIFY lies there unread.
        house.set("1002", Some(HintState::Ringing));
        house.say(long_call("1001", CallState::Early));
        // The shard that has the connection sees that it is behind; another one that nothing is answered.
        if shards > 1 {
            house.pass(Duration::from_secs(1));
        }
        let sent = house.datagrams();
        let last = sent.last().expect("it is told");
        assert!(last.contains("<state>early</state>"), "{sent:?}");
        answer(&mut house, last);
        house.reads(connection, true);
        assert_ends_empty(house, connection, &tag);
    }
}

#[test]
fn headers_that_leave_no_room_at_all_are_sent_and_counted() {
    let mut house = House::new(&Settings::default(), 1);
    let connection = house.connect(0, CONNECTION);
    let text = by_datagram("1001", 1, "", 3600);
    let call_id = format!("Call-ID: {}\r\n", "c".repeat(500));
    let text = text.replace("Call-ID: phone-1001\r\n", &call_id);
    let from = format!("tag={}", "f".repeat(500));
    let text = text.replace("tag=f-phone-1001", &from);
    house.datagram(0, DATAGRAMS, &text);
    let sent = house.datagrams();
    assert!(sent[1].len() > NOTIFY_BYTES, "{}", sent[1].len());
    answer(&mut house, &sent[1]);
    assert_eq!(house.count(Counter::OversizeHeaders), 1);
    house.pass(Duration::from_secs(3700));
    let sent = house.datagrams();
    answer(&mut house, sent.last().expect("its end is told"));
    assert_ends_empty(house, connection, "");
}

#[test]
fn who_is_told_by_a_connection_is_told_everything() {
    for shards in SHARDS {
        let mut house = House::new(&Settings::default(), shards);
        let connection = house.connect(0, CONNECTION);
        let text = subscribe("phone", "1001", CONNECTION, 1, "", 3600);
        house.send(connection, text.as_bytes());
        house.inbox(connection);
        house.say(long_call("1001", CallState::Early));
        let inbox = house.inbox(connection);
        assert!(inbox[0].contains(&"d".repeat(400)), "{inbox:?}");
        assert_eq!(house.count(Counter::OversizeByConnection), 0);
        assert_ends_empty(house, connection, "");
    }
}
