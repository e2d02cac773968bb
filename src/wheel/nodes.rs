//! The nodes of the wheel's lists, in chunks that never move. The one that was given back last is given out first,
//! as it is still in the cache; memory is given back when the last timer goes.

use core::ops::{Index, IndexMut};

use super::Owner;

const CHUNK: usize = 1024;

/// No vacant node is linked.
const NONE: u32 = u32::MAX;

/// One timer in its list; a vacant one is linked by `next`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub previous: u32,
    pub next: u32,
    pub tick: u64,
    pub index: u32,
    pub owner: Owner,
    /// From 1 to 255, and 0 while vacant: recognises a stale name.
    pub check: u8,
}

const _: () = assert!(size_of::<Node>() == 24);

const VACANT: Node = Node {
    previous: NONE,
    next: NONE,
    tick: 0,
    index: 0,
    owner: Owner::Shard,
    check: 0,
};

#[derive(Debug)]
pub(super) struct Nodes {
    chunks: Vec<Box<[Node; CHUNK]>>,
    /// The node that was given back last.
    vacant: u32,
    /// Nodes below this number have been given out before.
    touched: u32,
    len: usize,
}

impl Nodes {
    pub fn new() -> Self {
        Nodes {
            chunks: Vec::new(),
            vacant: NONE,
            touched: 0,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The node of a timer that is set, or a vacant one; None if the key was never given out.
    pub fn get(&self, key: u32) -> Option<&Node> {
        let chunk = self.chunks.get(key as usize / CHUNK)?;
        Some(&chunk[key as usize % CHUNK])
    }

    pub fn insert(&mut self, node: Node) -> u32 {
        self.len += 1;
        let key = self.vacant;
        if key == NONE {
            return self.insert_fresh(node);
        }
        let place = &mut self[key];
        let next = place.next;
        *place = node;
        self.vacant = next;
        key
    }

    pub fn remove(&mut self, key: u32) {
        let vacant = self.vacant;
        let node = &mut self[key];
        node.check = 0;
        node.next = vacant;
        self.vacant = key;
        self.len -= 1;
        // A shard that has only ever needed one chunk keeps it.
        if self.len == 0 && self.chunks.len() > 1 {
            *self = Nodes::new();
        }
    }

    #[cold]
    fn insert_fresh(&mut self, node: Node) -> u32 {
        let key = self.touched;
        if key as usize == self.chunks.len() * CHUNK {
            let chunk = vec![VACANT; CHUNK].into_boxed_slice();
            self.chunks
                .push(chunk.try_into().expect("a chunk's length"));
        }
        self.touched += 1;
        self[key] = node;
        key
    }
}

impl Index<u32> for Nodes {
    type Output = Node;
    fn index(&self, key: u32) -> &Node {
        &self.chunks[key as usize / CHUNK][key as usize % CHUNK]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, key: u32) -> &mut Node {
        &mut self.chunks[key as usize / CHUNK][key as usize % CHUNK]
    }
}
