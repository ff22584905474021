//! Rows to read and to write: files of CSV, NDJSON and Parquet, told apart by their extension, and tables of
//! history.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{RecordBatchIterator, RecordBatchReader},
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json,
    record_batch::RecordBatch,
};
use features::offline::{HistoryError, OfflineStore, ScanFilter};
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::error::PipelineError;

/// Rows read at a time.
const BATCH: usize = 8_192;

/// Form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a line of names.
    Csv,
    /// One JSON object a line; its columns come in the order of their names.
    Ndjson,
    /// Parquet.
    Parquet,
}

impl Format {
    /// The form that a file's extension names.
    pub fn of(file: &Path) -> Result<Format, PipelineError> {
        match file.extension().and_then(|e| e.to_str()) {
            Some("csv") => Ok(Format::Csv),
            Some("ndjson" | "jsonl") => Ok(Format::Ndjson),
            Some("parquet") => Ok(Format::Parquet),
            _ => Err(PipelineError::input(file, "its name must end in .csv, .ndjson, .jsonl or .parquet")),
        }
    }
}

/// A file or table opened for reading.
pub struct Input {
    file: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    reader: Box<dyn RecordBatchReader>,
}

impl Input {
    /// Opens a file. Types of columns are inferred from all rows of CSV and NDJSON, except that the columns
    /// `as_text` of a CSV file stay as they are written, so that an entity `007` is not taken for a number.
    pub fn open(file: &Path, as_text: &[&str]) -> Result<Input, PipelineError> {
        let format = Format::of(file)?;
        let mut source = File::open(file).map_err(PipelineError::file(file))?;
        let wrong = |e: ArrowError| PipelineError::input(file, e);
        let (rows, reader): (u64, Box<dyn RecordBatchReader>) = match format {
            Format::Csv => {
                let form = csv::reader::Format::default().with_header(true);
                let (schema, rows) = form.infer_schema(BufReader::new(&source), None).map_err(wrong)?;
                source.rewind().map_err(PipelineError::file(file))?;
                let schema = Arc::new(texts(schema, as_text));
                let reader = csv::ReaderBuilder::new(schema).with_format(form).with_batch_size(BATCH);
                (rows as u64, Box::new(reader.build(source).map_err(wrong)?))
            }
            Format::Ndjson => {
                let inferred = json::reader::infer_json_schema(BufReader::new(&source), None);
                let (schema, rows) = inferred.map_err(wrong)?;
                source.rewind().map_err(PipelineError::file(file))?;
                let reader = json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(BATCH);
                (rows as u64, Box::new(reader.build(BufReader::new(source)).map_err(wrong)?))
            }
            Format::Parquet => {
                let builder =
                    ParquetRecordBatchReaderBuilder::try_new(source).map_err(|e| wrong(e.into()))?;
                let rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
                (rows, Box::new(builder.with_batch_size(BATCH).build().map_err(|e| wrong(e.into()))?))
            }
        };
        Ok(Input { file: file.to_owned(), rows, reader })
    }

    /// Opens a table of history: ordered by entity, then time. How many rows it has is an estimate.
    ///
    /// # Errors
    /// A table that is not there, with those that are; history that cannot be read.
    pub fn table(history: &dyn OfflineStore, table: &str) -> Result<Input, PipelineError> {
        let failed = |e: HistoryError| PipelineError::Features(e.into());
        let name = Path::new(table);
        let Some(schema) = history.schema(table).map_err(failed)? else {
            let known = history.tables().map_err(failed)?.join(", ");
            return Err(PipelineError::input(name, format!("history has no such table; it has {known}")));
        };
        let rows = history.estimate_rows(table, &ScanFilter::default()).map_err(failed)?;
        let batches = history.stream(table, &ScanFilter::default()).map_err(failed)?;
        let batches = batches.map(|b| b.map_err(|e| ArrowError::ExternalError(Box::new(e))));
        Ok(Input { file: name.to_owned(), rows, reader: Box::new(RecordBatchIterator::new(batches, schema)) })
    }

    /// The error for something in it that cannot be used.
    pub fn wrong(&self, what: impl ToString) -> PipelineError {
        PipelineError::input(&self.file, what)
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    /// Place of a column.
    pub fn column(&self, name: &str) -> Result<usize, PipelineError> {
        self.schema().index_of(name).map_err(|_| {
            let known: Vec<String> = self.schema().fields().iter().map(|f| f.name().clone()).collect();
            PipelineError::input(
                &self.file,
                format!("it has no column `{name}`; it has {}; name the right one", known.join(", ")),
            )
        })
    }
}

impl Iterator for Input {
    type Item = Result<RecordBatch, PipelineError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.map_err(|e| PipelineError::input(&self.file, e)))
    }
}

fn texts(schema: Schema, names: &[&str]) -> Schema {
    let fields = schema.fields().iter().map(|f| {
        let text = names.contains(&f.name().as_str()) || *f.data_type() == DataType::Null;
        if text { Arc::new(Field::new(f.name(), DataType::Utf8, true)) } else { f.clone() }
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// A file being written. It appears under its name only when finished.
pub struct Output {
    file: PathBuf,
    unfinished: PathBuf,
    writer: Writer,
}

enum Writer {
    Csv(csv::Writer<BufWriter<File>>),
    Ndjson(json::LineDelimitedWriter<BufWriter<File>>),
    Parquet(ArrowWriter<BufWriter<File>>),
}

impl Output {
    /// Begins a file for rows with these columns.
    pub fn create(file: &Path, schema: &SchemaRef) -> Result<Output, PipelineError> {
        let format = Format::of(file)?;
        let mut name = file.as_os_str().to_owned();
        name.push(".tmp");
        let unfinished = PathBuf::from(name);
        let to = BufWriter::new(File::create(&unfinished).map_err(PipelineError::file(file))?);
        let writer = match format {
            Format::Csv => Writer::Csv(csv::WriterBuilder::new().with_header(true).build(to)),
            Format::Ndjson => {
                let nulls = json::WriterBuilder::new().with_explicit_nulls(true);
                Writer::Ndjson(nulls.build::<_, json::writer::LineDelimited>(to))
            }
            Format::Parquet => Writer::Parquet(
                ArrowWriter::try_new(to, schema.clone(), None).map_err(|e| PipelineError::input(file, e))?,
            ),
        };
        Ok(Output { file: file.to_owned(), unfinished, writer })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), PipelineError> {
        match &mut self.writer {
            Writer::Csv(w) => w.write(batch),
            Writer::Ndjson(w) => w.write(batch),
            Writer::Parquet(w) => w.write(batch).map_err(ArrowError::from),
        }
        .map_err(|e| PipelineError::input(&self.file, e))
    }

    /// Completes the file and gives it its name.
    pub fn finish(self) -> Result<(), PipelineError> {
        let wrong = |e: &dyn ToString| PipelineError::input(&self.file, e.to_string());
        let file = PipelineError::file(&self.file);
        let mut to = match self.writer {
            Writer::Csv(w) => w.into_inner(),
            Writer::Ndjson(mut w) => {
                w.finish().map_err(|e| wrong(&e))?;
                w.into_inner()
            }
            Writer::Parquet(w) => w.into_inner().map_err(|e| wrong(&e))?,
        };
        to.flush().and_then(|()| to.get_ref().sync_all()).map_err(&file)?;
        std::fs::rename(&self.unfinished, &self.file).map_err(&file)
    }
}
