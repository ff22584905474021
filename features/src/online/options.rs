//! What an online store is told when it is opened.

use std::{path::PathBuf, time::Duration};

/// See the module. The embedded store needs the number of views alone.
#[derive(Debug, Clone)]
pub struct OnlineOptions {
    /// How many views there are.
    pub views: usize,
    /// Partitions of the topic of signals: entities are spread as their signals are.
    pub partitions: u32,
    /// What every key begins with, where a server is shared with others.
    pub prefix: String,
    /// Names this process to those who want to write the same partitions.
    pub holder: String,
    /// Who it says it is; the URL may say it too.
    pub user: Option<String>,
    /// File of the password.
    pub password_file: Option<PathBuf>,
    /// File of the certificates (PEM) that sign the server's; unset takes the web's.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a claim outlives a process that died.
    pub lease: Duration,
    /// How long a claim waits for another process's to end.
    pub claim_within: Duration,
    /// Bytes of rows kept in memory for reads while the store is away.
    pub cache_bytes: usize,
    /// Oldest row served from there.
    pub cache_age: Duration,
}

impl OnlineOptions {
    /// The defaults, for so many views.
    pub fn new(views: usize) -> Self {
        OnlineOptions {
            views,
            partitions: 4,
            prefix: "kairos".into(),
            holder: format!("process {}", std::process::id()),
            user: None,
            password_file: None,
            ca_file: None,
            timeout: Duration::from_millis(500),
            lease: Duration::from_secs(10),
            claim_within: Duration::from_secs(15),
            cache_bytes: 64 << 20,
            cache_age: Duration::from_secs(3_600),
        }
    }
}

/// A URL without the user and the password it may hold.
pub fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("redis://me:pa@ss@host:1"), "redis://…@host:1");
        assert_eq!(shown("redis://host:1"), "redis://host:1");
        assert_eq!(shown("embedded:"), "embedded:");
    }
}
