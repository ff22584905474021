//! `[online]`: where features of now are, and what those in Redis need.

use std::{path::PathBuf, time::Duration};

use features::online::{OnlineOptions, options::shown};
use serde::{Deserialize, Serialize};

use super::check::within;
use crate::error::{Error, Result};

/// `[online]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Online {
    /// `embedded:`, `redis://host:port`, `rediss://host:port` with TLS, or `redis+cluster://host:port,host:port`
    /// (`rediss+cluster://`) for a cluster.
    pub url: String,
    /// Redis: the user; unset is the default one.
    pub user: Option<String>,
    /// Redis: file of the password.
    pub password_file: Option<PathBuf>,
    /// Redis: PEM file of the authority behind the server's certificate; unset takes the web's.
    pub ca_file: Option<PathBuf>,
    /// Redis: what every key begins with.
    pub prefix: String,
    /// Redis: milliseconds a read may take; then rows read lately are answered, marked stale.
    pub timeout_ms: u64,
    /// Redis: seconds after which the partitions of a stream process that died are another's.
    pub lease_seconds: u64,
    /// Redis: megabytes of rows kept for reads while it is away.
    pub cache_mb: usize,
    /// Redis: oldest of those that is still answered, in seconds.
    pub cache_seconds: u64,
}

impl Default for Online {
    fn default() -> Self {
        let options = OnlineOptions::new(0);
        Online {
            url: "embedded:".into(),
            user: None,
            password_file: None,
            ca_file: None,
            prefix: options.prefix,
            timeout_ms: options.timeout.as_millis() as u64,
            lease_seconds: options.lease.as_secs(),
            cache_mb: options.cache_bytes >> 20,
            cache_seconds: options.cache_age.as_secs(),
        }
    }
}

impl Online {
    /// Checks what types alone cannot say.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::Setting(text));
        let scheme = self.url.split_once(':').map_or(self.url.as_str(), |(scheme, _)| scheme);
        match scheme {
            "embedded" if self.url == "embedded:" => {}
            "redis" | "rediss" | "redis+cluster" | "rediss+cluster" if cfg!(feature = "redis") => {}
            "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => {
                return wrong("online.url: this build has no Redis backend (cargo feature `redis`)".into());
            }
            _ => {
                return wrong(format!(
                    "online.url: there is no backend for `{}`; write `embedded:`, `redis://host:port`, \
                     `rediss://host:port` or `redis+cluster://host:port,host:port`",
                    shown(scheme)
                ));
            }
        }
        let files = [("online.password_file", &self.password_file), ("online.ca_file", &self.ca_file)];
        for (setting, file) in files {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                return wrong(format!("{setting}: there is no file `{}`", file.display()));
            }
        }
        if self.ca_file.is_some() && !scheme.starts_with("rediss") {
            return wrong("online.ca_file: the URL says no TLS; write `rediss://`".into());
        }
        if self.prefix.is_empty() || self.prefix.contains(['{', '}', '*', '?', '[', ' ']) {
            return wrong(format!("online.prefix: `{}` is no prefix; write letters and digits", self.prefix));
        }
        within("online.timeout_ms", self.timeout_ms, 10, 60_000)?;
        within("online.lease_seconds", self.lease_seconds, 2, 600)?;
        within("online.cache_mb", self.cache_mb as u64, 0, 1 << 20)?;
        within("online.cache_seconds", self.cache_seconds, 0, 86_400)
    }

    /// What the backend is given, with so many views and partitions.
    pub fn options(&self, views: usize, partitions: u32) -> OnlineOptions {
        let lease = Duration::from_secs(self.lease_seconds);
        OnlineOptions {
            partitions,
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            ca_file: self.ca_file.clone(),
            prefix: self.prefix.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
            lease,
            // One that died is waited for.
            claim_within: lease + lease / 2,
            cache_bytes: self.cache_mb << 20,
            cache_age: Duration::from_secs(self.cache_seconds),
            ..OnlineOptions::new(views)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_names_its_setting() {
        let reason = |change: fn(&mut Online)| {
            let mut online = Online::default();
            change(&mut online);
            online.check().unwrap_err().to_string()
        };
        assert!(reason(|o| o.url = "cassandra://x".into()).starts_with("online.url: there is no backend"));
        assert!(reason(|o| o.password_file = Some("/no/such".into())).starts_with("online.password_file"));
        assert!(reason(|o| o.prefix = "a{b}".into()).starts_with("online.prefix"));
        assert!(reason(|o| o.timeout_ms = 1).starts_with("online.timeout_ms: 1"));
        assert!(reason(|o| o.lease_seconds = 0).starts_with("online.lease_seconds: 0"));
        Online::default().check().unwrap();
    }
}
