//! A process that nobody runs for a while: what phones have said meanwhile counts as if it had been heard in time.

use std::thread;
use std::time::{Duration, Instant};

use crate::phone::{Phone, Received};
use crate::server::{Scratch, Server};

/// As many keys wait as no single turn reads, on so many ports that the kernel's usual buffers hold what is sent to each.
const PHONES: usize = 12;
const KEYS: usize = 60;
const EXPIRES: u32 = 6;

/// The answers to as many requests as there are keys; NOTIFYs are answered.
fn answers(phone: &Phone) -> Vec<Received> {
    let mut answers = Vec::new();
    while answers.len() < KEYS {
        let received = phone.receive();
        if received.0.starts_with("SIP/2.0 ") {
            answers.push(received);
        }
    }
    answers
}

#[test]
fn who_refreshed_in_time_is_not_told_that_its_time_is_over() {
    let scratch = Scratch::new("standstill");
    let file = scratch.file("lampfield.toml", "[packages.dialog]\nexpires_min = 1\n");
    let listen = ["--listen", "udp:127.0.0.1:0"].repeat(PHONES);
    let server = Server::start_with(&[&listen[..], &["--shards", "1", "--config", &file]].concat());
    let phones: Vec<Phone> = server
        .sip
        .iter()
        .map(|&at| Phone::new(at, &at.port().to_string()))
        .collect();
    let mut begun = Vec::new();
    for phone in &phones {
        for key in 0..KEYS {
            phone.subscribe(&format!("{}", 1000 + key), "dialog", EXPIRES);
        }
        begun.push(answers(phone));
    }
    let began = Instant::now();
    server.signal("STOP");
    for (phone, begun) in phones.iter().zip(&begun) {
        for subscribed in begun {
            phone.ask_again("dialog", EXPIRES, 2, subscribed);
        }
    }
    // All that had been granted is over by then: nothing but time can be waited for.
    let over = Duration::from_secs(u64::from(EXPIRES) + 1);
    thread::sleep(over.saturating_sub(began.elapsed()));
    server.signal("CONT");
    for phone in &phones {
        for answer in answers(phone) {
            assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
        }
    }
}
