//! Bytes to words: the character classes and small scanners that every value parser uses.
//!
//! A raw value may hold folds; CR and LF inside a value are therefore white space like any other.

/// A value that does not follow its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

const TOKEN: u8 = 1;
const SPACE: u8 = 2;
const VALUE: u8 = 4;
const HOSTNAME: u8 = 8;
const URI: u8 = 16;
const URI_MARK: u8 = 32;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0_u8; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
            )
        {
            class |= TOKEN;
        }
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            class |= SPACE;
        }
        let visible = byte > b' ' && byte != 0x7f;
        if visible && !matches!(byte, b';' | b',' | b'"' | b'<' | b'>') {
            class |= VALUE;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            class |= HOSTNAME;
        }
        if visible && !matches!(byte, b'"' | b'<' | b'>') {
            class |= URI;
        }
        if matches!(byte, b'@' | b':' | b';' | b'?' | b'%') {
            class |= URI_MARK;
        }
        table[index] = class;
        index += 1;
    }
    table
}

#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    CLASS[usize::from(byte)] & SPACE != 0
}

/// What a parameter's unquoted value may hold: more than a token, for hosts and sloppy tags.
#[inline]
pub(super) fn is_value(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

#[inline]
pub(super) fn is_hostname(byte: u8) -> bool {
    CLASS[usize::from(byte)] & HOSTNAME != 0
}

/// What may stand in a URI of any scheme; UTF-8 is let through although RFC 3261 wants it escaped.
#[inline]
pub(super) fn is_uri(byte: u8) -> bool {
    CLASS[usize::from(byte)] & URI != 0
}

/// Where the parts of a SIP URI meet, counted from behind its scheme.
#[derive(Default)]
pub(super) struct UriMarks {
    /// The first at sign.
    pub at: Option<usize>,
    /// The first colon before it.
    pub user_colon: Option<usize>,
    /// Whether a percent sign stands before it.
    pub user_escapes: bool,
    /// The first semicolon or question mark behind it.
    pub host_end: Option<usize>,
    /// The first question mark behind it.
    pub question: Option<usize>,
}

/// Finds them in one pass; `None` if a byte stands there that no URI may hold.
pub(super) fn uri_marks(bytes: &[u8]) -> Option<UriMarks> {
    let mut marks = UriMarks::default();
    let mut colon = None;
    let mut index = 0;
    loop {
        // Most bytes are neither a mark nor wrong.
        while let Some(&byte) = bytes.get(index)
            && CLASS[usize::from(byte)] & (URI | URI_MARK) == URI
        {
            index += 1;
        }
        let Some(&byte) = bytes.get(index) else {
            return Some(marks);
        };
        if CLASS[usize::from(byte)] & URI == 0 {
            return None;
        }
        match byte {
            // Semicolons and question marks before the at sign belong to the user.
            b'@' if marks.at.is_none() => {
                marks.at = Some(index);
                marks.user_colon = colon;
                marks.host_end = None;
                marks.question = None;
            }
            b':' if colon.is_none() => colon = Some(index),
            b'%' => marks.user_escapes |= marks.at.is_none(),
            b';' if marks.host_end.is_none() => marks.host_end = Some(index),
            b'?' if marks.question.is_none() => {
                marks.question = Some(index);
                marks.host_end.get_or_insert(index);
            }
            _ => {}
        }
        index += 1;
    }
}

#[inline]
pub(super) fn all(bytes: &[u8], class: impl Fn(u8) -> bool) -> bool {
    bytes.iter().all(|&byte| class(byte))
}

pub(super) fn is_all_token(bytes: &[u8]) -> bool {
    // No way out before the end: nearly always there is none.
    let each = |all, &byte: &u8| all & CLASS[usize::from(byte)];
    !bytes.is_empty() && bytes.iter().fold(TOKEN, each) == TOKEN
}

/// The index of the first byte at or after `at` that is no white space.
#[inline]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_space(bytes[at]) {
        at += 1;
    }
    at
}

/// The index of the first byte at or after `at` that is not of `class`.
#[inline]
pub(super) fn skip(bytes: &[u8], mut at: usize, class: impl Fn(u8) -> bool) -> usize {
    while at < bytes.len() && class(bytes[at]) {
        at += 1;
    }
    at
}

/// The index of the first `byte`, for bytes that are near: a colon behind a name.
#[inline]
pub(super) fn find_near(byte: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let wanted = ONES * u64::from(byte);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        // Zero where the byte is; the lowest marked zero is a true one.
        let word = u64::from_le_bytes(*chunk) ^ wanted;
        let zeros = word.wrapping_sub(ONES) & !word & HIGH;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let tail = bytes[at..].iter().position(|&found| found == byte)?;
    Some(at + tail)
}

/// Without white space at either end.
#[inline]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    trim_end(bytes)
}

/// Without white space at the end.
#[inline]
pub(super) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The index after the closing quote of the quoted string that opens at `at`; `None` if it never closes.
pub(super) fn quoted_end(bytes: &[u8], at: usize) -> Option<usize> {
    debug_assert_eq!(bytes[at], b'"');
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Equal but for the case of ASCII letters.
pub fn eq_ignore_case(left: &[u8], right: &str) -> bool {
    left.eq_ignore_ascii_case(right.as_bytes())
}

/// Digits only; `None` for anything else and for what does not fit.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The value of Expires, Min-Expires and `expires=`: seconds, at most 2^32 - 1.
///
/// What is larger or no number is malformed: the caller refuses it, it never turns into some default.
//= RFC 3261 20.19
pub fn expires(value: &[u8]) -> Result<u32, Malformed> {
    decimal(trim(value))
        .and_then(|seconds| u32::try_from(seconds).ok())
        .ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_takes_folds_for_white_space() {
        assert_eq!(trim(b" \r\n\t a b \r\n "), b"a b");
        assert_eq!(trim(b" \t"), b"");
    }

    #[test]
    fn a_near_byte_is_found_at_every_place() {
        let mut bytes = [0x80; 40];
        for length in 0..bytes.len() {
            assert_eq!(find_near(b':', &bytes[..length]), None);
            for place in 0..length {
                bytes[place] = b':';
                bytes[length - 1] = b':';
                assert_eq!(find_near(b':', &bytes[..length]), Some(place));
                bytes[place] = b':' + 1;
                bytes[length - 1] = 0x80;
            }
        }
    }

    #[test]
    fn a_quoted_string_ends_at_its_first_unescaped_quote() {
        assert_eq!(quoted_end(br#""a\"b" c"#, 0), Some(6));
        assert_eq!(quoted_end(br#""a\\" c"#, 0), Some(5));
        assert_eq!(quoted_end(br#""a\"#, 0), None);
        assert_eq!(quoted_end(br#""a"#, 0), None);
    }

    //= RFC 3261 20.19 type=test
    #[test]
    fn expires_reaches_to_the_largest_32_bit_number_and_no_further() {
        assert_eq!(expires(b" 4294967295 "), Ok(u32::MAX));
        assert_eq!(expires(b"0"), Ok(0));
        for bad in [
            "4294967296",
            "-1",
            "",
            "1.5",
            "36893488147419103232",
            "0x10",
        ] {
            assert_eq!(expires(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }
}
