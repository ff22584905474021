//! `[arroyo]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `[arroyo]`: addresses of Fluvio and Redis are as Arroyo's workers reach them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arroyo {
    /// Arroyo's API, such as `http://arroyo:5115`; unset means that there is none.
    pub url: Option<String>,
    /// File with its static API key.
    pub key_file: Option<PathBuf>,
    /// File of certificates (PEM) that sign Arroyo's own, for https.
    pub ca_file: Option<PathBuf>,
    /// Subtasks of each operator.
    pub parallelism: u64,
    /// Fluvio, `host:port`; unset is the profile on Arroyo's own machine.
    pub fluvio: Option<String>,
    /// Redis, `redis://host:port`, without a password, for it stands in the SQL.
    pub redis: String,
    /// Name of a connection profile in Arroyo for a Redis with a password; stands above `redis`.
    pub redis_profile: Option<String>,
    /// How long a tile waits for late signals, in seconds; a view's own lateness where that is less.
    pub wait_seconds: u64,
    /// Seconds between Arroyo's checkpoints.
    pub checkpoint_seconds: u64,
}

/// Who computes the views that tiles can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The stream job of this program.
    #[default]
    Embedded,
    /// Arroyo, whose tiles are read from the Redis of `online.url`. The stream job keeps up the other views.
    Arroyo,
}

impl Engine {
    /// Checks what it needs of other settings.
    pub fn check(self, online_url: &str) -> Result<()> {
        if self == Engine::Embedded || (online_url.starts_with("redis") && cfg!(feature = "redis")) {
            return Ok(());
        }
        Err(Error::Setting(
            "stream.engine: Arroyo writes into Redis; name the same one in online.url, `redis://host:port`"
                .into(),
        ))
    }
}

impl Default for Arroyo {
    fn default() -> Self {
        Arroyo {
            url: None,
            key_file: None,
            ca_file: None,
            parallelism: 1,
            fluvio: None,
            redis: "redis://127.0.0.1:6379".into(),
            redis_profile: None,
            wait_seconds: 60,
            checkpoint_seconds: 10,
        }
    }
}

impl Arroyo {
    /// Checks what can be wrong in itself.
    pub fn check(&self) -> Result<()> {
        let wrong = |setting: &str, what: &str| Err(Error::Setting(format!("arroyo.{setting}: {what}")));
        if let Some(url) = &self.url
            && (!(url.starts_with("http://") || url.starts_with("https://")) || url.contains('@'))
        {
            return wrong(
                "url",
                "write `http://host:5115`; the key belongs into the file of arroyo.key_file",
            );
        }
        for (setting, file) in [("key_file", &self.key_file), ("ca_file", &self.ca_file)] {
            if let Some(file) = file.as_ref().filter(|f| !f.is_file()) {
                return wrong(setting, &format!("there is no file `{}`", file.display()));
            }
        }
        if !self.redis.starts_with("redis://") || self.redis.contains('@') {
            let what = "write `redis://host:port`; for a Redis with a password make a connection profile in Arroyo and \
                        name it in arroyo.redis_profile";
            return wrong("redis", what);
        }
        if let Some(fluvio) = &self.fluvio
            && !fluvio
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return wrong("fluvio", "write `host:port`, such as `fluvio:9003`");
        }
        super::check::within("arroyo.parallelism", self.parallelism, 1, 1_024)?;
        super::check::within("arroyo.wait_seconds", self.wait_seconds, 0, 30 * 86_400)?;
        super::check::within("arroyo.checkpoint_seconds", self.checkpoint_seconds, 1, 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_read_from_redis() {
        Engine::Embedded.check("embedded:").unwrap();
        let error = Engine::Arroyo.check("embedded:").unwrap_err().to_string();
        assert!(error.starts_with("stream.engine"), "{error}");
        assert_eq!(Engine::Arroyo.check("rediss://r:1").is_ok(), cfg!(feature = "redis"));
    }

    #[test]
    fn each_error_names_its_setting() {
        let reason = |change: fn(&mut Arroyo)| {
            let mut settings = Arroyo::default();
            settings.check().unwrap();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(reason(|a| a.url = Some("arroyo:5115".into())).starts_with("arroyo.url"));
        let secret = reason(|a| a.url = Some("http://me:secret@arroyo:5115".into()));
        assert!(secret.starts_with("arroyo.url") && !secret.contains("secret"), "{secret}");
        assert!(reason(|a| a.key_file = Some("/no/such".into())).starts_with("arroyo.key_file"));
        let secret = reason(|a| a.redis = "redis://:secret@redis:6379".into());
        assert!(secret.contains("arroyo.redis_profile") && !secret.contains("secret"), "{secret}");
        assert!(reason(|a| a.fluvio = Some("fluvio".into())).starts_with("arroyo.fluvio"));
        assert!(reason(|a| a.parallelism = 0).starts_with("arroyo.parallelism"));
        assert!(reason(|a| a.checkpoint_seconds = 0).starts_with("arroyo.checkpoint_seconds"));
    }
}
