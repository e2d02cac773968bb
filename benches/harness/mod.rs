//! A shard without a kernel, and phones that answer it: for benches, and for the test that counts allocations.

use std::net::SocketAddr;
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
use lampfield::time::{Time, WallOffset};
use lampfield::transport::{Flow, Listener, ListenerId};

/// One shard, and phones that answer every NOTIFY at once.
pub struct Bench {
    shard: Shard,
    /// What every host means where no domains are configured.
    domain: String,
    out: Effects,
    now: Time,
    /// Answers to the NOTIFYs of the last turn, one after the other.
    answers: Vec<u8>,
    ends: Vec<usize>,
    pub notifies: usize,
    /// The last 200 to a SUBSCRIBE.
    accepted: Vec<u8>,
}

impl Bench {
    pub fn new() -> Self {
        let secrets = Secrets::new([1; 32]);
        let settings = PolicySettings {
            gates: vec![GateSettings::default()],
            ..PolicySettings::default()
        };
        let policy =
            Arc::new(Policy::new(&settings, &secrets, None).expect("the defaults are sound"));
        let listener = Listener::new(ListenerId(0), "127.0.0.1:5060".parse().unwrap(), 0);
        let now = Time::from_millis(1_000);
        let domain = policy.domains().default_domain().to_owned();
        let settings = Settings::new(ShardId(0), 1, secrets, [2; 16], vec![listener], policy);
        Bench {
            domain,
            shard: Shard::new(settings, now),
            out: Effects::new(1),
            now,
            answers: Vec::new(),
            ends: Vec::new(),
            notifies: 0,
            accepted: Vec::new(),
        }
    }

    pub fn flow(phone: usize) -> Flow {
        let peer = SocketAddr::from(([127, 0, 0, 1], 10_000 + (phone % 50_000) as u16));
        Flow {
            listener: ListenerId(0),
            local: None,
            peer,
            connection: None,
        }
    }

    pub fn input(&mut self, input: Input<'_>) {
        self.shard.step(self.now, input, &mut self.out);
    }

    /// One turn: time passes, what is to be sent is answered.
    pub fn turn(&mut self) {
        self.shard.step(
            self.now,
            Input::Tick {
                wall: WallOffset(0),
            },
            &mut self.out,
        );
        self.answers.clear();
        self.ends.clear();
        for send in &self.out.sends {
            let bytes = self.shard.arena().bytes(send.slot);
            if bytes.starts_with(b"NOTIFY") {
                self.notifies += 1;
                answer(bytes, &mut self.answers);
                self.ends.push(self.answers.len());
            } else {
                self.accepted.clear();
                self.accepted.extend_from_slice(bytes);
            }
        }
        self.out.sends.clear();
        self.out.mails.clear();
        for slot in self.out.released.drain(..) {
            self.shard.arena().release(slot);
        }
        let mut start = 0;
        let flow = Bench::flow(0);
        for &end in &self.ends {
            let bytes = &self.answers[start..end];
            self.shard.step(
                self.now,
                Input::Datagram {
                    flow,
                    bytes,
                    truncated: false,
                    forwarded: false,
                },
                &mut self.out,
            );
            start = end;
        }
    }

    /// What comes has waited for so long and so often that nothing new is taken on.
    #[allow(dead_code, reason = "not everybody who includes this file asks for it")]
    pub fn overload(&mut self) {
        for _ in 0..30 {
            self.now = self.now + Duration::from_millis(10);
            let waited = Duration::from_secs(1);
            self.input(Input::Turn { waited });
        }
    }

    pub fn subscribe(&mut self, phone: usize, resource: usize) {
        self.receive(phone, &subscribe(phone, resource));
    }

    /// A datagram of a phone, and all that follows from it.
    pub fn receive(&mut self, phone: usize, text: &str) {
        self.input(Input::Datagram {
            flow: Bench::flow(phone),
            bytes: text.as_bytes(),
            truncated: false,
            forwarded: false,
        });
        self.turn();
        self.turn();
    }

    /// The To tag that the last subscriber was given.
    #[allow(dead_code, reason = "the benches include this file and do not ask")]
    pub fn last_to_tag(&self) -> String {
        let text = std::str::from_utf8(&self.accepted).expect("an answer to plain text");
        let to = text.split("\r\n").find(|line| line.starts_with("To:"));
        let to = to.expect("an answer has To");
        to.split_once(";tag=")
            .expect("a 200 has a To tag")
            .1
            .to_owned()
    }

    /// Changes a state, a while after the one before: phones are told no faster than they take it.
    pub fn set(&mut self, resource: usize, state: HintState) {
        self.now = self.now + Duration::from_millis(100);
        let update = HintUpdate::new(
            format!("{resource}@{}", self.domain).into(),
            "bench".into(),
            state,
        );
        let ask = Ask::ChangeHints(vec![HintChange::Set(update)]);
        self.input(Input::Mail(Mail::Request(Request { id: 1, ask })));
    }

    /// Until nobody is owed anything.
    pub fn settle(&mut self) {
        loop {
            let before = self.notifies;
            self.turn();
            if self.notifies == before {
                break;
            }
        }
    }
}

/// The SUBSCRIBE of a phone, as it writes it.
pub fn subscribe(phone: usize, resource: usize) -> String {
    format!(
        "SUBSCRIBE sip:{resource}@localhost SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{phone}x{resource};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Phone {phone}\" <sip:{phone}@localhost>;tag=f{phone}\r\n\
         To: <sip:{resource}@localhost>\r\n\
         Call-ID: {phone}-{resource}-a84b4c76e66710@127.0.0.1\r\n\
         CSeq: 1 SUBSCRIBE\r\n\
         Contact: <sip:{phone}@127.0.0.1:{port}>\r\n\
         Event: dialog\r\n\
         Accept: application/dialog-info+xml\r\n\
         Expires: 3600\r\n\
         User-Agent: Bench/1.0\r\n\
         Content-Length: 0\r\n\r\n",
        port = 10_000 + phone % 50_000
    )
}

/// A 200 as phones write it: the headers of the request mirrored.
fn answer(notify: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    let mut rest = notify;
    // What the phone spends is counted along: it must not depend on how long the NOTIFY is.
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        if line == b"\r\n" {
            break;
        }
        if [&b"Via:"[..], b"From:", b"To:", b"Call-ID:", b"CSeq:"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}
