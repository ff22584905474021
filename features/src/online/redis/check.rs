//! Whether a server suits.

use redis::{Cmd, cmd};

use super::{
    link::{Link, Target},
    writer::text_of,
};
use crate::{error::FeatureError, online::OnlineOptions};

/// Share of `maxmemory` above which it is said that there is little left.
const CROWDED: f64 = 0.95;

/// Asks the server what it is and says so.
///
/// # Errors
/// `Request` or `Unavailable` with what is wrong and how to mend it: away, a login it refuses, rows it may evict,
/// no memory left.
pub async fn check(url: &str, options: &OnlineOptions) -> Result<String, FeatureError> {
    let target = Target::new(url, options)?;
    let link = Link::new(target, options.timeout * super::WRITES_TAKE);
    let shown = link.target.shown.clone();
    let wrong = |what: String| FeatureError::Unavailable(format!("Redis at {shown}: {what}"));
    let mut info = cmd("INFO");
    if link.target.is_cluster() {
        // Asked of every node, whose answers differ; that it answers a script is enough.
        link.ask(&one(options)).await?;
        return Ok(format!("{shown}, a cluster"));
    }
    info.arg("everything");
    let text = match link.ask(&info).await? {
        redis::Value::VerbatimString { text, .. } => text,
        other => text_of(&other),
    };
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    };
    let version = field("redis_version");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < 6 {
        return Err(wrong(format!("version {version} does not speak RESP3; use 6.2 or newer")));
    }
    let number = |name: &str| field(name).parse::<f64>().unwrap_or(0.0);
    let (used, most, policy) = (number("used_memory"), number("maxmemory"), field("maxmemory_policy"));
    if most > 0.0 && policy != "noeviction" {
        return Err(wrong(format!(
            "maxmemory-policy is `{policy}`: rows would vanish unseen and people read as if they had done \
             nothing; set `maxmemory-policy noeviction`"
        )));
    }
    if most > 0.0 && used > CROWDED * most {
        return Err(wrong(format!(
            "{:.0} of {:.0} MB are used: soon it takes no rows; raise `maxmemory`",
            used / 1e6,
            most / 1e6
        )));
    }
    link.ask(&one(options)).await?;
    Ok(format!("{shown}, version {version}, {:.0} MB used", used / 1e6))
}

/// A script that does nothing, to see that the user may run one on Kairos' keys.
fn one(options: &OnlineOptions) -> Cmd {
    let mut command = cmd("EVAL");
    command
        .arg("return redis.call('EXISTS', KEYS[1])")
        .arg(1)
        .arg(format!("{}:{{0}}:applied", options.prefix));
    command
}
