//! Creating, naming and syncing files: readable by the owner alone, and durable in their directory.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::log::LogError;

/// Suffix of a file that is being written and does not count yet.
pub const UNFINISHED: &str = "tmp";

/// Creates a directory (and its parents) with mode 0700 and makes its entry durable.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Creates an empty file with mode 0600 for reading and writing; a file of that name is emptied.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Makes created, renamed and removed entries of a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The name a file has until it is complete.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// Puts a complete, durable file in the place of `path`: a crash leaves the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = unfinished(path);
    let write = || {
        let mut file = create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        put_in_place(&temporary, path)
    };
    or_remove(&temporary, write())
}

/// Gives back the space of an unfinished file whose writing failed: the disk may be full.
pub fn or_remove<T, E>(temporary: &Path, outcome: Result<T, E>) -> Result<T, E> {
    if outcome.is_err() {
        // It does not count in any case, and is removed when the log is opened next.
        let _ = std::fs::remove_file(temporary);
    }
    outcome
}

/// Renames a durable file over `path`, durably.
pub fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(temporary, path)?;
    match path.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// The files of a directory whose names end in `.extension`, unsorted.
pub fn list(dir: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

/// An I/O error as the log reports it: what was tried, on which path.
pub fn unavailable(what: &str, path: &Path, error: &io::Error) -> LogError {
    LogError::Unavailable(format!("{what} {}: {error}", path.display()))
}
