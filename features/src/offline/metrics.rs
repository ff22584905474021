//! What history tells about itself.

use std::time::Duration;

/// Rows made durable.
pub const ROWS: &str = "kairos_history_rows_total";
/// Seconds a flush took.
pub const FLUSH_SECONDS: &str = "kairos_history_flush_seconds";

/// Describes the metrics of history to the recorder in place.
pub fn describe() {
    metrics::describe_counter!(ROWS, "Rows made durable in history");
    metrics::describe_histogram!(FLUSH_SECONDS, metrics::Unit::Seconds, "Time a flush of history took");
}

pub(super) fn flushed(rows: u64, took: Duration) {
    metrics::counter!(ROWS).increment(rows);
    metrics::histogram!(FLUSH_SECONDS).record(took.as_secs_f64());
}
