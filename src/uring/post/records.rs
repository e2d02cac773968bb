//! The store's end of the post: records of all shards on their way to the one thread that writes them.

use core::time::Duration;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use crossbeam::queue::ArrayQueue;

use super::Office;
use crate::config::limits;
use crate::shard::effects::ShardId;
use crate::shard::mail::Mail;
use crate::store::records::Records;

/// A block that grew beyond this is not kept to be filled again.
const KEPT_BYTES: usize = 1 << 18;
/// So many are kept by shard: more are on their way only while the disk stands still, and what that took is not to stay.
const KEPT_BLOCKS: usize = 8;

/// What shards leave for the store.
pub(super) struct Shelf {
    /// By shard.
    blocks: Box<[ArrayQueue<Records>]>,
    /// Blocks that have been written, on their way back.
    empty_blocks: Box<[ArrayQueue<Records>]>,
    writer: OnceLock<Thread>,
    asleep: AtomicBool,
    overrun: AtomicBool,
}

impl Shelf {
    pub fn new(shards: u16) -> Shelf {
        let queues = |blocks| (0..shards).map(|_| ArrayQueue::new(blocks)).collect();
        Shelf {
            blocks: queues(limits::RECORD_BLOCKS_QUEUED),
            empty_blocks: queues(KEPT_BLOCKS),
            writer: OnceLock::new(),
            asleep: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
        }
    }

    /// Leaves a block; false: there is no room, and it stays where it is.
    pub fn leave(&self, shard: ShardId, block: &mut Records) -> bool {
        let place = usize::from(shard.0);
        if self.blocks[place].is_full() {
            if block.size() > limits::RECORD_BYTES_WAITING {
                block.clear();
                self.overrun.store(true, Ordering::Release);
            }
            return block.is_empty();
        }
        let empty = self.empty_blocks[place].pop().unwrap_or_default();
        let full = core::mem::replace(block, empty);
        assert!(
            self.blocks[place].push(full).is_ok(),
            "nobody else writes to this queue"
        );
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
        true
    }
}

/// The end of the thread that writes. There is one.
pub struct RecordsEnd {
    office: Arc<Office>,
    next: usize,
}

impl RecordsEnd {
    pub(super) fn new(office: Arc<Office>) -> RecordsEnd {
        RecordsEnd { office, next: 0 }
    }

    /// This thread is woken from now on when records come.
    pub fn claim(&self) {
        let claimed = self.office.shelf.writer.set(thread::current());
        assert!(claimed.is_ok(), "one thread writes");
    }

    /// The next block, from each shard in turn.
    pub fn take(&mut self) -> Option<(ShardId, Records)> {
        let blocks = &self.office.shelf.blocks;
        for _ in 0..blocks.len() {
            let shard = self.next;
            self.next = (shard + 1) % blocks.len();
            if let Some(block) = blocks[shard].pop() {
                return Some((ShardId(shard as u16), block));
            }
        }
        None
    }

    /// Waits until a block comes, but not longer.
    pub fn wait(&self, at_most: Duration) {
        let shelf = &self.office.shelf;
        shelf.asleep.store(true, Ordering::SeqCst);
        // A shard that left a block before it saw the flag wakes nobody.
        if shelf.blocks.iter().all(ArrayQueue::is_empty) {
            thread::park_timeout(at_most);
        }
        shelf.asleep.store(false, Ordering::SeqCst);
    }

    /// Returns a block that has been written, to be filled again.
    pub fn give_back(&self, shard: ShardId, mut block: Records) {
        if block.bytes_held() <= KEPT_BYTES {
            block.clear();
            // Where there is no room for it, its memory is simply freed.
            let _ = self.office.shelf.empty_blocks[usize::from(shard.0)].push(block);
        }
    }

    /// Sends mail to a shard; false: it has no room now. One that has ended needs none.
    pub fn send(&self, shard: ShardId, mail: Mail) -> bool {
        let desk = &self.office.desks[usize::from(shard.0)];
        if desk.closed.load(Ordering::Acquire) {
            return true;
        }
        let sent = desk.requests.push(mail).is_ok();
        if sent {
            desk.signal();
        }
        sent
    }

    /// Whether a shard had to throw records away since this was last asked.
    pub fn has_overrun(&self) -> bool {
        self.office.shelf.overrun.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::super::office;
    use super::*;
    use crate::store::format::Key;

    fn block(serial: u64) -> Records {
        let mut block = Records::default();
        block.remove(&Key::Epoch { source: "pbx" });
        block.serial = serial;
        block
    }

    #[test]
    fn blocks_come_in_order_and_wake_the_one_who_waits() {
        let (_mailboxes, control) = office(2).unwrap();
        let mut end = control.records();
        let office = Arc::clone(&end.office);
        let leaver = thread::spawn(move || {
            for serial in 1..=1_000 {
                let mut block = block(serial);
                while !office.shelf.leave(ShardId(1), &mut block) {
                    thread::yield_now();
                }
            }
        });
        end.claim();
        let mut next = 1;
        while next <= 1_000 {
            let Some((shard, block)) = end.take() else {
                // Nothing but a block ends this.
                end.wait(Duration::from_secs(3600));
                continue;
            };
            assert_eq!((shard, block.serial), (ShardId(1), next));
            next += 1;
            end.give_back(shard, block);
        }
        leaver.join().unwrap();
    }

    #[test]
    fn a_block_stays_with_its_shard_until_there_is_room_and_is_thrown_away_where_it_grows_too_large()
     {
        let (_mailboxes, control) = office(1).unwrap();
        let end = control.records();
        let shelf = &end.office.shelf;
        for serial in 0..limits::RECORD_BLOCKS_QUEUED as u64 {
            assert!(shelf.leave(ShardId(0), &mut block(serial)));
        }
        let mut waiting = block(99);
        assert!(!shelf.leave(ShardId(0), &mut waiting));
        assert!(!waiting.is_empty() && !end.has_overrun());
        waiting.copy(b"", &vec![0; limits::RECORD_BYTES_WAITING]);
        assert!(shelf.leave(ShardId(0), &mut waiting));
        assert!(waiting.is_empty() && end.has_overrun() && !end.has_overrun());
    }

    #[test]
    fn what_was_on_its_way_while_the_disk_stood_still_is_not_kept() {
        let (_mailboxes, control) = office(1).unwrap();
        let mut end = control.records();
        let empty = |end: &RecordsEnd| end.office.shelf.empty_blocks[0].len();
        for serial in 1..=limits::RECORD_BLOCKS_QUEUED as u64 {
            assert!(end.office.shelf.leave(ShardId(0), &mut block(serial)));
        }
        while let Some((shard, block)) = end.take() {
            end.give_back(shard, block);
        }
        assert_eq!(empty(&end), KEPT_BLOCKS);
        // Nor is one that has grown large.
        assert!(end.office.shelf.leave(ShardId(0), &mut block(1)));
        let (shard, mut large) = end.take().expect("it was left");
        while large.bytes_held() <= KEPT_BYTES {
            large.remove(&Key::Epoch { source: "pbx" });
        }
        end.give_back(shard, large);
        assert_eq!(empty(&end), KEPT_BLOCKS - 1);
    }
}
