//! Reward tables: what was known of each row, and what every action would have earned.

use std::{borrow::Cow, path::Path};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use pipelines::table::Input;
use scorer::bandit::{Field, Fields};

use crate::error::{Error, Result};

/// Most values of a table: all of it lies in memory.
const MOST_VALUES: u64 = 500_000_000;

/// A table with features `f*` and rewards `r*`.
pub struct RewardTable {
    /// Names of the actions: of their columns, without the `r`.
    pub actions: Vec<String>,
    /// Columns that are neither.
    pub left_out: Vec<String>,
    features: Vec<(String, Column)>,
    /// One row after the other.
    rewards: Vec<f64>,
}

enum Column {
    /// NaN where nothing stands.
    Numbers(Vec<f64>),
    Flags(Vec<Option<bool>>),
    Texts(Vec<Option<String>>),
}

impl RewardTable {
    /// Reads a CSV, NDJSON or Parquet file.
    pub fn open(file: &Path) -> Result<RewardTable> {
        let wrong = |what: String| Error::Input(format!("{}: {what}", file.display()));
        let input = Input::open(file, &[]).map_err(|e| Error::Input(e.to_string()))?;
        let schema = input.schema();
        let of = |letter: char| move |i: &usize| schema.field(*i).name().starts_with(letter);
        let schema = input.schema();
        let all = 0..schema.fields().len();
        let (features, rewards): (Vec<usize>, Vec<usize>) =
            (all.clone().filter(of.clone()('f')).collect(), all.clone().filter(of('r')).collect());
        if rewards.len() < 2 {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(wrong(format!(
                "it needs at least two columns whose names begin with `r`, the reward of one action each; it has {}",
                names.join(", ")
            )));
        }
        let values = input.rows.saturating_mul((features.len() + rewards.len()) as u64);
        if values > MOST_VALUES {
            return Err(wrong(format!("it has {values} values; at most {MOST_VALUES} fit in memory")));
        }
        let name = |i: &usize| schema.field(*i).name().clone();
        let mut table = RewardTable {
            actions: rewards.iter().map(|i| action_name(schema.field(*i).name())).collect(),
            left_out: all
                .filter(|i| !features.contains(i) && !rewards.contains(i))
                .map(|i| name(&i))
                .collect(),
            features: Vec::new(),
            rewards: Vec::new(),
        };
        for i in &features {
            let field = schema.field(*i);
            let column = Column::of(field.data_type()).ok_or_else(|| {
                wrong(format!(
                    "column `{}` is {}; a feature is a number, a text or a flag",
                    field.name(),
                    field.data_type()
                ))
            })?;
            table.features.push((field.name().clone(), column));
        }
        for batch in input {
            let batch = batch.map_err(|e| Error::Input(e.to_string()))?;
            let unfit =
                |i: usize, e: &dyn ToString| wrong(format!("column `{}`: {}", name(&i), e.to_string()));
            for ((_, column), i) in table.features.iter_mut().zip(&features) {
                column.append(batch.column(*i)).map_err(|e| unfit(*i, &e))?;
            }
            let mut columns = Vec::with_capacity(rewards.len());
            for i in &rewards {
                columns.push((*i, cast(batch.column(*i), &DataType::Float64).map_err(|e| unfit(*i, &e))?));
            }
            for row in 0..batch.num_rows() {
                for (i, column) in &columns {
                    let reward = column.as_primitive::<Float64Type>();
                    if reward.is_null(row) || !reward.value(row).is_finite() {
                        let row = table.rewards.len() / rewards.len() + 1;
                        return Err(wrong(format!("row {row} has no finite number in column `{}`", name(i))));
                    }
                    table.rewards.push(reward.value(row));
                }
            }
        }
        if table.rewards.is_empty() {
            return Err(wrong("it has no rows".into()));
        }
        Ok(table)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rewards.len() / self.actions.len()
    }

    /// How many features there are.
    pub fn features(&self) -> usize {
        self.features.len()
    }

    /// What every action earns in a row.
    pub fn rewards(&self, row: usize) -> &[f64] {
        &self.rewards[row * self.actions.len()..(row + 1) * self.actions.len()]
    }

    /// What is known of a row.
    pub fn context(&self, row: usize) -> Fields<'_> {
        self.features.iter().map(|(name, column)| (Cow::Borrowed(name.as_str()), column.field(row))).collect()
    }
}

/// `r_left` and `rleft` are the action `left`; a column `r` alone stays `r`.
fn action_name(column: &str) -> String {
    let name = column[1..].trim_start_matches('_');
    if name.is_empty() { column.to_owned() } else { name.to_owned() }
}

impl Column {
    fn of(kind: &DataType) -> Option<Column> {
        match kind {
            DataType::Boolean => Some(Column::Flags(Vec::new())),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
                Some(Column::Texts(Vec::new()))
            }
            kind if kind.is_numeric() || *kind == DataType::Null => Some(Column::Numbers(Vec::new())),
            _ => None,
        }
    }

    fn append(&mut self, values: &ArrayRef) -> std::result::Result<(), arrow::error::ArrowError> {
        match self {
            Column::Numbers(all) => {
                let values = cast(values, &DataType::Float64)?;
                all.extend(values.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN)));
            }
            Column::Flags(all) => all.extend(values.as_boolean().iter()),
            Column::Texts(all) => {
                let values = cast(values, &DataType::Utf8)?;
                all.extend(values.as_string::<i32>().iter().map(|v| v.map(str::to_owned)));
            }
        }
        Ok(())
    }

    fn field(&self, row: usize) -> Field<'_> {
        match self {
            Column::Numbers(all) if all[row].is_nan() => Field::Missing,
            Column::Numbers(all) => Field::Number(all[row]),
            Column::Flags(all) => all[row].map_or(Field::Missing, Field::Flag),
            Column::Texts(all) => {
                all[row].as_deref().map_or(Field::Missing, |text| Field::Text(Cow::Borrowed(text)))
            }
        }
    }
}
