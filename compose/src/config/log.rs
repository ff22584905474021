//! `[log]`: which log, and what one on Fluvio needs.

use std::{path::PathBuf, time::Duration};

use ingest::log::{Compression, FluvioOptions, Isolation, Tls};
use serde::{Deserialize, Serialize};

use super::check::within;
use crate::error::{Error, Result};

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogStore {
    /// `embedded:`, or `fluvio://host:port` of a Fluvio cluster's controller.
    pub url: String,
    /// Partitions of the topic of signals; fixed once the log exists.
    pub partitions: u32,
    /// Fluvio: topics are named `<prefix>-signals` and so on.
    pub topic_prefix: String,
    /// Fluvio: copies of each partition, for topics that are made.
    pub replication: u32,
    /// Fluvio: what must have happened to a record before it counts as durable.
    pub isolation: Isolation,
    /// Fluvio: how batches are compressed.
    pub compression: Compression,
    /// Fluvio: how many milliseconds a batch waits for more callers.
    pub linger_ms: u64,
    /// Fluvio: PEM file of the authority behind the cluster's certificates; unset connects in the clear.
    pub tls_ca_file: Option<PathBuf>,
    /// Fluvio: PEM file of this process' certificate, where the cluster asks for one.
    pub tls_cert_file: Option<PathBuf>,
    /// Fluvio: PEM file of the key to it.
    pub tls_key_file: Option<PathBuf>,
    /// Fluvio: the name the controller's certificate is for; unset is the host of the URL.
    pub tls_domain: Option<String>,
}

impl Default for LogStore {
    fn default() -> Self {
        let fluvio = FluvioOptions::default();
        LogStore {
            url: "embedded:".into(),
            partitions: 4,
            topic_prefix: fluvio.topic_prefix,
            replication: fluvio.replication,
            isolation: fluvio.isolation,
            compression: fluvio.compression,
            linger_ms: 0,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_domain: None,
        }
    }
}

impl LogStore {
    /// Checks what types alone cannot say.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::Setting(text));
        let scheme = self.url.split_once(':').map_or(self.url.as_str(), |(scheme, _)| scheme);
        match scheme {
            "embedded" if self.url == "embedded:" => {}
            "fluvio" if cfg!(feature = "fluvio") => {}
            "fluvio" => {
                return wrong("log.url: this build has no Fluvio backend (cargo feature `fluvio`)".into());
            }
            _ => {
                return wrong(format!(
                    "log.url: there is no backend for `{scheme}`; write `embedded:` or `fluvio://host:port`"
                ));
            }
        }
        within("log.partitions", u64::from(self.partitions), 1, 1_024)?;
        within("log.replication", u64::from(self.replication), 1, 16)?;
        within("log.linger_ms", self.linger_ms, 0, 1_000)?;
        let files = [
            ("log.tls_ca_file", &self.tls_ca_file),
            ("log.tls_cert_file", &self.tls_cert_file),
            ("log.tls_key_file", &self.tls_key_file),
        ];
        for (setting, file) in files {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                return wrong(format!("{setting}: there is no file `{}`; name a PEM file", file.display()));
            }
        }
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            return wrong("log.tls_cert_file and log.tls_key_file belong together; set both or none".into());
        }
        if self.tls_ca_file.is_none() && (self.tls_cert_file.is_some() || self.tls_domain.is_some()) {
            return wrong("log.tls_ca_file: set it too; without it the connection is in the clear".into());
        }
        Ok(())
    }

    /// What the Fluvio backend is given.
    pub fn fluvio(&self) -> FluvioOptions {
        let host = || {
            let authority = self.url.split("://").nth(1).unwrap_or_default();
            authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned()
        };
        let tls = self.tls_ca_file.clone().map(|ca_file| Tls {
            ca_file,
            client: self.tls_cert_file.clone().zip(self.tls_key_file.clone()),
            domain: self.tls_domain.clone().unwrap_or_else(host),
        });
        FluvioOptions {
            topic_prefix: self.topic_prefix.clone(),
            replication: self.replication,
            isolation: self.isolation,
            compression: self.compression,
            linger: Duration::from_millis(self.linger_ms),
            tls,
            ..FluvioOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_names_its_setting() {
        let reason = |change: fn(&mut LogStore)| {
            let mut log = LogStore::default();
            change(&mut log);
            log.check().unwrap_err().to_string()
        };
        assert!(
            reason(|l| l.url = "kafka://x".into()).starts_with("log.url: there is no backend for `kafka`")
        );
        assert!(reason(|l| l.partitions = 0).starts_with("log.partitions: 0"));
        assert!(reason(|l| l.linger_ms = 5_000).starts_with("log.linger_ms: 5000"));
        assert!(reason(|l| l.tls_domain = Some("x".into())).starts_with("log.tls_ca_file"));
        assert!(
            reason(|l| l.tls_ca_file = Some("/no/such".into())).starts_with("log.tls_ca_file: there is no")
        );
        LogStore::default().check().unwrap();
    }

    #[test]
    fn the_certificate_is_for_the_host_unless_told() {
        let mut log = LogStore { url: "fluvio://sc.example:9003".into(), ..LogStore::default() };
        assert_eq!(log.fluvio().tls, None);
        log.tls_ca_file = Some("ca.pem".into());
        assert_eq!(log.fluvio().tls.unwrap().domain, "sc.example");
    }
}
