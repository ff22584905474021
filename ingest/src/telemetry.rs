//! Names of the metrics of this crate.

use metrics::{Unit, describe_counter, describe_histogram};

/// Signals made durable.
pub const SIGNALS_ACCEPTED: &str = "kairos_ingest_signals_accepted_total";
/// Signals that were there already.
pub const SIGNALS_DUPLICATE: &str = "kairos_ingest_signals_duplicate_total";
/// Signals turned away, by `reason`.
pub const SIGNALS_REJECTED: &str = "kairos_ingest_signals_rejected_total";
/// Signals whose time was ahead of their arrival and was set back to it.
pub const FUTURE_CLAMPED: &str = "kairos_ingest_future_clamped_total";
/// Signals in one call of the door.
pub const BATCH_SIGNALS: &str = "kairos_ingest_batch_signals";
/// Seconds from the call of the door to the durable append.
pub const ADMIT_SECONDS: &str = "kairos_ingest_admit_seconds";
/// Calls whose append the log did not take.
pub const LOG_FAILURES: &str = "kairos_ingest_log_failures_total";
/// HTTP requests turned away before anything was looked at, by `code`.
pub const HTTP_REFUSED: &str = "kairos_http_refused_total";

/// Describes these metrics to the installed recorder.
pub fn describe() {
    describe_counter!(SIGNALS_ACCEPTED, Unit::Count, "Signals made durable");
    describe_counter!(SIGNALS_DUPLICATE, Unit::Count, "Signals that were there already");
    describe_counter!(SIGNALS_REJECTED, Unit::Count, "Signals turned away, by reason");
    describe_counter!(
        FUTURE_CLAMPED,
        Unit::Count,
        "Signals from the future whose time was set to their arrival"
    );
    describe_histogram!(BATCH_SIGNALS, Unit::Count, "Signals in one call of the door");
    describe_histogram!(ADMIT_SECONDS, Unit::Seconds, "From the call of the door to the durable append");
    describe_counter!(LOG_FAILURES, Unit::Count, "Calls whose append the log did not take");
    describe_counter!(HTTP_REFUSED, Unit::Count, "HTTP requests turned away at the gate, by code");
}
