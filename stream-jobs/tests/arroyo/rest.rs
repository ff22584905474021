//! Deploying, against a strict stand-in.

use std::time::{Duration, Instant};

use serde_json::json;
use stream_jobs::{
    JobError,
    arroyo::{
        Pipeline,
        client::{Client, How, Reach},
        deploy::{self, Outcome, Patience},
    },
};

use crate::stand_in::{Arroyo, What};

const HOW: How = How { parallelism: 2, checkpoint_seconds: 10 };
const PATIENCE: Patience = Patience { pause: Duration::from_millis(5), looks: 20 };

fn client(arroyo: &Arroyo) -> Client {
    let limits = Duration::from_millis(400);
    Client::new(Reach {
        answer: limits,
        build: limits,
        connect: limits,
        ..Reach::of(&format!("{}/", arroyo.url))
    })
    .unwrap()
}

fn pipeline(view: &str, sql: &str) -> Pipeline {
    Pipeline { view: view.into(), sql: sql.into(), functions: vec![("shout".into(), "fn shout() {}".into())] }
}

fn bring(client: &Client, pipeline: &Pipeline) -> Result<Outcome, JobError> {
    deploy::deploy(client, "kairos", pipeline, &HOW, PATIENCE)
}

#[test]
fn the_same_text_changes_nothing_and_another_takes_its_place() {
    let arroyo = Arroyo::start();
    let client = client(&arroyo);
    client.ping().unwrap();
    for view in ["one", "two", "three_x"] {
        assert_eq!(bring(&client, &pipeline(view, "SELECT 1")).unwrap(), Outcome::Created(vec![]));
    }
    let first = arroyo.state.lock().unwrap().pipelines[0].clone();
    assert_eq!(
        arroyo.changes()[..2],
        ["POST /pipelines/validate_query".to_owned(), format!("PUT /pipelines/{}", first.id)]
    );
    assert!(first.id.starts_with("kairos-tiles-one-"), "{}", first.id);
    assert_eq!(first.body["name"], "kairos-tiles-one");
    assert_eq!(first.body["checkpoint_interval_micros"], 10_000_000);
    assert_eq!(first.body["parallelism"], 2);
    assert_eq!(first.body["udfs"], json!([{"definition": "fn shout() {}", "language": "rust"}]));

    // The third stands on the second page.
    for view in ["one", "two", "three_x"] {
        assert_eq!(bring(&client, &pipeline(view, "SELECT 1")).unwrap(), Outcome::Unchanged);
    }
    assert_eq!(arroyo.changes(), Vec::<String>::new());

    assert_eq!(
        bring(&client, &pipeline("one", "SELECT 2")).unwrap(),
        Outcome::Created(vec![first.id.clone()])
    );
    let second = arroyo.state.lock().unwrap().pipelines[3].clone();
    assert_eq!(
        arroyo.changes(),
        [
            "POST /pipelines/validate_query".to_owned(),
            format!("PATCH /pipelines/{}", first.id),
            format!("PUT /pipelines/{}", second.id)
        ],
        "judged, then the first stopped, then the second made"
    );
    let pipelines = arroyo.state.lock().unwrap().pipelines.clone();
    assert_eq!((pipelines[0].stop.as_str(), pipelines[0].state.as_str()), ("checkpoint", "Stopped"));

    // Back to the text before: it goes on from its checkpoint.
    assert_eq!(bring(&client, &pipeline("one", "SELECT 1")).unwrap(), Outcome::Resumed);
    let pipelines = arroyo.state.lock().unwrap().pipelines.clone();
    assert_eq!((pipelines[0].state.as_str(), pipelines[3].state.as_str()), ("Running", "Stopped"));
    // A function's text counts as well.
    let mut other = pipeline("one", "SELECT 1");
    other.functions[0].1.push('\n');
    assert_eq!(bring(&client, &other).unwrap(), Outcome::Created(vec![first.id]));
    arroyo.changes();
}

#[test]
fn parallelism_follows_and_a_failed_job_is_started_again() {
    let arroyo = Arroyo::start();
    let client = client(&arroyo);
    let one = pipeline("one", "SELECT 1");
    bring(&client, &one).unwrap();
    let wider = How { parallelism: 5, ..HOW };
    assert_eq!(deploy::deploy(&client, "kairos", &one, &wider, PATIENCE).unwrap(), Outcome::Unchanged);
    arroyo.changes();
    assert_eq!(deploy::deploy(&client, "kairos", &one, &wider, PATIENCE).unwrap(), Outcome::Unchanged);
    assert_eq!(arroyo.changes(), Vec::<String>::new());
    arroyo.state.lock().unwrap().pipelines[0].state = "Failed".into();
    let status = deploy::status(&client, "kairos").unwrap();
    assert_eq!(status[0].state, "Failed");
    assert_eq!(status[0].error.as_deref(), Some("the worker is gone"));
    assert_eq!(deploy::deploy(&client, "kairos", &one, &wider, PATIENCE).unwrap(), Outcome::Resumed);
    let pipelines = arroyo.state.lock().unwrap().pipelines.clone();
    assert_eq!((pipelines[0].restarts, pipelines[0].parallelism), (1, 5));
    let status = deploy::status(&client, "kairos").unwrap();
    assert_eq!(
        (status[0].state.as_str(), status[0].error.as_deref()),
        ("Running", Some("a worker was lost"))
    );
    assert_eq!(status[0].checkpoint, Some((3, 1_772_350_200_000_000)), "one under way is not finished");
    assert_eq!(deploy::status(&client, "other").unwrap(), vec![]);
}

#[test]
fn stopping_waits_for_the_checkpoint_and_keeps_to_what_is_ours() {
    let arroyo = Arroyo::start();
    let client = client(&arroyo);
    for view in ["one", "two"] {
        bring(&client, &pipeline(view, "SELECT 1")).unwrap();
    }
    deploy::deploy(&client, "theirs", &pipeline("one", "SELECT 1"), &HOW, PATIENCE).unwrap();
    assert_eq!(deploy::stop(&client, "kairos", &["two".into()], PATIENCE).unwrap().len(), 1);
    assert_eq!(deploy::stop(&client, "kairos", &["two".into()], PATIENCE).unwrap(), Vec::<String>::new());
    assert_eq!(deploy::stop(&client, "kairos", &[], PATIENCE).unwrap().len(), 1);
    let states: Vec<String> =
        arroyo.state.lock().unwrap().pipelines.iter().map(|p| p.state.clone()).collect();
    assert_eq!(states, ["Stopped", "Stopped", "Running"]);
    // One that takes too long leaves nothing half done.
    assert_eq!(bring(&client, &pipeline("one", "SELECT 1")).unwrap(), Outcome::Resumed);
    arroyo.state.lock().unwrap().stop_takes = 1_000;
    arroyo.changes();
    let error = bring(&client, &pipeline("one", "SELECT 9")).unwrap_err();
    assert!(matches!(&error, JobError::ArroyoAway(m) if m.contains("did not stop in time")), "{error}");
    assert!(!arroyo.changes().iter().any(|c| c.starts_with("PUT")));
}

#[test]
fn what_arroyo_refuses_is_told_and_what_ran_goes_on() {
    let arroyo = Arroyo::start();
    let client = client(&arroyo);
    bring(&client, &pipeline("one", "SELECT 1")).unwrap();
    arroyo.changes();
    let span = json!({"start": {"line": 7, "column": 2}, "end": {"line": 7, "column": 9}});
    arroyo.state.lock().unwrap().against =
        Some(json!([{"message": "no such table", "span": span}, {"message": "and more"}]));
    let error = bring(&client, &pipeline("one", "SELECT 2")).unwrap_err().to_string();
    assert!(error.contains("view one: line 7: no such table; and more"), "{error}");
    assert_eq!(arroyo.changes(), ["POST /pipelines/validate_query"]);

    // The new one is refused after the old one stopped: the old one is brought back.
    arroyo.state.lock().unwrap().against = None;
    arroyo.fault(
        "PUT",
        "/pipelines/",
        What::Status(400, r#"{"error":"Failed to build UDF: expected `;`"}"#.into()),
    );
    let error = bring(&client, &pipeline("one", "SELECT 2")).unwrap_err().to_string();
    assert!(error.contains("400") && error.contains("Failed to build UDF: expected `;`"), "{error}");
    let pipelines = arroyo.state.lock().unwrap().pipelines.clone();
    assert_eq!(
        (pipelines.len(), pipelines[0].state.as_str(), pipelines[0].stop.as_str()),
        (1, "Running", "none")
    );
}

#[test]
fn faults_of_the_way_are_told_apart() {
    let arroyo = Arroyo::start();
    let slow = client(&arroyo);
    let fails = |what: What| {
        arroyo.fault("GET", "/pipelines", what);
        let begin = Instant::now();
        let error = slow.pipelines().unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(3));
        (matches!(error, JobError::ArroyoAway(_)), error.to_string())
    };
    for what in [
        What::Stall(Duration::from_secs(2)),
        What::Hangup,
        What::Status(503, String::new()),
        What::Body(" ".repeat(17 << 20)),
    ] {
        let (away, text) = fails(what);
        assert!(away && text.contains("check arroyo.url"), "{text}");
    }
    for (what, told) in [
        (
            What::Status(500, r#"{"error":"Something went wrong"}"#.into()),
            "500 Internal Server Error: Something went wrong",
        ),
        (What::Status(404, "<html>".into()), "no reason given"),
        (What::Status(302, String::new()), "302"),
        (What::Body("{}".into()), "not that of the API this program knows"),
        (What::Body("not json".into()), "not that of the API this program knows"),
    ] {
        let (away, text) = fails(what);
        assert!(!away && text.contains(told), "{text}");
    }
    let nobody = Client::new(Reach::of("http://127.0.0.1:9")).unwrap();
    assert!(matches!(nobody.ping().unwrap_err(), JobError::ArroyoAway(_)));
}

#[test]
fn the_key_comes_from_a_file_and_never_shows() {
    let arroyo = Arroyo::start();
    arroyo.state.lock().unwrap().key = Some("s3cret".into());
    let error = client(&arroyo).ping().unwrap_err().to_string();
    assert!(error.contains("arroyo.key_file"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "s3cret\n").unwrap();
    let reach = |file| Reach::of(&arroyo.url).with_files(Some(file), None);
    let keyed = Client::new(reach(file.as_path()).unwrap()).unwrap();
    keyed.ping().unwrap();
    arroyo.fault("GET", "/ping", What::Status(500, String::new()));
    assert!(!keyed.ping().unwrap_err().to_string().contains("s3cret"));
    for wrong in ["", "two words", "two\nlines"] {
        std::fs::write(&file, wrong).unwrap();
        assert!(reach(file.as_path()).unwrap_err().to_string().contains("one line"), "{wrong:?}");
    }
    assert!(reach(dir.path().join("none").as_path()).is_err());
    for wrong in ["arroyo:5115", "http://me:s3cret@arroyo"] {
        let error = Client::new(Reach::of(wrong)).unwrap_err().to_string();
        assert!(error.contains("http://host:5115") && !error.contains("s3cret"), "{error}");
    }
}
