//! A server that makes mistakes: each must be seen by the phones and counted as what it is.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::{Connected, Field, Group, Plan, Way};
use crate::certificates::Authority;
use crate::configuration::{Configuration, Listener, Transport};
use crate::phone::Stage;
use crate::sys;
use crate::wire::{Heard, Package};

/// Two addresses of a server that does what it is told, and one phone before them.
struct Case {
    field: Field,
    places: [UdpSocket; 2],
    /// The phone's SUBSCRIBEs, newest last.
    asked: Vec<Vec<u8>>,
    cseq: u32,
}

impl Case {
    fn start() -> Case {
        let places = ["127.0.0.1:0"; 2].map(|any| UdpSocket::bind(any).unwrap());
        let server = places[0].local_addr().unwrap();
        let plan = Plan {
            server,
            edge: None,
            package: Package::Dialog,
            expires: 600,
            ports: 1,
            keys: 1,
            edges: 0,
            lose_permille: 0,
            seed: 1,
            connected: Connected::default(),
        };
        let mut case = Case {
            field: Field::new(plan, 2, 1).unwrap(),
            places,
            asked: Vec::new(),
            cseq: 0,
        };
        case.field.subscribe(0);
        case.serve(0);
        assert_eq!(case.field.phones[0].stage, Stage::Active);
        case
    }

    fn address(&self, place: usize) -> SocketAddr {
        self.places[place].local_addr().unwrap()
    }

    /// Answers the SUBSCRIBE that must have come to this place, from there, and sends the NOTIFY that is owed.
    fn serve(&mut self, place: usize) {
        self.hear(place);
        self.answer(place, place);
        self.notify(place, place, "");
    }

    fn hear(&mut self, place: usize) {
        self.field.turn(Duration::ZERO);
        let mut buffer = [0; 4096];
        let length = loop {
            let place = &self.places[place];
            assert!(sys::wait_readable(&[place], 5_000), "it went elsewhere");
            let length = place.recv(&mut buffer).unwrap();
            // Between them are the phone's answers to NOTIFYs.
            if buffer.starts_with(b"SUBSCRIBE ") {
                break length;
            }
        };
        self.asked.push(buffer[..length].to_vec());
    }

    fn answer(&mut self, from: usize, contact: usize) {
        let heard = Heard::read(self.asked.last().unwrap()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let to = text(heard.to);
        let tag = if to.contains("tag=") { "" } else { ";tag=s1" };
        let answer = format!(
            "SIP/2.0 200 OK\r\n{}From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {} SUBSCRIBE\r\nContact: <sip:{}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n",
            text(heard.vias[0]),
            text(heard.from),
            text(heard.call_id),
            heard.cseq,
            self.address(contact),
        );
        self.send(from, &answer);
    }

    fn refuse(&mut self, status: &str, seconds: u32) {
        let heard = Heard::read(self.asked.last().unwrap()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let answer = format!(
            "SIP/2.0 {status}\r\n{}From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} SUBSCRIBE\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n",
            text(heard.vias[0]),
            text(heard.from),
            text(heard.to),
            text(heard.call_id),
            heard.cseq,
        );
        self.send(0, &answer);
    }

    /// A NOTIFY from one place whose Contact leads to one; `spoil` is put before the host of its Request-URI.
    fn notify(&mut self, from: usize, contact: usize, spoil: &str) {
        let heard = Heard::read(&self.asked[0]).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let target = text(Heard::target(heard.contact).unwrap()).replace('@', &format!("{spoil}@"));
        let body = format!(
            "<dialog-info version=\"{}\"><state>terminated</state></dialog-info>",
            self.cseq
        );
        self.cseq += 1;
        let notify = format!(
            "NOTIFY {target} SIP/2.0\r\nVia: SIP/2.0/UDP s;branch=z9hG4bK{}\r\nFrom: <sip:r@s>;tag=s1\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {} NOTIFY\r\nContact: <sip:{}>\r\nEvent: dialog\r\nSubscription-State: active;expires=600\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.cseq,
            text(heard.from),
            text(heard.call_id),
            self.cseq,
            self.address(contact),
            body.len()
        );
        self.send(from, &notify);
    }

    fn send(&mut self, from: usize, text: &str) {
        let before = self.field.seen.notifies_heard + self.field.seen.answers_heard;
        let Way::Datagrams { socket, .. } = &self.field.ports[0].way else {
            panic!("the first ports are those of datagrams");
        };
        let phone = socket.local_addr().unwrap();
        self.places[from].send_to(text.as_bytes(), phone).unwrap();
        while self.field.seen.notifies_heard + self.field.seen.answers_heard == before {
            self.field.turn(Duration::from_millis(10));
        }
    }

    /// The server's second address is added; with it, or in place of the first.
    fn swap(&mut self, keep: bool) {
        let mut next = Configuration::new(self.address(0));
        next.listeners.push(Listener::new(self.address(1)));
        if !keep {
            next.listeners.remove(0);
        }
        self.field.places.begin(&next);
        self.settle();
    }

    /// The swap was done long ago: nothing of before is excused.
    fn settle(&mut self) {
        self.field.places.settle(Duration::ZERO);
        self.field.start -= Duration::from_secs(10);
        self.field.turn(Duration::ZERO);
    }

    fn wrongs(&self) -> Vec<&'static str> {
        let wrongs = self.field.seen.wrongs().into_iter();
        wrongs
            .filter(|(_, count)| *count > 0)
            .map(|(name, _)| name)
            .collect()
    }
}

const FROM: &str = "messages from an address that the phone does not know";
const CONTACT: &str = "Contacts that lead elsewhere than they must";

#[test]
fn a_phone_that_is_refused_asks_again_when_it_was_told_to_and_not_before() {
    let mut case = Case::start();
    for (index, status) in [
        (0, "503 Service Unavailable"),
        (1, "500 Server Internal Error"),
    ] {
        // One refreshes, the other is new.
        if index == 0 {
            case.field.refresh(index);
        } else {
            case.field.subscribe(index);
        }
        case.hear(0);
        case.refuse(status, 1);
        let (refused, sent) = (Instant::now(), case.field.seen.requests_sent);
        while case.field.seen.requests_sent == sent {
            case.field.turn(Duration::from_millis(10));
            assert!(
                refused.elapsed() < Duration::from_secs(20),
                "it does not come"
            );
        }
        // A millisecond for two clocks that were not read at once.
        assert!(refused.elapsed() >= Duration::from_millis(999));
        case.hear(0);
        let again = Heard::read(case.asked.last().unwrap()).unwrap();
        assert_eq!(Heard::tag(again.to).is_some(), index == 0);
        case.answer(0, 0);
    }
    let seen = &case.field.seen;
    assert_eq!(
        (seen.refusals, seen.refreshes_refused, seen.requests_again),
        (2, 1, 0)
    );
}

#[test]
fn a_dialog_that_moves_where_it_is_told_is_right() {
    let mut case = Case::start();
    case.swap(false);
    case.notify(0, 1, "");
    case.field.refresh(0);
    case.serve(1);
    assert_eq!(case.wrongs(), Vec::<&str>::new());
    assert_eq!(case.field.seen.notifies, 3);
}

#[test]
fn a_notify_from_an_address_that_the_phone_did_not_ask_is_seen() {
    let mut case = Case::start();
    case.swap(false);
    case.notify(1, 1, "");
    assert_eq!(case.wrongs(), [FROM]);
}

#[test]
fn a_notify_from_the_address_before_is_seen_once_the_dialog_has_moved() {
    let mut case = Case::start();
    case.swap(false);
    case.notify(0, 1, "");
    case.field.refresh(0);
    case.hear(1);
    // Until the answer is here it may be the one or the other.
    case.notify(0, 1, "");
    case.answer(1, 1);
    assert_eq!(case.wrongs(), Vec::<&str>::new());
    case.notify(0, 1, "");
    assert_eq!(case.wrongs(), [FROM]);
}

#[test]
fn an_answer_from_elsewhere_is_seen() {
    let mut case = Case::start();
    case.swap(true);
    case.field.refresh(0);
    case.hear(0);
    case.answer(1, 0);
    assert_eq!(case.wrongs(), [FROM]);
}

#[test]
fn a_contact_that_leads_where_nobody_is_any_more_is_seen() {
    let mut case = Case::start();
    case.swap(false);
    case.notify(0, 0, "");
    assert_eq!(case.wrongs(), [CONTACT]);
}

#[test]
fn a_contact_that_leads_away_from_an_address_that_stays_is_seen() {
    let mut case = Case::start();
    case.swap(true);
    case.notify(0, 1, "");
    assert_eq!(case.wrongs(), [CONTACT]);
}

#[test]
fn a_notify_for_another_contact_is_seen() {
    let mut case = Case::start();
    case.notify(0, 0, "x");
    assert_eq!(case.wrongs(), ["NOTIFYs to the wrong phone"]);
}

#[test]
fn a_notify_with_another_dscp_than_the_listener_has_is_seen() {
    let mut case = Case::start();
    let mut next = Configuration::new(case.address(0));
    next.listeners[0].dscp = Some(46);
    case.field.places.begin(&next);
    case.settle();
    case.notify(0, 0, "");
    assert_eq!(
        case.wrongs(),
        ["NOTIFYs with another DSCP than their listener's"]
    );
}

/// A field whose two phones share one connection to a listener of the test's own.
fn connected() -> (Field, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let plan = Plan {
        server,
        edge: None,
        package: Package::Dialog,
        expires: 600,
        ports: 1,
        keys: 1,
        edges: 0,
        lose_permille: 0,
        seed: 1,
        connected: Connected {
            groups: vec![Group {
                transport: Transport::Tcp,
                server,
                count: 1,
            }],
            only: true,
            ..Connected::default()
        },
    };
    (Field::new(plan, 2, 1).unwrap(), listener)
}

fn wait_for(field: &mut Field, mut done: impl FnMut(&Field) -> bool) {
    let start = Instant::now();
    while !done(field) && start.elapsed() < Duration::from_secs(10) {
        field.turn(Duration::from_millis(10));
    }
}

#[test]
fn phones_of_one_connection_share_it_and_a_renewed_one_takes_their_next_requests() {
    let (mut field, listener) = connected();
    field.subscribe(0);
    field.subscribe(1);
    field.turn(Duration::ZERO);
    assert_eq!(field.seen.connections_opened, 1);
    let (mut first, _) = listener.accept().unwrap();
    let mut text = [0; 4096];
    let length = first.read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    assert_eq!(text.matches("\r\nVia: SIP/2.0/TCP 127.0.1.").count(), 2);
    assert_eq!(text.matches(";transport=tcp>\r\n").count(), 2);
    field.renew(0);
    field.refresh(0);
    assert_eq!(field.seen.connections_opened, 2);
}

#[test]
fn a_connection_that_the_server_ends_is_seen() {
    let (mut field, listener) = connected();
    field.subscribe(0);
    let (first, _) = listener.accept().unwrap();
    drop(first);
    wait_for(&mut field, |field| field.seen.connections_lost > 0);
    assert_eq!(field.seen.connections_lost, 1);
    field.visit(Transport::Tcp);
    drop(listener);
    wait_for(&mut field, |field| field.seen.connections_lost > 1);
    assert_eq!((field.seen.connections_lost, field.visiting()), (2, 0));
    field.visit(Transport::Tcp);
    assert_eq!(field.seen.connections_refused, 1);
}

#[test]
fn a_handshake_with_the_certificate_before_is_wrong_once_the_swap_is_done() {
    let authority = Authority::new().unwrap();
    let [old, new] = [(); 2].map(|()| authority.issue().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let (mut field, _) = connected();
    field.plan.connected.groups[0].transport = Transport::Tls;
    field.plan.connected.trust = Some(authority.client().unwrap());
    let mut next = Configuration::new(server);
    next.listeners[0].transport = Transport::Tls;
    field.places.begin(&next);
    field.expect_certificate(old.shown);
    // A server that goes on showing the one before.
    let chain = CertificateDer::from_pem_slice(old.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(old.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let config = Arc::new(config);
    let shows = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let (mut socket, _) = listener.accept().unwrap();
            while session.is_handshaking() {
                session.complete_io(&mut socket).unwrap();
            }
        }
    });
    for (swapped, wrong) in [(false, 0), (true, 1)] {
        if swapped {
            field.expect_certificate(new.shown.clone());
            field.places.settle(Duration::ZERO);
        }
        let before = field.seen.handshakes;
        field.visit(Transport::Tls);
        wait_for(&mut field, |field| field.seen.handshakes > before);
        assert_eq!(field.seen.certificate_wrong, wrong);
    }
    shows.join().unwrap();
}
