//! `[history]`: where signals and values of all times are, and what ClickHouse needs.

use std::{path::PathBuf, time::Duration};

use features::offline::{Secret, ServerOptions};
use serde::{Deserialize, Serialize};

use super::check::within;
use crate::error::{Error, Result};

/// The environment variable with the password, where there is no file of it.
pub const PASSWORD: &str = "KAIROS_HISTORY_PASSWORD";

/// `[history]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// `embedded:` is Parquet files in the data directory, `http://host:8123/database` is ClickHouse.
    pub url: String,
    /// ClickHouse: its user; unset is `default`.
    pub user: Option<String>,
    /// ClickHouse: file with the user's password; unset is the variable `KAIROS_HISTORY_PASSWORD`, or none.
    pub password_file: Option<PathBuf>,
    /// ClickHouse: megabytes of rows that may wait on local disk while it is away.
    pub spool_mb: u64,
    /// ClickHouse: so many rows are sent without waiting for more.
    pub batch_rows: u64,
    /// ClickHouse: seconds that rows wait for more to be sent with.
    pub batch_seconds: f64,
    /// ClickHouse: days, by their time, after which it drops rows; unset keeps them for good.
    pub keep_days: Option<u32>,
}

impl Default for History {
    fn default() -> Self {
        let server = ServerOptions::default();
        History {
            url: "embedded:".into(),
            user: None,
            password_file: None,
            spool_mb: server.spool_bytes >> 20,
            batch_rows: server.batch_rows,
            batch_seconds: server.batch_time.as_secs_f64(),
            keep_days: None,
        }
    }
}

impl History {
    /// Checks what types alone cannot say.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Error::Setting(text.to_owned()));
        // What follows the scheme may hold a password, so no message shows it.
        let scheme = self.url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "embedded" if self.url == "embedded:" => {
                if self.keep_days.is_some() {
                    return wrong("history.keep_days: only ClickHouse drops rows by their age; take it out");
                }
            }
            "http" | "https" if !cfg!(feature = "clickhouse") => {
                return wrong(
                    "history.url: this build has no ClickHouse backend (cargo feature `clickhouse`)",
                );
            }
            "http" | "https" if self.url.contains('@') => {
                return wrong(
                    "history.url: it names a user; write that as history.user, and the password into the file of \
                     history.password_file",
                );
            }
            "http" | "https" => {}
            _ => {
                return wrong(
                    "history.url: there is no such backend; write `embedded:` or `http://host:8123/kairos`",
                );
            }
        }
        if let Some(file) = self.password_file.as_ref().filter(|f| !f.is_file()) {
            return Err(Error::Setting(format!(
                "history.password_file: there is no file `{}`; write the password into one",
                file.display()
            )));
        }
        within("history.spool_mb", self.spool_mb, 16, 1 << 24)?;
        within("history.batch_rows", self.batch_rows, 1, 10_000_000)?;
        if !(0.0..=600.0).contains(&self.batch_seconds) {
            return wrong("history.batch_seconds: write a number from 0 to 600");
        }
        self.keep_days.map_or(Ok(()), |days| within("history.keep_days", u64::from(days), 1, 36_500))
    }

    /// What the backend on a server is given. Reads the password.
    pub fn server(&self) -> Result<ServerOptions> {
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|e| {
                    let file = file.display();
                    Error::Setting(format!(
                        "history.password_file: `{file}` cannot be read: {e}; see to its rights"
                    ))
                })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => std::env::var(PASSWORD).ok(),
        };
        Ok(ServerOptions {
            user: self.user.clone().or_else(|| password.is_some().then(|| "default".to_owned())),
            password: password.map(Secret::new),
            spool_bytes: self.spool_mb << 20,
            batch_rows: self.batch_rows,
            batch_time: Duration::from_secs_f64(self.batch_seconds),
            keep: self.keep_days.map(|days| Duration::from_secs(u64::from(days) * 86_400)),
            ..ServerOptions::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> History {
        History { url: url.into(), ..History::default() }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_secrets() {
        at("embedded:").check().unwrap();
        let named = at("http://me:hunter2@host:8123/kairos").check().unwrap_err().to_string();
        assert!(!named.contains("hunter2"), "{named}");
        let strange = at("clickhouse://me:hunter2@host/x").check().unwrap_err().to_string();
        assert!(strange.contains("http://host:8123/kairos") && !strange.contains("hunter2"), "{strange}");
        let small = History { spool_mb: 1, ..at("embedded:") }.check().unwrap_err().to_string();
        assert!(small.starts_with("history.spool_mb"), "{small}");
        let aged = History { keep_days: Some(3), ..at("embedded:") }.check().unwrap_err().to_string();
        assert!(aged.starts_with("history.keep_days"), "{aged}");
    }

    #[test]
    fn the_password_is_the_text_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let settings = History { password_file: Some(file.path().to_owned()), ..at("embedded:") };
        settings.check().unwrap();
        let server = settings.server().unwrap();
        assert_eq!(server.password, Some(Secret::new("hunter2")));
        assert_eq!(server.user.as_deref(), Some("default"));
        assert!(!format!("{settings:?} {server:?}").contains("hunter2"));
    }
}
