//! The memory budget: when the events held exceed it, those that the checkpoint has are dropped from memory, of
//! the entities whose rows were written longest ago first, and read from disk when a window's edge needs them.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use features::{
    Row,
    chunks::{ChunkSource, Held, OnDisk},
};

/// See the module.
#[derive(Debug)]
pub struct Spiller {
    budget: usize,
    held: Arc<Held>,
    source: Arc<dyn ChunkSource>,
    /// The longest saved first. A row that was replaced since shares its chunks with its successor, which stands
    /// further behind.
    saved: VecDeque<Weak<Row>>,
    /// Length of the queue after the replaced were last taken out.
    alive: usize,
}

impl Spiller {
    /// For at most `budget` bytes of events in memory.
    pub fn new(budget: usize, held: Arc<Held>, source: Arc<dyn ChunkSource>) -> Self {
        Spiller { budget, held, source, saved: VecDeque::new(), alive: 0 }
    }

    /// Takes note of a row that the checkpoint has.
    pub fn note(&mut self, row: &Arc<Row>) {
        self.saved.push_back(Arc::downgrade(row));
    }

    /// Drops events from memory until the budget is kept, or nothing more may be dropped.
    pub fn keep_budget(&mut self) {
        if self.saved.len() > 2 * self.alive + 4096 {
            self.saved.retain(|row| row.strong_count() > 0);
            self.alive = self.saved.len();
        }
        while self.held.memory() > self.budget
            && let Some(oldest) = self.saved.pop_front()
        {
            if let Some(row) = oldest.upgrade() {
                row.events.spill(&Arc::new(OnDisk {
                    source: self.source.clone(),
                    version: row.header.version,
                    entity: row.entity.clone(),
                }));
            }
        }
    }
}
