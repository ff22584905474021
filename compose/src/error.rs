//! The one error of the binary, grouped by what the person at the terminal can do.

use std::process::ExitCode;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting or argument is wrong; the message names it and says what would be right.
    #[error("{0}")]
    Setting(String),
    /// What was given as input (a file, an impression id) cannot be used.
    #[error("{0}")]
    Input(String),
    /// Something outside the command is in the way: a held lock, a taken port, a server that does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked for is not fit to be done yet; what is missing was printed.
    #[error("{0}")]
    Refused(String),
    /// Stored data is wrong, or a part failed in a way it should not; a person must look.
    #[error("{0}")]
    Broken(String),
}

/// What every command answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The exit status of the process: 2 wrong setting, 3 wrong input, 4 try again later, 5 conditions not met,
    /// 1 anything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Error::Setting(_) => 2,
            Error::Input(_) => 3,
            Error::Unavailable(_) => 4,
            Error::Refused(_) => 5,
            Error::Broken(_) => 1,
        })
    }
}

impl From<ingest::log::LogError> for Error {
    fn from(e: ingest::log::LogError) -> Self {
        use ingest::log::LogError;
        match &e {
            LogError::Unavailable(_) | LogError::Locked(_) => Error::Unavailable(e.to_string()),
            LogError::Damaged(_) => Error::Broken(e.to_string()),
            LogError::Refused(_) => Error::Setting(e.to_string()),
        }
    }
}

/// Reading and writing files named on the command line.
pub fn on_file(what: &str, path: &std::path::Path, e: &std::io::Error) -> Error {
    Error::Input(format!("cannot {what} `{}`: {e}", path.display()))
}
