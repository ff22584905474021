//! A note, left when a topic is closed properly, that says where it ended. While there is one, a tail that is
//! missing or wrong is no torn write but damage: every block before that place had been acknowledged.

use std::{io, path::Path};

use super::{files, segment::Segment};
use crate::log::LogError;

const NAME: &str = "closed";

/// Leaves the note.
pub fn note(dir: &Path, segment: &Segment) -> io::Result<()> {
    files::replace(&dir.join(NAME), text(segment.index, segment.len()).as_bytes())
}

/// Compares the note, if there is one, with where the valid blocks end now.
pub fn check(dir: &Path, segment: &Segment, end: u64) -> Result<(), LogError> {
    let path = dir.join(NAME);
    let noted = match std::fs::read_to_string(&path) {
        Ok(noted) => noted,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(files::unavailable("cannot read", &path, &e)),
    };
    if noted == text(segment.index, end) {
        return Ok(());
    }
    Err(LogError::Damaged(format!(
        "{} is valid up to byte {end} (segment {}), but when the log was closed it ended at {noted}: \
         acknowledged records are missing. Restore the file from a backup; or remove {} to go on without them",
        segment.path.display(),
        segment.index,
        path.display()
    )))
}

/// Removes the note, durably: from now on the log may grow.
pub fn begin(dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(dir.join(NAME)) {
        Ok(()) => files::sync_dir(dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn text(segment: u64, end: u64) -> String {
    format!("byte {end} of segment {segment}")
}
