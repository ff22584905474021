//! The check in front of a route: key, scope, rate.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::future::Either;
use serde::{Deserialize, Serialize};
use tower::{Layer, Service};

use super::{
    keys::{Keys, Principal, Scope},
    local,
    rate::{Limits, Rate},
};
use crate::{http::Problem, telemetry};

/// Limits of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateOptions {
    /// For each key that has no rate of its own; none means unlimited.
    pub key_rate: Option<Rate>,
    /// For each address, of requests that carry no valid key; none means unlimited. The address is the
    /// peer of the connection: serve with `into_make_service_with_connect_info::<SocketAddr>()`.
    pub address_rate: Option<Rate>,
}

/// Decides who may call what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Keys,
    limits: Limits,
}

impl Gate {
    /// A gate for these keys.
    pub fn new(keys: Keys, options: GateOptions) -> Gate {
        let limits = Limits::new(&keys, options.key_rate, options.address_rate);
        Gate(Arc::new(Inner { keys, limits }))
    }

    /// Whether there is no key, so that every local caller may do everything.
    pub fn is_open(&self) -> bool {
        self.0.keys.is_open()
    }

    /// A layer that lets a request pass only if its caller holds `scope`; behind it, [`Principal`] is an
    /// extractor. Use it with `route_layer`, so that unknown paths stay 404.
    pub fn require(&self, scope: Scope) -> Require {
        Require { gate: self.clone(), scope }
    }

    /// Who sends these headers, if they may do what `scope` allows.
    pub fn check(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        scope: Scope,
    ) -> Result<Principal, Problem> {
        let Inner { keys, limits } = &*self.0;
        if keys.is_open() {
            if let Some(reason) = local::refusal(headers) {
                return Err(refused(Problem::new(StatusCode::FORBIDDEN, "not_local", reason)));
            }
            limits.check_address(peer).map_err(too_many)?;
            return Ok(Principal::local());
        }
        let Some((index, key)) = secret_of(headers).and_then(|secret| keys.find(secret)) else {
            limits.check_address(peer).map_err(too_many)?;
            return Err(refused(Problem::unauthorized(if secret_of(headers).is_some() {
                "this API key is not known; check it for a missing end, or ask the operator for a new one"
            } else {
                "send an API key, as `Authorization: Bearer <key>` or `X-API-Key: <key>`"
            })));
        };
        limits.check_key(index).map_err(too_many)?;
        if !key.principal.allows(scope) {
            let (name, scope) = (key.principal.name(), scope.name());
            let message =
                format!("the key `{name}` lacks the scope `{scope}`; use one that has it, or `admin`");
            return Err(refused(Problem::new(StatusCode::FORBIDDEN, "missing_scope", message)));
        }
        Ok(key.principal.clone())
    }
}

/// The key a request carries, if any.
fn secret_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
    let message = format!("too many requests; try again in {seconds} s");
    refused(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).retry_after(seconds))
}

fn refused(problem: Problem) -> Problem {
    metrics::counter!(telemetry::HTTP_REFUSED, "code" => problem.code()).increment(1);
    problem
}

/// The layer of [`Gate::require`].
#[derive(Debug, Clone)]
pub struct Require {
    gate: Gate,
    scope: Scope,
}

impl<S> Layer<S> for Require {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, require: self.clone() }
    }
}

/// A service behind [`Require`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    require: Require,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        match self.require.gate.check(request.headers(), peer, self.require.scope) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(problem) => Either::Right(ready(Ok(problem.into_response()))),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Principal, Problem> {
        // Absent only where a route was built without its gate; then nobody may pass.
        parts.extensions.get::<Principal>().cloned().ok_or_else(|| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "this route has no gate in front of it",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::get};
    use tower::ServiceExt as _;

    const SECRET: &str = "a-secret-of-more-than-24-characters";

    fn keyed(scopes: &[Scope], rate: Option<Rate>) -> Router {
        let mut keys = Keys::open();
        keys.add_secret("app", SECRET, scopes, rate).unwrap();
        app(Gate::new(keys, GateOptions::default()))
    }

    fn app(gate: Gate) -> Router {
        Router::new()
            .route("/", get(async |caller: Principal| caller.name().to_owned()))
            .route_layer(gate.require(Scope::Read))
    }

    async fn ask(app: &Router, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 4096).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn both_headers_carry_a_key() {
        let app = keyed(&[Scope::Read], None);
        for (name, value) in [("authorization", format!("bearer {SECRET}")), ("x-api-key", SECRET.into())] {
            let (status, _, body) = ask(&app, &[(name, &value)]).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, "app"));
        }
    }

    #[tokio::test]
    async fn a_wrong_or_missing_key_is_401_and_is_not_repeated() {
        let app = keyed(&[Scope::Read], None);
        for headers in
            [&[][..], &[("authorization", "Bearer not-the-key")], &[("authorization", "Basic YTpi")]]
        {
            let (status, head, body) = ask(&app, headers).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert_eq!(head[header::WWW_AUTHENTICATE], "Bearer");
            assert!(body.contains("\"code\":\"unauthorized\"") && !body.contains("not-the-key"), "{body}");
        }
    }

    #[tokio::test]
    async fn a_missing_scope_is_403_and_admin_has_all() {
        let header = [("x-api-key", SECRET)];
        let (status, _, body) = ask(&keyed(&[Scope::Ingest], None), &header).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(body.contains("`read`"), "{body}");
        assert_eq!(ask(&keyed(&[Scope::Admin], None), &header).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_key_over_its_rate_is_429_with_the_time_to_wait() {
        let app = keyed(&[Scope::Read], Some(Rate { per_second: 0.01, burst: 1 }));
        let header = [("x-api-key", SECRET)];
        assert_eq!(ask(&app, &header).await.0, StatusCode::OK);
        let (status, head, _) = ask(&app, &header).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = head[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=100).contains(&seconds));
    }

    #[tokio::test]
    async fn without_keys_only_local_requests_pass() {
        let app = app(Gate::new(Keys::open(), GateOptions::default()));
        assert_eq!(ask(&app, &[("host", "localhost:8080")]).await.2, "local");
        assert_eq!(ask(&app, &[("host", "rebound.example")]).await.0, StatusCode::FORBIDDEN);
        let foreign = [("host", "localhost:8080"), ("origin", "https://evil.example")];
        assert_eq!(ask(&app, &foreign).await.0, StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn a_route_without_a_gate_lets_nobody_pass() {
        let app = Router::new().route("/", get(async |_: Principal| ()));
        assert_eq!(ask(&app, &[]).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
