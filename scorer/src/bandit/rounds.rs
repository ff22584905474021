//! Rounds that wait for their reward.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::Decided;

/// How much a session remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A reward may come for one of the last so many rounds.
    pub rounds: usize,
    /// Most bytes that rounds without reward may take.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rounds: 1_000_000, bytes: 1 << 30 }
    }
}

/// Why a round has no use for a reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotWaiting {
    Settled,
    Unknown,
}

/// The last rounds, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    limits: Limits,
    by_key: HashMap<Arc<str>, Round>,
    /// With the number of the decision, by which a key that came again is told from its earlier round.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Round {
    number: u64,
    /// `None` once it has its reward.
    waits: Option<Decided>,
}

impl Rounds {
    pub(super) fn new(limits: Limits) -> Rounds {
        Rounds { limits, ..Rounds::default() }
    }

    /// Rounds that were forgotten before their reward came.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn set_dropped(&mut self, dropped: u64) {
        self.dropped = dropped;
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Remembers a round, `None` for one that has its reward already. A key that comes again stands for the
    /// newer round.
    pub(super) fn add(&mut self, key: &str, waits: Option<Decided>) {
        let number = self.next;
        self.next += 1;
        self.bytes += waits.as_ref().map_or(0, size);
        let key: Arc<str> = key.into();
        self.order.push_back((number, key.clone()));
        if let Some(before) = self.by_key.insert(key, Round { number, waits }) {
            self.forget(before);
        }
        while self.by_key.len() > self.limits.rounds
            || (self.bytes > self.limits.bytes && self.by_key.len() > 1)
        {
            let Some((number, key)) = self.order.pop_front() else { break };
            if self.stands(number, &key)
                && let Some(round) = self.by_key.remove(&key)
            {
                self.forget(round);
            }
        }
        if self.order.len() > 2 * self.by_key.len() + 16 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(number, key)| self.stands(*number, key));
            self.order = order;
        }
    }

    /// Whether a key still stands for this decision.
    fn stands(&self, number: u64, key: &str) -> bool {
        self.by_key.get(key).is_some_and(|round| round.number == number)
    }

    /// Gives out what a round remembered; from then on it is settled.
    pub(super) fn take(&mut self, key: &str) -> Result<Decided, NotWaiting> {
        let round = self.by_key.get_mut(key).ok_or(NotWaiting::Unknown)?;
        let decided = round.waits.take().ok_or(NotWaiting::Settled)?;
        self.bytes -= size(&decided);
        Ok(decided)
    }

    /// The rounds, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&Decided>)> {
        let standing = self.order.iter().filter(|(number, key)| self.stands(*number, key));
        standing.filter_map(|(_, key)| Some((&**key, self.by_key.get(key)?.waits.as_ref())))
    }

    fn forget(&mut self, round: Round) {
        if let Some(decided) = round.waits {
            self.bytes -= size(&decided);
            self.dropped += 1;
        }
    }
}

fn size(decided: &Decided) -> usize {
    let numbers = decided.context.len() + decided.features.len();
    size_of::<Decided>() + numbers * size_of::<f64>() + decided.id.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(id: &str) -> Option<Decided> {
        Some(Decided { context: vec![0.0; 4], id: id.into(), features: Vec::new(), propensity: 0.5 })
    }

    #[test]
    fn the_first_reward_settles_and_later_ones_are_told_apart_from_unknown_rounds() {
        let mut rounds = Rounds::new(Limits::default());
        rounds.add("1", decided("a"));
        assert_eq!(rounds.take("1").map(|d| d.id), Ok("a".into()));
        assert_eq!(rounds.take("1"), Err(NotWaiting::Settled));
        assert_eq!(rounds.take("2"), Err(NotWaiting::Unknown));
        assert_eq!(rounds.bytes, 0);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let mut rounds = Rounds::new(Limits { rounds: 2, ..Limits::default() });
        for key in ["1", "2", "3"] {
            rounds.add(key, decided(key));
        }
        assert_eq!(rounds.dropped(), 1);
        assert_eq!(rounds.take("1"), Err(NotWaiting::Unknown));
        assert!(rounds.take("3").is_ok() && rounds.take("2").is_ok());
        rounds.add("4", decided("4"));
        assert_eq!(rounds.dropped(), 1, "settled rounds are no loss");
    }

    #[test]
    fn a_key_that_comes_again_stands_for_the_newer_round() {
        let mut rounds = Rounds::new(Limits { rounds: 2, ..Limits::default() });
        for (key, id) in [("1", "a"), ("2", "b"), ("1", "c"), ("3", "d")] {
            rounds.add(key, decided(id));
        }
        assert_eq!(rounds.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((rounds.dropped(), rounds.take("1").map(|d| d.id)), (2, Ok("c".into())));
        for _ in 0..1_000 {
            rounds.add("3", decided("e"));
        }
        assert!(rounds.order.len() < 50, "what no longer stands is cleared away");
    }

    #[test]
    fn memory_is_bounded_by_bytes_too() {
        let one = size(&decided("x").unwrap());
        let mut rounds = Rounds::new(Limits { rounds: 100, bytes: 3 * one });
        for i in 0..10 {
            rounds.add(&i.to_string(), decided("x"));
        }
        assert_eq!((rounds.dropped(), rounds.bytes), (7, 3 * one));
    }
}
