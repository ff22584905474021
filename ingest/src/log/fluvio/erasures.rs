//! Erasure: Fluvio deletes no single record, so a tombstone says up to where a person's records are hidden.
//!
//! The bytes go with the retention of the topics.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{fetch::Stored, shared::Shared};
use crate::{
    event,
    log::{LogError, Offset, Partition, Position, Topic},
};

/// Of each person erased, up to where in each topic.
#[derive(Default)]
pub struct Erased(HashMap<Arc<str>, Reach>);

/// By the name of the topic.
type Reach = BTreeMap<String, Position>;

/// The payload of a tombstone.
#[derive(Serialize, Deserialize)]
struct Tombstone {
    /// Positions as text, by the name of the topic.
    below: BTreeMap<String, String>,
}

impl Erased {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record may be shown no more.
    pub fn hides(&self, topic: Topic, subject: &str, partition: Partition, offset: Offset) -> bool {
        let reach = self.0.get(subject).and_then(|reach| reach.get(topic.name()));
        reach.is_some_and(|position| offset < position.get(partition))
    }

    fn note(&mut self, subject: &str, tombstone: &Tombstone) -> Result<(), String> {
        let reach = self.0.entry(subject.into()).or_default();
        for (topic, below) in &tombstone.below {
            let below: Position = below.parse()?;
            let known = reach.entry(topic.clone()).or_default();
            below.0.iter().filter(|(_, o)| **o > 0).for_each(|(p, o)| known.advance(*p, o - 1));
        }
        Ok(())
    }
}

/// The payload of a tombstone that reaches to the ends of all topics as they are.
pub fn tombstone(shared: &Shared) -> Result<Bytes, LogError> {
    let topics = [Topic::Signals, Topic::Rewards, Topic::Policies];
    let below = topics.map(|topic| (topic.name().to_owned(), shared.topic(topic).end().to_string())).into();
    let text = serde_json::to_vec(&Tombstone { below });
    text.map(Bytes::from).map_err(|e| LogError::Refused(format!("a tombstone cannot be written: {e}")))
}

/// Hides what a tombstone reaches.
pub fn apply(shared: &Shared, subject: &str, payload: &[u8]) -> Result<(), String> {
    let tombstone: Tombstone = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    shared.erased.write().note(subject, &tombstone)
}

/// Takes a record of the topic of erasures.
pub fn take(shared: &Shared, stored: Stored) {
    let offset = stored.offset;
    let read = event::decode(&shared.catalogue, stored.record.value().as_ref(), stored.stamped);
    let applied = match read {
        Ok(event) => apply(shared, &event.subject, &event.payload),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = applied {
        // Never the subject: it is a person who wanted to be forgotten.
        tracing::error!(
            offset,
            error,
            "a tombstone cannot be read, and its person's records are still shown"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_hides_what_is_below_it_and_never_less() {
        let mut erased = Erased::default();
        let stone = |below: &str| Tombstone { below: [("signals".to_owned(), below.to_owned())].into() };
        erased.note("ada", &stone("0:5,2:1")).unwrap();
        erased.note("ada", &stone("0:3")).unwrap();
        let hides = |subject, partition, offset| erased.hides(Topic::Signals, subject, partition, offset);
        assert!(hides("ada", 0, 4) && hides("ada", 2, 0));
        assert!(!hides("ada", 0, 5) && !hides("ada", 1, 0) && !hides("bob", 0, 0));
        assert!(!erased.hides(Topic::Rewards, "ada", 0, 0));
        assert!(erased.note("ada", &stone("x")).is_err());
    }
}
