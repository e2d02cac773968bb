//! What outlives the process: kill -9, an orderly stop, and a store that cannot be used.

use serde_json::json;

use crate::client::{get, send};
use crate::phone::{Phone, Received};
use crate::server::{Scratch, Server, lampfield};

const EARLY: &str = "<?xml version=\"1.0\"?>\r\n\
    <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" state=\"full\" \
    entity=\"sip:1002@example.com\"><dialog id=\"d1\" direction=\"recipient\">\
    <state>early</state></dialog></dialog-info>";

/// A server whose phones find it again at the same port.
pub fn start(scratch: &Scratch, port: u16) -> Server {
    let arguments = listens_on(scratch, port);
    Server::start_with(&arguments.each_ref().map(String::as_str))
}

/// The arguments of such a server. The port is free for it.
pub fn listens_on(scratch: &Scratch, port: u16) -> [String; 4] {
    wait_until_free(port);
    let data_dir = scratch.0.join("data");
    let data_dir = data_dir.to_str().expect("a plain path").to_owned();
    let listen = format!("udp:127.0.0.1:{port}");
    [
        "--listen".to_owned(),
        listen,
        "--data-dir".to_owned(),
        data_dir,
    ]
}

/// The kernel lets go of a ring and its sockets only a moment after their process has ended.
fn wait_until_free(port: u16) {
    while std::net::UdpSocket::bind(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
}

pub fn cseq(received: &Received) -> u32 {
    let number = received.header("CSeq").split(' ').next();
    number
        .and_then(|number| number.parse().ok())
        .expect("a CSeq")
}

fn version(received: &Received) -> u32 {
    // The first one is that of XML itself.
    let text = received.0.split(" version=\"").nth(2).expect("a version");
    let number = text.split('"').next().and_then(|text| text.parse().ok());
    number.expect("a number")
}

//= RFC 6665 4.2.1.2 type=test
#[test]
fn kill_9_takes_no_subscription_no_hint_and_no_publication() {
    let scratch = Scratch::new("kill-9");
    let mut server = start(&scratch, 0);
    let sip = server.sip[0];
    let phone = Phone::new(sip, "100");
    phone.subscribe("1001", "dialog", 600);
    let subscribed = phone.answered();
    let first = phone.notified(|_| true);
    assert_eq!(cseq(&first), 1);
    let other = Phone::new(sip, "101");
    other.subscribe("1002", "dialog", 600);
    other.answered();
    other.notified(|_| true);
    let publisher = Phone::new(sip, "1002");
    publisher.publish("1002", "dialog", "application/dialog-info+xml", EARLY);
    let published = publisher.answered();
    other.notified(|notify| notify.has("early"));
    let (status, _) = send(&server, "PUT", "/v1/hints/1001", r#"{"state":"ringing"}"#);
    assert_eq!(status, 200);
    let mut last = phone.notified(|notify| notify.has("early"));

    let mut tag = published.header("SIP-ETag").to_owned();
    for round in 0..3 {
        server.signal("KILL");
        server.ended();
        server = start(&scratch, sip.port());
        assert!(
            server.banner.contains("records came back"),
            "{}",
            server.banner
        );
        // Without a word of theirs, phones see what is.
        let again = phone.notified(|_| true);
        assert!(again.has("early"), "{again:?}");
        assert!(cseq(&again) > cseq(&last) && version(&again) > version(&last));
        assert_eq!(again.header("Call-ID"), last.header("Call-ID"));
        assert_eq!(again.header("From"), last.header("From"));
        other.notified(|notify| notify.has("early"));
        if round == 0 {
            // For all that anybody knows its publisher has heard nothing, and asks again: it has published once.
            publisher.publish("1002", "dialog", "application/dialog-info+xml", EARLY);
            assert_eq!(publisher.answered().header("SIP-ETag"), tag);
        }
        // What they were told is still worth something.
        let answer = phone.resubscribe("dialog", 600, 10 + round, &subscribed);
        assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
        let refreshed = phone.notified(|_| true);
        assert!(cseq(&refreshed) > cseq(&again));
        tag = publisher.renew("1002", "dialog", 20 + round, &tag);
        last = refreshed;
    }
    let (status, _) = send(&server, "PUT", "/v1/hints/1001", r#"{"state":"idle"}"#);
    assert_eq!(status, 200);
    let idle = phone.notified(|notify| notify.has("terminated"));
    assert_eq!(cseq(&idle), cseq(&last) + 1);
    // What has ended does not come back.
    let answer = phone.resubscribe("dialog", 0, 30, &subscribed);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    let end = |notify: &Received| {
        notify
            .header("Subscription-State")
            .starts_with("terminated")
    };
    phone.notified(end);
    server.signal("KILL");
    server.ended();
    let _server = start(&scratch, sip.port());
    other.notified(|_| true);
    let answer = phone.resubscribe("dialog", 600, 31, &subscribed);
    assert!(answer.0.starts_with("SIP/2.0 481 "), "{answer:?}");
}

#[test]
fn killed_under_load_again_and_again_it_tells_every_phone_what_is_and_repeats_no_number() {
    let scratch = Scratch::new("killed-often");
    let mut server = start(&scratch, 0);
    let sip = server.sip[0];
    let names: Vec<String> = (100..120).map(|number| number.to_string()).collect();
    let phones: Vec<Phone> = names.iter().map(|name| Phone::new(sip, name)).collect();
    let mut newest = vec![(0, String::new()); phones.len()];
    for phone in &phones {
        phone.subscribe("1001", "dialog", 590);
        phone.answered();
    }
    for round in 0..12_u32 {
        // Twenty phones have answers, changes and retransmissions on their way when it is killed.
        for change in 0..=round {
            let state = if change % 2 == 0 { "inuse" } else { "idle" };
            let body = format!(r#"{{"state":"{state}"}}"#);
            let (status, _) = send(&server, "PUT", "/v1/hints/1001", &body);
            assert_eq!(status, 200);
        }
        server.signal("KILL");
        server.ended();
        server = start(&scratch, sip.port());
        // What was answered last is what everybody shows, whatever they saw before.
        let is_lit = round % 2 == 0;
        let mark = format!(
            "{{\"state\":\"{}\"}}",
            if is_lit { "ringing" } else { "hold" }
        );
        let shown = if is_lit { "early" } else { "confirmed" };
        let (status, _) = send(&server, "PUT", "/v1/hints/1001", &mark);
        assert_eq!(status, 200);
        for (phone, newest) in phones.iter().zip(&mut newest) {
            let newest = std::cell::RefCell::new(newest);
            phone.notified(|notify| {
                let mut newest = newest.borrow_mut();
                let number = cseq(notify);
                let again = number == newest.0 && notify.0 == newest.1;
                assert!(number > newest.0 || again, "{} then {notify:?}", newest.0);
                **newest = (number, notify.0.clone());
                notify.has(shown) && (is_lit || notify.has("+sip.rendering"))
            });
        }
    }
}

#[test]
fn an_orderly_stop_keeps_what_is_kept_in_silence() {
    let scratch = Scratch::new("orderly");
    let server = start(&scratch, 0);
    let sip = server.sip[0];
    let phone = Phone::new(sip, "100");
    phone.subscribe("1001", "presence", 600);
    phone.answered();
    let first = phone.notified(|_| true);
    server.signal("TERM");
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    let _server = start(&scratch, sip.port());
    // Nobody said that it ended: the very next NOTIFY comes from the process that followed.
    let next = phone.notified(|_| true);
    let state = next.header("Subscription-State");
    assert!(state.starts_with("active;expires=5"), "{next:?}");
    assert_eq!(cseq(&next), cseq(&first) + 1);
}

#[test]
fn after_a_planned_stop_only_those_are_told_whose_state_has_changed_where_that_is_asked_for() {
    let scratch = Scratch::new("changed-only");
    let data_dir = scratch.0.join("data");
    let data_dir = data_dir.to_str().expect("a plain path");
    let begin = |port: u16| {
        wait_until_free(port);
        let text = format!(
            "[store]\nrestart_notify = \"changed\"\n[[listener]]\naddress = \"udp:127.0.0.1:{port}\"\n"
        );
        let file = scratch.file("lampfield.toml", &text);
        Server::start_with(&["--config", &file, "--data-dir", data_dir])
    };
    let server = begin(0);
    let sip = server.sip[0];
    let watch = |name: &str, user: &str| {
        let phone = Phone::new(sip, name);
        phone.subscribe(user, "dialog", 600);
        phone.answered();
        phone.notified(|_| true);
        phone
    };
    let (knows, learns) = (watch("100", "1001"), watch("101", "1002"));
    for (user, more) in [("1001", ""), ("1002", r#","expires":3"#)] {
        let body = format!(r#"{{"state":"ringing"{more}}}"#);
        let path = format!("/v1/hints/{user}");
        let (status, _) = send(&server, "PUT", &path, &body);
        assert_eq!(status, 200);
    }
    let early = |notify: &Received| notify.has("early");
    let last = knows.notified(early);
    learns.notified(early);
    server.signal("TERM");
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    // Meanwhile the second hint goes, and nobody is there to say so.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let server = begin(sip.port());
    learns.notified(|notify| notify.has("terminated"));
    // The first phone's very next NOTIFY is that of the next change.
    let (status, _) = send(&server, "PUT", "/v1/hints/1001", r#"{"state":"hold"}"#);
    assert_eq!(status, 200);
    let next = knows.notified(|_| true);
    assert!(next.has("+sip.rendering"), "{next:?}");
    assert_eq!(cseq(&next), cseq(&last) + 1);
    // What a crash takes along nobody knows: then everybody is told.
    server.signal("KILL");
    server.ended();
    let _server = begin(sip.port());
    let told = knows.notified(|_| true);
    assert!(
        told.has("+sip.rendering") && cseq(&told) > cseq(&next),
        "{told:?}"
    );
}

/// What it would say when it is read again was true before.
#[test]
fn what_an_earlier_process_kept_is_left_aside_by_one_that_keeps_nothing() {
    let scratch = Scratch::new("keeps-nothing");
    let config = scratch.0.join("lampfield.toml");
    let set = |server: &Server, state: &str| {
        let body = format!(r#"{{"state":"{state}"}}"#);
        let (status, answer) = send(server, "PUT", "/v1/hints/1001", &body);
        assert_eq!(status, 200, "{answer}");
    };
    let mut port = 0;
    for (durability, state, aside) in [
        ("process", "ringing", false),
        ("none", "idle", true),
        ("process", "", true),
    ] {
        std::fs::write(&config, format!("[store]\ndurability = \"{durability}\"\n"))
            .expect("written");
        let listens = listens_on(&scratch, port);
        let mut arguments = vec!["--config", config.to_str().expect("a plain path")];
        arguments.extend(listens.iter().map(String::as_str));
        let server = Server::start_with(&arguments);
        port = server.sip[0].port();
        assert_eq!(scratch.0.join("data/store.unused-1").is_dir(), aside);
        match state {
            "" => {
                let phone = Phone::new(server.sip[0], "200");
                phone.subscribe("1001", "dialog", 600);
                let told = phone.notified(|_| true);
                assert!(!told.has("<state>early</state>"), "{told:?}");
            }
            state => set(&server, state),
        }
        server.signal("KILL");
        server.ended();
    }
}

/// Half of the hints would else lie on a shard that is not theirs, where nobody finds them.
#[test]
fn who_loses_its_secrets_begins_anew_and_tells_nobody_what_is_wrong() {
    let scratch = Scratch::new("other-secrets");
    let mut server = start(&scratch, 0);
    let sip = server.sip[0];
    let (phone, subscribe) = (Phone::new(sip, "200"), |phone: &Phone, number: usize| {
        phone.subscribe(&(1001 + number).to_string(), "dialog", 600);
        phone.notified(|_| true)
    });
    for number in 0..8 {
        let path = format!("/v1/hints/{}", 1001 + number);
        let (status, answer) = send(&server, "PUT", &path, r#"{"state":"ringing"}"#);
        assert_eq!(status, 200, "{answer}");
        assert!(subscribe(&phone, number).has("<state>early</state>"));
    }
    server.signal("KILL");
    server.ended();

    std::fs::remove_file(scratch.0.join("data/secrets")).expect("removed");
    server = start(&scratch, sip.port());
    assert!(scratch.0.join("data/store.damaged-1").is_dir());
    for number in 0..8 {
        let path = format!("/v1/hints/{}", 1001 + number);
        let (status, answer) = send(&server, "PUT", &path, r#"{"state":"inuse"}"#);
        assert_eq!(status, 200, "{answer}");
        let told = subscribe(&phone, number);
        assert!(told.has("<state>confirmed</state>"), "{told:?}");
    }
    let hints = get(&server, "/v1/hints").body_mut().read_to_string();
    assert_eq!(hints.expect("text").matches("\"resource\"").count(), 8);
}

#[test]
fn two_processes_do_not_share_a_store() {
    let scratch = Scratch::new("shared-store");
    let _server = start(&scratch, 0);
    let data_dir = scratch.0.join("data");
    let second = lampfield()
        .args([
            "serve",
            "--admin",
            "127.0.0.1:0",
            "--listen",
            "udp:127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(&data_dir)
        .output()
        .expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains("in use by another process"), "{errors}");
}

#[test]
fn a_store_that_cannot_be_used_does_not_keep_anybody_from_being_served() {
    let scratch = Scratch::new("no-store");
    std::fs::create_dir_all(scratch.0.join("data")).expect("a directory");
    // A file where a directory ought to be.
    scratch.file("data/store", "");
    let server = start(&scratch, 0);
    server.logged("nothing outlives a restart");
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    let answer = phone.answered();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    phone.notified(|_| true);
    let (status, answer) = send(&server, "PUT", "/v1/hints/1001", r#"{"state":"ringing"}"#);
    assert_eq!((status, &answer["changed"]), (200, &json!(true)));
    phone.notified(|notify| notify.has("early"));
    let metrics = get(&server, "/metrics").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    let lost = metrics.lines().filter(|line| {
        line.starts_with("lampfield_store_records_total") && line.contains("outcome=\"lost\"")
    });
    let lost: u64 = lost
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(lost >= 2, "{metrics}");
}
