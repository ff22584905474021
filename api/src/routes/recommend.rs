//! The next tip, the reaction to it, and why it was shown.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ingest::http::ProblemBody;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ApiError, AppState,
    body::{JsonBody, instant},
    ports::{Ask, Reaction, Recommendation, Recorded},
};

/// Asks for the one tip that fits this moment.
#[utoipa::path(
    post, path = "/v1/recommend", tag = "tips", request_body = Ask,
    responses(
        (status = 200, description = "A tip to show", body = Recommendation),
        (status = 204, description = "Silence is better now"),
        (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 429, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn recommend(
    State(state): State<AppState>,
    JsonBody(ask): JsonBody<Ask>,
) -> Result<Response, ApiError> {
    if ask.user.is_empty() {
        return Err(ApiError::Invalid("`user` is empty; name the person the tip is for".into()));
    }
    Ok(match state.recommends.recommend(ask, (state.clock)()).await? {
        Some(recommendation) => Json(recommendation).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// A reaction to an impression.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedbackBody {
    /// The impression reacted to.
    impression: String,
    /// What the person did.
    reaction: Reaction,
    /// When, if not now: RFC 3339.
    #[schema(format = DateTime)]
    at: Option<String>,
}

/// A reaction taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FeedbackTaken {
    /// The impression reacted to.
    impression: String,
    /// What the person did.
    reaction: Reaction,
    /// Whether it had been reported before; then nothing changed.
    duplicate: bool,
}

/// Reports a reaction. The answer comes once it is durable; a repeat changes nothing.
#[utoipa::path(
    post, path = "/v1/feedback", tag = "tips", request_body = FeedbackBody,
    responses(
        (status = 202, description = "Taken", body = FeedbackTaken),
        (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 404, description = "No such impression", body = ProblemBody),
        (status = 429, body = ProblemBody), (status = 503, body = ProblemBody),
    )
)]
pub(super) async fn feedback(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<FeedbackBody>,
) -> Result<Response, ApiError> {
    let at = body.at.as_deref().map(|t| instant("at", t)).transpose()?;
    let recorded = state.recommends.feedback(&body.impression, body.reaction, at, (state.clock)()).await?;
    let taken = FeedbackTaken {
        impression: body.impression,
        reaction: body.reaction,
        duplicate: recorded == Recorded::Again,
    };
    Ok((StatusCode::ACCEPTED, Json(taken)).into_response())
}

/// Why an impression was shown: context, candidates, scores, propensities, policy version.
#[utoipa::path(
    get, path = "/v1/impressions/{id}", tag = "tips",
    params(("id" = String, Path, description = "The impression")),
    responses(
        (status = 200, description = "The whole decision", body = Object),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 404, description = "No such impression", body = ProblemBody),
    )
)]
pub(super) async fn explain(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    state.recommends.explain(&id).await.map(Json)
}
