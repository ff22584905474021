//! Waiting between attempts, and telling of an outage once.

use std::{fmt::Display, time::Duration};

const LEAST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(2);

/// Doubles the pause after each failure.
pub struct Backoff {
    what: String,
    next: Duration,
    failed: bool,
}

impl Backoff {
    /// `what` is tried, for the log lines.
    pub fn new(what: impl Into<String>) -> Backoff {
        Backoff { what: what.into(), next: LEAST, failed: false }
    }

    /// Waits after a failure; the first one is told.
    pub async fn pause(&mut self, why: &impl Display) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(what = %self.what, %why, "Fluvio does not answer; trying again until it does");
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(MOST);
    }

    /// It worked.
    pub fn reset(&mut self) {
        if std::mem::take(&mut self.failed) {
            tracing::info!(what = %self.what, "Fluvio answers again");
        }
        self.next = LEAST;
    }
}
