//! Canonical names `user@domain`: two URIs that mean one resource or one person have one key.
//! Written into a fixed buffer, so that finding a resource allocates nothing. It maps no host to a domain.

use core::fmt;

use crate::config::limits;
use crate::sip::{Host, Writer};

/// The longest key in bytes; what is longer names nothing here.
pub const KEY_BYTES_MAX: usize = limits::RESOURCE_BYTES;

/// The canonical text of a resource or an identity.
#[derive(Clone, Copy)]
pub struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: u16,
    /// Where the `@` stands.
    at: u16,
}

/// The key would be longer than [`KEY_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Key {
    /// From the user as a URI writes it and a domain that is canonical already.
    ///
    /// Escapes are decoded, so that `%31001` is `1001`. Kept, as `%` and two upper-case digits, is what would make
    /// the key ambiguous or unfit for a line of text: controls, space, `" % : < > @ \`, and bytes that are not UTF-8.
    //= RFC 3261 19.1.4
    pub fn new(user: &[u8], domain: &str) -> Result<Key, TooLong> {
        let mut key = Key::empty();
        let mut rest = user;
        loop {
            // Nearly every user is one run of plain characters.
            let plain = rest.iter().take_while(|byte| is_plain(**byte)).count();
            key.push(&rest[..plain])?;
            rest = &rest[plain..];
            if rest.is_empty() {
                break;
            }
            rest = key.push_canonical(rest)?;
        }
        key.at = key.length;
        key.push(b"@")?;
        key.push(domain.as_bytes())?;
        Ok(key)
    }

    /// The same, with a host that is no domain of ours: lower case, without a final dot.
    pub fn foreign(user: &[u8], host: &Host<'_>) -> Result<Key, TooLong> {
        let mut key = Key::new(user, "")?;
        let start = usize::from(key.length);
        let host = match host {
            Host::Name(name) => Host::Name(without_final_dot(name)),
            Host::V4(_) | Host::V6(_) => *host,
        };
        let mut writer = Writer::new(&mut key.bytes[start..]);
        host.write(&mut writer);
        let length = writer.finish().ok_or(TooLong)?;
        key.length = (start + length) as u16;
        key.bytes[start..start + length].make_ascii_lowercase();
        Ok(key)
    }

    /// `user@domain`.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).expect("only whole characters are pushed")
    }

    /// The bytes of `user@domain`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The domain, or the foreign host.
    pub fn domain(&self) -> &[u8] {
        &self.as_bytes()[usize::from(self.at) + 1..]
    }

    /// What stands before the `@`.
    pub fn user(&self) -> &[u8] {
        &self.bytes[..usize::from(self.at)]
    }

    fn empty() -> Key {
        Key {
            bytes: [0; KEY_BYTES_MAX],
            length: 0,
            at: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let start = usize::from(self.length);
        let end = start + bytes.len();
        self.bytes
            .get_mut(start..end)
            .ok_or(TooLong)?
            .copy_from_slice(bytes);
        self.length = end as u16;
        Ok(())
    }

    /// Appends the first character of `user` and gives what follows it.
    fn push_canonical<'a>(&mut self, user: &'a [u8]) -> Result<&'a [u8], TooLong> {
        let (first, mut rest) = decode(user);
        if is_plain(first) {
            self.push(&[first])?;
            return Ok(rest);
        }
        // Perhaps the start of a longer character: up to three more bytes, each of them escaped or not.
        let mut character = [first, 0, 0, 0];
        for length in 2..=utf8_length(first) {
            if rest.is_empty() {
                break;
            }
            let (next, after) = decode(rest);
            character[length - 1] = next;
            rest = after;
            if let Ok(text) = core::str::from_utf8(&character[..length])
                && !text.chars().any(char::is_control)
            {
                self.push(text.as_bytes())?;
                return Ok(rest);
            }
        }
        self.push(&escape(first))?;
        Ok(decode(user).1)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host without the dot that may end a fully qualified name.
pub(super) fn without_final_dot(host: &[u8]) -> &[u8] {
    host.strip_suffix(b".").unwrap_or(host)
}

/// The first byte, decoded where a whole escape starts there, and what follows.
fn decode(text: &[u8]) -> (u8, &[u8]) {
    if let [b'%', high, low, rest @ ..] = text
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return (high << 4 | low, rest);
    }
    (text[0], &text[1..])
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

/// Stands in a key as it is.
fn is_plain(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = b'!';
        while byte <= b'~' {
            table[byte as usize] = !matches!(byte, b'"' | b'%' | b':' | b'<' | b'>' | b'@' | b'\\');
            byte += 1;
        }
        table
    };
    PLAIN[usize::from(byte)]
}

/// How long the UTF-8 character that starts with this byte is; 1 for a byte that starts none.
fn utf8_length(first: u8) -> usize {
    match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    }
}

fn escape(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(user: &str) -> String {
        Key::new(user.as_bytes(), "d").unwrap().as_str().to_owned()
    }

    //= RFC 3261 19.1.4 type=test
    #[test]
    fn an_escaped_character_is_the_character_itself() {
        assert_eq!(key("%31001"), "1001@d");
        assert_eq!(key("%62ob"), "bob@d");
        assert_eq!(key("%2b4930"), "+4930@d");
        assert_eq!(key("%2a72%23"), "*72#@d");
        assert_eq!(key("j%C3%BCrgen"), "jürgen@d");
        assert_eq!(key("jürgen"), "jürgen@d");
        assert_eq!(key("%E2%82%AC%F0%9F%92%A1"), "€💡@d");
    }

    #[test]
    fn an_escape_that_would_make_the_key_ambiguous_stays_in_upper_case() {
        assert_eq!(key("a%40b"), "a%40b@d");
        assert_eq!(key("a%2531"), "a%2531@d");
        assert_eq!(key("a%0d%0Ab"), "a%0D%0Ab@d");
        assert_eq!(key("a%00"), "a%00@d");
        assert_eq!(key("a%3cb%3E"), "a%3Cb%3E@d");
        assert_eq!(key("a%c2%85"), "a%C2%85@d");
    }

    #[test]
    fn what_is_no_escape_is_written_as_one() {
        assert_eq!(key("%"), "%25@d");
        assert_eq!(key("%4"), "%254@d");
        assert_eq!(key("%zz1"), "%25zz1@d");
        assert_eq!(key("a b"), "a%20b@d");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept_escaped() {
        let latin = Key::new(b"j\xfcrgen", "d").unwrap();
        assert_eq!(latin.as_str(), "j%FCrgen@d");
        assert_eq!(key("j%fcrgen"), "j%FCrgen@d");
        assert_eq!(key("%e2%82"), "%E2%82@d");
        assert_eq!(key("%e2%821"), "%E2%821@d");
        assert_eq!(key("%ed%a0%80"), "%ED%A0%80@d");
    }

    #[test]
    fn the_user_keeps_its_case_and_a_foreign_host_loses_it() {
        let key = Key::foreign(b"Alice", &Host::Name(b"Other.EXAMPLE.")).unwrap();
        assert_eq!(key.as_str(), "Alice@other.example");
        assert_eq!(key.user(), b"Alice");
        assert_eq!(key.domain(), b"other.example");
    }

    #[test]
    fn a_name_that_is_too_long_is_no_name() {
        assert!(Key::new(&[b'a'; KEY_BYTES_MAX - 2], "d").is_ok());
        assert_eq!(Key::new(&[b'a'; KEY_BYTES_MAX - 1], "d"), Err(TooLong));
        assert_eq!(
            Key::foreign(b"a", &Host::Name(&[b'h'; KEY_BYTES_MAX])),
            Err(TooLong)
        );
    }

    proptest! {
        #[test]
        fn a_canonical_key_is_canonical(user in proptest::collection::vec(any::<u8>(), 0..60)) {
            let once = Key::new(&user, "d").unwrap();
            let twice = Key::new(once.user(), "d").unwrap();
            prop_assert_eq!(once.as_str(), twice.as_str());
            prop_assert!(!once.as_str().chars().any(char::is_control));
        }
    }
}
