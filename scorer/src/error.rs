use ingest::log::LogError;

/// What can go wrong in the scorer, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// The configuration or a tip catalogue is wrong; the operator must mend it.
    #[error("{0}")]
    Config(String),
    /// The impression is not known: never shown, or too long ago.
    #[error(
        "impression `{0}` is not known; reactions are taken for tips shown lately, by the id that came with the tip"
    )]
    UnknownImpression(String),
    /// The request is wrong; the caller must mend it.
    #[error("{0}")]
    Invalid(String),
    /// Decisions cannot be recorded at present; the caller may try again later.
    #[error("{0}")]
    Unavailable(String),
    /// A saved policy cannot be used; learning starts from the rewards instead.
    #[error("{0}")]
    Snapshot(String),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}
