//! What the router is handed.

use std::{sync::Arc, time::Duration};

use axum::extract::FromRef;
use ingest::Clock;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    observe::RequestIds,
    ports::{FeatureReads, Health, People, Policies, Recommends},
};

/// Everything the routes talk to. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Feature values and the registry.
    pub features: Arc<dyn FeatureReads>,
    /// Tips, reactions, explanations.
    pub recommends: Arc<dyn Recommends>,
    /// Which policy chooses.
    pub policies: Arc<dyn Policies>,
    /// What is kept about a person.
    pub people: Arc<dyn People>,
    /// The state of each part of this process.
    pub health: Arc<dyn Health>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// The time.
    pub clock: Clock,
    /// Ids for requests that come without one.
    pub request_ids: Arc<RequestIds>,
    /// Limits on size and time.
    pub limits: Limits,
}

/// What every process answers, whichever its roles: how it is.
#[derive(Clone)]
pub struct Service {
    /// The state of each part of this process.
    pub health: Arc<dyn Health>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Ids for requests that come without one.
    pub request_ids: Arc<RequestIds>,
    /// How long an answer may take to begin.
    pub answer_time: Duration,
}

impl FromRef<AppState> for Service {
    fn from_ref(state: &AppState) -> Service {
        Service {
            health: state.health.clone(),
            metrics: state.metrics.clone(),
            request_ids: state.request_ids.clone(),
            answer_time: state.limits.answer_time,
        }
    }
}

/// Limits on size and time of a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes a JSON body may have. `POST /v1/signals` has its own.
    pub body: usize,
    /// How long the body may take to arrive.
    pub body_time: Duration,
    /// How long an answer may take to begin.
    pub answer_time: Duration,
    /// How long a feature read waits for `after` when the caller sets no deadline.
    pub wait: Duration,
    /// Values (entities times features) one read may ask for.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 1 << 20,
            body_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(30),
            wait: Duration::from_secs(5),
            values: 1_000_000,
        }
    }
}
