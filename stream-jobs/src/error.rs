//! What can stop a job.

use features::{FeatureError, offline::HistoryError};
use ingest::log::LogError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The log could not be read.
    #[error("stream job: {0}")]
    Log(#[from] LogError),
    /// Features could not be computed or put online.
    #[error("stream job: {0}")]
    Features(#[from] FeatureError),
    /// History did not take rows.
    #[error("stream job: {0}")]
    History(#[from] HistoryError),
    /// History is of another log than the one configured.
    #[error(
        "history has partition {partition} up to {history}, the log ends at {end}: this history was made from another \
         log, or records of the log were lost; name an empty one in history.url, or the log it belongs to"
    )]
    OtherLog {
        /// The partition.
        partition: u32,
        /// How much of it history has.
        history: u64,
        /// Where the log ends.
        end: u64,
    },
    /// The checkpoint could not be read or written.
    #[error(
        "checkpoint {file}: {reason}; if the file is damaged, move it away: the job then starts again from the log"
    )]
    Checkpoint {
        /// File of the checkpoint.
        file: String,
        /// What went wrong.
        reason: String,
    },
    /// A record of the log is not what the door writes.
    #[error("stream job: the record at {partition}:{offset} cannot be read: {reason}")]
    Record {
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Arroyo refuses what it was asked, or cannot be asked so.
    #[error("{0}")]
    Arroyo(String),
    /// Arroyo does not answer; trying again may help.
    #[error("{0}")]
    ArroyoAway(String),
    /// A golden case cannot be read or run.
    #[error("{0}")]
    Case(String),
}
