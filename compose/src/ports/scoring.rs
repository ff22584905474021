//! What the scorer stands on: features, and the door.

use std::sync::Arc;

use async_trait::async_trait;
use features::{FeatureRow, FeatureStore, Prepared};
use ingest::{Millis, admit::Door, record::Record};
use scorer::{
    ScorerError,
    decide::{FeatureSource, Sink},
};

/// The features of a context, resolved once.
pub struct ContextFeatures {
    store: FeatureStore,
    prepared: Prepared,
}

impl ContextFeatures {
    /// Resolves the names.
    pub fn new(store: FeatureStore, names: &[String]) -> Result<ContextFeatures, features::FeatureError> {
        let prepared = store.registry().prepare(names)?;
        Ok(ContextFeatures { store, prepared })
    }
}

#[async_trait]
impl FeatureSource for ContextFeatures {
    async fn read(&self, user: &str, now: Millis) -> Result<FeatureRow, ScorerError> {
        let row = self.store.read_one(&self.prepared, user, now).await;
        row.map_err(|e| ScorerError::Unavailable(e.to_string()))
    }
}

/// Impressions and reactions enter the log by the same door as any signal.
pub struct ThroughDoor(pub Arc<Door>);

#[async_trait]
impl Sink for ThroughDoor {
    fn append_later(&self, record: Record) {
        // The door reports a failure itself; nobody waits for this.
        drop(self.0.admit_records_later(vec![record]));
    }

    async fn append(&self, record: Record) -> Result<bool, ScorerError> {
        let admission =
            self.0.admit_records(vec![record]).await.map_err(|e| ScorerError::Unavailable(e.to_string()))?;
        match admission.rejected.into_iter().next() {
            Some(refusal) => Err(ScorerError::Invalid(refusal.message)),
            None => Ok(admission.accepted == 1),
        }
    }
}
