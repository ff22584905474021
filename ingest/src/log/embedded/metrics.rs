//! Figures the log reports about itself.

use std::time::Duration;

use metrics::{counter, histogram};

use crate::log::{Appended, LogError, Topic};

/// Records made durable, by topic.
pub const RECORDS: &str = "kairos_log_records_total";
/// Records whose key was there already, by topic.
pub const DUPLICATES: &str = "kairos_log_duplicates_total";
/// Group commits that failed, by topic.
pub const FAILURES: &str = "kairos_log_failed_commits_total";
/// Seconds a group commit took from its start to stable storage, by topic.
pub const COMMIT_SECONDS: &str = "kairos_log_commit_seconds";

pub(super) fn committed(topic: Topic, took: Duration, outcome: &Result<Vec<Vec<Appended>>, LogError>) {
    let topic = topic.name();
    match outcome {
        Ok(answers) => {
            let all = answers.iter().map(Vec::len).sum::<usize>();
            let new = answers.iter().flatten().filter(|a| **a != Appended::Duplicate).count();
            counter!(RECORDS, "topic" => topic).increment(new as u64);
            counter!(DUPLICATES, "topic" => topic).increment((all - new) as u64);
            histogram!(COMMIT_SECONDS, "topic" => topic).record(took.as_secs_f64());
        }
        Err(_) => counter!(FAILURES, "topic" => topic).increment(1),
    }
}
