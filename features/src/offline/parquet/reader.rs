//! Reads the rows of one file that pass a test, touching as few pages as the statistics allow.

use std::{fs::File, io, ops::Range, sync::Arc};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::Millis;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions,
            ParquetRecordBatchReaderBuilder, RowFilter, RowSelection,
        },
    },
    errors::ParquetError,
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData},
        page_index::column_index::ColumnIndexMetaData,
        statistics::Statistics,
    },
};

use super::{
    HistoryError,
    disk::Disk,
    manifest::{DataFile, bad_file},
};
use crate::offline::{BatchStream, filter::RowTest, schema::adapt};

/// Rows decoded at a time.
const BATCH: usize = 8_192;
/// With more entities than this the bloom filters are not asked; reading them would cost more than they save.
const BLOOM_LIMIT: usize = 64;

type Builder = ParquetRecordBatchReaderBuilder<File>;

/// Why a file could not be opened.
pub(super) enum OpenError {
    /// The file is not there; the reader may hold an outdated manifest.
    Gone,
    Other(HistoryError),
}

/// Opens a file and returns its passing rows with the columns of `target`, in stored order; `None` if the
/// statistics rule out every row. The file stays readable even if it is removed meanwhile.
pub(super) fn open_file(
    disk: &Disk,
    file: &DataFile,
    test: &Arc<RowTest>,
    target: &SchemaRef,
) -> Result<Option<BatchStream>, OpenError> {
    let entities = (file.min_entity.as_bytes(), file.max_entity.as_bytes());
    if !test.may_pass(Some(entities), Some((file.min_time, file.max_time))) {
        return Ok(None);
    }
    let path = disk.data().join(&file.name);
    let handle = match File::open(&path) {
        Ok(handle) => handle,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(OpenError::Gone),
        Err(e) => return Err(OpenError::Other(disk.failed("open a file", &e))),
    };
    let unreadable = move |e: &dyn std::fmt::Display| bad_file(&path, &format!("cannot be read: {e}"));
    let reader = prepare(handle, file, test, target).map_err(|e| OpenError::Other(unreadable(&e)))?;
    let Some(reader) = reader else { return Ok(None) };
    let target = target.clone();
    let batches = reader.map(move |batch| batch.and_then(|b| adapt(&b, &target)).map_err(|e| unreadable(&e)));
    Ok(Some(Box::new(batches.filter(|b| b.as_ref().map_or(true, |b| b.num_rows() > 0)))))
}

fn prepare(
    handle: File,
    file: &DataFile,
    test: &Arc<RowTest>,
    target: &SchemaRef,
) -> Result<
    Option<impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>> + Send + use<>>,
    ParquetError,
> {
    let footer = match file.footer.get() {
        Some(footer) => footer.clone(),
        None => {
            let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
            let footer = ArrowReaderMetadata::load(&handle, options)?;
            file.footer.get_or_init(|| footer).clone()
        }
    };
    let mut builder = Builder::new_with_metadata(handle, footer).with_batch_size(BATCH);
    let groups = row_groups(&builder, test)?;
    if groups.is_empty() {
        return Ok(None);
    }
    if let Some(selection) = pages(builder.metadata(), &groups, test) {
        builder = builder.with_row_selection(selection);
    }
    let schema = builder.parquet_schema();
    let names = target.fields().iter().map(|f| f.name().as_str());
    let projection = ProjectionMask::roots(schema, names.filter_map(|n| root(&builder, n)));
    let mut predicates: Vec<Box<dyn ArrowPredicate>> = Vec::new();
    let mask = |columns: Vec<&str>| {
        ProjectionMask::roots(schema, columns.into_iter().filter_map(|n| root(&builder, n)))
    };
    if !test.entity_columns().is_empty() {
        let (test, columns) = (test.clone(), mask(test.entity_columns()));
        predicates.push(Box::new(ArrowPredicateFn::new(columns, move |b| test.entity_mask(&b))));
    }
    if !test.other_columns().is_empty() {
        let (test, columns) = (test.clone(), mask(test.other_columns()));
        predicates.push(Box::new(ArrowPredicateFn::new(columns, move |b| test.other_mask(&b))));
    }
    if !predicates.is_empty() {
        builder = builder.with_row_filter(RowFilter::new(predicates));
    }
    Ok(Some(builder.with_row_groups(groups).with_projection(projection).build()?))
}

/// Place of a column among the file's top-level columns.
fn root(builder: &Builder, name: &str) -> Option<usize> {
    builder.schema().index_of(name).ok()
}

/// Place of an undivided column among the file's leaf columns.
fn leaf(group: &RowGroupMetaData, name: &str) -> Option<usize> {
    group.columns().iter().position(|c| c.column_path().parts() == [name])
}

/// The row groups that may hold passing rows.
fn row_groups(builder: &Builder, test: &RowTest) -> Result<Vec<usize>, ParquetError> {
    let mut kept = Vec::new();
    for (i, group) in builder.metadata().row_groups().iter().enumerate() {
        let statistics = |name: &str| group.column(leaf(group, name)?).statistics();
        let entities = match statistics(&test.layout.entity) {
            Some(Statistics::ByteArray(s)) => s.min_bytes_opt().zip(s.max_bytes_opt()),
            _ => None,
        };
        let times = match statistics(&test.layout.time) {
            Some(Statistics::Int64(s)) => s.min_opt().copied().zip(s.max_opt().copied()),
            _ => None,
        };
        if test.may_pass(entities, times) && bloom_may_hold(builder, i, group, test)? {
            kept.push(i);
        }
    }
    Ok(kept)
}

fn bloom_may_hold(
    builder: &Builder,
    i: usize,
    group: &RowGroupMetaData,
    test: &RowTest,
) -> Result<bool, ParquetError> {
    let (Some(entities), Some(column)) = (&test.entities, leaf(group, &test.layout.entity)) else {
        return Ok(true);
    };
    if entities.len() > BLOOM_LIMIT {
        return Ok(true);
    }
    let bloom = builder.get_row_group_column_bloom_filter(i, column)?;
    Ok(bloom.is_none_or(|bloom| entities.iter().any(|e| bloom.check(e.as_str()))))
}

/// The rows of the given row groups whose pages may hold passing rows; `None` if there is nothing to tell
/// by.
fn pages(metadata: &ParquetMetaData, groups: &[usize], test: &RowTest) -> Option<RowSelection> {
    let of_entities = test.entities.is_some() || test.from_entity.is_some();
    if !of_entities && test.after.is_none() && test.until.is_none() {
        return None;
    }
    let total: usize = groups.iter().map(|g| metadata.row_group(*g).num_rows() as usize).sum();
    let select = |name: &str, fits: &dyn Fn(&ColumnIndexMetaData, usize) -> bool| {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut base = 0;
        for g in groups {
            let group = metadata.row_group(*g);
            let rows = group.num_rows() as usize;
            let column = leaf(group, name)?;
            let index = metadata.column_index()?.get(*g)?.get(column)?;
            let places = metadata.offset_index()?.get(*g)?.get(column)?.page_locations();
            for (page, place) in places.iter().enumerate() {
                let end = places.get(page + 1).map_or(rows, |next| next.first_row_index as usize);
                if fits(index, page) {
                    ranges.push(base + place.first_row_index as usize..base + end);
                }
            }
            base += rows;
        }
        Some(RowSelection::from_consecutive_ranges(ranges.into_iter(), total))
    };
    let entities = select(&test.layout.entity, &|index, page| match index {
        ColumnIndexMetaData::BYTE_ARRAY(i) => test.may_pass(i.min_value(page).zip(i.max_value(page)), None),
        _ => true,
    })?;
    let times = select(&test.layout.time, &|index, page| match index {
        ColumnIndexMetaData::INT64(i) => {
            let bounds: Option<(Millis, Millis)> = i.min_value(page).copied().zip(i.max_value(page).copied());
            bounds.is_none_or(|(min, max)| test.time_may_pass(min, max))
        }
        _ => true,
    })?;
    Some(entities.intersection(&times))
}
