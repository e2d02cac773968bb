//! The documents that a publisher of a scenario sends, made from a word or two.

use super::language::Word;

/// The Content-Type and body for `PUBLISH 1001 event=PACKAGE WORD…`; `None` without such words.
pub fn publication(
    package: &str,
    resource: &str,
    words: &[Word],
) -> Result<Option<(&'static str, String)>, String> {
    let plain: Vec<&str> = words
        .iter()
        .filter(|word| word.check.is_none())
        .map(|word| word.key.as_str())
        .collect();
    let Some(&first) = plain.first() else {
        return Ok(None);
    };
    let body = match package {
        "dialog" => (
            "application/dialog-info+xml",
            dialog_info(resource, first, words)?,
        ),
        "presence" => (
            "application/pidf+xml",
            pidf(resource, first, &plain[1..], words),
        ),
        "message-summary" => (
            "application/simple-message-summary",
            mailbox(resource, first, words),
        ),
        _ => return Err(format!("no body is known for {package}")),
    };
    Ok(Some(body))
}

fn dialog_info(resource: &str, state: &str, words: &[Word]) -> Result<String, String> {
    let (state, held) = match state {
        "ringing" => ("early", false),
        "inuse" => ("confirmed", false),
        "hold" => ("confirmed", true),
        "idle" => ("", false),
        "trying" | "proceeding" | "early" | "confirmed" | "terminated" => (state, false),
        _ => return Err(format!("no dialog state: {state}")),
    };
    let id = Word::value_of(words, "call").unwrap_or("call-1");
    let whole = Word::value_of(words, "document").unwrap_or("full");
    let version = Word::value_of(words, "version").unwrap_or("0");
    let rendering = if held {
        "<local><target uri=\"sip:here@example.com\"><param pname=\"+sip.rendering\" pval=\"no\"/></target></local>"
    } else {
        ""
    };
    let dialog = match state {
        "" => String::new(),
        _ => format!(
            "  <dialog id=\"{id}\" call-id=\"{id}@pbx\" local-tag=\"lt\" remote-tag=\"rt\" direction=\"recipient\">\
             <state>{state}</state>{rendering}\
             <remote><identity display=\"Bob\">sip:bob@example.com</identity>\
             <target uri=\"sip:bob@example.com\"/></remote></dialog>\r\n"
        ),
    };
    Ok(format!(
        "<?xml version=\"1.0\"?>\r\n\
         <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" \
         state=\"{whole}\" entity=\"{resource}\">\r\n{dialog}</dialog-info>\r\n"
    ))
}

fn pidf(resource: &str, basic: &str, activities: &[&str], words: &[Word]) -> String {
    let tuple = Word::value_of(words, "tuple").unwrap_or("t1");
    let note = match Word::value_of(words, "note") {
        Some(note) => format!("<note>{note}</note>"),
        None => String::new(),
    };
    let activities: String = activities
        .iter()
        .map(|one| format!("<rpid:{one}/>"))
        .collect();
    let person = match activities.is_empty() {
        true => String::new(),
        false => format!(
            "<dm:person id=\"p-{tuple}\"><rpid:activities>{activities}</rpid:activities></dm:person>\r\n"
        ),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{resource}\">\r\n\
         <tuple id=\"{tuple}\"><status><basic>{basic}</basic></status>{note}</tuple>\r\n{person}</presence>\r\n"
    )
}

fn mailbox(resource: &str, waiting: &str, words: &[Word]) -> String {
    let mut body = format!("Messages-Waiting: {waiting}\r\n");
    if let Some(account) = Word::value_of(words, "account") {
        body.push_str(&format!("Message-Account: {account}\r\n"));
    } else {
        body.push_str(&format!("Message-Account: {resource}\r\n"));
    }
    for (key, class) in [("voice", "Voice-Message"), ("fax", "Fax-Message")] {
        if let Some(counts) = Word::value_of(words, key) {
            body.push_str(&format!("{class}: {counts}\r\n"));
        }
    }
    body
}
