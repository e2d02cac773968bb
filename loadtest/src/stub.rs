//! The simplest possible notifier, to compare with: one thread, no timers, no retransmission, no checks,
//! no expiry. What it costs is what the kernel and the bare work cost. It must never be used for anything else.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::sys::{self, Inbox, Outbox};
use crate::wire::{Heard, parameter, put};

/// NOTIFYs that may wait for their answers while more are sent.
const IN_FLIGHT: usize = 1024;

struct Watcher {
    peer: SocketAddr,
    call_id: Box<[u8]>,
    local: Box<[u8]>,
    remote: Box<[u8]>,
    target: Box<[u8]>,
    event: Box<[u8]>,
    resource: u32,
    cseq: u32,
    live: bool,
}

struct Resource {
    user: String,
    state: &'static str,
    watchers: Vec<u32>,
}

struct Stub {
    here: SocketAddr,
    /// The NOTIFY overtakes the 200, as datagrams may.
    notify_first: bool,
    watchers: Vec<Watcher>,
    by_call_id: HashMap<Box<[u8]>, u32>,
    resources: Vec<Resource>,
    by_user: HashMap<String, u32>,
    in_flight: usize,
    /// Resources whose watchers must hear of a change, and how many of them have.
    fans: VecDeque<(u32, usize)>,
}

/// Serves until the process is ended.
pub fn serve(listen: SocketAddr, admin: SocketAddr, notify_first: bool) -> io::Result<()> {
    let socket = sys::bind(listen)?;
    let http = TcpListener::bind(admin)?;
    let (sender, changes) = mpsc::channel();
    thread::spawn(move || serve_http(&http, &sender));
    Stub {
        here: listen,
        notify_first,
        watchers: Vec::new(),
        by_call_id: HashMap::new(),
        resources: Vec::new(),
        by_user: HashMap::new(),
        in_flight: 0,
        fans: VecDeque::new(),
    }
    .run(&socket, &changes)
}

impl Stub {
    fn run(&mut self, socket: &UdpSocket, changes: &Receiver<(String, String)>) -> ! {
        let mut inbox = Inbox::default();
        let mut outbox = Outbox::default();
        loop {
            let count = inbox.receive(socket);
            for index in 0..count {
                let (bytes, peer) = inbox.datagram(index);
                self.hear(bytes, peer, &mut outbox);
            }
            outbox.flush(socket);
            for (user, word) in changes.try_iter() {
                let resource = self.resource(&user);
                self.resources[resource as usize].state = match word.as_str() {
                    "ringing" => "early",
                    "inuse" => "confirmed",
                    _ => "terminated",
                };
                self.fans.push_back((resource, 0));
            }
            self.fan_out(&mut outbox);
            outbox.flush(socket);
            let may_send = !self.fans.is_empty() && self.in_flight < IN_FLIGHT;
            if count == 0 && !may_send && !sys::wait_readable(&[socket], 2) {
                // An answer that never comes must not hold the others back.
                self.in_flight = 0;
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], peer: SocketAddr, outbox: &mut Outbox) {
        let Ok(heard) = Heard::read(bytes) else {
            return;
        };
        if heard.status != 0 {
            self.in_flight = self.in_flight.saturating_sub(1);
            return;
        }
        if heard.method != b"SUBSCRIBE" {
            return;
        }
        let expires = heard.expires.unwrap_or(3600);
        let number = match self.by_call_id.get(heard.call_id) {
            Some(&number) => number,
            None => self.admit(&heard, peer),
        };
        let watcher = &mut self.watchers[number as usize];
        watcher.live = expires > 0;
        if self.notify_first {
            self.notify(number, expires, outbox);
        }
        self.answer(number, &heard, expires, peer, outbox);
        if !self.notify_first {
            self.notify(number, expires, outbox);
        }
    }

    fn admit(&mut self, heard: &Heard<'_>, peer: SocketAddr) -> u32 {
        let number = self.watchers.len() as u32;
        let uri = Heard::target(heard.to).unwrap_or(b"sip:nobody@nowhere");
        let end = memchr::memchr(b'@', uri).unwrap_or(uri.len());
        let user = String::from_utf8_lossy(uri.get(4..end).unwrap_or(b"")).into_owned();
        let resource = self.resource(&user);
        self.resources[resource as usize].watchers.push(number);
        self.by_call_id.insert(heard.call_id.into(), number);
        self.watchers.push(Watcher {
            peer,
            call_id: heard.call_id.into(),
            local: [heard.to, format!(";tag=stub{number}").as_bytes()]
                .concat()
                .into(),
            remote: heard.from.into(),
            target: Heard::target(heard.contact).unwrap_or(b"sip:nobody").into(),
            event: heard.event.into(),
            resource,
            cseq: 0,
            live: true,
        });
        number
    }

    fn resource(&mut self, user: &str) -> u32 {
        if let Some(&resource) = self.by_user.get(user) {
            return resource;
        }
        let resource = self.resources.len() as u32;
        self.by_user.insert(user.to_owned(), resource);
        self.resources.push(Resource {
            user: user.to_owned(),
            state: "terminated",
            watchers: Vec::new(),
        });
        resource
    }

    fn answer(
        &self,
        number: u32,
        heard: &Heard<'_>,
        expires: u32,
        peer: SocketAddr,
        outbox: &mut Outbox,
    ) {
        let watcher = &self.watchers[number as usize];
        let out = outbox.open();
        out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        for via in heard.vias {
            out.extend_from_slice(via);
        }
        for (name, value) in [
            ("From: ", &watcher.remote),
            ("\r\nTo: ", &watcher.local),
            ("\r\nCall-ID: ", &watcher.call_id),
        ] {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        put(
            out,
            format_args!(
                "\r\nCSeq: {} SUBSCRIBE\r\nContact: <sip:{}>\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n",
                heard.cseq, self.here
            ),
        );
        let _full = outbox.close(peer);
    }

    fn notify(&mut self, number: u32, expires: u32, outbox: &mut Outbox) {
        let watcher = &mut self.watchers[number as usize];
        let Resource { user, state, .. } = &self.resources[watcher.resource as usize];
        watcher.cseq += 1;
        let (cseq, here) = (watcher.cseq, self.here);
        let out = outbox.open();
        out.extend_from_slice(b"NOTIFY ");
        out.extend_from_slice(&watcher.target);
        put(
            out,
            format_args!(
                " SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKs{number}.{cseq};rport\r\n"
            ),
        );
        for (name, value) in [
            ("From: ", &watcher.local),
            ("\r\nTo: ", &watcher.remote),
            ("\r\nCall-ID: ", &watcher.call_id),
            ("\r\nEvent: ", &watcher.event),
        ] {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        let lasting = match expires {
            0 => "terminated;reason=timeout".to_owned(),
            seconds => format!("active;expires={seconds}"),
        };
        let body = format!(
            "<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{}\" state=\"full\" entity=\"sip:{user}@{here}\">\n<dialog id=\"{user}\"><state>{state}</state></dialog>\n</dialog-info>\n",
            cseq - 1
        );
        put(
            out,
            format_args!(
                "\r\nCSeq: {cseq} NOTIFY\r\nContact: <sip:{here}>\r\nMax-Forwards: 70\r\nSubscription-State: {lasting}\r\n\
                 Content-Type: application/dialog-info+xml\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        let _full = outbox.close(watcher.peer);
        self.in_flight += 1;
    }

    fn fan_out(&mut self, outbox: &mut Outbox) {
        let mut room = sys::BATCH;
        while let Some((resource, done)) = self.fans.pop_front() {
            let watchers = &self.resources[resource as usize].watchers;
            let Some(&number) = watchers.get(done) else {
                continue;
            };
            if room == 0 || self.in_flight >= IN_FLIGHT {
                self.fans.push_front((resource, done));
                return;
            }
            self.fans.push_front((resource, done + 1));
            if self.watchers[number as usize].live {
                self.notify(number, 3600, outbox);
                room -= 1;
            }
        }
    }
}

/// Serves `PUT /v1/hints/USER` on any number of connections; anything else is answered 200 and forgotten.
pub fn serve_http(listener: &TcpListener, changes: &Sender<(String, String)>) {
    for stream in listener.incoming().flatten() {
        let changes = changes.clone();
        thread::spawn(move || serve_connection(stream, &changes));
    }
}

/// One request after the other, none longer than the buffer.
fn serve_connection(mut stream: TcpStream, changes: &Sender<(String, String)>) {
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    while let Ok(more @ 1..) = stream.read(&mut buffer[length..]) {
        length += more;
        let text = &buffer[..length];
        let Some(head) = memchr::memmem::find(text, b"\r\n\r\n") else {
            continue;
        };
        let announced = parameter_line(&text[..head], b"content-length:").unwrap_or(0);
        if length < head + 4 + announced {
            continue;
        }
        if let Some(change) = changes_of(text) {
            // The receiver lives as long as the process.
            let _sent = changes.send(change);
        }
        length = 0;
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

fn parameter_line(head: &[u8], name: &[u8]) -> Option<usize> {
    let line = head
        .split(|&byte| byte == b'\n')
        .find(|line| line.to_ascii_lowercase().starts_with(name))?;
    std::str::from_utf8(line[name.len()..].trim_ascii())
        .ok()?
        .parse()
        .ok()
}

/// `PUT /v1/hints/USER` with `"state":"…"`.
fn changes_of(text: &[u8]) -> Option<(String, String)> {
    let path = text.strip_prefix(b"PUT /v1/hints/")?;
    let end = path.iter().position(|byte| matches!(byte, b' ' | b'@'));
    let state = memchr::memmem::find(text, b"\"state\":\"")?;
    let word = parameter(&text[state..], b"\"state\":\"")?;
    let word = &word[..memchr::memchr(b'"', word)?];
    let owned = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some((owned(&path[..end?]), owned(word)))
}
