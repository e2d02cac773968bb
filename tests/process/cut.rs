//! Subscriptions that were told by a connection, after kill -9: they come back without it, nobody dials their phones,
//! and each is told what is when its phone connects again.

use std::net::{SocketAddr, TcpListener};

use crate::client::{get, get_json};
use crate::server::{Scratch, Server};
use crate::streams::{Phone, dial, set_hint};

/// A server whose phones find it again at the same port.
fn start(scratch: &Scratch, port: u16) -> Server {
    start_with(scratch, port, &[])
}

fn start_with(scratch: &Scratch, port: u16, more: &[&str]) -> Server {
    // The kernel lets go of a ring and its sockets only a moment after their process has ended.
    while port != 0 && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
        std::thread::yield_now();
    }
    let listen = format!("tcp:127.0.0.1:{port}");
    let data_dir = scratch.0.join("data");
    let data_dir = data_dir.to_str().expect("a plain path");
    let all = [&["--listen", &listen, "--data-dir", data_dir], more].concat();
    Server::start_with(&all)
}

fn phone(server: SocketAddr, name: &str) -> Phone {
    let stream = dial(server);
    let own = stream.local_addr().expect("an address");
    Phone::with(Box::new(stream), "TCP", own, server, name)
}

/// A SUBSCRIBE whose Contact leads to somebody who would notice a connection.
fn subscribe(phone: &mut Phone, contact: &TcpListener, user: &str, cseq: u32, to_tag: &str) {
    let contact = contact.local_addr().expect("an address").to_string();
    let text = phone.subscribe_text(user, cseq, to_tag);
    assert!(text.contains("10.9.9.9:5060"));
    phone.send(text.replace("10.9.9.9:5060", &contact).as_bytes());
}

fn number(text: &str) -> u32 {
    let digits = text.split([' ', '"']).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

fn version(text: &str) -> u32 {
    number(text.split(" version=\"").nth(2).expect("a version"))
}

#[test]
fn a_phone_on_tcp_is_told_after_kill_9_when_it_connects_again_and_is_never_dialled() {
    let scratch = Scratch::new("cut");
    let dialled = TcpListener::bind("127.0.0.1:0").expect("a port");
    dialled.set_nonblocking(true).expect("an option");
    let mut server = start(&scratch, 0);
    let sip = server.sip[0];
    let mut lamp = phone(sip, "lamp");
    subscribe(&mut lamp, &dialled, "1001", 1, "");
    let answer = lamp.answered();
    let (_, tag) = answer.header("To").split_once(";tag=").expect("a tag");
    let tag = format!(";tag={tag}");
    let mut last = lamp.notified("terminated");
    set_hint(&server, "1001", "inuse");
    last = match lamp.notified("confirmed") {
        newer if number(newer.header("CSeq")) == number(last.header("CSeq")) + 1 => newer,
        other => panic!("{other:?} after {last:?}"),
    };
    for round in 0..3 {
        server.signal("KILL");
        server.ended();
        server = start(&scratch, sip.port());
        assert!(
            server.banner.contains("records came back"),
            "{}",
            server.banner
        );
        let (state, shown) = [("ringing", "early"), ("inuse", "confirmed")][round % 2];
        set_hint(&server, "1001", state);
        // It is there, and waits: nothing was sent to anybody, and nobody was dialled.
        let status = get_json(&server, "/v1/status");
        assert_eq!(status["subscriptions"], 1, "{status}");
        std::thread::sleep(std::time::Duration::from_millis(700));
        let metrics = get(&server, "/metrics").body_mut().read_to_string();
        let metrics = metrics.expect("text");
        let sent = metrics.lines().filter(|line| {
            let notify = line.starts_with("lampfield_notifies_total");
            notify && line.contains("event=\"sent\"")
        });
        for line in sent {
            assert!(line.ends_with(" 0"), "{line}");
        }
        assert!(dialled.accept().is_err(), "nobody dials a phone");
        // The phone has noticed, and refreshes by a new connection.
        lamp = phone(sip, "lamp");
        subscribe(&mut lamp, &dialled, "1001", 2 + round as u32, &tag);
        let answer = lamp.answered();
        assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
        let told = lamp.notified(shown);
        assert_eq!(told.header("Call-ID"), last.header("Call-ID"));
        assert!(number(told.header("CSeq")) > number(last.header("CSeq")));
        assert!(version(&told.0) > version(&last.0), "{told:?}");
        // From here on it is told as before.
        set_hint(&server, "1001", "idle");
        last = lamp.notified("terminated");
        assert_eq!(number(last.header("CSeq")), number(told.header("CSeq")) + 1);
        assert_eq!(version(&last.0), version(&told.0) + 1);
    }
}

#[test]
fn all_phones_of_an_edge_are_told_after_kill_9_when_their_edge_connects_again() {
    let scratch = Scratch::new("edge");
    let file = scratch.file("lampfield.toml", "edges = [\"127.0.0.1\"]\n");
    let more = ["--config", &*file];
    let mut server = start_with(&scratch, 0, &more);
    let sip = server.sip[0];
    let through = |phone: &Phone, user: &str| {
        let text = phone.subscribe_text(user, 1, "");
        let via = format!("Via: SIP/2.0/TCP 10.1.1.1;branch=z9hG4bK-{user}\r\nVia:");
        let route = "Record-Route: <sip:10.1.1.1;transport=tcp;lr>\r\nMax-Forwards:";
        let text = text.replacen("Via:", &via, 1);
        text.replacen("Max-Forwards:", route, 1)
    };
    for name in ["one", "two", "three", "four"] {
        let mut edge = phone(sip, name);
        let text = through(&edge, "1001");
        edge.send(text.as_bytes());
        edge.notified("terminated");
    }
    server.signal("KILL");
    server.ended();
    server = start_with(&scratch, sip.port(), &more);
    set_hint(&server, "1001", "ringing");
    let mut edge = phone(sip, "edge");
    let options = through(&edge, "1001").replace("SUBSCRIBE", "OPTIONS");
    edge.send(options.as_bytes());
    let mut told: Vec<String> = Vec::new();
    while told.len() < 4 {
        let notify = edge.notified("early");
        told.push(notify.header("Call-ID").to_owned());
    }
    told.sort();
    assert_eq!(told, ["four-1001", "one-1001", "three-1001", "two-1001"]);
}
