//! A message under construction, from its headers or from literal text, to bytes.

use super::language::Line;

/// A message under construction.
pub struct Draft {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Draft {
    /// Sets the first header of that name, or adds it.
    pub fn set(&mut self, name: &str, value: &str) {
        match self
            .headers
            .iter_mut()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            Some((_, old)) => *old = value.to_string(),
            None => self.headers.push((name.to_string(), value.to_string())),
        }
    }

    /// The indented lines: they replace, add, take away, and write the body.
    pub fn edit(&mut self, lines: &[Line]) {
        let mut body: Option<String> = None;
        for line in lines {
            match line {
                Line::Header { name, value } => self.set(name, value),
                Line::More { name, value } => self.headers.push((name.clone(), value.clone())),
                Line::Without { name } => {
                    self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name))
                }
                Line::Text(text) => {
                    let body = body.get_or_insert_default();
                    body.push_str(text);
                    body.push_str("\r\n");
                }
                Line::Compare { .. } | Line::Keep { .. } => {}
            }
        }
        if let Some(body) = body {
            self.body = body;
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        let mut stated = false;
        for (name, value) in &self.headers {
            stated |= name.eq_ignore_ascii_case("Content-Length") || name == "l";
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !stated {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        format!("{text}\r\n{}", self.body).into_bytes()
    }
}

/// Literal text: each `|` line ends with CRLF unless it ends with a backslash; `\xHH`, `\r`, `\n`,
/// `\t`, `\0` and `\\` are bytes; `${length}` is the length of what follows the empty line.
pub fn raw(lines: &[Line]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for line in lines {
        let Line::Text(text) = line else {
            return Err("below `> raw` only `|` lines".to_string());
        };
        let (text, end): (&str, &[u8]) = match text.strip_suffix('\\') {
            Some(text) => (text, b""),
            None => (text, b"\r\n"),
        };
        unescape(text, &mut bytes)?;
        bytes.extend_from_slice(end);
    }
    let placeholder = b"${length}";
    if let Some(at) = bytes
        .windows(placeholder.len())
        .position(|window| window == placeholder)
    {
        let body = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .map_or(bytes.len(), |at| at + 4);
        let length = (bytes.len() - body).to_string();
        bytes.splice(at..at + placeholder.len(), length.into_bytes());
    }
    Ok(bytes)
}

fn unescape(text: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match characters.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let digits: String = characters.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits}"))?;
                bytes.push(byte);
            }
            // Any other character stands for itself, as `\"` does in SIP.
            Some('\\') => bytes.push(b'\\'),
            Some(other) => {
                bytes.push(b'\\');
                bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => return Err("a backslash at the end".to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_line(text: &str) -> Line {
        Line::Text(text.to_string())
    }

    #[test]
    fn raw_text_is_bytes() {
        let lines = [
            text_line("a\\x00b"),
            text_line("l: ${length}"),
            text_line(""),
            text_line("xyz\\"),
        ];
        assert_eq!(
            raw(&lines).expect("well formed"),
            b"a\0b\r\nl: 3\r\n\r\nxyz"
        );
    }

    #[test]
    fn indented_lines_edit_the_headers() {
        let mut draft = Draft {
            start: "OPTIONS sip:x SIP/2.0".to_string(),
            headers: vec![
                ("Via".to_string(), "a".to_string()),
                ("To".to_string(), "b".to_string()),
            ],
            body: String::new(),
        };
        draft.edit(&[
            Line::Header {
                name: "via".to_string(),
                value: "c".to_string(),
            },
            Line::More {
                name: "Via".to_string(),
                value: "d".to_string(),
            },
            Line::Without {
                name: "To".to_string(),
            },
            text_line("body"),
        ]);
        let text = String::from_utf8(draft.into_bytes()).expect("text");
        assert_eq!(
            text,
            "OPTIONS sip:x SIP/2.0\r\nVia: c\r\nVia: d\r\nContent-Length: 6\r\n\r\nbody\r\n"
        );
    }
}
