//! Phones on TLS: real handshakes with the real program, certificates made for the test.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::certificate::Authority;
use crate::client::{get_json, send};
use crate::server::{Scratch, Server, errors, run};
use crate::streams::{Phone, dial, set_hint};

pub type Secured = StreamOwned<ClientConnection, std::net::TcpStream>;

/// A handshake to its end, or why it failed.
pub fn handshake(
    server: SocketAddr,
    name: &'static str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Secured> {
    let name = ServerName::try_from(name).expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut secured = StreamOwned::new(session, dial(server));
    while secured.conn.is_handshaking() {
        secured.conn.complete_io(&mut secured.sock)?;
    }
    Ok(secured)
}

fn phone(secured: Secured, name: &str) -> Phone {
    let own = secured.sock.local_addr().expect("an address");
    let server = secured.sock.peer_addr().expect("connected");
    Phone::with(Box::new(secured), "TLS", own, server, name)
}

fn listener(more: &str) -> String {
    format!(
        "[[listener]]\naddress = \"tls:127.0.0.1:0\"\ncertificate = \"one.test.pem\"\nkey = \"one.test.key\"\n{more}"
    )
}

/// The certificate that the server shows for a name.
fn shown(secured: &Secured) -> Vec<u8> {
    let chain = secured.conn.peer_certificates().expect("a certificate");
    chain[0].to_vec()
}

#[test]
fn a_phone_on_tls_is_told_by_its_connection_and_certificates_are_replaced_without_ending_it() {
    let (scratch, authority) = (Scratch::new("tls"), Authority::new());
    authority.write(&scratch.0, "one.test");
    let file = scratch.file("lampfield.toml", &listener(""));
    let server = Server::start_with(&["--config", &file]);
    let config = authority.client(None);
    let secured = handshake(server.sip[0], "one.test", &config).expect("a handshake");
    let mut last = shown(&secured);
    let mut old = phone(secured, "old");
    let text = old.subscribe_text("1001", 1, "");
    for piece in text.as_bytes().chunks(100) {
        old.send(piece);
    }
    let answer = old.answered();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert!(
        answer.header("Contact").ends_with(";transport=tls>"),
        "{answer:?}"
    );
    let first = old.notified("");
    assert!(first.header("Via").starts_with("SIP/2.0/TLS "), "{first:?}");
    for round in 0..20 {
        authority.write(&scratch.0, "one.test");
        assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
        let secured = handshake(server.sip[0], "one.test", &config).expect("a handshake");
        let now = shown(&secured);
        assert_ne!(now, last, "new handshakes see the new certificate");
        last = now;
        let mut fresh = phone(secured, &format!("fresh{round}"));
        fresh.subscribe("1001", 1, "");
        fresh.notified("");
        set_hint(&server, "1001", ["ringing", "inuse"][round % 2]);
        let word = ["early", "confirmed"][round % 2];
        fresh.notified(word);
        old.notified(word);
    }
    // What is wrong is refused whole, and nobody notices.
    scratch.file("one.test.pem", "no certificate");
    let (status, _) = send(&server, "POST", "/v1/reload", "");
    assert_ne!(status, 200);
    let secured = handshake(server.sip[0], "one.test", &config).expect("a handshake");
    assert_eq!(shown(&secured), last);
    set_hint(&server, "1001", "idle");
    old.notified("terminated");
    assert_eq!(
        get_json(&server, "/v1/status")["listeners"][0]["transport"],
        "tls"
    );
}

#[test]
fn the_name_that_a_phone_asks_for_chooses_the_certificate() {
    let (scratch, authority) = (Scratch::new("sni"), Authority::new());
    authority.write(&scratch.0, "one.test");
    authority.write(&scratch.0, "two.test");
    let more = "more_certificates = [\"two.test.pem\"]\nmore_keys = [\"two.test.key\"]\n";
    let file = scratch.file("lampfield.toml", &listener(more));
    let server = Server::start_with(&["--config", &file]);
    let config = authority.client(None);
    let one = handshake(server.sip[0], "one.test", &config).expect("a handshake");
    let two = handshake(server.sip[0], "two.test", &config).expect("a handshake");
    assert_ne!(shown(&one), shown(&two));
    assert!(handshake(server.sip[0], "three.test", &config).is_err());
}

#[test]
fn who_shows_no_certificate_or_a_strange_one_stays_outside_where_one_is_demanded() {
    let (scratch, authority) = (Scratch::new("mutual"), Authority::new());
    authority.write(&scratch.0, "one.test");
    scratch.file("ca.pem", &authority.pem());
    for (demand, without) in [("", false), ("client_certificates = \"optional\"\n", true)] {
        let more = format!("client_ca = \"ca.pem\"\n{demand}");
        let file = scratch.file("lampfield.toml", &listener(&more));
        let server = Server::start_with(&["--config", &file]);
        let lets_in = |config: &Arc<ClientConfig>| {
            // In TLS 1.3 a refusal comes after the client's handshake.
            let Ok(secured) = handshake(server.sip[0], "one.test", config) else {
                return false;
            };
            let mut phone = phone(secured, "phone");
            let text = phone.subscribe_text("1001", 1, "");
            let sent = phone.stream.write_all(text.as_bytes());
            sent.is_ok() && phone.receive().is_some()
        };
        assert!(lets_in(&authority.client(Some("phone.test"))));
        assert_eq!(lets_in(&authority.client(None)), without);
    }
}

//= RFC 5923 5 type=test
#[test]
fn an_edge_that_proves_its_name_and_asks_for_it_is_told_for_its_phones_by_its_new_connection() {
    let (scratch, authority) = (Scratch::new("alias"), Authority::new());
    authority.write(&scratch.0, "one.test");
    scratch.file("ca.pem", &authority.pem());
    let more = "client_ca = \"ca.pem\"\nclient_certificates = \"optional\"\n";
    let edge = "[[edge]]\nnames = [\"sbc.test\"]\n";
    let file = scratch.file("lampfield.toml", &format!("{}{edge}", listener(more)));
    let server = Server::start_with(&["--config", &file]);
    let connect = |shows: Option<&str>, name: &str| {
        let config = authority.client(shows);
        let secured = handshake(server.sip[0], "one.test", &config).expect("a handshake");
        phone(secured, name)
    };
    let through = |phone: &Phone, user: &str, alias: &str| {
        let text = phone.subscribe_text(user, 1, "");
        let via = format!("Via: SIP/2.0/TLS sbc.test{alias};branch=z9hG4bK-{user}\r\nVia:");
        let route = "Record-Route: <sip:sbc.test;transport=tls;lr>\r\nMax-Forwards:";
        let text = text.replacen("Via:", &via, 1);
        text.replacen("Max-Forwards:", route, 1)
    };
    let mut first = connect(None, "first");
    let text = through(&first, "1001", "");
    first.send(text.as_bytes());
    first.notified("");
    drop(first);
    set_hint(&server, "1001", "ringing");
    // Whoever proves another name, or nothing, is told its own.
    let mut others = Vec::new();
    for (shows, name) in [(None, "nobody"), (Some("other.test"), "other")] {
        let mut other = connect(shows, name);
        let text = through(&other, "1002", ";alias");
        other.send(text.as_bytes());
        let notify = other.notified("");
        assert!(notify.0.contains("1002"), "{notify:?}");
        others.push(other);
    }
    let mut back = connect(Some("sbc.test"), "back");
    let text = through(&back, "1003", ";alias");
    back.send(text.as_bytes());
    let notify = back.notified("<state>early</state>");
    assert!(notify.0.contains("sip:1001@"), "{notify:?}");
}

#[test]
fn what_is_no_tls_ends_its_own_connection_only() {
    let (scratch, authority) = (Scratch::new("notls"), Authority::new());
    authority.write(&scratch.0, "one.test");
    let file = scratch.file("lampfield.toml", &listener(""));
    let server = Server::start_with(&["--config", &file]);
    let config = authority.client(None);
    let secured = handshake(server.sip[0], "one.test", &config).expect("a handshake");
    let mut good = phone(secured, "good");
    good.subscribe("1001", 1, "");
    good.notified("");
    for _ in 0..20 {
        let mut bad = dial(server.sip[0]);
        bad.write_all(b"SUBSCRIBE sip:1001@x SIP/2.0\r\n\r\n")
            .expect("sent");
        std::io::copy(&mut bad, &mut std::io::sink()).ok();
    }
    set_hint(&server, "1001", "ringing");
    good.notified("early");
}

#[test]
fn only_the_cipher_suites_that_are_named_are_spoken_and_a_wrong_name_is_answered_with_the_right_ones()
 {
    let (scratch, authority) = (Scratch::new("ciphers"), Authority::new());
    authority.write(&scratch.0, "one.test");
    let wrong = "tls_ciphers = [\"TLS_RSA_WITH_RC4_128_MD5\"]\n";
    let file = scratch.file("lampfield.toml", &listener(wrong));
    let shown = errors(&run(&["check", &file]));
    assert!(shown.contains("TLS_RSA_WITH_RC4_128_MD5"), "{shown}");
    assert!(shown.contains("TLS13_AES_128_GCM_SHA256"), "{shown}");
    assert!(
        shown.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
        "{shown}"
    );
    // Of no use where TLS 1.2 is not spoken.
    let unfit = "tls_min = \"1.3\"\ntls_ciphers = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]\n";
    scratch.file("lampfield.toml", &listener(unfit));
    let shown = errors(&run(&["check", &file]));
    assert!(
        shown.contains("no cipher suite of this listener"),
        "{shown}"
    );
    let one = "tls_ciphers = [\"TLS13_CHACHA20_POLY1305_SHA256\"]\n";
    scratch.file("lampfield.toml", &listener(one));
    let server = Server::start_with(&["--config", &file]);
    let config = authority.client(None);
    let secured = handshake(server.sip[0], "one.test", &config).expect("a handshake");
    let suite = secured.conn.negotiated_cipher_suite().expect("a suite");
    assert_eq!(
        suite.suite().as_str(),
        Some("TLS13_CHACHA20_POLY1305_SHA256")
    );
    let mut provider = default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.suite().as_str() != Some("TLS13_CHACHA20_POLY1305_SHA256"));
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = builder.with_root_certificates(authority.roots());
    let other = builder.with_no_client_auth();
    assert!(handshake(server.sip[0], "one.test", &Arc::new(other)).is_err());
}
