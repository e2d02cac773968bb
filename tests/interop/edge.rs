//! Kamailio as an edge: phones on UDP before it, Lampfield by one connection of TCP or TLS behind it.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use crate::authority::Authority;
use crate::support::{Program, Scratch, Server, await_that, free, need};
use crate::{kamailio_modules, ours, start_kamailio, watcher};

/// An edge of that transport between phones and the server.
fn edge(scratch: &Scratch, phones: &str, servers: &str, more: &[String]) -> Program {
    need("kamailio", "kamailio");
    let mut command = Command::new("kamailio");
    command
        .args(["-DD", "-E", "-m", "64", "-M", "8"])
        .arg("-f")
        .arg(ours("tests/interop/edge.cfg"))
        .args(["-A", &format!("PHONES={phones}")])
        .args(["-A", &format!("SERVERS={servers}")])
        .args(["-A", &format!("MODULES=\"{}\"", kamailio_modules("tm"))]);
    for each in more {
        command.args(["-A", each]);
    }
    start_kamailio(&mut command, scratch)
}

/// Lamps before the edge go on and off.
fn lamps_change(server: &Server, scratch: &Scratch, more: &[String], transport: &str) {
    let phones = free(Ipv4Addr::LOCALHOST);
    let servers = free(Ipv4Addr::LOCALHOST);
    let mut kamailio = edge(
        scratch,
        &format!("udp:{phones}"),
        &format!("{transport}:{servers}"),
        more,
    );
    await_that("Kamailio listens", || {
        kamailio.assert_running();
        std::net::UdpSocket::bind(phones).is_err() && TcpListener::bind(servers).is_err()
    });
    let words = ["early", "confirmed", "terminated"];
    let mut watchers = words.map(|word| watcher(scratch, phones, word));
    await_that("three phones know what is so", || {
        kamailio.assert_running();
        server.told() == 3
    });
    // One connection carries them all.
    assert_eq!(server.metric("lampfield_connections", &[]), 1);
    for (state, (word, watcher)) in ["ringing", "inuse", "idle"]
        .iter()
        .zip(words.iter().zip(&mut watchers))
    {
        server.set_hint("1001", state);
        assert_eq!(watcher.wait(), Some(0), "{word}: {}", watcher.output());
        // The transports are swapped under it, with what is in the files now.
        assert_eq!(server.http("POST", "/v1/reload", "").0, 200);
    }
    server.await_metric("lampfield_subscriptions", &["active"], 0);
    kamailio.assert_running();
    for (name, labels) in [
        ("lampfield_bugs_total", &[][..]),
        ("lampfield_datagrams_unreadable_total", &[]),
        ("lampfield_notifies_total", &["timed_out"]),
        ("lampfield_connections_total", &["closed"]),
    ] {
        assert_eq!(server.metric(name, labels), 0, "{name} {labels:?}");
    }
}

#[test]
fn phones_behind_a_kamailio_that_comes_by_tcp_see_their_lamps_change() {
    let scratch = Scratch::new("edge-tcp");
    let server = Server::start();
    let more = [format!("LAMPFIELD=\"sip:{};transport=tcp\"", server.v4)];
    lamps_change(&server, &scratch, &more, "tcp");
}

#[test]
fn phones_behind_a_kamailio_that_comes_by_tls_see_their_lamps_change() {
    kamailio_modules("tls");
    let scratch = Scratch::new("edge-tls");
    let authority = Authority::new(scratch.path());
    authority.issue("lampfield");
    authority.issue("edge");
    let address = free(Ipv4Addr::LOCALHOST);
    let server = Server::start_with(&format!(
        "[[listener]]\naddress = \"tls:{address}\"\n{}client_ca = \"{}\"\nclient_certificates = \"required\"\n",
        authority.keys("lampfield"),
        authority.file("ca.pem")
    ));
    let more = [
        format!("LAMPFIELD=\"sip:{address};transport=tls\""),
        "WITH_TLS".to_owned(),
        format!("CERTIFICATE=\"{}\"", authority.file("edge.pem")),
        format!("KEY=\"{}\"", authority.file("edge.key")),
        format!("AUTHORITY=\"{}\"", authority.file("ca.pem")),
    ];
    lamps_change(&server, &scratch, &more, "tls");
}
