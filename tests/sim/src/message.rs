//! A SIP message as someone reads it in a trace: a start line, headers, a body.
//!
//! The judge of what Lampfield writes must not share Lampfield's parser, so this reader is its
//! own. It knows only the plain form in which a server should write (no folding, no compact
//! names) and names everything else as an error.

/// One message, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub bytes: Vec<u8>,
}

impl Message {
    /// Reads what a server wrote, strictly: CRLF everywhere, and a body of exactly Content-Length.
    pub fn read(bytes: &[u8]) -> Result<Message, String> {
        let end = find(bytes, b"\r\n\r\n").ok_or("no empty line after the headers")?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "headers are not UTF-8")?;
        let body = bytes[end + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_string();
        let mut headers = Vec::new();
        for line in lines {
            if line.contains(['\r', '\n']) {
                return Err(format!("a bare CR or LF in {line:?}"));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("no colon in {line:?}"))?;
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(format!("a header name that none writes: {line:?}"));
            }
            headers.push((name.to_string(), value.trim().to_string()));
        }
        let message = Message {
            start,
            headers,
            body,
            bytes: bytes.to_vec(),
        };
        let length = message
            .header("Content-Length")
            .ok_or("no Content-Length")?;
        if length != message.body.len().to_string() {
            return Err(format!(
                "Content-Length is {length}, the body has {} bytes",
                message.body.len()
            ));
        }
        if message.body.is_empty() == message.header("Content-Type").is_some() {
            return Err("Content-Type and body go together".to_string());
        }
        Ok(message)
    }

    /// Reads what a phone of a script sent, as far as it can be read: compact names become long ones.
    pub fn read_loosely(bytes: &[u8]) -> Message {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.trim_start_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_string();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = headers.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                headers.push((long_name(name.trim()), value.trim().to_string()));
            }
        }
        Message {
            start,
            headers,
            body: body.as_bytes().to_vec(),
            bytes: bytes.to_vec(),
        }
    }

    /// The method of a request; `None` for a response.
    pub fn method(&self) -> Option<&str> {
        match self.status() {
            Some(_) => None,
            None => self.start.split(' ').next(),
        }
    }

    /// The Request-URI of a request.
    pub fn request_uri(&self) -> Option<&str> {
        self.method()?;
        self.start.split(' ').nth(1)
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start
            .strip_prefix("SIP/2.0 ")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    }

    /// The first header of a name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All headers of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The values of a header that may be a list: joined lines and repeated ones are the same.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.all(name)
            .flat_map(split_list)
            .map(str::to_string)
            .collect()
    }

    /// The tag of From or To.
    pub fn tag(&self, name: &str) -> Option<&str> {
        parameter(self.header(name)?, "tag")
    }

    /// The number of CSeq.
    pub fn cseq(&self) -> Option<u32> {
        self.header("CSeq")?.split_whitespace().next()?.parse().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A parameter of a header value, looked for after the address (`<…>`).
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let parameters = match value.rfind('>') {
        Some(end) => &value[end + 1..],
        None => value,
    };
    parameters.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The URI of a From, To, Contact or Route value.
pub fn address(value: &str) -> &str {
    let name_end = quoted_end(value);
    let rest = &value[name_end..];
    match (rest.find('<'), rest.find('>')) {
        (Some(start), Some(end)) if start < end => &rest[start + 1..end],
        _ => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// Where a quoted display name ends; 0 without one.
fn quoted_end(value: &str) -> usize {
    let Some(inner) = value.trim_start().strip_prefix('"') else {
        return 0;
    };
    let start = value.len() - inner.len();
    let mut escaped = false;
    for (index, character) in inner.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return start + index + 1,
            _ => {}
        }
    }
    0
}

/// The elements of a comma-joined list; commas within `<…>` and quotes do not count.
fn split_list(value: &str) -> Vec<&str> {
    let (mut parts, mut start, mut angle, mut quoted, mut escaped) =
        (Vec::new(), 0, 0, false, false);
    for (index, character) in value.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => angle += 1,
            '>' if !quoted => angle -= 1,
            ',' if !quoted && angle == 0 => {
                parts.push(value[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(value[start..].trim());
    parts
}

fn long_name(name: &str) -> String {
    let long = match name.to_ascii_lowercase().as_str() {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "e" => "Content-Encoding",
        "k" => "Supported",
        "s" => "Subject",
        "o" => "Event",
        "u" => "Allow-Events",
        _ => name,
    };
    long.to_string()
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_formed_answer_is_read() {
        let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a, SIP/2.0/UDP b\r\nVia: SIP/2.0/UDP c\r\n\
                    To: \"x;tag=no\" <sip:a@b;tag=no>;tag=yes\r\nContent-Length: 0\r\n\r\n";
        let message = Message::read(text.as_bytes()).expect("well formed");
        assert_eq!(message.status(), Some(200));
        assert_eq!(message.method(), None);
        assert_eq!(message.tag("To"), Some("yes"));
        assert_eq!(message.list("Via").len(), 3);
    }

    #[test]
    fn a_wrong_content_length_is_an_error() {
        let text = "NOTIFY sip:a SIP/2.0\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nab";
        assert!(
            Message::read(text.as_bytes())
                .unwrap_err()
                .contains("Content-Length")
        );
    }

    #[test]
    fn a_body_without_type_is_an_error() {
        let text = "NOTIFY sip:a SIP/2.0\r\nContent-Length: 2\r\n\r\nab";
        assert!(Message::read(text.as_bytes()).is_err());
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        assert_eq!(
            split_list(r#""a, \"b" <sip:x,y>, <sip:z>"#),
            [r#""a, \"b" <sip:x,y>"#, "<sip:z>"]
        );
    }
}
