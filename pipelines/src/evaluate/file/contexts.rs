//! Contexts of all rows, column by column.

use std::collections::HashMap;

use super::cells::Names;
use crate::evaluate::encode::Cell;

/// Most columns of a context.
const MOST_COLUMNS: usize = 10_000;
/// Most different texts of a column; further ones count as missing.
const MOST_TEXTS: usize = 200_000;
const NO_TEXT: u32 = u32::MAX;

/// A table of contexts that grows by rows and by columns.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    pub(super) names: Vec<String>,
    numbers: HashMap<String, u32>,
    columns: Vec<Column>,
    rows: usize,
    /// Columns set in the row being read.
    set: Vec<u32>,
}

/// Rows beyond its end have no value.
#[derive(Debug, Default)]
struct Column {
    /// NaN where there is none.
    values: Vec<f32>,
    /// Empty as long as there is no text.
    texts: Vec<u32>,
    names: Names,
}

impl Contexts {
    pub(super) fn column(&mut self, name: &str) -> Result<u32, String> {
        if let Some(known) = self.numbers.get(name) {
            return Ok(*known);
        }
        if self.columns.len() >= MOST_COLUMNS {
            return Err(format!("there are more than {MOST_COLUMNS} columns of the context"));
        }
        let next = self.columns.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), next);
        self.columns.push(Column::default());
        Ok(next)
    }

    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Sets a value of the row being read; of two, the last one holds.
    pub(super) fn set(&mut self, column: u32, cell: Cell<'_>) {
        let (rows, known) = (self.rows, column);
        let column = &mut self.columns[known as usize];
        match cell {
            Cell::Number(v) if v.is_finite() => {
                column.values.resize(rows, f32::NAN);
                column.values.push(v as f32);
            }
            Cell::Text(text) if column.names.len() < MOST_TEXTS => {
                column.texts.resize(rows, NO_TEXT);
                column.texts.push(column.names.number(text));
            }
            _ => return,
        }
        self.set.push(known);
    }

    /// The row being read is one of the table.
    pub(super) fn keep(&mut self) {
        self.rows += 1;
        self.set.clear();
    }

    /// The row being read is none.
    pub(super) fn forget(&mut self) {
        for column in self.set.drain(..) {
            let column = &mut self.columns[column as usize];
            column.values.truncate(self.rows);
            column.texts.truncate(self.rows);
        }
    }

    pub(super) fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        let Some(column) = self.columns.get(column) else { return Cell::Missing };
        match column.texts.get(row) {
            Some(text) if *text != NO_TEXT => return Cell::Text(&column.names.list[*text as usize]),
            _ => {}
        }
        match column.values.get(row) {
            Some(value) if !value.is_nan() => Cell::Number(f64::from(*value)),
            _ => Cell::Missing,
        }
    }
}
