use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    tests::{ask, say, session, through_json},
    *,
};
use crate::policy::PolicyName;

/// Something a program may do.
#[derive(Debug, Clone)]
enum Act {
    Ask {
        x: i8,
        word: u8,
        actions: u8,
        features: bool,
        k: Option<u8>,
    },
    /// Rewards one of the rounds so far, known or not, settled or not.
    Reward {
        of: usize,
        reward: f64,
    },
    /// The same, of a slate.
    Rewards {
        of: usize,
        rewards: Vec<Option<f64>>,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let k = prop_oneof![3 => Just(None), 1 => (1..4u8).prop_map(Some)];
    let ask = (any::<i8>(), 0..4u8, 1..5u8, any::<bool>(), k);
    let rewards = prop::collection::vec(prop::option::of(-3.0..3.0), 1..4);
    prop_oneof![
        3 => ask.prop_map(|(x, word, actions, features, k)| Act::Ask { x, word, actions, features, k }),
        2 => (0..60usize, -3.0..3.0).prop_map(|(of, reward)| Act::Reward { of, reward }),
        1 => (0..60usize, rewards).prop_map(|(of, rewards)| Act::Rewards { of, rewards }),
    ]
}

fn line_of(act: &Act, round: usize) -> String {
    match act {
        Act::Ask { x, word, actions, features, k } => {
            let action = |i: u8| match features {
                true => json!({"id": i, "features": {"size": i, format!("f{word}"): x}}),
                false => json!({"id": i}),
            };
            let actions: Vec<Json> = (0..*actions).map(action).collect();
            let context = json!({"x": f64::from(*x) / 16.0, "word": word.to_string(), format!("n{word}"): 1});
            let mut line = json!({"round": round, "context": context, "actions": actions});
            if let Some(k) = k {
                line["k"] = json!(k);
            }
            line.to_string()
        }
        Act::Reward { of, reward } => json!({"round": of, "reward": reward}).to_string(),
        Act::Rewards { of, rewards } => json!({"round": of, "reward": rewards}).to_string(),
    }
}

fn valid_line() -> impl Strategy<Value = String> {
    (act(), 0..60usize).prop_map(|(act, round)| line_of(&act, round))
}

/// Anything: valid lines, lines with a piece replaced, and noise.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let mangled = (valid_line(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..4));
    prop_oneof![
        valid_line().prop_map(String::into_bytes),
        mangled.prop_map(|(line, at, piece)| {
            let mut line = line.into_bytes();
            let at = at.index(line.len());
            let end = (at + piece.len()).min(line.len());
            line.splice(at..end, piece);
            line
        }),
        prop::collection::vec(any::<u8>(), 0..40),
        "[\\[\\]{}\":,a-z0-9]{0,30}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn to_save_and_load_and_go_on_equals_to_go_on(
        acts in prop::collection::vec(act(), 1..60),
        cut in any::<prop::sample::Index>(),
        policy in prop::sample::select(&PolicyName::ALL[..]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("saved");
        let cut = cut.index(acts.len());
        let mut whole = session(policy);
        let mut parts = session(policy);
        for (t, act) in acts.iter().enumerate() {
            if t == cut {
                prop_assert_eq!(ask(&mut parts, &json!({"save": file})), json!({"saved": file}));
                // Another seed: all that counts is in the file.
                parts = Session::new(&PolicyConfig { name: policy, ..PolicyConfig::default() }, 99, Limits::default());
                prop_assert_eq!(ask(&mut parts, &json!({"load": file})), json!({"loaded": file}));
            }
            let line = line_of(act, t);
            prop_assert_eq!(say(&mut whole, &line), say(&mut parts, &line));
        }
        prop_assert_eq!(saved::of_session(&whole), saved::of_session(&parts));
    }

    #[test]
    fn rewards_count_once_in_any_order_and_with_any_delay(
        order in Just((0..30usize).collect::<Vec<_>>()).prop_shuffle(),
        delay in 0..30usize,
        policy in prop::sample::select(&PolicyName::ALL[..]),
    ) {
        let mut session = session(policy);
        let mut by_hand = Bandit::new(&PolicyConfig { name: policy, ..PolicyConfig::default() }, 7);
        let mut decided = Vec::new();
        let context = |t: usize| vec![(Cow::from("x"), Field::Number(t as f64 / 32.0))];
        let candidates: Vec<_> = ["0", "1"].map(|id| Candidate { id: id.into(), features: Vec::new() }).into();
        for t in 0..30 + delay {
            if t < 30 {
                let line = json!({"round": t, "context": {"x": t as f64 / 32.0}, "actions": [{"id": 0}, {"id": "1"}]});
                let answer = ask(&mut session, &line);
                let (choice, kept) = by_hand.decide(&context(t), &candidates).unwrap();
                prop_assert_eq!(&answer["distribution"], &through_json(&choice.distribution.propensities));
                decided.push(kept);
            }
            // Rounds `delay` ago get theirs, in an order of their own; one not yet asked is refused.
            if let Some(of) = t.checked_sub(delay).and_then(|i| order.get(i)) {
                let answer = ask(&mut session, &json!({"round": of, "reward": 0.5}));
                match decided.get(*of) {
                    Some(kept) => {
                        prop_assert_eq!(answer, Json::Null);
                        by_hand.settle(kept, 0.5);
                        let again = ask(&mut session, &json!({"round": of, "reward": 0.5}));
                        prop_assert!(again["error"].as_str().unwrap().contains("already"));
                    }
                    None => prop_assert!(answer["error"].as_str().unwrap().contains("not known")),
                }
            }
        }
        prop_assert_eq!(saved::of_bandit(session.bandit()), saved::of_bandit(&by_hand));
    }

    #[test]
    fn no_line_ends_a_session_or_leaves_a_trace_when_refused(lines in prop::collection::vec(any_line(), 1..40)) {
        let mut disturbed = session(PolicyConfig::default().name);
        let mut calm = session(PolicyConfig::default().name);
        for line in &lines {
            let mut answer = Vec::new();
            disturbed.line(line, &mut answer);
            prop_assert!(answer.is_empty() || answer.iter().filter(|b| **b == b'\n').count() == 1);
            if !answer.starts_with(b"{\"error\":") {
                let mut same = Vec::new();
                calm.line(line, &mut same);
                prop_assert_eq!(answer, same);
            }
        }
        prop_assert_eq!(saved::of_session(&disturbed), saved::of_session(&calm));
    }
}
