//! Phones on TCP: real connections to the real program.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::client::{get, get_json, send};
use crate::phone::Received;
use crate::server::{PATIENCE, Scratch, Server};

/// What a phone reads and writes.
pub trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// A phone with one connection.
pub struct Phone {
    pub stream: Box<dyn Wire>,
    /// As a Via names it.
    transport: &'static str,
    own: SocketAddr,
    server: SocketAddr,
    name: String,
    /// What has come and was not looked at.
    begun: Vec<u8>,
}

impl Phone {
    fn connect(server: SocketAddr, name: &str) -> Phone {
        Phone::on(dial(server), name)
    }

    fn on(stream: TcpStream, name: &str) -> Phone {
        let own = stream.local_addr().expect("an address");
        let server = stream.peer_addr().expect("connected");
        Phone::with(Box::new(stream), "TCP", own, server, name)
    }

    /// By any kind of connection.
    pub fn with(
        stream: Box<dyn Wire>,
        transport: &'static str,
        own: SocketAddr,
        server: SocketAddr,
        name: &str,
    ) -> Phone {
        Phone {
            stream,
            transport,
            own,
            server,
            name: name.to_owned(),
            begun: Vec::new(),
        }
    }

    pub fn subscribe_text(&self, user: &str, cseq: u32, to_tag: &str) -> String {
        let (own, server, transport) = (self.own, self.server, self.transport);
        let name = &self.name;
        format!(
            "SUBSCRIBE sip:{user}@{server} SIP/2.0\r\nVia: SIP/2.0/{transport} {own};branch=z9hG4bK-{name}-{user}-{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{server}>;tag={name}-{user}\r\nTo: <sip:{user}@{server}>{to_tag}\r\n\
             Call-ID: {name}-{user}\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{name}@10.9.9.9:5060;transport=tcp>\r\n\
             Event: dialog\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
        )
    }

    pub fn subscribe(&mut self, user: &str, cseq: u32, to_tag: &str) {
        let text = self.subscribe_text(user, cseq, to_tag);
        self.send(text.as_bytes());
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it is sent");
    }

    /// The next message, of any kind; `None`: the server has closed.
    pub fn receive(&mut self) -> Option<Received> {
        loop {
            if let Some(text) = self.whole() {
                let received = Received(text);
                if received.0.starts_with("NOTIFY ") {
                    self.answer(&received);
                }
                return Some(received);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.begun.extend_from_slice(&buffer[..length]),
                Err(error) if is_end(&error) => return None,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.begun)),
            }
        }
    }

    fn answer(&mut self, request: &Received) {
        let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            answer.push_str(&format!("{name}: {}\r\n", request.header(name)));
        }
        answer.push_str("Content-Length: 0\r\n\r\n");
        self.send(answer.as_bytes());
    }

    /// One whole message out of what has come.
    fn whole(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.begun).into_owned();
        let head = text.find("\r\n\r\n")? + 4;
        let length = text[..head]
            .split("\r\n")
            .find_map(|line| line.strip_prefix("Content-Length:"))
            .map_or(0, |digits| digits.trim().parse().expect("a number"));
        let message = text.get(..head + length)?.to_owned();
        self.begun.drain(..message.len());
        Some(message)
    }

    /// The next NOTIFY with this in it.
    pub fn notified(&mut self, text: &str) -> Received {
        loop {
            let received = self.receive().expect("the connection lives");
            if received.0.starts_with("NOTIFY ") && received.has(text) {
                return received;
            }
        }
    }

    /// The next answer.
    pub fn answered(&mut self) -> Received {
        loop {
            let received = self.receive().expect("the connection lives");
            if received.0.starts_with("SIP/2.0 ") {
                return received;
            }
        }
    }
}

fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        // The last is an alert of TLS.
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::InvalidData
    )
}

/// A TCP connection to the server.
pub fn dial(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

pub fn set_hint(server: &Server, user: &str, state: &str) {
    let path = format!("/v1/hints/{user}");
    let answer = send(server, "PUT", &path, &json!({ "state": state }).to_string());
    assert_eq!(answer.0, 200);
}

fn start() -> Server {
    Server::start_with(&["--listen", "tcp:127.0.0.1:0", "--listen", "tcp:[::1]:0"])
}

#[test]
fn a_phone_on_tcp_is_told_by_its_connection_over_both_families() {
    let server = start();
    let status = get_json(&server, "/v1/status");
    assert_eq!(status["listeners"][0]["transport"], "tcp");
    for address in server.sip.clone() {
        let mut phone = Phone::connect(address, &format!("p{}", address.port()));
        let text = phone.subscribe_text("1001", 1, "");
        for piece in text.as_bytes().chunks(11) {
            phone.send(piece);
            thread::yield_now();
        }
        let answer = phone.answered();
        assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
        assert!(answer.header("Contact").ends_with(";transport=tcp>"));
        let first = phone.notified("");
        assert!(first.header("Via").starts_with("SIP/2.0/TCP "), "{first:?}");
        set_hint(&server, "1001", "ringing");
        phone.notified("early");
        set_hint(&server, "1001", "idle");
        phone.notified("terminated");
        // A ping, and its pong.
        phone.send(b"\r\n\r\n");
        let mut pong = [0; 2];
        phone.stream.read_exact(&mut pong).expect("a pong");
        assert_eq!(&pong, b"\r\n");
    }
}

#[test]
fn garbage_and_hang_ups_end_their_own_connection_only() {
    let server = start();
    let mut good = Phone::connect(server.sip[0], "good");
    good.subscribe("1001", 1, "");
    good.notified("");
    for number in 0..20 {
        let mut bad = Phone::connect(server.sip[0], "bad");
        bad.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(bad.receive().is_none());
        let mut reset = Phone::connect(server.sip[0], &format!("r{number}"));
        reset.subscribe("1001", 1, "");
        drop(reset);
        let mut wire = dial(server.sip[0]);
        let half = wire.try_clone().expect("another handle");
        let mut half = Phone::on(half, &format!("h{number}"));
        half.subscribe("1001", 1, "");
        wire.shutdown(Shutdown::Write).expect("an end");
        // Who has nothing more to say has nothing more to hear: the server closes too.
        wire.read_to_end(&mut Vec::new()).expect("the other end");
    }
    set_hint(&server, "1001", "inuse");
    good.notified("confirmed");
}

#[test]
fn a_phone_that_comes_back_on_a_new_connection_is_told_what_it_has_missed() {
    let server = start();
    let mut phone = Phone::connect(server.sip[0], "phone");
    phone.subscribe("1001", 1, "");
    let answer = phone.answered();
    let (_, tag) = answer.header("To").split_once(";tag=").expect("a tag");
    let tag = format!(";tag={tag}");
    phone.notified("");
    phone.subscribe("1002", 1, "");
    phone.notified("1002");
    drop(phone);
    set_hint(&server, "1002", "ringing");
    let mut phone = Phone::connect(server.sip[0], "phone");
    phone.subscribe("1001", 2, &tag);
    phone.notified("early");
}

#[test]
fn connections_live_on_over_reloads_and_a_removed_listener_ends_its_own() {
    let scratch = Scratch::new("streams");
    let (kept, removed) = (free_tcp(), free_tcp());
    let listener = |address| format!("[[listener]]\naddress = \"tcp:{address}\"\n");
    let both = format!("{}{}", listener(kept), listener(removed));
    let file = scratch.file("lampfield.toml", &both);
    let server = Server::start_with(&["--config", &file]);
    let mut stays = Phone::connect(kept, "stays");
    let mut goes = Phone::connect(removed, "goes");
    for phone in [&mut stays, &mut goes] {
        phone.subscribe("1001", 1, "");
        phone.notified("");
    }
    // Another advertised name is another generation of the same sockets.
    for round in 0..10 {
        let advertise = format!("advertise = \"sip{round}.example.com:5060\"\n");
        scratch.file(
            "lampfield.toml",
            &format!("{}{advertise}{}", listener(kept), listener(removed)),
        );
        assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
        set_hint(&server, "1001", ["ringing", "inuse"][round % 2]);
        let told = stays.notified(["early", "confirmed"][round % 2]);
        assert!(
            told.header("Contact")
                .contains(&format!("sip{round}.example.com")),
            "{told:?}"
        );
        goes.notified(["early", "confirmed"][round % 2]);
        let mut fresh = Phone::connect(kept, &format!("fresh{round}"));
        fresh.subscribe("1001", 1, "");
        fresh.notified("");
    }
    let short = format!("[transports]\ndrain_max = 1\n{}", listener(kept));
    scratch.file("lampfield.toml", &short);
    assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
    // The removed listener serves on until its deadline, and its connections end with it.
    while goes.receive().is_some() {}
    // One shard after the other stops to listen.
    while TcpStream::connect(removed).is_ok() {
        thread::yield_now();
    }
    set_hint(&server, "1001", "hold");
    stays.notified("1001");
    let transports = get_json(&server, "/v1/transports");
    assert_eq!(transports["generation"], 12, "{transports}");
}

fn free_tcp() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// A connection that comes from this address.
fn dial_from(source: &str, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = SocketAddr::new(source.parse().expect("an address"), 0);
    socket
        .bind(&source.into())
        .expect("an address of this host");
    socket.connect(&server.into()).expect("it listens");
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Whether it is refused, as far as the peer can tell: what is let in answers a ping.
fn is_refused(stream: &mut TcpStream) -> bool {
    let mut pong = [0; 2];
    let asked = stream.write_all(b"\r\n\r\n");
    asked.and_then(|()| stream.read_exact(&mut pong)).is_err()
}

#[test]
fn a_source_has_so_many_connections_over_all_shards_and_another_one_is_not_concerned() {
    let scratch = Scratch::new("sources");
    let listener = free_tcp();
    let config = |limits: &str| {
        let limits = format!("[limits]\n{limits}\n");
        format!("{limits}[[listener]]\naddress = \"tcp:{listener}\"\n")
    };
    let file = scratch.file(
        "lampfield.toml",
        &config("handshakes_per_source = 3\nconnections_per_source = 4\nconnections_per_edge = 6"),
    );
    let server = Server::start_with(&["--config", &file]);
    // Those who have said nothing but a ping: however they were spread over the shards.
    let mut silent: Vec<TcpStream> = (0..3).map(|_| dial_from("127.0.0.2", listener)).collect();
    assert!(!silent.iter_mut().any(is_refused));
    assert!(is_refused(&mut dial_from("127.0.0.2", listener)));
    let told = server.logged("a connection is refused");
    assert!(
        told.contains("127.0.0.2") && told.contains("handshakes_per_source"),
        "{told}"
    );
    // Who has subscribed is one of its connections, and no handshake any more.
    let mut phone = Phone::on(silent.pop().expect("three"), "phone");
    phone.subscribe("1001", 1, "");
    phone.notified("");
    silent.push(dial_from("127.0.0.2", listener));
    assert!(!is_refused(&mut silent[2]));
    assert!(is_refused(&mut dial_from("127.0.0.2", listener)));
    let told = server.logged("connections_per_source");
    assert!(told.contains("127.0.0.2"), "{told}");
    // This host itself speaks for many, and an address besides has its own count.
    assert!(!is_refused(&mut dial_from("127.0.0.3", listener)));
    let mut own: Vec<TcpStream> = (0..6).map(|_| dial_from("127.0.0.1", listener)).collect();
    assert!(!own.iter_mut().any(is_refused));
    assert!(is_refused(&mut dial_from("127.0.0.1", listener)));
    // A reload makes room, and takes nobody's connection.
    scratch.file("lampfield.toml", &config("connections_per_source = 9"));
    assert_eq!(send(&server, "POST", "/v1/reload", "").0, 200);
    assert!(!is_refused(&mut dial_from("127.0.0.2", listener)));
    set_hint(&server, "1001", "ringing");
    phone.notified("early");
    for limit in [
        "handshakes_per_source",
        "connections_per_source",
        "connections_per_edge",
    ] {
        wait_until(&server, limit, 1);
    }
}

/// Counters of the edge are shown once a second.
fn wait_until(server: &Server, limit: &str, wanted: u64) {
    const NAME: &str = "lampfield_connections_refused_total{";
    let label = format!("limit=\"{limit}\"");
    let begun = std::time::Instant::now();
    loop {
        let metrics = get(server, "/metrics")
            .into_body()
            .read_to_string()
            .expect("text");
        let is_it = |line: &&str| line.starts_with(NAME) && line.contains(&label);
        let lines = metrics.lines().filter(is_it);
        let counts = lines.map(|line| line.rsplit(' ').next().expect("a number").parse::<u64>());
        let count: u64 = counts.map(|count| count.expect("a number")).sum();
        if count == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{limit} {count}:\n{metrics}");
        thread::sleep(std::time::Duration::from_millis(50));
    }
}
