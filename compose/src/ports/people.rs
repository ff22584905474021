//! One person's data: all of it out, all of it gone.

use std::sync::Arc;

use api::{ApiError, ports::People};
use async_trait::async_trait;
use bytes::Bytes;
use features::{
    FeatureStore,
    offline::{HistoryError, OfflineStore, ScanFilter},
};
use futures::{StreamExt, stream::BoxStream};
use ingest::{Millis, log::Log};
use scorer::memory::Memory;
use stream_jobs::job::Eraser;
use tokio::sync::mpsc;

/// Everywhere a person's data is kept.
pub struct Everywhere {
    log: Arc<dyn Log>,
    features: FeatureStore,
    /// `None` where the stream job runs in another process, which then follows the log's erasures.
    eraser: Option<Eraser>,
    memory: Arc<Memory>,
}

impl Everywhere {
    /// These parts.
    pub fn new(
        log: Arc<dyn Log>,
        features: FeatureStore,
        eraser: Option<Eraser>,
        memory: Arc<Memory>,
    ) -> Everywhere {
        Everywhere { log, features, eraser, memory }
    }
}

#[async_trait]
impl People for Everywhere {
    async fn export(&self, user: &str) -> Result<BoxStream<'static, Result<Bytes, ApiError>>, ApiError> {
        let (history, user) = (self.features.history().clone(), user.to_owned());
        let (pieces, received) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let sent = rows_of(&*history, &user, |piece| pieces.blocking_send(Ok(piece)).is_ok());
            if let Err(e) = sent {
                // Whoever no longer listens needs no error.
                let _ = pieces.blocking_send(Err(ApiError::Unavailable(e.to_string())));
            }
        });
        let pieces =
            futures::stream::unfold(received, async |mut from| from.recv().await.map(|piece| (piece, from)));
        Ok(pieces.boxed())
    }

    async fn erase(&self, user: &str, _now: Millis) -> Result<Vec<(String, u64)>, ApiError> {
        // The log first: what is erased there cannot come back by a replay.
        let log = self.log.erase(user).await.map_err(|e| ApiError::Unavailable(e.to_string()))?;
        let history = match &self.eraser {
            Some(eraser) => eraser.erase(user).await.map_err(ApiError::Unavailable)?,
            None => {
                let online = self.features.online();
                online.erase(user).await.map_err(|e| ApiError::Unavailable(e.to_string()))?;
                let (history, user) = (self.features.history().clone(), user.to_owned());
                let erased = tokio::task::spawn_blocking(move || history.erase(&user)).await;
                erased
                    .map_err(|e| ApiError::Internal(format!("an erasure stopped: {e}")))?
                    .map_err(|e| ApiError::Unavailable(e.to_string()))?
            }
        };
        self.memory.erase(user);
        Ok(vec![("log".into(), log), ("history".into(), history)])
    }
}

/// Writes every row of history about a person as one JSON object a line, with the name of its table; stops
/// when `take` has enough.
pub fn rows_of(
    history: &dyn OfflineStore,
    user: &str,
    mut take: impl FnMut(Bytes) -> bool,
) -> Result<(), HistoryError> {
    let filter = ScanFilter { subjects: Some(vec![user.to_owned()]), ..ScanFilter::default() };
    for table in history.tables()? {
        for batch in history.stream(&table, &filter)? {
            let mut rows = Vec::new();
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut rows);
            writer.write(&batch?).and_then(|()| writer.finish()).map_err(|e| {
                HistoryError::Damaged(format!("rows of {table} cannot be written as JSON: {e}"))
            })?;
            let prefix = format!("{{\"table\":{},", serde_json::Value::from(table.as_str()));
            let mut piece = Vec::with_capacity(rows.len());
            for row in rows.split(|b| *b == b'\n').filter(|row| row.len() > 1) {
                piece.extend_from_slice(prefix.as_bytes());
                piece.extend_from_slice(&row[1..]);
                piece.push(b'\n');
            }
            if !take(piece.into()) {
                return Ok(());
            }
        }
    }
    Ok(())
}
