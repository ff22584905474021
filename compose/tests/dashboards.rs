//! Every query of the dashboard and every rule, against a real Prometheus that scrapes the running binary.
//!
//! Takes Prometheus from `KAIROS_TEST_PROMETHEUS` or from the path. Without one the test says that it was
//! skipped, and fails where `KAIROS_TEST_REQUIRE` is set.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use support::Server;

/// Counters that a healthy run may never touch, so that Prometheus does not know them. Each with the reason.
const MAY_BE_SILENT: [(&str, &str); 11] = [
    ("kairos_feature_drift_psi", "no week has passed yet"),
    ("kairos_ingest_future_clamped_total", "future times are refused by default, not clamped"),
    ("kairos_ingest_log_failures_total", "the log takes everything"),
    ("kairos_log_failed_commits_total", "the disk works"),
    ("kairos_stream_checkpoint_failures_total", "checkpoints succeed"),
    ("kairos_stream_late_total", "nothing comes later than its view allows"),
    ("kairos_udf_panics_total", "no user function is installed"),
    ("kairos_scorer_rewards_foreign_total", "the context's list of features has not changed"),
    ("kairos_http_refused_total", "nobody is turned away at the gate"),
    (r#"status=~"5.."}"#, "no request fails"),
    (r#"route="/readyz",status="503""#, "the process is ready"),
];

/// How long metrics, scrapes and rules may take to yield data for everything.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_and_rule_finds_data() {
    let Some(program) = prometheus_program() else {
        println!("skipped: no prometheus");
        assert!(std::env::var_os("KAIROS_TEST_REQUIRE").is_none(), "a real Prometheus is required here");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("kairos.toml");
    fs::write(&config, "[stream]\ncheckpoint_seconds = 1\n").unwrap();
    let server = Server::start_with(&dir.path().join("data"), &["--config", &config.display().to_string()]);
    let prometheus = Prometheus::start(&program, &dir.path().join("prometheus"), &server.address).await;

    let mut waiting = dashboard_queries();
    let rules = prometheus.rules().await;
    assert!(waiting.len() > 30 && rules.len() > 10, "{} queries, {} rules", waiting.len(), rules.len());
    waiting.extend(rules);
    for Query { whence, text } in &waiting {
        assert_names_are_declared(whence, text);
    }

    let began = Instant::now();
    let mut round = 0;
    loop {
        traffic(&server, round).await;
        round += 1;
        let mut still = Vec::new();
        for query in waiting {
            if !prometheus.has_data(&query).await {
                still.push(query);
            }
        }
        waiting = still;
        let missing: Vec<&Query> = waiting.iter().filter(|q| !may_be_silent(&q.text)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no data after {} s for:\n{}\n\nmetrics:\n{}",
            PATIENCE.as_secs(),
            missing.iter().map(|q| format!("{}: {}", q.whence, q.text)).collect::<Vec<_>>().join("\n"),
            String::from_utf8_lossy(&server.get("/metrics").await.1)
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let quiet: Vec<&str> = waiting.iter().map(|q| q.whence.as_str()).collect();
    println!(
        "data for everything after {:.1} s; silent, as they may be: {quiet:?}",
        began.elapsed().as_secs_f64()
    );
    server.stop();
}

#[test]
fn alerts_fire_when_they_should() {
    let Some(program) = program("promtool") else {
        println!("skipped: no promtool");
        assert!(std::env::var_os("KAIROS_TEST_REQUIRE").is_none(), "promtool is required here");
        return;
    };
    let rules = dashboards().join("prometheus");
    let done = Command::new(program).args(["test", "rules", "alerts_test.yml"]).current_dir(rules).output();
    let done = done.unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", said(&done.stdout), said(&done.stderr));
}

/// One thing to ask Prometheus.
#[derive(Debug)]
struct Query {
    whence: String,
    text: String,
}

fn may_be_silent(text: &str) -> bool {
    MAY_BE_SILENT.iter().any(|(part, _)| text.contains(part))
}

/// Signals of many kinds, tips and reactions, a repeat and a mistake; new people each round, because rules
/// spare everybody too many tips.
async fn traffic(server: &Server, round: u32) {
    let mut position = String::new();
    for person in 0..5 {
        let user = format!("person-{round}-{person}");
        let signals = json!([
            signal(&user, "a", "task.completed", json!({"project": "garden", "minutes": 25})),
            signal(&user, "b", "mood.reported", json!({"mood": 3})),
            signal(&user, "a", "task.completed", json!({"project": "garden", "minutes": 25})),
            signal(&user, "c", "task.completed", json!({"minutes": "many"})),
        ]);
        let (status, answer) =
            server.post_text("/v1/signals", "application/cloudevents-batch+json", signals.to_string()).await;
        assert_eq!(status, 202, "{answer}");
        assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(2), &json!(1)), "{answer}");
        position = answer["position"].as_str().unwrap().to_owned();

        // Until the rules prefer silence.
        for n in 0..8 {
            let (status, tip) = server.post("/v1/recommend", &json!({"user": user, "channel": "web"})).await;
            if status == 204 {
                break;
            }
            assert_eq!(status, 200, "{tip}");
            let reaction = if n % 2 == 0 { "accepted" } else { "dismissed" };
            let reaction = json!({"impression": tip["impression"], "reaction": reaction});
            let (status, answer) = server.post("/v1/feedback", &reaction).await;
            assert_eq!(status, 202, "{answer}");
        }
    }
    let seen =
        server.features(&format!("person-{round}-4"), &["task_activity.completed_1h"], &position).await;
    assert_eq!(seen["task_activity.completed_1h"], 1, "{seen}");
}

fn signal(user: &str, id: &str, kind: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": format!("{user}-{id}"), "source": "test", "type": kind, "subject": user,
        "data": data,
    })
}

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

fn dashboard_queries() -> Vec<Query> {
    let text = fs::read_to_string(dashboards().join("grafana/dashboards/overview.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().unwrap().replace("$__rate_interval", "10s");
            assert!(!text.contains('$'), "a variable that this test does not know: {text}");
            queries.push(Query { whence: format!("panel {}", panel["title"]), text });
        }
    }
    queries
}

/// A query must not name a metric that the program does not declare, not even one that may be silent.
fn assert_names_are_declared(whence: &str, query: &str) {
    let declared = declared_metrics();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for word in query.split(|c| !is_name(c)).filter(|w| w.starts_with("kairos_")) {
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|end| word.strip_suffix(end));
        let known = declared.contains(word) || parts.into_iter().any(|w| declared.contains(w));
        assert!(known, "{whence}: no crate declares {word}");
    }
}

/// Every metric's name that stands in the crates as a constant.
fn declared_metrics() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["ingest", "features", "stream-jobs", "scorer", "api", "pipelines"]
        .map(|c| top.join(c).join("src"))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(path).unwrap();
                let constants = text.split("\"kairos_").skip(1).filter_map(|rest| rest.split('"').next());
                names.extend(constants.map(|rest| format!("kairos_{rest}")));
            }
        }
    }
    names
}

fn prometheus_program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("KAIROS_TEST_PROMETHEUS") {
        return Some(named.into());
    }
    program("prometheus")
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// A running Prometheus; killed when dropped.
struct Prometheus {
    child: Child,
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Prometheus {
    /// With the configuration and rules of this repository, but scraping `target`, every second.
    async fn start(program: &Path, dir: &Path, target: &str) -> Prometheus {
        fs::create_dir_all(dir).unwrap();
        let shipped = dashboards().join("prometheus");
        let config = fs::read_to_string(shipped.join("prometheus.yml")).unwrap();
        let (config, found_by_name) = config.split_once("    dns_sd_configs:").unwrap();
        assert!(found_by_name.contains("kairos") && config.contains("10s"));
        fs::write(
            dir.join("prometheus.yml"),
            format!("{config}    static_configs: [{{targets: [\"{target}\"]}}]\n").replace("10s", "1s"),
        )
        .unwrap();
        for rules in ["rules.yml", "alerts.yml"] {
            fs::copy(shipped.join(rules), dir.join(rules)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let prometheus = Prometheus { child, base: format!("http://127.0.0.1:{port}"), client };
        let began = Instant::now();
        while prometheus.get("/-/ready").await.is_none() {
            let said = || fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "prometheus did not come up:\n{}", said());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        prometheus
    }

    /// The answer's body, where it is a success.
    async fn get(&self, path: &str) -> Option<Bytes> {
        let answer = self.client.get(format!("{}{path}", self.base).parse().unwrap()).await.ok()?;
        let fine = answer.status().is_success();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        fine.then_some(body)
    }

    /// The expressions of all rules as Prometheus read them. An alert is asked for as the series it compares,
    /// because a quiet alert is empty.
    async fn rules(&self) -> Vec<Query> {
        let body = self.get("/api/v1/rules").await.expect("the rules can be listed");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let mut queries = Vec::new();
        for group in answer["data"]["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                let (name, text) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
                let text = match rule["type"].as_str() {
                    Some("alerting") => compared_series(text),
                    _ => text,
                };
                queries.push(Query { whence: format!("rule {name}"), text: text.to_owned() });
            }
        }
        queries
    }

    /// Whether a query yields a number; one that does not parse fails the test.
    async fn has_data(&self, query: &Query) -> bool {
        let encoded: String = query.text.bytes().map(|b| format!("%{b:02X}")).collect();
        let Some(body) = self.get(&format!("/api/v1/query?query={encoded}")).await else {
            panic!("{}: prometheus refuses {}", query.whence, query.text);
        };
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let samples = answer["data"]["result"].as_array().unwrap();
        samples.iter().any(|s| s["value"][1].as_str().is_some_and(|v| v != "NaN"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an alert compares with a number.
fn compared_series(alert: &str) -> &str {
    let (series, bound) = [" > ", " < ", " == "]
        .iter()
        .filter_map(|op| alert.rsplit_once(op))
        .max_by_key(|(series, _)| series.len())
        .unwrap_or_else(|| panic!("{alert}: an alert compares a series with a number"));
    assert!(bound.trim().parse::<f64>().is_ok(), "{alert}: the right side is no number");
    series
}
