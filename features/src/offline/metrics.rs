//! What history tells about itself.

use std::time::Duration;

/// Rows made durable.
pub const ROWS: &str = "kairos_history_rows_total";
/// Seconds a flush took.
pub const FLUSH_SECONDS: &str = "kairos_history_flush_seconds";
/// Rows taken by the server that holds history.
pub const SHIPPED_ROWS: &str = "kairos_history_shipped_rows_total";
/// Seconds it took to send rows.
pub const SHIP_SECONDS: &str = "kairos_history_ship_seconds";
/// Attempts to send rows that failed.
pub const SHIP_FAILURES: &str = "kairos_history_ship_failures_total";
/// Bytes that wait on local disk.
pub const SPOOLED_BYTES: &str = "kairos_history_spooled_bytes";
/// Seconds the oldest of them has waited.
pub const SPOOLED_SECONDS: &str = "kairos_history_spooled_seconds";

/// Describes the metrics of history to the recorder in place.
pub fn describe() {
    metrics::describe_counter!(ROWS, "Rows made durable in history");
    metrics::describe_histogram!(FLUSH_SECONDS, metrics::Unit::Seconds, "Time a flush of history took");
    metrics::describe_counter!(SHIPPED_ROWS, "Rows of history that its server has taken");
    metrics::describe_histogram!(
        SHIP_SECONDS,
        metrics::Unit::Seconds,
        "Time it took to send rows to that server"
    );
    metrics::describe_counter!(SHIP_FAILURES, "Attempts to send rows to that server that failed");
    metrics::describe_gauge!(SPOOLED_BYTES, metrics::Unit::Bytes, "Bytes of history that wait on local disk");
    metrics::describe_gauge!(
        SPOOLED_SECONDS,
        metrics::Unit::Seconds,
        "How long the oldest of them has waited"
    );
}

pub(super) fn flushed(rows: u64, took: Duration) {
    metrics::counter!(ROWS).increment(rows);
    metrics::histogram!(FLUSH_SECONDS).record(took.as_secs_f64());
}
