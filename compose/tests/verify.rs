//! `kairos features verify` on the real binary: beside a running server, without one, and where history was
//! tampered with.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use features::offline::{OfflineStore, Options, ParquetHistory};
use hyper::StatusCode;
use ingest::log::Position;
use serde_json::{Value, json};
use support::{Server, kairos, run};

fn signals() -> Value {
    let mut all = Vec::new();
    for who in ["ada", "grace", "żółw"] {
        for n in 0..12i64 {
            // Some within the hour, some days ago.
            let time = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(7 * n * n * n);
            all.push(json!({
                "id": format!("{who}-{n}"), "source": "test", "type": "task.completed", "subject": who,
                "time": time.to_string(), "data": {"project": format!("p{}", n % 3), "minutes": n},
            }));
            all.push(json!({
                "id": format!("mood-{who}-{n}"), "source": "test", "type": "mood.reported", "subject": who,
                "time": time.to_string(), "data": {"mood": n % 5},
            }));
        }
    }
    json!(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn served_values_are_what_their_sql_gives_and_a_difference_is_told() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("kairos.toml");
    std::fs::write(&config, "[stream]\ncheckpoint_seconds = 0.5\n[verify]\nper_minute = 6000\n").unwrap();
    let data = data.path().join("data");
    let server = Server::start_with(&data, &["--config", &config.display().to_string()]);
    let (status, receipt) = server.post("/v1/signals", &signals()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{receipt}");
    let position = receipt["position"].as_str().unwrap();
    server.features("ada", &["task_activity.completed_1h"], position).await;

    let verify = |more: &[&str]| {
        let mut command = kairos();
        command.args(["features", "verify", "--seed", "5", "--sample", "10", "--data"]).arg(&data).args(more);
        let (status, out, errors) = run(&mut command);
        (status.code().unwrap(), out, errors)
    };
    // A checkpoint must have been, for there to be any history to choose people from.
    let wanted: Position = position.parse().unwrap();
    let began = Instant::now();
    let reached = || {
        let history = ParquetHistory::open_read_only(&data.join("history"), Options::new(Arc::new(|| 0)));
        history.is_ok_and(|h| h.durable_position().unwrap().covers(&wanted))
    };
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = format!("http://{}", server.address);
    let views = ["--view", "task_activity", "--view", "mood_trend"];
    let (code, out, errors) = verify(&[&["--url", &url, "--json"][..], &views].concat());
    assert_eq!(code, 0, "{out}{errors}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["views"], &report["entities"]), (&json!(2), &json!(6)), "{report}");
    assert_eq!(report["differences"], json!([]));

    watched(&server).await;

    let (code, _, errors) = verify(&views);
    assert!(code == 4 && errors.contains("--url"), "a server holds the data: {errors}");
    server.stop();

    let (status, listed, errors) = run(kairos().args(["features", "list", "--json", "--data"]).arg(&data));
    assert!(status.success(), "{errors}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let view = listed.as_array().unwrap().iter().find(|v| v["view"] == "task_activity").unwrap();
    assert_eq!(view["features"][0]["null_rate"], 0.0, "it was counted while the server ran: {view}");
    let (_, listed, _) = run(kairos().args(["features", "list", "--data"]).arg(&data));
    assert!(listed.contains("Int, NULL 0.0 %"), "{listed}");

    let (code, out, errors) = verify(&["--json"]);
    assert_eq!(code, 0, "{out}{errors}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["values"].as_u64().unwrap() > 100, "{report}");
    let (code, out, errors) = verify(&["--view", "task_activity", "--at", "2020-01-01T00:00:00Z"]);
    assert!(code == 0 && out.starts_with("0 differences"), "{out}{errors}");
    assert!(!data.join("features.verify").exists(), "the copy of the checkpoint is gone");

    let history = ParquetHistory::open(&data.join("history"), Options::new(Arc::new(|| 0))).unwrap();
    assert!(history.erase("ada").unwrap() > 0);
    drop(history);
    let (code, out, _) = verify(&["--view", "task_activity"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("task_activity.completed_7d of ada, now") && out.contains("recomputed 0"), "{out}");
    assert!(!out.contains("of grace"), "{out}");
    let (code, _, errors) = verify(&["--view", "nonsense"]);
    assert!(code == 3 && errors.contains("no view `nonsense`"), "{errors}");
}

/// The server compares by itself, and tells how its features are.
async fn watched(server: &Server) {
    let began = Instant::now();
    let checked = |metrics: &str, name: &str| -> f64 {
        let of = metrics.lines().filter(|l| l.starts_with(name));
        of.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    loop {
        let (_, metrics) = server.get("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        let exported = metrics.contains(r#"kairos_view_freshness_ratio{view="task_activity"}"#)
            && metrics.contains(r#"kairos_feature_null_ratio{view="task_activity""#);
        if exported && checked(&metrics, "kairos_verify_checked_total") > 100.0 {
            assert_eq!(checked(&metrics, "kairos_verify_differences_total"), 0.0, "{metrics}");
            assert_eq!(checked(&metrics, "kairos_verify_failures_total"), 0.0, "{metrics}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, registry) = server.get("/v1/features").await;
    let registry: Value = serde_json::from_slice(&registry).unwrap();
    let view = |name: &str| {
        registry["views"].as_array().unwrap().iter().find(|v| v["view"] == name).cloned().unwrap()
    };
    let tasks = view("task_activity");
    assert_eq!(tasks["freshness"]["objective_ms"], 5_000, "{tasks}");
    assert!(tasks["freshness"]["p99_ms"].as_i64().unwrap() < 60_000, "{tasks}");
    assert!(tasks["watermark"].as_str().unwrap().ends_with('Z') && tasks["late"].is_u64(), "{tasks}");
    assert_eq!(
        (&tasks["features"][0]["null_rate"], &tasks["features"][0]["drift"]),
        (&json!(0.0), &Value::Null)
    );
    let heart = view("heart");
    assert_eq!((&heart["freshness"]["p50_ms"], &heart["watermark"]), (&Value::Null, &Value::Null));
}
