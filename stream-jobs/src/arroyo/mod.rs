//! Feature views on Arroyo: their SQL in tiles of a minute, kept running through Arroyo's REST interface.
//!
//! A view becomes one pipeline: the topic of signals in, its tiles out, to Redis where reads merge them
//! ([`features::tiles`]) and to a topic that the loader takes into history.
//!
//! | module | what |
//! |---|---|
//! | [`sql`] | the SQL of a view |
//! | [`history`] | tiles in history; those of late signals made again |
//! | `client` | Arroyo's REST interface (feature `arroyo`) |
//! | `load` | the loader (feature `arroyo`) |
//! | `deploy` | views deployed, looked at, stopped (feature `arroyo`) |

#[cfg(feature = "arroyo")]
pub mod client;
#[cfg(feature = "arroyo")]
pub mod deploy;
pub mod history;
#[cfg(feature = "arroyo")]
pub mod load;
pub mod sql;

use features::{Functions, View, udf::Kind};
use ingest::{Millis, catalogue::Catalogue};

/// Where pipelines read and write, and how long they wait for late signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Begin of the names of topics: signals are in `<prefix>-signals`.
    pub topic_prefix: String,
    /// Fluvio as Arroyo reaches it, `host:port`; `None` for the profile of Arroyo's own machine.
    pub fluvio: Option<String>,
    /// Redis as Arroyo reaches it.
    pub redis: Redis,
    /// What every key in it begins with.
    pub key_prefix: String,
    /// How long a tile waits for signals that come late. The view's own lateness where that is less.
    pub wait_ms: Millis,
}

/// How Arroyo reaches Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redis {
    /// A URL without a password, for it stands in the SQL.
    Address(String),
    /// A connection profile stored in Arroyo, with its password.
    Profile(String),
}

/// A view that Arroyo cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Arroyo cannot hold the view {view}: {reason}")]
pub struct Refusal {
    /// Its name.
    pub view: String,
    /// Why, and the way out.
    pub reason: String,
}

/// A view for Arroyo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Name of the view.
    pub view: String,
    /// Its statements.
    pub sql: String,
    /// The user functions it calls: name and text.
    pub functions: Vec<(String, String)>,
}

/// Writes a view for Arroyo.
///
/// # Errors
/// Arroyo cannot hold it.
pub fn pipeline(
    view: &View,
    catalogue: &Catalogue,
    functions: &Functions,
    places: &Places,
) -> Result<Pipeline, Refusal> {
    let called: Vec<_> = functions.called_in(&view.definition.select).collect();
    if let Some(slow) = called.iter().find(|f| f.kind == Kind::Async) {
        let reason = format!(
            "{}() is async, and Arroyo takes one such call a SELECT, outside of aggregates; make it a plain function",
            slow.name
        );
        return Err(Refusal { view: view.name.to_string(), reason });
    }
    let sql = sql::statements(view, catalogue, places)?;
    let functions = called.into_iter().map(|f| (f.name.clone(), f.text.clone())).collect();
    Ok(Pipeline { view: view.name.to_string(), sql, functions })
}
