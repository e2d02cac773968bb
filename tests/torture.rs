//! The test messages that RFC 4475 and RFC 5118 describe, in our own words: each file of `tests/torture` gets
//! the verdict that stands in it.

use std::path::Path;

use lampfield::sip::{Contact, Host, Message, Name, Request, Start, Target};

#[path = "torture/reader.rs"]
mod reader;

use reader::TestMessage;

fn messages() -> Vec<TestMessage> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    let messages = reader::read_all(&directory);
    assert!(messages.len() >= 58, "only {} messages", messages.len());
    messages
}

/// What became of a message, in the words of its `verdict` note.
fn verdict(bytes: &[u8]) -> String {
    let Ok(message) = Message::scan(bytes) else {
        return "drop".to_owned();
    };
    match message.start {
        Start::Response { status } => match message.response() {
            Some(_) => format!("response {status}"),
            None => "drop".to_owned(),
        },
        Start::Request { .. } => match message.request() {
            Ok(_) => "accept".to_owned(),
            Err(refusal) => {
                assert!(message.is_answerable(), "a refusal that can't be sent");
                format!("refuse {}", refusal.status)
            }
        },
    }
}

//= RFC 4475 3 type=test
//= RFC 5118 4 type=test
#[test]
fn every_test_message_gets_the_verdict_of_its_rfc() {
    let mut wrong = Vec::new();
    for message in messages() {
        let expected = message.note("verdict").expect("a verdict");
        let given = verdict(&message.bytes);
        if given != expected {
            wrong.push(format!("{}: {given}, not {expected}", message.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_accepted_was_understood() {
    let mut facts = 0;
    let mut wrong = Vec::new();
    for test in messages() {
        let message = match Message::scan(&test.bytes) {
            Ok(message) => message,
            Err(_) => continue,
        };
        for (key, value) in test.notes.iter().filter(|(key, _)| !is_about(key)) {
            let found = fact(&message, key);
            if found != *value {
                wrong.push(format!("{}: {key} is {found}, not {value}", test.file));
            }
            facts += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(facts > 50, "only {facts} facts");
}

/// Notes that say something about the file and not about the message.
fn is_about(key: &str) -> bool {
    // What a whole server answers is asked in the fuzz crate.
    key == "verdict" || key == "server" || key.starts_with("RFC ")
}

fn fact(message: &Message<'_>, key: &str) -> String {
    match key {
        "vias" => return message.values(Name::Via).count().to_string(),
        "routes" => return message.values(Name::Route).count().to_string(),
        "requires" => return message.values(Name::Require).count().to_string(),
        "contacts" => return message.values(Name::Contact).count().to_string(),
        "body" => return message.body.len().to_string(),
        _ => {}
    }
    match message.start {
        Start::Request { .. } => request_fact(&message.request().expect("a request"), key),
        Start::Response { .. } => {
            let response = message.response().expect("a response");
            match key {
                "branch" => text(Some(response.branch)),
                "cseq" => response.cseq.to_string(),
                "to-tag" => text(response.to_tag),
                other => panic!("unknown note {other}"),
            }
        }
    }
}

fn request_fact(request: &Request<'_>, key: &str) -> String {
    match key {
        "method" => text(Some(request.method.as_bytes())),
        "uri" => text(Some(request.uri)),
        "from-tag" => text(request.from.tag),
        "from-display" => request.from.display.len().to_string(),
        "to-tag" => text(request.to_tag),
        "to-display" => request.to.display.len().to_string(),
        "call-id" => text(Some(request.call_id)),
        "cseq" => request.cseq.to_string(),
        "branch" => text(request.via.branch),
        "event" => {
            let value = request.message.first(Name::Event).expect("an Event");
            let event = lampfield::sip::EventHeader::parse(value).expect("well-formed");
            text(Some(event.package))
        }
        "contact" => match request.contact {
            Some(Contact::Address(contact)) => text(Some(contact.uri)),
            Some(Contact::Star) => "*".to_owned(),
            None => "none".to_owned(),
        },
        "received" => {
            let received = request.via.received.expect("a received parameter");
            let host = Host::parse_parameter(received).expect("an address");
            host.address().expect("an address").to_string()
        }
        _ => target_fact(&request.target, key),
    }
}

fn target_fact(target: &Target<'_>, key: &str) -> String {
    let Target::Sip(uri) = target else {
        panic!("no SIP URI");
    };
    match key {
        "user" => text(Some(&uri.decoded_user().collect::<Vec<_>>())),
        "host" => uri.host.address().expect("an address").to_string(),
        "port" => uri.port.map_or("none".to_owned(), |port| port.to_string()),
        other => panic!("unknown note {other}"),
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "none".to_owned(),
    }
}
