//! What stands on `/metrics` about the quality of features. Labels are views and features, which the
//! definitions bound.

use std::sync::Arc;

use ingest::Millis;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::{Quality, recent::Waits};

/// From arrival at the door to a readable value, by view, in seconds.
pub const FRESHNESS: &str = "kairos_view_freshness_seconds";
/// The freshness objective of each view that declares one, in seconds.
pub const OBJECTIVE: &str = "kairos_view_freshness_objective_seconds";
/// How long the slowest signal in a hundred takes, those that still wait included, by the objective.
pub const RATIO: &str = "kairos_view_freshness_ratio";
/// Signals that took longer than their view's objective, by view.
pub const BROKEN: &str = "kairos_view_freshness_broken_total";
/// Time since the newest signal applied happened, by view, in seconds.
pub const WATERMARK_LAG: &str = "kairos_view_watermark_lag_seconds";
/// Share of NULLs among the values written on the newest day, by view and feature.
pub const NULLS: &str = "kairos_feature_null_ratio";
/// Population stability index of the newest day's values against the week before, by view and feature.
pub const DRIFT: &str = "kairos_feature_drift_psi";

/// Describes all of them to the recorder.
pub fn describe() {
    describe_histogram!(FRESHNESS, Unit::Seconds, "From arrival at the door to a readable value, by view");
    describe_gauge!(OBJECTIVE, Unit::Seconds, "Freshness objective, by view");
    describe_gauge!(
        RATIO,
        "Freshness at the 99th percentile by its objective; above 1 the objective is broken"
    );
    describe_counter!(BROKEN, Unit::Count, "Signals that took longer than their view's freshness objective");
    describe_gauge!(WATERMARK_LAG, Unit::Seconds, "Time since the newest signal applied happened, by view");
    describe_gauge!(NULLS, "Share of NULLs among the values written on the newest day");
    describe_gauge!(DRIFT, "Population stability index of the newest day's values against the week before");
}

pub(super) fn waited(view: &Arc<str>, waits: &Waits) {
    let histogram = histogram!(FRESHNESS, "view" => view.clone());
    for (ms, count) in waits.iter() {
        histogram.record_many(ms as f64 / 1e3, count as usize);
    }
}

impl Quality {
    /// Puts the answers of `now` on `/metrics`; `waiting` is how long the oldest signal that is not applied
    /// yet has waited, so that a job that hangs is seen as well.
    pub fn export(&self, now: Millis, waiting: Millis) {
        for of in &self.views {
            let view = || of.view.name.clone();
            let Some(report) = self.report(&of.view, now) else { continue };
            if let Some(objective) = report.freshness.objective_ms {
                let slowest = report.freshness.p99_ms.unwrap_or(0).max(waiting);
                gauge!(OBJECTIVE, "view" => view()).set(objective as f64 / 1e3);
                gauge!(RATIO, "view" => view()).set(slowest as f64 / objective as f64);
                counter!(BROKEN, "view" => view()).absolute(of.state.lock().broken);
            }
            if let Some(newest) = report.watermark {
                gauge!(WATERMARK_LAG, "view" => view()).set((now - newest) as f64 / 1e3);
            }
            for (name, feature) in of.view.feature_names().zip(&report.features) {
                if let Some(rate) = feature.null_rate {
                    gauge!(NULLS, "view" => view(), "feature" => name.clone()).set(rate);
                }
                if let Some(drift) = feature.drift {
                    gauge!(DRIFT, "view" => view(), "feature" => name).set(drift);
                }
            }
        }
    }
}
