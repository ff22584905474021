//! What can go wrong with features, by what the caller can do about it.

use datafusion::error::DataFusionError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// A definition is wrong; its author mends it there.
    #[error("{file}:{line}:{column}: {message}")]
    Definition {
        /// File the definition stands in.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The caller named something that is not there, or asked for what cannot be answered.
    #[error("{0}")]
    Request(String),
    /// A store could not be reached or written; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// Stored data is wrong; a person must act.
    #[error("{0}")]
    Damaged(String),
    /// A value could not be computed from data that passed the door.
    #[error("computing {what}: {source}")]
    Compute {
        /// View or expression.
        what: String,
        /// What DataFusion says.
        source: Box<DataFusionError>,
    },
    /// What was to be read has been replaced; reading again finds what took its place.
    #[error("{0}")]
    Gone(String),
    /// A store has lost what was put into it; putting everything again mends it.
    #[error("{0}")]
    Lost(String),
    /// Another process does this work; this one must leave it alone.
    #[error("{0}")]
    Fenced(String),
    /// The position asked for was not applied in time.
    #[error("the position {0} was not applied within {1} ms; try again, or read without `after`")]
    NotYet(String, u64),
}

impl FeatureError {
    pub(crate) fn compute(what: &str) -> impl Fn(DataFusionError) -> FeatureError {
        move |e| FeatureError::Compute { what: what.to_owned(), source: Box::new(e) }
    }
}

impl From<crate::offline::HistoryError> for FeatureError {
    fn from(e: crate::offline::HistoryError) -> Self {
        use crate::offline::HistoryError::*;
        match e {
            Unavailable(m) => FeatureError::Unavailable(m),
            Damaged(m) => FeatureError::Damaged(m),
            Refused(m) => FeatureError::Request(m),
        }
    }
}
