//! Rows of a file, column by column, as they are read.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{
    cells::{Names, Sparse, Value, label, plain},
    contexts::Contexts,
};
use crate::evaluate::encode::Cell;

/// Most different actions; more are no actions but numbers of rows.
const MOST_ACTIONS: usize = 100_000;
/// Most different positions.
const MOST_POSITIONS: usize = 10_000;
/// Target probabilities may miss 1 by this much in sum, as rounded ones do.
const ROUNDED: f64 = 1e-3;

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It names no action.
    Action,
    /// Its propensity is absent, no number, or not above 0 and at most 1.
    Propensity,
    /// Its reward is absent or no number.
    Reward,
    /// The target's probabilities are absent, no probabilities, or do not sum to 1.
    Target,
    /// The rewards given for its actions are not complete.
    Model,
}

/// Rows that cannot be used, for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unusable {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub rows: u64,
    /// The first of them, from 1.
    pub first_row: u64,
    /// What is wrong with that one.
    pub example: String,
}

/// Where a value belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Action,
    Propensity,
    Reward,
    Position,
    Context(u32),
    Target(u32),
    Model(u32),
    /// An object or list whose values belong to a group.
    Group(Group),
    Ignored,
}

/// Columns with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Top,
    Context,
    Target,
    Model,
}

/// The rows read so far. Of an unusable row nothing is kept but that it was there.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) actions: Names,
    pub(super) positions: Names,
    pub(super) action: Vec<u32>,
    pub(super) position: Vec<u32>,
    pub(super) propensity: Vec<f64>,
    pub(super) reward: Vec<f64>,
    /// The target's probability of the action taken.
    pub(super) wanted: Vec<f64>,
    /// The target's probabilities.
    pub(super) target: Sparse,
    /// What the file's own model expects of the action taken and of the target; NaN where it says nothing.
    pub(super) given: Vec<(f64, f64)>,
    /// What it expects of each action, where the target is not in the file.
    pub(super) model: Sparse,
    pub(super) contexts: Contexts,
    pub(super) unusable: BTreeMap<Reason, Unusable>,
    /// Rows read, usable or not.
    pub(super) read: u64,
    /// Number of the row being read: of its line in JSON lines, without the line of names in CSV.
    pub(super) at: u64,
    /// Whether the target is a policy of ours, and not in the file.
    pub(super) without_target: bool,
    /// Whether the actions have columns of the target.
    pub(super) targeted: Vec<bool>,
    slots: [HashMap<String, Slot>; 4],
    current: Current,
}

/// The row being read.
#[derive(Debug, Default)]
struct Current {
    action: Option<u32>,
    propensity: Value,
    reward: Value,
    position: Option<u32>,
    target: Vec<(u32, Value)>,
    model: Vec<(u32, Value)>,
}

impl Rows {
    /// Where the values of a column belong.
    pub(super) fn slot(&mut self, group: Group, name: &str) -> Result<Slot, String> {
        if let Some(known) = self.slots[group as usize].get(name) {
            return Ok(*known);
        }
        let trimmed = name.trim_start_matches('\u{feff}').trim();
        let slot = match group {
            Group::Context => Slot::Context(self.contexts.column(trimmed)?),
            Group::Target => {
                let action = self.action(trimmed)?;
                self.targeted.resize(self.targeted.len().max(action as usize + 1), false);
                self.targeted[action as usize] = true;
                Slot::Target(action)
            }
            Group::Model => Slot::Model(self.action(trimmed)?),
            Group::Top => match trimmed.split_once('.') {
                Some(("ctx" | "context", rest)) => self.slot(Group::Context, rest)?,
                Some(("target", rest)) => self.slot(Group::Target, rest)?,
                Some(("model", rest)) => self.slot(Group::Model, rest)?,
                _ => match trimmed {
                    "action" => Slot::Action,
                    "propensity" => Slot::Propensity,
                    "reward" => Slot::Reward,
                    "position" => Slot::Position,
                    "ctx" | "context" => Slot::Group(Group::Context),
                    "target" => Slot::Group(Group::Target),
                    "model" => Slot::Group(Group::Model),
                    _ => Slot::Ignored,
                },
            },
        };
        self.slots[group as usize].insert(name.to_owned(), slot);
        Ok(slot)
    }

    fn action(&mut self, name: &str) -> Result<u32, String> {
        let name = label(Cell::Text(name)).unwrap_or_default();
        let number = self.actions.number(&name);
        if self.actions.len() > MOST_ACTIONS {
            return Err(format!(
                "there are more than {MOST_ACTIONS} actions; `action` must name what was chosen"
            ));
        }
        Ok(number)
    }

    /// Sets a value of the row being read.
    pub(super) fn set(&mut self, slot: Slot, cell: Cell<'_>) -> Result<(), String> {
        match slot {
            Slot::Action => {
                self.current.action = match label(cell) {
                    Some(name) => Some(self.action(&name)?),
                    None => None,
                }
            }
            Slot::Position => {
                self.current.position = label(cell).map(|name| self.positions.number(&name));
                if self.positions.len() > MOST_POSITIONS {
                    return Err(format!("column `position`: there are more than {MOST_POSITIONS} of them"));
                }
            }
            Slot::Propensity => self.current.propensity = Value::of(cell),
            Slot::Reward => self.current.reward = Value::of(cell),
            Slot::Context(column) => self.contexts.set(column, plain(cell)),
            Slot::Target(action) if !self.without_target => {
                self.current.target.push((action, Value::of(cell)))
            }
            Slot::Model(action) => self.current.model.push((action, Value::of(cell))),
            Slot::Group(_) | Slot::Target(_) | Slot::Ignored => {}
        }
        Ok(())
    }

    /// Ends the row.
    pub(super) fn finish(&mut self) {
        self.read += 1;
        let mut current = std::mem::take(&mut self.current);
        match self.judge(&current) {
            Ok(()) => self.contexts.keep(),
            Err((reason, why)) => {
                self.contexts.forget();
                let (at, column) = (self.at, reason.column());
                let example = format!("row {at}, column `{column}`: {why}");
                let new = Unusable { reason, rows: 0, first_row: at, example };
                self.unusable.entry(reason).or_insert(new).rows += 1;
            }
        }
        current.target.clear();
        current.model.clear();
        let (target, model) = (current.target, current.model);
        self.current = Current { target, model, ..Current::default() };
    }

    fn judge(&mut self, row: &Current) -> Result<(), (Reason, String)> {
        let action = row.action.ok_or((Reason::Action, "there is none".to_owned()))?;
        let propensity = row.propensity.number().map_err(|e| (Reason::Propensity, e))?;
        if propensity <= 0.0 || propensity > 1.0 + 1e-9 {
            return Err((Reason::Propensity, format!("{propensity} is not above 0 and at most 1")));
        }
        let reward = row.reward.number().map_err(|e| (Reason::Reward, e))?;
        let (mut sum, mut wanted) = (0.0, 0.0);
        for (number, value) in &row.target {
            let p = match value {
                Value::Missing => continue,
                value => value.number().map_err(|e| (Reason::Target, e))?,
            };
            if !(-1e-9..=1.0 + ROUNDED).contains(&p) {
                let name = &self.actions.list[*number as usize];
                return Err((Reason::Target, format!("{p} for action `{name}` is no probability")));
            }
            sum += p;
            wanted += if *number == action { p } else { 0.0 };
        }
        if !self.without_target && (sum - 1.0).abs() > ROUNDED {
            return Err((Reason::Target, format!("the probabilities sum to {sum}, not 1")));
        }
        let number = |value: &Value| value.number().ok();
        let given = self.given(row, action, sum)?;
        let target = row.target.iter().filter_map(|(n, v)| Some((*n, number(v).filter(|p| *p > 0.0)?)));
        self.target.push(target);
        if self.without_target {
            self.model.push(row.model.iter().filter_map(|(n, v)| Some((*n, number(v)?))));
        }
        self.given.push(given);
        self.action.push(action);
        self.position.push(row.position.map_or(0, |p| p + 1));
        self.propensity.push(propensity.min(1.0));
        self.reward.push(reward);
        self.wanted.push(wanted);
        Ok(())
    }

    /// What the file's model expects of the action taken, and of the target.
    fn given(&self, row: &Current, action: u32, sum: f64) -> Result<(f64, f64), (Reason, String)> {
        if row.model.iter().all(|(_, v)| *v == Value::Missing) {
            return Ok((f64::NAN, f64::NAN));
        }
        let expected = |wanted: u32| {
            let value = row.model.iter().find(|(n, _)| *n == wanted).map_or(&Value::Missing, |(_, v)| v);
            value.number().map_err(|e| {
                (Reason::Model, format!("{e} for action `{}`", self.actions.list[wanted as usize]))
            })
        };
        let mut direct = 0.0;
        for (number, value) in &row.target {
            if let Value::Number(p) = value
                && *p > 0.0
            {
                direct += p * expected(*number)?;
            }
        }
        Ok((expected(action)?, direct / sum))
    }

    /// Whether the target has a column for an action.
    pub(super) fn is_targeted(&self, action: usize) -> bool {
        self.targeted.get(action).copied().unwrap_or(false)
    }

    /// Whether there is a column of this kind.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.slots[Group::Top as usize].values().any(|s| *s == slot)
    }

    /// Names of the columns found at the top.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.slots[Group::Top as usize].keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl Reason {
    fn column(&self) -> &'static str {
        match self {
            Reason::Action => "action",
            Reason::Propensity => "propensity",
            Reason::Reward => "reward",
            Reason::Target => "target.*",
            Reason::Model => "model.*",
        }
    }
}
