//! Signals as Arrow batches: what the log holds, decoded beforehand; and made ones of any number.

use std::{collections::HashMap, sync::Arc};

use ::ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::{Position, Topic},
    record::Record,
};
use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt64Array};
use features::{View, online::OnlineStore};
use stream_jobs::{
    decode::decode,
    seen::Seen,
    shard::{Changes, Shard},
};

use crate::{
    error::{Error, Result},
    parts::Core,
};

/// Records in a micro-batch.
const BATCH: usize = 524_288;

/// One micro-batch of one partition: newest event time, and rows by table.
pub type MicroBatch = (Millis, Vec<(String, RecordBatch)>);

/// Everything a log holds, decoded: for each partition its micro-batches.
pub fn decoded(core: &Core) -> Result<Vec<Vec<MicroBatch>>> {
    let partitions: Vec<u32> = (0..core.log.partitions(Topic::Signals)).collect();
    let mut all: Vec<Vec<MicroBatch>> = partitions.iter().map(|_| Vec::new()).collect();
    let mut seen: Vec<Seen> = partitions.iter().map(|_| Seen::default()).collect();
    let mut reader = core.log.reader(Topic::Signals, &partitions, &Position::default())?;
    loop {
        let records = reader.poll(BATCH)?;
        if records.is_empty() {
            return Ok(all);
        }
        let mut parts: Vec<Vec<_>> = partitions.iter().map(|_| Vec::new()).collect();
        records.into_iter().for_each(|r| parts[r.partition as usize].push(r));
        for ((part, seen), to) in parts.iter().zip(&mut seen).zip(&mut all) {
            let decoded = decode(&core.catalogue, part, seen).map_err(|e| Error::Broken(e.to_string()))?;
            let tables = decoded.batches.into_iter().map(|(kind, rows)| (kind.table.clone(), rows)).collect();
            to.push((decoded.newest.unwrap_or(Millis::MIN), tables));
        }
    }
}

/// Rows by table, in as many parts as there are partitions.
pub fn by_table(all: &[Vec<MicroBatch>]) -> HashMap<String, Vec<Vec<RecordBatch>>> {
    let mut tables: HashMap<String, Vec<Vec<RecordBatch>>> = HashMap::new();
    for (partition, batches) in all.iter().enumerate() {
        for (table, rows) in batches.iter().flat_map(|(_, tables)| tables) {
            let parts = tables.entry(table.clone()).or_insert_with(|| vec![Vec::new(); all.len()]);
            parts[partition].push(rows.clone());
        }
    }
    tables
}

/// Applies one micro-batch and puts what changed online.
pub fn apply(shard: &mut Shard, online: &dyn OnlineStore, (newest, tables): &MicroBatch) -> Result<()> {
    let broken = |e: features::FeatureError| Error::Broken(format!("stream: {e}"));
    shard.watermark = shard.watermark.max(*newest);
    let mut changes = Changes::default();
    let tables: Vec<(&str, &RecordBatch)> = tables.iter().map(|(name, rows)| (name.as_str(), rows)).collect();
    shard.apply(&tables, &mut changes).map_err(broken)?;
    online.put_many(changes.rows).map_err(broken)
}

/// Applies everything, a thread a partition.
pub fn apply_all(views: &[Arc<View>], online: &dyn OnlineStore, all: &[Vec<MicroBatch>]) -> Result<()> {
    std::thread::scope(|scope| {
        let of_partition = |(partition, batches): (usize, &Vec<MicroBatch>)| {
            let mut shard = Shard::new(partition as u32, views);
            batches.iter().try_for_each(|batch| apply(&mut shard, online, batch))
        };
        let threads: Vec<_> =
            all.iter().enumerate().map(|part| scope.spawn(move || of_partition(part))).collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Makes steps of `people` persons, in order of time, as batches of one table. Rows are made once and given
/// new times, so that millions cost little.
pub struct Steps {
    table: String,
    rows: RecordBatch,
    next: u64,
    begin: Millis,
    /// Milliseconds between two signals.
    apart: f64,
}

impl Steps {
    /// Signals from `begin` on, `apart` milliseconds from one to the next.
    pub fn new(catalogue: &Catalogue, people: usize, begin: Millis, apart: f64) -> Result<Steps> {
        let broken = |e: &dyn std::fmt::Display| Error::Broken(format!("signals of the bench: {e}"));
        let kind = catalogue.get("steps.counted").ok_or_else(|| broken(&"steps.counted is not declared"))?;
        let mut builder = kind.builder();
        // A whole number of rounds, so that every person goes on where the rows begin again.
        let rows = (BATCH / people).max(1) * people;
        for i in 0..rows {
            let data = serde_json::json!({"steps": i * 7 % 2_000});
            let record = Record {
                kind: kind.name.clone(),
                id: format!("{i:08}"),
                source: "bench".to_owned(),
                subject: format!("person-{}", i % people),
                time: 0,
                received_at: 0,
                data: kind.encode_value(&data, UnknownFields::Reject).map_err(|e| broken(&e))?.into(),
                extensions: Vec::new(),
            };
            builder.append(0, 0, &record).map_err(|e| broken(&e))?;
        }
        Ok(Steps { table: kind.table.clone(), rows: builder.finish(), next: 0, begin, apart })
    }

    /// The next signals, up to `most` of them.
    pub fn next(&mut self, most: usize) -> Result<MicroBatch> {
        let from = self.next as usize % self.rows.num_rows();
        let rows = self.rows.slice(from, most.min(self.rows.num_rows() - from));
        let time = |n: u64| self.begin + (n as f64 * self.apart) as Millis;
        let numbers = self.next..self.next + rows.num_rows() as u64;
        self.next = numbers.end;
        let times =
            TimestampMillisecondArray::from_iter_values(numbers.clone().map(time)).with_timezone("+00:00");
        let offsets = UInt64Array::from_iter_values(numbers.clone());
        let schema = rows.schema();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (name, column) in
            [("time", Arc::new(times) as ArrayRef), ("offset", Arc::new(offsets) as ArrayRef)]
        {
            let at = schema.index_of(name).map_err(|e| Error::Broken(e.to_string()))?;
            columns[at] = column;
        }
        let batch = RecordBatch::try_new(schema, columns).map_err(|e| Error::Broken(e.to_string()))?;
        Ok((time(numbers.end - 1), vec![(self.table.clone(), batch)]))
    }
}
