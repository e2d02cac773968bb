//! Request methods. Methods are case-sensitive.

use super::lex;

/// A request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method<'a> {
    Ack,
    Bye,
    Cancel,
    Info,
    Invite,
    Message,
    Notify,
    Options,
    Prack,
    Publish,
    Refer,
    Register,
    Subscribe,
    Update,
    /// Any other token.
    Other(&'a [u8]),
}

impl<'a> Method<'a> {
    /// `None` if it is no token.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        Some(match bytes {
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"PUBLISH" => Method::Publish,
            b"OPTIONS" => Method::Options,
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"CANCEL" => Method::Cancel,
            b"BYE" => Method::Bye,
            b"REGISTER" => Method::Register,
            b"MESSAGE" => Method::Message,
            b"INFO" => Method::Info,
            b"REFER" => Method::Refer,
            b"UPDATE" => Method::Update,
            b"PRACK" => Method::Prack,
            other if lex::is_all_token(other) => Method::Other(other),
            _ => return None,
        })
    }

    /// As it stands in a message.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Method::Ack => b"ACK",
            Method::Bye => b"BYE",
            Method::Cancel => b"CANCEL",
            Method::Info => b"INFO",
            Method::Invite => b"INVITE",
            Method::Message => b"MESSAGE",
            Method::Notify => b"NOTIFY",
            Method::Options => b"OPTIONS",
            Method::Prack => b"PRACK",
            Method::Publish => b"PUBLISH",
            Method::Refer => b"REFER",
            Method::Register => b"REGISTER",
            Method::Subscribe => b"SUBSCRIBE",
            Method::Update => b"UPDATE",
            Method::Other(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_tokens() {
        assert_eq!(Method::parse(b"SUBSCRIBE"), Some(Method::Subscribe));
        assert_eq!(
            Method::parse(b"subscribe"),
            Some(Method::Other(b"subscribe"))
        );
        assert_eq!(Method::parse(b"SUB SCRIBE"), None);
        assert_eq!(Method::parse(b""), None);
    }

    #[test]
    fn a_method_is_written_as_it_was_read() {
        for name in [
            "ACK",
            "BYE",
            "CANCEL",
            "INFO",
            "INVITE",
            "MESSAGE",
            "NOTIFY",
            "OPTIONS",
            "PRACK",
            "PUBLISH",
            "REFER",
            "REGISTER",
            "SUBSCRIBE",
            "UPDATE",
            "x-%1",
        ] {
            assert_eq!(
                Method::parse(name.as_bytes()).unwrap().as_bytes(),
                name.as_bytes()
            );
        }
    }
}
