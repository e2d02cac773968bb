//! `> SUBSCRIBE 1001 expires=60`: makes the datagrams that the phones of a scenario send.

use std::net::SocketAddr;

use lampfield::transport::Transport;

use super::bodies::publication;
use super::digest::{Credentials, authorization};
use super::draft::{Draft, raw};
use super::language::{Line, Word};
use super::settings::DEFAULT_DOMAIN;
use super::stage::{Conversation, Stage};
use super::variables::{fill_lines, fill_words};
use crate::message::Message;

/// One `>` step.
pub fn send(stage: &mut Stage, name: &str, words: &[Word], lines: &[Line]) -> Result<(), String> {
    let words = fill_words(stage, words)?;
    let lines = fill_lines(stage, lines)?;
    stage.phone(name);
    let source = match Word::value_of(&words, "source") {
        Some(address) => address
            .parse()
            .map_err(|_| format!("no address: {address}"))?,
        None => stage.phones[name].address,
    };
    let bytes = match words[0].key.as_str() {
        "again" => {
            let (bytes, first_source) =
                stage.phones[name].sent.clone().ok_or("nothing was sent")?;
            let moved = Word::value_of(&words, "source").is_some();
            let source = if moved { source } else { first_source };
            return transmit(stage, name, &words, source, bytes);
        }
        "raw" => raw(&lines)?,
        "authorized" => authorized(stage, name, &words, &lines)?,
        first if first.chars().all(|c| c.is_ascii_digit()) => reply(stage, name, &words, &lines)?,
        _ => request(stage, name, &words, &lines)?.into_bytes(),
    };
    let answers = words[0].key.chars().all(|c| c.is_ascii_digit());
    if !answers {
        stage.phone(name).sent = Some((bytes.clone(), source));
    }
    transmit(stage, name, &words, source, bytes)
}

fn transmit(
    stage: &mut Stage,
    name: &str,
    words: &[Word],
    source: SocketAddr,
    bytes: Vec<u8>,
) -> Result<(), String> {
    let listener = match Word::value_of(words, "to") {
        Some(wanted) => stage
            .listeners
            .iter()
            .find(|listener| listener.name == wanted)
            .map(|listener| listener.id)
            .ok_or_else(|| format!("no listener {wanted}"))?,
        // An answer goes to where its request came from.
        None if words[0].key.chars().all(|c| c.is_ascii_digit()) => {
            let asked = match Word::value_of(words, "for") {
                Some(label) => stage.kept.get(label),
                None => stage.phones[name].asked.as_ref(),
            };
            let listener = asked.map_or(stage.phones[name].listener, |asked| asked.listener);
            stage.transports.living(listener, &stage.listeners)
        }
        None => stage.phones[name].listener,
    };
    stage.transmit(listener, source, &bytes)
}

/// The answer that a phone gives to a request.
pub fn answer(request: &Message, status: u16, name: &str, address: SocketAddr) -> Vec<u8> {
    answer_draft(request, status, name, address).into_bytes()
}

fn answer_draft(request: &Message, status: u16, name: &str, address: SocketAddr) -> Draft {
    let mut headers = Vec::new();
    for copied in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in request.all(copied) {
            headers.push((copied.to_string(), value.to_string()));
        }
    }
    headers.push(("Contact".to_string(), format!("<sip:{name}@{address}>")));
    Draft {
        start: format!("SIP/2.0 {status} {}", reason(status)),
        headers,
        body: String::new(),
    }
}

/// `> 200`, `> 503 retry-after=5 for=first`
fn reply(stage: &Stage, name: &str, words: &[Word], lines: &[Line]) -> Result<Vec<u8>, String> {
    let status: u16 = words[0].key.parse().map_err(|_| "no status code")?;
    let phone = &stage.phones[name];
    let arrival = match Word::value_of(words, "for") {
        Some(label) => stage
            .kept
            .get(label)
            .ok_or_else(|| format!("no message {label}"))?,
        None => phone
            .asked
            .as_ref()
            .ok_or("no request to answer has been read")?,
    };
    let mut draft = answer_draft(&arrival.message, status, name, phone.address);
    if let Some(seconds) = Word::value_of(words, "retry-after") {
        draft.set("Retry-After", seconds);
    }
    draft.edit(lines);
    Ok(draft.into_bytes())
}

/// Any request: a new conversation, or one more request of an old one.
fn request(stage: &mut Stage, name: &str, words: &[Word], lines: &[Line]) -> Result<Draft, String> {
    let first = words[0].key.as_str();
    let within = matches!(first, "refresh" | "unsubscribe" | "within");
    let label = match Word::value_of(words, "of").or(Word::value_of(words, "as")) {
        Some(label) => label.to_string(),
        None if within => stage.phones[name].conversation.clone(),
        None => name.to_string(),
    };
    let mut conversation = match within {
        true => stage
            .conversations
            .get(&label)
            .cloned()
            .ok_or_else(|| format!("no dialog {label}"))?,
        false => fresh(stage, name, words)?,
    };
    let method = match first {
        "refresh" | "unsubscribe" => "SUBSCRIBE".to_string(),
        "within" => words
            .get(1)
            .map(|word| word.key.clone())
            .ok_or("within which method?")?,
        _ => first.to_string(),
    };
    if within {
        conversation.cseq += 1;
    }
    override_identity(&mut conversation, words)?;
    let mut draft = head(stage, name, &method, &conversation, words);
    content(&mut draft, &method, first, &conversation, words)?;
    draft.edit(lines);
    conversation.method = method;
    stage.conversations.insert(label.clone(), conversation);
    stage.phone(name).conversation = label;
    Ok(draft)
}

fn fresh(stage: &mut Stage, name: &str, words: &[Word]) -> Result<Conversation, String> {
    let uri = match words.get(1) {
        Some(word) if word.check.is_none() => uri(&word.key),
        Some(_) | None => return Err("a request needs a resource: > SUBSCRIBE 1001".to_string()),
    };
    let serial = stage.serial();
    let default_event = if words[0].key == "SUBSCRIBE" || words[0].key == "PUBLISH" {
        "dialog"
    } else {
        ""
    };
    let event = Word::value_of(words, "event").unwrap_or(default_event);
    Ok(Conversation {
        method: words[0].key.clone(),
        uri,
        call_id: format!("call-{serial}@{name}"),
        from_tag: format!("tag-{name}-{serial}"),
        to_tag: None,
        cseq: 1,
        event: if event == "none" {
            String::new()
        } else {
            event.to_string()
        },
        target: None,
    })
}

/// What a scenario may say of the dialog that a request claims to belong to.
fn override_identity(conversation: &mut Conversation, words: &[Word]) -> Result<(), String> {
    if let Some(call_id) = Word::value_of(words, "call-id") {
        conversation.call_id = call_id.to_string();
    }
    if let Some(tag) = Word::value_of(words, "from-tag") {
        conversation.from_tag = tag.to_string();
    }
    if let Some(tag) = Word::value_of(words, "to-tag") {
        conversation.to_tag = Some(tag.to_string());
    }
    if let Some(event) = Word::value_of(words, "event") {
        conversation.event = if event == "none" {
            String::new()
        } else {
            event.to_string()
        };
    }
    if let Some(cseq) = Word::value_of(words, "cseq") {
        conversation.cseq = cseq.parse().map_err(|_| format!("no CSeq: {cseq}"))?;
    }
    Ok(())
}

fn head(
    stage: &mut Stage,
    name: &str,
    method: &str,
    conversation: &Conversation,
    words: &[Word],
) -> Draft {
    let address = stage.phones[name].address;
    let via = via_of(stage, name);
    let serial = stage.serial();
    let own_branch = format!("z9hG4bK-{name}-{serial}");
    let branch = Word::value_of(words, "branch").unwrap_or(&own_branch);
    let from = Word::value_of(words, "from").map_or_else(|| uri(name), uri);
    let to = Word::value_of(words, "to-uri").map_or_else(|| conversation.uri.clone(), uri);
    let target = Word::value_of(words, "uri")
        .map(str::to_string)
        .or_else(|| conversation.target.clone())
        .unwrap_or_else(|| conversation.uri.clone());
    let mut draft = Draft {
        start: format!("{method} {target} SIP/2.0"),
        headers: Vec::new(),
        body: String::new(),
    };
    draft.set(
        "Via",
        &format!("SIP/2.0/{via} {address};branch={branch};rport"),
    );
    draft.set("Max-Forwards", "70");
    draft.set("From", &format!("<{from}>;tag={}", conversation.from_tag));
    draft.set(
        "To",
        &match &conversation.to_tag {
            Some(tag) => format!("<{to}>;tag={tag}"),
            None => format!("<{to}>"),
        },
    );
    draft.set("Call-ID", &conversation.call_id);
    draft.set("CSeq", &format!("{} {method}", conversation.cseq));
    if method == "SUBSCRIBE" {
        draft.set("Contact", &format!("<sip:{name}@{address}>"));
    }
    draft
}

/// What a Via names the transport of a phone.
fn via_of(stage: &Stage, name: &str) -> String {
    let listener = stage.phones[name].listener;
    let found = stage.listeners.iter().find(|one| one.id == listener);
    let transport = found.map_or(Transport::Udp, |one| one.transport);
    String::from_utf8_lossy(transport.via()).into_owned()
}

fn content(
    draft: &mut Draft,
    method: &str,
    first: &str,
    conversation: &Conversation,
    words: &[Word],
) -> Result<(), String> {
    if !conversation.event.is_empty() {
        draft.set("Event", &conversation.event);
    }
    for (key, header) in [
        ("expires", "Expires"),
        ("accept", "Accept"),
        ("if-match", "SIP-If-Match"),
        ("suppress", "Suppress-If-Match"),
        ("require", "Require"),
        ("user-agent", "User-Agent"),
    ] {
        if let Some(value) = Word::value_of(words, key) {
            draft.set(header, value);
        }
    }
    if first == "unsubscribe" {
        draft.set("Expires", "0");
    }
    if method == "PUBLISH" {
        let package = conversation.event.split(';').next().unwrap_or_default();
        let body_words = words.get(2..).unwrap_or_default();
        if let Some((kind, body)) = publication(package, &conversation.uri, body_words)? {
            draft.set("Content-Type", kind);
            draft.body = body;
        }
    }
    Ok(())
}

/// `> authorized alice:secret`: the last request again, with the answer to the challenge that was read.
fn authorized(
    stage: &mut Stage,
    name: &str,
    words: &[Word],
    lines: &[Line],
) -> Result<Vec<u8>, String> {
    let who = words.get(1).ok_or("authorized as whom?")?;
    let (user, password) = who.key.split_once(':').ok_or("authorized user:password")?;
    let phone = &stage.phones[name];
    let challenged = phone.read.clone().ok_or("no challenge was read")?;
    let (sent, _) = phone.sent.clone().ok_or("nothing was sent")?;
    let sent = Message::read_loosely(&sent);
    let method = sent.method().unwrap_or_default().to_string();
    let uri = sent.request_uri().unwrap_or_default();
    let count = Word::value_of(words, "nc").unwrap_or("1");
    let credentials = Credentials {
        user,
        password,
        algorithm: Word::value_of(words, "algorithm").unwrap_or("SHA-256"),
        uri: Word::value_of(words, "uri").unwrap_or(uri),
        nonce_count: count
            .parse()
            .map_err(|_| format!("no nonce count: {count}"))?,
    };
    let challenged = match Word::value_of(words, "challenge") {
        Some(label) => stage
            .kept
            .get(label)
            .ok_or_else(|| format!("no message {label}"))?
            .message
            .clone(),
        None => challenged,
    };
    let value = authorization(&challenged, &method, &credentials)?;
    let serial = stage.serial();
    let mut draft = Draft {
        start: sent.start.clone(),
        headers: sent.headers.clone(),
        body: sent.text(),
    };
    draft.headers.retain(|(name, _)| name != "Content-Length");
    let address = stage.phones[name].address;
    let via = via_of(stage, name);
    draft.set(
        "Via",
        &format!("SIP/2.0/{via} {address};branch=z9hG4bK-{name}-{serial};rport"),
    );
    draft.set(
        "CSeq",
        &format!("{} {method}", sent.cseq().unwrap_or_default() + 1),
    );
    draft.set("Authorization", &value);
    draft.edit(lines);
    let conversation = stage.phones[name].conversation.clone();
    if let Some(conversation) = stage.conversations.get_mut(&conversation) {
        conversation.cseq += 1;
    }
    Ok(draft.into_bytes())
}

/// `1001` is `sip:1001@example.com`; what names a scheme stays as it is.
pub fn uri(text: &str) -> String {
    match text.contains(':') || text == "*" {
        true => text.to_string(),
        false if text.contains('@') => format!("sip:{text}"),
        false => format!("sip:{text}@{DEFAULT_DOMAIN}"),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        404 => "Not Found",
        481 => "Subscription Does Not Exist",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        _ => "Whatever",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_uris_of_the_default_domain() {
        assert_eq!(uri("1001"), "sip:1001@example.com");
        assert_eq!(uri("a@b"), "sip:a@b");
        assert_eq!(uri("tel:+1"), "tel:+1");
    }
}
