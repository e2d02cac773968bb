//! Messages gone wrong: one anomaly at a time in every field, or a seeded stream of random damage.

use lampfield::rng::Rng;

/// Values that have broken parsers: numbers at their limits, open quotes and brackets, odd addresses, long runs.
pub fn anomalies() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        " ",
        "\t",
        ",",
        ";",
        ";;",
        ":",
        "<",
        ">",
        "<>",
        "<<>>",
        "\"",
        "\"\\",
        "\\",
        "@",
        "%",
        "%00",
        "%zz",
        "*",
        "?",
        "=",
        "/",
        "0",
        "-1",
        "1",
        "255",
        "256",
        "65535",
        "65536",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "1e9",
        "0x10",
        "+1",
        "\0",
        "\r",
        "\n",
        "\r\n ",
        "\r\n\r\n",
        "\u{fffd}",
        "%s%n%x",
        "../../..",
        "sip:",
        "sips:",
        "tel:",
        "sip:@",
        "sip:a@",
        "sip:a@b:0",
        "sip:a@b:99999",
        "sip:[",
        "sip:[::1",
        "sip:a@[::1]:",
        "sip:a@[::ffff:1.2.3.4]",
        "<sip:a@b>",
        "<sip:a@b",
        "sip:a@b>",
        "*, *",
        "<sip:255.255.255.255>",
        "<sip:224.0.0.1>",
        "<sip:127.0.0.1:5060>",
        "<sip:0.0.0.0>",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0/UDP ;branch=",
        "SIP/9.9/XYZ h",
        "SIP/2.0/UDP [::1;branch=z9hG4bK1",
        "z9hG4bK",
        "tag=",
        ";tag=",
        ";tag=a;tag=b",
        ";rport=99999",
        ";received=",
        ";branch=z9hG4bK",
        ";q=2",
        ";expires=-5",
        ";lr=",
        ";maddr=x",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    for (byte, count) in [
        (b'A', 300),
        (b'A', 5_000),
        (b'(', 300),
        (b'<', 300),
        (b'"', 301),
        (b',', 2_000),
        (b';', 2_000),
        (b' ', 3_000),
        (b'%', 300),
        (b'\\', 301),
        (b'[', 300),
        (b'9', 400),
        (0, 64),
        (0xff, 64),
        (0x80, 300),
    ] {
        all.push(vec![byte; count]);
    }
    all
}

/// Every anomaly in every header line of `message` (as its value, before it and behind it), every line left out and
/// doubled, and every prefix: thousands of messages, always the same ones in the same order.
pub fn systematic(message: &[u8]) -> Vec<Vec<u8>> {
    let head_end = head_end(message);
    let lines: Vec<&[u8]> = message[..head_end]
        .split_inclusive(|&byte| byte == b'\n')
        .collect();
    let body = &message[head_end..];
    let mut all = Vec::new();
    let mut with_line = |index: usize, replacement: &[&[u8]]| {
        let mut text = Vec::with_capacity(message.len() + 64);
        for (number, line) in lines.iter().enumerate() {
            if number == index {
                replacement
                    .iter()
                    .for_each(|piece| text.extend_from_slice(piece));
            } else {
                text.extend_from_slice(line);
            }
        }
        text.extend_from_slice(body);
        all.push(text);
    };
    for (index, line) in lines.iter().enumerate() {
        with_line(index, &[]);
        with_line(index, &[line, line]);
        let (name, value) = split(line);
        for anomaly in anomalies() {
            with_line(index, &[name, &anomaly, b"\r\n"]);
            with_line(index, &[name, &anomaly, value, b"\r\n"]);
            with_line(index, &[name, value, &anomaly, b"\r\n"]);
        }
    }
    all.extend((0..message.len()).map(|length| message[..length].to_vec()));
    all
}

/// The name with its colon and space, and the value, of a header line; the method and the rest of a start line.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_end();
    let colon = line.windows(2).position(|pair| pair == b": ");
    let space = line.iter().position(|&byte| byte == b' ');
    let at = colon
        .map(|at| at + 2)
        .or(space.map(|at| at + 1))
        .unwrap_or(line.len());
    line.split_at(at)
}

fn head_end(message: &[u8]) -> usize {
    message
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(message.len(), |at| at + 2)
}

/// A seeded stream of damaged messages, without end.
pub struct Mutator {
    rng: Rng,
    seeds: Vec<Vec<u8>>,
    anomalies: Vec<Vec<u8>>,
}

impl Mutator {
    /// Mutates `seeds`, of which there must be one at least.
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty());
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Mutator {
            rng: Rng::new(key),
            seeds,
            anomalies: anomalies(),
        }
    }

    /// The next message: a seed with one to six things done to it.
    pub fn next_message(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len());
        let message = self.seeds[index].clone();
        self.damaged(message)
    }

    /// This message with one to six things done to it.
    pub fn damaged(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(6) {
            self.damage(&mut message);
        }
        message
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound.max(1) as u64) as usize
    }

    /// A random index, up to and with the length.
    fn place(&mut self, message: &[u8]) -> usize {
        self.below(message.len() + 1)
    }

    fn damage(&mut self, message: &mut Vec<u8>) {
        match self.below(12) {
            0 => {
                let at = self.place(message);
                message.truncate(at);
            }
            1 => self.flip(message),
            2 => self.insert_anomaly(message),
            3 => self.replace_value(message),
            4 => self.remove_range(message),
            5 => self.double_range(message),
            6 => self.move_line(message, true),
            7 => self.move_line(message, false),
            8 => self.splice(message),
            9 => self.fold(message),
            10 => self.change_case(message),
            _ => self.replace_byte(message),
        }
    }

    fn flip(&mut self, message: &mut [u8]) {
        let at = self.place(message);
        let bit = self.below(8);
        if let Some(byte) = message.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    fn replace_byte(&mut self, message: &mut [u8]) {
        const ODD: &[u8] = b"\0\t\r\n \"%'()*+,-./09:;<=>?@AZ[\\]az{}\x7f\x80\xff";
        let at = self.place(message);
        let new = ODD[self.below(ODD.len())];
        if let Some(byte) = message.get_mut(at) {
            *byte = new;
        }
    }

    fn insert_anomaly(&mut self, message: &mut Vec<u8>) {
        let at = self.place(message);
        let index = self.below(self.anomalies.len());
        message.splice(at..at, self.anomalies[index].iter().copied());
    }

    fn replace_value(&mut self, message: &mut Vec<u8>) {
        let range = self.line(message);
        let (name, value) = split(&message[range.clone()]);
        let start = range.start + name.len();
        let end = start + value.len();
        let index = self.below(self.anomalies.len());
        message.splice(start..end, self.anomalies[index].iter().copied());
    }

    fn range(&mut self, message: &[u8]) -> core::ops::Range<usize> {
        let (first, second) = (self.place(message), self.place(message));
        let length = self.below(64);
        let start = first.min(second);
        start..(start + length).min(message.len())
    }

    fn remove_range(&mut self, message: &mut Vec<u8>) {
        let range = self.range(message);
        message.drain(range);
    }

    fn double_range(&mut self, message: &mut Vec<u8>) {
        let range = self.range(message);
        let piece = message[range.clone()].to_vec();
        message.splice(range.end..range.end, piece);
    }

    /// One line of the message, its end included.
    fn line(&mut self, message: &[u8]) -> core::ops::Range<usize> {
        let ends: Vec<usize> = message
            .iter()
            .enumerate()
            .filter_map(|(index, &byte)| (byte == b'\n').then_some(index + 1))
            .collect();
        let Some(last) = ends.len().checked_sub(1) else {
            return 0..message.len();
        };
        let index = self.below(last + 1);
        let start = if index == 0 { 0 } else { ends[index - 1] };
        start..ends[index]
    }

    /// Takes a line to the place of another one; with `keep`, it stays as well.
    fn move_line(&mut self, message: &mut Vec<u8>, keep: bool) {
        let range = self.line(message);
        let line = message[range.clone()].to_vec();
        if !keep {
            message.drain(range);
        }
        let at = self.line(message).start;
        message.splice(at..at, line);
    }

    fn splice(&mut self, message: &mut Vec<u8>) {
        let index = self.below(self.seeds.len());
        let other = self.seeds[index].clone();
        let cut = self.line(message).start;
        let from = self.line(&other).start;
        message.truncate(cut);
        message.extend_from_slice(&other[from..]);
        message.truncate(65_535);
    }

    fn fold(&mut self, message: &mut Vec<u8>) {
        let at = self.place(message);
        let fold: &[u8] = [&b"\r\n "[..], b"\r\n\t", b"\n ", b" \r\n  "][self.below(4)];
        message.splice(at..at, fold.iter().copied());
    }

    fn change_case(&mut self, message: &mut [u8]) {
        let range = self.range(message);
        for byte in &mut message[range] {
            if byte.is_ascii_alphabetic() {
                *byte ^= 0x20;
            }
        }
    }
}

/// Messages that are as large as a datagram can be, or as a message may be, each in another way.
pub fn oversized() -> Vec<(&'static str, Vec<u8>)> {
    let xml = "Content-Type: application/dialog-info+xml\r\n";
    let attributes: String = (0..1_500).map(|n| format!("a{n}=\"\" ")).collect();
    let entity = format!("<!DOCTYPE a [<!ENTITY x \"{}\">]>", "y".repeat(8_000));
    let all = [
        ("a header of 60 kB", field("X", &"y".repeat(60_000))),
        ("2,000 Vias", "v: SIP/2.0/UDP h;branch=1\r\n".repeat(2_000)),
        ("10,000 Vias in one line", list("Via", "a/b/c", 10_000)),
        ("4,000 headers", "A: b\r\n".repeat(4_000)),
        (
            "a subject of 6,000 folds",
            field("Subject", &"\r\n a".repeat(6_000)),
        ),
        ("2,900 routes", list("Record-Route", "<sip:p;lr>", 2_900)),
        ("8,000 types accepted", list("Accept", "a/b", 8_000)),
        (
            "8,000 types accepted in 200 headers",
            list("Accept", "a/b", 40).repeat(150),
        ),
        ("16,000 extensions required", list("Require", "x", 16_000)),
        (
            "3,000 credentials of one header",
            list("Authorization: Digest a", "nonce=\"x\"", 3_000),
        ),
        (
            "240 headers of credentials",
            field("Authorization", "Digest realm=\"localhost\", nonce=\"x\"").repeat(240),
        ),
        (
            "200 contacts with open quotes",
            field("Contact", "\"").repeat(200),
        ),
        (
            "30,000 open brackets",
            field("Contact", &"<".repeat(30_000)),
        ),
        (
            "4,000 elements inside each other",
            with_body(xml, &"<a>".repeat(4_000)),
        ),
        (
            "4,000 elements beside each other",
            with_body(
                xml,
                &format!("<dialog-info>{}</dialog-info>", "<a/>".repeat(4_000)),
            ),
        ),
        (
            "1,500 attributes",
            with_body(xml, &format!("<dialog-info {attributes}/>")),
        ),
        (
            "2,000 entities",
            with_body(xml, &format!("{entity}<a>{}</a>", "&x;".repeat(2_000))),
        ),
        ("a body of 60 kB", with_body(xml, &"<a/>".repeat(15_000))),
    ];
    let mut messages: Vec<_> = all
        .into_iter()
        .enumerate()
        .map(|(number, (what, lines))| (what, large(number, &lines)))
        .collect();
    let replaced = [
        (
            "a display name of 30 kB",
            "From: <",
            format!("From: \"{}\" <", "n".repeat(30_000)),
        ),
        (
            "a To tag of 30 kB",
            "localhost>\r\nCall",
            format!("localhost>;tag={}\r\nCall", "t".repeat(30_000)),
        ),
        (
            "480 parameters of a URI",
            ":40001>",
            format!(":40001{}>", ";a".repeat(480)),
        ),
        (
            "8,000 parameters of an event",
            "Event: dialog",
            format!("Event: dialog{}", ";a=b".repeat(8_000)),
        ),
    ];
    for (number, (what, from, to)) in replaced.into_iter().enumerate() {
        let text = String::from_utf8(large(100 + number, "")).expect("text");
        assert!(text.contains(from), "{from}");
        messages.push((what, text.replacen(from, &to, 1).into_bytes()));
    }
    for (what, message) in &messages {
        assert!(message.len() <= 65_507, "{what} is no datagram");
    }
    messages
}

fn field(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}

fn list(name: &str, value: &str, count: usize) -> String {
    field(name, &vec![value; count].join(","))
}

/// Headers, and the body behind an empty line.
fn with_body(headers: &str, body: &str) -> String {
    format!("{headers}\r\n{body}")
}

/// A request with these lines in it; one with a body is a PUBLISH.
fn large(number: usize, lines: &str) -> Vec<u8> {
    let (headers, body) = lines
        .split_once("\r\n\r\n")
        .unwrap_or((lines.trim_end(), ""));
    let method = if body.is_empty() {
        "SUBSCRIBE"
    } else {
        "PUBLISH"
    };
    let line_end = if headers.is_empty() { "" } else { "\r\n" };
    format!(
        "{method} sip:1001@localhost SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:40001;branch=z9hG4bKbig{number}\r\n\
         From: <sip:big{number}@localhost>;tag=f\r\nTo: <sip:1001@localhost>\r\nCall-ID: big{number}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:big@127.0.0.1:40001>\r\nEvent: dialog\r\n\
         {headers}{line_end}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
