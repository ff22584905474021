//! How long signals took from the door to a readable value, over the last five to ten minutes.

use ingest::Millis;

/// A generation of counts; the one before is kept too.
const SPAN: Millis = 300_000;
/// Two buckets an octave of milliseconds.
const BUCKETS: usize = 130;

/// Counts of waits by length.
#[derive(Debug, Clone)]
pub struct Waits([u64; BUCKETS]);

impl Default for Waits {
    fn default() -> Self {
        Waits([0; BUCKETS])
    }
}

impl Waits {
    /// Counts a wait.
    pub fn add(&mut self, wait: Millis) {
        self.0[bucket(wait)] += 1;
    }

    fn merge(&mut self, other: &Waits) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a += b;
        }
    }

    /// Each length that occurred (the longest of its bucket, in milliseconds), and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Millis, u64)> + '_ {
        self.0.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (longest(i), *n))
    }

    /// The length that this share of waits does not exceed; `None` without any.
    pub fn quantile(&self, share: f64) -> Option<Millis> {
        let total: u64 = self.0.iter().sum();
        let wanted = (share * total as f64).ceil() as u64;
        let mut passed = 0;
        let reached = |(length, n)| {
            passed += n;
            (passed >= wanted).then_some(length)
        };
        self.iter().find_map(reached)
    }
}

fn bucket(wait: Millis) -> usize {
    let ms = wait.max(0) as u64;
    if ms < 2 {
        return ms as usize;
    }
    let octave = 63 - ms.leading_zeros() as usize;
    2 * octave + (ms >> (octave - 1) & 1) as usize
}

fn longest(bucket: usize) -> Millis {
    if bucket < 2 {
        return bucket as Millis;
    }
    let (octave, upper) = (bucket / 2, bucket % 2);
    ((3 + upper as u64) << (octave - 1)).saturating_sub(1) as Millis
}

/// Waits of the last minutes.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    since: Millis,
    now: Waits,
    before: Waits,
}

impl Recent {
    /// Counts waits that ended at `now`.
    pub fn add(&mut self, waits: &Waits, now: Millis) {
        self.turn(now);
        self.now.merge(waits);
    }

    /// All that is not too old.
    pub fn waits(&mut self, now: Millis) -> Waits {
        self.turn(now);
        let mut all = self.now.clone();
        all.merge(&self.before);
        all
    }

    fn turn(&mut self, now: Millis) {
        let old = now.saturating_sub(self.since);
        if old >= SPAN {
            let last = std::mem::take(&mut self.now);
            self.before = if old >= 2 * SPAN { Waits::default() } else { last };
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says() {
        let mut last = 0;
        for ms in (0..100_000).chain([1 << 40, Millis::MAX]) {
            let b = bucket(ms);
            assert!(b >= last && b < BUCKETS && ms <= longest(b), "{ms}: {b}");
            assert!(longest(b) <= ms.saturating_add(ms / 2), "{ms}: {}", longest(b));
            last = b;
        }
        assert_eq!(bucket(-5), 0);
    }

    #[test]
    fn quantiles_are_of_the_last_minutes() {
        let mut recent = Recent::default();
        let mut waits = Waits::default();
        (0..99).for_each(|_| waits.add(10));
        waits.add(5_000);
        recent.add(&waits, 1_000_000);
        let now = recent.waits(1_000_001);
        assert_eq!((now.quantile(0.5), now.quantile(0.99)), (Some(11), Some(11)));
        assert_eq!(now.quantile(1.0), Some(6_143));
        assert_eq!(recent.waits(1_000_000 + SPAN).quantile(0.5), Some(11), "still kept");
        assert_eq!(recent.waits(1_000_000 + 2 * SPAN + 1).quantile(0.5), None, "too old");
        assert_eq!(recent.waits(9_000_000).iter().count(), 0);
    }
}
