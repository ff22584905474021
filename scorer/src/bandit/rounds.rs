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
    /// One a place of the slate; empty once the reward has come.
    waits: Vec<Decided>,
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

    /// Remembers a round, with nothing for one that has its reward already. A key that comes again stands for
    /// the newer round.
    pub(super) fn add(&mut self, key: &str, waits: Vec<Decided>) {
        let number = self.next;
        self.next += 1;
        self.bytes += size(&waits);
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

    /// How many rewards a round waits for.
    pub(super) fn waiting(&self, key: &str) -> Result<usize, NotWaiting> {
        match self.by_key.get(key).map(|round| round.waits.len()) {
            None => Err(NotWaiting::Unknown),
            Some(0) => Err(NotWaiting::Settled),
            Some(places) => Ok(places),
        }
    }

    /// Gives out what a round remembered, which then is settled; nothing where it does not wait.
    pub(super) fn take(&mut self, key: &str) -> Vec<Decided> {
        let waits =
            self.by_key.get_mut(key).map(|round| std::mem::take(&mut round.waits)).unwrap_or_default();
        self.bytes -= size(&waits);
        waits
    }

    /// The rounds, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[Decided])> {
        let standing = self.order.iter().filter(|(number, key)| self.stands(*number, key));
        standing.filter_map(|(_, key)| Some((&**key, &self.by_key.get(key)?.waits[..])))
    }

    fn forget(&mut self, round: Round) {
        self.bytes -= size(&round.waits);
        self.dropped += u64::from(!round.waits.is_empty());
    }
}

fn size(waits: &[Decided]) -> usize {
    let one = |d: &Decided| {
        size_of::<Decided>() + (d.context.len() + d.features.len()) * size_of::<f64>() + d.id.len()
    };
    waits.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(id: &str) -> Vec<Decided> {
        vec![Decided { context: vec![0.0; 4], id: id.into(), features: Vec::new(), propensity: 0.5 }]
    }

    #[test]
    fn the_first_reward_settles_and_later_ones_are_told_apart_from_unknown_rounds() {
        let mut rounds = Rounds::new(Limits::default());
        rounds.add("1", decided("a"));
        assert_eq!(rounds.waiting("1"), Ok(1));
        assert_eq!(rounds.take("1")[0].id, "a");
        assert_eq!(rounds.waiting("1"), Err(NotWaiting::Settled));
        assert_eq!(rounds.waiting("2"), Err(NotWaiting::Unknown));
        assert_eq!(rounds.bytes, 0);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let mut rounds = Rounds::new(Limits { rounds: 2, ..Limits::default() });
        for key in ["1", "2", "3"] {
            rounds.add(key, decided(key));
        }
        assert_eq!(rounds.dropped(), 1);
        assert_eq!(rounds.waiting("1"), Err(NotWaiting::Unknown));
        assert_eq!((rounds.take("3").len(), rounds.take("2").len()), (1, 1));
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
        assert_eq!((rounds.dropped(), &rounds.take("1")[0].id[..]), (2, "c"));
        for _ in 0..1_000 {
            rounds.add("3", decided("e"));
        }
        assert!(rounds.order.len() < 50, "what no longer stands is cleared away");
    }

    #[test]
    fn memory_is_bounded_by_bytes_too() {
        let one = size(&decided("x"));
        let mut rounds = Rounds::new(Limits { rounds: 100, bytes: 3 * one });
        for i in 0..10 {
            rounds.add(&i.to_string(), decided("x"));
        }
        assert_eq!((rounds.dropped(), rounds.bytes), (7, 3 * one));
    }
}
