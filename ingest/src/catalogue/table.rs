//! Records of one type gathered into a table.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, UInt32Array, UInt64Array},
    datatypes::SchemaRef,
    record_batch::RecordBatch,
};

use super::{column::utc, error::Damaged, rows::Rows, shape::Message, spans::Spans};
use crate::{
    Millis,
    log::{Offset, Partition},
    record::{Record, RecordRef},
};

/// Builds Arrow batches of one signal type, straight from the stored protobuf bytes.
pub struct TableBuilder {
    kind: String,
    schema: SchemaRef,
    id: Spans,
    source: Spans,
    subject: Spans,
    time: Vec<Millis>,
    received_at: Vec<Millis>,
    partition: Vec<Partition>,
    offset: Vec<Offset>,
    data: Rows,
    /// Upper bound of what any column of text or bytes holds.
    bytes: usize,
}

impl TableBuilder {
    pub(crate) fn new(kind: &str, schema: SchemaRef, message: &Arc<Message>) -> Self {
        TableBuilder {
            kind: kind.to_owned(),
            schema,
            id: Spans::new(),
            source: Spans::new(),
            subject: Spans::new(),
            time: Vec::new(),
            received_at: Vec::new(),
            partition: Vec::new(),
            offset: Vec::new(),
            data: Rows::new(message),
            bytes: 0,
        }
    }

    /// Adds a record as a row. On an error the table is as it was.
    pub fn append(&mut self, partition: Partition, offset: Offset, record: &Record) -> Result<(), Damaged> {
        self.append_ref(partition, offset, &record.borrowed())
    }

    /// As [`append`](Self::append), for a record not copied out of its payload.
    pub fn append_ref(
        &mut self,
        partition: Partition,
        offset: Offset,
        record: &RecordRef<'_>,
    ) -> Result<(), Damaged> {
        if record.kind != self.kind {
            let what =
                format!("a record of `{}` does not belong in the table of `{}`", record.kind, self.kind);
            return Err(Damaged(what));
        }
        // An enumeration's name is longer than its number: columns may hold more than came in.
        let bytes = self.bytes
            + record.id.len()
            + record.source.len()
            + record.subject.len()
            + record.data.len() * self.data.growth();
        if bytes > i32::MAX as usize {
            return Err(Damaged::new("the batch is full (2 GiB); finish it first"));
        }
        self.data.append(record.data)?;
        self.bytes = bytes;
        self.id.push(record.id.as_bytes());
        self.source.push(record.source.as_bytes());
        self.subject.push(record.subject.as_bytes());
        self.time.push(record.time);
        self.received_at.push(record.received_at);
        self.partition.push(partition);
        self.offset.push(offset);
        Ok(())
    }

    /// Rows since the last `finish`.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no rows since the last `finish`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as a batch; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        self.bytes = 0;
        let take = std::mem::take::<Vec<Millis>>;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish_text(None)),
            Arc::new(self.source.finish_text(None)),
            Arc::new(self.subject.finish_text(None)),
            Arc::new(utc(take(&mut self.time), None)),
            Arc::new(utc(take(&mut self.received_at), None)),
            Arc::new(UInt32Array::from(std::mem::take(&mut self.partition))),
            Arc::new(UInt64Array::from(std::mem::take(&mut self.offset))),
        ];
        columns.extend(self.data.finish());
        arrow::array::StructArray::new(self.schema.fields().clone(), columns, None).into()
    }
}
