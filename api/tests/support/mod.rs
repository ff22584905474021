//! Parts that follow a script, behind the real router.

#![allow(dead_code, reason = "each test binary uses its share")]

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use api::{
    ApiError, AppState, Limits,
    observe::RequestIds,
    ports::{
        Ask, FeatureInfo, FeatureReads, FreshnessInfo, Health, Instant, PartHealth, People, Policies,
        Reaction, Recommendation, Recommends, Recorded, TipText, ViewInfo, Wanted,
    },
};
use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use features::{
    Columns, FeatureTable,
    value::{FeatureRow, Value, ValueType},
};
use futures::{StreamExt, stream, stream::BoxStream};
use ingest::{
    Millis,
    admit::{Door, DoorOptions},
    auth::{Gate, GateOptions, Keys},
    catalogue::Catalogue,
    http::{HttpOptions, IngestState},
    log::{LogOptions, Position},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use utoipa_axum::router::OpenApiRouter;

/// What the scripted parts do next, and what they were told.
#[derive(Default)]
pub struct Script {
    /// Answers of `recommend`, in order; when they run out, silence.
    pub tips: Mutex<VecDeque<Result<Option<Recommendation>, ApiError>>>,
    /// Who was asked for.
    pub asked: Mutex<Vec<Ask>>,
    /// Reactions by impression.
    pub reactions: Mutex<Vec<(String, Reaction)>>,
    /// How far reads have come.
    pub applied: Mutex<Position>,
    /// Completed tasks by person.
    pub completed: Mutex<BTreeMap<String, i64>>,
    /// Parts that are not ready.
    pub broken: Mutex<Vec<String>>,
    now: AtomicI64,
}

impl Script {
    pub fn new() -> Arc<Script> {
        let script = Script::default();
        script.now.store(1_750_000_000_000, Ordering::Relaxed);
        Arc::new(script)
    }

    pub fn tip(&self, tip: Recommendation) {
        self.tips.lock().unwrap().push_back(Ok(Some(tip)));
    }

    pub fn fail(&self, error: ApiError) {
        self.tips.lock().unwrap().push_back(Err(error));
    }

    pub fn reactions(&self) -> Vec<(String, Reaction)> {
        self.reactions.lock().unwrap().clone()
    }

    pub fn state(self: &Arc<Self>) -> AppState {
        let clock = self.clone();
        AppState {
            features: self.clone(),
            recommends: self.clone(),
            policies: self.clone(),
            people: self.clone(),
            health: self.clone(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            clock: Arc::new(move || clock.now.load(Ordering::Relaxed)),
            request_ids: Arc::new(RequestIds::new(1)),
            limits: Limits { wait: Duration::from_millis(40), ..Limits::default() },
        }
    }

    /// The routes of this crate alone.
    pub fn router(self: &Arc<Self>, keys: Keys) -> Router {
        let gate = Gate::new(keys, GateOptions::default());
        api::router(self.state(), &gate, OpenApiRouter::new())
    }

    /// All routes, those of ingestion with a real door and a real log in `dir`.
    pub fn whole_router(self: &Arc<Self>, keys: Keys, dir: &Path) -> Router {
        let gate = Gate::new(keys, GateOptions::default());
        let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
        let log = ingest::log::open("embedded:", dir, LogOptions::default()).unwrap();
        let door = Arc::new(Door::new(catalogue, log, DoorOptions::default()));
        let state = self.state();
        let ingestion = IngestState::new(door, gate.clone(), state.clock.clone(), HttpOptions::default());
        api::router(state, &gate, ingest::http::router(ingestion))
    }
}

/// A tip with its words, as a catalogue would give it.
pub fn tip(impression: &str, title: &str, body: &str, action: &str, why: &str) -> Recommendation {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Recommendation {
        tip: TipText {
            id: format!("tip-{impression}"),
            title: title.to_owned(),
            body: body.to_owned(),
            action: some(action),
            why: some(why),
        },
        impression: impression.to_owned(),
        policy: "linucb-1".to_owned(),
        propensity: 0.25,
        stale: false,
    }
}

const FEATURE: &str = "task_activity.completed_24h";

#[async_trait]
impl FeatureReads for Script {
    fn views(&self, now: Millis) -> Vec<ViewInfo> {
        let feature = FeatureInfo {
            name: FEATURE.to_owned(),
            kind: ValueType::Int,
            empty: Value::Int(0),
            null_rate: Some(0.0),
            drift: None,
        };
        vec![ViewInfo {
            view: "task_activity".to_owned(),
            description: "Tasks finished lately".to_owned(),
            entity: "user_id".to_owned(),
            table: "task_completed".to_owned(),
            version: "0".to_owned(),
            current: true,
            owner: None,
            freshness_ms: None,
            freshness: FreshnessInfo::default(),
            late: 0,
            watermark: Some(Value::Time(now)),
            lateness_ms: 0,
            windows: vec!["24h".to_owned()],
            features: vec![feature],
        }]
    }

    async fn read(
        &self,
        wanted: &Wanted,
        entities: Vec<String>,
        at: Instant,
        _request: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<FeatureTable, ApiError> {
        let (columns, _) = self.empty(wanted)?;
        let (Instant::Now(as_of) | Instant::AsOf(as_of)) = at;
        let completed = self.completed.lock().unwrap();
        let width = columns.names.len();
        let row = |entity: &String| {
            let count = completed.get(entity).copied();
            FeatureRow {
                entity: entity.clone(),
                values: vec![Value::Int(count.unwrap_or(0)); width],
                age_ms: vec![count.map(|_| 1000); width],
                as_of,
                parts: Vec::new(),
                stale: entity == "stale",
            }
        };
        let rows = entities.iter().map(row).collect();
        let position = self.applied.lock().unwrap().clone();
        Ok(FeatureTable::from_rows(columns.clone(), rows, as_of, position))
    }

    fn empty(&self, wanted: &Wanted) -> Result<(Arc<Columns>, Vec<Value>), ApiError> {
        let (Wanted::Features(names) | Wanted::Views(names)) = wanted;
        if let Some(name) = names.iter().find(|n| !FEATURE.starts_with(n.as_str())) {
            return Err(ApiError::Invalid(format!("there is no feature `{name}`")));
        }
        let (count, names) = (names.len(), names.iter().map(|_| FEATURE.into()).collect());
        let views = vec![("task_activity".into(), "0".into())];
        let columns = Columns::new(names, vec![arrow::datatypes::DataType::Int64; count], views);
        Ok((Arc::new(columns), vec![Value::Int(0); count]))
    }

    async fn wait_for(&self, position: &Position, timeout: Duration) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + timeout;
        while !self.applied.lock().unwrap().covers(position) {
            if tokio::time::Instant::now() >= deadline {
                return Err(ApiError::Late(format!("the position {position} was not applied in time")));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Recommends for Script {
    async fn recommend(&self, ask: Ask, _: Millis) -> Result<Option<Recommendation>, ApiError> {
        self.asked.lock().unwrap().push(ask);
        self.tips.lock().unwrap().pop_front().unwrap_or(Ok(None))
    }

    async fn feedback(
        &self,
        impression: &str,
        reaction: Reaction,
        _: Option<Millis>,
        _: Millis,
    ) -> Result<Recorded, ApiError> {
        if impression.starts_with("unknown") {
            return Err(ApiError::NotFound(format!("there is no impression `{impression}`")));
        }
        let told = (impression.to_owned(), reaction);
        let mut reactions = self.reactions.lock().unwrap();
        if reactions.contains(&told) {
            return Ok(Recorded::Again);
        }
        reactions.push(told);
        Ok(Recorded::New)
    }

    async fn explain(&self, impression: &str) -> Result<serde_json::Value, ApiError> {
        if impression == "panic" {
            panic!("a handler that panics");
        }
        Err(ApiError::NotFound(format!("there is no impression `{impression}`")))
    }
}

#[async_trait]
impl Policies for Script {
    async fn list(&self) -> Result<serde_json::Value, ApiError> {
        Ok(serde_json::json!({"snapshots": [], "changes": []}))
    }

    async fn promote(&self, by: &str, dry_run: bool) -> Result<serde_json::Value, ApiError> {
        Ok(serde_json::json!({"promoted": !dry_run, "by": by}))
    }

    async fn rollback(&self, by: &str, version: Option<u64>) -> Result<serde_json::Value, ApiError> {
        match version {
            Some(0) => Err(ApiError::Invalid("there is no version 0".into())),
            _ => Ok(serde_json::json!({"by": by, "version": version})),
        }
    }

    async fn register(&self, file: &str) -> Result<(), ApiError> {
        match file {
            "known" => Ok(()),
            _ => Err(ApiError::Invalid(format!("`{file}` is not there"))),
        }
    }
}

#[async_trait]
impl People for Script {
    async fn export(&self, user: &str) -> Result<BoxStream<'static, Result<Bytes, ApiError>>, ApiError> {
        let completed = self.completed.lock().unwrap().get(user).copied();
        let line = completed.map(|n| Ok(Bytes::from(format!("{{\"user\":\"{user}\",\"completed\":{n}}}\n"))));
        Ok(stream::iter(line).boxed())
    }

    async fn erase(&self, user: &str, _: Millis) -> Result<Vec<(String, u64)>, ApiError> {
        let gone = self.completed.lock().unwrap().remove(user).is_some();
        Ok(vec![("log".to_owned(), u64::from(gone))])
    }
}

impl Health for Script {
    fn parts(&self) -> Vec<PartHealth> {
        let broken = self.broken.lock().unwrap();
        let part = |name: &str| PartHealth {
            part: name.to_owned(),
            ready: !broken.iter().any(|b| b == name),
            detail: "scripted".to_owned(),
        };
        vec![part("log"), part("features")]
    }
}
