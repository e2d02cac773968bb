//! Nonces that nobody has to remember: time, partition and salt, under a keyed check value.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::hex;
use crate::partition::{Partition, Secrets};

/// What a nonce says about the challenge that it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// When it was made, in seconds since the Unix epoch.
    pub seconds: u32,
    /// Where the phone that was challenged belongs.
    pub partition: Partition,
    /// Tells challenges of one second apart. Two devices of one user, or two keys of one phone, are often challenged
    /// in the same second, and each of them counts its uses from 1.
    pub salt: u32,
}

impl Nonce {
    /// Its length as text: eight, three, eight and sixteen hexadecimal digits.
    pub const LENGTH: usize = 35;

    /// As text.
    pub fn text(&self, key: &[u8; 16]) -> [u8; Nonce::LENGTH] {
        let mut out = [0; Nonce::LENGTH];
        hex::write(u64::from(self.seconds), &mut out[..8]);
        hex::write(u64::from(self.partition.number()), &mut out[8..11]);
        hex::write(u64::from(self.salt), &mut out[11..19]);
        hex::write(self.check(key), &mut out[19..]);
        out
    }

    /// Reads what [`Nonce::text`] wrote under one of the keys; anything else is not ours.
    pub fn read<'k>(text: &[u8], keys: impl Iterator<Item = &'k [u8; 16]>) -> Option<Nonce> {
        if text.len() != Nonce::LENGTH {
            return None;
        }
        let nonce = Nonce {
            seconds: hex::read(&text[..8])? as u32,
            partition: Partition::new(hex::read(&text[8..11])? as u16)?,
            salt: hex::read(&text[11..19])? as u32,
        };
        let check = hex::read(&text[19..])?;
        // Which of the bits differ can't be timed: it is one comparison of two words.
        let mut keys = keys;
        keys.any(|key| nonce.check(key) == check).then_some(nonce)
    }

    fn check(&self, key: &[u8; 16]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write_u32(self.seconds);
        hasher.write_u16(self.partition.number());
        hasher.write_u32(self.salt);
        hasher.finish()
    }
}

/// The key for nonces, derived from the secrets of the process.
pub fn nonce_key(secrets: &Secrets) -> [u8; 16] {
    secrets.derive(b"nonce")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce {
        seconds: 1_790_000_000,
        partition: match Partition::new(4095) {
            Some(partition) => partition,
            None => unreachable!(),
        },
        salt: 7,
    };

    #[test]
    fn a_nonce_reads_back_under_either_of_two_keys_and_under_no_other() {
        let (current, previous, other) = ([1; 16], [2; 16], [3; 16]);
        for key in [&current, &previous] {
            let text = NONCE.text(key);
            assert_eq!(
                Nonce::read(&text, [&current, &previous].into_iter()),
                Some(NONCE)
            );
        }
        let text = NONCE.text(&other);
        assert_eq!(Nonce::read(&text, [&current, &previous].into_iter()), None);
    }

    #[test]
    fn a_nonce_in_which_any_digit_was_changed_is_not_ours() {
        let key = [1; 16];
        let text = NONCE.text(&key);
        for place in 0..text.len() {
            let mut forged = text;
            forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(
                Nonce::read(&forged, [&key].into_iter()),
                None,
                "digit {place}"
            );
        }
        assert_eq!(Nonce::read(&text[1..], [&key].into_iter()), None);
        assert_eq!(Nonce::read(b"", [&key].into_iter()), None);
    }
}
