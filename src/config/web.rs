//! `path`, `origins` and `ping` of a `[[listener]]`: who may open a WebSocket connection to it, and how it is kept open.

use core::time::Duration;

use crate::config::problem::Problem;
use crate::config::section::{Placed, Section};
use crate::transport::Transport;
use crate::transport::stream::WebRules;

/// What a section says of WebSocket, before it is known whether the listener speaks it.
pub(super) struct Written<'t> {
    path: Option<Placed<&'t str>>,
    origins: Vec<Placed<&'t str>>,
    ping: Option<Placed<u64>>,
}

/// As often as every few seconds it would be the most of what is said.
const PING_SECONDS: core::ops::RangeInclusive<u64> = 5..=3_600;

/// Reads the keys.
pub(super) fn read<'t>(section: &mut Section<'t>) -> Written<'t> {
    Written {
        path: section.text("path"),
        origins: section.texts("origins").unwrap_or_default(),
        ping: section.number("ping", PING_SECONDS),
    }
}

impl Written<'_> {
    /// Whom the listener lets in.
    pub(super) fn settle(&self, transport: Transport, report: impl Fn(Problem)) -> WebRules {
        let wrong = |text: &Placed<&str>, what: String, help: &str| {
            report(Problem::at(text.span.clone(), what).help(help));
        };
        if !transport.is_web() {
            for text in self.path.iter().chain(self.origins.first()) {
                let what = "only ws and wss listeners have paths and origins".to_owned();
                wrong(text, what, "leave it out here");
            }
            if let Some(ping) = &self.ping {
                let what = "only ws and wss listeners have pings";
                report(Problem::at(ping.span.clone(), what).help("leave it out here"));
            }
            return WebRules::default();
        }
        let path = self.path.as_ref().filter(|text| {
            let good = is_path(text.value);
            if !good {
                let what = format!("`{}` is no path", text.value);
                wrong(
                    text,
                    what,
                    "write it as a browser asks for it: path = \"/sip\"",
                );
            }
            good
        });
        let origins = self.origins.iter().filter_map(|text| {
            let origin = read_origin(text.value);
            if origin.is_none() {
                let what = format!("`{}` is no origin", text.value);
                let help = "write scheme, host, and the port if it is not the usual one: \"https://phones.example.com\"";
                wrong(text, what, help);
            }
            origin
        });
        WebRules {
            path: path.map(|text| text.value.into()),
            origins: origins.collect(),
            ping: self
                .ping
                .as_ref()
                .map(|ping| Duration::from_secs(ping.value)),
        }
    }
}

fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    text.starts_with('/') && text.bytes().all(plain)
}

/// As browsers write it: in lower case, and without the usual port.
//= RFC 6454 6.2
fn read_origin(text: &str) -> Option<Box<str>> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let known = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if !known || rest.is_empty() || !rest.bytes().all(plain) {
        return None;
    }
    let rest = match scheme {
        "https" => rest.strip_suffix(":443").unwrap_or(rest),
        "http" => rest.strip_suffix(":80").unwrap_or(rest),
        _ => rest,
    };
    Some(format!("{scheme}://{rest}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 6454 6.2 type=test
    #[test]
    fn an_origin_is_kept_as_browsers_write_it() {
        for (text, origin) in [
            (
                "https://Phones.example.com",
                Some("https://phones.example.com"),
            ),
            ("https://a.example:443", Some("https://a.example")),
            ("http://a.example:80", Some("http://a.example")),
            ("http://a.example:443", Some("http://a.example:443")),
            ("http://[::1]:8000", Some("http://[::1]:8000")),
            (
                "chrome-extension://abcdef",
                Some("chrome-extension://abcdef"),
            ),
            ("https://a.example/", None),
            ("https://", None),
            ("a.example", None),
            ("*", None),
        ] {
            assert_eq!(read_origin(text).as_deref(), origin, "{text}");
        }
    }
}
