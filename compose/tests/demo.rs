//! `kairos demo`: it comes up, people live, both arms are counted, the pages are served, and it ends in order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::json;
use support::Server;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn people_live_and_both_arms_are_counted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::spawn(&["demo", "--people", "60", "--speed", "30"], data.path(), &[]);
    for (path, holds) in [
        ("/demo", "How many tips are taken up"),
        ("/demo/demo.js", "/demo/state"),
        ("/demo/demo.css", "#curve"),
        ("/", "<title>Kairos</title>"),
    ] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(String::from_utf8_lossy(&body).contains(holds), "{path}");
    }
    let began = Instant::now();
    let state = loop {
        let (status, state) = server.get("/demo/state").await;
        assert_eq!(status, StatusCode::OK);
        let state = support::json_or_null(&state);
        let total = &state["figures"]["total"];
        let taken = |arm: &str| total[arm]["taken"].as_u64().unwrap();
        if taken("bandit") > 5 && taken("uniform") > 5 {
            break state;
        }
        assert!(began.elapsed() < PATIENCE, "nobody takes up tips: {total}\n{}", server.logged());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let total = &state["figures"]["total"];
    for arm in ["bandit", "uniform"] {
        let share = |part: &str| total[arm][part].as_f64().unwrap();
        assert!(share("taken") < share("shown"), "{total}");
        assert!(share("low") < share("rate") && share("rate") < share("high"), "{total}");
    }
    let person = state["people"][0].as_str().unwrap();
    let values = server.features(person, &["sleep_debt.nights_7d", "movement.counts_24h"], "").await;
    assert!(values["sleep_debt.nights_7d"].as_i64().unwrap() >= 6, "a week of the past is there: {values}");
    let (status, tip) = server.post("/v1/recommend", &json!({"user": person, "channel": "web"})).await;
    assert!(status == StatusCode::OK || status == StatusCode::NO_CONTENT, "{tip}");
    server.stop();
}
