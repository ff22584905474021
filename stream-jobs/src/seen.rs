//! Deduplication by (source, id): the keys of every signal that can still matter.
//!
//! A repeat older than every window changes no value, so a key is kept only as long as its signal can be in
//! one. (The embedded log refuses repeats for good; other logs may deliver one twice.)

use hashbrown::HashMap;
use ingest::Millis;

/// Keys seen, with the event time of their signal.
#[derive(Debug, Default)]
pub struct Seen {
    keys: HashMap<u128, Millis, ahash::RandomState>,
    fresh: Vec<(u128, Millis)>,
    pruned_at: usize,
}

impl Seen {
    /// Whether the key is new; notes it.
    pub fn insert(&mut self, key: u128, time: Millis) -> bool {
        let new = self.keys.insert(key, time).is_none();
        if new {
            self.fresh.push((key, time));
        }
        new
    }

    /// Takes up keys from a checkpoint.
    pub fn restore(&mut self, keys: impl Iterator<Item = (u128, Millis)>) {
        self.keys.extend(keys);
        self.pruned_at = self.keys.len();
    }

    /// Keys noted since the last call, for the checkpoint.
    pub fn take_fresh(&mut self) -> Vec<(u128, Millis)> {
        std::mem::take(&mut self.fresh)
    }

    /// Forgets signals at or before `horizon`, whenever the set has doubled since it last did.
    pub fn prune(&mut self, horizon: Millis) {
        if self.keys.len() > 2 * self.pruned_at + 4096 {
            self.keys.retain(|_, time| *time > horizon);
            self.pruned_at = self.keys.len();
        }
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_until_it_is_pruned() {
        let mut seen = Seen::default();
        assert!(seen.insert(1, 10) && !seen.insert(1, 10));
        assert_eq!(seen.take_fresh(), [(1, 10)]);
        let mut again = Seen::default();
        again.restore([(1, 10)].into_iter());
        assert!(!again.insert(1, 10) && again.take_fresh().is_empty());
        for key in 2..6000 {
            again.insert(key, key as i64 + 1000);
        }
        again.prune(500);
        assert!(again.insert(1, 10), "older than the horizon, forgotten");
    }
}
