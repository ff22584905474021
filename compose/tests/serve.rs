//! The real binary, from outside: the whole way of a signal, restarts, bad input, stopping, keys.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Server, kairos, run};

fn task_done(id: &str, user: &str, minutes: i64) -> Value {
    json!({
        "id": id, "source": "test", "type": "task.completed", "subject": user,
        "data": {"task": id, "project": "garden", "minutes": minutes},
    })
}

const COUNT: &str = "task_activity.completed_24h";
const MINUTES: &str = "task_activity.minutes_24h";

#[tokio::test]
async fn from_a_signal_to_a_tip_to_a_reaction_to_an_explanation_and_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let batch = json!([task_done("1", "ada", 20), task_done("2", "ada", 30), task_done("1", "ada", 20)]);
    let (status, receipt) = server.post("/v1/signals", &batch).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{receipt}");
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(2), &json!(1)));
    let position = receipt["position"].as_str().unwrap();
    let values = server.features("ada", &[COUNT, MINUTES], position).await;
    assert_eq!(values, json!({COUNT: 2, MINUTES: 50}));

    let (status, tip) = server.post("/v1/recommend", &json!({"user": "ada", "channel": "web"})).await;
    assert_eq!(status, StatusCode::OK, "{tip}");
    let impression = tip["impression"].as_str().unwrap().to_owned();
    let propensity = tip["propensity"].as_f64().unwrap();
    assert!(propensity > 0.0 && propensity <= 1.0);
    let reaction = json!({"impression": impression, "reaction": "accepted"});
    let (status, answer) = server.post("/v1/feedback", &reaction).await;
    assert!(status.is_success(), "{answer}");
    let (status, answer) =
        server.post("/v1/feedback", &json!({"impression": "none", "reaction": "done"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");

    let (status, registry) = server.get("/v1/features").await;
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&registry).contains(COUNT));
    let (status, ready) = server.get("/readyz").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&ready));
    let (_, metrics) = server.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics);
    for name in [
        "kairos_ingest_signals_accepted_total",
        "kairos_scorer_decisions_total",
        "kairos_http_request_seconds_bucket",
    ] {
        assert!(metrics.contains(name), "{name} is missing from\n{metrics}");
    }
    server.stop();

    let (status, told, errors) =
        run(kairos().args(["explain", &impression, "--json", "--data"]).arg(data.path()));
    assert!(status.success(), "{errors}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["tip"], tip["tip"]["id"]);
    assert_eq!(told["propensity"].as_f64(), Some(propensity));
    assert_eq!(told["reactions"][0]["reaction"], "accepted");
    assert_eq!(told["replay"]["same"], true);

    let server = Server::start(data.path());
    let (_, receipt) =
        server.post("/v1/signals", &json!([task_done("1", "ada", 20), task_done("3", "ada", 1)])).await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(1), &json!(1)), "over a restart");
    let values = server.features("ada", &[COUNT, MINUTES], receipt["position"].as_str().unwrap()).await;
    assert_eq!(values, json!({COUNT: 3, MINUTES: 51}));
    let (status, _) = server.post("/v1/feedback", &reaction).await;
    assert!(status.is_success(), "an impression of before the restart is known");
    server.stop();
}

#[tokio::test]
async fn an_erased_person_is_gone_everywhere_and_stays_so() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let both = json!([task_done("1", "ada", 20), task_done("2", "bob", 30)]);
    let (_, receipt) = server.post("/v1/signals", &both).await;
    let position = receipt["position"].as_str().unwrap();
    assert_eq!(server.features("ada", &[COUNT], position).await, json!({COUNT: 1}));
    let (_, export) = server.get("/v1/users/ada/export").await;
    let export = String::from_utf8(export.to_vec()).unwrap();
    assert!(export.lines().any(|l| l.contains("\"table\":\"task_completed\"")), "{export}");
    assert!(!export.contains("bob"), "{export}");
    let (status, gone) = server.try_send(Method::DELETE, "/v1/users/ada", "text/plain", "").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&gone));
    server.stop();

    let server = Server::start(data.path());
    let (_, receipt) = server.post("/v1/signals", &both).await;
    assert_eq!(receipt["duplicates"], 2, "a repeat does not bring the person back");
    let position = receipt["position"].as_str().unwrap();
    assert_eq!(server.features("ada", &[COUNT], position).await, json!({COUNT: 0}));
    assert_eq!(server.features("bob", &[COUNT], position).await, json!({COUNT: 1}));
    let (_, export) = server.get("/v1/users/ada/export").await;
    assert!(export.is_empty(), "{}", String::from_utf8_lossy(&export));
    server.stop();
}

#[tokio::test]
async fn a_role_alone_does_its_part() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::spawn(&["run", "ingest"], data.path(), &[]);
    let (status, receipt) = server.post("/v1/signals", &task_done("1", "ada", 20)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{receipt}");
    let (status, _) = server.post("/v1/recommend", &json!({"user": "ada"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "tips are another role's");
    let (status, ready) = server.get("/readyz").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&ready));
    let (_, metrics) = server.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics).contains(r#"route="/v1/signals",status="202""#));
    server.stop();
    let server = Server::start(data.path());
    let values = server.features("ada", &[COUNT], receipt["position"].as_str().unwrap()).await;
    assert_eq!(values, json!({COUNT: 1}), "what one role took in another one applies");
    server.stop();
}

#[tokio::test]
async fn bad_input_gets_a_reason_and_takes_nothing_with_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let good = task_done("good", "bea", 5);
    let mut far = task_done("far", "bea", 5);
    far["time"] = json!("2999-01-01T00:00:00Z");
    let mut unknown_type = task_done("type", "bea", 5);
    unknown_type["type"] = json!("task.compleated");
    let mut no_subject = task_done("nobody", "bea", 5);
    no_subject.as_object_mut().unwrap().remove("subject");
    let wrong_field =
        task_done("field", "bea", 5).to_string().replace("\"minutes\":5", "\"minutes\":\"ten\"");
    let huge = task_done("huge", &"x".repeat(1 << 20), 5);
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("no JSON", b"{\"id\": ".to_vec(), ""),
        ("far future", far.to_string().into(), "time"),
        ("unknown type", unknown_type.to_string().into(), "task.completed"),
        ("no subject", no_subject.to_string().into(), "subject"),
        ("wrong field", wrong_field.into(), "data.minutes"),
        ("subject of 1 MB", huge.to_string().into(), "subject"),
    ];
    for (name, body, named) in cases {
        let (status, answer) = server.post_text("/v1/signals", "application/json", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {answer}");
        assert!(answer.to_string().contains(named), "{name}: {answer}");
    }
    let (status, answer) =
        server.post_text("/v1/signals", "application/json", b"{\"id\":\"\xff\xfe\"}".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "bad UTF-8: {answer}");
    let (status, _) = server.post_text("/v1/signals", "text/plain", "x").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let too_large =
        server.try_send(Method::POST, "/v1/signals", "application/json", vec![b' '; 9 << 20]).await;
    // A server may answer before it has read everything; then the rest breaks off.
    assert!(too_large.is_err() || too_large.is_ok_and(|(status, _)| status == StatusCode::PAYLOAD_TOO_LARGE));
    let mixed = format!("{good}\nnonsense\n{far}\n");
    let (status, answer) = server.post_text("/v1/signals", "application/x-ndjson", mixed).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(answer["accepted"], 1, "{answer}");
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(answer["rejected"][0]["index"], 1);
    let values = server.features("bea", &[COUNT], answer["position"].as_str().unwrap()).await;
    assert_eq!(values[COUNT], 1, "only the good one counts");
    server.stop();
}

#[tokio::test]
async fn asked_to_stop_it_finishes_what_it_took_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let mut acknowledged = 0;
    for number in 0..200 {
        if number == 150 {
            server.ask_to_stop();
        }
        let body = task_done(&number.to_string(), "cem", 1).to_string();
        match server.try_send(Method::POST, "/v1/signals", "application/json", body).await {
            Ok((StatusCode::ACCEPTED, _)) => acknowledged += 1,
            Ok((status, body)) => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            Err(_) => break,
        }
    }
    assert!(server.wait().success(), "{}", server.logged());
    assert!(acknowledged >= 150);
    let server = Server::start(data.path());
    let (_, receipt) = server.post("/v1/signals", &task_done("last", "cem", 1)).await;
    let values = server.features("cem", &[COUNT], receipt["position"].as_str().unwrap()).await;
    let count = values[COUNT].as_i64().unwrap() - 1;
    // The one whose answer was lost may have been taken.
    assert!(
        count == acknowledged || count == acknowledged + 1,
        "{count} counted, {acknowledged} acknowledged"
    );
    server.stop();
}

#[test]
fn a_second_process_on_the_same_directory_is_told_so() {
    let data = tempfile::tempdir().unwrap();
    let _server = Server::start(data.path());
    let (status, _, errors) =
        run(kairos().args(["run", "--listen", "127.0.0.1:0", "--data"]).arg(data.path()));
    assert_eq!(status.code(), Some(4), "{errors}");
    assert!(errors.contains("in use by another"), "{errors}");
}

#[test]
fn without_a_key_only_this_machine_is_served() {
    let data = tempfile::tempdir().unwrap();
    let (status, _, errors) = run(kairos().args(["run", "--listen", "0.0.0.0:0", "--data"]).arg(data.path()));
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("http.listen") && errors.contains("kairos keys new"), "{errors}");
    let server = Server::start(data.path());
    assert!(server.logged().contains("no API key is configured"), "{}", server.logged());
}

#[tokio::test]
async fn with_a_key_a_caller_needs_one_with_the_right_scope() {
    let data = tempfile::tempdir().unwrap();
    let (status, key, errors) =
        run(kairos().args(["keys", "new", "phone", "--scope", "ingest", "--data"]).arg(data.path()));
    assert!(status.success(), "{errors}");
    let server = Server::start(data.path());
    let send = async |key: Option<&str>, path: &str| {
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let mut request = hyper::Request::post(format!("http://{}{path}", server.address))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = task_done("1", "dan", 1).to_string();
        let request = request.body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap();
        client.request(request).await.unwrap().status()
    };
    assert_eq!(send(None, "/v1/signals").await, StatusCode::UNAUTHORIZED);
    assert_eq!(send(Some("wrong"), "/v1/signals").await, StatusCode::UNAUTHORIZED);
    assert_eq!(send(Some(key.trim()), "/v1/signals").await, StatusCode::ACCEPTED);
    assert_eq!(send(Some(key.trim()), "/v1/recommend").await, StatusCode::FORBIDDEN);
    assert!(!server.logged().contains(key.trim()), "a key never shows in the log");
    server.stop();
}

#[test]
fn a_damaged_log_is_a_clear_error() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = Server::start(data.path());
    runtime.block_on(async {
        for number in 0..20 {
            server.post("/v1/signals", &task_done(&number.to_string(), "eve", 1)).await;
        }
    });
    server.kill();
    let segment = newest_file(&data.path().join("log/signals"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let (status, _, errors) =
        run(kairos().args(["run", "--listen", "127.0.0.1:0", "--data"]).arg(data.path()));
    assert!(!status.success());
    assert!(errors.contains(segment.file_name().unwrap().to_str().unwrap()), "the file is named: {errors}");
}

fn newest_file(dir: &std::path::Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    files.filter(|p| p.is_file()).max_by_key(|p| std::fs::metadata(p).unwrap().len()).unwrap()
}

#[test]
fn wrong_settings_are_named_with_what_would_be_right() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("kairos.toml");
    std::fs::write(&file, "[http]\nlisten = \"nowhere\"\n").unwrap();
    let (status, _, errors) =
        run(kairos().args(["check", "--config"]).arg(&file).arg("--data").arg(data.path()));
    assert_eq!(status.code(), Some(2));
    assert!(errors.contains("http.listen: `nowhere` is no address"), "{errors}");
    let (status, _, errors) =
        run(kairos().args(["check", "--data"]).arg(data.path()).env("KAIROS__HTTP__LISEN", "x"));
    assert_eq!(status.code(), Some(2));
    assert!(errors.contains("http.lisen") && errors.contains("listen"), "{errors}");
}

#[test]
fn check_opens_everything_once() {
    let data = tempfile::tempdir().unwrap();
    let (status, told, errors) = run(kairos().args(["check", "--data"]).arg(data.path()));
    assert!(status.success(), "{told}{errors}");
    for part in ["signals", "views", "tips", "log", "history"] {
        assert!(told.contains(&format!("ok    {part}")), "{told}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    server.ask_to_stop();
    // It may be gone already; then there is nothing left to hurry.
    let _ = std::process::Command::new("kill").args(["-TERM", &server.pid().to_string()]).status();
    let began = std::time::Instant::now();
    let _ = server.wait();
    assert!(began.elapsed() < Duration::from_secs(10));
}
