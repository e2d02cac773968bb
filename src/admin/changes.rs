//! Readers of the event stream. Each has a queue of its own with a limit: whoever reads too slowly is let go,
//! and nobody else waits for it.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;

use crate::config::limits;
use crate::hint::ResourceKey;
use crate::shard::control::Changed;

/// Who listens.
pub struct Changes {
    readers: Mutex<Readers>,
    /// Whether anybody listens: the shards report changes only then.
    wanted: watch::Sender<bool>,
}

#[derive(Default)]
struct Readers {
    last: u64,
    closed: bool,
    list: Vec<Reader>,
}

struct Reader {
    id: u64,
    /// Only this one; none: all.
    resource: Option<ResourceKey>,
    queue: mpsc::Sender<Changed>,
}

/// One reader's end. Dropping it ends the reading.
pub struct Reading {
    changes: Arc<Changes>,
    id: u64,
    queue: mpsc::Receiver<Changed>,
}

impl Default for Changes {
    fn default() -> Self {
        Changes {
            readers: Mutex::default(),
            wanted: watch::Sender::new(false),
        }
    }
}

impl Changes {
    /// A new reader; none where there are too many, or the server is about to stop.
    pub fn read(self: &Arc<Self>, resource: Option<ResourceKey>) -> Option<Reading> {
        let (sender, queue) = mpsc::channel(limits::EVENT_STREAM_QUEUE);
        let mut readers = self.readers();
        if readers.closed || readers.list.len() >= limits::EVENT_STREAM_READERS {
            return None;
        }
        readers.last += 1;
        let id = readers.last;
        readers.list.push(Reader {
            id,
            resource,
            queue: sender,
        });
        drop(readers);
        self.wanted.send_replace(true);
        Some(Reading {
            changes: Arc::clone(self),
            id,
            queue,
        })
    }

    /// Passes a change on to those who want it; a reader whose queue is full has read too slowly.
    pub fn tell(&self, changed: &Changed) {
        let mut readers = self.readers();
        readers.list.retain(|reader| {
            let concerned = reader
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == changed.resource);
            !concerned || reader.queue.try_send(changed.clone()).is_ok()
        });
        let wanted = !readers.list.is_empty();
        drop(readers);
        self.want(wanted);
    }

    /// Ends every reading, and lets nobody start one.
    pub fn close(&self) {
        let mut readers = self.readers();
        readers.closed = true;
        readers.list.clear();
    }

    /// Whether anybody listens, and every later change of that.
    pub fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    fn want(&self, wanted: bool) {
        self.wanted
            .send_if_modified(|now| core::mem::replace(now, wanted) != wanted);
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().expect("nobody panics while holding it")
    }
}

/// The changes, until this reader was too slow or the server stops.
impl Stream for Reading {
    type Item = Changed;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Changed>> {
        self.queue.poll_recv(context)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut readers = self.changes.readers();
        readers.list.retain(|reader| reader.id != self.id);
        let wanted = !readers.list.is_empty();
        drop(readers);
        self.changes.want(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Snapshot;

    fn changed(resource: &str) -> Changed {
        Changed {
            resource: resource.into(),
            snapshot: Snapshot::empty(),
        }
    }

    #[test]
    fn a_reader_hears_of_its_resource_only() {
        let changes = Arc::new(Changes::default());
        let mut one = changes.read(Some("1@d".into())).expect("there is room");
        let mut all = changes.read(None).expect("there is room");
        changes.tell(&changed("2@d"));
        changes.tell(&changed("1@d"));
        assert_eq!(&*one.queue.try_recv().expect("a change").resource, "1@d");
        assert!(one.queue.try_recv().is_err());
        assert_eq!(&*all.queue.try_recv().expect("a change").resource, "2@d");
    }

    #[test]
    fn a_slow_reader_is_let_go_and_the_others_are_not() {
        let changes = Arc::new(Changes::default());
        let mut slow = changes.read(Some("1@d".into())).expect("there is room");
        let _other = changes.read(Some("2@d".into())).expect("there is room");
        for _ in 0..=limits::EVENT_STREAM_QUEUE {
            changes.tell(&changed("1@d"));
        }
        let mut heard = 0;
        while slow.queue.try_recv().is_ok() {
            heard += 1;
        }
        assert_eq!(heard, limits::EVENT_STREAM_QUEUE);
        assert_eq!(
            slow.queue.try_recv().expect_err("nothing is left"),
            mpsc::error::TryRecvError::Disconnected
        );
        assert_eq!(changes.readers().list.len(), 1);
    }

    #[test]
    fn shards_report_only_while_somebody_listens() {
        let changes = Arc::new(Changes::default());
        let wanted = changes.wanted();
        assert!(!*wanted.borrow());
        let first = changes.read(None).expect("there is room");
        let second = changes.read(None).expect("there is room");
        assert!(*wanted.borrow());
        drop(first);
        assert!(*wanted.borrow());
        drop(second);
        assert!(!*wanted.borrow());
    }

    #[test]
    fn there_are_only_so_many_readers_and_none_after_the_end() {
        let changes = Arc::new(Changes::default());
        let mut all: Vec<_> = (0..limits::EVENT_STREAM_READERS)
            .map(|_| changes.read(None).expect("there is room"))
            .collect();
        assert!(changes.read(None).is_none());
        all.pop();
        assert!(changes.read(None).is_some());
        changes.close();
        assert!(changes.read(None).is_none());
    }
}
