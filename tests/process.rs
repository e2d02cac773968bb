//! The real program, as people start it: its ports, its messages, its exit codes.
#![cfg(feature = "server")]

#[path = "support/certificate.rs"]
mod certificate;
#[path = "process/client.rs"]
mod client;
#[path = "process/cut.rs"]
mod cut;
#[path = "process/disk.rs"]
mod disk;
#[path = "process/eio.rs"]
mod eio;
#[path = "process/expiry.rs"]
mod expiry;
#[path = "process/faults.rs"]
mod faults;
#[path = "process/ground.rs"]
mod ground;
#[path = "process/http.rs"]
mod http;
#[path = "process/names.rs"]
mod names;
#[path = "process/phone.rs"]
mod phone;
#[path = "process/refusals.rs"]
mod refusals;
#[path = "process/reload.rs"]
mod reload;
#[path = "process/restart.rs"]
mod restart;
#[path = "process/server.rs"]
mod server;
#[path = "process/sockets.rs"]
mod sockets;
#[path = "process/standstill.rs"]
mod standstill;
#[path = "process/streams.rs"]
mod streams;
#[path = "process/swap.rs"]
mod swap;
#[path = "process/tls.rs"]
mod tls;
#[path = "process/web.rs"]
mod web;

use client::{get, get_json, send};
use phone::Phone;
use serde_json::json;
use server::{Scratch, Server, errors};

#[test]
fn it_serves_on_ports_that_it_chose_and_tells() {
    let server = Server::start(&[]);
    assert_ne!(server.sip[0].port(), 0);
    assert!(
        server.banner.contains("watch 1001 --admin"),
        "{}",
        server.banner
    );
    let status = get_json(&server, "/v1/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["shards"], 2);
    assert_eq!(status["ready"], true);
    assert_eq!(status["tls"], lampfield::config::crypto::NAME);
    assert_eq!(status["listeners"][0]["address"], server.sip[0].to_string());
    assert_eq!(get(&server, "/healthz").status(), 200);
    assert_eq!(get(&server, "/readyz").status(), 200);
    let document = get_json(&server, "/v1/openapi.json");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_lamp_lights_and_goes_dark_again_and_the_counters_say_so() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 590);
    let answer = phone.receive();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_eq!(answer.header("Expires"), "590");
    let first = phone.notified(|_| true);
    assert!(
        first.header("Subscription-State").starts_with("active"),
        "{first:?}"
    );
    assert_eq!(first.header("CSeq"), "1 NOTIFY");

    let set = server.tell(&["set-hint", "1001", "ringing"]);
    assert_eq!(set.status.code(), Some(0), "{}", errors(&set));
    let ringing = phone.notified(|notify| notify.has("early"));
    assert_eq!(ringing.header("CSeq"), "2 NOTIFY");
    let (status, answer) = send(&server, "PUT", "/v1/hints/1001", r#"{"state":"idle"}"#);
    assert_eq!((status, &answer["changed"]), (200, &json!(true)));
    phone.notified(|notify| notify.has("terminated"));

    let metrics = get(&server, "/metrics").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    let sum = |name: &str, label: &str| -> u64 {
        let of = metrics
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        of.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()))
            .map(|value| value.expect("a number"))
            .sum()
    };
    assert_eq!(sum("lampfield_subscriptions_created_total", ""), 1);
    assert_eq!(sum("lampfield_notifies_total", "event=\"sent\""), 3);
    assert_eq!(sum("lampfield_bugs_total", ""), 0);
    assert_eq!(sum("lampfield_subscriptions", "state=\"active\""), 1);
    assert_eq!(sum("lampfield_subscriptions_overdue", ""), 0);
}

#[test]
fn a_publication_lights_a_lamp() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    let publisher = Phone::new(server.sip[0], "1001");
    let document = "<?xml version=\"1.0\"?>\r\n\
        <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" state=\"full\" \
        entity=\"sip:1001@example.com\"><dialog id=\"d1\" direction=\"recipient\">\
        <state>early</state></dialog></dialog-info>";
    publisher.publish("1001", "dialog", "application/dialog-info+xml", document);
    let answer = publisher.receive();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_ne!(answer.header("SIP-ETag"), "");
    phone.notified(|notify| notify.has("early"));
}

#[test]
fn a_phone_that_must_authenticate_is_challenged_and_let_in() {
    let scratch = Scratch::new("digest");
    let file = scratch.file(
        "lampfield.toml",
        "[auth]\nrealm = \"here\"\nalgorithms = [\"SHA-256\"]\n[auth.users]\n100 = \"open sesame\"\n\
         [[listener]]\naddress = \"udp:127.0.0.1:0\"\nauth = true\n",
    );
    let server = Server::start_with(&["--config", &file]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    let challenge = phone.receive();
    assert!(challenge.0.starts_with("SIP/2.0 401 "), "{challenge:?}");
    let authorization = |password: &str| challenge.credentials("100", password, "SUBSCRIBE");
    phone.subscribe_with("1001", "dialog", 600, 2, &authorization("close sesame"));
    assert!(phone.receive().0.starts_with("SIP/2.0 401 "));
    phone.subscribe_with("1001", "dialog", 600, 3, &authorization("open sesame"));
    let answer = phone.receive();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    phone.notified(|_| true);
}

#[test]
fn who_watches_what_is_listed_and_filtered() {
    let server = Server::start(&[]);
    for name in ["100", "101", "102"] {
        let phone = Phone::new(server.sip[0], name);
        phone.subscribe("1001", "dialog", 600);
        phone.notified(|_| true);
    }
    let like = |conditions: &str| {
        let output = server.tell(&["show", "subscriptions", "--json", "--like", conditions]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    assert_eq!(like(""), 3);
    assert_eq!(like("watcher=101"), 1);
    assert_eq!(like("expiry>0 package=dialog resource=100*"), 3);
    assert_eq!(like("expiry=0"), 0);
    let table = server.tell(&["show", "subscriptions"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains("WATCHER") && table.contains("102@"),
        "{table}"
    );
    let wrong = server.tell(&["show", "subscriptions", "--like", "expires=0"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(errors(&wrong).contains("is no field"), "{}", errors(&wrong));
    // Page by page, each of them once.
    let mut seen = Vec::new();
    let mut path = "/v1/subscriptions?limit=1".to_owned();
    loop {
        let page = get_json(&server, &path);
        for row in page["subscriptions"].as_array().expect("rows") {
            seen.push(row["watcher"].to_string());
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/subscriptions?limit=1&cursor={next}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn sigterm_tells_the_phones_and_ends_with_0() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    server.signal("TERM");
    let last = phone.notified(|_| true);
    assert_eq!(
        last.header("Subscription-State"),
        "terminated;reason=deactivated"
    );
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("told=1 unanswered=0"), "{log}");
}

#[test]
fn no_signal_kills_it_once_it_has_named_its_ports() {
    let server = Server::start(&[]);
    let caught = [1, 2, 15, 25].map(|signal| server.catches(signal));
    assert_eq!(caught, [true; 4], "SIGHUP, SIGINT, SIGTERM, SIGXFSZ");
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let server = Server::start(&[]);
    // A phone that never answers keeps the server waiting for it.
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    server.signal("TERM");
    while get(&server, "/readyz").status() == 200 {}
    server.signal("TERM");
    let (code, log) = server.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("stopped at once"), "{log}");
    drop(phone);
}

#[test]
fn secrets_are_kept_in_the_data_directory() {
    let scratch = Scratch::new("data");
    let directory = scratch.0.join("data");
    let directory = directory.to_str().expect("a plain path");
    let secrets = || std::fs::read(scratch.0.join("data/secrets")).expect("secrets");
    let server = Server::start(&["--data-dir", directory]);
    let first = secrets();
    server.signal("INT");
    assert_eq!(server.ended().0, Some(0));
    let server = Server::start(&["--data-dir", directory]);
    assert_eq!(secrets(), first);
    server.signal("INT");
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn a_trusted_network_opens_a_wildcard_listener_to_itself_only() {
    let arguments = ["--listen", "udp:0.0.0.0:0", "--trusted", "127.0.0.1"];
    let server = Server::start(&arguments);
    let sip = server
        .sip
        .iter()
        .find(|address| address.ip().is_unspecified());
    let port = sip.expect("the wildcard").port();
    let near = Phone::new(([127, 0, 0, 1], port).into(), "100");
    near.subscribe("1001", "dialog", 600);
    assert!(near.receive().0.starts_with("SIP/2.0 200 "));
    near.notified(|_| true);
}

#[test]
fn garbage_is_survived() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    for bytes in [
        &b""[..],
        b"\0\0\0\0",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 9_000],
    ] {
        phone.send(bytes);
    }
    phone.subscribe("1001", "presence", 600);
    assert!(phone.receive().0.starts_with("SIP/2.0 200 "));
    assert!(phone.notified(|_| true).has("application/pidf+xml"));
}
