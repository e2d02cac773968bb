//! Send slots: memory of a stable address for datagrams on their way.
//! A slot lives as long as its transaction, and is released only after the flush of the turn that gave it up.

/// One slot of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub u32);
