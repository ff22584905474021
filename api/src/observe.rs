//! Around every request: its id, its time limit, its metrics, and the headers that keep browsers careful.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use metrics::{Counter, Histogram};

use crate::{ApiError, error::Fault, state::Service};

/// Requests answered, by method, matched route and status.
pub const REQUESTS: &str = "kairos_http_requests_total";
/// Seconds from the request's head to the answer's head, by method and matched route.
pub const SECONDS: &str = "kairos_http_request_seconds";
/// Upper edges of the buckets of [`SECONDS`]: fine below 3 ms, where most answers should be.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0, 30.0,
];

/// Describes this crate's metrics to the installed recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(REQUESTS, "HTTP requests answered, by method, route and status");
    metrics::describe_histogram!(SECONDS, metrics::Unit::Seconds, "Time to the head of the answer");
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Nothing inline, nothing from elsewhere, never inside another page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Makes ids for requests that bring none: a random start, handed in, and a counter, mixed.
#[derive(Debug)]
pub struct RequestIds {
    next: AtomicU64,
}

impl RequestIds {
    /// Ids that follow from `seed`; give each process its own.
    pub fn new(seed: u64) -> Self {
        RequestIds { next: AtomicU64::new(seed) }
    }

    fn make(&self) -> HeaderValue {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()));
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// The caller's id when it is short and plain, so that a log line cannot be forged through it.
    fn take_or_make(&self, brought: Option<&HeaderValue>) -> HeaderValue {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        match brought {
            Some(id) if (1..=64).contains(&id.len()) && id.as_bytes().iter().all(plain) => id.clone(),
            _ => self.make(),
        }
    }
}

/// What the middleware needs.
#[derive(Clone)]
pub(crate) struct Observer {
    service: Service,
    answered: Arc<Answered>,
}

impl Observer {
    pub(crate) fn new(service: Service) -> Observer {
        Observer { service, answered: Arc::default() }
    }
}

/// Metrics by route, each looked up in the recorder once: that costs more than many a handler.
#[derive(Default)]
struct Answered(RwLock<HashMap<String, Vec<OfRoute>>>);

#[derive(Clone)]
struct OfRoute {
    method: &'static str,
    status: u16,
    requests: Counter,
    seconds: Histogram,
}

impl Answered {
    fn count(&self, route: &str, method: &'static str, status: u16, seconds: f64) {
        let same = |m: &&OfRoute| m.method == method && m.status == status;
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(m) = known.get(route).and_then(|all| all.iter().find(same)) {
            m.requests.increment(1);
            m.seconds.record(seconds);
            return;
        }
        drop(known);
        let name = || route.to_owned();
        let made = OfRoute {
            method,
            status,
            requests: metrics::counter!(REQUESTS, "method" => method, "route" => name(), "status" => status.to_string()),
            seconds: metrics::histogram!(SECONDS, "method" => method, "route" => name()),
        };
        made.requests.increment(1);
        made.seconds.record(seconds);
        // Two that come first together count on the same metrics.
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(name()).or_default().push(made);
    }
}

/// The middleware itself. It stands outermost, so that every answer passes it.
pub(crate) async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let service = &observer.service;
    let started = Instant::now();
    let id = service.request_ids.take_or_make(request.headers().get(&REQUEST_ID));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();

    let mut answer = match tokio::time::timeout(service.answer_time, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let seconds = service.answer_time.as_secs();
            ApiError::Late(format!("no answer within {seconds} s; try again or ask for less")).into_response()
        }
    };

    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let status = answer.status();
    if let Some(Fault(text)) = answer.extensions_mut().remove::<Fault>() {
        let id = id.to_str().unwrap_or_default();
        tracing::error!(request_id = id, %method, route, status = status.as_u16(), error = text, "request failed");
    }
    observer.answered.count(route, known(&method), status.as_u16(), started.elapsed().as_secs_f64());

    let headers = answer.headers_mut();
    headers.reserve(SECURITY_HEADERS.len() + 2);
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(REQUEST_ID, id);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// A caller can invent methods; a metric's label must not follow.
fn known(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_id_is_kept_and_any_other_replaced() {
        let ids = RequestIds::new(7);
        let brought = HeaderValue::from_static("req-42.a:b");
        assert_eq!(ids.take_or_make(Some(&brought)), brought);
        for wrong in ["", "two words", "line\tbreak", &"x".repeat(65)] {
            let made = ids.take_or_make(Some(&HeaderValue::from_str(wrong).unwrap()));
            assert_eq!(made.len(), 16, "{wrong:?}");
        }
        assert_ne!(ids.take_or_make(None), ids.take_or_make(None));
        assert_eq!(RequestIds::new(1).make(), RequestIds::new(1).make());
    }
}
