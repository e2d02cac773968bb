//! Phones in browsers: WebSocket, plain and secure, to the real program, with another library at the other end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::certificate::Authority;
use crate::client::{get_json, send};
use crate::server::{Scratch, Server};
use crate::streams::{Phone, Wire, dial, set_hint};
use crate::tls::handshake;

/// A connection whose every write is a message, as a phone wants it.
struct Frames<S>(WebSocket<S>);

impl<S: Wire> Read for Frames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read() {
            Ok(Message::Text(text)) => {
                assert!(text.len() <= buffer.len(), "it fits");
                buffer[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            }
            Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => Ok(0),
            Ok(other) => panic!("no text: {other:?}"),
            Err(tungstenite::Error::Io(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }
}

impl<S: Wire> Write for Frames<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(bytes).expect("text");
        let sent = self.0.send(Message::Text(text.into()));
        sent.map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a WebSocket as a page of `origin` does, or the status that it was refused with.
fn open<S: Wire>(stream: S, path: &str, origin: &str) -> Result<WebSocket<S>, u16> {
    let url = format!("ws://sip.example.com{path}");
    let mut request = url.into_client_request().expect("a request");
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
    headers.insert("Origin", origin.parse().expect("a value"));
    match tungstenite::client(request, stream) {
        Ok((socket, answer)) => {
            assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "sip");
            Ok(socket)
        }
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Err(answer.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

/// RFC 6455 7.4.1.
const GOING_AWAY: u16 = 1001;

const PAGE: &str = "https://phones.example.com";

fn page(server: SocketAddr, name: &str) -> Phone {
    let stream = dial(server);
    let own = stream.local_addr().expect("an address");
    let socket = open(stream, "/", PAGE).expect("it opens");
    Phone::with(Box::new(Frames(socket)), "WS", own, server, name)
}

#[test]
fn a_page_is_told_by_its_websocket_over_both_families() {
    let listen = ["--listen", "ws:127.0.0.1:0", "--listen", "ws:[::1]:0"];
    let server = Server::start_with(&listen);
    let status = get_json(&server, "/v1/status");
    assert_eq!(status["listeners"][0]["transport"], "ws");
    for address in server.sip.clone() {
        for number in 0..8 {
            let mut phone = page(address, &format!("p{}-{number}", address.port()));
            phone.subscribe("1001", 1, "");
            let answer = phone.answered();
            assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
            assert!(answer.header("Contact").ends_with(";transport=ws>"));
            let first = phone.notified("");
            assert!(first.header("Via").starts_with("SIP/2.0/WS "), "{first:?}");
            set_hint(&server, "1001", "ringing");
            phone.notified("early");
            set_hint(&server, "1001", "idle");
            phone.notified("terminated");
        }
    }
}

#[test]
fn what_is_no_websocket_ends_its_own_connection_only() {
    let server = Server::start_with(&["--listen", "ws:127.0.0.1:0"]);
    let mut good = page(server.sip[0], "good");
    good.subscribe("1001", 1, "");
    good.notified("");
    for text in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "SUBSCRIBE sip:1001@x SIP/2.0\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
    ] {
        let mut bad = dial(server.sip[0]);
        bad.write_all(text.as_bytes()).expect("sent");
        let mut answer = String::new();
        bad.read_to_string(&mut answer)
            .expect("an answer and an end");
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // One that goes away in the middle of a frame.
    let mut half = dial(server.sip[0]);
    drop(open(half.try_clone().expect("a handle"), "/", PAGE).expect("it opens"));
    half.write_all(&[0x81, 0xff, 0, 0]).expect("sent");
    drop(half);
    set_hint(&server, "1001", "ringing");
    good.notified("early");
}

#[test]
fn a_page_on_wss_lives_on_over_certificates_and_only_its_site_may_open_one() {
    let (scratch, authority) = (Scratch::new("wss"), Authority::new());
    authority.write(&scratch.0, "one.test");
    let listener = |more: &str| {
        format!(
            "[[listener]]\naddress = \"wss:127.0.0.1:0\"\ncertificate = \"one.test.pem\"\n\
             key = \"one.test.key\"\npath = \"/sip\"\n{more}"
        )
    };
    let site = "origins = [\"https://phones.example.com\", \"https://other.example\"]\n";
    let file = scratch.file("lampfield.toml", &listener(site));
    let server = Server::start_with(&["--config", &file]);
    let config = authority.client(None);
    let secured = || handshake(server.sip[0], "one.test", &config).expect("a handshake");
    let phone = |name: &str| {
        let secured = secured();
        let own = secured.sock.local_addr().expect("an address");
        let socket = open(secured, "/sip", PAGE).expect("it opens");
        Phone::with(Box::new(Frames(socket)), "WSS", own, server.sip[0], name)
    };
    let mut old = phone("old");
    old.subscribe("1001", 1, "");
    let answer = old.answered();
    assert!(
        answer.header("Contact").ends_with(";transport=ws>"),
        "{answer:?}"
    );
    let first = old.notified("");
    assert!(first.header("Via").starts_with("SIP/2.0/WSS "), "{first:?}");
    assert_eq!(open(secured(), "/", PAGE).err(), Some(404));
    assert_eq!(
        open(secured(), "/sip", "https://evil.example").err(),
        Some(403)
    );
    for round in 0..5 {
        authority.write(&scratch.0, "one.test");
        assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
        set_hint(&server, "1001", ["ringing", "inuse"][round % 2]);
        let word = ["early", "confirmed"][round % 2];
        old.notified(word);
        let mut fresh = phone(&format!("fresh{round}"));
        fresh.subscribe("1001", 1, "");
        fresh.notified(word);
    }
    // From now on pages of another site are let in; who is there stays.
    scratch.file(
        "lampfield.toml",
        &listener("origins = [\"https://other.example\"]\n"),
    );
    assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
    assert_eq!(open(secured(), "/sip", PAGE).err(), Some(403));
    assert!(open(secured(), "/sip", "https://other.example").is_ok());
    set_hint(&server, "1001", "idle");
    old.notified("terminated");
    let transports = get_json(&server, "/v1/transports");
    let address = transports["listeners"][0]["address"].as_str();
    assert!(
        address.is_some_and(|text| text.starts_with("wss:")),
        "{transports}"
    );
}

#[test]
fn a_page_ends_with_its_listener() {
    let scratch = Scratch::new("web");
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let (kept, removed) = (free(), free());
    let listener = |address| format!("[[listener]]\naddress = \"ws:{address}\"\n");
    let both = format!("{}{}", listener(kept), listener(removed));
    let file = scratch.file("lampfield.toml", &both);
    let server = Server::start_with(&["--config", &file]);
    let (mut stays, mut goes) = (page(kept, "stays"), page(removed, "goes"));
    let mut silent = open(dial(removed), "/", PAGE).expect("it opens");
    for phone in [&mut stays, &mut goes] {
        phone.subscribe("1001", 1, "");
        phone.notified("");
    }
    let short = format!("[transports]\ndrain_max = 1\n{}", listener(kept));
    scratch.file("lampfield.toml", &short);
    assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
    // It is told so, and not just cut off.
    while goes.receive().is_some() {}
    let ended = silent.read();
    let going_away =
        |frame: &tungstenite::protocol::CloseFrame| u16::from(frame.code) == GOING_AWAY;
    assert!(
        matches!(&ended, Ok(Message::Close(Some(frame))) if going_away(frame)),
        "{ended:?}"
    );
    while TcpStream::connect(removed).is_ok() {
        std::thread::yield_now();
    }
    set_hint(&server, "1001", "ringing");
    stays.notified("early");
}
