//! A server that makes mistakes: each must be seen by the phones and counted as what it is.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::{Field, Plan};
use crate::configuration::{Configuration, Listener};
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
        let phone = self.field.ports[0].socket.local_addr().unwrap();
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
