//! Edges that come by connections: when one of theirs ends, all of their phones' dialogs go on by another one.

use std::collections::BTreeMap;

use super::{SHARDS, assert_ends_empty, notifies, second};
use crate::house::{House, header, subscribe, tag};
use lampfield::config::limits;
use lampfield::hint::HintState;
use lampfield::stats::Counter;
use lampfield::transport::{ConnectionId, ListenerId};
use lampfield_sim::script::settings::{STREAM, Settings};

/// Where the edge listens, and what it writes into Via and Record-Route.
const NAME: &str = "203.0.113.9:5060";
const PHONES: usize = 300;
/// One connection of it, and another one.
const FIRST: &str = "203.0.113.9:40000";
const SECOND: &str = "203.0.113.9:40001";

/// The listener of those that come by TLS, and what an edge is called there.
const SECURE: ListenerId = ListenerId(4);
const HOST: &str = "sbc.example.com:5061";

fn secure_settings() -> Settings {
    let mut settings = Settings::default();
    for (key, value) in [
        ("listener", "secure 192.0.2.1:5061 tls"),
        ("edge_name", "sbc.example.com"),
        ("edge", "203.0.113.9"),
    ] {
        settings.set(key, value).expect("a setting");
    }
    settings
}

/// The same by TLS, with a wish to be reached so.
fn secured(text: &str, alias: bool) -> String {
    let text = text.replace("SIP/2.0/TCP", "SIP/2.0/TLS");
    let text = text.replace("transport=tcp", "transport=tls");
    let via = format!("{HOST};");
    let asks = if alias {
        format!("{via}alias;")
    } else {
        via.clone()
    };
    text.replacen(&via, &asks, 1)
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.set("edge", "203.0.113.0/24").expect("a setting");
    settings
}

/// A phone's SUBSCRIBE, as an edge of that name passes it on.
fn through(name: &str, text: &str) -> String {
    let via = format!("Via: SIP/2.0/TCP {name};branch=z9hG4bK-e");
    let record = format!("Record-Route: <sip:{name};transport=tcp;lr>\r\nMax-Forwards:");
    let text = text.replacen("Via: ", &format!("{via}\r\nVia: "), 1);
    text.replacen("Max-Forwards:", &record, 1)
}

/// What an edge of that name says of itself.
fn ping(name: &str) -> String {
    let text = subscribe("edge", "edge", name, 1, "", 0);
    text.replace("SUBSCRIBE", "OPTIONS")
}

/// The SUBSCRIBE of one of many phones.
fn phone(number: usize) -> String {
    let contact = format!("192.168.7.{}:5060", number % 250);
    subscribe(&format!("p{number}"), "1001", &contact, 1, "", 3600)
}

/// An edge has passed on that many phones' requests by a new connection.
fn come(house: &mut House, phones: usize) -> ConnectionId {
    let edge = house.connect(0, FIRST);
    for number in 0..phones {
        house.send(edge, through(NAME, &phone(number)).as_bytes());
    }
    assert_eq!(notifies(&house.inbox(edge)).len(), phones);
    edge
}

/// Its connection ends, and it does not see what changes.
fn go(house: &mut House, edge: ConnectionId) {
    house.close(edge);
    house.set("1001", Some(HintState::Ringing));
}

/// It has another connection, which one of all shards has accepted, and says who it is.
fn come_back(house: &mut House, shard: u16) -> ConnectionId {
    let edge = house.connect(shard, SECOND);
    house.send(edge, ping(NAME).as_bytes());
    edge
}

/// The last that each phone was told, by Call-ID.
fn told(inbox: &[String]) -> BTreeMap<&str, &str> {
    let all = notifies(inbox).into_iter();
    all.map(|notify| (header(notify, "Call-ID"), notify))
        .collect()
}

#[test]
fn an_edge_that_is_back_takes_all_its_phones_along() {
    for shards in SHARDS {
        let mut house = House::new(&settings(), shards);
        let first = come(&mut house, PHONES);
        let quiet = subscribe("quiet", "1002", "192.168.7.9:5060", 1, "", 3600);
        house.send(first, through(NAME, &quiet).as_bytes());
        house.inbox(first);
        go(&mut house, first);
        house.pass(60 * second());
        let back = come_back(&mut house, shards - 1);
        let inbox = house.inbox(back);
        let shown = told(&inbox);
        assert_eq!(shown.len(), PHONES, "who is owed nothing is not told");
        assert!(shown.values().all(|notify| notify.contains("early")));
        let route = format!("<sip:{NAME};transport=tcp;lr>");
        for notify in shown.values() {
            assert_eq!(header(notify, "Route"), route);
            assert_eq!(header(notify, "CSeq"), "2 NOTIFY");
        }
        // From now on changes go by it at once, to all of them.
        house.set("1002", Some(HintState::InUse));
        house.set("1001", Some(HintState::InUse));
        let inbox = house.inbox(back);
        assert_eq!(told(&inbox).len(), PHONES + 1);
        let followed = house.count(Counter::SubscriptionFollowed);
        assert_eq!(followed, PHONES as u64 + 1);
        assert_ends_empty(house, &[back], &["1001", "1002"]);
    }
}

#[test]
fn another_connection_of_the_same_edge_takes_over_at_once() {
    for shards in SHARDS {
        for on_close in ["keep", "end"] {
            let mut settings = settings();
            settings.set("on_close", on_close).expect("a setting");
            let mut house = House::new(&settings, shards);
            let first = come(&mut house, 20);
            let older = come_back(&mut house, shards / 2);
            let newer = come_back(&mut house, shards - 1);
            // While theirs lives, nothing goes elsewhere.
            house.answers(first, None);
            house.set("1001", Some(HintState::Ringing));
            assert_eq!(told(&house.inbox(first)).len(), 20);
            house.inbox(newer);
            house.close(first);
            // What was not answered is told again.
            let inbox = house.inbox(newer);
            assert_eq!(told(&inbox).len(), 20);
            assert!(notifies(&house.inbox(older)).is_empty());
            house.close(newer);
            house.set("1001", Some(HintState::InUse));
            assert_eq!(told(&house.inbox(older)).len(), 20);
            assert_eq!(house.count(Counter::SubscriptionParked), 0);
            assert_ends_empty(house, &[older], &["1001"]);
        }
    }
}

#[test]
fn nobody_but_the_same_edge_takes_over() {
    for shards in SHARDS {
        let mut settings = settings();
        settings.set("edge", "198.51.100.7").expect("a setting");
        let mut house = House::new(&settings, shards);
        let first = come(&mut house, 10);
        go(&mut house, first);
        let mut others = Vec::new();
        for (address, name) in [
            // A phone, another edge, and another proxy on the same host.
            ("192.0.2.77:40000", NAME),
            ("198.51.100.7:40000", NAME),
            (SECOND, "203.0.113.9:5070"),
        ] {
            let other = house.connect(shards - 1, address);
            house.send(other, ping(name).as_bytes());
            assert!(notifies(&house.inbox(other)).is_empty(), "{address} {name}");
            // A phone that writes a route is a phone all the same.
            let text = subscribe("intruder", "1003", address, 1, "", 600);
            house.send(other, through(name, &text).as_bytes());
            let inbox = house.inbox(other);
            let shown = told(&inbox);
            assert_eq!(shown.into_keys().collect::<Vec<_>>(), ["intruder-1003"]);
            others.push(other);
        }
        // One that says nothing is nobody yet.
        let silent = house.connect(0, SECOND);
        assert!(house.inbox(silent).is_empty());
        others.push(silent);
        assert_eq!(house.count(Counter::SubscriptionFollowed), 0);
        let back = come_back(&mut house, 0);
        assert_eq!(told(&house.inbox(back)).len(), 10);
        others.push(back);
        assert_ends_empty(house, &others, &["1001"]);
    }
}

#[test]
fn a_phone_that_came_from_where_edges_are_listed_is_no_edges() {
    for shards in SHARDS {
        let mut house = House::new(&settings(), shards);
        let phone = house.connect(0, "203.0.113.50:40000");
        let text = subscribe("phone", "1001", "192.168.7.9:5060", 1, "", 600);
        house.send(phone, text.as_bytes());
        go(&mut house, phone);
        // It has the same address as seen from here, and the same Contact.
        let other = house.connect(0, "203.0.113.50:40001");
        let text = subscribe("other", "1002", "192.168.7.9:5060", 1, "", 600);
        house.send(other, text.as_bytes());
        let inbox = house.inbox(other);
        let shown = told(&inbox);
        assert_eq!(shown.into_keys().collect::<Vec<_>>(), ["other-1002"]);
        assert_ends_empty(house, &[other], &["1001"]);
    }
}

#[test]
fn an_edge_that_speaks_for_its_phones_is_known_by_their_contacts() {
    for shards in SHARDS {
        let mut house = House::new(&settings(), shards);
        let first = house.connect(0, FIRST);
        for number in 0..10 {
            let text = subscribe(&format!("p{number}"), "1001", NAME, 1, "", 600);
            house.send(first, text.as_bytes());
        }
        go(&mut house, first);
        let back = house.connect(shards - 1, SECOND);
        // One phone's request is enough for all of them.
        let text = subscribe("p10", "1002", NAME, 1, "", 600);
        house.send(back, text.as_bytes());
        assert_eq!(told(&house.inbox(back)).len(), 11);
        assert_ends_empty(house, &[back], &["1001"]);
    }
}

#[test]
fn an_edge_that_records_another_name_than_it_sends_by_is_known_by_both() {
    for shards in SHARDS {
        let mut house = House::new(&settings(), shards);
        let first = house.connect(0, FIRST);
        let by_name = |number: usize| {
            let from = format!("Record-Route: <sip:{NAME};");
            let named = "Record-Route: <sip:Edge.Example.com;";
            through(NAME, &phone(number)).replace(&from, named)
        };
        for number in 0..10 {
            house.send(first, by_name(number).as_bytes());
        }
        go(&mut house, first);
        let back = come_back(&mut house, shards - 1);
        assert!(notifies(&house.inbox(back)).is_empty());
        house.send(back, by_name(10).as_bytes());
        assert_eq!(told(&house.inbox(back)).len(), 11);
        assert_ends_empty(house, &[back], &["1001"]);
    }
}

#[test]
fn a_phone_that_does_not_answer_is_not_asked_because_its_edge_is_back() {
    for shards in SHARDS {
        let mut settings = settings();
        settings.set("on_timeout", "park").expect("a setting");
        let mut house = House::new(&settings, shards);
        let first = house.connect(0, FIRST);
        let text = subscribe("phone", "1001", "192.168.7.9:5060", 1, "", 600);
        house.send(first, through(NAME, &text).as_bytes());
        let inbox = house.inbox(first);
        let answer = inbox.iter().find(|text| text.starts_with("SIP/2.0 200 "));
        let its_tag = tag(header(answer.expect("an answer"), "To")).to_owned();
        house.answers(first, None);
        house.set("1001", Some(HintState::Ringing));
        house.pass(40 * second());
        assert_eq!(house.count(Counter::SubscriptionParked), 1);
        house.close(first);
        let back = come_back(&mut house, shards - 1);
        assert!(notifies(&house.inbox(back)).is_empty());
        // It is there again itself.
        let text = subscribe("phone", "1001", "192.168.7.9:5060", 2, &its_tag, 600);
        house.send(back, through(NAME, &text).as_bytes());
        assert_eq!(told(&house.inbox(back)).len(), 1);
        assert_ends_empty(house, &[back], &["1001"]);
    }
}

#[test]
fn shards_forget_an_edges_connection_that_nobody_is_told_by_and_is_closed() {
    for shards in SHARDS {
        let mut house = House::new(&settings(), shards);
        let edge = come_back(&mut house, 0);
        assert!(house.census().iter().all(|census| census.edges == 1));
        house.pass((limits::STREAM_IDLE_SECONDS as u32 + 10) * second());
        assert!(house.is_closed(edge));
        assert!(house.census().iter().all(|census| census.edges == 0));
        assert_ends_empty(house, &[], &[]);
    }
}

//= RFC 5626 5.3.1 type=test
#[test]
fn an_edge_whose_flow_to_a_phone_has_failed_ends_that_dialog_and_no_other() {
    for shards in SHARDS {
        let mut house = House::new(&settings(), shards);
        let edge = come(&mut house, 1);
        let text = subscribe("other", "1002", "192.168.7.9:5060", 1, "", 3600);
        house.send(edge, through(NAME, &text).as_bytes());
        house.answers(edge, Some(430));
        house.set("1001", Some(HintState::Ringing));
        house.answers(edge, Some(200));
        house.inbox(edge);
        house.set("1001", Some(HintState::InUse));
        house.set("1002", Some(HintState::InUse));
        let inbox = house.inbox(edge);
        let shown = told(&inbox);
        assert_eq!(shown.into_keys().collect::<Vec<_>>(), ["other-1002"]);
        assert_eq!(house.count(Counter::SubscriptionNotifyFailed), 1);
        assert_ends_empty(house, &[edge], &["1001", "1002"]);
    }
}

//= RFC 5923 5 type=test
#[test]
fn an_alias_whose_host_a_certificate_proves_takes_what_goes_to_that_host() {
    for shards in SHARDS {
        let mut house = House::new(&secure_settings(), shards);
        // Its phones came by it from an address that is nobody's, and by one that is listed, too.
        let mut firsts = Vec::new();
        for (address, phones) in [("198.51.100.1:40000", 0..5), (FIRST, 5..10)] {
            let first = house.connect_to(SECURE, 0, address);
            for number in phones {
                let text = secured(&through(HOST, &phone(number)), false);
                house.send(first, text.as_bytes());
            }
            firsts.push(first);
        }
        for first in firsts {
            house.close(first);
        }
        house.set("1001", Some(HintState::Ringing));
        let mut others = Vec::new();
        for (listener, names, alias) in [
            // Nothing proved; another name; a wildcard; no alias; no TLS.
            (SECURE, &[][..], true),
            (SECURE, &["other.example.com"][..], true),
            (SECURE, &["*.example.com"][..], true),
            (SECURE, &["sbc.example.com"][..], false),
            (STREAM, &["sbc.example.com"][..], true),
        ] {
            for address in ["198.51.100.2:40000", SECOND] {
                let other = house.connect_to(listener, shards - 1, address);
                house.proves(other, names);
                let mut text = secured(&ping(HOST), alias);
                if listener == STREAM {
                    text = text.replace("SIP/2.0/TLS", "SIP/2.0/TCP");
                }
                house.send(other, text.as_bytes());
                let inbox = house.inbox(other);
                assert!(inbox[0].starts_with("SIP/2.0 200 "), "{inbox:?}");
                assert!(notifies(&inbox).is_empty(), "{names:?} {alias} {inbox:?}");
                others.push(other);
            }
        }
        assert_eq!(house.count(Counter::SubscriptionFollowed), 0);
        let back = house.connect_to(SECURE, shards - 1, "198.51.100.3:40000");
        house.proves(back, &["www.example.com", "SBC.example.com"]);
        house.send(back, secured(&ping(HOST), true).as_bytes());
        assert_eq!(told(&house.inbox(back)).len(), 10);
        house.set("1001", Some(HintState::InUse));
        assert_eq!(told(&house.inbox(back)).len(), 10);
        others.push(back);
        assert_ends_empty(house, &others, &["1001"]);
    }
}
