//! The state file with somebody watching each change to it, so that a test can try a crash at every one.

use std::{fmt, fs::File, io, sync::Arc};

use redb::{StorageBackend, backends::FileBackend};

/// A change to the state file.
#[derive(Debug, Clone, Copy)]
pub enum StateOp<'a> {
    /// These bytes are about to be written at this place.
    Write(u64, &'a [u8]),
    /// The file is about to get this length.
    SetLen(u64),
    /// What was written is about to be made durable.
    Sync,
}

/// Called before each change to the state file.
#[derive(Clone)]
pub struct StateHook(pub Arc<dyn Fn(&StateOp<'_>) + Send + Sync>);

impl fmt::Debug for StateHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateHook")
    }
}

#[derive(Debug)]
pub(super) struct Watched {
    file: FileBackend,
    hook: StateHook,
}

impl Watched {
    pub fn new(file: File, hook: StateHook) -> Result<Self, redb::Error> {
        Ok(Watched { file: FileBackend::new(file)?, hook })
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        (self.hook.0)(&StateOp::SetLen(len));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.hook.0)(&StateOp::Sync);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        (self.hook.0)(&StateOp::Write(offset, data));
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
