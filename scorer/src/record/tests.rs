use ingest::catalogue::Catalogue;
use serde_json::json;

use super::*;

#[test]
fn the_messages_are_the_declared_types() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let text = |t: &str| Some(t.to_owned());
    let impression = Impression {
        tip: text("walk"),
        category: text("movement"),
        channel: text("web"),
        policy: text("lints"),
        policy_version: text("12"),
        propensity: Some(0.25),
        draw: Some(0.5),
        context_names: vec!["a".into(), "b".into()],
        context: vec![1.5, f64::NAN],
        candidates: vec![Candidate {
            tip: text("walk"),
            score: Some(0.0),
            propensity: Some(0.25),
            category: text("movement"),
            effort: Some(10.0),
        }],
        parts: vec![Part { view: text("v"), version: text("abc"), position: text("0:7") }],
        as_of: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
        shadow: Some(Shadow {
            policy: text("linucb"),
            policy_version: text("11"),
            tip: text("walk"),
            propensity: Some(1.0),
            propensities: vec![1.0],
            draw: Some(0.75),
            policy_state: text("b"),
        }),
        experiment: Some(Experiment { name: text("try"), arm: text("incumbent") }),
        policy_state: text("a.1"),
    };
    let declared = catalogue.get(IMPRESSION).unwrap();
    let seen = serde_json::to_value(declared.decode_json(&impression.encode_to_vec()).unwrap()).unwrap();
    let expected = json!({
        "tip": "walk", "category": "movement", "channel": "web", "policy": "lints",
        "policy_version": "12", "propensity": 0.25, "draw": 0.5,
        "context_names": ["a", "b"], "context": [1.5, "NaN"],
        "candidates": [{
            "tip": "walk", "score": 0.0, "propensity": 0.25, "category": "movement", "effort": 10.0,
        }],
        "shadow": {
            "policy": "linucb", "policy_version": "11", "tip": "walk", "propensity": 1.0,
            "propensities": [1.0], "draw": 0.75, "policy_state": "b",
        },
        "experiment": {"name": "try", "arm": "incumbent"},
        "policy_state": "a.1",
        "parts": [{"view": "v", "version": "abc", "position": "0:7"}],
        "as_of": "1970-01-01T00:00:01.5Z",
    });
    assert_eq!(seen, expected);
    let reaction = Reaction {
        impression: text("i"),
        tip: text("walk"),
        category: text("movement"),
        reaction: text("done"),
        channel: text("web"),
    };
    let declared = catalogue.get(REACTION).unwrap();
    let seen = serde_json::to_value(declared.decode_json(&reaction.encode_to_vec()).unwrap()).unwrap();
    assert_eq!(
        seen,
        json!({"impression": "i", "tip": "walk", "category": "movement", "reaction": "done", "channel": "web"})
    );
}
