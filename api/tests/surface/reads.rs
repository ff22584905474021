//! Reads of features: mistakes, sizes, Arrow, and what the caller wrote.

use super::*;

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
async fn rows_that_may_be_too_old_say_so() {
    let (_, router) = open();
    let body = json!({"entities": ["ada", "stale"], "features": ["task_activity.completed_24h"]});
    let answer = post(&router, "/v1/features/read", &body.to_string()).await;
    let rows = &answer.json()["rows"];
    assert_eq!((&rows[0].get("stale"), &rows[1]["stale"]), (&None, &json!(true)), "{}", answer.text);
    let api = get(&router, "/openapi.json").await.json();
    for schema in ["RowShape", "Recommendation"] {
        assert!(api["components"]["schemas"][schema]["properties"]["stale"].is_object(), "{schema}");
    }
}
