//! What holds for any log, and for any damage to it.

use proptest::prelude::*;
use rand::{Rng, seq::SliceRandom};

use super::*;

/// A made-up log: action, propensity, reward, target probabilities of three actions, model.
type Made = (usize, f64, f64, [f64; 3], [f64; 3]);

fn made() -> impl Strategy<Value = Vec<Made>> {
    let shares = prop::array::uniform3(0.05..1.0f64).prop_map(|p| {
        let sum: f64 = p.iter().sum();
        p.map(|v| v / sum)
    });
    let row = (0..3usize, 0.05..1.0f64, -1.0..1.0f64, shares, prop::array::uniform3(-1.0..1.0f64));
    prop::collection::vec(row, 2..40)
}

fn csv(rows: &[Made], shift: f64) -> String {
    let mut text = "action,propensity,reward,target.0,target.1,target.2,model.0,model.1,model.2\n".to_owned();
    for (action, p, reward, t, m) in rows {
        let m = m.map(|v| v + shift);
        text += &format!(
            "{action},{p},{},{},{},{},{},{},{}\n",
            reward + shift,
            t[0],
            t[1],
            t[2],
            m[0],
            m[1],
            m[2]
        );
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_rows_is_of_no_matter(rows in made(), seed in any::<u64>()) {
        let mut mixed = rows.clone();
        mixed.shuffle(&mut SmallRng::seed_from_u64(seed));
        let (one, other) = (judge_text("a.csv", &csv(&rows, 0.0)).unwrap(), judge_text("a.csv", &csv(&mixed, 0.0)).unwrap());
        for estimator in Estimator::ALL {
            prop_assert!((value(&one, estimator) - value(&other, estimator)).abs() < 1e-9);
        }
    }

    #[test]
    fn what_all_rewards_gain_the_doubly_robust_gain(rows in made(), shift in -2.0..2.0f64) {
        let (one, other) = (judge_text("a.csv", &csv(&rows, 0.0)).unwrap(), judge_text("a.csv", &csv(&rows, shift)).unwrap());
        for estimator in [Estimator::Snips, Estimator::Dm, Estimator::Dr, Estimator::Sndr, Estimator::SwitchDr] {
            prop_assert!((value(&one, estimator) + shift - value(&other, estimator)).abs() < 1e-9, "{estimator:?}");
        }
    }

    #[test]
    fn weights_of_one_give_the_mean(rows in made()) {
        let mut same = rows.clone();
        same.iter_mut().for_each(|(action, p, _, t, _)| *p = t[*action]);
        let found = judge_text("a.csv", &csv(&same, 0.0)).unwrap();
        let mean = same.iter().map(|r| r.2).sum::<f64>() / same.len() as f64;
        for estimator in [Estimator::Ips, Estimator::ClippedIps, Estimator::Snips] {
            prop_assert!((value(&found, estimator) - mean).abs() < 1e-9);
        }
        prop_assert!((value(&found, Estimator::Dr) - value(&found, Estimator::Sndr)).abs() < 1e-9);
        prop_assert!(!kinds(&found).contains(&"mean_weight"));
    }

    /// Whatever is done to the bytes of a file, the answer is an evaluation of finite figures or an error.
    #[test]
    fn damage_is_answered_with_an_error_or_a_count(seed in any::<u64>(), form in 0..3usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = SmallRng::seed_from_u64(seed);
        let name = ["log.csv", "log.jsonl", "log.parquet"][form];
        let file = dir.path().join(name);
        std::fs::write(dir.path().join("a.csv"), csv(&[(1, 0.5, 0.5, [0.25, 0.5, 0.25], [0.0, 0.1, 0.2]); 8], 0.0)).unwrap();
        if form > 0 {
            let input = Input::open(&dir.path().join("a.csv"), &[]).unwrap();
            let mut output = Output::create(&file, &input.schema()).unwrap();
            input.for_each(|batch| output.write(&batch.unwrap()).unwrap());
            output.finish().unwrap();
        } else {
            std::fs::copy(dir.path().join("a.csv"), &file).unwrap();
        }
        let mut bytes = std::fs::read(&file).unwrap();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, b"\"{[,\n.e-9"[rng.random_range(0..9)]),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        std::fs::write(&file, &bytes).unwrap();
        match judge(&file) {
            Ok(found) => {
                prop_assert_eq!(found.rows_read, found.left_out + found.judgement.rows);
                for estimate in &found.judgement.estimates {
                    prop_assert!(estimate.value.is_finite(), "{:?}", estimate);
                }
            }
            Err(e) => prop_assert!(e.to_string().contains(name)),
        }
    }
}
