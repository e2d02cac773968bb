//! Kamailio as an edge: phones on UDP before it, Lampfield by one connection of TCP or TLS behind it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use crate::authority::Authority;
use crate::support::{Program, Scratch, Server, await_that, free, need};
use crate::wire::Wire;
use crate::{kamailio_command, kamailio_modules, start_kamailio, watchers};

/// States, and the word that a phone shows for each.
const STATES: [(&str, &str); 3] = [
    ("ringing", "early"),
    ("inuse", "confirmed"),
    ("idle", "terminated"),
];
/// How many phones wait for each of the words.
const PHONES: usize = 10;

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
    Tls,
}

/// The server, what it is reached by, and whom it knows as an edge.
struct Site {
    server: Server,
    transport: Transport,
    authority: Authority,
    tls: SocketAddr,
    scratch: Scratch,
}

impl Site {
    fn new(transport: Transport) -> Site {
        let scratch = Scratch::new("edge");
        let authority = Authority::new(scratch.path());
        authority.issue("lampfield");
        authority.issue("edge");
        let tls = free(Ipv4Addr::LOCALHOST);
        let server = Server::start_with(&format!(
            "[[listener]]\naddress = \"tls:{tls}\"\n{}client_ca = \"{}\"\nclient_certificates = \"required\"\n\
             [[edge]]\naddresses = [\"{}\"]\n",
            authority.keys("lampfield"),
            authority.file("ca.pem"),
            Ipv4Addr::LOCALHOST,
        ));
        Site {
            server,
            transport,
            authority,
            tls,
            scratch,
        }
    }

    /// Where edges connect to.
    fn address(&self) -> SocketAddr {
        match self.transport {
            Transport::Tcp => self.server.v4,
            Transport::Tls => self.tls,
        }
    }

    /// Phones for each of the words, which know what is so and wait for their word.
    fn phones(&self, edge: &mut Edge) -> [Program; 3] {
        let phones = STATES.map(|(_, word)| watchers(&self.scratch, edge.phones, word, PHONES));
        self.await_told(edge, phones.len() * PHONES);
        phones
    }

    fn await_told(&self, edge: &mut Edge, phones: usize) {
        await_that(&format!("{phones} phones know what is so"), || {
            edge.program.assert_running();
            self.server.told() == phones
        });
    }

    /// All phones have left, and nothing was wrong on the way.
    fn assert_ended(&self, edge: &mut Edge) {
        self.await_told(edge, 0);
        self.server.await_metric("lampfield_subscriptions", &[], 0);
        for (name, labels) in [
            ("lampfield_bugs_total", &[][..]),
            ("lampfield_datagrams_unreadable_total", &[]),
            ("lampfield_notifies_total", &["timed_out"]),
            ("lampfield_subscriptions_refreshed_total", &[]),
        ] {
            assert_eq!(self.server.metric(name, labels), 0, "{name} {labels:?}");
        }
    }
}

/// Kamailio between phones and whoever stands for the server.
struct Edge {
    command: Command,
    program: Program,
    /// Where it listens for phones.
    phones: SocketAddr,
    /// Where it listens for the server, and what it calls itself.
    servers: SocketAddr,
}

impl Edge {
    fn start(site: &Site, server: SocketAddr) -> Edge {
        need("kamailio", "kamailio");
        let [phones, servers] = [(); 2].map(|()| free(Ipv4Addr::LOCALHOST));
        let file = |name| format!("\"{}\"", site.authority.file(name));
        let (transport, more) = match site.transport {
            Transport::Tcp => ("tcp", vec![]),
            Transport::Tls => (
                "tls",
                vec![
                    "WITH_TLS".to_owned(),
                    format!("CERTIFICATE={}", file("edge.pem")),
                    format!("KEY={}", file("edge.key")),
                    format!("AUTHORITY={}", file("ca.pem")),
                ],
            ),
        };
        let uri = format!("sip:{server};transport={transport}");
        let list = site.scratch.path().join("list");
        fs::write(&list, format!("1 {uri}\n")).expect("a list can be written");
        let mut command = kamailio_command(&site.scratch, "tests/interop/edge.cfg");
        for definition in more.into_iter().chain([
            format!("PHONES=udp:{phones}"),
            format!("SERVERS={transport}:{servers}"),
            format!("LAMPFIELD=\"{uri}\""),
            format!("LIST=\"{}\"", list.display()),
            format!("MODULES=\"{}\"", kamailio_modules("tls")),
        ]) {
            command.args(["-A", &definition]);
        }
        let program = start_kamailio(&mut command, &site.scratch);
        let mut edge = Edge {
            command,
            program,
            phones,
            servers,
        };
        edge.await_listening();
        edge
    }

    /// It is there again after it was killed, and has forgotten everything.
    fn start_again(&mut self, site: &Site) {
        self.program = start_kamailio(&mut self.command, &site.scratch);
        self.await_listening();
    }

    fn await_listening(&mut self) {
        await_that("Kamailio listens", || {
            self.program.assert_running();
            UdpSocket::bind(self.phones).is_err() && TcpListener::bind(self.servers).is_err()
        });
    }
}

/// Lamps before the edge go on and off.
fn lamps_change(transport: Transport) {
    let site = Site::new(transport);
    let mut edge = Edge::start(&site, site.address());
    let mut phones = site.phones(&mut edge);
    let server = &site.server;
    // One connection carries them all.
    assert_eq!(server.metric("lampfield_connections", &[]), 1);
    for ((state, word), phones) in STATES.iter().zip(&mut phones) {
        server.set_hint("1001", state);
        assert_eq!(phones.wait(), Some(0), "{word}: {}", phones.output());
        // The transports are swapped under it, with what is in the files now.
        assert_eq!(server.http("POST", "/v1/reload", "").0, 200);
    }
    site.assert_ended(&mut edge);
    let closed = server.metric("lampfield_connections_total", &["closed"]);
    assert_eq!(closed, 0);
}

#[test]
fn phones_behind_a_kamailio_that_comes_by_tcp_see_their_lamps_change() {
    lamps_change(Transport::Tcp);
}

#[test]
fn phones_behind_a_kamailio_that_comes_by_tls_see_their_lamps_change() {
    lamps_change(Transport::Tls);
}

/// Changes that happen while the edge is away reach the phones when it is back, and none of them has asked.
fn lamps_get_right(
    site: &Site,
    edge: &mut Edge,
    mut leave: impl FnMut(&mut Edge),
    mut come_back: impl FnMut(&mut Edge),
) {
    let mut phones = site.phones(edge);
    let server = &site.server;
    let (mut left, mut followed) = (STATES.len() * PHONES, 0);
    for ((state, word), phones) in STATES.iter().zip(&mut phones) {
        leave(edge);
        server.await_metric("lampfield_connections", &[], 0);
        server.set_hint("1001", state);
        come_back(edge);
        assert_eq!(phones.wait(), Some(0), "{word}: {}", phones.output());
        followed += left as u64;
        left -= PHONES;
        site.await_told(edge, left);
        let counted = server.metric("lampfield_subscriptions_followed_total", &[]);
        assert_eq!(counted, followed, "each one, once");
    }
    site.assert_ended(edge);
}

/// The connection ends, and another one takes its place.
fn lamps_get_right_after_a_cut(transport: Transport) {
    let site = Site::new(transport);
    let wire = Wire::to(site.address());
    let mut edge = Edge::start(&site, wire.address);
    lamps_get_right(&site, &mut edge, |_| wire.cut(), |_| wire.mend());
}

#[test]
fn phones_see_what_changed_while_the_tcp_of_their_kamailio_was_cut() {
    lamps_get_right_after_a_cut(Transport::Tcp);
}

#[test]
fn phones_see_what_changed_while_the_tls_of_their_kamailio_was_cut() {
    lamps_get_right_after_a_cut(Transport::Tls);
}

#[test]
fn phones_see_what_changed_while_their_kamailio_was_dead() {
    let site = Site::new(Transport::Tcp);
    let mut edge = Edge::start(&site, site.address());
    lamps_get_right(
        &site,
        &mut edge,
        |edge| edge.program.kill(),
        |edge| edge.start_again(&site),
    );
}
