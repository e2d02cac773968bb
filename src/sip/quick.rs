//! The shortest way to the branch of an answer to one of our own requests.

use super::lex;

/// What tells which of our transactions a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuickAnswer<'a> {
    pub status: u16,
    /// Of the topmost Via.
    pub branch: &'a [u8],
}

/// The status and the top Via's branch of a response whose first header is that Via, as nearly all are.
///
/// `None` says nothing about the message: scan it whole then. Nothing else of the message has been looked at,
/// so whoever acts on this must hold that the branch is one that only the answering peer can know.
pub fn quick_answer(bytes: &[u8]) -> Option<QuickAnswer<'_>> {
    let rest = bytes.strip_prefix(b"SIP/2.0 ")?;
    let [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] = *rest else {
        return None;
    };
    let line_start = lex::find_near(b'\n', rest)? + 1;
    let line = rest.get(line_start..)?;
    let value = match line {
        [b'V' | b'v', b'i' | b'I', b'a' | b'A', b':', value @ ..] => value,
        [b'v' | b'V', b':', value @ ..] => value,
        _ => return None,
    };
    let line_end = memchr::memchr(b'\n', value)?;
    let line = &value[..line_end];
    let mut at = 0;
    loop {
        // A quote or comma before the branch, or a fold: the long way decides.
        at += memchr::memchr3(b';', b'"', b',', &line[at..])? + 1;
        if line[at - 1] != b';' {
            return None;
        }
        let param = &line[at..];
        if param.len() > 7 && lex::eq_ignore_case(&param[..7], "branch=") {
            let value = &param[7..];
            let end = memchr::memchr3(b';', b',', b'\r', value).unwrap_or(value.len());
            let branch = &value[..end];
            // White space before what ends it, or quotes around it: the long way decides.
            if !lex::is_all_token(branch) {
                return None;
            }
            let digit = |byte: u8| u16::from(byte - b'0');
            return Some(QuickAnswer {
                status: digit(a) * 100 + digit(b) * 10 + digit(c),
                branch,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_of_the_first_via_is_found() {
        for via in [
            "Via: SIP/2.0/UDP 192.0.2.1:5060;rport=5060;received=192.0.2.1;branch=z9hG4bK0a.b-c",
            "v:SIP/2.0/UDP h;Branch=z9hG4bK0a.b-c;rport",
            "VIA: SIP/2.0/UDP h;branch=z9hG4bK0a.b-c, SIP/2.0/UDP i;branch=x",
        ] {
            let text = format!("SIP/2.0 200 OK\r\n{via}\r\nVia: SIP/2.0/UDP j;branch=y\r\n\r\n");
            let answer = quick_answer(text.as_bytes()).unwrap_or_else(|| panic!("{via}"));
            assert_eq!((answer.status, answer.branch), (200, &b"z9hG4bK0a.b-c"[..]));
        }
    }

    #[test]
    fn everything_unusual_is_left_to_the_scanner() {
        for text in [
            "SIP/2.0 200 OK\r\nFrom: a\r\nVia: SIP/2.0/UDP h;branch=x\r\n\r\n",
            "SIP/2.0 99 x\r\nVia: SIP/2.0/UDP h;branch=x\r\n\r\n",
            "SIP/2.0 2000 x\r\nVia: SIP/2.0/UDP h;branch=x\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia : SIP/2.0/UDP h;branch=x\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;x=\";branch=x\"\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h, SIP/2.0/UDP i;branch=x\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;\r\n branch=x\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=x",
            "NOTIFY sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=x\r\n\r\n",
            "",
        ] {
            assert_eq!(quick_answer(text.as_bytes()), None, "{text}");
        }
    }
}
