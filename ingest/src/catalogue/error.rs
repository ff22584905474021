//! What can go wrong with declarations, with the data of one signal, and with stored bytes.

use std::fmt;

/// The declarations cannot be used; a person must mend the files named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join(problems))]
pub struct CatalogueError {
    /// Everything found wrong, in the order of the files.
    pub problems: Vec<Problem>,
}

/// One thing wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File and, where known, line: `signals/tea.proto:7`.
    pub place: String,
    /// What is wrong there and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// The `data` of a signal does not fit its declared type; the sender must mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Path of the field, such as `data.stage_minutes["deep"]` or `data.tags[2]`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

/// Stored bytes are not what their type or version says; they cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored signal cannot be read: {0}")]
pub struct Damaged(pub String);

impl Damaged {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Damaged(what.into())
    }
}
