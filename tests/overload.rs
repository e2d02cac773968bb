//! A shard that has more to do than it can: what it keeps, what it refuses, in which order, and in which words. No kernel,
//! no clock.

#[path = "support/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::partition::ShardId;
use lampfield::shard::admission::Level;
use lampfield::shard::control::Ask;
use lampfield::stats::{Counter, Gauge};
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, ListenerId};
use lampfield_sim::edge::{Datagram, Edge, Parcel};
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::world::reply;
use site::{Site, subscribe};

/// So many NOTIFYs may be on their way, and so many more wait.
const IN_FLIGHT: usize = 128;
const WAITING: usize = 40;

struct House {
    site: Site,
    phones: usize,
}

impl House {
    fn new(more: &[(&str, &str)]) -> Self {
        let mut settings = Settings::default();
        let in_flight = IN_FLIGHT.to_string();
        let waiting = WAITING.to_string();
        let own = [
            ("in_flight_max", in_flight.as_str()),
            ("notifies_waiting", waiting.as_str()),
        ];
        for (key, value) in own.iter().chain(more) {
            settings.set(key, value).expect("a setting");
        }
        House {
            site: Site::new(&settings),
            phones: 0,
        }
    }

    fn address() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 77], 5060))
    }

    /// A request, and the answer to it. The NOTIFYs that go out then are answered by nobody.
    fn ask(&mut self, bytes: &[u8]) -> Message {
        let sent = self.site.receive(House::address(), bytes);
        self.site.pass(Duration::ZERO);
        assert_eq!(self.site.complaint(), None);
        let answer = sent.iter().find(|sent| sent.bytes.starts_with(b"SIP/2.0"));
        read(answer.expect("nothing is left without an answer"))
    }

    fn request(&mut self, expires: u32) -> Vec<u8> {
        let name = format!("phone{}", self.phones);
        self.phones += 1;
        subscribe(&name, House::address(), 1, "", expires)
    }

    fn new_phone(&mut self) -> Message {
        let request = self.request(3600);
        self.ask(&request)
    }

    /// Until so many phones wait for their NOTIFYs.
    fn fill(&mut self, waiting: usize) {
        while self.site.census().ready < waiting {
            assert_eq!(self.new_phone().status(), Some(200));
        }
    }

    fn refused(&mut self, counter: Counter) -> u64 {
        self.site.figures().stats.get(counter)
    }
}

fn read(datagram: &Datagram) -> Message {
    Message::read_loosely(&datagram.bytes)
}

fn with_two_vias(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).expect("a text");
    let via = "\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-below\r\nFrom:";
    text.replacen("\r\nFrom:", via, 1).into_bytes()
}

#[test]
fn a_fetch_is_refused_before_a_new_phone_and_a_refresh_never() {
    let mut house = House::new(&[]);
    let first = house.new_phone();
    let tag = first.tag("To").expect("a dialog").to_owned();
    house.fill(WAITING / 2);
    let fetch = house.request(0);
    assert_eq!(house.ask(&fetch).status(), Some(503));
    assert_eq!(house.new_phone().status(), Some(200));
    house.fill(WAITING * 9 / 10);
    let before = house.site.census();
    for _ in 0..100 {
        assert_eq!(house.new_phone().status(), Some(503));
    }
    assert_eq!(house.site.census(), before, "a refusal keeps nothing");
    let address = House::address();
    for cseq in 2..50 {
        let refresh = subscribe("phone0", address, cseq, &tag, 3600);
        assert_eq!(house.ask(&refresh).status(), Some(200), "{cseq}");
    }
    assert_eq!(house.refused(Counter::RefusedFetchNotifies), 1);
    assert_eq!(house.refused(Counter::RefusedNewNotifies), 100);
    let level = house.site.figures().gauges.get(Gauge::LoadLevel);
    assert_eq!(level, Level::Full as u64);
}

#[test]
fn who_must_prove_a_name_and_does_not_try_is_refused_before_who_does() {
    let mut house = House::new(&[("user", "phone:secret")]);
    for _ in 0..300 {
        house.site.waited(Duration::from_millis(80));
        house.site.pass(Duration::from_millis(1));
    }
    let challenged = house.request(3600);
    assert_eq!(house.ask(&challenged).status(), Some(503));
    assert_eq!(house.refused(Counter::RefusedUnprovenInput), 1);
    // A proof that is none is looked at, and asked for anew.
    let text = String::from_utf8(challenged).expect("a text");
    let tries = text.replacen(
        "\r\nEvent:",
        "\r\nAuthorization: Digest username=\"phone\", realm=\"example.com\", nonce=\"x\", uri=\"sip:a\", response=\"y\"\r\nEvent:",
        1,
    );
    assert_eq!(house.ask(tries.as_bytes()).status(), Some(401));
}

#[test]
fn the_refused_are_told_to_come_back_each_at_a_time_of_its_own() {
    let mut house = House::new(&[("retry_after", "7 16")]);
    house.fill(WAITING * 9 / 10);
    let mut seconds = BTreeSet::new();
    for _ in 0..200 {
        let refused = house.new_phone();
        let after = refused.header("Retry-After").expect("it is said when");
        seconds.insert(after.parse::<u32>().expect("a number"));
        assert!(refused.tag("To").is_some_and(|tag| !tag.is_empty()));
    }
    assert_eq!(seconds, (7..=16).collect());
}

#[test]
fn a_proxy_is_told_that_this_request_failed_and_not_that_the_server_did() {
    for (edge, vias, status) in [
        (None, 1, 503),
        (None, 2, 500),
        (Some("192.0.2.77"), 1, 500),
        (Some("192.0.2.77"), 2, 500),
        (Some("192.0.2.77 503"), 1, 503),
        (Some("192.0.2.77 503"), 2, 503),
    ] {
        let more: Vec<_> = edge.into_iter().map(|edge| ("edge", edge)).collect();
        let mut house = House::new(&more);
        house.fill(WAITING * 9 / 10);
        let mut request = house.request(3600);
        if vias == 2 {
            request = with_two_vias(&request);
        }
        let refused = house.ask(&request);
        assert_eq!(refused.status(), Some(status), "{edge:?} {vias}");
        // The same again under the same tag: nothing remembers it.
        let again = house.ask(&request);
        assert_eq!(refused.tag("To"), again.tag("To"));
    }
}

#[test]
fn when_the_work_is_done_everybody_is_served_again() {
    let mut house = House::new(&[]);
    house.fill(WAITING * 9 / 10);
    assert_eq!(house.new_phone().status(), Some(503));
    // What nobody answers holds its place for half a second.
    house.site.pass(Duration::from_secs(2));
    assert_eq!(house.site.census().ready, 0);
    assert_eq!(house.new_phone().status(), Some(200));
    assert_eq!(house.site.figures().gauges.get(Gauge::LoadLevel), 0);
}

/// Each from another address of its own, and each a name that nobody has proved.
#[test]
fn whoever_does_not_prove_a_name_leaves_nothing_behind() {
    let mut house = House::new(&[("user", "phone:secret"), ("quota", "source requests 50")]);
    let before = house.site.census();
    let mut challenged = 0;
    for number in 0..20_000_u32 {
        let [_, high, middle, low] = number.to_be_bytes();
        let address = SocketAddr::from(([10, high, middle, low], 5060));
        let request = subscribe(&format!("spray{number}"), address, 1, "", 3600);
        let sent = house.site.receive(address, &request);
        challenged += usize::from(sent[0].bytes.starts_with(b"SIP/2.0 401"));
    }
    assert_eq!(house.site.census(), before);
    assert_eq!(challenged, 20_000, "nobody is refused for the others");
    assert_eq!(house.site.complaint(), None);
    // One address that asks as often is.
    let answers: Vec<_> = (0..2_000)
        .map(|_| {
            let request = house.request(3600);
            house.ask(&request).status()
        })
        .collect();
    let refused = answers.iter().filter(|status| **status == Some(503));
    assert_eq!(
        refused.count() as u64,
        house.refused(Counter::LimitRequestsPerSource)
    );
    // Its burst is ten seconds' worth, less what the spray took of its two cells.
    let refused = house.refused(Counter::LimitRequestsPerSource);
    assert!((1_500..1_520).contains(&refused), "{refused}");
}

/// Each limit of a domain, and the requests of a user: the answer of one too many, and its counter.
#[test]
fn what_a_domain_and_a_user_may_not_have_is_counted_under_its_own_name() {
    for (quota, counter) in [
        (
            "domain subscriptions 1",
            Counter::LimitSubscriptionsPerDomain,
        ),
        (
            "of example.com subscriptions 1",
            Counter::LimitSubscriptionsPerDomain,
        ),
        // Ten times as many at once.
        ("domain requests 1", Counter::LimitRequestsPerDomain),
        ("of example.com requests 1", Counter::LimitRequestsPerDomain),
    ] {
        let mut house = House::new(&[("quota", quota)]);
        let taken = if quota.contains("requests") { 10 } else { 1 };
        for _ in 0..taken {
            assert_eq!(house.new_phone().status(), Some(200), "{quota}");
        }
        let refused = house.new_phone();
        assert_eq!(refused.status(), Some(503), "{quota}");
        assert!(refused.header("Retry-After").is_some());
        assert_eq!(house.refused(counter), 1, "{quota}");
    }
    let mut house = House::new(&[("quota", "user requests 1")]);
    for cseq in 1..=11 {
        let request = subscribe("one", House::address(), cseq, "", 3600);
        let status = if cseq < 11 { 200 } else { 503 };
        assert_eq!(house.ask(&request).status(), Some(status), "{cseq}");
    }
    assert_eq!(house.refused(Counter::LimitRequestsPerUser), 1);
    assert_eq!(house.new_phone().status(), Some(200), "another user");
}

/// What they hold in the window is free again only after T1, and there are many of them.
#[test]
fn phones_that_do_not_answer_keep_no_lamp_from_one_that_does() {
    let mut house = House::new(&[("notifies_waiting", "4000")]);
    let live = SocketAddr::from(([192, 0, 2, 99], 5060));
    let sent = house
        .site
        .receive(live, &subscribe("live", live, 1, "", 3600));
    house.site.converse(sent, |_, message| {
        message.method().map(|_| reply(message, 200, None))
    });
    for _ in 0..1_500 {
        assert_eq!(house.new_phone().status(), Some(200));
    }
    assert!(house.site.census().ready > 1_000);
    let at_once = house.site.set("1001", Some(HintState::Ringing));
    let soon = house.site.pass(Duration::from_millis(100));
    let sent = at_once
        .into_iter()
        .chain(soon.into_iter().map(|(_, sent)| sent));
    let told = |sent: &Datagram| sent.peer == live && read(sent).method() == Some("NOTIFY");
    assert!(sent.into_iter().any(|sent| told(&sent)));
    // And those that were silent have their turn all the same.
    house.site.pass(Duration::from_secs(8));
    assert_eq!(house.site.census().ready, 0);
}

/// That is no limit which an operator could raise.
#[test]
fn who_comes_while_the_server_ends_is_refused_as_that_and_not_by_a_limit() {
    let mut house = House::new(&[]);
    assert_eq!(house.new_phone().status(), Some(200));
    let within = Duration::from_secs(10);
    house.site.mail(Ask::Drain { within });
    assert_eq!(house.new_phone().status(), Some(503));
    let counted = [Counter::RefusedStopping, Counter::LimitSubscriptions];
    assert_eq!(counted.map(|counter| house.refused(counter)), [1, 0]);
}

/// The one that everything comes in at, and the other.
const HERE: ShardId = ShardId(0);
const THERE: ShardId = ShardId(1);

/// Two shards, and the way by which phones reach the first.
fn two_shards(now: Time) -> (Edge, Flow) {
    let settings = Settings::default().shards(2).expect("the settings");
    let edge = Edge::new(settings, now, WallOffset(1_790_000_000_000_000_000));
    let flow = Flow {
        listener: ListenerId(0),
        local: None,
        peer: House::address(),
        connection: None,
    };
    (edge, flow)
}

/// Two shards, the second of which reads nothing: what comes in at the first and belongs to it waits.
#[test]
fn what_another_shard_owns_waits_for_it_and_only_what_is_new_is_refused_meanwhile() {
    let now = Time::from_millis(1_000_000);
    let (mut edge, flow) = two_shards(now);
    let status = |sent: &Datagram| read(sent).status();
    let counted = |edge: &mut Edge, counter| edge.shard(HERE).stats().get(counter);
    let phone = |number: u32, cseq, tag: &str| {
        subscribe(&format!("phone{number}"), House::address(), cseq, tag, 3600)
    };
    // A dialog that the other shard has.
    let mut first = 0;
    let tag = loop {
        let request = phone(first, 1, "");
        edge.receive(HERE, now, flow, &request, request.len());
        let mut turn = edge.flush(HERE).expect("a turn");
        if let Some((to, block)) = turn.parcels.pop().filter(|_| turn.datagrams.is_empty()) {
            assert_eq!(to, THERE);
            edge.deliver(THERE, now, block);
            let turn = edge.flush(THERE).expect("a turn");
            let answer = read(turn.datagrams.first().expect("an answer"));
            break answer.tag("To").expect("a dialog").to_owned();
        }
        first += 1;
    };
    let passed_on = counted(&mut edge, Counter::DatagramForwarded);
    // All phones come at once, and each asks again as it hears nothing.
    let mut refused = 0;
    let mut number = first + 1;
    while counted(&mut edge, Counter::LimitForwarded) < 100 {
        let request = phone(number, 1, "");
        edge.receive(HERE, now, flow, &request, request.len());
        number += 1;
        assert!(number < 100_000, "nothing is ever refused");
    }
    let waiting = counted(&mut edge, Counter::DatagramForwarded) - passed_on;
    assert!(
        waiting > 4_000,
        "{waiting} is no more than a quarter of a second of work"
    );
    // What stands goes on, however many do.
    for cseq in 2..10_002 {
        let refresh = phone(first, cseq, &tag);
        edge.receive(HERE, now, flow, &refresh, refresh.len());
    }
    assert_eq!(counted(&mut edge, Counter::DatagramForwardFull), 0);
    assert_eq!(counted(&mut edge, Counter::LimitForwarded), 100);
    // The other one reads again: all that was taken is answered, in order.
    let turn = edge.flush(HERE).expect("a turn");
    refused += turn
        .datagrams
        .iter()
        .filter(|sent| status(sent) == Some(503))
        .count();
    assert_eq!(refused, 100);
    let (mut new, mut refreshed) = (0, Vec::new());
    for (to, parcel) in turn.parcels {
        edge.deliver(to, now, parcel);
        if to != THERE {
            continue;
        }
        for sent in edge.flush(THERE).expect("a turn").datagrams {
            let answer = read(&sent);
            match (answer.status(), answer.cseq()) {
                (Some(200), Some(1)) => new += 1,
                (Some(200), Some(cseq)) => refreshed.push(cseq),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(new, waiting);
    assert!(refreshed.into_iter().eq(2..10_002), "a refresh was lost");
}

/// Two shards, the second of which reads what the first passes on a while after it came.
#[test]
fn what_has_waited_long_between_shards_is_work_that_the_reader_is_behind_with() {
    let mut now = Time::from_millis(1_000_000);
    let (mut edge, flow) = two_shards(now);
    // What the next phone that the other shard owns is answered, where its request waits for so long.
    let mut number = 0;
    let mut answer = |waits: Duration| loop {
        let request = subscribe(&format!("phone{number}"), flow.peer, 1, "", 3600);
        number += 1;
        let came = now;
        edge.receive(HERE, came, flow, &request, request.len());
        let turn = edge.flush(HERE).expect("a turn");
        let block = turn.parcels.into_iter().find_map(|(to, parcel)| {
            let passes_on = matches!(parcel, Parcel::Block { .. });
            passes_on.then_some(parcel).filter(|_| to == THERE)
        });
        if let Some(block) = block {
            now = came + waits;
            edge.deliver(THERE, now, block);
            let turn = edge.flush(THERE).expect("a turn");
            break read(turn.datagrams.first().expect("an answer")).status();
        }
    };
    // One that is late is none too many.
    let (late, soon) = (Duration::from_millis(150), Duration::from_millis(5));
    for _ in 0..10 {
        assert_eq!(answer(late), Some(200));
        assert_eq!(answer(soon), Some(200));
    }
    // All that come are late, for longer than it takes to be sure.
    let answers: Vec<_> = (0..20).map(|_| answer(late)).collect();
    assert_eq!(answers[0], Some(200), "{answers:?}");
    assert_eq!(answers[19], Some(503), "{answers:?}");
    // It has caught up.
    let answers: Vec<_> = (0..200).map(|_| answer(soon)).collect();
    assert_eq!(answers[199], Some(200), "{answers:?}");
}
