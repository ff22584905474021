//! Who may call: API keys with scopes, rate limits, and the guard of a server that runs without keys.
//!
//! | module | what |
//! |---|---|
//! | [`keys`] | keys, kept as SHA-256 hashes; where they come from |
//! | [`gate`] | the check in front of a route, as a `tower` layer |
//! | [`rate`] | rate limits by key and by address |
//! | [`local`] | what a server without keys accepts: local names, no foreign pages |
//!
//! ```no_run
//! # use ingest::auth::{Gate, GateOptions, Keys, Principal, Scope};
//! let keys = Keys::load("keys.toml".as_ref())?;
//! let gate = Gate::new(keys, GateOptions::default());
//! let router: axum::Router = axum::Router::new()
//!     .route("/v1/features", axum::routing::get(async |caller: Principal| caller.name().to_owned()))
//!     .route_layer(gate.require(Scope::Read));
//! # Ok::<(), ingest::auth::KeysError>(())
//! ```

pub mod gate;
pub mod keys;
pub mod local;
pub mod rate;

pub use gate::{Gate, GateOptions, Require};
pub use keys::{Keys, KeysError, Principal, Scope};
pub use rate::Rate;
