//! The same life, on one process and on roles apart over real servers: signals in at two doors, features, tips,
//! reactions, explanations, an erased person; with roles killed and started again in the middle.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod faults;
#[path = "../support/mod.rs"]
mod support;
mod system;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use system::{Backends, System};

pub(crate) const COUNT: &str = "task_activity.completed_24h";
pub(crate) const MINUTES: &str = "task_activity.minutes_24h";

pub(crate) fn task_done(id: &str, user: &str, minutes: i64) -> Value {
    json!({
        "id": id, "source": "test", "type": "task.completed", "subject": user,
        "data": {"task": id, "project": "garden", "minutes": minutes},
    })
}

/// Signals with their own times, of a few people and types.
fn past(day: u32) -> Value {
    let signals = (0..60u32).map(|i| {
        let user = format!("past-{}", i % 5);
        let time = format!("2026-02-{:02}T{:02}:{:02}:{:02}.{:03}Z", 1 + day, i % 24, i % 60, (i * 7) % 60, i);
        let (kind, data) = match i % 3 {
            0 => ("task.completed", json!({"task": format!("t{i}"), "project": format!("p{}", i % 4), "minutes": i})),
            1 => ("mood.reported", json!({"mood": 1 + i % 5, "sleep_hours": f64::from(i % 10) / 3.0})),
            _ => ("code.push", json!({"repo": format!("r{}", i % 3), "files": i})),
        };
        json!({"id": format!("{day}-{i}"), "source": "past", "type": kind, "subject": user, "time": time, "data": data})
    });
    signals.collect()
}

/// Every value of everybody at an instant after the last signal, from history.
async fn all_values(system: &System, until: &str) -> Vec<Value> {
    let (status, registry) = system.process("api").get("/v1/features").await;
    assert_eq!(status, StatusCode::OK);
    let registry: Value = serde_json::from_slice(&registry).unwrap();
    let views: Vec<&str> =
        registry["views"].as_array().unwrap().iter().filter_map(|v| v["view"].as_str()).collect();
    assert!(views.len() > 3, "{registry}");
    let people: Vec<String> = (0..5).map(|i| format!("past-{i}")).collect();
    let question = json!({"entities": people, "views": views, "as_of": until});
    let (status, answer) = system.read("api", &question).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["rows"].as_array().unwrap().iter().map(|row| row["values"].clone()).collect()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0)
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, x)| y.get(name).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

/// One life; returns what features said at the end.
async fn life(mut system: System) -> Vec<Value> {
    // At two doors, one signal at both.
    let first = json!([task_done("1", "ada", 20), task_done("2", "ada", 30), task_done("1", "ada", 20)]);
    let receipt = system.post("ingest", &first).await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(2), &json!(1)));
    let receipt =
        system.post("ingest-2", &json!([task_done("2", "ada", 30), task_done("3", "ada", 1)])).await;
    let position = receipt["position"].as_str().unwrap();
    for api in ["api", "api-2"] {
        let values = system.values(api, "ada", &[COUNT, MINUTES], position).await;
        assert_eq!(values, json!({COUNT: 3, MINUTES: 51}), "{api}");
    }

    // A tip at one, the reaction at the other.
    let (status, tip) =
        system.process("api").post("/v1/recommend", &json!({"user": "ada", "channel": "web"})).await;
    assert_eq!(status, StatusCode::OK, "{tip}");
    let impression = tip["impression"].as_str().unwrap().to_owned();
    let reaction = json!({"impression": impression, "reaction": "accepted"});
    let send = || async {
        let (status, _) = system.process("api-2").post("/v1/feedback", &reaction).await;
        status.is_success().then_some(())
    };
    system.eventually("the other process knows the impression", send).await;
    let learned = || async {
        let (_, told) = system.process("api-2").get(&format!("/v1/impressions/{impression}")).await;
        let told: Value = serde_json::from_slice(&told).ok()?;
        (told["reward"]["reward"].is_number()).then_some(told)
    };
    let told = system.eventually("a reward", learned).await;
    assert_eq!(told["tip"], tip["tip"]["id"], "{told}");
    assert_eq!(told["replay"]["same"], true, "{told}");

    // Each role is killed and comes back; what was taken in meanwhile counts, once.
    let mut last = String::new();
    for (round, role) in ["stream", "ingest", "score", "api", "stream"].into_iter().enumerate() {
        let id = format!("before-{round}");
        system.post("ingest", &json!([task_done(&id, "bea", 1)])).await;
        system.kill(role);
        if system.is_apart() && role != "ingest" {
            system.post("ingest", &json!([task_done(&format!("amid-{round}"), "bea", 1)])).await;
        }
        system.start_process(role);
        let again = json!([task_done(&id, "bea", 1), task_done(&format!("amid-{round}"), "bea", 1)]);
        let receipt = system.post_until_taken("ingest", &again).await;
        last = receipt["position"].as_str().unwrap().to_owned();
        let values = system.values("api", "bea", &[COUNT], &last).await;
        assert_eq!(values, json!({COUNT: 2 * (round + 1)}), "after {role} was killed");
    }
    let values = system.values("api-2", "ada", &[COUNT, MINUTES], &last).await;
    assert_eq!(values, json!({COUNT: 3, MINUTES: 51}));
    let (status, _) = system.process("api").post("/v1/feedback", &reaction).await;
    assert!(status.is_success(), "an impression of before is known");

    // History has the past.
    for day in 0..3 {
        let receipt = system.post("ingest-2", &past(day)).await;
        assert_eq!(receipt["accepted"], 60, "{receipt}");
        last = receipt["position"].as_str().unwrap().to_owned();
    }
    system.values("api", "past-0", &[COUNT], &last).await;
    let until = "2026-02-04T02:00:00Z";
    let all = || async {
        let values = all_values(&system, "2026-02-04T02:00:00Z").await;
        let pushes = values.iter().flat_map(|v| v.as_object().unwrap()).filter(|(_, v)| !v.is_null()).count();
        // What the stream job wrote arrives in history a moment later.
        let count = history_rows(&system).await;
        (count == 180 && pushes > 20).then_some(values)
    };
    let values = system.eventually("all of the past in history", all).await;

    // Somebody leaves.
    let (status, gone) =
        system.process("api").try_send(Method::DELETE, "/v1/users/ada", "text/plain", "").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&gone));
    let nothing = || async {
        let (_, answer) = system.read("api-2", &json!({"entities": ["ada"], "features": [COUNT]})).await;
        let (_, export) = system.process("api-2").get("/v1/users/ada/export").await;
        (answer["rows"][0]["values"][COUNT] == 0 && export.is_empty()).then_some(())
    };
    system.eventually("nothing of the erased person", nothing).await;
    system.kill("stream");
    system.start_process("stream");
    let receipt = system
        .post_until_taken("ingest", &json!([task_done("1", "ada", 20), task_done("9", "bob", 1)]))
        .await;
    let position = receipt["position"].as_str().unwrap();
    assert_eq!(system.values("api", "bob", &[COUNT], position).await, json!({COUNT: 1}));
    assert_eq!(system.values("api", "ada", &[COUNT], position).await, json!({COUNT: 0}), "nobody comes back");
    assert_eq!(all_values(&system, until).await, values);
    values
}

/// Rows of the people of the past in history.
async fn history_rows(system: &System) -> usize {
    let mut rows = 0;
    for person in 0..5 {
        let (status, export) = system.process("api").get(&format!("/v1/users/past-{person}/export")).await;
        assert_eq!(status, StatusCode::OK);
        let text = String::from_utf8(export.to_vec()).unwrap();
        rows += text
            .lines()
            .filter(|l| !l.contains("\"table\":\"features_") && !l.contains("\"table\":\"signals\""))
            .count();
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_life_in_every_shape() {
    let embedded = life(System::embedded()).await;
    let Some(backends) = Backends::start() else { return };
    let together = life(System::together(backends)).await;
    let Some(backends) = Backends::start() else { return };
    let apart = life(System::apart(backends)).await;
    for (person, values) in embedded.iter().enumerate() {
        assert!(same(values, &together[person]), "{values}\n{}", together[person]);
        assert!(same(values, &apart[person]), "{values}\n{}", apart[person]);
    }
}
