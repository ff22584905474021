//! The front of Kairos: what a signal is, which types are declared, the one door through which every
//! signal enters, and the log that carries everything afterwards.
//!
//! | module | what |
//! |---|---|
//! | [`catalogue`] | declared signal types, read from protobuf files |
//! | [`record`] | a signal once admitted, and how the log stores it |
//! | [`admit`] | the one door |
//! | [`event`] | a record of the log as a CloudEvents object, where other programs read the log too |
//! | [`log`] | the log: trait, `embedded` backend, `fluvio` backend behind the feature `fluvio` |
//! | [`http`] | `POST /v1/signals` |
//! | [`auth`] | API keys, scopes, rate limits |
//! | [`telemetry`] | names of the metrics |
//! | `servers` | real servers for tests, behind the feature `test-servers` |

pub mod admit;
pub mod auth;
pub mod catalogue;
pub mod event;
pub mod http;
pub mod log;
pub mod record;
#[cfg(feature = "test-servers")]
pub mod servers;
pub mod telemetry;

#[cfg(test)]
mod testing;

/// Milliseconds since the Unix epoch; event times and arrival times alike.
pub type Millis = i64;

/// Where the time comes from. Only the binary reads the machine's clock; everything else is handed one.
pub type Clock = std::sync::Arc<dyn Fn() -> Millis + Send + Sync>;
