//! The machine's clock; only this binary reads it, everything else is handed one.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ingest::{Clock, Millis};

/// The machine's time.
pub fn system() -> Clock {
    Arc::new(now)
}

/// The machine's time, once.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
