//! Numbers as lower-case hexadecimal digits: marks, tags and nonces are read and written with every message.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Each byte as two digits.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Each digit's value; `NO_DIGIT` for every other byte.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

const NO_DIGIT: u8 = 0x80;

/// Writes `value` as `out.len()` lower-case hexadecimal digits.
pub fn write(value: u64, out: &mut [u8]) {
    let mut rest = value;
    let mut pairs = out.rchunks_exact_mut(2);
    for pair in &mut pairs {
        pair.copy_from_slice(&PAIRS[(rest & 0xff) as usize]);
        rest >>= 8;
    }
    if let [digit] = pairs.into_remainder() {
        *digit = DIGITS[(rest & 15) as usize];
    }
}

/// All 16 digits of a number.
pub fn text(value: u64) -> [u8; 16] {
    let mut out = [0; 16];
    write(value, &mut out);
    out
}

/// Reads lower-case hexadecimal digits, as [`write()`] writes them; at most 16.
pub fn read(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    let mut value = 0;
    let mut seen = 0;
    for &byte in text {
        let digit = VALUES[usize::from(byte)];
        seen |= digit;
        value = value << 4 | u64::from(digit & 15);
    }
    (seen & NO_DIGIT == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_the_library_writes_and_reads_back(value: u64, digits in 1..=16_usize) {
            let value = value >> (64 - 4 * digits);
            let mut out = vec![0; digits];
            write(value, &mut out);
            let expected = format!("{value:0digits$x}");
            prop_assert_eq!(&out, expected.as_bytes());
            prop_assert_eq!(read(&out), Some(value));
        }
    }

    #[test]
    fn every_other_byte_in_every_place_is_refused() {
        for digits in 1..=16 {
            for place in 0..digits {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'7'; digits];
                    text[place] = byte;
                    let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                    assert_eq!(read(&text).is_some(), is_digit, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn too_few_and_too_many_digits_are_refused_and_the_highest_bits_are_left_out() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"00000000000000001"), None);
        let mut out = [0; 3];
        write(0xabc_def, &mut out);
        assert_eq!(&out, b"def");
        assert_eq!(&text(0xabc), b"0000000000000abc");
    }
}
