//! Rendered tails: what all watchers of one state share is formatted once. A small cache, looked up
//! by position and overwritten on collision: a miss costs one rendering.

/// What a tail is the tail of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailKey {
    /// Of the copy of the hint.
    pub identity: u64,
    /// Of the aspect that the package shows.
    pub version: u64,
    pub package: u8,
    pub content_type: u8,
    /// Of the options that it was rendered with.
    pub profile: u8,
}

/// The tails that were rendered lately.
pub struct Tails<T> {
    entries: Vec<Option<(TailKey, T)>>,
}

impl<T: Clone> Tails<T> {
    /// Room for `size` tails, a power of two.
    pub fn new(size: usize) -> Self {
        assert!(size.is_power_of_two());
        Tails {
            entries: vec![None; size],
        }
    }

    /// Forgets all of them: they would be rendered in another way now.
    pub fn forget(&mut self) {
        self.entries.fill(None);
    }

    /// The tail of `key`, rendered if it is not there.
    pub fn tail(&mut self, key: TailKey, render: impl FnOnce() -> T) -> &T {
        let spread = key.identity.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let kind =
            u64::from(key.package) * 7 + u64::from(key.content_type) * 3 + u64::from(key.profile);
        let position = (spread ^ kind) as usize & (self.entries.len() - 1);
        let entry = &mut self.entries[position];
        if entry.as_ref().is_none_or(|(known, _)| *known != key) {
            *entry = Some((key, render()));
        }
        &entry.as_ref().expect("just filled").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const KEY: TailKey = TailKey {
        identity: 1,
        version: 1,
        package: 0,
        content_type: 0,
        profile: 0,
    };

    #[test]
    fn a_tail_is_rendered_once_per_version() {
        let mut tails = Tails::new(8);
        let mut renderings = 0;
        for version in [1, 1, 1, 2, 2] {
            tails.tail(TailKey { version, ..KEY }, || {
                renderings += 1;
                Bytes::from_static(b"x")
            });
        }
        assert_eq!(renderings, 2);
    }

    #[test]
    fn what_was_forgotten_is_rendered_again() {
        let mut tails = Tails::new(8);
        assert_eq!(tails.tail(KEY, || Bytes::from_static(b"old")), "old");
        tails.forget();
        assert_eq!(tails.tail(KEY, || Bytes::from_static(b"new")), "new");
    }

    #[test]
    fn tails_that_collide_are_rendered_again_and_never_mixed_up() {
        let mut tails = Tails::new(1);
        let first = KEY;
        let second = TailKey {
            identity: 2,
            ..first
        };
        assert_eq!(tails.tail(first, || Bytes::from_static(b"first")), "first");
        assert_eq!(
            tails.tail(second, || Bytes::from_static(b"second")),
            "second"
        );
        assert_eq!(tails.tail(first, || Bytes::from_static(b"first")), "first");
    }
}
