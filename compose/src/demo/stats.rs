//! What came of the tips: counts by arm, over time and by category.

use std::collections::{BTreeMap, VecDeque};

use ingest::Millis;
use serde::Serialize;

/// Points of the curve kept.
const MOST_POINTS: usize = 400;
/// Tips kept for the list of the latest.
const LATEST: usize = 12;
/// 95 % of a normal distribution lie within this many standard deviations.
const Z: f64 = 1.959_964;

/// Which policy chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The policy that learns.
    Bandit,
    /// Every eligible tip alike.
    Uniform,
}

/// Tips shown, and how many of them were taken up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    shown: u64,
    taken: u64,
}

/// A share with its 95 % band.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Tips shown.
    pub shown: u64,
    /// Of these, taken up.
    pub taken: u64,
    /// `taken / shown`; nothing of nothing.
    pub rate: Option<f64>,
    /// Lower end of the band.
    pub low: f64,
    /// Upper end of the band.
    pub high: f64,
}

impl Tally {
    fn add(&mut self, taken: bool) {
        self.shown += 1;
        self.taken += u64::from(taken);
    }

    /// The share with its band after Wilson (1927), which stays within 0 and 1 for small counts too.
    pub fn share(self) -> Share {
        let (n, x) = (self.shown as f64, self.taken as f64);
        if self.shown == 0 {
            return Share { shown: 0, taken: 0, rate: None, low: 0.0, high: 1.0 };
        }
        let p = x / n;
        let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
        Share { shown: self.shown, taken: self.taken, rate: Some(p), low, high }
    }
}

/// One tip as the list of the latest shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// When, in the simulation.
    pub at: Millis,
    /// To whom.
    pub user: String,
    /// Its title.
    pub title: String,
    /// Its category.
    pub category: String,
    /// Who chose it.
    pub arm: Arm,
    /// With what probability.
    pub propensity: f64,
    /// What the person did; absent for no reaction.
    pub reaction: Option<&'static str>,
}

/// The shares of both arms over one stretch of wall time.
#[derive(Debug, Clone, Copy, Serialize)]
struct Point {
    seconds: f64,
    bandit: Share,
    uniform: Share,
}

/// What both arms did with one category lately.
#[derive(Debug, Clone, Serialize)]
pub struct Category {
    name: String,
    bandit: Share,
    uniform: Share,
    /// Share of all the arm's tips that were of this category.
    bandit_part: f64,
    uniform_part: f64,
}

/// Everything the page draws from.
#[derive(Debug)]
pub struct Stats {
    stretch: f64,
    since: f64,
    current: [Tally; 2],
    total: [Tally; 2],
    curve: VecDeque<Point>,
    categories: BTreeMap<String, [Tally; 2]>,
    latest: VecDeque<Shown>,
    silences: u64,
}

/// A picture of the figures.
#[derive(Debug, Serialize)]
pub struct Figures {
    curve: Vec<Point>,
    total: Point,
    recent: Point,
    categories: Vec<Category>,
    latest: Vec<Shown>,
    silences: u64,
}

impl Stats {
    /// A curve with a point each `stretch` seconds of wall time.
    pub fn new(stretch: f64) -> Stats {
        Stats {
            stretch,
            since: 0.0,
            current: [Tally::default(); 2],
            total: [Tally::default(); 2],
            curve: VecDeque::new(),
            categories: BTreeMap::new(),
            latest: VecDeque::new(),
            silences: 0,
        }
    }

    /// Counts one tip, `seconds` of wall time after the start.
    pub fn add(&mut self, seconds: f64, shown: Shown, taken: bool) {
        self.advance(seconds);
        let arm = shown.arm as usize;
        self.current[arm].add(taken);
        self.total[arm].add(taken);
        self.categories.entry(shown.category.clone()).or_default()[arm].add(taken);
        self.latest.push_front(shown);
        self.latest.truncate(LATEST);
    }

    /// Counts an occasion on which no tip was shown.
    pub fn silent(&mut self, seconds: f64) {
        self.advance(seconds);
        self.silences += 1;
    }

    /// Closes the stretches that are over.
    pub fn advance(&mut self, seconds: f64) {
        if seconds - self.since < self.stretch {
            return;
        }
        let closed = std::mem::take(&mut self.current);
        self.since = seconds;
        self.curve.push_back(point(seconds, closed));
        if self.curve.len() > MOST_POINTS {
            self.curve.pop_front();
        }
    }

    /// How both arms did over everything.
    pub fn totals(&self) -> (Share, Share) {
        (self.total[0].share(), self.total[1].share())
    }

    /// How both arms did over the last `points` of the curve.
    pub fn recent(&self, points: usize) -> (Share, Share) {
        let last = self.curve.iter().rev().take(points);
        let sum = last.fold([Tally::default(); 2], |mut sum, p| {
            for (into, part) in sum.iter_mut().zip([p.bandit, p.uniform]) {
                into.shown += part.shown;
                into.taken += part.taken;
            }
            sum
        });
        (sum[0].share(), sum[1].share())
    }

    /// Everything, for the page.
    pub fn figures(&self) -> Figures {
        let (bandit, uniform) = self.recent(6);
        let part = |t: Tally, arm: usize| t.shown as f64 / (self.total[arm].shown.max(1)) as f64;
        Figures {
            curve: self.curve.iter().copied().collect(),
            total: point(self.since, self.total),
            recent: Point { seconds: self.since, bandit, uniform },
            categories: self
                .categories
                .iter()
                .map(|(name, [bandit, uniform])| Category {
                    name: name.clone(),
                    bandit: bandit.share(),
                    uniform: uniform.share(),
                    bandit_part: part(*bandit, 0),
                    uniform_part: part(*uniform, 1),
                })
                .collect(),
            latest: self.latest.iter().cloned().collect(),
            silences: self.silences,
        }
    }
}

fn point(seconds: f64, [bandit, uniform]: [Tally; 2]) -> Point {
    Point { seconds, bandit: bandit.share(), uniform: uniform.share() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(arm: Arm) -> Shown {
        Shown {
            at: 0,
            user: "ada".into(),
            title: "t".into(),
            category: "sleep".into(),
            arm,
            propensity: 0.5,
            reaction: None,
        }
    }

    #[test]
    fn the_band_holds_the_rate_and_narrows() {
        let share = |shown, taken| Tally { shown, taken }.share();
        let (few, many) = (share(10, 3), share(1_000, 300));
        assert!(few.low < 0.3 && 0.3 < few.high);
        assert!(many.high - many.low < few.high - few.low);
        // Wilson (1927) for 3 of 10, by hand.
        assert!((few.low - 0.1078).abs() < 1e-3 && (few.high - 0.6032).abs() < 1e-3, "{few:?}");
        assert_eq!(share(0, 0).rate, None);
    }

    #[test]
    fn counts_end_up_with_their_arm() {
        let mut stats = Stats::new(1.0);
        stats.add(0.1, shown(Arm::Bandit), true);
        stats.add(0.2, shown(Arm::Uniform), false);
        stats.add(1.5, shown(Arm::Bandit), false);
        stats.advance(3.0);
        let (bandit, uniform) = stats.totals();
        assert_eq!((bandit.shown, bandit.taken), (2, 1));
        assert_eq!((uniform.shown, uniform.taken), (1, 0));
        assert_eq!(stats.recent(10), (bandit, uniform));
        assert_eq!(stats.recent(1).1.shown, 0);
        assert_eq!(stats.figures().latest.len(), 3);
    }
}
