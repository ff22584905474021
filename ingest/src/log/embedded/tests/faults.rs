//! Syncs that fail on command.

use std::{collections::HashSet, fs::File, io, os::unix::fs::MetadataExt, path::Path, sync::LazyLock};

use parking_lot::Mutex;

static FAILING: LazyLock<Mutex<HashSet<(u64, u64)>>> = LazyLock::new(Mutex::default);

fn id(meta: &std::fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// What the writer calls instead of `sync_data`.
pub fn sync(file: &File) -> io::Result<()> {
    if FAILING.lock().contains(&id(&file.metadata()?)) {
        return Err(io::Error::other("injected fault"));
    }
    file.sync_data()
}

/// Makes the syncs of a file fail, or succeed again.
pub fn fail_syncs(path: &Path, fail: bool) {
    let id = id(&std::fs::metadata(path).unwrap());
    if fail {
        FAILING.lock().insert(id);
    } else {
        FAILING.lock().remove(&id);
    }
}
