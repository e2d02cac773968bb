//! A phone with one key, just good enough to see what the process sends. What SIP demands in full is tried elsewhere.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};

use lampfield_load::sys::{self, Inbox};

use crate::server::PATIENCE;

/// One phone.
pub struct Phone {
    socket: UdpSocket,
    server: SocketAddr,
    name: String,
    /// Of its conversations, so that two phones of one name are told apart.
    tag: String,
}

/// One message from the server.
#[derive(Debug)]
pub struct Received(pub String);

impl Phone {
    /// On a port of its own.
    pub fn new(server: SocketAddr, name: &str) -> Phone {
        Phone::named(server, name, name)
    }

    /// One of several phones of that name.
    pub fn named(server: SocketAddr, name: &str, tag: &str) -> Phone {
        let any = SocketAddr::new(server.ip(), 0);
        let socket = UdpSocket::bind(any).expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Phone {
            socket,
            server,
            name: name.to_owned(),
            tag: tag.to_owned(),
        }
    }

    /// Sends a SUBSCRIBE outside of any dialog.
    pub fn subscribe(&self, user: &str, package: &str, expires: u32) {
        self.subscribe_with(user, package, expires, 1, "");
    }

    /// The same as a later attempt, with header fields of its own, each with its line end.
    pub fn subscribe_with(&self, user: &str, package: &str, expires: u32, cseq: u32, extra: &str) {
        let fields = format!("{extra}Event: {package}\r\nExpires: {expires}\r\n");
        self.request("SUBSCRIBE", user, "", cseq, &fields, "");
    }

    /// Refreshes the subscription that was answered so, or ends it, and says what it is told.
    pub fn resubscribe(
        &self,
        package: &str,
        expires: u32,
        cseq: u32,
        subscribed: &Received,
    ) -> Received {
        self.ask_again(package, expires, cseq, subscribed);
        self.answered()
    }

    /// The same, and does not wait for the answer.
    pub fn ask_again(&self, package: &str, expires: u32, cseq: u32, subscribed: &Received) {
        let fields = format!("Event: {package}\r\nExpires: {expires}\r\n");
        let (uri, tag) = subscribed.header("To").split_once(";tag=").expect("a tag");
        let user = uri.split([':', '@']).nth(1).expect("a user");
        self.request("SUBSCRIBE", user, &format!(";tag={tag}"), cseq, &fields, "");
    }

    /// Publishes a document.
    pub fn publish(&self, user: &str, package: &str, kind: &str, document: &str) {
        let fields = format!("Event: {package}\r\nExpires: 600\r\nContent-Type: {kind}\r\n");
        self.request("PUBLISH", user, "", 1, &fields, document);
    }

    /// What is heard from here on comes with its DSCP, and is answered only when it is told to be.
    pub fn overhear(&self) -> Overhearing<'_> {
        sys::show_class(&self.socket).expect("the kernel shows it");
        Overhearing {
            phone: self,
            inbox: Inbox::default(),
            heard: VecDeque::new(),
        }
    }

    /// Refreshes what was published, and says what its entity tag is now.
    pub fn renew(&self, user: &str, package: &str, cseq: u32, tag: &str) -> String {
        let fields = format!("Event: {package}\r\nExpires: 600\r\nSIP-If-Match: {tag}\r\n");
        self.request("PUBLISH", user, "", cseq, &fields, "");
        let answer = self.answered();
        assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
        answer.header("SIP-ETag").to_owned()
    }

    fn request(
        &self,
        method: &str,
        user: &str,
        tag_of_peer: &str,
        cseq: u32,
        fields: &str,
        body: &str,
    ) {
        let own = self.socket.local_addr().expect("an address");
        let (name, tag, server) = (&self.name, &self.tag, self.server);
        let head = [
            &format!("{method} sip:{user}@{server} SIP/2.0"),
            &format!("Via: SIP/2.0/UDP {own};branch=z9hG4bK-{method}-{tag}-{user}-{cseq};rport"),
            "Max-Forwards: 70",
            &format!("From: <sip:{name}@{server}>;tag={tag}-{user}"),
            &format!("To: <sip:{user}@{server}>{tag_of_peer}"),
            &format!("Call-ID: {method}-{tag}-{user}@{own}"),
            &format!("CSeq: {cseq} {method}"),
            &format!("Contact: <sip:{name}@{own}>"),
            &format!("Content-Length: {}", body.len()),
        ]
        .join("\r\n");
        self.send(format!("{head}\r\n{fields}\r\n{body}").as_bytes());
    }

    /// Refreshes the subscription to `user` that this NOTIFY is of, at the address that it is sent to now.
    pub fn refresh(&self, to: SocketAddr, user: &str, cseq: u32, notify: &Received) {
        let own = self.socket.local_addr().expect("an address");
        let (name, tag) = (&self.name, &self.tag);
        let text = [
            &format!("SUBSCRIBE sip:{user}@{to} SIP/2.0"),
            &format!("Via: SIP/2.0/UDP {own};branch=z9hG4bK-refresh-{tag}-{user}-{cseq};rport"),
            "Max-Forwards: 70",
            &format!("From: {}", notify.header("To")),
            &format!("To: {}", notify.header("From")),
            &format!("Call-ID: {}", notify.header("Call-ID")),
            &format!("CSeq: {cseq} SUBSCRIBE"),
            &format!("Contact: <sip:{name}@{own}>"),
            "Event: dialog",
            "Expires: 600",
            "Content-Length: 0\r\n\r\n",
        ]
        .join("\r\n");
        self.socket
            .send_to(text.as_bytes(), to)
            .expect("it is sent");
    }

    /// Sends bytes.
    pub fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.server).expect("it is sent");
    }

    /// The next message; a NOTIFY is answered with 200.
    pub fn receive(&self) -> Received {
        self.receive_from().0
    }

    /// The same, and who sent it.
    pub fn receive_from(&self) -> (Received, SocketAddr) {
        let mut buffer = [0; 65_536];
        let (length, peer) = self.socket.recv_from(&mut buffer).expect("a message");
        let text = String::from_utf8(buffer[..length].to_vec()).expect("UTF-8");
        let received = Received(text);
        if received.0.starts_with("NOTIFY ") {
            self.answer(&received, peer);
        }
        (received, peer)
    }

    fn answer(&self, notify: &Received, peer: SocketAddr) {
        let mut answer = vec!["SIP/2.0 200 OK".to_owned()];
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            answer.push(format!("{name}: {}", notify.header(name)));
        }
        answer.push("Content-Length: 0\r\n\r\n".to_owned());
        let answer = answer.join("\r\n");
        self.socket
            .send_to(answer.as_bytes(), peer)
            .expect("it is sent");
    }

    /// The next answer; NOTIFYs that come before are answered and passed over.
    pub fn answered(&self) -> Received {
        loop {
            let received = self.receive();
            if received.0.starts_with("SIP/2.0 ") {
                return received;
            }
        }
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

/// One message with what its datagram showed.
#[derive(Debug)]
pub struct Overheard {
    pub message: Received,
    pub from: SocketAddr,
    pub dscp: u8,
}

/// A phone at which somebody looks closely.
pub struct Overhearing<'a> {
    phone: &'a Phone,
    inbox: Inbox,
    heard: VecDeque<Overheard>,
}

impl Overhearing<'_> {
    /// The next message.
    pub fn next(&mut self) -> Overheard {
        let patience = PATIENCE.as_millis() as i32;
        if self.heard.is_empty() {
            assert!(
                sys::wait_readable(&[&self.phone.socket], patience),
                "nothing is heard"
            );
        }
        self.take();
        self.heard.pop_front().expect("something is there to read")
    }

    /// The next one of this method or status.
    pub fn next_of(&mut self, start: &str) -> Overheard {
        loop {
            let heard = self.next();
            if heard.message.0.starts_with(start) {
                return heard;
            }
        }
    }

    /// What has come up to now does not count.
    pub fn forget(&mut self) {
        self.take();
        self.heard.clear();
    }

    /// Answers a NOTIFY with 200.
    pub fn answer(&self, notify: &Overheard) {
        self.phone.answer(&notify.message, notify.from);
    }

    fn take(&mut self) {
        for index in 0..self.inbox.receive(&self.phone.socket) {
            let (bytes, from) = self.inbox.datagram(index);
            let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
            let class = self.inbox.class(index).expect("it was asked for");
            self.heard.push_back(Overheard {
                message: Received(text),
                from,
                dscp: class >> 2,
            });
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

    /// The header field that answers this challenge of the realm `here`, with its line end.
    pub fn credentials(&self, user: &str, password: &str, method: &str) -> String {
        let demand = self.header("WWW-Authenticate");
        let nonce = demand
            .split("nonce=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let nonce = nonce.expect("a nonce");
        let secret = sha256(&format!("{user}:here:{password}"));
        let request = sha256(&format!("{method}:sip:1001@here"));
        let response = sha256(&format!("{secret}:{nonce}:00000001:c:auth:{request}"));
        format!(
            "Authorization: Digest username=\"{user}\", realm=\"here\", nonce=\"{nonce}\", \
             uri=\"sip:1001@here\", response=\"{response}\", algorithm=SHA-256, qop=auth, \
             nc=00000001, cnonce=\"c\"\r\n"
        )
    }

    /// Whether the text stands in it.
    pub fn has(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(text.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
