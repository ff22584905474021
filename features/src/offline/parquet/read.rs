//! Reads of whole tables: files and buffered rows together.

use std::sync::Arc;

use arrow::{
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};

use super::{
    HistoryError, ParquetHistory,
    manifest::Manifest,
    mismatch,
    reader::{OpenError, open_file},
    stamp,
};
use crate::offline::{
    BatchStream, ScanFilter, TableFiles,
    filter::RowTest,
    layout::Layout,
    merge,
    newest::newest,
    schema::{adapt, projected},
};

/// What a read sees of one table.
pub(super) struct View {
    manifest: Arc<Manifest>,
    pub schema: SchemaRef,
    pub buffered: Vec<RecordBatch>,
}

impl ParquetHistory {
    /// Takes note of what another process wrote meanwhile.
    pub(super) fn refresh(&self) -> Result<(), HistoryError> {
        if !self.read_only {
            return Ok(());
        }
        let now = stamp(self.disk.root());
        if now.is_some() && now == self.state.lock().stamp {
            return Ok(());
        }
        if let Some(manifest) = Manifest::read(self.disk.root())? {
            let mut state = self.state.lock();
            state.manifest = Arc::new(manifest);
            state.stamp = now;
        }
        Ok(())
    }

    pub(super) fn view(&self, table: &str) -> Result<Option<View>, HistoryError> {
        self.refresh()?;
        let state = self.state.lock();
        let stored = state.manifest.tables.get(table).map(|t| &t.schema);
        let Some(schema) = state.buffer.schema(table).or(stored) else { return Ok(None) };
        Ok(Some(View {
            manifest: state.manifest.clone(),
            schema: schema.clone(),
            buffered: state.buffer.batches(table),
        }))
    }

    /// The files of a table, and its rows that are in none.
    pub(super) fn table_files(&self, table: &str) -> Result<TableFiles, HistoryError> {
        let Some(view) = self.view(table)? else { return Ok(TableFiles::default()) };
        let data =
            std::path::absolute(self.disk.data()).map_err(|e| self.disk.failed("find its files", &e))?;
        let stored = view.manifest.tables.get(table);
        Ok(TableFiles {
            paths: stored.iter().flat_map(|t| &t.files).map(|f| data.join(&f.name)).collect(),
            buffered: view.buffered,
            kept_after: stored.and_then(|t| t.kept_after),
        })
    }

    /// Runs a read on a view of the table, again if files were replaced under it.
    fn read<T: Default>(
        &self,
        table: &str,
        read: impl Fn(View) -> Result<T, OpenError>,
    ) -> Result<T, HistoryError> {
        let mut attempts = 0;
        loop {
            let Some(view) = self.view(table)? else { return Ok(T::default()) };
            let seen = view.manifest.clone();
            match read(view) {
                Ok(done) => return Ok(done),
                Err(OpenError::Other(e)) => return Err(e),
                Err(OpenError::Gone) => attempts += 1,
            }
            self.refresh()?;
            let unchanged = Arc::ptr_eq(&seen, &self.state.lock().manifest);
            if unchanged || attempts >= 10 {
                seen.check_files(&self.disk)?;
                return Err(HistoryError::Unavailable(format!(
                    "the files of table `{table}` keep changing while they are read; try again"
                )));
            }
        }
    }

    /// The passing rows of each file, then of the buffer, with the columns of `target`.
    fn parts(
        &self,
        table: &str,
        view: &View,
        filter: &ScanFilter,
        target: &SchemaRef,
    ) -> Result<(Vec<BatchStream>, Vec<RecordBatch>), OpenError> {
        let layout = Layout::of(table, &view.schema).map_err(OpenError::Other)?;
        let stored = view.manifest.tables.get(table);
        let test = Arc::new(RowTest::new(filter, layout, stored.and_then(|t| t.kept_after)));
        let mut files = Vec::new();
        for file in stored.map_or(&[][..], |t| &t.files) {
            files.extend(open_file(&self.disk, file, &test, target)?);
        }
        let buffered =
            view.buffered.iter().map(|b| test.apply(&adapt(b, &view.schema)?)).collect::<Result<_, _>>();
        Ok((files, buffered.map_err(|e| OpenError::Other(mismatch(table, &e)))?))
    }

    pub(super) fn scan_rows(
        &self,
        table: &str,
        filter: &ScanFilter,
    ) -> Result<Vec<RecordBatch>, HistoryError> {
        if self.view(table)?.is_some_and(|v| Layout::of(table, &v.schema).is_ok_and(|l| l.replaces)) {
            // Which row of an instant is the newest shows only in order.
            return self.stream_rows(table, filter)?.collect();
        }
        self.read(table, |view| {
            let target = projected(table, &view.schema, filter).map_err(OpenError::Other)?;
            let (files, buffered) = self.parts(table, &view, filter, &target)?;
            let stored = files.into_iter().flatten();
            let fresh = buffered.iter().filter(|b| b.num_rows() > 0);
            let fresh = fresh.map(|b| adapt(b, &target).map_err(|e| mismatch(table, &e)));
            stored.chain(fresh).collect::<Result<_, _>>().map_err(OpenError::Other)
        })
    }

    pub(super) fn stream_rows(&self, table: &str, filter: &ScanFilter) -> Result<BatchStream, HistoryError> {
        let stream = self.read(table, |view| {
            let target = projected(table, &view.schema, filter).map_err(OpenError::Other)?;
            let layout = Layout::of(table, &view.schema).map_err(OpenError::Other)?;
            let mut fields = target.fields().to_vec();
            for name in layout.order.iter().filter(|n| target.index_of(n).is_err()) {
                fields.extend(view.schema.fields().iter().find(|f| f.name() == name).cloned());
            }
            let wide = Arc::new(Schema::new(fields));
            let (mut inputs, buffered) = self.parts(table, &view, filter, &wide)?;
            let fresh = merge::sorted(&buffered, &wide, &layout);
            let fresh = fresh.map_err(|e| OpenError::Other(mismatch(table, &e)))?;
            inputs.push(Box::new(
                std::iter::once(Ok(fresh)).filter(|b| !matches!(b, Ok(b) if b.num_rows() == 0)),
            ));
            let table = table.to_owned();
            let merged = merge::merge(inputs, &wide, &layout).map_err(OpenError::Other)?;
            let merged = newest(merged, &layout);
            let narrow = merged.map(move |b| adapt(&b?, &target).map_err(|e| mismatch(&table, &e)));
            Ok(Some(Box::new(narrow) as BatchStream))
        })?;
        Ok(stream.unwrap_or_else(|| Box::new(std::iter::empty())))
    }
}
