//! Figures the log reports about itself; those that every log has are named in `embedded`.

use std::time::Duration;

use metrics::{counter, histogram};

use crate::log::{
    Appended, LogError, Topic,
    embedded::metrics::{COMMIT_SECONDS, DUPLICATES, FAILURES, RECORDS},
};

/// Objects on the log that were no records, by topic.
pub const SKIPPED: &str = "kairos_log_skipped_total";
/// Second copies that readers left out, by topic.
pub const COPIES: &str = "kairos_log_copies_total";

pub(super) fn skipped(topic: &str) {
    counter!(SKIPPED, "topic" => topic.to_owned()).increment(1);
}

pub(super) fn copy(topic: Topic) {
    counter!(COPIES, "topic" => topic.name()).increment(1);
}

/// A group was answered.
pub(super) fn answered(topic: Topic, took: Duration, answers: &[Result<Vec<Appended>, LogError>]) {
    let topic = topic.name();
    let good = || answers.iter().flatten().flatten();
    let repeats = good().filter(|a| **a == Appended::Duplicate).count();
    counter!(RECORDS, "topic" => topic).increment((good().count() - repeats) as u64);
    counter!(DUPLICATES, "topic" => topic).increment(repeats as u64);
    histogram!(COMMIT_SECONDS, "topic" => topic).record(took.as_secs_f64());
    if answers.iter().any(Result::is_err) {
        counter!(FAILURES, "topic" => topic).increment(1);
    }
}
