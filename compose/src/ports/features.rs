//! Feature reads for the routes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    ApiError,
    ports::{FeatureInfo, FeatureReads, FreshnessInfo, Instant, ViewInfo, Wanted},
};
use async_trait::async_trait;
use features::{Columns, FeatureStore, FeatureTable, Prepared, Value};
use ingest::{Millis, log::Position};
use serde_json::Map;

/// Sets of names kept resolved; a program asks for few.
const KEPT: usize = 1_024;

/// Reads of one store, with names resolved once.
pub struct Reads {
    store: FeatureStore,
    prepared: Mutex<HashMap<Wanted, Arc<Prepared>>>,
}

impl Reads {
    /// Reads of this store.
    pub fn new(store: FeatureStore) -> Reads {
        Reads { store, prepared: Mutex::default() }
    }

    fn prepare(&self, wanted: &Wanted) -> Result<Arc<Prepared>, ApiError> {
        let known = || self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(wanted) {
            return Ok(found.clone());
        }
        let registry = self.store.registry();
        let prepared = match wanted {
            Wanted::Features(names) => registry.prepare(names),
            Wanted::Views(views) => registry.prepare_views(views),
        };
        let prepared = Arc::new(prepared.map_err(ApiError::from)?);
        let mut known = known();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(wanted.clone(), prepared.clone());
        Ok(prepared)
    }
}

#[async_trait]
impl FeatureReads for Reads {
    fn views(&self, now: Millis) -> Vec<ViewInfo> {
        let registry = self.store.registry();
        let of_view = |v: features::registry::ViewDescription| {
            let view = registry.view(&v.view).filter(|_| v.current);
            let seen = view.and_then(|view| self.store.quality().report(view, now));
            let (freshness, late, watermark, each) = match seen {
                Some(q) => (q.freshness, q.late, q.watermark, q.features),
                None => Default::default(),
            };
            let mut each = each.into_iter();
            let feature = |f: features::registry::FeatureDescription| {
                let seen = each.next().unwrap_or_default();
                FeatureInfo {
                    name: f.name,
                    kind: f.kind,
                    empty: f.empty,
                    null_rate: seen.null_rate,
                    drift: seen.drift,
                }
            };
            ViewInfo {
                features: v.features.into_iter().map(feature).collect(),
                view: v.view,
                description: v.description,
                entity: v.entity,
                table: v.table,
                version: v.version,
                current: v.current,
                owner: v.owner,
                freshness_ms: v.freshness_ms,
                freshness: FreshnessInfo {
                    objective_ms: v.freshness_ms,
                    p50_ms: freshness.p50_ms,
                    p99_ms: freshness.p99_ms,
                },
                late,
                watermark: watermark.map(Value::Time),
                lateness_ms: v.lateness_ms,
                windows: v.windows,
            }
        };
        registry.describe().into_iter().map(of_view).collect()
    }

    async fn read(
        &self,
        wanted: &Wanted,
        entities: Vec<String>,
        at: Instant,
        request: &Map<String, serde_json::Value>,
    ) -> Result<FeatureTable, ApiError> {
        let mut prepared = self.prepare(wanted)?;
        if !request.is_empty() {
            prepared = Arc::new(prepared.with_request(request)?);
        }
        let table = match at {
            Instant::Now(now) => self.store.read_table(&prepared, entities, now).await,
            Instant::AsOf(instant) => {
                // History lies on disk.
                let store = self.store.clone();
                tokio::task::spawn_blocking(move || {
                    let position = store.applied().position();
                    let rows = store.read_as_of(&prepared, &entities, instant)?;
                    Ok(FeatureTable::from_rows(prepared.columns.clone(), rows, instant, position))
                })
                .await
                .map_err(|e| ApiError::Internal(format!("a read of history stopped: {e}")))?
            }
        };
        table.map_err(ApiError::from)
    }

    fn empty(&self, wanted: &Wanted) -> Result<(Arc<Columns>, Vec<Value>), ApiError> {
        let prepared = self.prepare(wanted)?;
        Ok((prepared.columns.clone(), prepared.empty.clone()))
    }

    async fn wait_for(&self, position: &Position, timeout: Duration) -> Result<(), ApiError> {
        self.store.wait_for(position, timeout).await.map_err(ApiError::from)
    }
}
