//! What is kept about a person: all of it out, all of it gone.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use ingest::http::ProblemBody;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{ApiError, AppState};

/// Everything kept about a person, one JSON object a line.
#[utoipa::path(
    get, path = "/v1/users/{id}/export", tag = "users",
    params(("id" = String, Path, description = "The person, as `subject` in signals")),
    responses(
        (status = 200, description = "One object a line; none for a person nothing is known of",
         content_type = "application/x-ndjson"),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn export(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let pieces = state.people.export(&id).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response())
}

/// What an erasure found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Erased {
    /// Records made unreadable, by part.
    erased: BTreeMap<String, u64>,
}

/// Erases a person everywhere. Asking again, or for somebody unknown, changes nothing.
#[utoipa::path(
    delete, path = "/v1/users/{id}", tag = "users",
    params(("id" = String, Path, description = "The person, as `subject` in signals")),
    responses(
        (status = 200, description = "Nothing about the person is kept any more", body = Erased),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn erase(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Erased>, ApiError> {
    let erased = state.people.erase(&id, (state.clock)()).await?;
    Ok(Json(Erased { erased: erased.into_iter().collect() }))
}
