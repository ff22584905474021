//! What user functions tell about themselves.

/// Values that are NULL because a user function panicked, by function.
pub const PANICS: &str = "kairos_udf_panics_total";

/// Describes the metrics of user functions to the recorder in place.
pub fn describe() {
    metrics::describe_counter!(PANICS, "Values that are NULL because a user function panicked");
}

/// From zero, so that the first panic shows as an increase.
pub(super) fn loaded(function: &str) {
    metrics::counter!(PANICS, "function" => function.to_owned()).increment(0);
}

pub(super) fn panicked(function: &str) {
    metrics::counter!(PANICS, "function" => function.to_owned()).increment(1);
}
