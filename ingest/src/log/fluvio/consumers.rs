//! Committed positions, in a topic of their own that each open log follows.
//!
//! Fluvio's own consumer offsets can be set only within a fetch that has begun, which an empty partition never
//! lets happen, and are dropped after seven days.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{fetch::Stored, shared::Shared};
use crate::{
    event,
    log::{Offset, Position, Topic},
};

/// A position older than so many commits is committed again, before retention or a short look back lose it.
const REFRESH: Offset = 4_096;
/// How far a log that opens looks back.
pub const LOOK_BACK: Offset = 2 * REFRESH;

/// What was committed, and where that stands.
#[derive(Default)]
pub struct Commits {
    positions: HashMap<(String, String), (Position, Offset)>,
    /// Past the last commit seen.
    end: Offset,
}

/// The payload of one commit.
#[derive(Serialize, Deserialize)]
pub struct Commit {
    consumer: String,
    topic: String,
    position: String,
}

impl Commit {
    pub fn new(consumer: &str, topic: Topic, position: &Position) -> Commit {
        Commit {
            consumer: consumer.to_owned(),
            topic: topic.name().to_owned(),
            position: position.to_string(),
        }
    }

    /// Whose it is, as the key on the log.
    pub fn key(&self) -> String {
        format!("{}/{}", self.consumer, self.topic)
    }

    /// As it stands on the log.
    pub fn payload(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Commits {
    /// The last position of a consumer.
    pub fn position(&self, consumer: &str, topic: Topic) -> Position {
        let key = (consumer.to_owned(), topic.name().to_owned());
        self.positions.get(&key).map(|(position, _)| position.clone()).unwrap_or_default()
    }

    /// Notes a commit; of two the one that stands later on the log holds.
    pub fn note(&mut self, commit: &Commit, offset: Offset) -> Result<(), String> {
        let position: Position = commit.position.parse()?;
        self.end = self.end.max(offset + 1);
        let key = (commit.consumer.clone(), commit.topic.clone());
        let known = self.positions.entry(key).or_default();
        if known.1 <= offset {
            *known = (position, offset);
        }
        Ok(())
    }

    /// Commits that stand too far back.
    pub fn old(&self) -> Vec<Commit> {
        let old = self.positions.iter().filter(|(_, (_, offset))| offset + REFRESH < self.end);
        old.map(|((consumer, topic), (position, _))| Commit {
            consumer: consumer.clone(),
            topic: topic.clone(),
            position: position.to_string(),
        })
        .collect()
    }
}

/// Takes a record of the topic of commits.
pub fn take(shared: &Shared, stored: Stored) {
    let offset = stored.offset;
    let noted = event::decode(&shared.catalogue, stored.record.value().as_ref(), stored.stamped)
        .map_err(|e| e.to_string())
        .and_then(|event| serde_json::from_slice::<Commit>(&event.payload).map_err(|e| e.to_string()))
        .and_then(|commit| shared.commits.lock().note(&commit, offset));
    if let Err(error) = noted {
        tracing::warn!(offset, error, "a committed position cannot be read and is left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_commit_holds_and_old_ones_are_named() {
        let mut commits = Commits::default();
        let at = |position: &str| Commit::new("a", Topic::Signals, &position.parse().unwrap());
        commits.note(&at("0:7"), 5).unwrap();
        commits.note(&at("0:3"), 4).unwrap();
        assert_eq!(commits.position("a", Topic::Signals).to_string(), "0:7");
        assert_eq!(commits.position("a", Topic::Rewards), Position::default());
        assert!(commits.old().is_empty());
        commits.note(&Commit::new("b", Topic::Rewards, &Position::default()), 6 + REFRESH).unwrap();
        assert_eq!(commits.old().len(), 1);
    }
}
