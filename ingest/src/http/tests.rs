use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{
    admit::DoorOptions,
    auth::{Gate, GateOptions, Keys, Rate, Scope},
    testing::{FaultyLog, NOW, door, open_log, records, signal},
};

const SECRET: &str = "a-secret-of-more-than-24-characters";
const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

struct App {
    _dir: tempfile::TempDir,
    log: Arc<FaultyLog>,
    router: Router,
}

fn app_with(keys: Keys, options: HttpOptions) -> App {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let door = Arc::new(door(log.clone(), DoorOptions::default()));
    let gate = Gate::new(keys, GateOptions::default());
    let state = IngestState::new(door, gate, Arc::new(|| NOW), options);
    App { _dir: dir, log, router: router(state).into() }
}

fn app() -> App {
    app_with(Keys::open(), HttpOptions::default())
}

async fn send(app: &App, headers: &[(&str, &str)], body: impl Into<Body>) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::post("/v1/signals");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap())
}

async fn post(app: &App, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let (status, _, body) = send(app, &[("content-type", content_type)], body).await;
    (status, body)
}

fn counts(receipt: &Value) -> (u64, u64, usize) {
    let count = |name: &str| receipt[name].as_u64().unwrap();
    (count("accepted"), count("duplicates"), receipt["rejected"].as_array().unwrap().len())
}

fn said<'a>(body: &'a Value, code: &str) -> &'a str {
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn every_form_is_taken() {
    let app = app();
    let array = format!("[{},{}]", signal("b"), signal("c"));
    let lines = format!("{}\r\n\n{}\n", signal("d"), signal("e"));
    for (content_type, body, accepted) in [
        ("application/json", signal("a"), 1),
        (ONE, signal("a1"), 1),
        ("application/json; charset=utf-8", array.clone(), 2),
        (BATCH, array.replace("\"b\"", "\"b1\"").replace("\"c\"", "\"c1\""), 2),
        (LINES, lines, 2),
        (ONE, format!("\u{feff}{}", signal("bom")), 1),
    ] {
        let (status, receipt) = post(&app, content_type, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{content_type}: {receipt}");
        assert_eq!(counts(&receipt), (accepted, 0, 0));
        assert!(receipt.get("error").is_none());
        let position: crate::log::Position = receipt["position"].as_str().unwrap().parse().unwrap();
        assert!(!position.0.is_empty());
    }
    assert_eq!(records(&*app.log).len(), 9);
}

#[tokio::test]
async fn attributes_may_stand_in_headers() {
    let app = app();
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "h%201"),
        ("ce-source", "todo"),
        ("ce-type", "task.completed"),
        ("ce-subject", "ren%C3%A9e"),
        ("ce-time", "2026-01-31T11:00:00Z"),
        ("ce-traceparent", "00-ab"),
    ];
    let (status, _, receipt) = send(&app, &headers, r#"{"minutes": 5}"#).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{receipt}");
    let all = records(&*app.log);
    assert_eq!((&*all[0].1.id, &*all[0].1.subject, all[0].1.time), ("h 1", "renée", NOW - 3_600_000));
    assert_eq!(all[0].1.extensions, [("traceparent".to_owned(), "\"00-ab\"".to_owned())]);

    let (status, _, body) = send(&app, &headers[..3], "{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(said(&body, "invalid_envelope").contains("`source`"));
    let (status, _, body) = send(&app, &headers, "{oh").await;
    assert_eq!((status, said(&body, "malformed").contains("line 1")), (StatusCode::BAD_REQUEST, true));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_400_and_says_where() {
    let app = app();
    for (content_type, body, place) in [
        (ONE, &b"{\"id\": oh"[..], "line 1 column 8"),
        (ONE, b"", "empty"),
        ("application/json", b" \n ", "empty"),
        ("application/json", b"\"text\"", "a CloudEvents object"),
        ("application/json", b"[{},\n{},", "line 2"),
        (BATCH, b"{}", "an array"),
        (BATCH, b"", "line 1"),
        (ONE, b"[]", "a CloudEvents object"),
        (ONE, b"{\"id\":\"\xff\"}", "position 7"),
        (BATCH, b"[\"\xc3\x28\"]", "position 2"),
    ] {
        let (status, body) = post(&app, content_type, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let message = said(&body, "malformed");
        assert!(message.contains(place), "{message}");
    }
}

#[tokio::test]
async fn one_rejected_signal_is_400_with_the_receipt() {
    let app = app();
    for (changed, code, word) in [
        (
            signal("x").replace("task.completed", "task.complete"),
            "unknown_type",
            "did you mean `task.completed`",
        ),
        (signal("x").replace("25", "\"ten\""), "invalid_data", "minutes"),
        (signal("x").replace("\"subject\":\"ada\",", ""), "invalid_envelope", "`subject` is missing"),
        (signal("x").replace("2026-01-31T11", "2027-01-31T11"), "future_time", "ahead"),
        (signal("x").replace("ada", &"a".repeat(1 << 20)), "invalid_envelope", "`subject` has 1048576 bytes"),
    ] {
        let (status, receipt) = post(&app, "application/json", changed).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let message = said(&receipt, code).to_owned();
        assert!(message.contains(word), "{message}");
        assert_eq!(counts(&receipt), (0, 0, 1));
        assert_eq!(receipt["rejected"][0], json!({"index": 0, "id": "x", "reason": message}));
    }
    assert!(records(&*app.log).is_empty());
}

#[tokio::test]
async fn a_bad_line_in_the_middle_holds_up_no_other() {
    let app = app();
    let mut lines = format!("{}\n{{\"id\":\"cut\n", signal("a")).into_bytes();
    lines.extend_from_slice(b"{\"id\":\"\xff\"}\n");
    lines.extend_from_slice(signal("b").as_bytes());
    let (status, receipt) = post(&app, LINES, lines).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(counts(&receipt), (2, 0, 2));
    assert_eq!((&receipt["rejected"][0]["index"], &receipt["rejected"][1]["index"]), (&json!(1), &json!(2)));
    assert!(receipt["rejected"][1]["reason"].as_str().unwrap().contains("not UTF-8"));
}

#[tokio::test]
async fn a_batch_is_202_even_if_all_of_it_is_rejected_or_there_is_none() {
    let app = app();
    for (content_type, body, rejected) in
        [(BATCH, "[{},7,null]", 3), (LINES, "oh\nno\n", 2), (BATCH, "[]", 0), (LINES, "", 0)]
    {
        let (status, receipt) = post(&app, content_type, body).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(counts(&receipt), (0, 0, rejected));
        assert_eq!(receipt["position"], "");
    }
}

#[tokio::test]
async fn repeats_are_told_and_change_nothing() {
    let app = app();
    let (_, receipt) = post(&app, BATCH, format!("[{0},{0},{1}]", signal("a"), signal("b"))).await;
    assert_eq!(counts(&receipt), (2, 1, 0));
    let (status, receipt) = post(&app, ONE, signal("a")).await;
    assert_eq!((status, counts(&receipt)), (StatusCode::ACCEPTED, (0, 1, 0)));
    assert_eq!(records(&*app.log).len(), 2);
}

#[tokio::test]
async fn too_much_is_413() {
    let app =
        app_with(Keys::open(), HttpOptions { max_body_bytes: 1000, max_batch: 3, ..HttpOptions::default() });
    let (status, body) = post(&app, ONE, "x".repeat(1001)).await;
    assert_eq!((status, said(&body, "body_too_large").is_empty()), (StatusCode::PAYLOAD_TOO_LARGE, false));
    let chunks =
        futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(Bytes::from("x".repeat(100)))));
    let (status, body) = post(&app, ONE, Body::from_stream(chunks)).await;
    assert_eq!((status, said(&body, "body_too_large").is_empty()), (StatusCode::PAYLOAD_TOO_LARGE, false));
    let (_, _, body) = send(&app, &[("content-type", ONE), ("content-length", "5000")], "x").await;
    said(&body, "body_too_large");
    for (content_type, body) in [(BATCH, "[1,2,3,4]"), (LINES, "1\n2\n3\n4")] {
        let (status, body) = post(&app, content_type, body).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(said(&body, "batch_too_large").contains("holds 4"));
    }
    assert_eq!(post(&app, BATCH, "[1,2,3]").await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn other_content_is_415() {
    let app = app();
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/json; charset=latin1")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
    ] {
        let (status, _, body) = send(&app, headers, signal("a")).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        said(&body, "unsupported_media_type");
    }
}

#[tokio::test]
async fn keys_scopes_and_rates_hold_here_too() {
    let mut keys = Keys::open();
    let rate = Rate { per_second: 0.01, burst: 1 };
    keys.add_secret("app", SECRET, &[Scope::Ingest], Some(rate)).unwrap();
    let other = SECRET.to_uppercase();
    keys.add_secret("reader", &other, &[Scope::Read], None).unwrap();
    let app = app_with(keys, HttpOptions::default());
    let with = |key: &'static str| [("content-type", ONE), ("x-api-key", key)];

    assert_eq!(post(&app, ONE, signal("a")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&app, &with("wrong"), signal("a")).await.0, StatusCode::UNAUTHORIZED);
    let reader = [("content-type", ONE), ("x-api-key", &*other)];
    assert_eq!(send(&app, &reader, signal("a")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(send(&app, &with(SECRET), signal("a")).await.0, StatusCode::ACCEPTED);
    let (status, headers, _) = send(&app, &with(SECRET), signal("b")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(headers.contains_key(header::RETRY_AFTER));
    assert_eq!(records(&*app.log).len(), 1);
}

#[tokio::test]
async fn a_log_that_fails_or_hangs_is_503_and_nothing_is_reported_accepted() {
    let app = app_with(Keys::open(), HttpOptions { timeout_ms: 50, ..HttpOptions::default() });
    for fault in [&app.log.failing, &app.log.hanging] {
        fault.store(true, Ordering::Relaxed);
        let (status, headers, body) =
            send(&app, &[("content-type", BATCH)], format!("[{},7]", signal("a"))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(headers.contains_key(header::RETRY_AFTER));
        assert!(!said(&body, "log_unavailable").contains("device"), "the inside stays inside");
        assert!(body.get("accepted").is_none());
        fault.store(false, Ordering::Relaxed);
    }
    let (_, receipt) = post(&app, ONE, signal("a")).await;
    assert_eq!(counts(&receipt), (1, 0, 0));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_one_that_breaks_off_is_400() {
    let app = app_with(Keys::open(), HttpOptions { timeout_ms: 50, ..HttpOptions::default() });
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let (status, body) = post(&app, ONE, never).await;
    assert_eq!((status, said(&body, "timeout").is_empty()), (StatusCode::REQUEST_TIMEOUT, false));
    let broken = Body::from_stream(futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]));
    let (status, body) = post(&app, ONE, broken).await;
    assert_eq!((status, said(&body, "incomplete").is_empty()), (StatusCode::BAD_REQUEST, false));
}

#[tokio::test]
async fn beyond_the_bound_in_flight_requests_are_503_until_others_end() {
    let options =
        HttpOptions { max_body_bytes: 60 << 10, max_in_flight_bytes: 64 << 10, ..HttpOptions::default() };
    let app = app_with(Keys::open(), options);
    let (sender, stream) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    let slow = tokio::spawn({
        let request =
            Request::post("/v1/signals").header("content-type", ONE).body(Body::from_stream(stream)).unwrap();
        app.router.clone().oneshot(request)
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (status, headers, body) = send(&app, &[("content-type", ONE)], signal("a")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    said(&body, "busy");
    assert!(headers.contains_key(header::RETRY_AFTER));
    sender.unbounded_send(Ok(signal("slow").into())).unwrap();
    drop(sender);
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(post(&app, ONE, signal("a")).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_large_batch_is_checked_aside_with_the_same_result() {
    let app = app();
    let batch: Vec<_> = (0..2000).map(|n| signal(&n.to_string())).collect();
    let (status, receipt) = post(&app, BATCH, format!("[{}]", batch.join(","))).await;
    assert_eq!((status, counts(&receipt)), (StatusCode::ACCEPTED, (2000, 0, 0)));
}

#[test]
fn the_description_names_the_route_and_every_type() {
    let dir = tempfile::tempdir().unwrap();
    let door = Arc::new(door(open_log(dir.path()), DoorOptions::default()));
    let gate = Gate::new(Keys::open(), GateOptions::default());
    let state = IngestState::new(door.clone(), gate, Arc::new(|| NOW), HttpOptions::default());
    let (_, api) = router(state).split_for_parts();
    let api = serde_json::to_value(api).unwrap();
    let responses = api["paths"]["/v1/signals"]["post"]["responses"].as_object().unwrap();
    for status in ["202", "400", "401", "403", "408", "413", "415", "429", "503"] {
        assert!(responses.contains_key(status), "{status}");
    }
    for declared in door.catalogue().types() {
        let schema = &api["components"]["schemas"][format!("signal.{}", declared.name)];
        assert_eq!(*schema, declared.json_schema());
    }
}

#[test]
fn no_body_panics_or_is_our_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(async { app() });
    // Bytes at random, and bytes that look like JSON for long enough to get past the first check.
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        r#"[\[{]"(id|data|subject|ce-id)"?:[ \[{"\\utxe0-9.,]{0,80}[\]}]?"#.prop_map(String::into_bytes),
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
            let mut bytes = signal("x").into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
    ];
    proptest!(ProptestConfig::with_cases(400), |(body in body, form in 0..5usize)| {
        let content_type = ["application/json", ONE, BATCH, LINES, "text/plain"][form];
        let status = runtime.block_on(async { post(&app, content_type, body).await.0 });
        prop_assert!(status.is_client_error() || status == StatusCode::ACCEPTED, "{}", status);
    });
}
