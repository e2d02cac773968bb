//! Which socket a message leaves by while transports are replaced: sockets of two generations are told apart by their
//! DSCP, which the phones see.

use std::net::UdpSocket;
use std::time::Instant;

use serde_json::Value;

use crate::client::{get_json, send};
use crate::phone::Phone;
use crate::server::{PATIENCE, Scratch, Server};

const OLD: u8 = 26;
const NEW: u8 = 46;

/// A server with one listener that can be written anew.
struct Case {
    server: Server,
    scratch: Scratch,
    address: &'static str,
}

impl Case {
    fn start(name: &str, address: &'static str) -> Case {
        let scratch = Scratch::new(name);
        let file = scratch.file("lampfield.toml", &text(address, OLD));
        let server = Server::start_with(&["--config", &file]);
        Case {
            server,
            scratch,
            address,
        }
    }

    /// New sockets on the same address, with another DSCP.
    fn replace(&self) {
        let file = text(self.address, NEW);
        self.scratch.file("lampfield.toml", &file);
        let body = r#"{"fresh_sockets": true}"#;
        let (status, answer) = send(&self.server, "POST", "/v1/reload", body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["generation"], 2, "{answer}");
    }

    fn set(&self, resource: &str, state: &str) {
        let body = format!(r#"{{"state":"{state}"}}"#);
        let path = format!("/v1/hints/{resource}");
        assert_eq!(send(&self.server, "PUT", &path, &body).0, 200);
    }

    /// The row of the listener in that state, summed up by its key.
    fn held(&self, state: &str, key: &str) -> u64 {
        let transports = get_json(&self.server, "/v1/transports");
        let rows = transports["listeners"].as_array().expect("rows");
        let of = |row: &&Value| row["state"] == state;
        let held = rows.iter().filter(of).map(|row| row[key].as_u64());
        held.map(|count| count.expect("a number")).sum()
    }

    /// Waits until no request of ours is open on what drains.
    fn until_answered(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.held("draining", "client_transactions") > 0 {
            assert!(Instant::now() < deadline, "the answer ends nothing");
        }
    }
}

fn text(address: &str, dscp: u8) -> String {
    format!("trusted = [\"127.0.0.1\"]\n[[listener]]\naddress = \"udp:{address}\"\ndscp = {dscp}\n")
}

#[test]
fn what_was_begun_on_the_old_socket_ends_there_and_what_is_new_leaves_by_the_new_one() {
    let case = Case::start("sockets-address", "127.0.0.1:0");
    let sip = case.server.sip[0];
    let [silent, other] = ["100", "200"].map(|name| Phone::new(sip, name));
    let (mut silent_hears, mut other_hears) = (silent.overhear(), other.overhear());
    silent.subscribe("1001", "dialog", 600);
    other.subscribe("1002", "dialog", 600);
    for phone in [&mut silent_hears, &mut other_hears] {
        let first = phone.next_of("NOTIFY ");
        assert_eq!((first.dscp, first.from), (OLD, sip));
        phone.answer(&first);
    }
    case.set("1001", "ringing");
    let unanswered = silent_hears.next_of("NOTIFY ");
    assert_eq!(unanswered.message.header("CSeq"), "2 NOTIFY");

    case.replace();
    silent_hears.forget();
    assert_eq!(case.held("draining", "client_transactions"), 1);
    assert_eq!(case.held("active", "dialogs"), 2);
    case.set("1002", "ringing");
    let new = other_hears.next_of("NOTIFY ");
    assert_eq!((new.dscp, new.from), (NEW, sip));
    assert_eq!(new.message.header("CSeq"), "2 NOTIFY");
    other_hears.answer(&new);
    // The same bytes again, by the old socket, although the new one has been serving for a while.
    let again = silent_hears.next_of("NOTIFY ");
    assert_eq!((again.dscp, again.from), (OLD, sip));
    assert_eq!(again.message.0, unanswered.message.0);
    // So does the answer to a retransmission of the SUBSCRIBE, which the new socket takes in.
    silent.subscribe("1001", "dialog", 600);
    let answer = silent_hears.next_of("SIP/2.0 200 ");
    assert_eq!((answer.dscp, answer.from), (OLD, sip));

    silent_hears.answer(&again);
    case.until_answered();
    silent_hears.forget();
    case.set("1001", "idle");
    let new = silent_hears.next_of("NOTIFY ");
    assert_eq!((new.dscp, new.from), (NEW, sip));
    assert_eq!(new.message.header("CSeq"), "3 NOTIFY");
    silent_hears.answer(&new);
}

#[test]
fn a_wildcard_listener_goes_on_from_the_address_that_the_phone_knows() {
    let case = Case::start("sockets-wildcard", "0.0.0.0:0");
    let sip = ([127, 0, 0, 1], case.server.sip[0].port()).into();
    let silent = Phone::new(sip, "100");
    let mut hears = silent.overhear();
    silent.subscribe("1001", "dialog", 600);
    let first = hears.next_of("NOTIFY ");
    case.replace();
    hears.forget();
    let again = hears.next_of("NOTIFY ");
    assert_eq!(again.from, sip);
    assert_eq!(again.message.0, first.message.0);
    hears.answer(&again);
    case.until_answered();
    hears.forget();
    case.set("1001", "ringing");
    let new = hears.next_of("NOTIFY ");
    assert_eq!((new.dscp, new.from), (NEW, sip));
    hears.answer(&new);
}

//= RFC 5626 8 type=test
#[test]
fn a_stun_request_is_told_the_address_that_it_came_from() {
    let server = Server::start_with(&["--listen", "udp:0.0.0.0:0", "--trusted", "127.0.0.0/8"]);
    let phone = UdpSocket::bind("127.0.0.1:0").expect("a port");
    phone.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let id = b"abcdefghijkl";
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], id].concat();
    let to = ("127.0.0.1", server.sip[0].port());
    phone.send_to(&request, to).expect("it is sent");
    let mut answer = [0; 100];
    let length = phone.recv(&mut answer).expect("an answer");
    let port = phone.local_addr().expect("an address").port() ^ 0x2112;
    let mapped = [127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42];
    let expected = [
        &[1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42][..],
        id,
        &[0, 0x20, 0, 8, 0, 1],
        &port.to_be_bytes(),
        &mapped,
    ];
    assert_eq!(answer[..length], expected.concat());
}
