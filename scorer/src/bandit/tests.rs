use serde_json::{Value as Json, json};

use super::*;
use crate::policy::PolicyName;

pub(super) fn session(name: PolicyName) -> Session {
    Session::new(&PolicyConfig { name, ..PolicyConfig::default() }, 7, Limits::default())
}

pub(super) fn say(session: &mut Session, line: &str) -> String {
    let mut out = Vec::new();
    session.line(line.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

pub(super) fn ask(session: &mut Session, line: &Json) -> Json {
    let answer = say(session, &line.to_string());
    if answer.is_empty() { Json::Null } else { serde_json::from_str(&answer).unwrap() }
}

/// Numbers as they are after a way through JSON, which may cost the last bit.
pub(super) fn through_json(numbers: &[f64]) -> Json {
    serde_json::from_str(&json!(numbers).to_string()).unwrap()
}

#[test]
fn a_session_word_for_word() {
    let mut session = session(PolicyName::Uniform);
    for (line, answer) in [
        (
            r#"{"round":1,"context":{"hour":9,"place":"home","rain":false,"mood":null},"actions":[{"id":"walk"}]}"#,
            r#"{"round":1,"action":"walk","propensity":1.0,"distribution":[1.0],"policy":"uniform"}"#,
        ),
        (
            r#"{"round":"zwei","actions":[{"id":7.50,"features":{"cost":-3e2}}]}"#,
            r#"{"round":"zwei","action":7.50,"propensity":1.0,"distribution":[1.0],"policy":"uniform"}"#,
        ),
        ("", ""),
        (r#"{"round":"zwei","reward":-2.5}"#, ""),
        (r#" {"reward":1,"round":1} "#, ""),
        (
            r#"{"round":1,"reward":0}"#,
            r#"{"error":"round 1 has its reward already; the first one counts and this one changed nothing","round":1}"#,
        ),
        (
            r#"{"round":3,"reward":0}"#,
            r#"{"error":"round 3 is not known: it was never asked, or is more than 1000000 rounds ago; nothing was learned","round":3}"#,
        ),
        (
            r#"{"round":4,"actions":[{"id":1},{"id":1}]}"#,
            r#"{"error":"the action 1 stands there twice; name each once","round":4}"#,
        ),
        (
            r#"{"round":5,"actions":[]}"#,
            r#"{"error":"`actions` has 0 entries; it needs 1 to 10000","round":5}"#,
        ),
        (
            r#"{"round":[5],"actions":[{"id":1}]}"#,
            r#"{"error":"`round` must be a number or a text of at most 1024 bytes","round":[5]}"#,
        ),
    ] {
        assert_eq!(say(&mut session, line).trim_end(), answer, "{line}");
    }
}

#[test]
fn lines_that_cannot_be_followed_say_why() {
    let mut session = session(PolicyName::LinTs);
    for (line, part) in [
        ("hello", "expected value at line 1 column 1"),
        (r#"{"round":1"#, "EOF while parsing"),
        (r#"{"round":1,"reward":1e999}"#, "number out of range"),
        (r#"{"round":1,"reward":"good"}"#, "`reward` is a finite number"),
        (r#"{"round":1,"contxt":{},"actions":[{"id":1}]}"#, "unknown field `contxt`"),
        (
            r#"{"round":1,"context":{"a":[1]},"actions":[{"id":1}]}"#,
            "expected a number, a text, true, false or null",
        ),
        (r#"{"round":1,"actions":[{"id":null}]}"#, "the `id` of an action must be a number or a text"),
        (r#"{"round":1}"#, "a line is one of"),
        (r#"{"reward":1}"#, "a line is one of"),
        (r#"{"round":1,"actions":[{"id":1}],"reward":1}"#, "a line is one of"),
        (r#"{"load":"/nowhere/at/all"}"#, "cannot read `/nowhere/at/all`"),
        (r#"{"save":"/nowhere/at/all"}"#, "cannot save to `/nowhere/at/all`"),
        ("[]", "the line cannot be read"),
    ] {
        let answer: Json = serde_json::from_str(&say(&mut session, line)).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(part), "{line}: {answer}");
    }
    let mut out = Vec::new();
    session.line(b"{\"round\":\xff}", &mut out);
    assert!(String::from_utf8(out).unwrap().contains("not UTF-8"));
}

#[test]
fn a_slate_has_each_action_once_and_a_reward_for_each_place() {
    let mut session = session(PolicyName::LinTs);
    let actions = json!([{"id": 1}, {"id": 2}, {"id": 3}]);
    let answer = ask(&mut session, &json!({"round": 1, "k": 2, "actions": actions}));
    let slate = answer["slate"].as_array().unwrap();
    assert_eq!(slate.len(), 2);
    assert_ne!(slate[0]["action"], slate[1]["action"]);
    assert!(slate.iter().all(|place| place["propensity"].as_f64().unwrap() > 0.0));
    let refused = ask(&mut session, &json!({"round": 1, "reward": 1}));
    assert!(refused["error"].as_str().unwrap().contains("chose 2 and this is 1 rewards"), "{refused}");
    assert_eq!(ask(&mut session, &json!({"round": 1, "reward": [null, 0.5]})), Json::Null);
    assert_eq!(session.bandit().learned(), 1);
    let refused = ask(&mut session, &json!({"round": 1, "reward": [1, 1]}));
    assert!(refused["error"].as_str().unwrap().contains("already"), "{refused}");
    // More places than actions: all of them, in some order.
    let all = ask(&mut session, &json!({"round": 2, "k": 9, "actions": actions}));
    assert_eq!(all["slate"].as_array().unwrap().len(), 3);
    assert_eq!(all["slate"][2]["propensity"], 1.0);
    let none = ask(&mut session, &json!({"round": 3, "k": 0, "actions": actions}));
    assert!(none["error"].as_str().unwrap().contains("`k` is 0"), "{none}");
}

#[test]
fn an_action_first_seen_after_a_load_is_judged_as_without() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved");
    for name in PolicyName::ALL {
        let mut session = session(name);
        ask(&mut session, &json!({"round": 0, "context": {"x": 0, "kind": "a"}, "actions": [{"id": 0}]}));
        ask(&mut session, &json!({"round": 0, "reward": 0}));
        session.save(&file).unwrap();
        let mut loaded = Session::new(&session.bandit.config, 1, Limits::default());
        loaded.load(&file).unwrap();
        let two = json!({"round": 1, "context": {"x": 0.5, "kind": "a"}, "actions": [{"id": 0}, {"id": 1}]});
        assert_eq!(ask(&mut session, &two), ask(&mut loaded, &two), "{name}");
    }
}

#[test]
fn learns_which_action_fits_which_text() {
    let mut session = session(PolicyConfig::default().name);
    let mut last = 0.0;
    for t in 0..600 {
        let place = if t % 2 == 0 { "home" } else { "work" };
        let actions = json!([{"id": "rest"}, {"id": "call"}]);
        let answer = ask(&mut session, &json!({"round": t, "context": {"place": place}, "actions": actions}));
        let right = if t % 2 == 0 { "rest" } else { "call" };
        let reward = f64::from(u8::from(answer["action"] == right));
        last += if t >= 400 { reward / 200.0 } else { 0.0 };
        assert_eq!(ask(&mut session, &json!({"round": t, "reward": reward})), Json::Null);
    }
    assert!(last > 0.9, "mean reward of the last 200 rounds is {last}");
}

#[test]
fn named_values_and_lines_decide_alike() {
    let config = PolicyConfig::default();
    let (mut bandit, mut session) = (Bandit::new(&config, 7), Session::new(&config, 7, Limits::default()));
    let actions = ["a", "b", "c"].map(|id| NamedAction {
        id: id.into(),
        features: Some(Named::from([
            ("is".into(), Value::Text(id.into())),
            ("on".into(), Value::Flag(true)),
        ])),
    });
    for t in 0..50 {
        let context =
            Named::from([("x".into(), Value::Number(f64::from(t % 5))), ("y".into(), Value::Number(1.5))]);
        let expected = bandit.distribution(&context, &actions);
        let got = ask(&mut session, &json!({"round": t, "context": context, "actions": actions}));
        assert_eq!(got["distribution"], through_json(&expected.propensities));
        let chosen = actions.iter().position(|a| a.id == got["action"]).unwrap();
        assert_eq!(got["propensity"], got["distribution"][chosen]);
        let reward = f64::from(u8::from(chosen == t as usize % 3));
        bandit.learn(&context, &actions[chosen], expected.propensities[chosen], reward);
        ask(&mut session, &json!({"round": t, "reward": reward}));
    }
    assert_eq!((bandit.learned(), session.bandit().learned()), (50, 50));
}

#[test]
fn a_reward_that_is_no_number_is_not_learned() {
    let mut bandit = Bandit::new(&PolicyConfig::default(), 1);
    let action = NamedAction { id: "a".into(), features: None };
    bandit.learn(&Named::new(), &action, 1.0, f64::NAN);
    assert_eq!(bandit.learned(), 0);
}

#[test]
fn files_of_others_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bandit");
    let mut session = session(PolicyName::LinUcb);
    ask(&mut session, &json!({"round": 1, "context": {"x": 1}, "actions": [{"id": 1}, {"id": 2}]}));
    session.save(&file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut other_version = whole.clone();
    other_version[8] = 9;
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, part) in [
        (&b"something else"[..], "not saved by `kairos bandit`"),
        (&whole[..10], "ends early"),
        (&other_version, "version 9 and this program reads version 1"),
        (&flipped, "checksum"),
        (&whole[..whole.len() - 1], "checksum"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let answer = ask(&mut session, &json!({"load": file}));
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    std::fs::write(&file, &whole).unwrap();
    let mut other = Session::new(
        &PolicyConfig { name: PolicyName::Uniform, ..PolicyConfig::default() },
        7,
        Limits::default(),
    );
    let answer = ask(&mut other, &json!({"load": file}));
    assert!(
        answer["error"].as_str().unwrap().contains("it is of policy `linucb` and this one is `uniform`"),
        "{answer}"
    );
    assert_eq!(saved::of_session(&session), whole);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
}
