//! `kairos explain IMPRESSION`.

use super::log_to_read;
use crate::{
    config::Settings,
    error::{Error, Result},
};

/// Tells why a tip was shown, from the log alone.
pub fn run(settings: &Settings, impression: &str, json: bool) -> Result<()> {
    let log = log_to_read(settings)?;
    let found = scorer::explain::explain(&*log, impression)?.ok_or_else(|| {
        Error::Input(format!(
            "impression `{impression}` is not in the log of `{}`; give the id that came with the tip",
            settings.data.dir.display()
        ))
    })?;
    if json {
        let text = serde_json::to_string_pretty(&found).map_err(|e| Error::Broken(e.to_string()))?;
        println!("{text}");
    } else {
        print!("{found}");
    }
    Ok(())
}
