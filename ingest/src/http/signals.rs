//! `POST /v1/signals`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::LengthLimitError;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problem, ProblemBody, ProblemDetail,
    body::{Form, Signals},
    openapi,
};
use crate::{
    Clock,
    admit::{Admission, AdmitError, Checked, Door, Rejected},
    auth::{Gate, Scope},
};

/// Bodies up to this many bytes are checked on the thread that serves them: less time than a hand-over.
const INLINE_BYTES: usize = 32 << 10;
/// What a request costs beside its body, in KiB of the bound on requests in flight.
const REQUEST_KIB: usize = 4;

/// Bounds of the HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    /// Largest body, in bytes.
    pub max_body_bytes: usize,
    /// Most signals in one body.
    pub max_batch: usize,
    /// Bytes of bodies being served at one time; what comes on top is answered 503.
    pub max_in_flight_bytes: usize,
    /// How long a client may take to send its body, and how long the log may take, in milliseconds each.
    pub timeout_ms: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            max_body_bytes: 8 << 20,
            max_batch: 10_000,
            max_in_flight_bytes: 128 << 20,
            timeout_ms: 30_000,
        }
    }
}

/// What the endpoint works with. Cheap to clone.
#[derive(Clone)]
pub struct IngestState {
    door: Arc<Door>,
    gate: Gate,
    clock: Clock,
    options: Arc<HttpOptions>,
    in_flight: Arc<Semaphore>,
}

impl IngestState {
    /// An endpoint in front of `door`, guarded by `gate`.
    pub fn new(door: Arc<Door>, gate: Gate, clock: Clock, options: HttpOptions) -> IngestState {
        let kib = (options.max_in_flight_bytes / 1024).max(permits(options.max_body_bytes));
        let in_flight = Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)));
        IngestState { door, gate, clock, options: Arc::new(options), in_flight }
    }
}

/// The routes of ingestion, each behind its scope, with their description.
pub fn router(state: IngestState) -> OpenApiRouter {
    let gate = state.gate.clone();
    let catalogue = state.door.catalogue().clone();
    let mut router = OpenApiRouter::new()
        .routes(routes!(post_signals))
        .route_layer(gate.require(Scope::Ingest))
        .with_state(state);
    openapi::describe(router.get_openapi_mut(), &catalogue);
    router
}

/// What became of the signals of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Receipt {
    /// How many are new, and durable now.
    pub accepted: usize,
    /// How many were there already, by (`source`, `id`); they change nothing.
    pub duplicates: usize,
    /// Those turned away. The others are not touched by it.
    pub rejected: Vec<Rejected>,
    /// Covers every signal accepted or found to be a duplicate; hand it to a read as `after` to read your
    /// own writes.
    #[schema(example = "0:17,3:99")]
    pub position: String,
    /// Only where the request holds one signal and that is turned away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ProblemDetail>,
}

/// One signal: a CloudEvents 1.0 object. Extension attributes may stand beside these.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; the door reads it without this type")]
struct Signal {
    /// `1.0`, if given.
    #[schema(example = "1.0")]
    specversion: Option<String>,
    /// With `source`, identifies the signal; a repeat changes nothing.
    #[schema(example = "task-4711-done")]
    id: String,
    /// Who reports it.
    #[schema(example = "todo-app")]
    source: String,
    /// A declared type; the schema of its `data` stands among the components as `signal.<type>`.
    #[schema(example = "task.completed")]
    r#type: String,
    /// Whom it is about.
    #[schema(example = "ada")]
    subject: String,
    /// When it happened, RFC 3339 with an offset; absent means on arrival.
    #[schema(example = "2026-01-31T09:30:00+01:00")]
    time: Option<String>,
    /// The values, as the type declares them.
    #[schema(value_type = Object)]
    data: Option<()>,
}

/// Reports signals: one, a batch, or one a line.
///
/// Answers once the good ones are durable. A bad signal of a batch is listed in `rejected` and holds up none
/// of the others: a batch or a file of lines is answered 202 even if all of it is rejected. A body that
/// holds one signal is answered 400 if that is rejected, with the same fields and `error`. A repeat of
/// (`source`, `id`) counts as a duplicate. After 408, 429 and 503, and after a lost connection, send the
/// same body again: what did arrive is recognised. With `ce-id`, `ce-source`, `ce-type` and `ce-subject` as
/// headers, the body is the `data` of one signal.
#[utoipa::path(
    post,
    path = "/v1/signals",
    tag = "signals",
    security(("api_key" = []), ("bearer" = [])),
    request_body(content(
        (Signal = "application/json"),
        (Signal = "application/cloudevents+json"),
        (Vec<Signal> = "application/cloudevents-batch+json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 202, description = "Durable, or listed as rejected", body = Receipt),
        (status = 400, description = "The body cannot be read, or its only signal is rejected", body = Receipt),
        (status = 401, description = "No API key, or an unknown one", body = ProblemBody),
        (status = 403, description = "The key lacks the scope `ingest`", body = ProblemBody),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody),
        (status = 413, description = "The body or the batch is too large", body = ProblemBody),
        (status = 415, description = "The content type is not one of those taken", body = ProblemBody),
        (status = 429, description = "Too many requests; see Retry-After", body = ProblemBody),
        (status = 503, description = "Nothing counts as accepted; send it again after Retry-After", body = ProblemBody),
    )
)]
async fn post_signals(State(state): State<IngestState>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let form = Form::of(&parts.headers)?;
    let most = state.options.max_body_bytes;
    let announced = content_length(&parts.headers);
    if announced.is_some_and(|bytes| bytes > most) {
        return Err(too_large(most));
    }
    let permits = u32::try_from(permits(announced.unwrap_or(most))).unwrap_or(u32::MAX);
    let _in_flight = state.in_flight.clone().try_acquire_many_owned(permits).map_err(|_| {
        Problem::unavailable("busy", "too many signals are being taken in at once; send it again", 1)
    })?;

    let patience = Duration::from_millis(state.options.timeout_ms);
    let body = timeout(patience, read(body, most)).await.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body did not arrive in time; nothing was taken",
        )
    })??;
    let (checked, single) = check(&state, form, parts.headers, body).await?;
    let admission = timeout(patience, state.door.append(checked)).await.map_err(|_| {
        tracing::error!(patience_ms = state.options.timeout_ms, "the log did not answer in time");
        log_unavailable()
    })?;
    Ok(receipt(admission.map_err(problem_of)?, single))
}

/// Splits and checks a body, a large one on a thread that may be kept busy.
async fn check(
    state: &IngestState,
    form: Form,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(Checked, bool), Problem> {
    let door = state.door.clone();
    let now = (state.clock)();
    let most = state.options.max_batch;
    let bytes = body.len();
    let work = move || {
        let Signals { items, single } = form.split(&headers, &body, most)?;
        Ok((door.check(now, items), single))
    };
    if bytes <= INLINE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "checking a body failed");
        Err(Problem::internal())
    })
}

async fn read(body: Body, most: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, most).await.map_err(|error| {
        let inner = std::error::Error::source(&error);
        if inner.is_some_and(|inner| inner.is::<LengthLimitError>()) {
            too_large(most)
        } else {
            Problem::bad_request("incomplete", "the body broke off; nothing was taken")
        }
    })
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn permits(bytes: usize) -> usize {
    bytes.div_ceil(1024) + REQUEST_KIB
}

fn too_large(most: usize) -> Problem {
    let message = format!("the body has more than {most} bytes; split the batch");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn log_unavailable() -> Problem {
    let message = "the log takes no records at the moment; nothing of this request counts as accepted. \
                   Send it again: what did arrive is recognised";
    Problem::unavailable("log_unavailable", message, 5)
}

fn problem_of(error: AdmitError) -> Problem {
    // Where and why is for the operator; the client can only come back.
    tracing::error!(%error, "signals could not be appended");
    log_unavailable()
}

fn receipt(admission: Admission, single: bool) -> Response {
    let Admission { accepted, duplicates, rejected, position, .. } = admission;
    let error = rejected
        .first()
        .filter(|_| single)
        .map(|first| ProblemDetail { code: first.reason.code(), message: first.message.clone() });
    let status = if error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED };
    let receipt = Receipt { accepted, duplicates, rejected, position: position.to_string(), error };
    (status, Json(receipt)).into_response()
}
