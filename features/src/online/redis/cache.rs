//! Rows that were read lately, for reads while Redis is away.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::row::Row;

/// What an entry takes beside the bytes of its row, roughly.
const OVERHEAD: usize = 200;

/// What was read under a key, also that there was nothing.
#[derive(Debug, Clone)]
struct Entry {
    row: Option<Arc<Row>>,
    read: Instant,
}

/// A bounded map: the younger half, and the half before it. What is read again moves to the younger.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<String, Entry, ahash::RandomState>,
    old: HashMap<String, Entry, ahash::RandomState>,
    /// Bytes of the younger half.
    bytes: usize,
    most: usize,
    oldest: Duration,
}

impl Cache {
    /// Keeps about so many bytes of rows, none older than `oldest`.
    pub fn new(most: usize, oldest: Duration) -> Cache {
        Cache { young: HashMap::default(), old: HashMap::default(), bytes: 0, most, oldest }
    }

    /// Remembers what was read, which took so many bytes.
    pub fn put(&mut self, key: String, row: Option<Arc<Row>>, bytes: usize, now: Instant) {
        let size = bytes + key.len() + OVERHEAD;
        if self.young.insert(key, Entry { row, read: now }).is_none() {
            self.bytes += size;
        }
        if self.bytes > self.most / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
    }

    /// What was read under a key lately; `None` if nothing was.
    pub fn get(&self, key: &str, now: Instant) -> Option<Option<Arc<Row>>> {
        let entry = self.young.get(key).or_else(|| self.old.get(key))?;
        (now.duration_since(entry.read) <= self.oldest).then(|| entry.row.clone())
    }

    /// Forgets keys.
    pub fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        self.young.retain(|key, _| !gone(key));
        self.old.retain(|key, _| !gone(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_is_young_within_its_bytes() {
        let mut cache = Cache::new(100_000, Duration::from_secs(10));
        let now = Instant::now();
        for i in 0..10_000 {
            cache.put(format!("{i}"), None, 100, now);
        }
        let kept = (0..10_000).filter(|i| cache.get(&format!("{i}"), now).is_some()).count();
        assert!((100..400).contains(&kept), "{kept}");
        assert_eq!(cache.get("9999", now).map(|row| row.is_none()), Some(true));
        assert!(cache.get("0", now).is_none());
        assert!(cache.get("9999", now + Duration::from_secs(11)).is_none());
        cache.forget(|key| key == "9999");
        assert!(cache.get("9999", now).is_none() && cache.get("9998", now).is_some());
    }
}
