//! Deduplication by (source, id), for logs that may deliver a signal twice.
//!
//! A log that was given the key of a record (the embedded one is, by the door) refuses repeats for good, so that
//! such records pass without a note. For records without a key, their signal's key is kept as long as a repeat can
//! change a value (its signal can be in a window), and at most [`REPEATS`]: a window without a begin must
//! not make the job remember every signal there ever was.

use hashbrown::HashMap;
use ingest::Millis;

/// How long after a signal was first seen, by its arrival or its event time, whichever is later, a repeat is found.
pub const REPEATS: Millis = 30 * 86_400_000;

/// The keys are spread over so many tables, each of which grows and is pruned alone.
const PARTS: usize = 64;
/// Tables pruned at a time, so that none of it takes long.
const AT_A_TIME: usize = 4;

#[derive(Debug, Default)]
struct Part {
    keys: HashMap<u128, Millis, ahash::RandomState>,
    pruned_at: usize,
}

/// Keys seen, with the later of event time and arrival of their signal.
#[derive(Debug)]
pub struct Seen {
    parts: Vec<Part>,
    newest: Millis,
    fresh: Vec<(u128, Millis)>,
    next: usize,
}

impl Default for Seen {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        Seen { parts, newest: Millis::MIN, fresh: Vec::new(), next: 0 }
    }
}

impl Seen {
    fn part(&mut self, key: u128) -> &mut Part {
        // Keys are hashes, evenly spread.
        &mut self.parts[(key >> 64) as usize % PARTS]
    }

    /// Whether the key is new; notes it.
    pub fn insert(&mut self, key: u128, noted: Millis) -> bool {
        let new = self.part(key).keys.insert(key, noted).is_none();
        if new {
            self.newest = self.newest.max(noted);
            self.fresh.push((key, noted));
        }
        new
    }

    /// Takes up keys from a checkpoint.
    pub fn restore(&mut self, keys: impl Iterator<Item = (u128, Millis)>) {
        for (key, noted) in keys {
            self.newest = self.newest.max(noted);
            let part = self.part(key);
            part.keys.insert(key, noted);
            part.pruned_at = part.keys.len();
        }
    }

    /// Keys noted since the last call, for the checkpoint.
    pub fn take_fresh(&mut self) -> Vec<(u128, Millis)> {
        std::mem::take(&mut self.fresh)
    }

    /// Keys noted at or before this need not be kept, when no window reaches back to `windows`.
    pub fn horizon(&self, windows: Millis) -> Millis {
        windows.max(self.newest.saturating_sub(REPEATS))
    }

    /// Forgets some of what was noted at or before `horizon`, wherever keys have doubled since that was last done.
    pub fn prune(&mut self, horizon: Millis) {
        for _ in 0..AT_A_TIME {
            let part = &mut self.parts[self.next];
            if part.keys.len() > 2 * part.pruned_at + 64 {
                part.keys.retain(|_, noted| *noted > horizon);
                part.pruned_at = part.keys.len();
            }
            self.next = (self.next + 1) % PARTS;
        }
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|p| p.keys.len()).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let spread = |i: u64| u128::from(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64;
        for i in 2..20_000 {
            again.insert(spread(i), i as i64 + 1000);
        }
        for _ in 0..PARTS / AT_A_TIME {
            again.prune(500);
        }
        assert!(again.insert(1, 10), "older than the horizon, forgotten");
        assert!(!again.insert(spread(7), 1007), "younger, kept");
    }

    #[test]
    fn nothing_is_kept_for_ever() {
        let mut seen = Seen::default();
        seen.insert(1, 0);
        seen.insert(2, REPEATS + 5);
        assert_eq!((seen.horizon(Millis::MIN), seen.horizon(9)), (5, 9));
    }
}
