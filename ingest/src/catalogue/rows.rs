//! The Arrow columns of a message, filled straight from its protobuf bytes.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::{
    column::Column,
    error::Damaged,
    shape::{Kind, Message},
    wire::Fields,
};

/// The columns of a message, one row a message. A row that fails leaves no trace.
pub(crate) struct Rows {
    pub(crate) message: Arc<Message>,
    columns: Vec<Column>,
    len: usize,
    growth: usize,
}

impl Rows {
    pub(crate) fn new(message: &Arc<Message>) -> Self {
        let columns = message.fields.iter().map(|f| Column::new(f.cardinality, &f.kind)).collect();
        Rows { message: message.clone(), columns, len: 0, growth: growth(message) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes a column of text may gain from one byte of a message: the longest name of an
    /// enumeration, which one byte may stand for.
    pub(crate) fn growth(&self) -> usize {
        self.growth
    }

    /// Adds a row from the encoding of a message. Fields not declared are skipped; of a single field that
    /// occurs several times the last counts.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let filled = self.fill(bytes);
        if filled.is_err() {
            for column in &mut self.columns {
                column.truncate(self.len);
            }
        }
        filled
    }

    fn fill(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let row = self.len;
        let message = self.message.as_ref();
        for found in Fields(bytes) {
            let (number, raw) = found?;
            let Some(index) = message.numbered(number) else { continue };
            let field = &message.fields[index];
            self.columns[index].take(row, field.cardinality, &field.kind, raw)?;
        }
        for column in &mut self.columns {
            column.end_row(row);
        }
        self.len += 1;
        Ok(())
    }

    /// Adds a row of NULLs.
    pub(crate) fn append_null(&mut self) {
        for column in &mut self.columns {
            column.end_row(self.len);
        }
        self.len += 1;
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        for column in &mut self.columns {
            column.truncate(len);
        }
        self.len = len;
    }

    /// The columns so far; starts anew.
    pub(crate) fn finish(&mut self) -> Vec<ArrayRef> {
        self.len = 0;
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

fn growth(message: &Message) -> usize {
    let longest = message.fields.iter().map(|field| match &field.kind {
        // A number without a name is written out, at most as -2147483648.
        Kind::Enum(declared) => declared.values.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(11),
        Kind::Message(nested) => growth(nested),
        _ => 1,
    });
    longest.max().unwrap_or(1)
}
