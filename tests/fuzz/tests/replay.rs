//! Replays what fuzzing has found, the systematic anomalies, and a seeded stream of mutations.

use std::path::Path;
use std::time::Duration;

use lampfield::sip::{Message, Start};
use lampfield::subscription::package::{PACKAGES, Package};
use lampfield_fuzz::mutate::{Mutator, oversized, systematic};
use lampfield_fuzz::server::{self, Server};
use lampfield_fuzz::{BODIES, PARSERS, dialog, document, record, seeds};

/// Says which input broke the body before the panic goes on.
fn run(name: &str, body: fn(&[u8]), data: &[u8], which: &str) {
    let result = std::panic::catch_unwind(|| body(data));
    if let Err(panic) = result {
        println!(
            "{name} broke on {which}: {:?}",
            String::from_utf8_lossy(data)
        );
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_kept_corpora_break_nothing() {
    for (name, body) in BODIES {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        let mut files: Vec<_> = std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.expect("a directory entry").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let data = std::fs::read(&file).expect("a readable file");
            run(name, body, &data, &file.to_string_lossy());
        }
    }
}

#[test]
fn one_anomaly_in_any_field_breaks_nothing() {
    let messages = systematic(seeds::subscribe());
    assert!(messages.len() > 3_000, "only {}", messages.len());
    let mut refused = 0;
    for (number, message) in messages.iter().enumerate() {
        for (name, body) in PARSERS {
            run(name, *body, message, &format!("anomaly {number}"));
        }
        refused +=
            u64::from(Message::scan(message).is_ok_and(|message| message.request().is_err()));
    }
    assert!(refused > 1_000, "anomalies that are refused: {refused}");
}

#[test]
fn seeded_mutations_break_nothing() {
    let seed = 20_261_122;
    println!("seed {seed}");
    let mut mutator = Mutator::new(seed, seeds::messages());
    let (mut sound, mut responses) = (0, 0);
    for number in 0..40_000 {
        let message = mutator.next_message();
        for (name, body) in PARSERS {
            run(
                name,
                *body,
                &message,
                &format!("mutation {number} of seed {seed}"),
            );
        }
        if let Ok(message) = Message::scan(&message) {
            sound += u32::from(message.request().is_ok());
            responses += u32::from(matches!(message.start, Start::Response { .. }));
        }
    }
    // The damage is mild enough that both sides of every decision are reached.
    assert!(sound > 2_000, "sound requests: {sound}");
    assert!(responses > 500, "responses: {responses}");
}

#[test]
fn damaged_documents_break_nothing() {
    let seed = 4_235;
    println!("seed {seed}");
    let mut mutator = Mutator::new(seed, document::seeds());
    let mut understood = 0;
    for number in 0..20_000 {
        let data = mutator.next_message();
        let which = format!("mutation {number} of seed {seed}");
        run("document", document::document, &data, &which);
        let is_understood = |package: &Package| package.parse(0, &data).is_ok();
        understood += u32::from(PACKAGES.iter().any(is_understood));
    }
    // The damage is mild enough that documents are read as well as refused.
    assert!(
        (2_000..18_000).contains(&understood),
        "understood: {understood}"
    );
}

#[test]
fn damaged_records_break_nothing() {
    let seed = 1_991;
    println!("seed {seed}");
    let mut mutator = Mutator::new(seed, record::seeds());
    let mut read = 0;
    for number in 0..20_000 {
        let data = mutator.next_message();
        let which = format!("mutation {number} of seed {seed}");
        run("record", record::record, &data, &which);
        read += u32::from(record::is_read(&data));
    }
    assert!((1_000..19_000).contains(&read), "read: {read}");
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    let stream = |seed| {
        let mut mutator = Mutator::new(seed, seeds::messages());
        (0..50).map(|_| mutator.next_message()).collect::<Vec<_>>()
    };
    assert_eq!(stream(7), stream(7));
    assert_ne!(stream(7), stream(8));
}

#[test]
fn a_server_outlives_every_anomaly_and_serves_who_comes_after() {
    let seed = 5_118;
    println!("seed {seed}");
    let mut mutator = Mutator::new(seed, seeds::messages());
    let mut server = Server::new();
    server::subscribe(&mut server, 40_001, "before");
    let anomalies = systematic(seeds::subscribe()).into_iter();
    let mutations = std::iter::repeat_with(|| mutator.next_message()).take(10_000);
    for (number, message) in anomalies.chain(mutations).enumerate() {
        let port = 40_002 + (number % 1_000) as u16;
        server.receive(port, &message, false);
        if number % 64 == 0 {
            server.pass(Duration::from_millis(100));
        }
    }
    server::subscribe(&mut server, 40_001, "after");
    server.assert_sound();
    server.assert_forgotten();
}

/// The To tag of the 200 among these messages, as the next request carries it.
fn to_tag(sent: &[Vec<u8>]) -> Option<String> {
    sent.iter().find_map(|bytes| {
        let message = Message::scan(bytes).ok()?;
        let tag = message.response()?.to_tag?;
        Some(format!(";tag={}", String::from_utf8_lossy(tag)))
    })
}

#[test]
fn damaged_refreshes_and_answers_inside_a_dialog_break_nothing() {
    let seed = 6_665;
    println!("seed {seed}");
    let mut mutator = Mutator::new(seed, seeds::messages());
    let mut server = Server::new();
    for call in 0..600_u16 {
        let port = 40_000 + call;
        let name = format!("call{call}");
        let first = server::subscribe_text(port, &name, 1, "");
        let mut sent = server.receive(port, first.as_bytes(), false);
        let tag = to_tag(&sent).expect("a 200 with a tag");
        for cseq in 2..10 {
            for notify in sent.iter().filter(|sent| sent.starts_with(b"NOTIFY ")) {
                server.receive(port, &mutator.damaged(server::ok(notify)), false);
            }
            let refresh = server::subscribe_text(port, &name, cseq, &tag);
            sent = server.receive(port, &mutator.damaged(refresh.into_bytes()), false);
        }
        server.pass(Duration::from_millis(700));
    }
    server::subscribe(&mut server, 39_999, "after");
    server.assert_sound();
    server.assert_forgotten();
}

/// The status of the first response among these messages.
fn status(sent: &[Vec<u8>]) -> Option<u16> {
    sent.iter()
        .find_map(|bytes| match Message::scan(bytes).ok()?.start {
            Start::Response { status } => Some(status),
            Start::Request { .. } => None,
        })
}

//= RFC 4475 3 type=test
#[test]
fn a_whole_server_gives_test_messages_the_verdicts_of_their_rfcs() {
    let mut wrong = Vec::new();
    for test in seeds::torture() {
        let mut server = Server::new();
        let peer = match test.file.starts_with("ipv6") {
            true => "[2001:db8::1]:40001",
            false => "192.0.2.51:40001",
        };
        let peer = peer.parse().expect("an address");
        let sent = server.receive_from(peer, &test.bytes, false);
        let given = status(&sent);
        let verdict = test.note("verdict").expect("a verdict");
        let right = match verdict.split_once(' ') {
            Some(("refuse", status)) => given == status.parse().ok(),
            // A subscription, or what stands in the way of one in the layers above the parser.
            None if verdict == "accept" => match test.note("server") {
                Some(status) => given == status.parse().ok(),
                None => given == Some(200),
            },
            _ => given.is_none(),
        };
        if !right {
            wrong.push(format!("{}: {given:?}, not {verdict}", test.file));
        }
        server.assert_sound();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_largest_datagrams_are_answered_or_dropped_and_change_nothing() {
    let mut server = Server::new();
    server::subscribe(&mut server, 40_001, "before");
    for (what, message) in oversized() {
        for (name, body) in PARSERS {
            run(name, *body, &message, what);
        }
        let whole = status(&server.receive(40_002, &message, false));
        let cut = status(&server.receive(40_003, &message[..4_096.min(message.len())], true));
        println!("{what}: {whole:?}, cut: {cut:?}");
        assert!(
            whole.is_none_or(|status| status == 200 || status >= 400),
            "{what}"
        );
        assert!(cut.is_none_or(|status| status == 513), "{what}");
    }
    server::subscribe(&mut server, 40_001, "after");
    server.assert_sound();
    server.assert_forgotten();
}

#[test]
fn a_phone_that_knows_its_secrets_ends_its_own_dialog_at_most() {
    let seed = 5_057;
    println!("seed {seed}");
    for conversation in dialog::seeds() {
        dialog::dialog(&conversation);
    }
    let mut mutator = Mutator::new(seed, dialog::seeds());
    for number in 0..3_000 {
        let conversation = mutator.next_message();
        let which = format!("conversation {number} of seed {seed}");
        run("dialog", dialog::dialog, &conversation, &which);
    }
}
