//! A whole shard under hostile input: whatever comes, it answers or drops, sends only what can be read, goes on
//! serving those who were there before, and forgets everything in the end.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lampfield::hint::{HintState, HintUpdate};
use lampfield::partition::{Secrets, ShardId};
use lampfield::policy::{GateSettings, Policy, PolicySettings};
use lampfield::shard::Shard;
use lampfield::shard::control::{Ask, HintChange, Request};
use lampfield::shard::effects::Effects;
use lampfield::shard::input::Input;
use lampfield::shard::mail::Mail;
use lampfield::shard::settings::Settings;
use lampfield::sip::{Message, Start};
use lampfield::stats::Counter;
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId};

/// One shard with the defaults, and a clock of its own.
pub struct Server {
    shard: Shard,
    out: Effects,
    now: Time,
    domain: String,
}

impl Server {
    /// A shard that knows nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "there is nothing plain about it"
    )]
    pub fn new() -> Self {
        let secrets = Secrets::new([1; 32]);
        let settings = PolicySettings {
            gates: vec![GateSettings::default()],
            ..PolicySettings::default()
        };
        let policy =
            Arc::new(Policy::new(&settings, &secrets, None).expect("the defaults are sound"));
        let domain = policy.domains().default_domain().to_owned();
        let listener = |number, address: &str| {
            Listener::new(ListenerId(number), address.parse().expect("an address"), 0)
        };
        let listeners = vec![listener(0, "127.0.0.1:5060"), listener(1, "[::1]:5060")];
        let settings = Settings::new(ShardId(0), 1, secrets, [2; 16], listeners, policy);
        let now = Time::from_millis(1_000);
        Server {
            shard: Shard::new(settings, now),
            out: Effects::new(1),
            now,
            domain,
        }
    }

    /// A datagram of the phone with this port, and what is sent because of it.
    pub fn receive(&mut self, port: u16, bytes: &[u8], truncated: bool) -> Vec<Vec<u8>> {
        self.receive_from(SocketAddr::from(([127, 0, 0, 1], port)), bytes, truncated)
    }

    /// A datagram of this peer, and what is sent because of it.
    pub fn receive_from(
        &mut self,
        peer: SocketAddr,
        bytes: &[u8],
        truncated: bool,
    ) -> Vec<Vec<u8>> {
        let flow = Flow {
            listener: ListenerId(u32::from(peer.is_ipv6())),
            local: None,
            peer,
            connection: None,
        };
        let input = Input::Datagram {
            flow,
            bytes,
            truncated,
            forwarded: false,
        };
        self.shard.step(self.now, input, &mut self.out);
        let mut sent = self.flush();
        sent.extend(self.tick());
        sent
    }

    /// Sets the state of one extension.
    pub fn set(&mut self, user: &str, state: HintState) -> Vec<Vec<u8>> {
        let resource = format!("{user}@{}", self.domain);
        let update = HintUpdate::new(resource.into(), "fuzz".into(), state);
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        let mail = Mail::Request(Request { id: 1, ask });
        self.shard.step(self.now, Input::Mail(mail), &mut self.out);
        let mut sent = self.flush();
        sent.extend(self.tick());
        sent
    }

    /// Lets time pass, deadline by deadline, and returns what was sent.
    pub fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(next) = self.shard.next_deadline()
            && next <= end
        {
            self.now = self.now.max(next);
            sent.extend(self.tick());
        }
        self.now = end;
        sent.extend(self.tick());
        sent
    }

    /// Nothing that a peer sends is a bug of ours.
    pub fn assert_sound(&mut self) {
        let stats = self.shard.stats();
        assert_eq!(stats.get(Counter::Bug), 0);
    }

    /// After hours of silence nothing is left.
    pub fn assert_forgotten(&mut self) {
        for _ in 0..4 {
            self.pass(Duration::from_secs(3_600));
        }
        let census = self.shard.census();
        assert_eq!(census.slots_leased, 0, "{census:?}");
        assert_eq!(census.subscriptions, 0, "{census:?}");
        assert_eq!(census.client_transactions, 0, "{census:?}");
        assert_eq!(census.server_transactions, 0, "{census:?}");
        assert_eq!(census.publications, 0, "{census:?}");
        assert_eq!(
            (census.copies, census.phones, census.ready),
            (0, 0, 0),
            "{census:?}"
        );
    }

    fn tick(&mut self) -> Vec<Vec<u8>> {
        let wall = WallOffset(0);
        self.shard
            .step(self.now, Input::Tick { wall }, &mut self.out);
        self.flush()
    }

    fn flush(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for send in self.out.sends.drain(..) {
            let bytes = self.shard.arena().bytes(send.slot).to_vec();
            assert_sendable(send.peer, &bytes);
            sent.push(bytes);
        }
        for slot in self.out.released.drain(..) {
            self.shard.arena().release(slot);
        }
        self.out.mails.clear();
        self.out.events.clear();
        sent
    }
}

/// Every datagram that leaves can be read, and goes to somebody.
fn assert_sendable(peer: SocketAddr, bytes: &[u8]) {
    assert_ne!(peer.port(), 0);
    let unicast = match peer.ip() {
        IpAddr::V4(address) => {
            !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
        }
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified(),
    };
    assert!(unicast, "{peer}");
    let text = String::from_utf8_lossy(bytes);
    let message = Message::scan(bytes).unwrap_or_else(|error| panic!("{error:?}: {text}"));
    match message.start {
        Start::Request { .. } => {
            message
                .request()
                .unwrap_or_else(|refusal| panic!("{refusal:?}: {text}"));
        }
        Start::Response { .. } => assert!(message.top_via_for_answer().is_some(), "{text}"),
    }
}

/// A SUBSCRIBE of the phone with this port to extension 1001; with a To tag it is a refresh.
pub fn subscribe_text(port: u16, call: &str, cseq: u32, to_tag: &str) -> String {
    format!(
        "SUBSCRIBE sip:1001@localhost SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{call}.{cseq}\r\n\
         From: <sip:{call}@localhost>;tag=f{call}\r\n\
         To: <sip:1001@localhost>{to_tag}\r\n\
         Call-ID: {call}\r\n\
         CSeq: {cseq} SUBSCRIBE\r\n\
         Contact: <sip:{call}@127.0.0.1:{port}>\r\n\
         Event: dialog\r\n\
         Expires: 3600\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A phone subscribes, and must get its NOTIFY, which it answers. Returns what it was sent.
pub fn subscribe(server: &mut Server, port: u16, call: &str) -> Vec<Vec<u8>> {
    let text = subscribe_text(port, call, 1, "");
    let sent = server.receive(port, text.as_bytes(), false);
    assert!(
        sent.iter().any(|sent| sent.starts_with(b"SIP/2.0 200 ")),
        "{}",
        shown(&sent)
    );
    let notify = sent.iter().find(|sent| sent.starts_with(b"NOTIFY "));
    let notify = notify.unwrap_or_else(|| panic!("no NOTIFY: {}", shown(&sent)));
    server.receive(port, &ok(notify), false);
    sent
}

/// The 200 to a NOTIFY.
pub fn ok(notify: &[u8]) -> Vec<u8> {
    let mut text = b"SIP/2.0 200 OK\r\n".to_vec();
    for line in notify.split_inclusive(|&byte| byte == b'\n') {
        let names: [&[u8]; 5] = [b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:"];
        if names.iter().any(|name| line.starts_with(name)) {
            text.extend_from_slice(line);
        }
    }
    text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    text
}

fn shown(sent: &[Vec<u8>]) -> String {
    sent.iter()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .collect()
}

/// The datagrams of one fuzz input are separated by this byte.
pub const SEPARATOR: u8 = 0x1e;

/// One phone subscribes; then come the datagrams of the input, from that phone and from another; then the first phone
/// must still be told of a change, and a new one must be served.
pub fn server(data: &[u8]) {
    with_server(|server| converse(server, data));
}

/// A shard that has forgotten everything is as good as a new one, and a thousand times cheaper.
pub(crate) fn with_server(work: impl FnOnce(&mut Server)) {
    thread_local! {
        static SERVER: Cell<Option<(Server, u32)>> = const { Cell::new(None) };
    }
    let (mut server, runs) = SERVER.take().unwrap_or_else(|| (Server::new(), 0));
    work(&mut server);
    server.assert_sound();
    server.assert_forgotten();
    SERVER.set((runs < 512).then_some((server, runs + 1)));
}

fn converse(server: &mut Server, data: &[u8]) {
    subscribe(server, 40_001, "before");
    for (number, datagram) in data.split(|&byte| byte == SEPARATOR).take(8).enumerate() {
        let port = 40_001 + (number % 2) as u16;
        let cut = datagram.len() > 4_096;
        server.receive(port, &datagram[..datagram.len().min(4_096)], cut);
        server.pass(Duration::from_millis(600));
    }
    let sent = server.set("1001", HintState::Ringing);
    let told = |sent: &[Vec<u8>]| {
        sent.iter().any(|sent| {
            Message::scan(sent).is_ok_and(|message| {
                message
                    .request()
                    .is_ok_and(|notify| notify.call_id == b"before")
            })
        })
    };
    // One that was told of late may have to wait for its turn.
    assert!(
        told(&sent) || told(&server.pass(Duration::from_secs(2))),
        "{}",
        shown(&sent)
    );
    subscribe(server, 40_003, "after");
    server.set("1001", HintState::Idle);
}
