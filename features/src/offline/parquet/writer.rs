//! Writes sorted rows as one Parquet file.

use std::{
    io::{self, BufWriter, Write},
    sync::{Arc, OnceLock},
};

use arrow::{
    array::{Array, AsArray},
    datatypes::{SchemaRef, TimestampMillisecondType},
    record_batch::RecordBatch,
};
use ingest::Millis;
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use xxhash_rust::xxh3::Xxh3;

use super::{
    HistoryError,
    disk::{Disk, NewFile},
    manifest::DataFile,
};
use crate::offline::{layout::Layout, schema::adapt};

/// Rows of a row group; also what a writer holds in memory.
const ROW_GROUP: usize = 65_536;
/// Rows of a page: what a read of one entity decodes at least.
const PAGE: usize = 4_096;

/// Writes rows that come ordered by [`Layout::order`]; `None` if there are none.
pub(super) fn write_file(
    disk: &Disk,
    name: String,
    schema: &SchemaRef,
    layout: &Layout,
    rows: impl Iterator<Item = Result<RecordBatch, HistoryError>>,
) -> Result<Option<DataFile>, HistoryError> {
    let mut rows = rows.filter(|b| b.as_ref().map_or(true, |b| b.num_rows() > 0)).peekable();
    if rows.peek().is_none() {
        return Ok(None);
    }
    let failed = |e: parquet::errors::ParquetError| match e {
        parquet::errors::ParquetError::External(e) => match e.downcast::<io::Error>() {
            Ok(e) => disk.failed("write a file", &e),
            Err(e) => disk.failed("write a file", &io::Error::other(e)),
        },
        e => disk.failed("write a file", &io::Error::other(e)),
    };
    let file = disk.create(disk.data().join(&name))?;
    let sink = Checksummed { file: BufWriter::with_capacity(1 << 18, file), hash: Box::new(Xxh3::new()) };
    let mut writer = ArrowWriter::try_new(sink, schema.clone(), Some(properties(layout))).map_err(failed)?;
    let mut bounds = Bounds::default();
    for batch in rows {
        let batch = adapt(&batch?, schema).map_err(|e| failed(e.into()))?;
        bounds.widen(&batch, layout);
        writer.write(&batch).map_err(failed)?;
    }
    let sink = writer.into_inner().map_err(failed)?;
    let checksum = sink.hash.digest();
    let file = sink.file.into_inner().map_err(|e| disk.failed("write a file", e.error()))?;
    let bytes = file.finish()?;
    Ok(Some(DataFile {
        name,
        rows: bounds.rows,
        bytes,
        checksum,
        min_entity: bounds.min_entity,
        max_entity: bounds.max_entity,
        min_time: bounds.min_time,
        max_time: bounds.max_time,
        footer: Arc::new(OnceLock::new()),
    }))
}

fn properties(layout: &Layout) -> WriterProperties {
    let entity = ColumnPath::from(layout.entity.as_str());
    let time = ColumnPath::from(layout.time.as_str());
    WriterProperties::builder()
        .set_created_by("kairos".into())
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_data_page_row_count_limit(PAGE)
        .set_write_batch_size(PAGE / 4)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(entity.clone(), EnabledStatistics::Page)
        .set_column_statistics_enabled(time, EnabledStatistics::Page)
        .set_column_bloom_filter_enabled(entity.clone(), true)
        .set_column_bloom_filter_fpp(entity.clone(), 0.01)
        .set_column_bloom_filter_max_ndv(entity, ROW_GROUP as u64)
        .build()
}

struct Bounds {
    rows: u64,
    min_entity: String,
    max_entity: String,
    min_time: Millis,
    max_time: Millis,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            rows: 0,
            min_entity: String::new(),
            max_entity: String::new(),
            min_time: Millis::MAX,
            max_time: Millis::MIN,
        }
    }
}

impl Bounds {
    fn widen(&mut self, batch: &RecordBatch, layout: &Layout) {
        let column = |name: &str| batch.column_by_name(name);
        let (Some(entities), Some(times)) = (column(&layout.entity), column(&layout.time)) else { return };
        let entities = entities.as_string::<i32>();
        if self.rows == 0 {
            self.min_entity = entities.value(0).to_owned();
        }
        self.max_entity = entities.value(entities.len() - 1).to_owned();
        for t in times.as_primitive::<TimestampMillisecondType>().values() {
            self.min_time = self.min_time.min(*t);
            self.max_time = self.max_time.max(*t);
        }
        self.rows += batch.num_rows() as u64;
    }
}

struct Checksummed {
    file: BufWriter<NewFile>,
    hash: Box<Xxh3>,
}

impl Write for Checksummed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
