//! Idempotency keys seen lately, in bounded memory.

use hashbrown::HashSet;

/// Remembers the last keys: at least `at_least`, at most twice as many.
pub struct RecentKeys {
    at_least: usize,
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl RecentKeys {
    /// Empty.
    pub fn new(at_least: usize) -> RecentKeys {
        RecentKeys { at_least: at_least.max(1), young: HashSet::new(), old: HashSet::new() }
    }

    /// Whether it was noted lately.
    pub fn contains(&self, key: u128) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Notes a key, 0 being none; whether it is new.
    pub fn insert(&mut self, key: u128) -> bool {
        if key == 0 {
            return true;
        }
        if self.contains(key) {
            return false;
        }
        if self.young.len() >= self.at_least {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_and_no_more_than_twice_as_many() {
        let mut keys = RecentKeys::new(100);
        for key in 1..=1000u128 {
            assert!(keys.insert(key));
            assert!(!keys.insert(key));
            assert!(keys.young.len() + keys.old.len() <= 200);
            assert!((key.saturating_sub(99).max(1)..=key).all(|k| keys.contains(k)));
        }
        assert!(!keys.contains(1));
        assert!(keys.insert(0) && keys.insert(0), "0 is no key");
    }
}
