//! Dialogs whose next hop is a host name, against real shards with a simulated clock: who is asked for, where NOTIFYs go, which
//! address comes next, and what becomes of everything where nobody answers.

#[path = "streams/house.rs"]
mod house;

use std::net::SocketAddr;
use std::time::Duration;

use house::{House, answer_of, header, subscribe, tag};
use lampfield::hint::HintState;
use lampfield::shard::census::Census;
use lampfield::stats::Counter;
use lampfield::transport::locate::Located;
use lampfield_sim::script::settings::Settings;

/// With one shard, and with so many that hardly anything is owned where it arrives.
const SHARDS: [u16; 2] = [1, 4];
/// The proxy that its name stands for; it sends from another address than it is reached at.
const SENDER: &str = "198.51.100.9:40000";
const FIRST: &str = "198.51.100.1:5060";
const SECOND: &str = "198.51.100.2:5060";
const MINUTE: Duration = Duration::from_secs(60);
/// 64·T1, and the ticks of the timers.
const T64: Duration = Duration::from_millis(32_100);

fn house(shards: u16, more: &[(&str, &str)]) -> House {
    let mut settings = Settings::default();
    settings.set("names", "on").unwrap();
    for (key, value) in more {
        settings.set(key, value).unwrap();
    }
    House::new(&settings, shards)
}

/// A SUBSCRIBE that came by a proxy, which has recorded itself by its name.
fn by_proxy(phone: &str, cseq: u32, to_tag: &str, expires: u32) -> String {
    let text = subscribe(phone, "1001", "10.0.0.9:5060", cseq, to_tag, expires);
    let text = text.replace("/TCP", "/UDP").replace(";transport=tcp", "");
    let proxy = format!(
        "Record-Route: <sip:SBC.example.com;lr>\r\n\
         Via: SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK-p-{phone}-{cseq};rport\r\nVia:"
    );
    text.replacen("Via:", &proxy, 1)
}

fn targets(list: &[&str]) -> Located {
    let parse = |text: &&str| text.parse().expect("an address and a port");
    Located::Targets(list.iter().map(parse).collect())
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Subscribes; the tag that the server gave.
fn join(house: &mut House, phone: &str) -> String {
    house.datagram(0, SENDER, &by_proxy(phone, 1, "", 3600));
    let sent = house.datagrams_with_peers();
    let (to, answer) = &sent[0];
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    assert_eq!(*to, address(SENDER), "answers need no name");
    let tag = tag(header(answer, "To")).to_owned();
    for (peer, notify) in &sent[1..] {
        reply(house, *peer, notify, "200");
    }
    tag
}

fn reply(house: &mut House, peer: SocketAddr, notify: &str, status: &str) {
    let answer = answer_of(notify).replacen("200", status, 1);
    house.datagram(0, &peer.to_string(), &answer);
}

/// The one NOTIFY that was sent since this was last asked, and where to; it is answered so.
fn told(house: &mut House, status: &str) -> (SocketAddr, String) {
    let mut sent = house.datagrams_with_peers();
    let (peer, notify) = sent.pop().expect("a NOTIFY");
    assert!(sent.is_empty() && notify.starts_with("NOTIFY "), "{sent:?}");
    if !status.is_empty() {
        reply(house, peer, &notify, status);
    }
    (peer, notify)
}

fn subscriptions(house: &mut House) -> usize {
    let census = house.census();
    census.iter().map(|census| census.subscriptions).sum()
}

/// Hours pass: then every table must be empty, names included.
fn assert_ends_empty(mut house: House) {
    house.set("1001", None);
    house.pass(3 * 60 * MINUTE);
    for census in house.census() {
        assert_eq!(census, Census::default());
    }
    assert_eq!(house.count(Counter::Bug), 0);
}

//= RFC 3263 4 type=test
#[test]
fn a_name_is_looked_up_once_and_again_when_its_time_is_over() {
    for shards in SHARDS {
        let mut house = house(shards, &[]);
        let tag = join(&mut house, "phone");
        let asked = house.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!((&*asked[0].host, asked[0].port), ("sbc.example.com", None));
        assert!(asked[0].v4 && asked[0].any_transport);
        assert!(house.datagrams().is_empty(), "nobody knows where");
        house.resolve(&targets(&[FIRST]), MINUTE);
        let (peer, notify) = told(&mut house, "200");
        assert_eq!(peer, address(FIRST));
        assert_eq!(header(&notify, "Route"), "<sip:SBC.example.com;lr>");
        house.set("1001", Some(HintState::Ringing));
        assert_eq!(told(&mut house, "200").0, address(FIRST));
        assert!(house.asked().is_empty());
        house.pass(MINUTE);
        house.set("1001", Some(HintState::Idle));
        assert_eq!(house.asked().len(), 1);
        house.resolve(&targets(&[SECOND]), MINUTE);
        assert_eq!(told(&mut house, "200").0, address(SECOND));
        house.datagram(0, SENDER, &by_proxy("phone", 2, &tag, 0));
        let sent = house.datagrams_with_peers();
        assert_eq!(sent[1].0, address(SECOND));
        reply(&mut house, sent[1].0, &sent[1].1, "200");
        assert_eq!(subscriptions(&mut house), 0);
        assert_ends_empty(house);
    }
}

#[test]
fn many_dialogs_wait_for_one_look_and_what_they_ask_for_meanwhile_is_answered() {
    let mut house = house(1, &[]);
    let tags: Vec<String> = (0..50)
        .map(|number| join(&mut house, &format!("p{number}")))
        .collect();
    assert_eq!(house.asked().len(), 1);
    // One is refreshed, one gives up, and the state changes twice.
    house.datagram(0, SENDER, &by_proxy("p0", 2, &tags[0], 600));
    house.datagram(0, SENDER, &by_proxy("p1", 2, &tags[1], 0));
    let sent = house.datagrams();
    assert!(
        sent.iter().all(|text| text.starts_with("SIP/2.0 200 ")),
        "{sent:?}"
    );
    house.set("1001", Some(HintState::InUse));
    house.set("1001", Some(HintState::Ringing));
    house.pass(Duration::from_secs(5));
    assert_eq!(house.asked().len(), 1);
    house.resolve(&targets(&[FIRST]), 60 * MINUTE);
    let sent = house.datagrams_with_peers();
    assert_eq!(sent.len(), 50);
    for (peer, notify) in &sent {
        assert!(notify.contains("<state>early</state>"), "{notify}");
        reply(&mut house, *peer, notify, "200");
    }
    assert_eq!(subscriptions(&mut house), 49);
    house.pass(60 * MINUTE);
    for (peer, notify) in house.datagrams_with_peers() {
        reply(&mut house, peer, &notify, "200");
    }
    assert_ends_empty(house);
}

//= RFC 3263 4.3 type=test
#[test]
fn a_resolver_that_does_not_answer_costs_nobody_else_anything_and_ends_who_waits_for_it() {
    for shards in SHARDS {
        for dead in ["silent", "unknown"] {
            for on_timeout in ["remove", "park"] {
                let mut house = house(shards, &[("on_timeout", on_timeout)]);
                join(&mut house, "phone");
                // A phone that needs no name.
                let other = subscribe("other", "1001", "198.51.100.77:5060", 1, "", 3600);
                let other = other.replace("/TCP", "/UDP").replace(";transport=tcp", "");
                house.datagram(0, "198.51.100.77:5060", &other);
                let (peer, first) = house.datagrams_with_peers().pop().expect("a NOTIFY");
                reply(&mut house, peer, &first, "200");
                house.set("1001", Some(HintState::Ringing));
                assert_eq!(told(&mut house, "200").0, peer);
                let mut asked = 0;
                for _ in 0..34 {
                    house.pass(Duration::from_secs(1));
                    asked += house.asked().len();
                    if dead == "unknown" {
                        house.resolve(&Located::Unknown, Duration::ZERO);
                    }
                }
                assert!(dead == "silent" || (10..20).contains(&asked), "{asked}");
                let ended = house.count(Counter::SubscriptionNotifyFailed);
                let parked = house.count(Counter::SubscriptionParked);
                match on_timeout {
                    "remove" => assert_eq!((ended, parked), (1, 0), "{dead}"),
                    _ => assert_eq!((ended, parked), (0, 1), "{dead}"),
                }
                house.pass(60 * MINUTE);
                let (peer, last) = house.datagrams_with_peers().pop().expect("its end");
                reply(&mut house, peer, &last, "200");
                assert_ends_empty(house);
            }
        }
    }
}

#[test]
fn what_was_known_is_good_until_a_resolver_answers_again() {
    let mut house = house(1, &[]);
    join(&mut house, "phone");
    house.resolve(&targets(&[FIRST]), MINUTE);
    told(&mut house, "200");
    house.pass(2 * MINUTE);
    house.set("1001", Some(HintState::Ringing));
    house.resolve(&Located::Unknown, Duration::ZERO);
    assert_eq!(told(&mut house, "200").0, address(FIRST));
    // From now on nobody waits for it.
    for state in [HintState::InUse, HintState::Idle, HintState::Ringing] {
        house.pass(MINUTE);
        house.set("1001", Some(state));
        assert_eq!(told(&mut house, "200").0, address(FIRST));
        house.resolve(&Located::Unknown, Duration::ZERO);
    }
    house.pass(MINUTE);
    house.set("1001", Some(HintState::Idle));
    told(&mut house, "200");
    house.resolve(&targets(&[SECOND]), MINUTE);
    house.set("1001", Some(HintState::Ringing));
    assert_eq!(told(&mut house, "200").0, address(SECOND));
    house.resolve(&Located::Nowhere, MINUTE);
    house.pass(2 * MINUTE);
    house.set("1001", Some(HintState::Idle));
    house.resolve(&Located::Nowhere, MINUTE);
    assert_eq!(house.count(Counter::SubscriptionNotifyFailed), 1);
    assert_ends_empty(house);
}

#[test]
fn a_name_that_is_nowhere_ends_its_dialogs_and_is_asked_for_again_later() {
    let mut house = house(1, &[]);
    join(&mut house, "phone");
    house.resolve(&Located::Nowhere, MINUTE);
    assert_eq!(subscriptions(&mut house), 0);
    join(&mut house, "phone2");
    assert!(house.asked().is_empty());
    assert_eq!(subscriptions(&mut house), 0);
    house.pass(MINUTE);
    join(&mut house, "phone3");
    assert_eq!(house.asked().len(), 1);
    house.resolve(&targets(&[FIRST]), MINUTE);
    told(&mut house, "481");
    assert_ends_empty(house);
}

//= RFC 3263 4.3 type=test
#[test]
fn the_next_address_is_tried_when_one_does_not_answer_or_says_503() {
    for (how, wait) in [("503", Duration::ZERO), ("", T64)] {
        let mut house = house(1, &[]);
        join(&mut house, "phone");
        house.resolve(&targets(&[FIRST, SECOND]), 60 * MINUTE);
        let (peer, notify) = told(&mut house, how);
        assert_eq!(peer, address(FIRST));
        assert_eq!(header(&notify, "CSeq"), "1 NOTIFY");
        house.pass(wait);
        let (peer, notify) = house.datagrams_with_peers().pop().expect("another one");
        assert_eq!(
            (peer, header(&notify, "CSeq")),
            (address(SECOND), "2 NOTIFY")
        );
        reply(&mut house, peer, &notify, "200");
        // Others go there at once.
        join(&mut house, "second");
        house.set("1001", Some(HintState::Ringing));
        let sent = house.datagrams_with_peers();
        assert_eq!(sent.len(), 2);
        for (peer, notify) in &sent {
            assert_eq!(*peer, address(SECOND));
            reply(&mut house, *peer, notify, "503");
        }
        // None is left: it has failed.
        assert_eq!(subscriptions(&mut house), 0, "{how}");
        assert_eq!(house.count(Counter::NameNextTarget), 1);
        // Each in its turn is tried again, and one that answers is good.
        let mut tried = Vec::new();
        for number in 0..2 {
            house.datagram(0, SENDER, &by_proxy(&format!("late{number}"), 1, "", 60));
            let (peer, notify) = house.datagrams_with_peers().pop().expect("a NOTIFY");
            tried.push(peer);
            reply(
                &mut house,
                peer,
                &notify,
                if number == 0 { "503" } else { "200" },
            );
        }
        tried.sort_unstable();
        assert_eq!(tried, [address(FIRST), address(SECOND)]);
        house.pass(MINUTE + T64);
        assert_ends_empty(house);
    }
}

#[test]
fn nothing_is_sent_to_an_address_that_nobody_may_mean() {
    let bad = [
        "127.0.0.1:5060",
        "224.0.1.75:5060",
        "192.0.2.1:5060",
        "0.0.0.0:5060",
        "198.51.100.1:0",
    ];
    let mut house = house(1, &[]);
    join(&mut house, "phone");
    let list = [&bad[..], &[SECOND]].concat();
    house.resolve(&targets(&list), 60 * MINUTE);
    assert_eq!(told(&mut house, "481").0, address(SECOND));
    house.pass(60 * MINUTE);
    house.pass(61 * MINUTE);
    join(&mut house, "phone");
    house.resolve(&targets(&bad), MINUTE);
    assert!(house.datagrams().is_empty());
    assert_eq!(subscriptions(&mut house), 0);
    assert_ends_empty(house);
}

#[test]
fn a_name_that_cannot_be_known_is_refused_and_so_is_every_one_where_none_is_looked_up() {
    let mut house = house(1, &[]);
    let text = by_proxy("phone", 1, "", 600).replace("SBC.example.com", "7f3a.invalid");
    house.datagram(0, SENDER, &text);
    let text = by_proxy("phone", 1, "", 600).replace(";lr>", ";lr;transport=tcp>");
    house.datagram(0, SENDER, &text);
    let mut off = House::new(&Settings::default(), 1);
    off.datagram(0, SENDER, &by_proxy("phone", 1, "", 600));
    for text in [house.datagrams(), off.datagrams()].concat() {
        assert!(text.starts_with("SIP/2.0 501 "), "{text}");
    }
    assert!(house.asked().is_empty() && off.asked().is_empty());
    assert_ends_empty(house);
}
