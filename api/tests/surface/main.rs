//! The surface as its callers meet it: every route, documented and running, and what it answers to mistakes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod access;
mod faults;
mod reads;
#[path = "../support/mod.rs"]
mod support;
mod tips;

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
