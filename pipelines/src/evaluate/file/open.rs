//! Files opened and read, whatever their form.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{Array, AsArray},
    csv,
    datatypes::{DataType, Field, Schema},
    json,
};
use flate2::read::MultiGzDecoder;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::rows::{Group, Rows, Slot};
use crate::{PipelineError, evaluate::encode::Cell, table::Format};

const BUFFER: usize = 1 << 20;
const BATCH: usize = 8_192;
/// Rows between two words of progress.
const EVERY: u64 = 4_096;
/// Columns at the top that are read.
const KNOWN: [&str; 4] = ["action", "propensity", "reward", "position"];

/// How far reading is: bytes of how many, and rows so far.
pub(super) type Heard<'a> = &'a mut dyn FnMut(u64, u64, u64);

/// Reads a file into rows. `.gz` after the extension is unpacked on the way.
pub(super) fn read(file: &Path, rows: &mut Rows, heard: Heard<'_>) -> Result<(), PipelineError> {
    let packed = file.extension().is_some_and(|e| e == "gz");
    let bare = if packed { file.with_extension("") } else { file.to_owned() };
    let format = match Format::of(&bare) {
        Ok(Format::Parquet) if packed => {
            return Err(PipelineError::input(file, "Parquet packs its columns itself; unpack the .gz"));
        }
        Ok(format) => format,
        Err(_) => {
            let what = "its name must end in .csv, .ndjson, .jsonl (each also with .gz) or .parquet";
            return Err(PipelineError::input(file, what));
        }
    };
    let wrong = |what: String| PipelineError::input(file, what);
    let total = std::fs::metadata(file).map_err(PipelineError::file(file))?.len();
    match format {
        Format::Ndjson => {
            let (bytes, lines) = unpacked(file, packed)?;
            let lines = BufReader::with_capacity(BUFFER, lines);
            let mut each = |rows: &Rows| {
                if rows.read.is_multiple_of(EVERY) {
                    heard(bytes.load(Ordering::Relaxed), total, rows.read);
                }
            };
            super::json::read(lines, rows, &mut each).map_err(wrong)
        }
        Format::Csv => {
            // The line of names first, then the file anew: what is packed cannot be rewound.
            let form = csv::reader::Format::default().with_header(true);
            let (_, head) = unpacked(file, packed)?;
            let (names, _) = form.infer_schema(head, Some(0)).map_err(|e| wrong(e.to_string()))?;
            let text = |f: &Arc<Field>| Field::new(f.name(), DataType::Utf8, true);
            let schema = Arc::new(Schema::new(names.fields().iter().map(text).collect::<Vec<_>>()));
            let (bytes, lines) = unpacked(file, packed)?;
            let form = csv::ReaderBuilder::new(schema).with_format(form).with_batch_size(BATCH);
            let mut heard = |rows: u64| heard(bytes.load(Ordering::Relaxed), total, rows);
            let reader = form.build(lines).map_err(|e| wrong(e.to_string()))?;
            texts(reader, rows, &mut heard).map_err(wrong)
        }
        Format::Parquet => {
            let mut heard = |done: u64, count: u64, rows: u64| {
                heard((done as f64 / count.max(1) as f64 * total as f64) as u64, total, rows);
            };
            columns(file, rows, &mut heard)
        }
    }
}

/// The file's text, and how many of its bytes have been read.
fn unpacked(file: &Path, packed: bool) -> Result<(Arc<AtomicU64>, Box<dyn Read>), PipelineError> {
    let bytes = Arc::new(AtomicU64::new(0));
    let from = File::open(file).map_err(PipelineError::file(file))?;
    let counted = Counted { from, bytes: bytes.clone() };
    let plain: Box<dyn Read> = if packed {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, counted)))
    } else {
        Box::new(counted)
    };
    Ok((bytes, plain))
}

struct Counted {
    from: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// CSV: everything is text first, and read as what its column needs.
fn texts<R: Read>(reader: csv::Reader<R>, rows: &mut Rows, heard: &mut dyn FnMut(u64)) -> Result<(), String> {
    let schema = reader.schema();
    let mut slots = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let slot = rows.slot(Group::Top, field.name())?;
        slots.push(if let Slot::Group(_) = slot { Slot::Ignored } else { slot });
    }
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        let columns: Vec<_> = batch.columns().iter().map(|c| c.as_string::<i32>()).collect();
        for row in 0..batch.num_rows() {
            rows.at = rows.read + 1;
            for (slot, column) in slots.iter().zip(&columns) {
                if *slot != Slot::Ignored && !column.is_null(row) {
                    rows.set(*slot, Cell::Text(column.value(row)))?;
                }
            }
            rows.finish();
        }
        heard(rows.read);
    }
    Ok(())
}

/// Parquet: the columns that matter, as JSON lines, so that every type of column and everything nested is read
/// in one way.
fn columns(file: &Path, rows: &mut Rows, heard: &mut dyn FnMut(u64, u64, u64)) -> Result<(), PipelineError> {
    let wrong = |e: &dyn std::fmt::Display| {
        let text = e.to_string();
        // The library names the feature it was built without.
        let what = match text.rsplit_once("Disabled feature at compile time: ") {
            Some((_, packing)) => format!(
                "its columns are packed by `{packing}`, which cannot be read here; write it with Snappy, Zstandard, \
                 gzip, LZ4 or unpacked, or as CSV or JSON lines"
            ),
            None => text,
        };
        PipelineError::input(file, what)
    };
    let source = File::open(file).map_err(PipelineError::file(file))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(|e| wrong(&e))?;
    let count = builder.metadata().file_metadata().num_rows().max(0) as u64;
    let matters = |name: &str| {
        let group = name.split('.').next().unwrap_or(name).trim();
        KNOWN.contains(&name.trim()) || matches!(group, "ctx" | "context" | "target" | "model")
    };
    let fields = builder.schema().fields().clone();
    for field in fields.iter() {
        rows.slot(Group::Top, field.name()).map_err(|e| wrong(&e))?;
    }
    let roots = fields.iter().enumerate().filter(|(_, f)| matters(f.name())).map(|(i, _)| i);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(BATCH).build().map_err(|e| wrong(&e))?;
    let mut text = Vec::new();
    for batch in reader {
        text.clear();
        let batch = batch.map_err(|e| wrong(&e))?;
        let mut lines = json::LineDelimitedWriter::new(&mut text);
        lines.write(&batch).and_then(|()| lines.finish()).map_err(|e| wrong(&e))?;
        drop(lines);
        super::json::read_from(&text[..], rows.read, rows, |_| {}).map_err(|e| wrong(&e))?;
        heard(rows.read, count, rows.read);
    }
    Ok(())
}
