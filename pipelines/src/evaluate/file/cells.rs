//! Names, numbers and gaps as files write them.

use std::collections::HashMap;

use crate::evaluate::encode::Cell;

/// Names with numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) list: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let next = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.numbers.insert(name.to_owned(), next);
        next
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

/// For each row a few numbered values.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    ends: Vec<usize>,
    numbers: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = (u32, f64)>) {
        for (number, value) in row {
            self.numbers.push(number);
            self.values.push(value as f32);
        }
        self.ends.push(self.numbers.len());
    }

    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = (u32, f64)> + Clone {
        let from = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let span = from..self.ends[row];
        self.numbers[span.clone()].iter().copied().zip(self.values[span].iter().map(|v| f64::from(*v)))
    }
}

/// A number as it was found.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) enum Value {
    #[default]
    Missing,
    Number(f64),
    Wrong(String),
}

impl Value {
    pub(super) fn of(cell: Cell<'_>) -> Value {
        match plain(cell) {
            Cell::Missing => Value::Missing,
            Cell::Number(v) => Value::Number(v),
            Cell::Text(text) => {
                Value::Wrong(format!("`{}` is no number", text.chars().take(40).collect::<String>()))
            }
        }
    }

    pub(super) fn number(&self) -> Result<f64, String> {
        match self {
            Value::Number(v) if v.is_finite() => Ok(*v),
            Value::Number(v) => Err(format!("{v} is not finite")),
            Value::Missing => Err("there is none".to_owned()),
            Value::Wrong(why) => Err(why.clone()),
        }
    }
}

/// A text that is a number, a flag or nothing, as that.
pub(super) fn plain(cell: Cell<'_>) -> Cell<'_> {
    let Cell::Text(text) = cell else { return cell };
    let text = text.trim();
    match text {
        "" | "null" | "NULL" | "None" | "none" | "NA" | "N/A" | "NaN" | "nan" => Cell::Missing,
        "true" | "True" | "TRUE" => Cell::Number(1.0),
        "false" | "False" | "FALSE" => Cell::Number(0.0),
        _ => text.parse().map_or(Cell::Text(text), Cell::Number),
    }
}

/// How an action or position is called: whole numbers without a fraction, so that `1`, `1.0` and `"1"` are one.
pub(super) fn label(cell: Cell<'_>) -> Option<String> {
    match cell {
        Cell::Missing => None,
        Cell::Number(v) if v.is_finite() => Some(v.to_string()),
        Cell::Number(_) => None,
        Cell::Text(text) => {
            let text = text.trim();
            let whole = text.strip_suffix(".0").filter(|t| t.parse::<i64>().is_ok());
            (!text.is_empty()).then(|| whole.unwrap_or(text).to_owned())
        }
    }
}
