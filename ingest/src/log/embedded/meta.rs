//! What is fixed when a log is created.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::files;
use crate::log::LogError;

const VERSION: u32 = 1;
const MAX_PARTITIONS: u32 = 1024;

/// The content of `meta.json`.
#[derive(Serialize, Deserialize)]
pub struct Meta {
    version: u32,
    /// Partitions of the topic `signals`.
    partitions: u32,
}

/// The partitions of an existing log, or of a new one with `wanted` partitions.
pub fn open(dir: &Path, wanted: u32) -> Result<u32, LogError> {
    if let Some(meta) = read(dir)? {
        if meta.partitions != wanted {
            tracing::warn!(
                directory = %dir.display(), has = meta.partitions, configured = wanted,
                "the number of partitions was fixed when the log was created; the configured one is ignored"
            );
        }
        return Ok(meta.partitions);
    }
    if !(1..=MAX_PARTITIONS).contains(&wanted) {
        return Err(LogError::Refused(format!(
            "log.partitions = {wanted} is out of range; it may be 1 to {MAX_PARTITIONS}"
        )));
    }
    let path = dir.join("meta.json");
    let json = serde_json::to_vec(&Meta { version: VERSION, partitions: wanted })
        .map_err(|e| LogError::Unavailable(e.to_string()))?;
    files::replace(&path, &json).map_err(|e| files::unavailable("cannot write", &path, &e))?;
    Ok(wanted)
}

/// What the directory says; none if there is no log yet.
pub fn read(dir: &Path) -> Result<Option<Meta>, LogError> {
    let path = dir.join("meta.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(files::unavailable("cannot read", &path, &e)),
    };
    let meta: Meta = serde_json::from_slice(&bytes).map_err(|e| {
        let path = path.display();
        LogError::Damaged(format!(
            "{path} is damaged: {e}. It should read {{\"version\":1,\"partitions\":4}}"
        ))
    })?;
    if meta.version != VERSION {
        return Err(LogError::Refused(format!(
            "{} was written by another version of Kairos (log format {}, this one reads {VERSION})",
            dir.display(),
            meta.version
        )));
    }
    Ok(Some(meta))
}
