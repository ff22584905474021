//! What the report draws.

use serde::Serialize;

use super::estimators::Row;

/// Points of the line of running means.
const POINTS: usize = 400;
/// Bars of a histogram.
const BARS: usize = 40;

/// Pictures of a log under one target.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Charts {
    /// Weights, in powers of two; those of 0 stand in the first bar.
    pub weights: Histogram,
    /// Logged probabilities of the actions taken.
    pub propensities: Histogram,
    /// IPS, SNIPS and DR of the first rows, more and more of them.
    pub running: Vec<Running>,
}

/// Bars side by side.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Histogram {
    /// Lower edges of the bars.
    pub edges: Vec<f64>,
    /// How many fall between an edge and the next.
    pub counts: Vec<u64>,
}

/// Estimates from the first rows alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Running {
    /// How many rows.
    pub rows: u64,
    /// Mean of the rewards as logged.
    pub logged: f64,
    /// Inverse propensities.
    pub ips: f64,
    /// Self-normalised; absent while all weights are 0.
    pub snips: Option<f64>,
    /// Doubly robust.
    pub dr: f64,
}

impl Charts {
    pub(super) fn of(rows: &[Row]) -> Charts {
        Charts { weights: weights(rows), propensities: propensities(rows), running: running(rows) }
    }
}

fn weights(rows: &[Row]) -> Histogram {
    let positive = rows.iter().map(|r| r.weight).filter(|w| *w > 0.0);
    let (low, high) = positive.fold((1.0f64, 1.0f64), |(l, h), w| (l.min(w), h.max(w)));
    let lowest = low.log2().floor().max(-20.0) as i32;
    let highest = high.log2().floor().min(40.0) as i32;
    let mut edges = vec![0.0];
    edges.extend((lowest..=highest).map(|e| f64::from(e).exp2()));
    let mut counts = vec![0; edges.len()];
    for row in rows {
        let above = edges.partition_point(|e| *e <= row.weight);
        counts[above.saturating_sub(1)] += 1;
    }
    Histogram { edges, counts }
}

fn propensities(rows: &[Row]) -> Histogram {
    let edges = (0..BARS).map(|i| i as f64 / BARS as f64).collect();
    let mut counts = vec![0; BARS];
    for row in rows {
        counts[((row.propensity * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    Histogram { edges, counts }
}

fn running(rows: &[Row]) -> Vec<Running> {
    let every = rows.len().div_ceil(POINTS).max(1);
    let mut points = Vec::with_capacity(rows.len() / every + 1);
    let (mut logged, mut weighted, mut weight, mut dr) = (0.0, 0.0, 0.0, 0.0);
    for (i, row) in rows.iter().enumerate() {
        logged += row.reward;
        weighted += row.weight * row.reward;
        weight += row.weight;
        dr += row.direct + row.weight * (row.reward - row.expected);
        let n = i + 1;
        if n % every == 0 || n == rows.len() {
            let of = |sum: f64| sum / n as f64;
            let snips = (weight > 0.0).then(|| weighted / weight);
            points.push(Running { rows: n as u64, logged: of(logged), ips: of(weighted), snips, dr: of(dr) });
        }
    }
    points
}
