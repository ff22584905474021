//! Where the tasks that read ahead leave chunks, and the reader takes them: by waiting with or without a runtime.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::log::{LogRecord, Offset, Partition};

/// Some records of a partition.
pub struct Chunk {
    pub partition: Partition,
    pub records: VecDeque<LogRecord>,
    /// Everything of the partition below is in this chunk or before it.
    pub next: Offset,
    /// Bounds how much is read ahead.
    pub _room: OwnedSemaphorePermit,
}

/// Chunks in the order in which they came.
#[derive(Default)]
pub struct Shelf {
    chunks: Mutex<VecDeque<Chunk>>,
    filled: Condvar,
    notify: Notify,
}

impl Shelf {
    /// Leaves a chunk.
    pub fn put(&self, chunk: Chunk) {
        self.chunks.lock().push_back(chunk);
        self.filled.notify_one();
        self.notify.notify_one();
    }

    /// What is there.
    pub fn take(&self) -> Option<Chunk> {
        self.chunks.lock().pop_front()
    }

    /// Waits for a chunk; blocks the thread.
    pub fn take_within(&self, wait: Duration) -> Option<Chunk> {
        let until = Instant::now() + wait;
        let mut chunks = self.chunks.lock();
        while chunks.is_empty() {
            if self.filled.wait_until(&mut chunks, until).timed_out() {
                break;
            }
        }
        chunks.pop_front()
    }

    /// Waits for a chunk; nothing is lost when it is dropped.
    pub async fn next(&self) -> Chunk {
        loop {
            let filled = self.notify.notified();
            if let Some(chunk) = self.take() {
                return chunk;
            }
            filled.await;
        }
    }
}
