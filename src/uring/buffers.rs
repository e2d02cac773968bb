//! The buffers that datagrams land in, and the ring through which the kernel is given them.
//! It owns memory and hands out slices; it neither submits nor reaps.

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU16, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The kernel wants the ring of entries to start on a page.
const PAGE: usize = 4096;

/// Receive buffers, all of one size. While registered, the kernel may write to each that it was given.
pub struct Buffers {
    group: u16,
    count: u16,
    size: usize,
    entries: Memory,
    bytes: Memory,
    /// What the kernel sees at the next `publish`.
    tail: u16,
}

impl Buffers {
    /// `count` buffers (a power of two, at most 32,768) of `size` bytes each, all given to the kernel.
    ///
    /// # Safety
    /// The ring behind `submitter` must be closed, or hold no receive, before the result is dropped.
    pub unsafe fn register(
        submitter: &Submitter<'_>,
        group: u16,
        count: u16,
        size: usize,
    ) -> io::Result<Buffers> {
        assert!(count.is_power_of_two(), "{count} buffers in a ring");
        let mut buffers = Buffers {
            group,
            count,
            size,
            entries: Memory::zeroed(usize::from(count) * size_of::<BufRingEntry>()),
            bytes: Memory::zeroed(usize::from(count) * size),
            tail: 0,
        };
        let address = buffers.entries.start.as_ptr() as u64;
        // SAFETY: the entries are page-aligned, of the size that `count` demands, and live as long as
        // this does, which the caller promises to be longer than the ring.
        unsafe { submitter.register_buf_ring_with_flags(address, count, group, 0)? };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The number that a receive names these buffers by.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// The first `length` bytes of a buffer that a completion has named, until it is given back.
    pub fn bytes(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < self.count && length <= self.size);
        // SAFETY: within our memory, initialised (zeroed at first), and the kernel writes only to
        // buffers that it holds; this one came back with a completion.
        unsafe { slice::from_raw_parts(self.start(buffer), length) }
    }

    /// Gives a buffer back; the kernel sees it at the next `publish`.
    pub fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.start(buffer) as u64;
        // SAFETY: the index is within the ring; the kernel reads entries only before the published
        // tail, and this one lies behind it. The tail field lies in the reserved part of entry 0,
        // which these three setters leave alone.
        unsafe {
            let entry = &mut *self
                .entries
                .start
                .cast::<BufRingEntry>()
                .as_ptr()
                .add(index);
            entry.set_addr(address);
            entry.set_len(self.size as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given back.
    pub fn publish(&mut self) {
        // SAFETY: the tail lies in entry 0 of our page-aligned ring, is aligned for u16, and is only
        // ever written here; the kernel reads it with acquire.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.start.cast().as_ptr());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    fn start(&self, buffer: u16) -> *const u8 {
        // SAFETY: `buffer < count`, so the result is within the allocation.
        unsafe {
            self.bytes
                .start
                .as_ptr()
                .add(usize::from(buffer) * self.size)
        }
    }
}

/// Zeroed pages that never move.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn zeroed(size: usize) -> Memory {
        let layout =
            Layout::from_size_align(size, PAGE).expect("a size that fits the address space");
        assert!(size > 0);
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory { start, layout },
            None => handle_alloc_error(layout),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
