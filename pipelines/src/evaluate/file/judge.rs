//! The rows of a file, judged.

use std::path::Path;

use rand::{Rng, RngCore};
use scorer::policy::PolicyConfig;

use super::{
    FileEvaluation, PositionJudgement, policy,
    rows::{Reason, Rows, Slot, Unusable},
};
use crate::evaluate::{
    Judgement, Options, Rest, Warning,
    diagnostics::Known,
    encode::{Cell, Encoder, Survey},
    estimators::Row,
    frequency::{Inverse, by_inverse},
    model::{CrossFitted, Training},
};

/// Most positions that are told one by one.
const MOST_POSITIONS: usize = 50;
/// Share of unusable rows that is worth a warning.
const MANY_LEFT_OUT: f64 = 0.01;
/// Rows that tell how to encode contexts.
const SURVEYED: usize = 200_000;
/// Most names in a message.
const MOST_NAMED: usize = 8;

/// Judges what was read; or says what is wrong with it.
pub(super) fn judge(
    file: &Path,
    mut rows: Rows,
    policy: Option<&PolicyConfig>,
    options: &Options,
    rng: &mut dyn RngCore,
    heard: &mut dyn FnMut(u64, u64),
) -> Result<FileEvaluation, String> {
    check(&rows)?;
    let n = rows.action.len();
    let folds = options.folds.min(n as u32).max(1);
    let fold: Vec<u32> = (0..n).map(|_| rng.random_range(0..folds)).collect();
    let mut target = "the columns `target.*`".to_owned();
    if let Some(config) = policy {
        target = policy::decide(&mut rows, config, rng.random(), &fold, heard)?;
    }
    let given = rows.given.iter().any(|(expected, _)| !expected.is_nan());
    let expected = if given { rows.given.clone() } else { fitted_rewards(&rows, &fold, rng) };
    let mut weighed = Vec::with_capacity(expected.len());
    for (i, (expected, direct)) in expected.into_iter().enumerate() {
        weighed.push(Row {
            weight: rows.wanted[i] / rows.propensity[i],
            reward: rows.reward[i],
            expected,
            direct,
            propensity: rows.propensity[i],
            unit: i as u32,
        });
    }
    let logged_by = file.display().to_string();
    let names = [target.as_str(), logged_by.as_str()];
    // Of the rows without a model in a file with one.
    let without: Vec<usize> = (0..weighed.len()).filter(|i| weighed[*i].expected.is_nan()).collect();
    if let Some(first) = without.first() {
        let example =
            format!("usable row {}, column `model.*`: there is none, but others have it", first + 1);
        let new = Unusable { reason: Reason::Model, rows: 0, first_row: *first as u64 + 1, example };
        rows.unusable.entry(Reason::Model).or_insert(new).rows += without.len() as u64;
    }
    let usable: Vec<usize> = (0..weighed.len()).filter(|i| !weighed[*i].expected.is_nan()).collect();
    let part = |which: &[usize], rng: &mut dyn RngCore| {
        let these: Vec<Row> = which.iter().map(|i| weighed[*i]).collect();
        let rest = Rest { known: known(&rows, which), people: these.len() as u64, ..Rest::default() };
        Judgement::of(names, &these, rest, options, rng)
    };
    let mut judgement = part(&usable, rng);
    let mut positions = Vec::new();
    let count = rows.positions.len() + 1;
    let mut by_position: Vec<Vec<usize>> = vec![Vec::new(); count];
    usable.iter().for_each(|i| by_position[rows.position[*i] as usize].push(*i));
    let several = by_position.iter().filter(|p| !p.is_empty()).count() > 1;
    for (number, which) in by_position.iter().enumerate().take(if several { MOST_POSITIONS } else { 0 }) {
        if !which.is_empty() {
            let name = number.checked_sub(1).map_or("", |n| rows.positions.list[n].as_str());
            positions.push(PositionJudgement { position: name.to_owned(), judgement: part(which, rng) });
        }
    }
    positions.sort_by(|a, b| {
        order(&a.position).partial_cmp(&order(&b.position)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let left_out = rows.read - usable.len() as u64;
    judgement.diagnostics.warnings.extend(doubts(&rows, left_out));
    Ok(FileEvaluation {
        file: file.display().to_string(),
        rows_read: rows.read,
        left_out,
        unusable: rows.unusable.values().cloned().collect(),
        actions: rows.actions.len() as u64,
        context: rows.contexts.width() as u64,
        model: if given { "file" } else { "fitted" },
        options: *options,
        judgement,
        positions,
    })
}

/// Numbers before texts, each in their order.
fn order(name: &str) -> (f64, &str) {
    (name.parse().unwrap_or(f64::MAX), name)
}

/// Whether there is anything to judge.
fn check(rows: &Rows) -> Result<(), String> {
    if rows.read == 0 {
        return Err("it has no rows".to_owned());
    }
    let columns = || rows.columns().into_iter().take(30).collect::<Vec<_>>().join(", ");
    for (slot, name) in [(Slot::Action, "action"), (Slot::Propensity, "propensity"), (Slot::Reward, "reward")]
    {
        if !rows.has(slot) {
            return Err(format!("it has no column `{name}`; it has {}", columns()));
        }
    }
    if !rows.without_target && !rows.targeted.contains(&true) {
        return Err(format!(
            "it has no columns `target.<action>` with the probabilities of the policy to judge; add them, or \
             name a policy with --policy. It has {}",
            columns()
        ));
    }
    if rows.action.is_empty() {
        let most = rows.unusable.values().max_by_key(|u| u.rows);
        let example = most.map(|u| u.example.as_str()).unwrap_or_default();
        return Err(format!("none of its {} rows can be used; {example}", rows.read));
    }
    if !rows.without_target
        && rows.wanted.iter().all(|p| *p == 0.0)
        && !taken(rows).any(|a| rows.is_targeted(a))
    {
        let names = |numbers: Vec<usize>| {
            let list = numbers.into_iter().take(MOST_NAMED).map(|a| rows.actions.list[a].clone());
            list.collect::<Vec<_>>().join(", ")
        };
        let targets = (0..rows.actions.len()).filter(|a| rows.is_targeted(*a)).collect();
        return Err(format!(
            "no action taken has a column of the target: taken were {}; the columns are of {}",
            names(taken(rows).collect()),
            names(targets)
        ));
    }
    Ok(())
}

/// The actions that were taken.
fn taken(rows: &Rows) -> impl Iterator<Item = usize> {
    let mut seen = vec![false; rows.actions.len()];
    rows.action.iter().for_each(|a| seen[*a as usize] = true);
    (0..seen.len()).filter(move |a| seen[*a])
}

/// What concerns the file as a whole.
fn doubts(rows: &Rows, left_out: u64) -> Vec<Warning> {
    let mut found = Vec::new();
    if left_out as f64 > MANY_LEFT_OUT * rows.read as f64 {
        let reasons: Vec<String> =
            rows.unusable.values().map(|u| format!("{} like {}", u.rows, u.example)).collect();
        found.push(Warning::new(
            "left_out",
            format!("{left_out} of {} rows could not be used: {}", rows.read, reasons.join("; ")),
        ));
    }
    let strange: Vec<usize> = taken(rows).filter(|a| !rows.without_target && !rows.is_targeted(*a)).collect();
    if !strange.is_empty() {
        let names: Vec<&str> =
            strange.iter().take(MOST_NAMED).map(|a| rows.actions.list[*a].as_str()).collect();
        let more = if strange.len() > MOST_NAMED { " and others" } else { "" };
        found.push(Warning::new(
            "no_target_column",
            format!(
                "actions {}{more} were taken and have no column of the target: it never takes them",
                names.join(", ")
            ),
        ));
    }
    found
}

/// What some of the rows say of the log.
fn known(rows: &Rows, which: &[usize]) -> Known {
    let places = rows.positions.len() + 1;
    let mut logged = vec![false; places * rows.actions.len()];
    let mut inverse = vec![Inverse::default(); rows.actions.len()];
    let at = |i: usize, action: u32| rows.position[i] as usize * rows.actions.len() + action as usize;
    for i in which {
        logged[at(*i, rows.action[*i])] = true;
        inverse[rows.action[*i] as usize].add(rows.propensity[*i]);
    }
    let (mut support, mut unsupported_rows) = (0.0, 0);
    for i in which {
        let mut covered = 0.0;
        let mut missing = 0.0;
        for (action, p) in rows.target.row(*i) {
            *(if logged[at(*i, action)] { &mut covered } else { &mut missing }) += p;
        }
        // What is missing, not what is there, so that rounded probabilities do not look like missing ones.
        support += 1.0 - missing;
        unsupported_rows += u64::from(missing > 1e-6);
    }
    let smallest = which.iter().map(|i| rows.propensity[*i]).fold(1.0, f64::min);
    let frequencies = rows.actions.list.iter().zip(&inverse);
    let frequencies = frequencies.filter_map(|(name, i)| by_inverse(name, which.len(), i, 1.0 / smallest));
    Known {
        support: support / which.len().max(1) as f64,
        may_be_more: true,
        unsupported_rows,
        frequencies: frequencies.collect(),
    }
}

/// What models of ours expect of the action taken in each row, and of the target.
fn fitted_rewards(rows: &Rows, fold: &[u32], rng: &mut dyn RngCore) -> Vec<(f64, f64)> {
    let n = rows.action.len();
    let folds = fold.iter().max().map_or(1, |f| f + 1);
    let (encoder, place) = (encoder(rows), rows.contexts.width());
    let encode = |row: usize, inputs: &mut [f32]| {
        let position = rows.position[row];
        let name = position.checked_sub(1).map(|p| rows.positions.list[p as usize].as_str());
        let cell = |column| match column == place {
            true => name.map_or(Cell::Missing, Cell::Text),
            false => rows.contexts.cell(row, column),
        };
        encoder.encode(cell, inputs);
    };
    let width = encoder.width();
    let most = Training::most_rows(width, folds);
    let chosen = rand::seq::index::sample(rng, n, most.min(n));
    let mut training = Training { width, ..Training::default() };
    let mut inputs = vec![0.0; width];
    for row in chosen {
        encode(row, &mut inputs);
        training.inputs.extend_from_slice(&inputs);
        training.actions.push(rows.action[row]);
        training.rewards.push(rows.reward[row]);
        training.folds.push(fold[row]);
    }
    let models: CrossFitted = training.fit(folds);
    let mut expected = Vec::with_capacity(n);
    for (row, fold) in fold.iter().enumerate() {
        encode(row, &mut inputs);
        let of = |action| models.expected(*fold, action, &inputs);
        let (sum, direct) =
            rows.target.row(row).fold((0.0, 0.0), |(sum, direct), (a, p)| (sum + p, direct + p * of(a)));
        expected.push((of(rows.action[row]), direct / sum));
    }
    expected
}

/// Looks at a sample of the contexts; the last column is the position.
fn encoder(rows: &Rows) -> Encoder {
    let mut survey = Survey::default();
    let place = rows.contexts.width();
    for row in (0..rows.action.len()).step_by(rows.action.len().div_ceil(SURVEYED).max(1)) {
        (0..place).for_each(|column| survey.see(column, rows.contexts.cell(row, column)));
        if let Some(position) = rows.position[row].checked_sub(1) {
            survey.see(place, Cell::Text(&rows.positions.list[position as usize]));
        }
    }
    survey.encoder()
}
