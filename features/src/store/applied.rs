//! How far the stream job has come.

use ingest::log::Position;
use tokio::sync::watch;

/// How far the stream job has come, for those who wait for it.
#[derive(Debug, Clone)]
pub struct Applied(pub(super) watch::Sender<Position>);

impl Default for Applied {
    fn default() -> Self {
        Applied(watch::Sender::new(Position::default()))
    }
}

impl Applied {
    /// Tells that everything below `position` can be read. Partitions it does not name stay where they are.
    pub fn advance(&self, position: &Position) {
        self.0.send_if_modified(|at| {
            let before = at.clone();
            for (partition, next) in &position.0 {
                let place = at.0.entry(*partition).or_insert(0);
                *place = (*place).max(*next);
            }
            *at != before
        });
    }

    /// How far it has come.
    pub fn position(&self) -> Position {
        self.0.borrow().clone()
    }
}
