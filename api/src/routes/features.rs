//! Feature values, now and at any instant, and the registry of what there is.

use std::time::Duration;

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use features::FeatureTable;
use ingest::{http::ProblemBody, log::Position};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::ToSchema;

use crate::{
    ApiError, AppState,
    body::{JsonBody, instant},
    ports::{Instant, ViewInfo, Wanted},
    rows::Form,
};

/// Which values to read. Exactly one of `features` and `views`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadBody {
    /// Whom to read; answered in this order, repeats and unknown ones included.
    #[schema(example = json!(["ada"]))]
    entities: Vec<String>,
    /// Features by name, as `view.feature_window`.
    features: Option<Vec<String>>,
    /// Whole views by name.
    views: Option<Vec<String>>,
    /// The instant to read at, RFC 3339; now if missing.
    #[schema(format = DateTime)]
    as_of: Option<String>,
    /// What on-demand features take from the request, by field.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"free_minutes": 30}))]
    request: Map<String, serde_json::Value>,
    /// A `position` from an answer of `POST /v1/signals`: the read waits until it is applied.
    after: Option<String>,
    /// Milliseconds the whole read may take.
    deadline_ms: Option<u64>,
    /// What to do when it takes longer.
    #[serde(default)]
    on_late: OnLate,
}

/// What a read does when its deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnLate {
    /// Answer 504.
    #[default]
    Fail,
    /// Answer what is there now, without waiting. History knows no such thing: with `as_of` it is 504.
    Stale,
    /// Answer the values of an empty window.
    Default,
}

/// The values read.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only described; see `rows`")]
pub(super) struct ReadAnswer {
    /// One row for each entity asked, in that order.
    rows: Vec<RowShape>,
    /// Present when the deadline passed: what was served instead.
    late: Option<OnLate>,
}

/// The values of one entity.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only described; see `rows`")]
struct RowShape {
    /// Whom they are about.
    entity: String,
    /// Values by feature name.
    #[schema(value_type = Object, example = json!({"task_activity.completed_24h": 3}))]
    values: (),
    /// Age of the newest signal behind each value, in milliseconds; null when there is none.
    #[schema(value_type = Object, example = json!({"task_activity.completed_24h": 5400000}))]
    age_ms: (),
    /// The instant the values hold for.
    #[schema(value_type = String, format = DateTime)]
    as_of: (),
    /// Present and true when the values may be older than they should be: the online store is away and they were
    /// read earlier, or it is too far behind the log.
    #[schema(value_type = Option<bool>)]
    stale: (),
}

/// Reads features of many entities at one instant.
#[utoipa::path(
    post, path = "/v1/features/read", tag = "features", request_body = ReadBody,
    responses(
        (
            status = 200,
            description = "The values. As Arrow (an IPC stream of one batch): `entity`, `as_of`, a column for each \
                           feature by its name and type, and `age_ms`, a struct with an Int64 for each feature. The \
                           schema's metadata has `kairos.position` (everything below it is in the values), \
                           `kairos.version.<view>`, when the deadline passed `kairos.late`, and when rows may be \
                           older than they should be `kairos.stale`, their numbers from 0.",
            content((ReadAnswer = "application/json"), (Vec<u8> = "application/vnd.apache.arrow.stream")),
        ),
        (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 406, description = "`Accept` names neither form", body = ProblemBody),
        (status = 413, body = ProblemBody), (status = 503, body = ProblemBody),
        (status = 504, description = "Not ready before the deadline", body = ProblemBody),
    )
)]
pub(super) async fn read(
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<ReadBody>,
) -> Result<Response, ApiError> {
    let form = Form::accepted(&headers)?;
    let now = (state.clock)();
    let at = match &body.as_of {
        Some(text) => Instant::AsOf(instant("as_of", text)?),
        None => Instant::Now(now),
    };
    let after: Option<Position> = match &body.after {
        Some(text) => Some(text.parse().map_err(|e| ApiError::Invalid(format!("`after`: {e}")))?),
        None => None,
    };
    let wanted = match (body.features, body.views) {
        (Some(features), None) => Wanted::Features(features),
        (None, Some(views)) => Wanted::Views(views),
        _ => return Err(ApiError::Invalid("give either `features` or `views`, one of the two".into())),
    };
    let width = match &wanted {
        Wanted::Features(names) => names.len(),
        Wanted::Views(_) => state.features.empty(&wanted)?.0.names.len(),
    };
    if body.entities.len().saturating_mul(width.max(1)) > state.limits.values {
        let most = state.limits.values;
        return Err(ApiError::Invalid(format!(
            "entities times features may be {most} at most; read in parts"
        )));
    }

    let allowed = body.deadline_ms.map_or(state.limits.wait, Duration::from_millis);
    // Asked for again only where the first answer may come too late.
    let again = (body.on_late != OnLate::Fail).then(|| body.entities.clone());
    let timely = async {
        let mut at = at;
        if let Some(position) = &after {
            state.features.wait_for(position, allowed).await?;
            if matches!(at, Instant::Now(_)) {
                // What was waited for may be newer than the request.
                at = Instant::Now((state.clock)());
            }
        }
        state.features.read(&wanted, body.entities, at, &body.request).await
    };
    let read = match tokio::time::timeout(allowed, timely).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::Late(format!("the values were not there within {} ms", allowed.as_millis()))),
    };
    match (read, body.on_late, again) {
        (Ok(table), ..) => form.answer(&table, None),
        (Err(ApiError::Late(_)), OnLate::Stale, Some(entities)) if body.as_of.is_none() => {
            let now = Instant::Now((state.clock)());
            let table = state.features.read(&wanted, entities, now, &body.request).await?;
            form.answer(&table, Some("stale"))
        }
        (Err(ApiError::Late(_)), OnLate::Default, Some(entities)) => {
            let (Instant::AsOf(at) | Instant::Now(at)) = at;
            let (columns, empty) = state.features.empty(&wanted)?;
            form.answer(&FeatureTable::empty(columns, &empty, entities, at), Some("default"))
        }
        (Err(e), ..) => Err(e),
    }
}

/// Every feature view there is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registry {
    /// The views.
    views: Vec<ViewInfo>,
}

/// The registry: views, their windows and features, types, owners.
#[utoipa::path(
    get, path = "/v1/features", tag = "features",
    responses(
        (status = 200, description = "Every view", body = Registry),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
    )
)]
pub(super) async fn registry(State(state): State<AppState>) -> Json<Registry> {
    Json(Registry { views: state.features.views((state.clock)()) })
}
