//! The SIPp scenarios of loadtest/ against the real server: each must end as it is written, and the
//! server's own counters must tell the same story.
#![cfg(feature = "server")]

#[path = "support/certificate.rs"]
mod certificate;
#[path = "sipp/relay.rs"]
mod relay;
mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use certificate::{Authority, NAME};
use relay::relay;
use support::{Program, Scratch, Server, need};

const DIALOG: [&str; 2] = ["dialog", "application/dialog-info+xml"];
const PRESENCE: [&str; 2] = ["presence", "application/pidf+xml"];
const MAILBOX: [&str; 2] = ["message-summary", "application/simple-message-summary"];

/// Among the arguments of a run: its target speaks TLS for SIPp, which as Debian builds it does not, and its Vias say so.
const TLS: &str = "by tls";

/// One run of SIPp.
struct Run {
    program: Program,
    scratch: Scratch,
}

impl Run {
    fn start(scenario: &str, target: SocketAddr, calls: u32, more: &[&str]) -> Self {
        need("sipp", "sip-tester");
        let scratch = Scratch::new("sipp");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest");
        let mut text = fs::read_to_string(folder.join(scenario)).expect("the scenario is there");
        if more.contains(&TLS) {
            text = text.replace("SIP/2.0/[transport]", "SIP/2.0/TLS");
        }
        let file = scratch.path().join(scenario);
        fs::write(&file, text).expect("it can be written");
        let calls = calls.to_string();
        let mut command = Command::new("sipp");
        command
            .arg("-sf")
            .arg(file)
            .arg(target.to_string())
            .args(["-s", "1001", "-m", &calls, "-r", "200", "-nostdin"])
            .args(["-timeout", "25s", "-timeout_error", "-trace_err"])
            // Of those that choose for themselves two may choose the same one.
            .args(["-p", &support::free(target.ip()).port().to_string()])
            .arg("-error_file")
            .arg(scratch.path().join("errors"))
            .args(more.iter().filter(|word| **word != TLS))
            .current_dir(scratch.path());
        let program = Program::start(&mut command, scratch.path().join("screen"));
        Run { program, scratch }
    }

    /// Every call went as the scenario says.
    fn assert_good(mut self) {
        let code = self.program.wait();
        let errors = std::fs::read_to_string(self.scratch.path().join("errors"));
        assert_eq!(
            code,
            Some(0),
            "SIPp says: {}\n{}",
            errors.unwrap_or_default(),
            self.program.output()
        );
    }
}

fn run(scenario: &str, target: SocketAddr, calls: u32, more: &[&str]) {
    Run::start(scenario, target, calls, more).assert_good();
}

fn package([event, accept]: [&str; 2]) -> [String; 6] {
    ["-key", "package", event, "-key", "accept", accept].map(str::to_owned)
}

fn run_package(scenario: &str, target: SocketAddr, calls: u32, package_of: [&str; 2]) {
    let keys = package(package_of);
    run(
        scenario,
        target,
        calls,
        &keys.each_ref().map(String::as_str),
    );
}

/// After phones that unsubscribed, nothing may be left of them.
fn assert_empty(server: &Server) {
    server.await_metric("lampfield_subscriptions", &[], 0);
    server.await_metric("lampfield_notifies_in_flight", &[], 0);
    assert_eq!(server.metric("lampfield_bugs_total", &[]), 0);
    assert_eq!(server.metric("lampfield_subscriptions_overdue", &[]), 0);
}

#[test]
fn phones_subscribe_refresh_and_unsubscribe_for_each_package_and_family() {
    let server = Server::start();
    for target in [server.v4, server.v6] {
        for package in [DIALOG, PRESENCE, MAILBOX] {
            run_package("subscribe.xml", target, 20, package);
        }
    }
    assert_empty(&server);
    assert_eq!(
        server.metric("lampfield_subscriptions_created_total", &[]),
        120
    );
    server.await_metric("lampfield_notifies_total", &["answered_2xx"], 360);
    assert_eq!(
        server.metric("lampfield_subscriptions_ended_total", &["unsubscribed"]),
        120
    );
}

#[test]
fn a_watcher_sees_the_state_that_is_set() {
    let server = Server::start();
    for (target, state, word) in [
        (server.v4, "ringing", "early"),
        (server.v6, "inuse", "confirmed"),
    ] {
        server.set_hint("1001", "idle");
        let keys = package(DIALOG);
        let mut more = keys.each_ref().map(String::as_str).to_vec();
        more.extend(["-key", "show", word]);
        let watchers = Run::start("watch.xml", target, 10, &more);
        server.await_told(10);
        server.set_hint("1001", state);
        watchers.assert_good();
    }
    assert_empty(&server);
}

#[test]
fn a_watcher_sees_what_is_published_and_that_it_is_removed() {
    let server = Server::start();
    for (publisher, keys, word) in [
        ("publish.xml", DIALOG, "confirmed"),
        ("publish-presence.xml", PRESENCE, "open"),
    ] {
        let keys = package(keys);
        let mut more = keys.each_ref().map(String::as_str).to_vec();
        more.extend(["-key", "show", word]);
        let watchers = Run::start("watch.xml", server.v4, 5, &more);
        server.await_told(5);
        let publisher = Run::start(publisher, server.v6, 1, &["-d", "300"]);
        watchers.assert_good();
        publisher.assert_good();
        server.await_metric("lampfield_publications", &[], 0);
    }
    for (event, count) in [
        ("created", 2),
        ("refreshed", 2),
        ("modified", 2),
        ("removed", 2),
    ] {
        assert_eq!(
            server.metric("lampfield_publications_total", &[&format!("\"{event}\"")]),
            count,
            "{event}"
        );
    }
    assert_eq!(server.metric("lampfield_responses_sent_total", &["412"]), 2);
    assert_empty(&server);
}

#[test]
fn a_removed_publication_darkens_the_lamp() {
    let server = Server::start();
    let keys = package(DIALOG);
    let mut more = keys.each_ref().map(String::as_str).to_vec();
    more.extend(["-key", "show", "terminated"]);
    let watchers = Run::start("watch.xml", server.v4, 5, &more);
    server.await_told(5);
    run("publish.xml", server.v4, 1, &["-d", "100"]);
    watchers.assert_good();
    assert_empty(&server);
}

#[test]
fn a_fetch_brings_the_state_once_and_leaves_nothing() {
    let server = Server::start();
    for target in [server.v4, server.v6] {
        for package in [DIALOG, PRESENCE, MAILBOX] {
            run_package("fetch.xml", target, 10, package);
        }
    }
    assert_eq!(
        server.metric("lampfield_subscriptions_fetched_total", &[]),
        60
    );
    assert_empty(&server);
}

/// One connection for all phones, as an edge has it, and one for each.
const BY_TCP: [&[&str]; 2] = [&["-t", "t1"], &["-t", "tn", "-max_socket", "1000"]];

/// What phones ask for, by connections to each of the targets.
fn all_goes_over(server: &Server, targets: &[SocketAddr], own: &[&str]) {
    for &target in targets {
        for by_tcp in BY_TCP {
            for (scenario, calls) in [
                ("subscribe.xml", 20),
                ("fetch.xml", 10),
                ("options.xml", 10),
                ("refusals.xml", 10),
            ] {
                let keys = package(DIALOG);
                let mut more = keys.each_ref().map(String::as_str).to_vec();
                more.extend(by_tcp);
                more.extend(own);
                run(scenario, target, calls, &more);
            }
        }
    }
    assert_empty(server);
    let count = targets.len() as u64;
    for counter in ["created", "refreshed"] {
        let name = format!("lampfield_subscriptions_{counter}_total");
        assert_eq!(server.metric(&name, &[]), count * 40);
    }
    let opened = server.metric("lampfield_connections_total", &["\"opened\""]);
    assert!(opened >= count * (4 + 50), "{opened}");
    server.await_metric("lampfield_connections", &[], 0);
}

/// Lamps by connections, one for all phones and then one for each, show what is set.
fn watchers_see_what_is_set(server: &Server, target: SocketAddr, phones: u32, own: &[&str]) {
    for (by_tcp, state, word) in [
        (BY_TCP[0], "ringing", "early"),
        (BY_TCP[1], "inuse", "confirmed"),
    ] {
        server.set_hint("1001", "idle");
        let keys = package(DIALOG);
        let mut more = keys.each_ref().map(String::as_str).to_vec();
        more.extend(["-key", "show", word]);
        more.extend(by_tcp);
        more.extend(own);
        let watchers = Run::start("watch.xml", target, phones, &more);
        server.await_told(phones as usize);
        server.set_hint("1001", state);
        watchers.assert_good();
    }
    assert_empty(server);
}

#[test]
fn what_goes_over_udp_goes_over_tcp() {
    let server = Server::start();
    all_goes_over(&server, &[server.v4, server.v6], &[]);
    let retransmitted = server.metric("lampfield_notifies_total", &["\"retransmitted\""]);
    assert_eq!(retransmitted, 0);
}

#[test]
fn watchers_by_tcp_see_the_state_that_is_set() {
    let server = Server::start();
    watchers_see_what_is_set(&server, server.v4, 200, &[]);
}

/// A server with a listener of TLS, and who speaks TLS to it for SIPp.
fn start_with_tls() -> (Server, SocketAddr, Scratch) {
    let (authority, scratch) = (Authority::new(), Scratch::new("certificate"));
    authority.write(scratch.path(), NAME);
    let [certificate, key] =
        ["pem", "key"].map(|kind| scratch.path().join(format!("{NAME}.{kind}")));
    let address = support::free(Ipv4Addr::LOCALHOST);
    let server = Server::start_with(&format!(
        "[[listener]]\naddress = \"tls:{address}\"\ncertificate = {certificate:?}\nkey = {key:?}\n"
    ));
    (
        server,
        relay(address, NAME, authority.client(None)),
        scratch,
    )
}

#[test]
fn what_goes_over_udp_goes_over_tls() {
    let (server, target, _scratch) = start_with_tls();
    all_goes_over(&server, &[target], &[TLS]);
}

#[test]
fn watchers_by_tls_see_the_state_that_is_set() {
    let (server, target, _scratch) = start_with_tls();
    watchers_see_what_is_set(&server, target, 100, &[TLS]);
}

#[test]
fn a_storm_of_new_subscriptions_is_served_whole() {
    let server = Server::start();
    let keys = package(DIALOG);
    let mut more = keys.each_ref().map(String::as_str).to_vec();
    more.extend(["-r", "2000"]);
    run("storm.xml", server.v4, 2000, &more);
    server.await_metric("lampfield_subscriptions", &["active"], 2000);
    server.await_metric("lampfield_notifies_total", &["answered_2xx"], 2000);
    assert_eq!(server.metric("lampfield_notifies_total", &["timed_out"]), 0);
}

#[test]
fn what_the_server_can_do_is_told_and_the_rest_is_refused() {
    let server = Server::start();
    for target in [server.v4, server.v6] {
        run("options.xml", target, 10, &[]);
        run("refusals.xml", target, 10, &[]);
    }
    for status in ["489", "481", "420", "405", "423"] {
        assert_eq!(
            server.metric(
                "lampfield_responses_sent_total",
                &[&format!("\"{status}\"")]
            ),
            20,
            "{status}"
        );
    }
    assert_empty(&server);
}
