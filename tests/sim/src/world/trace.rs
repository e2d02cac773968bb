//! The last events of a run, kept for the case that it fails.

use std::collections::VecDeque;
use std::net::SocketAddr;

use lampfield::time::Time;

/// How many events are kept.
const KEPT: usize = 40_000;

/// The last events.
#[derive(Debug, Default)]
pub struct Trace {
    lines: VecDeque<String>,
}

impl Trace {
    pub fn note(&mut self, now: Time, text: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        let nanos = now.nanos();
        let line = format!(
            "{:>7}.{:06} {text}",
            nanos / 1_000_000_000,
            nanos / 1_000 % 1_000_000
        );
        self.lines.push_back(line);
    }

    pub fn message(&mut self, now: Time, arrow: &str, peer: SocketAddr, bytes: &[u8]) {
        self.note(now, format!("{arrow} {peer} {}", summary(bytes)));
    }

    /// The last lines, and those that speak of what the error names.
    pub fn show(&self, error: &str) -> String {
        let call_id = ["Call-ID: ", "call_id: \""].iter().find_map(|before| {
            let start = error.find(before)? + before.len();
            error[start..].split(['\r', '\n', '"']).next()
        });
        let about = |line: &&String| call_id.is_some_and(|call_id| line.contains(call_id));
        let mut text = String::new();
        if let Some(call_id) = call_id {
            text.push_str(&format!("all that is kept of {call_id}:\n"));
            for line in self.lines.iter().filter(about) {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text.push_str("the last events:\n");
        for line in self.lines.iter().rev().take(40).rev() {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }
}

/// A message in one line.
fn summary(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = text.lines().next().unwrap_or_default().to_string();
    for wanted in [
        "CSeq:",
        "Call-ID:",
        "Expires:",
        "Subscription-State:",
        "SIP-ETag:",
        "Retry-After:",
    ] {
        if let Some(header) = text.lines().find(|header| header.starts_with(wanted)) {
            line.push_str(" | ");
            line.push_str(header);
        }
    }
    for part in ["version=\"", "<state>"] {
        if let Some(at) = text
            .find("<dialog-info")
            .and_then(|start| Some(start + text[start..].find(part)?))
        {
            let shown: String = text[at..].chars().take(part.len() + 12).collect();
            let shown = shown.split(['\r', '\n', '/']).next().unwrap_or_default();
            line.push_str(&format!(" | {shown}"));
        }
    }
    line
}
