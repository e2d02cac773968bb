//! A set of small numbers whose smallest member is found quickly: which chunks of a slab or an arena have room.
//! It holds no memory beyond one bit for each number up to the highest ever inserted.

/// Numbers from 0 up, one bit each.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
    /// No word below this one has a bit set.
    low: usize,
}

impl Bits {
    /// An empty set.
    pub const fn new() -> Self {
        Bits {
            words: Vec::new(),
            low: 0,
        }
    }

    /// Adds `number`; nothing changes if it is in the set.
    #[inline]
    pub fn insert(&mut self, number: usize) {
        let word = number / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
        self.low = self.low.min(word);
    }

    /// Takes `number` out; nothing changes if it is not in the set.
    #[inline]
    pub fn remove(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Whether `number` is in the set.
    #[inline]
    pub fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / 64)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// The smallest member.
    #[inline]
    pub fn first(&mut self) -> Option<usize> {
        while let Some(word) = self.words.get(self.low) {
            if *word != 0 {
                return Some(self.low * 64 + word.trailing_zeros() as usize);
            }
            self.low += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_member_comes_first_whatever_the_order_of_insertion() {
        let mut bits = Bits::new();
        assert_eq!(bits.first(), None);
        for number in [700, 3, 64, 63] {
            bits.insert(number);
        }
        for expected in [3, 63, 64, 700] {
            assert_eq!(bits.first(), Some(expected));
            assert!(bits.contains(expected));
            bits.remove(expected);
            assert!(!bits.contains(expected));
        }
        assert_eq!(bits.first(), None);
        bits.insert(5);
        assert_eq!(bits.first(), Some(5));
    }

    #[test]
    fn removing_what_was_never_there_changes_nothing() {
        let mut bits = Bits::new();
        bits.remove(100_000);
        bits.insert(1);
        bits.remove(2);
        assert_eq!(bits.first(), Some(1));
        assert!(!bits.contains(100_000));
    }
}
