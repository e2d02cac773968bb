//! Reads the test messages of `tests/torture`: notes in lines that begin with `#`, an empty line, the message.
//!
//! `verdict` says what the parser makes of it, `server` what a server answers that has more to say than 200; the other
//! notes are facts about the message.
//!
//! In the message a line end stands for CR LF; `\\` for a backslash, `\xNN` for an octet, `\{3:abc}` for `abc` three times.

use std::path::Path;

/// One file.
#[allow(dead_code)] // Not every user of this file looks at all of it.
pub struct TestMessage {
    pub file: String,
    /// `key: value` of the notes, in order; the first has the RFC's clause as its key.
    pub notes: Vec<(String, String)>,
    pub bytes: Vec<u8>,
}

impl TestMessage {
    /// The value of the first note of this name.
    #[allow(dead_code)]
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes
            .iter()
            .find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }
}

/// Every message of the directory, in the order of their names.
pub fn read_all(directory: &Path) -> Vec<TestMessage> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the directory of test messages")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sip"))
        .collect();
    files.sort();
    files.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> TestMessage {
    let text = std::fs::read_to_string(path).expect("a test message is ASCII text");
    let (notes, message) = text
        .split_once("\n\n")
        .expect("notes, an empty line, a message");
    let notes = notes
        .lines()
        .map(|line| {
            let line = line.strip_prefix("# ").expect("a note");
            let (key, value) = line.split_once(": ").expect("key: value");
            (key.to_owned(), value.to_owned())
        })
        .collect();
    TestMessage {
        file: path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned(),
        notes,
        bytes: unescape(message),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '\n' => bytes.extend_from_slice(b"\r\n"),
            '\\' => rest = escape(rest, &mut bytes),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// What follows a backslash; returns what follows that.
fn escape<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> &'a str {
    if let Some(rest) = rest.strip_prefix('\\') {
        bytes.push(b'\\');
        return rest;
    }
    if let Some(rest) = rest.strip_prefix('"') {
        bytes.extend_from_slice(b"\\\"");
        return rest;
    }
    if let Some(rest) = rest.strip_prefix('x') {
        bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
        return &rest[2..];
    }
    let inside = rest.strip_prefix('{').expect("a known escape");
    let (repeat, rest) = inside.split_once('}').expect("a closing brace");
    let (times, word) = repeat.split_once(':').expect("times:word");
    for _ in 0..times.parse::<usize>().expect("a number") {
        bytes.extend_from_slice(word.as_bytes());
    }
    rest
}
