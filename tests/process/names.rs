//! Host names in routes, looked up at a name server that this test is.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::send;
use crate::phone::{Phone, Received};
use crate::server::{PATIENCE, Scratch, Server};
use crate::streams::set_hint;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

/// The data of one record.
type Record = (&'static str, u16, Vec<u8>);

/// A name server that knows a few records, until it is silenced.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    silent: Arc<AtomicBool>,
}

impl NameServer {
    fn start(zone: Vec<Record>) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let server = NameServer {
            address: socket.local_addr().expect("an address"),
            asked: Arc::default(),
            silent: Arc::default(),
        };
        let (asked, silent) = (Arc::clone(&server.asked), Arc::clone(&server.silent));
        // It ends with the process.
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let query = &buffer[..length];
                let (name, kind, end) = question(query);
                if silent.load(Ordering::SeqCst) {
                    continue;
                }
                let answer = respond(query, end, &name, kind, &zone);
                asked.lock().expect("no panic").push((name, kind));
                socket.send_to(&answer, peer).expect("it is sent");
            }
        });
        server
    }

    fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

/// The name that is asked for, its type, and where the question ends.
fn question(query: &[u8]) -> (String, u16, usize) {
    let mut at = 12;
    let mut labels = Vec::new();
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (labels.join("."), kind, at + 5)
}

fn respond(query: &[u8], end: usize, name: &str, kind: u16, zone: &[Record]) -> Vec<u8> {
    let found = zone
        .iter()
        .filter(|record| (record.0, record.1) == (name, kind));
    let exists = zone.iter().any(|record| record.0 == name);
    let mut answer = query[..2].to_vec();
    // An answer that recursion was available for; NXDOMAIN where nothing has that name.
    answer.extend([0x81, if exists { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, found.clone().count() as u8, 0, 0, 0, 0]);
    answer.extend(&query[12..end]);
    for (_, _, data) in found {
        // The name is that of the question.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    answer
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn naptr(order: u16, service: &str, replacement: &str) -> Vec<u8> {
    let mut data = order.to_be_bytes().to_vec();
    data.extend([0, 10]);
    for text in ["s", service, ""] {
        data.push(text.len() as u8);
        data.extend(text.as_bytes());
    }
    data.extend(encoded(replacement));
    data
}

fn srv(priority: u16, port: u16, target: &str) -> Vec<u8> {
    let mut data = priority.to_be_bytes().to_vec();
    data.extend([0, 1]);
    data.extend(port.to_be_bytes());
    data.extend(encoded(target));
    data
}

/// A proxy of the name: a socket at which NOTIFYs come.
struct Proxy(UdpSocket);

impl Proxy {
    fn start() -> Proxy {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Proxy(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    /// The next NOTIFY, which is answered so.
    fn notified(&self, status: &str) -> Received {
        let mut buffer = [0; 4096];
        let (length, peer) = self.0.recv_from(&mut buffer).expect("a NOTIFY");
        let notify = Received(String::from_utf8_lossy(&buffer[..length]).into_owned());
        assert!(notify.0.starts_with("NOTIFY "), "{notify:?}");
        let mut answer = format!("SIP/2.0 {status} Said\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            answer.push_str(&format!("{name}: {}\r\n", notify.header(name)));
        }
        answer.push_str("Content-Length: 0\r\n\r\n");
        self.0.send_to(answer.as_bytes(), peer).expect("it is sent");
        notify
    }
}

fn config(servers: &str) -> String {
    format!(
        "[dns]\nservers = [\"{servers}\"]\ntimeout = 1\n\
         [[listener]]\naddress = \"udp:127.0.0.1:0\"\nnat = \"never\"\n"
    )
}

fn route(name: &str) -> String {
    format!("Record-Route: <sip:{name};lr>\r\n")
}

//= RFC 3263 4 type=test
#[test]
fn a_route_by_name_is_followed_to_the_first_of_its_servers_that_serves() {
    let (busy, good) = (Proxy::start(), Proxy::start());
    let dns = NameServer::start(vec![
        (
            "sbc.example.test",
            NAPTR,
            naptr(10, "SIP+D2T", "_sip._tcp.sbc.example.test"),
        ),
        (
            "sbc.example.test",
            NAPTR,
            naptr(20, "SIP+D2U", "_x._udp.sbc.example.test"),
        ),
        (
            "_x._udp.sbc.example.test",
            SRV,
            srv(2, good.port(), "two.example.test"),
        ),
        (
            "_x._udp.sbc.example.test",
            SRV,
            srv(1, busy.port(), "one.example.test"),
        ),
        ("one.example.test", A, vec![127, 0, 0, 1]),
        ("one.example.test", AAAA, vec![0; 16]),
        ("two.example.test", A, vec![127, 0, 0, 1]),
    ]);
    let scratch = Scratch::new("names");
    let file = scratch.file("lampfield.toml", &config(&dns.address.to_string()));
    let server = Server::start_with(&["--config", &file]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe_with("1001", "dialog", 600, 1, &route("SBC.example.test"));
    assert!(phone.answered().0.starts_with("SIP/2.0 200 "));
    assert_eq!(busy.notified("503").header("CSeq"), "1 NOTIFY");
    let notify = good.notified("200");
    assert_eq!(notify.header("CSeq"), "2 NOTIFY");
    assert_eq!(notify.header("Route"), "<sip:SBC.example.test;lr>");
    let asked: Vec<(String, u16)> = [
        ("sbc.example.test", NAPTR),
        ("_x._udp.sbc.example.test", SRV),
        ("one.example.test", A),
        ("two.example.test", A),
    ]
    .map(|(name, kind)| (name.to_owned(), kind))
    .into();
    assert_eq!(dns.asked(), asked);
    // What is known is not asked for again, and where the first was busy the second is good for all.
    set_hint(&server, "1001", "ringing");
    assert!(good.notified("200").has("<state>early</state>"));
    assert_eq!(dns.asked(), []);
    // A name server that says nothing: answers go out, others are told, and what was known is good.
    dns.silent.store(true, Ordering::SeqCst);
    let waits = Phone::new(server.sip[0], "200");
    waits.subscribe_with("1001", "dialog", 600, 1, &route("other.example.test"));
    assert!(waits.answered().0.starts_with("SIP/2.0 200 "));
    let begun = Instant::now();
    for state in ["inuse", "idle"] {
        set_hint(&server, "1001", state);
        good.notified("200");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    // Another name server, by a reload, knows that name; who waits is told when it is asked again.
    let late = Proxy::start();
    let second = NameServer::start(vec![
        (
            "_sip._udp.other.example.test",
            SRV,
            srv(1, late.port(), "o.example.test"),
        ),
        ("o.example.test", A, vec![127, 0, 0, 1]),
    ]);
    let address = server.sip[0];
    let text = config(&second.address.to_string()).replace("127.0.0.1:0", &address.to_string());
    scratch.file("lampfield.toml", &text);
    assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
    assert!(late.notified("200").has("<state>terminated</state>"));
}
