//! Every change to the files of the store goes through here, so that a test can watch or fail each one.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::HistoryError;

/// Suffix of files that are still being written; they are removed when the store opens.
const UNFINISHED: &str = ".tmp";

/// A change to a file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOp {
    /// A new file is about to be created.
    Create,
    /// Bytes are about to be written.
    Write,
    /// A file is about to be made durable.
    Sync,
    /// A finished file is about to get its final name.
    Rename,
    /// The names in a directory are about to be made durable.
    SyncDir,
    /// A file is about to be removed.
    Remove,
}

/// Called before each change to a file; an error stands for the failure of that change.
pub type FileHook = Arc<dyn Fn(FileOp, &Path) -> io::Result<()> + Send + Sync>;

/// The directory of the store.
#[derive(Clone)]
pub(super) struct Disk {
    root: PathBuf,
    hook: Option<FileHook>,
}

impl Disk {
    pub fn new(root: &Path, hook: Option<FileHook>) -> Self {
        Disk { root: root.to_owned(), hook }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the tables' files are.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn before(&self, op: FileOp, path: &Path) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(op, path))
    }

    /// Starts a file that gets its name only when finished.
    pub fn create(&self, path: PathBuf) -> Result<NewFile, HistoryError> {
        let mut name = path.clone().into_os_string();
        name.push(UNFINISHED);
        let unfinished = PathBuf::from(name);
        self.before(FileOp::Create, &unfinished)
            .and_then(|()| File::create(&unfinished))
            .map(|file| NewFile { disk: self.clone(), file: Some(file), unfinished, path, written: 0 })
            .map_err(|e| self.failed("create a file", &e))
    }

    /// Makes renames and removals in a directory durable.
    pub fn sync_dir(&self, dir: &Path) -> Result<(), HistoryError> {
        self.before(FileOp::SyncDir, dir)
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|e| self.failed("make files durable", &e))
    }

    /// Removes a file; one that is gone already is fine.
    pub fn remove(&self, path: &Path) -> Result<(), HistoryError> {
        match self.before(FileOp::Remove, path).and_then(|()| fs::remove_file(path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed("remove a file", &e)),
            _ => Ok(()),
        }
    }

    /// Removes files that no manifest names; `known` says which it does.
    pub fn remove_strangers(&self, known: impl Fn(&str) -> bool) -> Result<(), HistoryError> {
        for path in self.list(&self.data())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(UNFINISHED) || (name.ends_with(".parquet") && !known(&name)) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Whether no table has a file.
    pub fn is_empty(&self) -> Result<bool, HistoryError> {
        Ok(self.list(&self.data())?.is_empty())
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, HistoryError> {
        fs::read_dir(dir)
            .and_then(|entries| entries.map(|e| Ok(e?.path())).collect())
            .map_err(|e| self.failed("list its files", &e))
    }

    pub fn failed(&self, what: &str, error: &io::Error) -> HistoryError {
        let mend = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space; it goes on by itself and nothing is lost"
            }
            io::ErrorKind::PermissionDenied => "give this process the right to write there",
            _ => "see to the disk; what was durable before still is",
        };
        HistoryError::Unavailable(format!(
            "history in {} could not {what}: {error}; {mend}",
            self.root.display()
        ))
    }
}

/// A file under construction; removed again if dropped unfinished.
pub(super) struct NewFile {
    disk: Disk,
    file: Option<File>,
    unfinished: PathBuf,
    path: PathBuf,
    written: u64,
}

impl NewFile {
    /// Makes the contents durable and gives the file its name. The name is durable after `sync_dir`.
    pub fn finish(mut self) -> Result<u64, HistoryError> {
        let Some(file) = self.file.take() else { return Ok(self.written) };
        let done =
            self.disk.before(FileOp::Sync, &self.unfinished).and_then(|()| file.sync_all()).and_then(|()| {
                self.disk.before(FileOp::Rename, &self.unfinished)?;
                fs::rename(&self.unfinished, &self.path)
            });
        if let Err(e) = done {
            self.file = Some(file);
            return Err(self.disk.failed("finish a file", &e));
        }
        Ok(self.written)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.before(FileOp::Write, &self.unfinished)?;
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the file is finished"))?;
        let n = file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: what stays is removed when the store opens.
            let _ = self.disk.remove(&self.unfinished);
        }
    }
}
