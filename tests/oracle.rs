//! rsip as the oracle: what both parsers accept they must understand alike. Where they differ is listed, with who is right.

use lampfield::rng::Rng;
use lampfield::sip::{Host, Message};
use rsip::prelude::{HeadersExt as _, ToTypedHeader as _, UntypedHeader as _};

/// What a request says, in words that both parsers can give.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    method: String,
    uri_user: Option<String>,
    uri_host: String,
    uri_port: Option<u16>,
    call_id: String,
    cseq: u32,
    from_tag: Option<String>,
    to_tag: Option<String>,
    from_user: Option<String>,
    branch: Option<String>,
    via_host: String,
    body: String,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn host(host: &Host<'_>) -> String {
    match host {
        Host::Name(name) => text(name),
        Host::V4(address) => address.to_string(),
        Host::V6(address) => address.to_string(),
    }
}

fn ours(bytes: &[u8]) -> Option<Facts> {
    let message = Message::scan(bytes).ok()?;
    let request = message.request().ok()?;
    let lampfield::sip::Target::Sip(uri) = request.target else {
        return None;
    };
    Some(Facts {
        method: text(request.method.as_bytes()),
        uri_user: uri.user.map(text),
        uri_host: host(&uri.host),
        uri_port: uri.port,
        call_id: text(request.call_id),
        cseq: request.cseq,
        from_tag: request.from.tag.map(text),
        to_tag: request.to_tag.map(text),
        from_user: request.from.sip_uri().ok()?.user.map(text),
        branch: request.via.branch.map(text),
        via_host: host(&request.via.host),
        body: text(message.body),
    })
}

fn theirs(bytes: &[u8]) -> Option<Facts> {
    let request = rsip::Request::try_from(bytes).ok()?;
    let via = request.via_header().ok()?.typed().ok()?;
    let from = request.from_header().ok()?.typed().ok()?;
    let to = request.to_header().ok()?.typed().ok()?;
    let cseq = request.cseq_header().ok()?.typed().ok()?;
    let host = |uri: &rsip::Uri| uri.host_with_port.host.to_string();
    Some(Facts {
        method: request.method.to_string(),
        uri_user: request.uri.auth.as_ref().map(|auth| auth.user.clone()),
        uri_host: host(&request.uri),
        uri_port: request
            .uri
            .host_with_port
            .port
            .as_ref()
            .map(|port| *port.value()),
        call_id: request.call_id_header().ok()?.value().to_owned(),
        cseq: cseq.seq,
        from_tag: from.tag().map(|tag| tag.to_string()),
        to_tag: to.tag().map(|tag| tag.to_string()),
        from_user: from.uri.auth.as_ref().map(|auth| auth.user.clone()),
        branch: via.branch().map(|branch| branch.to_string()),
        via_host: host(&via.uri),
        body: text(&request.body),
    })
}

/// A sound request for the table of differences to break.
const PLAIN: &str = "SUBSCRIBE sip:1001@lamp.example:5070 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.51:5060;branch=z9hG4bK1\r\n\
    Max-Forwards: 70\r\n\
    From: \"Desk\" <sip:2000@lamp.example>;tag=f1\r\n\
    To: <sip:1001@lamp.example>\r\n\
    Call-ID: c1@192.0.2.51\r\n\
    CSeq: 5 SUBSCRIBE\r\n\
    Contact: <sip:2000@192.0.2.51>\r\n\
    Content-Length: 4\r\n\
    \r\nbody";

/// Who takes a message, where not both take it and understand it alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    OnlyWeAccept,
    OnlyTheyAccept,
    BothAcceptAndDiffer,
}

fn difference(bytes: &[u8]) -> Option<Difference> {
    match (ours(bytes), theirs(bytes)) {
        (Some(ours), Some(theirs)) if ours == theirs => None,
        (Some(_), Some(_)) => Some(Difference::BothAcceptAndDiffer),
        (Some(_), None) => Some(Difference::OnlyWeAccept),
        (None, Some(_)) => Some(Difference::OnlyTheyAccept),
        (None, None) => None,
    }
}

/// Each difference that is known: what is changed in the plain request, and why we are right.
const DIFFERENCES: &[(&str, &str, Difference, &str)] = {
    use Difference::{BothAcceptAndDiffer, OnlyTheyAccept, OnlyWeAccept};
    &[
        (
            "From:",
            "f:",
            OnlyWeAccept,
            "RFC 3261 7.3.3: a compact form is the header itself; rsip does not know it",
        ),
        ("Call-ID:", "i:", OnlyWeAccept, "RFC 3261 7.3.3, likewise"),
        ("Via:", "v:", OnlyWeAccept, "RFC 3261 7.3.3, likewise"),
        (
            "SUBSCRIBE\r\nContact",
            "\r\n SUBSCRIBE\r\nContact",
            OnlyWeAccept,
            "RFC 3261 7.3.1: a line may be folded",
        ),
        (
            "To: ",
            "To :\r\n\t",
            OnlyWeAccept,
            "RFC 3261 7.3.1: white space before the colon and a fold behind it",
        ),
        (
            "SUBSCRIBE sip",
            "\r\n\r\nSUBSCRIBE sip",
            OnlyWeAccept,
            "RFC 3261 7.5: line ends before the start line are passed over",
        ),
        (
            "sip:1001@lamp.example:5070",
            "sip:1001@[2001:db8::1]:5070",
            OnlyWeAccept,
            "RFC 5118 4.4: IPv6 in the Request-URI",
        ),
        (
            "192.0.2.51:5060",
            "[2001:db8::51]:5060",
            OnlyWeAccept,
            "RFC 5118 4.5: IPv6 in Via",
        ),
        (
            "SIP/2.0/UDP",
            "SIP / 2.0 / UDP",
            OnlyWeAccept,
            "RFC 3261 25.1: white space around the slashes of a Via",
        ),
        (
            "SUBSCRIBE",
            "FETCH",
            OnlyWeAccept,
            "RFC 3261 7.1: a method is any token (405 is the next layer's)",
        ),
        (
            "sip:1001@",
            "sip:a.b@",
            BothAcceptAndDiffer,
            "RFC 3261 25.1: a user may hold marks; rsip takes such a one for a part of the host",
        ),
        (
            "Content-Length: 4",
            "Content-Length: 2",
            BothAcceptAndDiffer,
            "RFC 3261 18.3: what is beyond the length is no body",
        ),
        (
            "Content-Length: 4",
            "Content-Length: 5",
            OnlyTheyAccept,
            "RFC 3261 18.3: a body shorter than its length is refused",
        ),
        (
            "Content-Length: 4",
            "Content-Length: -4",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.3: no length is negative",
        ),
        (
            "5 SUBSCRIBE",
            "5 INVITE",
            OnlyTheyAccept,
            "RFC 3261 8.1.1.5: CSeq names the request's method",
        ),
        (
            "5 SUBSCRIBE",
            "2147483648 SUBSCRIBE",
            OnlyTheyAccept,
            "RFC 3261 8.1.1.5: CSeq is below 2^31",
        ),
        (
            "\"Desk\"",
            "\"Desk",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.6: a quote that never closes",
        ),
        (
            "\"Desk\"",
            "Desk, A",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.15: an unquoted comma separates values, and From has one",
        ),
        (
            "<sip:1001@lamp.example>",
            "< sip:1001@lamp.example >",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.14: no spaces in the brackets",
        ),
        (
            "sip:1001@lamp.example:5070",
            "<sip:1001@lamp.example>",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.7: no brackets around a Request-URI",
        ),
        (
            "sip:1001@lamp.example:5070",
            "soap.beep://192.0.2.103:3002",
            OnlyTheyAccept,
            "RFC 3261 8.2.2.1: a scheme that is not served is 416",
        ),
        (
            "z9hG4bK1",
            "z9hG4bK",
            OnlyTheyAccept,
            "RFC 4475 3.2.1: a cookie with nothing behind it identifies nothing",
        ),
        (
            "z9hG4bK1",
            "z9hG4bK1;;",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.1: a separator separates something",
        ),
        (
            "Contact:",
            "CSeq: 6 SUBSCRIBE\r\nContact:",
            OnlyTheyAccept,
            "RFC 4475 3.3.8: more than one CSeq",
        ),
        (
            "Contact:",
            "Content-Length: 3\r\nContact:",
            OnlyTheyAccept,
            "RFC 4475 3.3.9: two lengths that differ",
        ),
        (
            "Contact: <sip:2000@192.0.2.51>",
            "Contact: sip:2000@192.0.2.51?x=y",
            OnlyTheyAccept,
            "RFC 4475 3.1.2.13: a question mark needs brackets",
        ),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 300",
            OnlyTheyAccept,
            "RFC 3261 20.22: Max-Forwards is at most 255",
        ),
    ]
};

#[test]
fn each_listed_difference_is_still_one() {
    let mut wrong = Vec::new();
    for (from, to, expected, why) in DIFFERENCES {
        assert!(PLAIN.contains(from), "{from}");
        // A method stands in two places.
        let times = if *from == "SUBSCRIBE" { 2 } else { 1 };
        let text = PLAIN.replacen(from, to, times);
        let found = difference(text.as_bytes());
        if found != Some(*expected) {
            wrong.push(format!(
                "{from} -> {to}: {found:?}, not {expected:?} ({why})"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Makes requests of what both parsers know.
struct Generator {
    rng: Rng,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Generator { rng: Rng::new(key) }
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.rng.below(choices.len() as u64) as usize]
    }

    fn word(&mut self) -> String {
        let length = 1 + self.rng.below(12);
        (0..length)
            .map(|_| self.pick(&["a", "B", "7", "-", ".x", "_", "q", "Z9"]))
            .collect()
    }

    fn uri(&mut self) -> String {
        let user = self.pick(&["", "1001@", "alice@", "+15550100@", "al!ice~@"]);
        let host = self.pick(&[
            "lamp.example",
            "192.0.2.9",
            "pbx-1.Lamp.EXAMPLE",
            "localhost",
        ]);
        let port = self.pick(&["", "", ":5060", ":1", ":65535"]);
        let params = self.pick(&["", "", ";transport=udp", ";lr", ";transport=tcp;lr"]);
        format!("sip:{user}{host}{port}{params}")
    }

    fn party(&mut self, tag: &str) -> String {
        let display = self.pick(&["", "", "Desk ", "\"Desk 2\" ", "\"\" "]);
        let uri = self.uri();
        let tag = match self.pick(&["tag", "tag", "none"]) {
            "tag" => format!(";tag={tag}{}", self.word()),
            _ => String::new(),
        };
        format!("{display}<{uri}>{tag}")
    }

    fn request(&mut self) -> String {
        let method = self.pick(&[
            "SUBSCRIBE",
            "NOTIFY",
            "PUBLISH",
            "OPTIONS",
            "INVITE",
            "MESSAGE",
        ]);
        let mut text = format!("{method} {} SIP/2.0\r\n", self.uri());
        let transport = self.pick(&["UDP", "TCP", "TLS", "WS"]);
        let sent_by = self.pick(&[
            "192.0.2.51",
            "192.0.2.51:5061",
            "edge.lamp.example",
            "edge:5060",
        ]);
        let branch = self.word();
        let rport = self.pick(&["", ";rport", ";rport=5060;received=192.0.2.3"]);
        let mut headers = vec![
            format!("Via: SIP/2.0/{transport} {sent_by}{rport};branch=z9hG4bK{branch}"),
            format!("From: {}", self.party("f")),
            format!("To: {}", self.party("t")),
            format!("Call-ID: {}@{}", self.word(), self.word()),
            format!("CSeq: {} {method}", self.rng.below(1 << 31)),
        ];
        for _ in 0..self.rng.below(6) {
            let extra = self.pick(&[
                "Max-Forwards: 70",
                "Event: dialog;id=x",
                "Expires: 3600",
                "X-Odd: ;;,,\"",
                "Subject: a: b",
                "Supported: a, b",
                "User-Agent: Desk/1.0 (x)",
                "Record-Route: <sip:p;lr>, <sip:q;lr>",
                "Accept: a/b;q=0.5",
            ]);
            let at = self.rng.below(headers.len() as u64 + 1) as usize;
            if !extra.starts_with("Max") || !headers.iter().any(|header| header == extra) {
                headers.insert(at, extra.to_owned());
            }
        }
        text.push_str(&headers.join("\r\n"));
        let body = self.pick(&["", "", "x", "a body\r\nof two lines\r\n"]);
        format!("{text}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

#[test]
fn both_accept_what_is_plain_and_understand_it_alike() {
    let seed = 3_261;
    println!("seed {seed}");
    let mut generator = Generator::new(seed);
    for number in 0..3_000 {
        let text = generator.request();
        let ours = ours(text.as_bytes());
        assert!(ours.is_some(), "request {number} of seed {seed}:\n{text}");
        assert_eq!(
            ours,
            theirs(text.as_bytes()),
            "request {number} of seed {seed}:\n{text}"
        );
    }
}

/// Which of the listed differences has slipped into a damaged request that both accept.
fn excuse(ours: &Facts, theirs: &Facts) -> Option<&'static str> {
    let cut = |ours: &Option<String>, theirs: &Option<String>| {
        ours != theirs
            && ours
                .as_ref()
                .is_some_and(|ours| ours.starts_with(theirs.as_deref().unwrap_or("")))
    };
    if ours.body != theirs.body {
        Some("what is beyond Content-Length is no body")
    } else if ours.from_user != theirs.from_user || ours.uri_user != theirs.uri_user {
        Some("rsip takes a user of other characters than letters and digits for a part of the host")
    } else if cut(&ours.branch, &theirs.branch)
        || cut(&ours.from_tag, &theirs.from_tag)
        || cut(&ours.to_tag, &theirs.to_tag)
    {
        Some("rsip cuts a value at a character that is none of a token's, we keep it whole")
    } else if ours.via_host != theirs.via_host {
        Some("rsip does not split a Via at its comma, and looks for an at sign in its parameters")
    } else if theirs.call_id.starts_with(&ours.call_id)
        && theirs.call_id[ours.call_id.len()..].starts_with(['\r', '\n', ' ', '\t'])
        || theirs.call_id.trim() == ours.call_id
    {
        // Most servers have it so, and white space at the end of a value is none of it.
        Some("a lone line feed ends a line; rsip keeps it, or other white space, in the value")
    } else {
        None
    }
}

#[test]
fn both_understand_alike_what_both_accept_of_damaged_requests() {
    let seed = 4_475;
    println!("seed {seed}");
    let mut generator = Generator::new(seed);
    let (mut both, mut excused) = (0, 0);
    let mut wrong = Vec::new();
    for number in 0..20_000 {
        let mut text = generator.request().into_bytes();
        for _ in 0..=generator.rng.below(2) {
            let at = generator.rng.below(text.len() as u64) as usize;
            match generator.rng.below(3) {
                0 => text[at] = b" \t;,:<>@\"%=/?x0\r\n"[generator.rng.below(17) as usize],
                1 => drop(text.remove(at)),
                _ => text.insert(
                    at,
                    b" \t;,:<>@\"%=/?x0\r\n"[generator.rng.below(17) as usize],
                ),
            }
        }
        let (Some(ours), Some(theirs)) = (ours(&text), theirs(&text)) else {
            continue;
        };
        both += 1;
        if ours == theirs {
            continue;
        }
        match excuse(&ours, &theirs) {
            Some(_) => excused += 1,
            None => wrong.push(format!(
                "request {number} of seed {seed}:\n{}\n{ours:?}\n{theirs:?}\n",
                String::from_utf8_lossy(&text)
            )),
        }
    }
    println!("{both} accepted by both, {excused} with a difference that is listed");
    assert!(
        wrong.is_empty(),
        "{} of {both}:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
    assert!(both > 5_000, "only {both}");
}
