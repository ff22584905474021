//! Slowly changing tables beside a view's signals: what is kept of their rows, and which of them holds at a
//! signal's time.
//!
//! A row is kept as an event is: its time, and `source`, `id` and its columns as one `arrow::row`, so that lists
//! of them are in the order (time, source, id).

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array},
    compute::{filter_record_batch, is_not_null, take},
    datatypes::{DataType, SchemaRef, TimestampMillisecondType},
    row::{RowConverter, RowParser, SortField},
};
use ingest::Millis;

use crate::{
    error::FeatureError,
    events::{EventBuffer, EventList, Events},
    gather::Gathered,
    kernel::Kept,
    offline::schema::adapt,
    view::source::{Origin, Source},
};

/// The slowly changing tables of a view.
#[derive(Debug)]
pub(crate) struct Contexts(Vec<Context>);

#[derive(Debug)]
struct Context {
    table: Arc<str>,
    schema: SchemaRef,
    needs: Option<usize>,
    /// Columns kept, after `source` and `id`, as the table counts them.
    columns: Vec<usize>,
    converter: RowConverter,
    parser: RowParser,
}

impl Contexts {
    pub(crate) fn new(what: &str, source: &Source) -> Result<Self, FeatureError> {
        let wrong = FeatureError::compute(what);
        let mut contexts = Vec::new();
        for (number, c) in source.contexts.iter().enumerate() {
            let mut columns = Vec::new();
            for name in ["source", "id"] {
                columns.push(c.schema.index_of(name).map_err(|e| wrong(e.into()))?);
            }
            columns.extend(source.origins.iter().filter_map(|o| match o {
                Origin::Context(n, column) if *n == number => Some(*column),
                _ => None,
            }));
            let fields =
                columns.iter().map(|i| SortField::new(c.schema.field(*i).data_type().clone())).collect();
            let converter = RowConverter::new(fields).map_err(|e| wrong(e.into()))?;
            contexts.push(Context {
                table: c.table.as_str().into(),
                schema: c.schema.clone(),
                needs: c.needs,
                columns,
                parser: converter.parser(),
                converter,
            });
        }
        Ok(Contexts(contexts))
    }

    /// Names of their tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<str>> + '_ {
        self.0.iter().map(|c| &c.table)
    }

    /// What a batch of one of the tables tells, in its order.
    pub(crate) fn project(&self, number: usize, rows: &RecordBatch) -> Result<Events, FeatureError> {
        let c = &self.0[number];
        let wrong = |e: arrow::error::ArrowError| FeatureError::compute(&c.table)(e.into());
        let mut batch = adapt(rows, &c.schema).map_err(wrong)?;
        let mut kept: Vec<u32> = (0..batch.num_rows() as u32).collect();
        if let Some(column) = c.needs {
            let told = is_not_null(batch.column(column)).map_err(wrong)?;
            kept.retain(|i| told.value(*i as usize));
            batch = filter_record_batch(&batch, &told).map_err(wrong)?;
        }
        let columns: Vec<ArrayRef> = c.columns.iter().map(|i| batch.column(*i).clone()).collect();
        let bytes = c.converter.convert_columns(&columns).map_err(wrong)?;
        let times = batch
            .column_by_name("time")
            .map(|t| t.as_primitive::<TimestampMillisecondType>().values().to_vec())
            .unwrap_or_default();
        Ok(Events { rows: kept, times, bytes: Some(bytes) })
    }

    /// The last column kept of the table's newest row up to the entity's instant, a text.
    pub(crate) fn newest_text(&self, number: usize, kept: &Kept<'_>) -> Result<Option<String>, FeatureError> {
        let (c, Some(list)) = (&self.0[number], kept.contexts.get(number)) else { return Ok(None) };
        let Some(newest) = list.count_until(kept.at).checked_sub(1) else { return Ok(None) };
        let row = c.parser.parse(list.bytes(newest));
        let columns =
            c.converter.convert_rows([row]).map_err(|e| FeatureError::compute(&c.table)(e.into()))?;
        let text = columns.last().and_then(|c| c.as_string_opt::<i32>()).filter(|t| t.is_valid(0));
        Ok(text.map(|t| t.value(0).to_owned()))
    }
}

/// The rows of slowly changing tables as of each gathered event.
pub(crate) struct Timelines<'a> {
    contexts: &'a Contexts,
    /// For each table: its columns kept, a row a change, and for each event the row that holds.
    tables: Vec<(Vec<ArrayRef>, UInt32Array)>,
}

impl<'a> Timelines<'a> {
    pub(crate) fn new(
        contexts: &'a Contexts,
        entities: &[Kept<'_>],
        gathered: &Gathered<'_>,
    ) -> Result<Self, FeatureError> {
        let mut tables = Vec::with_capacity(contexts.0.len());
        for (number, c) in contexts.0.iter().enumerate() {
            let mut rows: Vec<&[u8]> = Vec::new();
            let mut begin_of = Vec::with_capacity(entities.len());
            for kept in entities {
                begin_of.push(rows.len());
                if let Some(list) = kept.contexts.get(number) {
                    rows.extend((0..list.len()).map(|i| list.bytes(i)));
                }
            }
            let parsed = rows.iter().map(|b| c.parser.parse(b));
            let columns =
                c.converter.convert_rows(parsed).map_err(|e| FeatureError::compute(&c.table)(e.into()))?;
            let holds = |(owner, time): (&u32, &Millis)| {
                let list = entities[*owner as usize].contexts.get(number)?;
                let newest = list.count_until(*time).checked_sub(1)?;
                Some((begin_of[*owner as usize] + newest) as u32)
            };
            let picks = gathered.owner.iter().zip(&gathered.times).map(holds).collect();
            tables.push((columns, picks));
        }
        Ok(Timelines { contexts, tables })
    }

    /// One column of a table, as it counts them, a row an event.
    pub(crate) fn column(&self, table: usize, column: usize) -> Result<ArrayRef, FeatureError> {
        let c = &self.contexts.0[table];
        let (columns, picks) = &self.tables[table];
        match c.columns.iter().skip(2).position(|k| *k == column) {
            Some(at) => {
                take(&columns[at + 2], picks, None).map_err(|e| FeatureError::compute(&c.table)(e.into()))
            }
            None => Ok(new_null_array(&DataType::Null, picks.len())),
        }
    }
}

/// Changes of slowly changing tables, as they are kept: all later than `horizon`, and the last before it.
pub fn merge_contexts(old: EventList<'_>, new: &mut [(Millis, &[u8])], horizon: Millis) -> EventBuffer {
    let all = EventBuffer::merge(old, new, Millis::MIN);
    let before = all.as_list().count_until(horizon);
    if before < 2 {
        return all;
    }
    let list = all.as_list();
    let mut kept = EventBuffer::default();
    for i in before - 1..list.len() {
        kept.push(list.time(i), list.bytes(i));
    }
    kept
}
