//! Follows erasures that another process wrote to the log: whoever keeps something derived from signals takes the
//! person out of it.

use std::{sync::Arc, time::Duration};

use features::FeatureStore;
use ingest::log::{Log, LogError, Position, Topic};
use scorer::memory::Memory;
use stream_jobs::job::Eraser;
use tokio_util::sync::CancellationToken;

/// Erasures read at once.
const BATCH: usize = 64;
/// Pause before an erasure that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What this process keeps.
pub struct Kept {
    /// The log, which other processes erase from too.
    pub log: Arc<dyn Log>,
    /// The stream job's state, with the rows and the history it writes, and the name of this job among others.
    pub job: Option<(Eraser, String)>,
    /// Rows read lately.
    pub features: FeatureStore,
    /// What was shown.
    pub memory: Option<Arc<Memory>>,
}

impl Kept {
    /// Follows until `stop`. What a job keeps outlives the process, so it goes on where it was; what is only in
    /// memory was made from a log without those erased before.
    ///
    /// # Errors
    /// What only a person can mend; while a part is merely away it keeps trying.
    pub async fn follow(self, stop: CancellationToken) -> Result<(), LogError> {
        let consumer = self.job.as_ref().map(|(_, name)| format!("erasures-{name}"));
        let from = match &consumer {
            Some(consumer) => self.log.committed(consumer, Topic::Erasures)?,
            None => self.log.end(Topic::Erasures),
        };
        let mut reader = self.log.reader(Topic::Erasures, &[0], &from)?;
        let mut position: Position = from;
        while let Some(records) = stop.run_until_cancelled(reader.next(BATCH)).await {
            for record in records? {
                if stop.run_until_cancelled(self.erase(&record.subject)).await.is_none() {
                    return Ok(());
                }
                position.advance(record.partition, record.offset);
            }
            if let Some(consumer) = &consumer
                && let Err(e) = self.log.commit(consumer, Topic::Erasures, &position).await
            {
                // After a restart they are done again, which changes nothing.
                tracing::warn!(error = %e, "how far erasures were followed was not noted");
            }
        }
        Ok(())
    }

    async fn erase(&self, subject: &str) {
        if let Some(memory) = &self.memory {
            memory.erase(subject);
        }
        self.features.online().forget(subject);
        let Some((eraser, _)) = &self.job else { return };
        while let Err(why) = eraser.erase(subject).await {
            tracing::warn!(why, "an erasure is tried again");
            tokio::time::sleep(RETRY).await;
        }
    }
}
