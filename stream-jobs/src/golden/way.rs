//! The ways in which a case is run. All must give the same values.

use ingest::Millis;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::case::Case;

/// So many places to cut at, spread evenly where a case has more signals.
const CUTS: usize = 16;
/// So many random orders.
const ORDERS: u64 = 8;

/// One way of running a case.
#[derive(Debug, Clone)]
pub struct Way {
    /// How the report calls it.
    pub name: String,
    /// Partitions of the log.
    pub partitions: u32,
    /// Records in a micro-batch.
    pub batch: usize,
    /// Signals in the order of their arrival, by number; repeats included.
    pub order: Vec<usize>,
    /// A checkpoint after so many signals, and a crash a little later.
    pub cut: Option<usize>,
}

/// What is done between two signals, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A checkpoint.
    Save,
    /// A crash, and a start from disk.
    Crash,
    /// Reads the values of an expected line as of now.
    Read(usize),
}

/// Every signal once, in the order of the file.
pub fn straight(case: &Case) -> Way {
    let order = (0..case.signals.len()).collect();
    Way { name: "straight".to_owned(), partitions: 1, batch: 1_000, order, cut: None }
}

/// Every way.
pub fn all(case: &Case) -> Vec<Way> {
    let n = case.signals.len();
    let straight = straight(case);
    let mut ways =
        vec![straight.clone(), Way { name: "signal by signal".to_owned(), batch: 1, ..straight.clone() }];
    for k in 0..n.min(CUTS) {
        let cut = k * n / n.min(CUTS);
        let name = format!("cut after {cut}");
        ways.push(Way { name, partitions: 2, batch: 3, cut: Some(cut), ..straight.clone() });
    }
    for seed in 0..ORDERS {
        let order = shuffled(case, &mut StdRng::seed_from_u64(seed));
        let name = format!("shuffled with repeats, seed {seed}");
        ways.push(Way { name, partitions: 3, batch: 7, order, cut: None });
    }
    for partitions in [2, 4, 7] {
        ways.push(Way { name: format!("{partitions} partitions"), partitions, ..straight.clone() });
    }
    ways
}

/// Every signal twice, each at most the allowed lateness behind the newest before it.
fn shuffled(case: &Case, rng: &mut StdRng) -> Vec<usize> {
    let late = case.lateness().max(1);
    let mut arrivals: Vec<(Millis, u64, usize)> = Vec::with_capacity(case.signals.len() * 2);
    for (i, s) in case.signals.iter().enumerate() {
        for _ in 0..2 {
            arrivals.push((s.record.time.saturating_add(rng.random_range(0..late)), rng.random(), i));
        }
    }
    arrivals.sort_unstable();
    arrivals.into_iter().map(|(_, _, i)| i).collect()
}

impl Way {
    /// What is done after how many signals, in order.
    ///
    /// A line is read as of now when every signal up to its instant is there and none so new that the engine
    /// may have forgotten what the instant needs. A file whose own order breaks the allowed lateness has
    /// lines without such a moment: these are read from history alone.
    pub fn steps(&self, case: &Case) -> Vec<(usize, Step)> {
        let (end, late) = (self.order.len(), case.lateness());
        let time = |i: usize| case.signals[i].record.time;
        let mut first = vec![end; case.signals.len()];
        for (place, i) in self.order.iter().enumerate().rev() {
            first[*i] = place;
        }
        let mut steps = Vec::new();
        for (line, e) in case.expected.iter().enumerate() {
            let too_new = |i: &usize| time(*i) > e.instant.saturating_add(late);
            let moment = self.order.iter().position(too_new).unwrap_or(end);
            if (0..first.len()).all(|i| time(i) > e.instant || first[i] < moment) {
                steps.push((moment, Step::Read(line)));
            }
        }
        if let Some(cut) = self.cut {
            steps.push((cut, Step::Save));
            steps.push(((cut + 3).min(end), Step::Crash));
        }
        steps.sort_unstable();
        steps
    }
}
