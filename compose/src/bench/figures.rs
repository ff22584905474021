//! Figures: latencies, and a table of what was measured beside its reference.

use std::{fmt, time::Duration};

use serde::Serialize;

/// Latencies of one run, every one kept.
#[derive(Debug, Default, Clone)]
pub struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: Latencies) {
        self.micros.extend(other.micros);
    }

    /// The latency that a share of all stay below, nearest rank; nothing of nothing.
    pub fn quantile(&mut self, share: f64) -> Option<Duration> {
        let rank = (share * self.micros.len() as f64).ceil() as usize;
        let index = rank.clamp(1, self.micros.len().max(1)) - 1;
        if self.micros.is_empty() {
            return None;
        }
        let (_, found, _) = self.micros.select_nth_unstable(index);
        Some(Duration::from_micros(u64::from(*found)))
    }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it is held against.
    pub reference: Option<Reference>,
    /// The bound to hold, as the design states it.
    pub to_hold: Option<Bound>,
}

/// The same thing done by the reference, in the same run.
#[derive(Debug, Clone, Serialize)]
pub struct Reference {
    /// What the reference is.
    pub what: &'static str,
    /// Its value, in the same unit.
    pub value: f64,
}

/// A bound on the figure, or on its ratio to the reference where there is one.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Figure {
    /// A figure that stands alone.
    pub fn alone(what: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { what: what.into(), value, unit, reference: None, to_hold: None }
    }

    /// With the bound it must keep.
    pub fn hold(mut self, bound: Bound) -> Figure {
        self.to_hold = Some(bound);
        self
    }

    /// With the reference's value.
    pub fn beside(mut self, what: &'static str, value: f64) -> Figure {
        self.reference = Some(Reference { what, value });
        self
    }

    /// Value over reference.
    pub fn ratio(&self) -> Option<f64> {
        self.reference.as_ref().map(|r| self.value / r.value.max(1e-12))
    }

    /// Whether the bound is kept, where there is one.
    pub fn holds(&self) -> Option<bool> {
        let judged = self.ratio().unwrap_or(self.value);
        self.to_hold.map(|bound| match bound {
            Bound::AtLeast(least) => judged >= least,
            Bound::AtMost(most) => judged <= most,
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |x: f64| if x >= 100.0 { format!("{x:.0}") } else { format!("{x:.2}") };
        write!(f, "{:<44} {:>12} {:<10}", self.what, number(self.value), self.unit)?;
        if let (Some(reference), Some(ratio)) = (&self.reference, self.ratio()) {
            write!(f, " {ratio:>6.2} of {} ({})", reference.what, number(reference.value))?;
        }
        match (self.to_hold, self.holds()) {
            (Some(Bound::AtLeast(b)), Some(kept)) => {
                write!(f, "  [at least {}: {}]", number(b), verdict(kept))
            }
            (Some(Bound::AtMost(b)), Some(kept)) => write!(f, "  [at most {}: {}]", number(b), verdict(kept)),
            _ => Ok(()),
        }
    }
}

fn verdict(kept: bool) -> &'static str {
    if kept { "holds" } else { "DOES NOT HOLD" }
}

/// The middle one of several runs by their rate; runs alternate with the reference's so that both see the
/// same machine.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let mut l = Latencies::default();
        assert_eq!(l.quantile(0.5), None);
        (1..=100).rev().for_each(|n| l.add(Duration::from_micros(n)));
        assert_eq!(l.quantile(0.5), Some(Duration::from_micros(50)));
        assert_eq!(l.quantile(0.99), Some(Duration::from_micros(99)));
        assert_eq!(l.quantile(1.0), Some(Duration::from_micros(100)));
        assert_eq!(l.quantile(0.0), Some(Duration::from_micros(1)));
    }

    #[test]
    fn a_bound_is_on_the_ratio_where_there_is_a_reference() {
        let f = Figure::alone("x", 60.0, "1/s").beside("bare", 100.0).hold(Bound::AtLeast(0.6));
        assert_eq!(f.holds(), Some(true));
        let f = Figure::alone("x", 25.0, "ms").hold(Bound::AtMost(20.0));
        assert_eq!(f.holds(), Some(false));
        assert!(f.to_string().contains("DOES NOT HOLD"));
    }
}
