//! Following a topic of one partition from a place on, and noting what stands there.

use std::sync::Arc;

use super::{
    backoff::Backoff,
    connection::Trouble,
    fetch::{Source, Stored},
    shared::{Shared, TopicState},
};
use crate::log::Offset;

/// Hands every record of a topic of one partition to a function.
pub struct Follower {
    shared: Arc<Shared>,
    state: fn(&Shared) -> &TopicState,
    apply: fn(&Shared, Stored),
    source: Source,
    next: Offset,
}

impl Follower {
    pub fn new(
        shared: Arc<Shared>,
        state: fn(&Shared) -> &TopicState,
        apply: fn(&Shared, Stored),
        from: Offset,
    ) -> Follower {
        let source = Source::new(&state(&shared).name, 0);
        Follower { shared, state, apply, source, next: from }
    }

    /// Goes as far as the topic is known to reach.
    pub async fn catch_up(&mut self) -> Result<(), Trouble> {
        let end = (self.state)(&self.shared).ends.borrow().first().copied().unwrap_or(0);
        while self.next < end {
            let fetched = self.source.fetch(&self.shared.cluster, self.next).await?;
            if fetched.next == self.next {
                return Ok(());
            }
            fetched.records.into_iter().for_each(|stored| (self.apply)(&self.shared, stored));
            self.next = fetched.next;
        }
        Ok(())
    }

    /// Follows for good.
    pub async fn follow(mut self) {
        let name = (self.state)(&self.shared).name.clone();
        let mut ends = (self.state)(&self.shared).ends.subscribe();
        let mut backoff = Backoff::new(format!("following `{name}`"));
        loop {
            ends.borrow_and_update();
            if let Err(trouble) = self.catch_up().await {
                backoff.pause(&trouble).await;
                continue;
            }
            backoff.reset();
            if ends.changed().await.is_err() {
                return;
            }
        }
    }
}
