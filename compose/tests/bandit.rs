//! `kairos bandit` as another program sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use serde_json::{Value, json};

/// The binary with a pipe to speak through.
struct Bandit {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Bandit {
    fn start(arguments: &[&str]) -> Bandit {
        let mut command = support::kairos();
        command.args(["bandit", "--stdio"]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Bandit { child, input, output }
    }

    fn tell(&mut self, line: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn ask(&mut self, line: &Value) -> Value {
        self.tell(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn round(t: u32) -> Value {
    let actions = ["red", "green", "blue"].map(|id| json!({"id": id, "features": {"length": id.len()}}));
    json!({"round": t, "context": {"x": f64::from(t % 7) / 7.0, "even": t.is_multiple_of(2)}, "actions": actions})
}

#[test]
fn rewards_are_silent_and_answers_come_at_once() {
    let mut bandit = Bandit::start(&["--seed", "5"]);
    let mut earned = 0;
    for t in 0..300 {
        let answer = bandit.ask(&round(t));
        assert_eq!(answer["round"], t);
        assert!(answer["policy"].is_string());
        let p: Vec<f64> =
            answer["distribution"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9 && p.iter().all(|p| *p > 0.0), "{p:?}");
        let chosen = ["red", "green", "blue"].iter().position(|id| answer["action"] == *id).unwrap();
        assert_eq!(answer["propensity"], answer["distribution"][chosen]);
        let reward = i32::from(answer["action"] == "green");
        earned += if t >= 200 { reward } else { 0 };
        bandit.tell(&json!({"round": t, "reward": reward}));
    }
    assert!(earned > 75, "of the last hundred rounds {earned} were right");
    assert!(bandit.ask(&json!({"round": 1, "reward": 1}))["error"].as_str().unwrap().contains("already"));
    assert!(bandit.ask(&json!("nonsense"))["error"].is_string());
    assert_eq!(bandit.ask(&round(300))["round"], 300);
    bandit.end();
}

#[test]
fn a_saved_bandit_goes_on_in_another_process_as_if_nothing_had_been() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bandit");
    let mut whole = Bandit::start(&["--seed", "1"]);
    let mut part = Bandit::start(&["--seed", "1"]);
    for t in 0..120 {
        if t == 60 {
            assert_eq!(part.ask(&json!({"save": file})), json!({"saved": file}));
            part.end();
            part = Bandit::start(&[]);
            assert_eq!(part.ask(&json!({"load": file})), json!({"loaded": file}));
        }
        assert_eq!(whole.ask(&round(t)), part.ask(&round(t)), "round {t}");
        // Rewards come ten rounds late, across the restart too.
        if t >= 10 {
            for bandit in [&mut whole, &mut part] {
                bandit.tell(&json!({"round": t - 10, "reward": f64::from(t % 3) / 2.0}));
            }
        }
    }
    whole.end();
    part.end();
}

#[test]
fn a_table_is_played_and_its_log_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (table, log) = (dir.path().join("table.csv"), dir.path().join("log.jsonl"));
    let mut text = String::from("id,f_size,f_kind,r_a,r_b\n");
    for i in 0..400 {
        let (kind, a) = if i % 2 == 0 { ("x", 1) } else { ("y", 0) };
        text += &format!("{i},{},{kind},{a},{}\n", i % 10, 1 - a);
    }
    std::fs::write(&table, text).unwrap();
    let play = |more: &[&str]| {
        let mut command = support::kairos();
        command.args(["bandit", "run", "--seeds", "3", "--data"]).arg(&table).args(more);
        let (status, out, err) = support::run(&mut command);
        assert!(status.success(), "{err}");
        assert!(err.contains("left out, because the names begin with neither f nor r: id"), "{err}");
        out
    };
    let answer: Value = serde_json::from_str(&play(&["--json", "--log", log.to_str().unwrap()])).unwrap();
    assert_eq!((answer["rows"].as_u64(), answer["features"].as_u64()), (Some(400), Some(2)));
    assert_eq!(answer["actions"], json!(["a", "b"]));
    assert_eq!((answer["uniform"].as_f64(), answer["constant"]["mean"].as_f64()), (Some(0.5), Some(0.5)));
    let mean = answer["mean"].as_f64().unwrap();
    assert!(mean > 0.8, "mean reward {mean}");
    for interval in ["over_seeds", "over_rows"] {
        let ends = answer[interval].as_array().unwrap();
        assert!(ends[0].as_f64().unwrap() <= mean && mean <= ends[1].as_f64().unwrap(), "{answer}");
    }
    // The same seeds give the same figures, whatever the threads.
    assert_eq!(answer, serde_json::from_str::<Value>(&play(&["--json"])).unwrap());
    let text = play(&["--policy", "uniform", "--in-order"]);
    assert!(text.contains("uniform") && text.contains("best constant action"), "{text}");
    check_log(&log, answer["each"][0].as_f64().unwrap());
}

fn check_log(log: &Path, mean: f64) {
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 400);
    assert!(lines[0]["ctx.f_size"].is_number() && lines[0]["ctx.f_kind"].is_string(), "{}", lines[0]);
    let rewards: f64 = lines.iter().map(|l| l["reward"].as_f64().unwrap()).sum();
    assert!((rewards / 400.0 - mean).abs() < 1e-9, "the log is of the first pass");
    assert!(lines.iter().all(|l| (0.0..=1.0).contains(&l["propensity"].as_f64().unwrap())));
    // Inverse propensities add up to the number of actions, in the mean.
    let weights: f64 = lines.iter().map(|l| 1.0 / l["propensity"].as_f64().unwrap()).sum::<f64>() / 400.0;
    assert!((weights - 2.0).abs() < 1.0, "mean inverse propensity {weights}");
}

#[test]
fn what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table.csv");
    std::fs::write(&table, "f0,r0\n1,1\n").unwrap();
    for (arguments, part) in [
        (vec!["bandit"], "say `--stdio`"),
        (vec!["bandit", "--stdio", "--policy", "best"], "`best` is no policy; there are pool"),
        (
            vec!["bandit", "run", "--data", table.to_str().unwrap()],
            "at least two columns whose names begin with `r`",
        ),
        (vec!["bandit", "run", "--data", "/no/such.csv"], "/no/such.csv"),
    ] {
        let (status, _, err) = support::run(support::kairos().args(&arguments));
        assert!(!status.success() && err.contains(part), "{arguments:?}: {err}");
    }
    std::fs::write(&table, "f0,r0,r1\n1,1,0\n2,,1\n").unwrap();
    let (_, _, err) = support::run(support::kairos().args(["bandit", "run", "--data"]).arg(&table));
    assert!(err.contains("row 2 has no finite number in column `r0`"), "{err}");
}
