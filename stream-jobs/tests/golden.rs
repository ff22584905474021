//! The golden cases of `golden/`, by the runner that `kairos features test` uses.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use stream_jobs::golden::{self, Surroundings};

fn cases() -> Vec<golden::Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden::find(&[root], &Surroundings::default()).unwrap()
}

#[test]
fn every_case_holds_in_every_way() {
    for case in cases() {
        let report = golden::run(&case).unwrap();
        println!("{report}");
        assert!(report.passed(), "\n{report}");
        assert!(report.only_history.is_empty(), "{report}");
        assert!(report.ways >= 2 + case.signals.len().min(16) + 8 + 3);
    }
}

#[test]
fn a_wrong_value_is_told_with_the_ways_it_came_out_in() {
    let mut case = cases().remove(0);
    let line = &mut case.expected[0];
    let (name, value) = line.values.iter_mut().next().unwrap();
    *value = serde_json::json!(1234);
    let name = name.clone();
    let report = golden::run(&case).unwrap();
    assert!(!report.passed());
    assert_eq!(report.differences.len(), 1);
    assert_eq!(report.differences[0].feature, name);
    let text = report.to_string();
    assert!(
        text.starts_with("FAIL") && text.contains("expected  1234") && text.contains("in every way"),
        "{text}"
    );
}

/// What is filled in is what was written by hand.
#[test]
fn completing_gives_back_what_was_taken_out() {
    for mut case in cases() {
        let by_hand = case.expected.clone();
        case.expected.iter_mut().for_each(|e| e.values.clear());
        let new = golden::complete(&mut case, &[]).unwrap();
        assert_eq!(new, by_hand.len() * case.feature_names().len());
        for (filled, written) in case.expected.iter_mut().zip(&by_hand) {
            // A whole number by hand may be a float.
            filled.values.extend(written.values.clone());
        }
        let report = golden::run(&case).unwrap();
        assert!(report.passed(), "{report}");
        assert_eq!(report.values, new);
    }
}
