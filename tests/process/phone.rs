//! A phone with one key, just good enough to see what the process sends. What SIP demands in full is tried elsewhere.

use std::net::{SocketAddr, UdpSocket};

use crate::server::PATIENCE;

/// One phone.
pub struct Phone {
    socket: UdpSocket,
    server: SocketAddr,
    name: String,
}

/// One message from the server.
#[derive(Debug)]
pub struct Received(pub String);

impl Phone {
    /// On a port of its own.
    pub fn new(server: SocketAddr, name: &str) -> Phone {
        let any = SocketAddr::new(server.ip(), 0);
        let socket = UdpSocket::bind(any).expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Phone {
            socket,
            server,
            name: name.to_owned(),
        }
    }

    /// Sends a SUBSCRIBE outside of any dialog.
    pub fn subscribe(&self, user: &str, package: &str, expires: u32) {
        let own = self.socket.local_addr().expect("an address");
        let (name, server) = (&self.name, self.server);
        let request = [
            &format!("SUBSCRIBE sip:{user}@{server} SIP/2.0"),
            &format!("Via: SIP/2.0/UDP {own};branch=z9hG4bK-{name}-{user}-{package};rport"),
            "Max-Forwards: 70",
            &format!("From: <sip:{name}@{server}>;tag={name}-{user}"),
            &format!("To: <sip:{user}@{server}>"),
            &format!("Call-ID: {name}-{user}-{package}@{own}"),
            "CSeq: 1 SUBSCRIBE",
            &format!("Contact: <sip:{name}@{own}>"),
            &format!("Event: {package}"),
            &format!("Expires: {expires}"),
            "Content-Length: 0",
            "",
            "",
        ]
        .join("\r\n");
        let sent = self.socket.send_to(request.as_bytes(), self.server);
        sent.expect("it is sent");
    }

    /// Sends bytes.
    pub fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.server).expect("it is sent");
    }

    /// The next message; a NOTIFY is answered with 200.
    pub fn receive(&self) -> Received {
        let mut buffer = [0; 65_536];
        let (length, peer) = self.socket.recv_from(&mut buffer).expect("a message");
        let text = String::from_utf8(buffer[..length].to_vec()).expect("UTF-8");
        let received = Received(text);
        if received.0.starts_with("NOTIFY ") {
            let mut answer = vec!["SIP/2.0 200 OK".to_owned()];
            for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
                answer.push(format!("{name}: {}", received.header(name)));
            }
            answer.push("Content-Length: 0\r\n\r\n".to_owned());
            let answer = answer.join("\r\n");
            self.socket
                .send_to(answer.as_bytes(), peer)
                .expect("it is sent");
        }
        received
    }

    /// The next NOTIFY for which this holds; whatever comes before is answered and passed over.
    pub fn notified(&self, wanted: impl Fn(&Received) -> bool) -> Received {
        loop {
            let received = self.receive();
            if received.0.starts_with("NOTIFY ") && wanted(&received) {
                return received;
            }
        }
    }
}

impl Received {
    /// The value of a header field, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.0.split("\r\n");
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or("").trim()
    }

    /// Whether the text stands in it.
    pub fn has(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}
