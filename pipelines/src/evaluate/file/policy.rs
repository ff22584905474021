//! A policy of ours as the target of a file: learned from the file itself, and never judged on rows it learned
//! from.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use scorer::{
    bandit::{Bandit, Named, NamedAction, Value},
    policy::PolicyConfig,
};

use super::{cells::Sparse, rows::Rows};
use crate::evaluate::encode::Cell;

/// Rows of each fold's complement that a policy learns from; of more, this many evenly chosen.
const MOST_LEARNED: usize = 50_000;
/// Most actions on offer; a policy scores all of them for each row.
const MOST_OFFERED: usize = 1_000;
/// Name of the position among the values of the context.
const POSITION: &str = "position";
/// Rows between two words of progress.
const EVERY: u64 = 256;

/// Puts the policy's probabilities where those of the file would be. On offer is, in each row, what the log took
/// at its position; the policy learns the rows of the other folds in their order, and is then asked for those of
/// this one without learning on. `heard` is told how many of all rows are done. Answers with the policy's name.
pub(super) fn decide(
    rows: &mut Rows,
    config: &PolicyConfig,
    seed: u64,
    fold: &[u32],
    heard: &mut dyn FnMut(u64, u64),
) -> Result<String, String> {
    let offered = offered(rows);
    if let Some(many) = offered.iter().map(Vec::len).max().filter(|n| *n > MOST_OFFERED) {
        return Err(format!("it has {many} actions; --policy can choose among {MOST_OFFERED}"));
    }
    let actions: Vec<NamedAction> =
        rows.actions.list.iter().map(|id| NamedAction { id: id.clone(), features: None }).collect();
    let folds = fold.iter().max().map_or(1, |f| f + 1);
    let done = AtomicU64::new(0);
    let (said, says) = mpsc::channel();
    let table = &*rows;
    let one = |k: u32, said: mpsc::Sender<u64>| {
        let mut bandit = Bandit::new(config, seed);
        let others: Vec<usize> = (0..fold.len()).filter(|i| fold[*i] != k).collect();
        let every = others.len().div_ceil(MOST_LEARNED).max(1);
        for row in others.into_iter().step_by(every) {
            let action = &actions[table.action[row] as usize];
            bandit.learn(&context(table, row), action, table.propensity[row], table.reward[row]);
        }
        let choices: Vec<Vec<NamedAction>> = offered
            .iter()
            .map(|numbers| numbers.iter().map(|a| actions[*a as usize].clone()).collect())
            .collect();
        let mut answers = Vec::new();
        for row in (0..fold.len()).filter(|i| fold[*i] == k) {
            let choices = &choices[table.position[row] as usize];
            answers.push((row, bandit.distribution(&context(table, row), choices).propensities));
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(EVERY) {
                // Nobody listens any more only when all is over.
                let _ = said.send(count);
            }
        }
        answers
    };
    let mut answers: Vec<Vec<f64>> = vec![Vec::new(); fold.len()];
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..folds)
            .map(|k| {
                let (one, said) = (&one, said.clone());
                scope.spawn(move || one(k, said))
            })
            .collect();
        drop(said);
        says.iter().for_each(|count| heard(count, fold.len() as u64));
        for fold in running {
            let fold = fold.join().map_err(|_| "the policy failed while it learned".to_owned())?;
            fold.into_iter().for_each(|(row, answer)| answers[row] = answer);
        }
        Ok::<(), String>(())
    })?;
    let mut target = Sparse::default();
    for (row, probabilities) in answers.into_iter().enumerate() {
        let numbers = &offered[rows.position[row] as usize];
        let place = numbers.iter().position(|a| *a == rows.action[row]);
        rows.wanted[row] = place.and_then(|p| probabilities.get(p).copied()).unwrap_or(0.0);
        target.push(numbers.iter().copied().zip(probabilities));
        if let Some(given) = given(rows, row, &target) {
            rows.given[row] = given;
        }
    }
    rows.target = target;
    Ok(Bandit::new(config, seed).name().to_owned())
}

/// What the file's model expects of the action taken and of the policy; nothing where it has not all of them.
fn given(rows: &Rows, row: usize, target: &Sparse) -> Option<(f64, f64)> {
    let expected = |action: u32| rows.model.row(row).find(|(a, _)| *a == action).map(|(_, q)| q);
    let mut direct = 0.0;
    for (action, p) in target.row(row).filter(|(_, p)| *p > 0.0) {
        direct += p * expected(action)?;
    }
    Some((expected(rows.action[row])?, direct))
}

/// For each position, the actions that the log took there.
fn offered(rows: &Rows) -> Vec<Vec<u32>> {
    let mut offered = vec![Vec::new(); rows.positions.len() + 1];
    for (action, position) in rows.action.iter().zip(&rows.position) {
        offered[*position as usize].push(*action);
    }
    for actions in &mut offered {
        actions.sort_unstable();
        actions.dedup();
    }
    offered
}

fn context(rows: &Rows, row: usize) -> Named {
    let mut named = Named::new();
    if let Some(position) = rows.position[row].checked_sub(1) {
        named.insert(POSITION.to_owned(), Value::Text(rows.positions.list[position as usize].clone()));
    }
    for (column, name) in rows.contexts.names.iter().enumerate() {
        let value = match rows.contexts.cell(row, column) {
            Cell::Missing => continue,
            Cell::Number(number) => Value::Number(number),
            Cell::Text(text) => Value::Text(text.to_owned()),
        };
        named.insert(name.clone(), value);
    }
    named
}
