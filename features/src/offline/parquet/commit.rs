//! Flush, and the replacement of the manifest by which any change becomes true.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::log::Position;
use parking_lot::MutexGuard;

use super::{
    HistoryError, ParquetHistory, State,
    disk::Disk,
    manifest::{DataFile, Manifest, Replacing, Table},
    mismatch,
    writer::write_file,
};
use crate::offline::{layout::Layout, merge::sorted, metrics};

/// Replaces the manifest, whatever stage an error belongs to.
pub(super) fn replace_manifest(manifest: &Manifest, disk: &Disk) -> Result<(), HistoryError> {
    manifest.replace(disk).map_err(|e| match e {
        Replacing::Before(e) | Replacing::Unknown(e) => e,
    })
}

impl ParquetHistory {
    pub(super) fn persist_sealed(&self) -> Result<Position, HistoryError> {
        let writing = self.writing.lock();
        let (sealed, schemas) = {
            let state = self.state.lock();
            let sealed = state.buffer.sealed().to_vec();
            let schemas: Vec<(String, SchemaRef)> = state
                .buffer
                .tables()
                .filter_map(|t| Some((t.clone(), state.buffer.schema(t)?.clone())))
                .collect();
            (sealed, schemas)
        };
        let Some(last) = sealed.last() else { return Ok(self.state.lock().manifest.position.clone()) };
        let started = Instant::now();
        let mut tables: BTreeMap<&str, Vec<RecordBatch>> = BTreeMap::new();
        for part in &sealed {
            for (table, rows) in part.tables.as_ref() {
                tables.entry(table).or_default().extend(rows.batches.iter().cloned());
            }
        }
        let mut written: Vec<(String, SchemaRef, DataFile)> = Vec::new();
        for (table, schema) in schemas {
            let Some(batches) = tables.remove(table.as_str()) else { continue };
            match self.write_rows(&table, &schema, &batches) {
                Ok(file) => written.extend(file.map(|f| (table, schema, f))),
                Err(e) => {
                    self.remove_all(written.iter().map(|(_, _, f)| f));
                    return Err(e);
                }
            }
        }
        let created: Vec<DataFile> = written.iter().map(|(_, _, f)| f.clone()).collect();
        let position = last.position.clone();
        let edit = |manifest: &mut Manifest| {
            manifest.position = position.clone();
            for (table, schema, file) in written {
                let entry = manifest.tables.entry(table);
                let table = entry.or_insert_with(|| Table {
                    schema: schema.clone(),
                    kept_after: None,
                    files: Vec::new(),
                });
                table.schema = schema;
                table.files.push(file);
            }
        };
        self.commit(&writing, &created, edit, |state| state.buffer.forget_sealed(sealed.len()))?;
        metrics::flushed(created.iter().map(|f| f.rows).sum(), started.elapsed());
        Ok(position)
    }

    fn write_rows(
        &self,
        table: &str,
        schema: &SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<Option<DataFile>, HistoryError> {
        let layout = Layout::of(table, schema)?;
        let rows = sorted(batches, schema, &layout).map_err(|e| mismatch(table, &e))?;
        write_file(&self.disk, self.new_name(table), schema, &layout, std::iter::once(Ok(rows)))
    }

    /// Makes an edit of the manifest true, and in the same moment visible together with `then`. After an
    /// error nothing has changed, and the files created for it are gone again.
    pub(super) fn commit(
        &self,
        _writing: &MutexGuard<'_, ()>,
        created: &[DataFile],
        edit: impl FnOnce(&mut Manifest),
        then: impl FnOnce(&mut State),
    ) -> Result<(), HistoryError> {
        let mut manifest = Manifest::clone(&self.state.lock().manifest);
        manifest.next_file = self.next_file.load(std::sync::atomic::Ordering::Relaxed);
        edit(&mut manifest);
        let replaced = match self.disk.sync_dir(&self.disk.data()) {
            Ok(()) => manifest.replace(&self.disk),
            Err(e) => Err(Replacing::Before(e)),
        };
        match replaced {
            Ok(()) => {}
            Err(Replacing::Before(e)) => {
                self.remove_all(created);
                return Err(e);
            }
            // The new manifest may come to life after a crash, so its files must stay.
            Err(Replacing::Unknown(e)) => return Err(e),
        }
        let mut state = self.state.lock();
        state.manifest = Arc::new(manifest);
        then(&mut state);
        Ok(())
    }

    /// Best effort: what stays is removed when the store opens.
    pub(super) fn remove_all<'a>(&self, files: impl IntoIterator<Item = &'a DataFile>) {
        for file in files {
            let _ = self.disk.remove(&self.disk.data().join(&file.name));
        }
    }
}
