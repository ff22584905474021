//! What can go wrong with a batch job, by what the caller can do.

use std::{io, path::Path};

use features::FeatureError;
use ingest::log::LogError;
use scorer::ScorerError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A file given to the job cannot be used as it is; its author mends it.
    #[error("{file}: {what}")]
    Input {
        /// The file.
        file: String,
        /// What is wrong, where, and what would be right.
        what: String,
    },
    /// A file could not be read or written.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// Features could not be computed.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A policy could not be taught.
    #[error(transparent)]
    Policy(#[from] ScorerError),
}

impl PipelineError {
    pub(crate) fn input(file: &Path, what: impl ToString) -> Self {
        PipelineError::Input { file: file.display().to_string(), what: what.to_string() }
    }

    pub(crate) fn file(file: &Path) -> impl Fn(io::Error) -> Self + use<'_> {
        move |source| PipelineError::File { file: file.display().to_string(), source }
    }
}
