//! A join of more rows than memory holds, in the order of their entities.
//!
//! 1. The rows are read once; who and when, with the number of the row, go to disk in sorted runs.
//! 2. The runs are merged, which gives the questions ordered by entity and instant: history is read once. The
//!    values go to buckets on disk, each for a span of row numbers.
//! 3. The rows are read again, and the values of one bucket after the other put beside them.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type},
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use features::past;
use ingest::Millis;

use super::{Join, JoinReport, damaged, next_piece, questions};
use crate::{error::PipelineError, table::Input};

/// So many buckets are open at once, at most.
const BUCKETS: u64 = 256;
/// Rows of a run that are read at a time.
const READ: usize = 4_096;

/// Whose values at which instant, and for which row.
type Question = (String, Millis, u64);

impl Join<'_> {
    /// See the module.
    pub(super) fn sorted(&self, input: Input) -> Result<JoinReport, PipelineError> {
        let beside = self.job.output.parent().filter(|p| !p.as_os_str().is_empty());
        let dir = tempfile::Builder::new()
            .prefix(".kairos-join-")
            .tempdir_in(beside.unwrap_or(Path::new(".")))
            .map_err(PipelineError::file(&self.job.output))?;
        let disk = Disk { dir: dir.path().to_owned() };
        self.progress.set_message("sorting");
        let (runs, total) = self.sort(input, &disk)?;
        self.progress.set_message("joining");
        self.progress.set_position(0);
        let span = (self.piece as u64).max(total.div_ceil(BUCKETS));
        let mut report = JoinReport { rows: total, with_late_signals: 0 };
        let mut buckets: Vec<Option<StreamWriter<BufWriter<File>>>> = Vec::new();
        buckets.resize_with(total.div_ceil(span) as usize, || None);
        let mut merged = Merged::of(&disk, runs)?;
        let mut done = 0;
        loop {
            let asked = merged.take(self.piece)?;
            if asked.is_empty() {
                break;
            }
            let rows: Vec<(&str, Millis)> = asked.iter().map(|(e, t, _)| (e.as_str(), *t)).collect();
            let joined = past::join_on(self.engine, self.prepared.stored(), &rows, self.job.known)?;
            report.with_late_signals += joined.with_late_signals as u64;
            let numbered = numbered(&asked, &joined.values).map_err(|e| disk.failed(&e))?;
            let mut of_bucket: Vec<Vec<u32>> = vec![Vec::new(); buckets.len()];
            for (i, (_, _, row)) in asked.iter().enumerate() {
                of_bucket[(row / span) as usize].push(i as u32);
            }
            for (number, rows) in of_bucket.into_iter().enumerate().filter(|(_, r)| !r.is_empty()) {
                let part =
                    take_record_batch(&numbered, &UInt32Array::from(rows)).map_err(|e| disk.failed(&e))?;
                disk.append(&mut buckets[number], &format!("values-{number}"), &part)?;
            }
            done += asked.len() as u64;
            self.progress.set_position(done);
        }
        for bucket in buckets.iter_mut().flatten() {
            bucket.finish().map_err(|e| disk.failed(&e))?;
        }
        self.progress.set_message("writing");
        self.write(&disk, span)?;
        Ok(report)
    }

    /// Writes sorted runs; answers how many, and how many rows there are.
    fn sort(&self, mut input: Input, disk: &Disk) -> Result<(usize, u64), PipelineError> {
        let own = input.schema();
        let (mut runs, mut total) = (0, 0);
        let mut run: Vec<Question> = Vec::new();
        loop {
            // The columns of a row may be much wider than what is kept of it.
            let piece = next_piece(&mut input, &own, READ)?;
            let ended = piece.is_none();
            if let Some(piece) = piece {
                let rows = questions(self.job, &input, &piece, self.columns, total)?;
                run.extend(rows.into_iter().enumerate().map(|(i, (e, t))| (e, t, total + i as u64)));
                total += piece.num_rows() as u64;
                self.progress.set_position(total);
            }
            if run.len() >= self.piece || (ended && !run.is_empty()) {
                run.sort_unstable();
                let mut to = None;
                for part in run.chunks(READ) {
                    let part = questions_batch(part).map_err(|e| disk.failed(&e))?;
                    disk.append(&mut to, &format!("run-{runs}"), &part)?;
                }
                to.map_or(Ok(()), |mut to| to.finish()).map_err(|e| disk.failed(&e))?;
                runs += 1;
                run.clear();
            }
            if ended {
                return Ok((runs, total));
            }
        }
    }

    /// Reads the rows again and puts the values beside them.
    fn write(&self, disk: &Disk, span: u64) -> Result<(), PipelineError> {
        let mut input = self.job.open(self.history)?;
        let mut to = self.output();
        let (mut row, mut bucket) = (0, None);
        while let Some(own) = input.next().transpose()? {
            let mut at = 0;
            while at < own.num_rows() {
                let number = row / span;
                let values = match &bucket {
                    Some((of, values)) if *of == number => values,
                    _ => {
                        bucket = None; // One at a time in memory.
                        &bucket.insert((number, disk.bucket(number)?)).1
                    }
                };
                let from = (row % span) as usize;
                let many = (own.num_rows() - at).min(values.num_rows().saturating_sub(from));
                if many == 0 {
                    return Err(input.wrong("it changed while it was read; run the join again"));
                }
                to.write(&own.slice(at, many), &values.slice(from, many))?;
                at += many;
                row += many as u64;
                self.progress.set_position(row);
            }
        }
        to.finish()
    }
}

/// Values with the numbers of their rows as a last column.
fn numbered(asked: &[Question], values: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = values.schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new("", DataType::UInt64, false)));
    let mut columns = values.columns().to_vec();
    columns.push(Arc::new(asked.iter().map(|(_, _, row)| *row).collect::<UInt64Array>()));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn questions_batch(run: &[Question]) -> Result<RecordBatch, ArrowError> {
    let entities: ArrayRef = Arc::new(StringArray::from_iter_values(run.iter().map(|q| &q.0)));
    let instants: ArrayRef = Arc::new(run.iter().map(|q| q.1).collect::<Int64Array>());
    let rows: ArrayRef = Arc::new(run.iter().map(|q| q.2).collect::<UInt64Array>());
    RecordBatch::try_from_iter([("entity", entities), ("as_of", instants), ("row", rows)])
}

/// The files in between.
struct Disk {
    dir: PathBuf,
}

impl Disk {
    fn failed(&self, e: &dyn ToString) -> PipelineError {
        PipelineError::input(&self.dir, format!("sorting the rows there failed: {}", e.to_string()))
    }

    fn append(
        &self,
        to: &mut Option<StreamWriter<BufWriter<File>>>,
        name: &str,
        batch: &RecordBatch,
    ) -> Result<(), PipelineError> {
        let writer = match to {
            Some(writer) => writer,
            None => {
                let path = self.dir.join(name);
                let file = BufWriter::new(File::create(&path).map_err(PipelineError::file(&path))?);
                let writer = StreamWriter::try_new(file, batch.schema_ref());
                to.insert(writer.map_err(|e| self.failed(&e))?)
            }
        };
        writer.write(batch).map_err(|e| self.failed(&e))
    }

    fn read(&self, name: &str) -> Result<StreamReader<BufReader<File>>, PipelineError> {
        let path = self.dir.join(name);
        let file = BufReader::new(File::open(&path).map_err(PipelineError::file(&path))?);
        StreamReader::try_new(file, None).map_err(|e| self.failed(&e))
    }

    /// The values of one bucket in the order of the rows.
    fn bucket(&self, number: u64) -> Result<RecordBatch, PipelineError> {
        let reader = self.read(&format!("values-{number}"))?;
        let schema: SchemaRef = reader.schema();
        let ordered = || -> Result<RecordBatch, ArrowError> {
            let batches = reader.collect::<Result<Vec<_>, _>>()?;
            let whole = concat_batches(&schema, &batches)?;
            let last = whole.num_columns() - 1;
            let rows = whole.column(last).as_primitive::<UInt64Type>();
            let mut order: Vec<u32> = (0..whole.num_rows() as u32).collect();
            order.sort_unstable_by_key(|i| rows.value(*i as usize));
            let values = whole.project(&(0..last).collect::<Vec<_>>())?;
            take_record_batch(&values, &UInt32Array::from(order))
        };
        ordered().map_err(|e| self.failed(&e))
    }
}

/// Sorted runs, merged.
struct Merged {
    runs: Vec<Run>,
    next: BinaryHeap<Reverse<(Question, usize)>>,
}

struct Run {
    reader: StreamReader<BufReader<File>>,
    batch: Option<RecordBatch>,
    at: usize,
}

impl Merged {
    fn of(disk: &Disk, runs: usize) -> Result<Merged, PipelineError> {
        let mut merged = Merged { runs: Vec::with_capacity(runs), next: BinaryHeap::new() };
        for i in 0..runs {
            merged.runs.push(Run { reader: disk.read(&format!("run-{i}"))?, batch: None, at: 0 });
            merged.advance(i)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, i: usize) -> Result<(), PipelineError> {
        let run = &mut self.runs[i];
        if run.batch.as_ref().is_none_or(|b| run.at == b.num_rows()) {
            let next = run.reader.next().transpose();
            run.batch = next.map_err(|e| PipelineError::Features(damaged(&e)))?;
            run.at = 0;
        }
        if let Some(batch) = &run.batch {
            let entity = batch.column(0).as_string::<i32>().value(run.at).to_owned();
            let instant = batch.column(1).as_primitive::<Int64Type>().value(run.at);
            let row = batch.column(2).as_primitive::<UInt64Type>().value(run.at);
            run.at += 1;
            self.next.push(Reverse(((entity, instant, row), i)));
        }
        Ok(())
    }

    /// The next questions, at most so many.
    fn take(&mut self, most: usize) -> Result<Vec<Question>, PipelineError> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(Reverse((question, i))) = self.next.pop()
        {
            taken.push(question);
            self.advance(i)?;
        }
        Ok(taken)
    }
}
