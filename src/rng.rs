//! Random numbers that a peer can't guess: SipHash-2-4 of a counter under a 128-bit key.
//! The key is given: from the kernel in a server, from the seed in a simulation. Nothing here asks for entropy.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;

/// A stream of random numbers; the same seed gives the same stream. It can't be cloned: no number comes twice.
pub struct Rng {
    key: SipHasher24,
    counter: u64,
}

impl Rng {
    /// From a key that nobody else knows.
    pub fn new(seed: [u8; 16]) -> Self {
        Rng {
            key: SipHasher24::new_with_key(&seed),
            counter: 0,
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut hasher = self.key;
        hasher.write_u64(self.counter);
        self.counter += 1;
        hasher.finish()
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number from 0 to `bound` - 1. `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        // The high half of the product is as even as the range allows: off by at most bound / 2^64.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

impl core::fmt::Debug for Rng {
    /// Never shows the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Rng(number {})", self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let take = |seed| {
            let mut rng = Rng::new([seed; 16]);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }

    #[test]
    fn numbers_below_a_bound_are_spread_evenly() {
        let mut rng = Rng::new([5; 16]);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[rng.below(10) as usize] += 1;
        }
        for count in seen {
            assert!((9_500..10_500).contains(&count), "{seen:?}");
        }
    }

    #[test]
    fn every_byte_is_filled_whatever_the_length() {
        for length in 0..20 {
            let mut rng = Rng::new([6; 16]);
            let mut touched = vec![false; length];
            for _ in 0..64 {
                let mut bytes = vec![0; length];
                rng.fill(&mut bytes);
                for (touched, byte) in touched.iter_mut().zip(bytes) {
                    *touched |= byte != 0;
                }
            }
            assert!(touched.into_iter().all(|touched| touched));
        }
    }
}
