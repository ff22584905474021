//! How the service is: liveness, readiness, metrics, its own description.

use std::any::Any;

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::OpenApiText;
use crate::{ApiError, ports::PartHealth, state::Service};

/// Alive: the process answers.
#[utoipa::path(
    get, path = "/healthz", tag = "service", security(()),
    responses((status = 200, description = "Alive", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> &'static str {
    "alive\n"
}

/// Readiness of the process and of each part.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether every part is ready.
    ready: bool,
    /// Each part.
    parts: Vec<PartHealth>,
}

/// Ready: every part does its work.
#[utoipa::path(
    get, path = "/readyz", tag = "service", security(()),
    responses(
        (status = 200, description = "Every part is ready", body = Readiness),
        (status = 503, description = "Some part is not", body = Readiness),
    )
)]
pub(super) async fn readyz(State(state): State<Service>) -> Response {
    let parts = state.health.parts();
    let ready = parts.iter().all(|p| p.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, parts })).into_response()
}

/// Metrics, in Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "service", security(()),
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(state): State<Service>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
        .into_response()
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub(super) async fn openapi(Extension(OpenApiText(text)): Extension<OpenApiText>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The answer of a handler that panicked; the process lives on.
pub(super) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::Internal(format!("a handler panicked: {text}")).into_response()
}
