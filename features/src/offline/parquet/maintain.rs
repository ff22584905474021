//! Compaction, erasure and retention: files are rewritten, and the manifest then names the new ones.

use std::{fs::File, io, sync::Arc};

use ingest::Millis;
use xxhash_rust::xxh3::Xxh3;

use super::{
    HistoryError, ParquetHistory,
    manifest::{DataFile, Manifest, Replaced, Table, bad_file},
    reader::{OpenError, open_file},
    writer::write_file,
};
use crate::offline::{ScanFilter, filter::RowTest, layout::Layout, merge::merge, newest::newest};

/// So many files of like size are merged into one.
const FAN_IN: usize = 4;
/// A merge takes at most so many files.
const MOST: usize = 16;
/// Files up to this size are all of the smallest size.
const SMALLEST: u64 = 64 << 10;
/// A merge reads at most so much: what bounds a step.
const LARGEST: u64 = 256 << 20;
/// A file is rewritten once this share of its span of time has expired.
const EXPIRED_SHARE: f64 = 0.25;

impl ParquetHistory {
    /// Merges the files of one table if some table has enough of like size.
    pub(super) fn compact_one(&self) -> Result<bool, HistoryError> {
        let _maintaining = self.maintaining.lock();
        self.sweep()?;
        let manifest = self.state.lock().manifest.clone();
        let Some((name, inputs)) = manifest.tables.iter().find_map(|(n, t)| Some((n, candidates(t)?))) else {
            return Ok(false);
        };
        let table = &manifest.tables[name];
        let created = self.rewrite(name, table, &inputs, None)?;
        let writing = self.writing.lock();
        let at = (self.clock)();
        let edit = |m: &mut Manifest| swap(m, name, &inputs, created.as_ref(), at);
        self.commit(&writing, created.as_slice(), edit, |_| ())?;
        Ok(true)
    }

    pub(super) fn erase_entity(&self, entity: &str) -> Result<u64, HistoryError> {
        let _maintaining = self.maintaining.lock();
        // First the buffer: a flush from here on writes nothing of this entity.
        let (mut erased, manifest) = {
            let _writing = self.writing.lock();
            let mut state = self.state.lock();
            (state.buffer.erase(entity)?, state.manifest.clone())
        };
        let mut swaps: Vec<(&String, Vec<DataFile>, Option<DataFile>)> = Vec::new();
        for (name, table) in &manifest.tables {
            for file in &table.files {
                match self.without(name, table, file, entity) {
                    Ok((0, _)) => {}
                    Ok((rows, created)) => {
                        erased += rows;
                        swaps.push((name, vec![file.clone()], created));
                    }
                    Err(e) => {
                        self.remove_all(swaps.iter().filter_map(|(_, _, c)| c.as_ref()));
                        return Err(e);
                    }
                }
            }
        }
        let writing = self.writing.lock();
        let created: Vec<DataFile> = swaps.iter().filter_map(|(_, _, c)| c.clone()).collect();
        let at = (self.clock)();
        if !swaps.is_empty() {
            let edit = |m: &mut Manifest| {
                for (name, inputs, created) in &swaps {
                    swap(m, name, inputs, created.as_ref(), at);
                }
            };
            self.commit(&writing, &created, edit, |_| ())?;
        }
        // Nothing may linger: files replaced earlier hold the same rows.
        self.remove_replaced(|_| true)?;
        Ok(erased)
    }

    /// Hides rows at or before `cutoff` and rewrites or drops the files that hold mostly such rows.
    pub(super) fn keep_after(&self, name: &str, cutoff: Millis) -> Result<u64, HistoryError> {
        let _maintaining = self.maintaining.lock();
        self.sweep()?;
        let Some(table) = self.table(name) else { return Ok(0) };
        let cutoff = table.kept_after.map_or(cutoff, |old| old.max(cutoff));
        let kept = Table { kept_after: Some(cutoff), ..table.clone() };
        let old: Vec<DataFile> = kept.files.iter().filter(|f| worth_rewriting(f, cutoff)).cloned().collect();
        let mut created = Vec::new();
        for file in &old {
            match self.rewrite(name, &kept, std::slice::from_ref(file), None) {
                Ok(file) => created.extend(file),
                Err(e) => {
                    self.remove_all(&created);
                    return Err(e);
                }
            }
        }
        let writing = self.writing.lock();
        let at = (self.clock)();
        let edit = |m: &mut Manifest| {
            let table = m.tables.entry(name.to_owned());
            table.or_insert_with(|| Table { files: Vec::new(), ..kept.clone() }).kept_after = Some(cutoff);
            swap(m, name, &old, &created, at);
        };
        self.commit(&writing, &created, edit, |_| ())?;
        let sum = |files: &[DataFile]| files.iter().map(|f| f.bytes).sum::<u64>();
        Ok(sum(&old).saturating_sub(sum(&created)))
    }

    /// A table as the files have it, or as the buffer knows it.
    fn table(&self, name: &str) -> Option<Table> {
        let state = self.state.lock();
        let stored = state.manifest.tables.get(name).cloned();
        let buffered = || {
            Some(Table { schema: state.buffer.schema(name)?.clone(), kept_after: None, files: Vec::new() })
        };
        stored.or_else(buffered)
    }

    /// Merges files into one new one that lacks expired rows and those of `without`.
    fn rewrite(
        &self,
        name: &str,
        table: &Table,
        inputs: &[DataFile],
        without: Option<&str>,
    ) -> Result<Option<DataFile>, HistoryError> {
        let layout = Layout::of(name, &table.schema)?;
        let test = Arc::new(RowTest::all_but(without, layout.clone(), table.kept_after));
        let mut streams = Vec::new();
        for file in inputs {
            self.verify_file(file)?;
            streams.extend(self.open_live(file, &test, table)?);
        }
        let rows = newest(merge(streams, &table.schema, &layout)?, &layout);
        write_file(&self.disk, self.new_name(name), &table.schema, &layout, rows)
    }

    /// How many rows of an entity a file has, and, if any, the file without them.
    fn without(
        &self,
        name: &str,
        table: &Table,
        file: &DataFile,
        entity: &str,
    ) -> Result<(u64, Option<DataFile>), HistoryError> {
        let filter = ScanFilter { subjects: Some(vec![entity.to_owned()]), ..ScanFilter::default() };
        let test = Arc::new(RowTest::new(&filter, Layout::of(name, &table.schema)?, None));
        let mut rows = 0;
        for batch in self.open_live(file, &test, table)?.into_iter().flatten() {
            rows += batch?.num_rows() as u64;
        }
        if rows == 0 {
            return Ok((0, None));
        }
        Ok((rows, self.rewrite(name, table, std::slice::from_ref(file), Some(entity))?))
    }

    fn open_live(
        &self,
        file: &DataFile,
        test: &Arc<RowTest>,
        table: &Table,
    ) -> Result<Option<crate::offline::BatchStream>, HistoryError> {
        open_file(&self.disk, file, test, &table.schema).map_err(|e| match e {
            OpenError::Gone => bad_file(&self.disk.data().join(&file.name), "is missing"),
            OpenError::Other(e) => e,
        })
    }

    /// Reads every file and compares it with its checksum; returns how many there are.
    pub fn verify(&self) -> Result<usize, HistoryError> {
        self.refresh()?;
        let manifest = self.state.lock().manifest.clone();
        let mut files = manifest.tables.values().flat_map(|t| &t.files);
        files.try_fold(0, |n, file| self.verify_file(file).map(|()| n + 1))
    }

    fn verify_file(&self, file: &DataFile) -> Result<(), HistoryError> {
        let path = self.disk.data().join(&file.name);
        let mut hash = Hasher(Box::new(Xxh3::new()));
        File::open(&path)
            .and_then(|mut f| io::copy(&mut f, &mut hash))
            .map_err(|e| bad_file(&path, &format!("cannot be read: {e}")))?;
        if hash.0.digest() == file.checksum {
            return Ok(());
        }
        Err(bad_file(&path, "is damaged: its checksum does not match"))
    }

    /// Removes replaced files that no reader can still need.
    fn sweep(&self) -> Result<(), HistoryError> {
        let grace = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        let now = (self.clock)();
        let _writing = self.writing.lock();
        self.remove_replaced(|r| r.at.saturating_add(grace) <= now)
    }

    /// Removes replaced files; the caller holds `writing`. The manifest on disk forgets them next time.
    pub(super) fn remove_replaced(&self, which: impl Fn(&Replaced) -> bool) -> Result<(), HistoryError> {
        let manifest = self.state.lock().manifest.clone();
        if !manifest.replaced.iter().any(&which) {
            return Ok(());
        }
        for replaced in manifest.replaced.iter().filter(|r| which(r)) {
            self.disk.remove(&self.disk.data().join(&replaced.name))?;
        }
        self.disk.sync_dir(&self.disk.data())?;
        let mut rest = Manifest::clone(&manifest);
        rest.replaced.retain(|r| !which(r));
        self.state.lock().manifest = Arc::new(rest);
        Ok(())
    }
}

struct Hasher(Box<Xxh3>);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes files out of a table and puts others in; the old ones stay on disk for a while.
fn swap<'a>(
    manifest: &mut Manifest,
    table: &str,
    old: &[DataFile],
    new: impl IntoIterator<Item = &'a DataFile>,
    at: Millis,
) {
    if let Some(table) = manifest.tables.get_mut(table) {
        table.files.retain(|f| old.iter().all(|o| o.name != f.name));
        table.files.extend(new.into_iter().cloned());
    }
    manifest.replaced.extend(old.iter().map(|f| Replaced { name: f.name.clone(), at }));
}

/// The smallest files of a table that are of like size and enough in number.
fn candidates(table: &Table) -> Option<Vec<DataFile>> {
    let size = |f: &DataFile| (f.bytes / SMALLEST).max(1).ilog(FAN_IN as u64);
    let mut files: Vec<&DataFile> = table.files.iter().collect();
    files.sort_by_key(|f| f.bytes);
    files.chunk_by(|a, b| size(a) == size(b)).find_map(|alike| {
        let mut total = 0;
        let fits = |f: &&&DataFile| {
            total += f.bytes;
            total <= LARGEST
        };
        let chosen: Vec<DataFile> = alike.iter().take(MOST).take_while(fits).map(|f| (*f).clone()).collect();
        (chosen.len() >= FAN_IN).then_some(chosen)
    })
}

/// Whether enough of a file lies at or before `cutoff`.
fn worth_rewriting(file: &DataFile, cutoff: Millis) -> bool {
    if file.min_time > cutoff {
        return false;
    }
    let expired = cutoff.saturating_sub(file.min_time) as f64;
    let span = file.max_time.saturating_sub(file.min_time) as f64;
    file.max_time <= cutoff || expired >= span * EXPIRED_SHARE
}
