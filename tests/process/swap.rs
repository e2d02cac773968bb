//! Transports that are swapped while phones are served: by the reload of a file, and by the wish for other sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{get, get_json, send};
use crate::phone::Phone;
use crate::server::{PATIENCE, Scratch, Server, errors};

const FRESH: &str = r#"{"fresh_sockets": true}"#;

/// Waits until nothing drains any more.
fn drained(server: &Server) -> Value {
    let begun = Instant::now();
    loop {
        let transports = get_json(server, "/v1/transports");
        let rows = transports["listeners"].as_array().expect("rows");
        if rows.iter().all(|row| row["state"] == "active") {
            return transports;
        }
        // Answers are remembered for 32 s, and each is a lease.
        let patience = PATIENCE + Duration::from_secs(32);
        assert!(begun.elapsed() < patience, "{transports}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

#[test]
fn new_sockets_on_the_same_address_are_noticed_by_nobody() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    let first = phone.notified(|_| true);
    let before = server.udp_sockets();

    for generation in 2..5 {
        let (status, answer) = send(&server, "POST", "/v1/reload", FRESH);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            (&answer["generation"], &answer["changed"]),
            (&json!(generation), &json!([]))
        );
        let state = if generation % 2 == 0 {
            "ringing"
        } else {
            "idle"
        };
        let told = server.tell(&["set-hint", "1001", state]);
        assert_eq!(told.status.code(), Some(0), "{}", errors(&told));
        let cseq = format!("{generation} NOTIFY");
        loop {
            let (notify, from) = phone.receive_from();
            if notify.header("CSeq") == cseq {
                assert_eq!(from, server.sip[0]);
                break;
            }
        }
    }
    phone.refresh(server.sip[0], "1001", 2, &first);
    let answer = phone.answered();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_eq!(phone.notified(|_| true).header("CSeq"), "5 NOTIFY");

    let table = server.tell(&["show", "transports"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains("draining") && table.contains("active"),
        "{table}"
    );
    let transports = drained(&server);
    assert_eq!(transports["generation"], 4);
    assert_eq!(transports["listeners"][0]["dialogs"], 1);
    assert_eq!(server.udp_sockets(), before);
    let metrics = get(&server, "/metrics").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    assert!(metrics.contains("lampfield_transport_swaps_total{outcome=\"done\"} 3\n"));
    assert!(metrics.contains("lampfield_transport_listeners{state=\"draining\"} 0\n"));
}

#[test]
fn a_dialog_moves_to_another_address_when_its_phone_does() {
    let scratch = Scratch::new("swap-address");
    let [old, new] = [free_port(), free_port()];
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let text = |port: u16| {
        format!(
            "[[listener]]\naddress = \"udp:127.0.0.1:{port}\"\ndscp = 24\n[packages.dialog]\nexpires_max = 600\n"
        )
    };
    let file = scratch.file("lampfield.toml", &text(old));
    let server = Server::start_with(&["--config", &file]);
    let phone = Phone::new(at(old), "100");
    phone.subscribe("1001", "dialog", 600);
    let first = phone.notified(|_| true);
    let contact = |port: u16| format!("<sip:127.0.0.1:{port}>");
    assert_eq!(first.header("Contact"), contact(old));

    scratch.file("lampfield.toml", &text(new));
    let told = server.tell(&["reload"]);
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(
        said,
        "new: listener\nlisteners of generation 2 serve\n",
        "{}",
        errors(&told)
    );
    // From the address that the phone knows, with the one that it shall go to.
    server.tell(&["set-hint", "1001", "ringing"]);
    let (notify, from) = phone.receive_from();
    assert_eq!(from, at(old));
    assert_eq!(notify.header("CSeq"), "2 NOTIFY");
    assert_eq!(notify.header("Contact"), contact(new));
    // It goes on using the old one, and is served there.
    phone.refresh(at(old), "1001", 2, &notify);
    let (answer, from) = phone.receive_from();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_eq!((from, answer.header("Contact")), (at(old), &*contact(new)));
    let (notify, from) = phone.receive_from();
    assert_eq!((from, notify.header("CSeq")), (at(old), "3 NOTIFY"));

    phone.refresh(at(new), "1001", 3, &notify);
    let (answer, from) = phone.receive_from();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_eq!(from, at(new));
    let (notify, from) = phone.receive_from();
    assert_eq!((from, notify.header("CSeq")), (at(new), "4 NOTIFY"));
    let transports = drained(&server);
    assert_eq!(
        transports["listeners"][0]["address"],
        format!("udp:{}", at(new))
    );
    // Nobody has the old port any more.
    std::net::UdpSocket::bind(at(old)).expect("a free port");
}

#[test]
fn an_address_that_cannot_be_had_refuses_the_whole_file() {
    let scratch = Scratch::new("swap-refused");
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    let text = |more: &str, log: &str| {
        format!("log = \"{log}\"\n[[listener]]\naddress = \"udp:127.0.0.1:0\"\n{more}")
    };
    let file = scratch.file("lampfield.toml", &text("", "info"));
    let server = Server::start_with(&["--config", &file]);
    let before = server.udp_sockets();
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);

    let more = format!("dscp = 24\n[[listener]]\naddress = \"udp:{taken}\"\n");
    scratch.file("lampfield.toml", &text(&more, "debug"));
    let (status, problem) = send(&server, "POST", "/v1/reload", "");
    assert_eq!(status, 409, "{problem}");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("nothing was changed"), "{detail}");
    assert!(detail.contains(&taken.to_string()), "{detail}");
    assert_eq!(get_json(&server, "/v1/transports")["generation"], 1);
    assert_eq!(server.udp_sockets(), before);
    server.tell(&["set-hint", "1001", "ringing"]);
    assert_eq!(phone.notified(|_| true).header("CSeq"), "2 NOTIFY");
    let metrics = get(&server, "/metrics").body_mut().read_to_string();
    assert!(
        metrics
            .expect("text")
            .contains("lampfield_transport_swaps_total{outcome=\"refused\"} 1\n")
    );
}

#[test]
fn a_listener_may_change_what_it_says_of_itself_and_how_it_marks() {
    let scratch = Scratch::new("swap-options");
    let text = |more: &str| format!("[[listener]]\naddress = \"udp:127.0.0.1:0\"\n{more}");
    let file = scratch.file("lampfield.toml", &text(""));
    let server = Server::start_with(&["--config", &file]);
    let before = server.udp_sockets();
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    let changes = [
        ("advertise = \"lamps.example.com\"\n", "ringing"),
        ("advertise = \"lamps.example.com\"\ndscp = 24\n", "idle"),
        ("receive_buffer = 1000000\n", "inuse"),
    ];
    for (number, (more, state)) in changes.into_iter().enumerate() {
        scratch.file("lampfield.toml", &text(more));
        let (status, answer) = send(&server, "POST", "/v1/reload", "");
        assert_eq!((status, &answer["changed"]), (200, &json!(["listener"])));
        server.tell(&["set-hint", "1001", state]);
        let notify = phone.notified(|_| true);
        assert_eq!(notify.header("CSeq"), format!("{} NOTIFY", number + 2));
        let advertised = notify.header("Contact").contains("lamps.example.com");
        assert_eq!(advertised, more.contains("advertise"), "{notify:?}");
        assert_eq!(server.udp_sockets(), before, "handed over, not opened");
    }
    assert_eq!(drained(&server)["generation"], 4);
}
