//! Which policy serves, and which shall.

use axum::{Json, extract::State, http::StatusCode};
use ingest::{auth::Principal, http::ProblemBody};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{ApiError, AppState, body::JsonBody};

/// Every snapshot and every change of what serves, oldest first.
#[utoipa::path(
    get, path = "/v1/policies", tag = "policies",
    responses(
        (status = 200, description = "Snapshots and changes", body = Object),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn list(State(state): State<AppState>) -> Result<Json<serde_json::Value>, ApiError> {
    state.policies.list().await.map(Json)
}

/// A question whether the shadow may serve.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PromoteBody {
    /// Only look; change nothing.
    dry_run: bool,
}

/// Lets the shadow serve if the log shows that it is better; otherwise says what is missing.
#[utoipa::path(
    post, path = "/v1/policies/promote", tag = "policies", request_body = PromoteBody,
    responses(
        (status = 200, description = "Whether it serves now, and each condition", body = Object),
        (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn promote(
    State(state): State<AppState>,
    by: Principal,
    JsonBody(body): JsonBody<PromoteBody>,
) -> Result<Json<serde_json::Value>, ApiError> {
    state.policies.promote(by.name(), body.dry_run).await.map(Json)
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RollbackBody {
    /// A snapshot of the policy that serves; what served before the last change, when unset.
    version: Option<u64>,
}

/// Lets an earlier snapshot serve.
#[utoipa::path(
    post, path = "/v1/policies/rollback", tag = "policies", request_body = RollbackBody,
    responses(
        (status = 200, description = "What serves now", body = Object),
        (status = 400, description = "No such snapshot", body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn rollback(
    State(state): State<AppState>,
    by: Principal,
    JsonBody(body): JsonBody<RollbackBody>,
) -> Result<Json<serde_json::Value>, ApiError> {
    state.policies.rollback(by.name(), body.version).await.map(Json)
}

/// A snapshot that training made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterBody {
    /// Name of its file in the folder `training` of the data directory.
    file: String,
}

/// Registers a snapshot that `kairos train` left in the data directory; the shadow goes on from it where it is of
/// the shadow's policy.
#[utoipa::path(
    post, path = "/v1/policies/register", tag = "policies", request_body = RegisterBody,
    responses(
        (status = 204, description = "It is in the registry"),
        (status = 400, description = "No such snapshot", body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn register(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<RegisterBody>,
) -> Result<StatusCode, ApiError> {
    state.policies.register(&body.file).await?;
    Ok(StatusCode::NO_CONTENT)
}
