//! Send slots: memory of a stable address for datagrams on their way.
//! A slot lives as long as its transaction, and is released only after the flush of the turn that gave it up.
//!
//! Slots come in two sizes, out of chunks that are allocated when they are needed and given back when a few more of
//! them run empty than are worth keeping. The arena neither sends nor knows what the bytes mean.

use crate::bits::Bits;

/// One slot of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub u32);

/// The sizes in which slots come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotSize {
    /// 2,048 bytes: nearly every NOTIFY and every answer.
    Small,
    /// 8,192 bytes: documents of resources with many calls.
    Large,
}

impl SlotSize {
    /// The size in which `length` bytes fit, if there is one.
    pub fn fitting(length: usize) -> Option<SlotSize> {
        [SlotSize::Small, SlotSize::Large]
            .into_iter()
            .find(|size| length <= size.bytes())
    }

    /// How many bytes a slot of this size holds.
    pub const fn bytes(self) -> usize {
        match self {
            SlotSize::Small => 2048,
            SlotSize::Large => 8192,
        }
    }
}

/// Bytes of one chunk: 64 small slots or 16 large ones.
const CHUNK: usize = 128 * 1024;

/// Empty chunks of a size whose memory is kept for the next burst.
const SPARES_MAX: usize = 8;

/// Marks the number of a large slot.
const LARGE: u32 = 1 << 31;

/// The send slots of one shard.
pub struct Arena {
    small: Pool,
    large: Pool,
}

struct Pool {
    slot_bytes: usize,
    chunks: Vec<Chunk>,
    /// Chunks with a free slot.
    open: Bits,
    /// How many chunks hold memory and no leased slot.
    spares: usize,
    leased: usize,
    limit: usize,
}

struct Chunk {
    /// Empty, or `CHUNK` long: never moved or resized while a slot is leased.
    memory: Box<[u8]>,
    /// One bit for each free slot.
    free: u64,
    lengths: [u16; 64],
}

impl Arena {
    /// With at most so many slots of each size; it holds no memory yet.
    pub fn new(small_max: usize, large_max: usize) -> Self {
        Arena {
            small: Pool::new(SlotSize::Small, small_max),
            large: Pool::new(SlotSize::Large, large_max),
        }
    }

    /// Leases a slot of length 0. None: the limit of this size is reached.
    pub fn take(&mut self, size: SlotSize) -> Option<SlotId> {
        let number = self.pool_mut(size).take()?;
        Some(match size {
            SlotSize::Small => SlotId(number),
            SlotSize::Large => SlotId(number | LARGE),
        })
    }

    /// The whole memory of a slot, to write into; what an earlier lease left there may still be seen.
    pub fn buffer(&mut self, slot: SlotId) -> &mut [u8] {
        let (size, number) = split(slot);
        self.pool_mut(size).buffer(number)
    }

    /// Says how many bytes of the slot are the datagram.
    pub fn set_len(&mut self, slot: SlotId, length: usize) {
        assert!(length <= split(slot).0.bytes(), "longer than the slot");
        let (size, number) = split(slot);
        let (chunk, position) = self.pool_mut(size).chunk_mut(number);
        chunk.lengths[position] = length as u16;
    }

    /// The datagram in a slot.
    pub fn bytes(&self, slot: SlotId) -> &[u8] {
        let (size, number) = split(slot);
        self.pool(size).bytes(number)
    }

    /// Where the datagram lies: valid, for the length of `bytes`, until the slot is released.
    pub fn pointer(&self, slot: SlotId) -> *const u8 {
        self.bytes(slot).as_ptr()
    }

    /// Gives a slot back. Giving it back twice is a bug, and panics.
    pub fn release(&mut self, slot: SlotId) {
        let (size, number) = split(slot);
        self.pool_mut(size).release(number);
    }

    /// How many slots are leased.
    pub fn leased(&self) -> usize {
        self.small.leased + self.large.leased
    }

    /// How many slots of this size can still be leased.
    pub fn available(&self, size: SlotSize) -> usize {
        let pool = self.pool(size);
        pool.limit - pool.leased
    }

    /// Bytes of memory held, leased or not.
    pub fn bytes_held(&self) -> usize {
        [&self.small, &self.large]
            .into_iter()
            .flat_map(|pool| &pool.chunks)
            .map(|chunk| chunk.memory.len())
            .sum()
    }

    fn pool(&self, size: SlotSize) -> &Pool {
        match size {
            SlotSize::Small => &self.small,
            SlotSize::Large => &self.large,
        }
    }

    fn pool_mut(&mut self, size: SlotSize) -> &mut Pool {
        match size {
            SlotSize::Small => &mut self.small,
            SlotSize::Large => &mut self.large,
        }
    }
}

impl core::fmt::Debug for Arena {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Arena({} leased)", self.leased())
    }
}

impl Pool {
    fn new(size: SlotSize, limit: usize) -> Self {
        assert!(limit < LARGE as usize, "slot numbers have 31 bits");
        Pool {
            slot_bytes: size.bytes(),
            chunks: Vec::new(),
            open: Bits::new(),
            spares: 0,
            leased: 0,
            limit,
        }
    }

    fn slots_per_chunk(&self) -> usize {
        CHUNK / self.slot_bytes
    }

    fn all_free(&self) -> u64 {
        u64::MAX >> (64 - self.slots_per_chunk())
    }

    fn take(&mut self) -> Option<u32> {
        if self.leased == self.limit {
            return None;
        }
        let all_free = self.all_free();
        let per_chunk = self.slots_per_chunk();
        let number = self.open.first().unwrap_or_else(|| self.add_chunk());
        let chunk = &mut self.chunks[number];
        if chunk.memory.is_empty() {
            chunk.memory = vec![0; CHUNK].into_boxed_slice();
        } else if chunk.free == all_free {
            self.spares -= 1;
        }
        let position = chunk.free.trailing_zeros() as usize;
        chunk.free &= chunk.free - 1;
        chunk.lengths[position] = 0;
        if chunk.free == 0 {
            self.open.remove(number);
        }
        self.leased += 1;
        Some((number * per_chunk + position) as u32)
    }

    fn add_chunk(&mut self) -> usize {
        let number = self.chunks.len();
        self.chunks.push(Chunk {
            memory: Box::default(),
            free: self.all_free(),
            lengths: [0; 64],
        });
        self.open.insert(number);
        number
    }

    fn release(&mut self, slot: u32) {
        let all_free = self.all_free();
        let number = slot as usize / self.slots_per_chunk();
        let (chunk, position) = self.chunk_mut(slot);
        chunk.free |= 1 << position;
        let empty = chunk.free == all_free;
        self.open.insert(number);
        self.leased -= 1;
        if empty && self.spares == SPARES_MAX {
            self.chunks[number].memory = Box::default();
        } else if empty {
            self.spares += 1;
        }
    }

    fn buffer(&mut self, slot: u32) -> &mut [u8] {
        let slot_bytes = self.slot_bytes;
        let (chunk, position) = self.chunk_mut(slot);
        &mut chunk.memory[position * slot_bytes..][..slot_bytes]
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        let number = slot as usize / self.slots_per_chunk();
        let position = slot as usize % self.slots_per_chunk();
        let chunk = &self.chunks[number];
        assert!(chunk.free & 1 << position == 0, "this slot is not leased");
        &chunk.memory[position * self.slot_bytes..][..usize::from(chunk.lengths[position])]
    }

    /// The chunk of a leased slot, and the slot's position in it.
    fn chunk_mut(&mut self, slot: u32) -> (&mut Chunk, usize) {
        let number = slot as usize / self.slots_per_chunk();
        let position = slot as usize % self.slots_per_chunk();
        let chunk = &mut self.chunks[number];
        assert!(chunk.free & 1 << position == 0, "this slot is not leased");
        (chunk, position)
    }
}

fn split(slot: SlotId) -> (SlotSize, u32) {
    if slot.0 & LARGE == 0 {
        (SlotSize::Small, slot.0)
    } else {
        (SlotSize::Large, slot.0 & !LARGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_slot_gives_back_what_was_written_into_it() {
        let mut arena = Arena::new(10, 10);
        let small = arena.take(SlotSize::Small).unwrap();
        let large = arena.take(SlotSize::Large).unwrap();
        assert_eq!(arena.buffer(small).len(), 2048);
        assert_eq!(arena.buffer(large).len(), 8192);
        arena.buffer(small)[..5].copy_from_slice(b"small");
        arena.set_len(small, 5);
        arena.buffer(large)[..5].copy_from_slice(b"large");
        arena.set_len(large, 5);
        assert_eq!(arena.bytes(small), b"small");
        assert_eq!(arena.bytes(large), b"large");
        assert_eq!(arena.leased(), 2);
        arena.release(small);
        arena.release(large);
        assert_eq!(arena.leased(), 0);
    }

    #[test]
    fn the_smallest_fitting_size_is_chosen() {
        assert_eq!(SlotSize::fitting(2048), Some(SlotSize::Small));
        assert_eq!(SlotSize::fitting(2049), Some(SlotSize::Large));
        assert_eq!(SlotSize::fitting(8193), None);
    }

    #[test]
    fn at_the_limit_no_slot_is_given() {
        let mut arena = Arena::new(2, 0);
        let first = arena.take(SlotSize::Small).unwrap();
        arena.take(SlotSize::Small).unwrap();
        assert_eq!(arena.available(SlotSize::Small), 0);
        assert_eq!(arena.take(SlotSize::Small), None);
        assert_eq!(arena.take(SlotSize::Large), None);
        arena.release(first);
        assert!(arena.take(SlotSize::Small).is_some());
    }

    #[test]
    #[should_panic(expected = "this slot is not leased")]
    fn giving_a_slot_back_twice_panics() {
        let mut arena = Arena::new(2, 2);
        let slot = arena.take(SlotSize::Large).unwrap();
        arena.release(slot);
        arena.release(slot);
    }

    #[test]
    #[should_panic(expected = "this slot is not leased")]
    fn reading_a_released_slot_panics() {
        let mut arena = Arena::new(2, 2);
        let slot = arena.take(SlotSize::Small).unwrap();
        arena.release(slot);
        arena.bytes(slot);
    }

    #[test]
    fn the_address_of_a_slot_stays_while_the_arena_grows_and_shrinks() {
        let mut arena = Arena::new(100_000, 0);
        let kept = arena.take(SlotSize::Small).unwrap();
        let address = arena.pointer(kept);
        let others: Vec<SlotId> = (0..5000)
            .map(|_| arena.take(SlotSize::Small).unwrap())
            .collect();
        assert_eq!(arena.pointer(kept), address);
        for slot in others {
            arena.release(slot);
        }
        assert_eq!(arena.pointer(kept), address);
        assert!(arena.bytes_held() <= (SPARES_MAX + 1) * CHUNK);
    }

    #[test]
    fn no_slot_ever_shows_the_bytes_of_another_lease() {
        let mut rng = Rng::new([2; 16]);
        let mut arena = Arena::new(3000, 300);
        let mut leased: Vec<(SlotId, u64)> = Vec::new();
        for step in 0..100_000_u64 {
            if rng.below(100) < if step % 20_000 < 10_000 { 60 } else { 40 } {
                let size = if rng.below(8) == 0 {
                    SlotSize::Large
                } else {
                    SlotSize::Small
                };
                if let Some(slot) = arena.take(size) {
                    assert!(arena.bytes(slot).is_empty());
                    arena.buffer(slot)[..8].copy_from_slice(&step.to_le_bytes());
                    arena.set_len(slot, 8);
                    leased.push((slot, step));
                }
            } else if !leased.is_empty() {
                let chosen = rng.below(leased.len() as u64) as usize;
                let (slot, written) = leased.swap_remove(chosen);
                assert_eq!(arena.bytes(slot), written.to_le_bytes());
                arena.release(slot);
            }
            assert_eq!(arena.leased(), leased.len());
        }
        for (slot, written) in leased {
            assert_eq!(arena.bytes(slot), written.to_le_bytes());
        }
    }
}
