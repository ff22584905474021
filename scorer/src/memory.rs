//! What was shown to whom lately: enough to spare people repeats, and to know what a reaction is about.
//!
//! Kept in memory, bounded, and rebuilt from the log: settled impressions from the topic of rewards, open ones
//! as the joiner replays them. Everything here may be told twice.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use ingest::{
    Millis,
    log::{Log, LogError, Position, Topic},
};
use parking_lot::Mutex;
use prost::Message;

use crate::record::{ReactionKind, Reward};

/// An impression as far as a reaction needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// To whom.
    pub user: Arc<str>,
    /// Which tip.
    pub tip: Arc<str>,
    /// Its category.
    pub category: Arc<str>,
    /// When.
    pub at: Millis,
    reactions: Vec<ReactionKind>,
}

/// What is remembered of one person.
#[derive(Debug, Default)]
pub struct Person {
    /// Impressions, oldest first.
    pub(crate) shown: VecDeque<Showing>,
    pub(crate) tips: HashMap<Arc<str>, TipMemory>,
    /// The latest reactions, oldest first.
    pub(crate) reactions: VecDeque<(Millis, ReactionKind)>,
    /// How many tips of a category were muted.
    pub(crate) muted: HashMap<Arc<str>, u32>,
}

/// One impression as the caps count it.
#[derive(Debug, Clone)]
pub(crate) struct Showing {
    pub(crate) at: Millis,
    pub(crate) tip: Arc<str>,
    pub(crate) category: Arc<str>,
}

/// What is remembered of one tip and one person.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TipMemory {
    pub(crate) shown_at: Millis,
    pub(crate) snoozed_at: Option<Millis>,
    pub(crate) muted: bool,
}

/// Latest reactions kept of a person.
const REACTIONS: usize = 16;

#[derive(Default)]
struct Inner {
    impressions: HashMap<Arc<str>, Shown>,
    order: VecDeque<Arc<str>>,
    people: HashMap<Arc<str>, Person>,
}

/// The memory; share it in an `Arc`.
pub struct Memory {
    inner: Mutex<Inner>,
    capacity: usize,
}

impl Memory {
    /// Remembers at most `capacity` impressions.
    pub fn new(capacity: usize) -> Memory {
        Memory { inner: Mutex::default(), capacity: capacity.max(1) }
    }

    /// Learns what the topic of rewards knows: all impressions settled so far.
    pub fn rebuild(&self, log: &dyn Log) -> Result<(), LogError> {
        let mut reader = log.reader(Topic::Rewards, &[0], &Position::default())?;
        loop {
            let records = reader.poll(1024)?;
            if records.is_empty() {
                return Ok(());
            }
            for record in records {
                // A record that cannot be read is the learner's to report.
                let Ok(reward) = Reward::decode(&record.payload[..]) else { continue };
                let Reward { impression, tip, category, shown_at, settled_at, outcome, .. } = reward;
                self.impression(&impression, &record.subject, &tip, &category, shown_at);
                if let Ok(kind) = outcome.parse() {
                    self.reaction(&impression, kind, settled_at);
                }
            }
        }
    }

    /// A tip was shown.
    pub fn impression(&self, id: &str, user: &str, tip: &str, category: &str, at: Millis) {
        let mut inner = self.inner.lock();
        if inner.impressions.contains_key(id) {
            return;
        }
        while inner.order.len() >= self.capacity {
            inner.forget_oldest();
        }
        let user: Arc<str> = match inner.people.get_key_value(user) {
            Some((known, _)) => known.clone(),
            None => user.into(),
        };
        let (id, tip, category): (Arc<str>, Arc<str>, Arc<str>) = (id.into(), tip.into(), category.into());
        let person = inner.people.entry(user.clone()).or_default();
        let place = person.shown.partition_point(|s| s.at <= at);
        person.shown.insert(place, Showing { at, tip: tip.clone(), category: category.clone() });
        let memory = person.tips.entry(tip.clone()).or_default();
        memory.shown_at = memory.shown_at.max(at);
        inner.order.push_back(id.clone());
        inner.impressions.insert(id, Shown { user, tip, category, at, reactions: Vec::new() });
    }

    /// A person reacted; `false` when the impression is not known. A repeat changes nothing.
    pub fn reaction(&self, impression: &str, kind: ReactionKind, at: Millis) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(shown) = inner.impressions.get_mut(impression) else { return false };
        if shown.reactions.contains(&kind) {
            return true;
        }
        shown.reactions.push(kind);
        let person = inner.people.entry(shown.user.clone()).or_default();
        let place = person.reactions.partition_point(|(t, _)| *t <= at);
        person.reactions.insert(place, (at, kind));
        if person.reactions.len() > REACTIONS {
            person.reactions.pop_front();
        }
        let tip = person.tips.entry(shown.tip.clone()).or_default();
        match kind {
            ReactionKind::Snoozed => tip.snoozed_at = Some(at),
            ReactionKind::Muted if !tip.muted => {
                tip.muted = true;
                *person.muted.entry(shown.category.clone()).or_default() += 1;
            }
            ReactionKind::Muted | ReactionKind::Accepted | ReactionKind::Done | ReactionKind::Dismissed => {}
        }
        true
    }

    /// Whether this impression is remembered.
    pub fn knows(&self, impression: &str) -> bool {
        self.inner.lock().impressions.contains_key(impression)
    }

    /// The impression with this id.
    pub fn shown(&self, impression: &str) -> Option<Shown> {
        self.inner.lock().impressions.get(impression).cloned()
    }

    /// Looks at what is remembered of a person; an unknown one is as good as new.
    pub fn with_person<R>(&self, user: &str, look: impl FnOnce(&Person) -> R) -> R {
        let inner = self.inner.lock();
        match inner.people.get(user) {
            Some(person) => look(person),
            None => look(&Person::default()),
        }
    }

    /// Forgets everything about a person.
    pub fn erase(&self, user: &str) {
        let mut inner = self.inner.lock();
        inner.people.remove(user);
        inner.impressions.retain(|_, shown| &*shown.user != user);
        let Inner { impressions, order, .. } = &mut *inner;
        order.retain(|id| impressions.contains_key(id));
    }
}

impl Inner {
    fn forget_oldest(&mut self) {
        let Some(id) = self.order.pop_front() else { return };
        let Some(shown) = self.impressions.remove(&id) else { return };
        let Some(person) = self.people.get_mut(&shown.user) else { return };
        while person.shown.front().is_some_and(|s| s.at <= shown.at) {
            person.shown.pop_front();
        }
        // What was muted stays so for as long as this process runs, and longer where rewards are kept.
        if person.tips.get(&shown.tip).is_some_and(|t| t.shown_at <= shown.at && !t.muted) {
            person.tips.remove(&shown.tip);
        }
        if person.shown.is_empty() && person.tips.is_empty() {
            self.people.remove(&shown.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_twice_is_told_once() {
        let memory = Memory::new(10);
        for _ in 0..2 {
            memory.impression("i", "ann", "walk", "movement", 100);
            assert!(memory.reaction("i", ReactionKind::Muted, 110));
        }
        memory.with_person("ann", |p| {
            assert_eq!(p.shown.len(), 1);
            assert_eq!(p.reactions.len(), 1);
            assert_eq!(p.muted.get("movement"), Some(&1));
        });
        assert!(memory.knows("i") && !memory.knows("unknown"));
        assert!(!memory.reaction("unknown", ReactionKind::Done, 1));
    }

    #[test]
    fn the_oldest_is_forgotten_and_people_with_it() {
        let memory = Memory::new(2);
        memory.impression("1", "ann", "walk", "movement", 1);
        memory.impression("2", "bob", "walk", "movement", 2);
        memory.impression("3", "bob", "nap", "rest", 3);
        assert_eq!(memory.shown("1"), None);
        assert!(memory.shown("3").is_some());
        assert!(!memory.inner.lock().people.contains_key("ann"));
        memory.with_person("bob", |p| assert_eq!(p.shown.len(), 2));
    }

    #[test]
    fn an_erased_person_is_gone() {
        let memory = Memory::new(10);
        memory.impression("1", "ann", "walk", "movement", 1);
        memory.impression("2", "bob", "walk", "movement", 2);
        memory.erase("ann");
        assert_eq!(memory.shown("1"), None);
        assert!(memory.shown("2").is_some());
        assert_eq!(memory.inner.lock().order.len(), 1);
    }
}
