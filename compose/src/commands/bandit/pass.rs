//! The one-pass protocol: decide, see the reward of the action chosen, learn, go on.

use std::{
    borrow::Cow,
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use scorer::{
    bandit::{Bandit, Candidate, Field},
    policy::PolicyConfig,
};
use serde_json::{Map, Value, json};

use super::table::RewardTable;
use crate::error::{Error, Result};

/// Plays the table once and gives the reward of every row, in the order of the table. The seed decides the
/// order of the rows, unless they are to come as they stand, and the draws.
pub fn play(
    table: &RewardTable,
    config: &PolicyConfig,
    seed: u64,
    shuffled: bool,
    mut decided: impl FnMut(usize, usize, f64) -> Result<()>,
) -> Result<Vec<f64>> {
    let mut order: Vec<usize> = (0..table.rows()).collect();
    if shuffled {
        order.shuffle(&mut StdRng::seed_from_u64(seed));
    }
    let mut bandit = Bandit::new(config, seed);
    let named = |id: &'_ String| Candidate { id: Cow::Owned(id.clone()), features: Vec::new() };
    let candidates: Vec<Candidate<'_>> = table.actions.iter().map(named).collect();
    let mut earned = vec![0.0; table.rows()];
    for row in order {
        let (choice, remembered) = bandit
            .decide(&table.context(row), &candidates)
            .ok_or_else(|| Error::Broken("the policy chose nothing".into()))?;
        earned[row] = table.rewards(row)[choice.index];
        bandit.settle(&remembered, earned[row]);
        decided(row, choice.index, choice.propensity())?;
    }
    Ok(earned)
}

/// Does `work` for each of `0..count` on all cores, and gives the results in order.
pub fn on_all_cores<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return done;
            }
            done.push((i, work(i)));
        }
    };
    let mut all: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    });
    if all.len() < count {
        return Err(Error::Broken("a pass stopped halfway".into()));
    }
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Writes a decision as `kairos evaluate --logs` reads it.
pub fn log_line(
    to: &mut impl Write,
    table: &RewardTable,
    row: usize,
    action: usize,
    propensity: f64,
) -> std::io::Result<()> {
    let mut line = Map::new();
    line.insert("action".into(), json!(table.actions[action]));
    line.insert("propensity".into(), json!(propensity));
    line.insert("reward".into(), json!(table.rewards(row)[action]));
    for (name, field) in table.context(row) {
        let value = match field {
            Field::Number(v) => json!(v),
            Field::Text(text) => json!(text),
            Field::Flag(flag) => json!(flag),
            Field::Missing => Value::Null,
        };
        line.insert(format!("ctx.{name}"), value);
    }
    serde_json::to_writer(&mut *to, &line)?;
    to.write_all(b"\n")
}

/// A mean with a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The interval; `None` where one value leaves it unknown.
    pub interval: Option<(f64, f64)>,
}

/// The mean of independent values, with Student's interval.
pub fn mean(values: &[f64]) -> Mean {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let interval = (values.len() > 1).then(|| {
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = student(values.len() - 1) * (variance / n).sqrt();
        (mean - half, mean + half)
    });
    Mean { mean, interval }
}

/// The 97.5 % quantile of Student's distribution (the expansion of Cornish and Fisher beyond the first few).
fn student(freedom: usize) -> f64 {
    const FEW: [f64; 9] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622];
    if let Some(exact) = FEW.get(freedom.wrapping_sub(1)) {
        return *exact;
    }
    let (z, n) = (1.959_964_f64, freedom as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / n + second / n.powi(2) + third / n.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_student_are_those_of_the_tables() {
        for (freedom, quantile) in
            [(1, 12.706), (4, 2.776), (9, 2.262), (10, 2.228), (30, 2.042), (1_000, 1.962)]
        {
            assert!((student(freedom) - quantile).abs() < 2e-3, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn a_mean_has_its_interval() {
        let of = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        let (low, high) = of.interval.unwrap();
        // 3 ± 2.776 √(2.5 / 5)
        assert!((of.mean - 3.0).abs() < 1e-12 && (low - 1.037).abs() < 1e-3 && (high - 4.963).abs() < 1e-3);
        assert_eq!(mean(&[2.0]), Mean { mean: 2.0, interval: None });
    }

    #[test]
    fn all_work_is_done_once_and_given_in_order() {
        let all = on_all_cores(50, |i| Ok(i * i)).unwrap();
        assert_eq!(all, (0..50).map(|i| i * i).collect::<Vec<_>>());
        assert!(on_all_cores(3, |i| if i == 1 { Err(Error::Input("no".into())) } else { Ok(i) }).is_err());
    }
}
