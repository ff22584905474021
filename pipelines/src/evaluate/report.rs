//! The evaluation as a person reads it.

use std::fmt;

use ingest::Millis;

use super::{Evaluation, Interval};

/// An estimate that rests on fewer effective decisions than this is told apart.
const FEW: f64 = 100.0;
/// A mean weight this many standard errors from the support it should equal speaks of wrong probabilities.
const FAR: f64 = 4.0;

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (Some(from), Some(to)) => {
                writeln!(f, "{} decisions, shown {} to {}", self.decisions, instant(from), instant(to))?;
            }
            _ => writeln!(f, "no decision is settled yet whose window is over")?,
        }
        let l = &self.left_out;
        writeln!(
            f,
            "left out: {} fresh, {} without a reward, {} rewards without their impression, {} unusable",
            l.fresh, l.unsettled, l.orphaned, l.unusable
        )?;
        if self.estimates.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<14} {:<10} {:>9} {:>7}  {:>7} {:<16} {:<16}  {:>7} {:<16}  {:>9} {:>8} {:>8} {:>8}",
            "target",
            "logged by",
            "decisions",
            "people",
            "SNIPS",
            "95 % by people",
            "by decisions",
            "IPS",
            "95 % by people",
            "effective",
            "largest",
            "mean w",
            "support"
        )?;
        for e in &self.estimates {
            let snips = e.snips.map_or_else(|| "none".to_owned(), |s| format!("{:.4}", s.value));
            writeln!(
                f,
                "{:<14} {:<10} {:>9} {:>7}  {snips:>7} {:<16} {:<16}  {:>7.4} {:<16}  {:>9.1} {:>8.2} {:>8.3} {:>8.3}",
                e.target,
                e.logged_by,
                e.decisions,
                e.people,
                span(e.snips.and_then(|s| s.bootstrap)),
                span(e.snips.and_then(|s| s.normal)),
                e.ips.value,
                span(e.ips.bootstrap),
                e.effective_decisions,
                e.largest_weight,
                e.mean_weight,
                e.support
            )?;
        }
        for e in &self.estimates {
            let who = format!("{} by {}", e.target, e.logged_by);
            if e.unsupported > 0 {
                writeln!(f, "! {who}: in {} decisions it could choose what was never shown", e.unsupported)?;
            }
            if e.unanswered > 0 {
                writeln!(f, "! {who}: no distribution over the candidates in {} decisions", e.unanswered)?;
            }
            if e.effective_decisions < FEW {
                writeln!(f, "! {who}: it rests on few decisions; wait for more before trusting it")?;
            }
            if e.mean_weight_error > 0.0 && (e.mean_weight - e.support).abs() > FAR * e.mean_weight_error {
                writeln!(
                    f,
                    "! {who}: the mean weight is far from {:.3}; the logged probabilities may be wrong",
                    e.support
                )?;
            }
        }
        Ok(())
    }
}

fn span(interval: Option<Interval>) -> String {
    interval.map_or_else(|| "none".to_owned(), |i| format!("{:.4} to {:.4}", i.low, i.high))
}

fn instant(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
}
