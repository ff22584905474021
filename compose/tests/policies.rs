//! A policy in the shadow of another: promoted when the log shows that it is better, refused with reasons when
//! not, rolled back, trained; over kill -9 and with the data directory free or held.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use serde_json::{Value, json};
use support::{Server, kairos, run};

const PATIENCE: Duration = Duration::from_secs(120);
const PEOPLE: usize = 40;
/// Decisions until the shadow is judged.
const DECISIONS: usize = 500;

const SETTINGS: &str = r#"
[scorer.policy]
name = "uniform"

[scorer.shadow]
name = "linucb"

[scorer.promotion]
decisions = 400
effective_decisions = 20
largest_share = 0.2

[scorer.learn]
window_minutes = 0.002
grace_seconds = 0.0
"#;
const RULES: &str = r#"
tips_per_hour = 1000000
tips_per_day = 1000000
dismissals = 0
repeat_hours = 0.0
category_per_day = 1000000
"#;
/// Categories of the tips that are not blocked.
const LEFT: [&str; 3] = ["movement", "rest", "focus"];

/// A data directory with the settings above.
struct Place {
    dir: tempfile::TempDir,
    config: String,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kairos.toml");
        // Few tips, so that a few hundred decisions tell enough.
        let tips = scorer::tips::TipCatalogue::builtin().unwrap();
        let others = tips.iter().filter(|t| !LEFT.contains(&t.category.as_str()));
        let others: Vec<&str> = others.map(|t| t.id.as_str()).collect();
        std::fs::write(&file, format!("{SETTINGS}\n[scorer.rules]\nblocked = {others:?}\n{RULES}")).unwrap();
        Place { config: file.to_str().unwrap().to_owned(), dir }
    }

    fn data(&self) -> &Path {
        self.dir.path()
    }

    fn server(&self) -> Server {
        Server::start_with(self.data(), &["--config", &self.config])
    }

    /// A command on this data directory: exit status, JSON of its output where it is such, stderr.
    fn command(&self, arguments: &[&str]) -> (i32, Value, String) {
        let mut command: Command = kairos();
        command.args(["--config", &self.config, "--data"]).arg(self.data()).args(arguments);
        let (status, out, err) = run(&mut command);
        let value = serde_json::from_str(&out).unwrap_or(Value::String(out));
        (status.code().unwrap(), value, err)
    }
}

/// Asks for a tip and likes it if it is about movement.
async fn live(server: &Server, i: usize) -> (String, String) {
    let tips = scorer::tips::TipCatalogue::builtin().unwrap();
    let user = format!("user-{}", i % PEOPLE);
    let (status, tip) = server.post("/v1/recommend", &json!({ "user": user })).await;
    assert_eq!(status, StatusCode::OK, "{tip}");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let (id, impression) = (text(&tip["tip"]["id"]), text(&tip["impression"]));
    let liked = tips.get(&id).unwrap().category == "movement";
    let reaction = if liked { "accepted" } else { "dismissed" };
    let (status, answer) =
        server.post("/v1/feedback", &json!({ "impression": impression, "reaction": reaction })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    (impression, text(&tip["policy"]))
}

async fn policy(server: &Server) -> String {
    live(server, 0).await.1.split('@').next().unwrap().to_owned()
}

fn missing(answer: &Value) -> Vec<&str> {
    answer["missing"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_better_shadow_serves_after_its_promotion_until_it_is_rolled_back() {
    let place = Place::new();
    let mut server = place.server();
    let mut last = String::new();
    for i in 0..DECISIONS {
        last = live(&server, i).await.0;
        if i == 50 {
            let (code, answer, err) = place.command(&["policy", "promote", "--dry-run", "--json"]);
            assert_eq!(code, 5, "{answer} {err}");
            assert!(missing(&answer).contains(&"decisions"), "{answer}");
            let found = answer["report"]["conditions"][0]["found"].as_str().unwrap();
            assert!(found.contains("`uniform`") && found.contains("`linucb`"), "{found}");
            let (code, answer, err) = place.command(&["policy", "promote", "--url", &url(&server)]);
            assert_eq!(code, 5, "{answer} {err}");
            assert!(answer.as_str().unwrap().contains("MISSING  decisions"), "{answer}");
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (code, answer, err) = place.command(&["policy", "promote", "--dry-run", "--json"]);
    assert_eq!((code, &answer["promoted"]), (0, &json!(false)), "{answer:#} {err}");
    assert_eq!(policy(&server).await, "uniform", "nothing was changed");
    let (code, answer, err) = place.command(&["policy", "promote", "--json", "--url", &url(&server)]);
    assert_eq!((code, &answer["promoted"]), (0, &json!(true)), "{answer:#} {err}");
    server.kill();
    let server = place.server();
    assert_eq!(policy(&server).await, "linucb", "what was answered holds after kill -9");

    let (code, told, err) = place.command(&["explain", &last, "--json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(told["replay"]["again"]["outcome"], "equal", "{told:#}");
    assert_eq!(told["shadow"]["again"]["outcome"], "equal", "{told:#}");

    let (code, answer, err) = place.command(&["policy", "promote", "--json", "--url", &url(&server)]);
    assert_eq!(code, 5, "{answer} {err}");
    assert_eq!(answer["report"]["shadow"], "uniform", "what served is in the shadow now: {answer:#}");

    let (code, answer, err) = place.command(&["policy", "rollback", "--json", "--url", &url(&server)]);
    assert_eq!(code, 0, "{answer} {err}");
    assert_eq!(
        (&answer["serving"]["policy"], &answer["previous"]["policy"]),
        (&json!("uniform"), &json!("linucb"))
    );
    assert_eq!(policy(&server).await, "uniform");
    let (code, _, err) = place.command(&["policy", "rollback", "7", "--url", &url(&server)]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("version 7"), "{err}");
    server.stop();

    // The same with the data directory free.
    let (code, answer, err) = place.command(&["policy", "rollback", "--json"]);
    assert_eq!((code, &answer["serving"]["policy"]), (0, &json!("linucb")), "{answer} {err}");
    let (code, answer, err) = place.command(&["policy", "promote", "--json"]);
    assert_eq!(code, 5, "{answer} {err}");
    let (code, answer, err) = place.command(&["policy", "list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Value> =
        answer.as_str().unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let actions: Vec<&str> = lines.iter().filter_map(|l| l["action"].as_str()).collect();
    assert_eq!(actions, ["promoted", "rolled back", "rolled back"]);
    let snapshot = lines.iter().rfind(|l| l["policy"] == "linucb").unwrap();
    for part in ["parent", "code", "views", "state", "window", "settings"] {
        assert!(!snapshot[part].is_null(), "{part}: {snapshot:#}");
    }
    assert!(snapshot["metrics"]["mean_reward"].as_f64().unwrap() > 0.0, "{snapshot:#}");

    // Whoever is erased takes what the shadow would have shown them along.
    let (code, told, _) = place.command(&["explain", &last, "--json"]);
    let user = told["user"].as_str().unwrap().to_owned();
    assert_eq!(code, 0);
    let (code, _, err) = place.command(&["users", "erase", &user, "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(place.command(&["explain", &last]).0, 3);
}

#[tokio::test]
async fn a_policy_is_trained_from_the_log_beside_the_server_and_without() {
    let place = Place::new();
    let server = place.server();
    let began = Instant::now();
    for i in 0..60 {
        live(&server, i).await;
    }
    // The last reward may still be on its way.
    let trained = loop {
        let (code, answer, err) = place.command(&["train", "--json", "--url", &url(&server)]);
        assert_eq!(code, 0, "{answer} {err}");
        if answer["version"] == 60 {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "{answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(trained["policy"], "linucb", "the shadow's");
    server.stop();

    let set = place.data().join("set.csv");
    let set_argument = set.to_str().unwrap();
    let from = "2020-01-01T00:00:00Z";
    let arguments = ["train", "--policy", "lints", "--from", from, "--output", set_argument, "--json"];
    let (code, answer, err) =
        place.command(&[&arguments[..], &["--feature", "task_activity.completed_24h"]].concat());
    assert_eq!(code, 0, "{answer} {err}");
    assert!(answer["state"].as_str().unwrap().contains('.'), "a window is a lineage of its own: {answer}");
    let text = std::fs::read_to_string(&set).unwrap();
    let head = text.lines().next().unwrap();
    for column in
        ["impression", "action", "propensity", "reward", "ctx.time.hour", "task_activity.completed_24h"]
    {
        assert!(head.split(',').any(|c| c == column), "{column} is not in {head}");
    }
    assert!(text.lines().count() > 40, "{text}");
    let (_, list, _) = place.command(&["policy", "list"]);
    assert!(list.as_str().unwrap().contains("lints"), "{list}");
    assert!(!place.data().join("training").read_dir().unwrap().any(|_| true), "nothing is left behind");
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}
