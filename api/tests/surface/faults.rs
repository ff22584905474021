//! Faults inside, and callers too slow or without end.

use super::*;

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
