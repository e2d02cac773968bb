//! `watch`: what a phone with one key would show, change after change.

use std::io::BufRead;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::client::{Client, escape};
use super::{Failure, print};

/// Prints the present state and every change of it, until the server ends.
pub fn watch(client: &Client, resource: &str, package: &str, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/events?resource={}", escape(resource));
    let mut stream = client.stream(&path)?;
    let mut shown = None;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(Failure("the server has ended the stream".to_owned()));
        }
        let Some(data) = line.trim_end().strip_prefix("data:") else {
            continue;
        };
        let snapshot: Value = serde_json::from_str(data)?;
        // A change of another package is none for this one.
        let version = snapshot["versions"][package].as_u64();
        if shown == Some(version) {
            continue;
        }
        shown = Some(version);
        if json {
            print(&snapshot.to_string())?;
        } else {
            let resource = snapshot["resource"].as_str().unwrap_or_default();
            let state = describe(package, &snapshot);
            print(&format!("{}  {resource}  {state}", clock()))?;
        }
    }
}

fn describe(package: &str, snapshot: &Value) -> String {
    match package {
        "presence" => presence(&snapshot["presence"]),
        "message-summary" => mailbox(&snapshot["mailbox"]),
        _ => dialog(snapshot),
    }
}

/// The most telling call, as a lamp shows it: `early recipient <sip:1002@example.com>`.
fn dialog(snapshot: &Value) -> String {
    let call = &snapshot["calls"][0];
    let mut text = format!("{:<10}", snapshot["lamp"].as_str().unwrap_or("?"));
    for member in ["direction", "event"] {
        if let Some(word) = call[member].as_str().filter(|word| !word.is_empty()) {
            text.push(' ');
            text.push_str(word);
        }
    }
    let remote = &call["remote"];
    if let Some(display) = remote["display"].as_str().filter(|text| !text.is_empty()) {
        text.push_str(&format!(" \"{display}\""));
    }
    if let Some(identity) = remote["identity"].as_str().filter(|text| !text.is_empty()) {
        text.push_str(&format!(" <{identity}>"));
    }
    if call["local"]["held"] == true || remote["held"] == true {
        text.push_str(" on hold");
    }
    text.trim_end().to_owned()
}

/// `open  on-the-phone  "back at three"`.
fn presence(presence: &Value) -> String {
    let texts = |member: &str| -> Vec<String> {
        let list = presence[member].as_array().into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    let tuples = texts("tuples");
    let basic = match tuples.as_slice() {
        [] => "unknown",
        list if list.iter().any(|basic| basic == "open") => "open",
        _ => "closed",
    };
    let mut parts = vec![format!("{basic:<7}")];
    parts.extend(texts("activities"));
    parts.extend(texts("notes").iter().map(|note| format!("\"{note}\"")));
    parts.join(" ").trim_end().to_owned()
}

/// `waiting  voice 2 new 8 old`.
fn mailbox(mailbox: &Value) -> String {
    let Some(members) = mailbox.as_object() else {
        return "unknown".to_owned();
    };
    let mut text = if mailbox["waiting"] == true {
        "waiting".to_owned()
    } else {
        "nothing waits".to_owned()
    };
    for (class, count) in members {
        if let (Some(new), Some(old)) = (count["new"].as_u64(), count["old"].as_u64()) {
            text.push_str(&format!("  {class} {new} new {old} old"));
        }
    }
    text
}

/// The time of day, UTC.
fn clock() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    let seconds = millis / 1000;
    format!(
        "{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1000
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ringing_call_is_shown_with_who_calls() {
        let snapshot = json!({
            "lamp": "early",
            "calls": [{
                "state": "early", "direction": "recipient", "event": "",
                "local": { "held": false },
                "remote": { "identity": "sip:1002@example.com", "display": "Bob", "held": false },
            }],
        });
        assert_eq!(
            describe("dialog", &snapshot),
            "early      recipient \"Bob\" <sip:1002@example.com>"
        );
        let idle = json!({ "lamp": "terminated", "calls": [] });
        assert_eq!(describe("dialog", &idle), "terminated");
    }

    #[test]
    fn presence_and_messages_are_shown_in_a_line() {
        let snapshot = json!({
            "presence": { "tuples": ["closed", "open"], "activities": ["busy"], "notes": ["out"] },
            "mailbox": { "waiting": true, "account": "", "voice": { "new": 2, "old": 8 } },
        });
        assert_eq!(describe("presence", &snapshot), "open    busy \"out\"");
        assert_eq!(
            describe("message-summary", &snapshot),
            "waiting  voice 2 new 8 old"
        );
        let nothing = json!({ "mailbox": null, "presence": {} });
        assert_eq!(describe("message-summary", &nothing), "unknown");
        assert_eq!(describe("presence", &nothing), "unknown");
    }
}
