//! What a phone can do to its own dialog: refreshes, ends, answers of every kind, at any time and in any order.

use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::sip::Message;

use crate::server::{SEPARATOR, Server, subscribe, with_server};

/// Stands for the To tag that the server gave.
pub const TAG: u8 = 0x11;
/// Stands for the branch of the newest NOTIFY.
pub const BRANCH: u8 = 0x12;
/// A step that begins with it changes the state of the extension.
pub const CHANGE: u8 = 0x13;
/// A step that begins with it lets time pass: the next byte's number of quarter seconds.
pub const PASS: u8 = 0x14;

/// A phone subscribes; then come the steps of the input, which know the secrets of the dialog; then a new phone must be
/// served. The first phone may have ended its own dialog, and nobody else's.
pub fn dialog(data: &[u8]) {
    with_server(|server| {
        let sent = subscribe(server, 40_001, "own");
        let mut secrets = Secrets::default();
        secrets.learn(&sent);
        for step in data.split(|&byte| byte == SEPARATOR).take(16) {
            let sent = secrets.play(server, step);
            secrets.learn(&sent);
        }
        subscribe(server, 40_003, "after");
        server.set("1001", HintState::Idle);
    });
}

#[derive(Default)]
struct Secrets {
    tag: Vec<u8>,
    branch: Vec<u8>,
    ringing: bool,
}

impl Secrets {
    fn learn(&mut self, sent: &[Vec<u8>]) {
        for bytes in sent {
            let Ok(message) = Message::scan(bytes) else {
                continue;
            };
            if let Some(response) = message.response()
                && let Some(tag) = response.to_tag
                && self.tag.is_empty()
            {
                self.tag = tag.to_vec();
            }
            if let Ok(notify) = message.request() {
                self.branch = notify.via.branch.unwrap_or(&[]).to_vec();
            }
        }
    }

    fn play(&mut self, server: &mut Server, step: &[u8]) -> Vec<Vec<u8>> {
        match step {
            [CHANGE, ..] => {
                self.ringing = !self.ringing;
                let state = match self.ringing {
                    true => HintState::Ringing,
                    false => HintState::Idle,
                };
                server.set("1001", state)
            }
            [PASS, quarters, ..] => server.pass(Duration::from_millis(250) * u32::from(*quarters)),
            datagram => server.receive(40_001, &self.fill_in(datagram), false),
        }
    }

    fn fill_in(&self, datagram: &[u8]) -> Vec<u8> {
        let mut filled = Vec::with_capacity(datagram.len() + 64);
        for &byte in datagram.iter().take(4_096) {
            match byte {
                TAG => filled.extend_from_slice(&self.tag),
                BRANCH => filled.extend_from_slice(&self.branch),
                other => filled.push(other),
            }
        }
        filled
    }
}

/// Conversations to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let subscribe = |cseq: u32, more: &str| {
        format!(
            "SUBSCRIBE sip:1001@localhost SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:40001;branch=z9hG4bKown{cseq}\r\n\
             From: <sip:own@localhost>;tag=fown\r\nTo: <sip:1001@localhost>;tag=\x11\r\nCall-ID: own\r\n\
             CSeq: {cseq} SUBSCRIBE\r\nContact: <sip:own@127.0.0.1:40001>\r\nEvent: dialog\r\n{more}Content-Length: 0\r\n\r\n"
        )
    };
    let answer = |status: &str, more: &str| {
        format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=\x12\r\nFrom: <sip:1001@localhost>;tag=\x11\r\n\
             To: <sip:own@localhost>;tag=fown\r\nCall-ID: own\r\nCSeq: 2 NOTIFY\r\n{more}Content-Length: 0\r\n\r\n"
        )
    };
    let change = "\x13".to_owned();
    let pass = |quarters: u8| format!("\x14{}", char::from(quarters));
    let conversations = [
        vec![subscribe(2, "Expires: 600\r\n"), answer("200 OK", "")],
        vec![
            subscribe(2, "Expires: 0\r\n"),
            answer("200 OK", ""),
            subscribe(3, ""),
        ],
        vec![change.clone(), answer("481 Gone", ""), subscribe(2, "")],
        vec![
            change.clone(),
            answer("503 Busy", "Retry-After: 5\r\n"),
            pass(29),
            change.clone(),
        ],
        vec![
            change.clone(),
            answer("100 Trying", ""),
            pass(100),
            answer("200 OK", ""),
        ],
        vec![
            change.clone(),
            pass(3),
            change.clone(),
            pass(127),
            subscribe(2, ""),
        ],
        vec![
            change.clone(),
            change.clone(),
            answer("200 OK", ""),
            change.clone(),
            answer("404 x", ""),
        ],
        vec![
            change,
            answer("401 x", ""),
            subscribe(2, "Suppress-If-Match: *\r\n"),
            subscribe(2, ""),
            subscribe(1, ""),
        ],
    ];
    conversations
        .into_iter()
        .map(|steps| steps.join("\x1e").into_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first phone is sent, step by step.
    fn play(conversation: &[u8]) -> String {
        let mut server = Server::new();
        let mut secrets = Secrets::default();
        secrets.learn(&subscribe(&mut server, 40_001, "own"));
        let mut all = Vec::new();
        for step in conversation.split(|&byte| byte == SEPARATOR) {
            let sent = secrets.play(&mut server, step);
            secrets.learn(&sent);
            all.extend(sent.concat());
        }
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn the_seeds_reach_the_inside_of_the_dialog() {
        let seeds = seeds();
        assert!(play(&seeds[0]).contains("SIP/2.0 200 OK"), "a refresh");
        let ended = play(&seeds[1]);
        assert!(
            ended.contains("terminated;reason=timeout"),
            "an end: {ended}"
        );
        assert!(ended.contains("SIP/2.0 481"), "and after it: {ended}");
        let gone = play(&seeds[2]);
        assert!(
            gone.contains("SIP/2.0 481"),
            "an answer was believed: {gone}"
        );
    }
}
