//! The surface as its callers meet it: every route, documented and running, and what it answers to mistakes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use api::ports::Reaction;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use ingest::auth::{Keys, Scope};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Script, tip};
use tower::ServiceExt;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let answer = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(router: &Router, path: &str, body: &str) -> Answer {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    send(router, request.body(Body::from(body.to_owned())).unwrap()).await
}

fn open() -> (std::sync::Arc<Script>, Router) {
    let script = Script::new();
    let router = script.router(Keys::open());
    (script, router)
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/// Paths of a running router, from its own debug text: axum offers no other way to ask.
fn running_paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let quoted = text.split('"').skip(1).step_by(2);
    quoted
        .filter(|s| s.starts_with('/') && !s.contains("{*") && !s.contains("__private"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_running_route_is_documented_and_every_documented_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let router = Script::new().whole_router(Keys::open(), dir.path());
    let document = get(&router, "/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    let documented: BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(running_paths(&router), documented);
    assert!(documented.len() >= 13, "{documented:?}");

    for (path, item) in paths {
        // `app.js` stands for any parameter: it is a file that exists, and as good a user or impression as any.
        let concrete = path.replace("{name}", "app.js").replace("{id}", "app.js");
        assert!(!concrete.contains('{'), "{path}");
        for method in METHODS {
            let request =
                Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(&concrete);
            let answer = send(&router, request.body(Body::empty()).unwrap()).await;
            let operation = item.get(method.to_ascii_lowercase());
            assert_eq!(
                answer.status == StatusCode::METHOD_NOT_ALLOWED,
                operation.is_none(),
                "{method} {path}"
            );
            let Some(operation) = operation else { continue };
            assert!(
                operation["summary"].as_str().is_some_and(|s| !s.is_empty()),
                "{method} {path} says nothing"
            );
            // An impression that is not known is a real answer; a route that is not there says so in other words.
            assert!(!answer.text.contains("there is nothing here"), "{method} {path}");
        }
    }
    let missing = unresolved(&document, &document);
    assert_eq!(missing, Vec::<String>::new(), "references into nothing");
}

/// `$ref`s of an OpenAPI document that lead nowhere.
fn unresolved(document: &Value, at: &Value) -> Vec<String> {
    match at {
        Value::Object(map) => {
            let here =
                map.get("$ref").and_then(Value::as_str).filter(|r| document.pointer(&r[1..]).is_none());
            here.map(str::to_owned)
                .into_iter()
                .chain(map.values().flat_map(|v| unresolved(document, v)))
                .collect()
        }
        Value::Array(list) => list.iter().flat_map(|v| unresolved(document, v)).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn every_answer_carries_an_id_and_keeps_browsers_careful() {
    let (_, router) = open();
    for path in ["/", "/assets/app.js", "/healthz", "/nowhere", "/v1/recommend", "/assets/nothing"] {
        let headers = get(&router, path).await.headers;
        assert!(headers.contains_key("x-request-id"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}");
        assert!(headers.contains_key(header::CACHE_CONTROL) && headers.contains_key(header::REFERRER_POLICY));
    }
    let brought = Request::get("/healthz").header("x-request-id", "mine-1").body(Body::empty()).unwrap();
    assert_eq!(send(&router, brought).await.headers["x-request-id"], "mine-1");
    assert_eq!(get(&router, "/nowhere").await.json()["error"]["code"], "not_found");
}

#[tokio::test]
async fn a_page_loads_only_what_is_there() {
    let (_, router) = open();
    let page = get(&router, "/").await;
    assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(
        !page.text.contains("<style") && !page.text.contains(" style="),
        "the policy forbids inline style"
    );
    let wanted: BTreeSet<&str> = page.text.split('"').filter(|s| s.starts_with("/assets/")).collect();
    assert!(wanted.len() >= 5, "{wanted:?}");
    for file in wanted {
        assert_eq!(get(&router, file).await.status, StatusCode::OK, "{file}");
    }
    let worker = get(&router, "/assets/sw.js").await;
    assert_eq!(worker.headers["service-worker-allowed"], "/");
    let manifest = get(&router, "/assets/manifest.webmanifest").await;
    for icon in manifest.json()["icons"].as_array().unwrap() {
        let file = get(&router, icon["src"].as_str().unwrap()).await;
        assert_eq!(file.status, StatusCode::OK);
        assert_eq!(file.headers[header::CONTENT_TYPE], icon["type"].as_str().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows come in the order asked, repeats and unknown people included.
    #[test]
    fn rows_follow_the_request(asked in prop::collection::vec(0usize..6, 0..40)) {
        let people = ["ada", "björn", "çelik", "dee \"d\"", "unknown", ""];
        let entities: Vec<&str> = asked.iter().map(|i| people[*i]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (script, router) = open();
            for (n, person) in people[..4].iter().enumerate() {
                script.completed.lock().unwrap().insert((*person).to_owned(), n as i64 + 1);
            }
            let body = json!({"entities": entities, "features": ["task_activity.completed_24h"]});
            let answer = post(&router, "/v1/features/read", &body.to_string()).await.json();
            let rows = answer["rows"].as_array().unwrap();
            assert_eq!(rows.len(), asked.len());
            for (row, i) in rows.iter().zip(&asked) {
                let known = *i < 4;
                assert_eq!(row["entity"], people[*i]);
                assert_eq!(row["values"]["task_activity.completed_24h"], if known { *i + 1 } else { 0 });
                assert_eq!(row["age_ms"]["task_activity.completed_24h"].is_null(), !known);
                assert_eq!(row["as_of"], "2025-06-15T15:06:40Z");
            }
            assert_eq!(answer.as_object().unwrap().len(), 1);
        });
    }
}

#[tokio::test]
async fn mistakes_in_a_read_are_named() {
    let (_, router) = open();
    let one = r#""features":["task_activity.completed_24h"]"#;
    for (body, status, hint) in [
        ("{".to_owned(), 400, "EOF"),
        ("[]".to_owned(), 400, "the body"),
        (format!(r#"{{{one}}}"#), 400, "entities"),
        (r#"{"entities":["a"]}"#.to_owned(), 400, "either `features` or `views`"),
        (
            format!(r#"{{"entities":["a"],"views":["task_activity"],{one}}}"#),
            400,
            "either `features` or `views`",
        ),
        (format!(r#"{{"entities":["a",7],{one}}}"#), 400, "`entities[1]`"),
        (format!(r#"{{"entities":["a"],{one},"asof":1}}"#), 400, "asof"),
        (format!(r#"{{"entities":["a"],{one},"as_of":"noon"}}"#), 400, "`as_of`"),
        (format!(r#"{{"entities":["a"],{one},"after":"0-1"}}"#), 400, "`after`"),
        (format!(r#"{{"entities":["a"],{one},"on_late":"wait"}}"#), 400, "`on_late`"),
        (r#"{"entities":["a"],"features":["task.done"]}"#.to_owned(), 400, "task.done"),
        (format!(r#"{{"entities":[{}"a"],{one}}}"#, r#""a","#.repeat(300_000)), 413, "1048576"),
    ] {
        let answer = post(&router, "/v1/features/read", &body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert!(answer.message().contains(hint), "{hint}: {}", answer.text);
    }
    let broken = Request::post("/v1/features/read").header(header::CONTENT_TYPE, "application/json");
    let broken = broken.body(Body::from(&b"{\"entities\":[\"\xff\"]}"[..])).unwrap();
    assert_eq!(send(&router, broken).await.status, StatusCode::BAD_REQUEST);
    let untyped = Request::post("/v1/features/read").body(Body::from("{}")).unwrap();
    assert_eq!(send(&router, untyped).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn more_values_than_one_read_may_ask_for_are_refused() {
    let (_, router) = open();
    let entities = vec!["a"; 20_000];
    let features = vec!["task_activity.completed_24h"; 60];
    let body = json!({"entities": entities, "features": features}).to_string();
    let answer = post(&router, "/v1/features/read", &body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.message().contains("1000000"), "{}", answer.text);
}

#[tokio::test]
async fn values_come_as_arrow_to_who_accepts_it() {
    use arrow::{array::AsArray, datatypes::Int64Type, ipc::reader::StreamReader};
    let (script, router) = open();
    script.completed.lock().unwrap().insert("ada".to_owned(), 3);
    *script.applied.lock().unwrap() = "0:7".parse().unwrap();
    let ask = async |accept: &'static str, body: Value| {
        let request = Request::post("/v1/features/read")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, accept)
            .body(Body::from(body.to_string()))
            .unwrap();
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        (parts, axum::body::to_bytes(body, usize::MAX).await.unwrap())
    };
    let feature = "task_activity.completed_24h";
    let arrow = "application/vnd.apache.arrow.stream";
    let body = json!({"entities": ["bo", "ada"], "features": [feature]});
    let (parts, bytes) = ask(arrow, body.clone()).await;
    assert_eq!(
        (parts.status, &parts.headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &arrow.parse().unwrap())
    );
    let mut reader = StreamReader::try_new(&bytes[..], None).unwrap();
    let metadata = reader.schema().metadata().clone();
    assert_eq!(metadata["kairos.position"], "0:7");
    assert_eq!((metadata["kairos.version.task_activity"].as_str(), metadata.len()), ("0", 2));
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    assert_eq!(batch.column_by_name("entity").unwrap().as_string::<i32>().value(1), "ada");
    assert_eq!(batch.column_by_name(feature).unwrap().as_primitive::<Int64Type>().values(), &[0, 3]);
    let ages = batch.column_by_name("age_ms").unwrap().as_struct().column(0).clone();
    assert!(ages.is_null(0));
    assert_eq!(ages.as_primitive::<Int64Type>().value(1), 1000);

    let stale = json!({"entities": ["ada"], "features": [feature], "after": "0:9", "deadline_ms": 5, "on_late": "stale"});
    let (_, bytes) = ask(arrow, stale).await;
    assert_eq!(StreamReader::try_new(&bytes[..], None).unwrap().schema().metadata()["kairos.late"], "stale");

    let (parts, _) = ask("application/json, */*;q=0.1", body.clone()).await;
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
    let (parts, bytes) = ask("text/csv", body).await;
    assert_eq!(parts.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["error"]["code"], "not_acceptable");
}

#[tokio::test]
async fn a_read_waits_for_what_its_caller_wrote() {
    let (script, router) = open();
    let ask = |more: Value| {
        let mut body = json!({"entities": ["ada"], "views": ["task_activity"], "after": "0:5"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    script.completed.lock().unwrap().insert("ada".to_owned(), 3);
    let value = |answer: &Answer| answer.json()["rows"][0]["values"]["task_activity.completed_24h"].clone();

    let late = post(&router, "/v1/features/read", &ask(json!({"deadline_ms": 5}))).await;
    assert_eq!(
        (late.status, late.json()["error"]["code"].as_str()),
        (StatusCode::GATEWAY_TIMEOUT, Some("late"))
    );
    let stale = post(&router, "/v1/features/read", &ask(json!({"deadline_ms": 5, "on_late": "stale"}))).await;
    assert_eq!((value(&stale), stale.json()["late"].as_str()), (json!(3), Some("stale")));
    let default =
        post(&router, "/v1/features/read", &ask(json!({"deadline_ms": 5, "on_late": "default"}))).await;
    assert_eq!((value(&default), default.json()["late"].as_str()), (json!(0), Some("default")));
    // History knows nothing staler to serve.
    let past = json!({"deadline_ms": 5, "on_late": "stale", "as_of": "2025-01-01T00:00:00Z"});
    assert_eq!(post(&router, "/v1/features/read", &ask(past)).await.status, StatusCode::GATEWAY_TIMEOUT);

    let waiting = tokio::spawn({
        let (router, body) = (router.clone(), ask(json!({"deadline_ms": 5000})));
        async move { post(&router, "/v1/features/read", &body).await }
    });
    tokio::task::yield_now().await;
    script.applied.lock().unwrap().advance(0, 4);
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, value(&answer)), (StatusCode::OK, json!(3)));
    assert!(answer.json().get("late").is_none());
}

#[tokio::test]
async fn a_tip_a_silence_and_a_reaction() {
    let (script, router) = open();
    script.tip(tip("i1", "Breathe", "Four slow breaths.", "Breathe", "It is evening."));
    let answer = post(&router, "/v1/recommend", r#"{"user":"ada","context":{"time.hour":21}}"#).await;
    let expected = json!({
        "tip": {"id": "tip-i1", "title": "Breathe", "body": "Four slow breaths.", "action": "Breathe", "why": "It is evening."},
        "impression": "i1", "policy": "linucb-1", "propensity": 0.25,
    });
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected));
    let silence = post(&router, "/v1/recommend", r#"{"user":"ada"}"#).await;
    assert_eq!((silence.status, silence.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(post(&router, "/v1/recommend", r#"{"user":""}"#).await.status, StatusCode::BAD_REQUEST);

    let report = r#"{"impression":"i1","reaction":"accepted","at":"2025-06-15T15:06:40Z"}"#;
    for duplicate in [false, true] {
        let answer = post(&router, "/v1/feedback", report).await;
        let expected = json!({"impression": "i1", "reaction": "accepted", "duplicate": duplicate});
        assert_eq!((answer.status, answer.json()), (StatusCode::ACCEPTED, expected));
    }
    assert_eq!(script.reactions(), [("i1".to_owned(), Reaction::Accepted)]);
    let liked = post(&router, "/v1/feedback", r#"{"impression":"i1","reaction":"liked"}"#).await;
    assert!(
        liked.status == StatusCode::BAD_REQUEST && liked.message().contains("`accepted`"),
        "{}",
        liked.text
    );
    let unknown = post(&router, "/v1/feedback", r#"{"impression":"unknown","reaction":"done"}"#).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_person_is_exported_and_erased() {
    let (script, router) = open();
    script.completed.lock().unwrap().insert("ada".to_owned(), 3);
    let export = get(&router, "/v1/users/ada/export").await;
    assert_eq!(export.headers[header::CONTENT_TYPE], "application/x-ndjson");
    assert_eq!(export.text, "{\"user\":\"ada\",\"completed\":3}\n");
    for expected in [1, 0] {
        let erase = Request::delete("/v1/users/ada").body(Body::empty()).unwrap();
        assert_eq!(send(&router, erase).await.json(), json!({"erased": {"log": expected}}));
    }
    assert_eq!(get(&router, "/v1/users/ada/export").await.text, "");
}

#[tokio::test]
async fn readiness_tells_each_part() {
    let (script, router) = open();
    assert_eq!(get(&router, "/readyz").await.json()["ready"], true);
    script.broken.lock().unwrap().push("features".to_owned());
    let answer = get(&router, "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["parts"][1], json!({"part": "features", "ready": false, "detail": "scripted"}));
    assert_eq!(get(&router, "/healthz").await.status, StatusCode::OK, "alive all the same");
}

#[tokio::test]
async fn each_scope_opens_its_own_routes() {
    let mut keys = Keys::open();
    let secret = |name: &str| format!("{name}-secret-of-many-characters");
    for (name, scope) in
        [("r", Scope::Read), ("t", Scope::Recommend), ("i", Scope::Ingest), ("a", Scope::Admin)]
    {
        keys.add_secret(name, &secret(name), &[scope], None).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let router = Script::new().whole_router(keys, dir.path());
    for (method, path, may) in [
        ("POST", "/v1/signals", "ia"),
        ("GET", "/v1/features", "ra"),
        ("POST", "/v1/features/read", "ra"),
        ("GET", "/v1/impressions/x", "ra"),
        ("POST", "/v1/recommend", "ta"),
        ("POST", "/v1/feedback", "ta"),
        ("GET", "/v1/policies", "ra"),
        ("POST", "/v1/policies/promote", "a"),
        ("POST", "/v1/policies/rollback", "a"),
        ("POST", "/v1/policies/register", "a"),
        ("GET", "/v1/users/x/export", "a"),
        ("DELETE", "/v1/users/x", "a"),
    ] {
        let ask = |key: Option<&str>| {
            let request = Request::builder().method(method).uri(path);
            let request = match key {
                Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {}", secret(key))),
                None => request,
            };
            request.body(Body::empty()).unwrap()
        };
        assert_eq!(send(&router, ask(None)).await.status, StatusCode::UNAUTHORIZED, "{path}");
        for key in ["r", "t", "i", "a"] {
            let refused = send(&router, ask(Some(key))).await.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !may.contains(key), "{key} {path}");
        }
    }
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(get(&router, path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn policies_are_listed_promoted_and_rolled_back_in_the_name_of_the_caller() {
    let (_, router) = open();
    assert_eq!(get(&router, "/v1/policies").await.json()["snapshots"], json!([]));
    let dry = post(&router, "/v1/policies/promote", r#"{"dry_run": true}"#).await.json();
    assert_eq!(dry, json!({"promoted": false, "by": "local"}));
    let back = post(&router, "/v1/policies/rollback", r#"{"version": 7}"#).await.json();
    assert_eq!(back["version"], 7);
    assert!(post(&router, "/v1/policies/rollback", "{}").await.json()["version"].is_null());
    let none = post(&router, "/v1/policies/rollback", r#"{"version": 0}"#).await;
    assert_eq!((none.status, none.message().as_str()), (StatusCode::BAD_REQUEST, "there is no version 0"));
    let known = post(&router, "/v1/policies/register", r#"{"file": "known"}"#).await;
    assert_eq!(known.status, StatusCode::NO_CONTENT);
    let none = post(&router, "/v1/policies/register", r#"{"file": "x"}"#).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    let typo = post(&router, "/v1/policies/promote", r#"{"dry": true}"#).await;
    assert_eq!(typo.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_fault_is_counted_and_its_inside_stays_inside() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(api::observe::SECONDS_BUCKETS)
        .unwrap()
        .build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    api::observe::describe_metrics();
    let script = Script::new();
    let mut state = script.state();
    state.metrics = handle;
    let gate = ingest::auth::Gate::new(Keys::open(), Default::default());
    let router = api::router(state, &gate, utoipa_axum::router::OpenApiRouter::new());

    let answer = get(&router, "/v1/impressions/panic").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!answer.text.contains("panics"), "{}", answer.text);
    get(&router, "/nowhere/at/all").await;
    get(&router, "/v1/impressions/other").await;
    let metrics = get(&router, "/metrics").await.text;
    for line in [
        r#"kairos_http_requests_total{method="GET",route="/v1/impressions/{id}",status="500"} 1"#,
        r#"kairos_http_requests_total{method="GET",route="/v1/impressions/{id}",status="404"} 1"#,
        r#"kairos_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"kairos_http_request_seconds_count{method="GET",route="/v1/impressions/{id}"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_body_too_slow_or_without_end_and_an_answer_too_late() {
    let gate = ingest::auth::Gate::new(Keys::open(), Default::default());
    let mut state = Script::new().state();
    state.limits.body = 1_000;
    state.limits.body_time = Duration::from_millis(30);
    state.limits.answer_time = Duration::from_millis(200);
    state.limits.wait = Duration::from_secs(60);
    let router = api::router(state, &gate, utoipa_axum::router::OpenApiRouter::new());
    let ask = |body: Body| {
        Request::post("/v1/features/read")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .unwrap()
    };

    let silent = stream::pending::<Result<Bytes, std::io::Error>>();
    let answer = send(&router, ask(Body::from_stream(silent))).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::REQUEST_TIMEOUT, Some("slow_body"))
    );

    // No length is declared, so only reading tells.
    let endless = stream::repeat(()).map(|()| Ok::<_, std::io::Error>(Bytes::from_static(b"          ")));
    let answer = send(&router, ask(Body::from_stream(endless))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text);

    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
    let answer = send(&router, ask(Body::from_stream(broken))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);

    let waits = r#"{"entities":["ada"],"views":["task_activity"],"after":"0:5"}"#;
    let answer = send(&router, ask(Body::from(waits))).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::GATEWAY_TIMEOUT, Some("late"))
    );
}
