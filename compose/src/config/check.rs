//! What types alone cannot say about settings.

use std::net::{SocketAddr, ToSocketAddrs};

use super::Settings;
use crate::error::{Error, Result};

/// Checks every setting that can be wrong in itself; each error names the setting and what would be right.
pub fn check(settings: &Settings) -> Result<()> {
    address("http.listen", &settings.http.listen)?;
    if settings.sql.listen.is_some() {
        return Err(Error::Setting("sql.listen: this build does not serve SQL; take the setting out".into()));
    }
    embedded("accounts.url", &settings.accounts.url)?;
    for (setting, dirs) in [
        ("signals.dirs", &settings.signals.dirs),
        ("views.dirs", &settings.views.dirs),
        ("tables.dirs", &settings.tables.dirs),
    ] {
        if let Some(dir) = dirs.iter().find(|d| !d.is_dir()) {
            return Err(Error::Setting(format!(
                "{setting}: `{}` is no directory; name one that exists",
                dir.display()
            )));
        }
    }
    if let Some(file) = settings.tips.files.iter().find(|f| !f.is_file()) {
        return Err(Error::Setting(format!(
            "tips.files: there is no file `{}`; name a TOML file of tips",
            file.display()
        )));
    }
    settings.log.check()?;
    settings.online.check()?;
    settings.history.check()?;
    let pause = settings.stream.checkpoint_seconds;
    if !(0.05..=3_600.0).contains(&pause) {
        return Err(Error::Setting(format!(
            "stream.checkpoint_seconds: {pause} is out of range; write a number from 0.05 to 3600"
        )));
    }
    if let Some(partitions) = &settings.stream.partitions {
        let unlike = partitions.iter().enumerate().all(|(i, p)| !partitions[..i].contains(p));
        if partitions.is_empty() || !unlike || partitions.iter().any(|p| *p >= settings.log.partitions) {
            return Err(Error::Setting(format!(
                "stream.partitions: name some of the partitions 0 to {}, each once, or leave it out for all",
                settings.log.partitions - 1
            )));
        }
    }
    within("stream.batch", settings.stream.batch as u64, 1, 1_000_000)?;
    within("verify.per_minute", u64::from(settings.verify.per_minute), 0, 6_000)?;
    within("stream.memory_mb", settings.stream.memory_mb as u64, 1, 1 << 24)?;
    if let Some(hour) = settings.train.hour {
        within("train.hour", u64::from(hour), 0, 23)?;
        if settings.scorer.shadow.is_none() {
            let text =
                "train.hour: there is no shadow to train; configure one in the section `scorer.shadow`";
            return Err(Error::Setting(text.into()));
        }
    }
    if let Some(days) = settings.train.days {
        within("train.days", u64::from(days), 1, 36_500)?;
    }
    within("limits.body_bytes", settings.limits.body_bytes as u64, 1_024, 1 << 30)?;
    within("limits.request_seconds", settings.limits.request_seconds, 1, 3_600)?;
    for (setting, rate) in [
        ("limits.key_per_second", settings.limits.key_per_second),
        ("limits.address_per_second", settings.limits.address_per_second),
    ] {
        if rate.is_some_and(|r| !(0.001..=1e6).contains(&r)) {
            return Err(Error::Setting(format!(
                "{setting}: write a number from 0.001 to 1000000, or leave it out"
            )));
        }
    }
    settings.arroyo.check()?;
    settings.stream.engine.check(&settings.online.url)?;
    settings.scorer.check().map_err(|e| Error::Setting(e.to_string()))
}

/// Reads `host:port`.
pub fn address(setting: &str, text: &str) -> Result<SocketAddr> {
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        Error::Setting(format!(
            "{setting}: `{text}` is no address; write `host:port`, such as `127.0.0.1:8080`"
        ))
    })
}

/// Without an API key anybody who reaches the port may read and write, so it must be this machine alone.
pub fn loopback_unless_keyed(listen: SocketAddr, keyed: bool) -> Result<()> {
    if keyed || listen.ip().is_loopback() {
        return Ok(());
    }
    Err(Error::Setting(format!(
        "http.listen: `{listen}` can be reached from other machines, and no API key is configured; \
         make one with `kairos keys new`, or listen on 127.0.0.1:{}",
        listen.port()
    )))
}

fn embedded(setting: &str, url: &str) -> Result<()> {
    if url == "embedded:" {
        return Ok(());
    }
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    Err(Error::Setting(format!("{setting}: this build has no backend for `{scheme}`; write `embedded:`")))
}

pub(super) fn within(setting: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Setting(format!("{setting}: {value} is out of range; write a number from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        check(&settings).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_right() {
        check(&Settings::default()).unwrap();
    }

    #[test]
    fn each_error_names_its_setting() {
        assert!(reason(|s| s.http.listen = "nowhere".into()).starts_with("http.listen: `nowhere`"));
        assert!(reason(|s| s.log.url = "kafka://x".into()).contains("log.url: there is no backend"));
        assert!(reason(|s| s.views.dirs = vec!["/no/such".into()]).starts_with("views.dirs: `/no/such`"));
        assert!(reason(|s| s.log.partitions = 0).starts_with("log.partitions: 0"));
        assert!(reason(|s| s.sql.listen = Some("127.0.0.1:5433".into())).starts_with("sql.listen"));
    }

    #[test]
    fn only_loopback_goes_without_a_key() {
        let open = address("http.listen", "0.0.0.0:8080").unwrap();
        let local = address("http.listen", "127.0.0.1:8080").unwrap();
        assert!(loopback_unless_keyed(open, false).unwrap_err().to_string().contains("kairos keys new"));
        loopback_unless_keyed(open, true).unwrap();
        loopback_unless_keyed(local, false).unwrap();
    }
}
