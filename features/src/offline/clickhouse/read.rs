//! Reads: the server's rows, those that wait in the spool and those in memory, in one order and each once.

use std::{fs::File, io::BufReader, sync::Arc};

use arrow::{
    datatypes::{Schema, SchemaRef},
    ipc::reader::StreamReader,
    record_batch::RecordBatch,
};
use ingest::Millis;

use super::{
    HistoryError, Inner,
    answer::Answer,
    mismatch,
    server::Server,
    sql::{Sql, quoted},
    tables::Known,
    types::{NULLS, needs_nulls, restore},
};
use crate::offline::{
    BatchStream, ScanFilter,
    filter::RowTest,
    layout::Layout,
    merge::{self, sorted},
    newest::last_of_each,
    schema::{adapt, projected},
};

/// Bytes of names in one query; more people are asked for in several.
const NAMES: usize = 64 << 10;

impl Inner {
    pub(super) fn stream(&self, table: &str, filter: &ScanFilter) -> Result<BatchStream, HistoryError> {
        let nothing: BatchStream = Box::new(std::iter::empty());
        let tables = self.tables.known()?;
        // What is not on the server yet, first: what arrives there meanwhile is then read twice rather than never.
        let (schema, waiting, buffered) = {
            let state = self.state.lock();
            let Some(schema) = self.schema_of(&state, table)? else { return Ok(nothing) };
            let open = state.spooled.iter().filter_map(|(b, _)| b.open(table).transpose());
            (schema, open.collect::<Result<Vec<_>, _>>()?, state.buffer.batches(table))
        };
        let target = projected(table, &schema, filter)?;
        let known = tables.get(table);
        let layout = Layout::of(table, &schema)?;
        let mut fields = target.fields().to_vec();
        for name in layout.order.iter().filter(|n| target.index_of(n).is_err()) {
            fields.extend(schema.fields().iter().find(|f| f.name() == name).cloned());
        }
        let wide = Arc::new(Schema::new(fields));
        let test = Arc::new(RowTest::new(filter, layout.clone(), known.and_then(|k| k.kept_after)));
        if test.entities.as_ref().is_some_and(Vec::is_empty) {
            return Ok(nothing);
        }
        let view = View { table: table.to_owned(), schema, wide: wide.clone(), test };
        let mut inputs: Vec<BatchStream> = Vec::new();
        if let Some(known) = known {
            inputs.push(stored(&self.server, &view, known, filter)?);
        }
        inputs.extend(waiting.into_iter().map(|file| spooled(file, &view)));
        let fresh: Vec<RecordBatch> = buffered.iter().map(|b| view.of(b)).collect::<Result<_, _>>()?;
        let fresh = sorted(&fresh, &wide, &layout).map_err(|e| mismatch(table, &e))?;
        if fresh.num_rows() > 0 {
            inputs.push(Box::new(std::iter::once(Ok(fresh))));
        }
        let merged = last_of_each(merge::merge(inputs, &wide, &layout)?, &layout);
        let table = table.to_owned();
        let narrow = merged.map(move |b| adapt(&b?, &target).map_err(|e| mismatch(&table, &e)));
        Ok(Box::new(narrow.filter(|b| !matches!(b, Ok(b) if b.num_rows() == 0))))
    }

    pub(super) fn estimate(&self, table: &str, filter: &ScanFilter) -> Result<u64, HistoryError> {
        let mut rows = 0;
        let known = self.tables.known()?;
        if let Some(known) = known.get(table) {
            let layout = Layout::of(table, &known.schema)?;
            let test = RowTest::new(filter, layout, known.kept_after);
            let sql = Sql {
                text: format!("EXPLAIN ESTIMATE SELECT * FROM {} {}", quoted(table), conditions(&test, None)),
                ..from_entity(Sql::default(), &test)
            };
            let parts: Vec<(String, String, u64, u64, u64)> = self.server.ask(sql)?;
            rows += parts.iter().map(|p| p.3).sum::<u64>();
        }
        let state = self.state.lock();
        let spooled = state.spooled.iter().filter_map(|(b, _)| b.about.tables.get(table)).map(|p| p.rows);
        let buffered = state.buffer.batches(table).iter().map(|b| b.num_rows() as u64).sum::<u64>();
        Ok(rows + spooled.sum::<u64>() + buffered)
    }
}

/// What a read makes of rows.
#[derive(Clone)]
struct View {
    table: String,
    /// All columns of the table.
    schema: SchemaRef,
    /// Those asked for and those that order.
    wide: SchemaRef,
    test: Arc<RowTest>,
}

impl View {
    /// The rows of a batch that pass.
    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch, HistoryError> {
        let passing = adapt(batch, &self.schema).and_then(|b| self.test.apply(&b));
        passing.and_then(|b| adapt(&b, &self.wide)).map_err(|e| mismatch(&self.table, &e))
    }
}

fn spooled(file: StreamReader<BufReader<File>>, view: &View) -> BatchStream {
    let view = view.clone();
    Box::new(file.map(move |batch| {
        let lost = |e| {
            HistoryError::Damaged(format!("rows of table `{}` in the spool cannot be read: {e}", view.table))
        };
        view.of(&batch.map_err(lost)?)
    }))
}

/// The server's rows, in order. People are asked for a part at a time; the first part is asked for now.
fn stored(
    server: &Arc<Server>,
    view: &View,
    known: &Known,
    filter: &ScanFilter,
) -> Result<BatchStream, HistoryError> {
    let there: Vec<_> = view
        .wide
        .fields()
        .iter()
        .filter_map(|f| known.schema.field_with_name(f.name()).ok().cloned())
        .collect();
    let there = Arc::new(Schema::new(there));
    let mut columns: Vec<String> = there.fields().iter().map(|f| quoted(f.name())).collect();
    if known.nulls && there.fields().iter().any(|f| needs_nulls(f)) {
        columns.push(NULLS.into());
    }
    let select = format!("SELECT {} FROM {}", columns.join(", "), quoted(&view.table));
    let order: Vec<String> = view.test.layout.order.iter().map(|c| order_of(c, &known.schema)).collect();
    let position = filter.max_position.as_ref().filter(|_| view.test.layout.has_place);
    let conditions = conditions(&view.test, position);
    let sql = |names: Option<&[String]>| {
        let text = format!("{select} {conditions} ORDER BY {}", order.join(", "));
        let sql = from_entity(Sql { text, ..Sql::default() }, &view.test);
        match names {
            Some(names) => sql.with("names", &names.iter().map(String::as_str).collect::<Vec<_>>()),
            None => sql,
        }
    };
    let mut queries = match &view.test.entities {
        Some(entities) => portions(entities).into_iter().map(|names| sql(Some(names))).collect(),
        None => vec![sql(None)],
    }
    .into_iter();
    let open = {
        let (server, view) = (server.clone(), view.clone());
        move |sql: Sql| {
            let answer = server.fetch(&sql)?;
            Rows::new(answer, there.clone(), view.clone())
        }
    };
    let first = queries.next().map(&open).transpose()?;
    let later = queries.flat_map(move |sql| -> BatchStream {
        match open(sql) {
            Ok(rows) => Box::new(rows),
            Err(e) => Box::new(std::iter::once(Err(e))),
        }
    });
    Ok(Box::new(first.into_iter().flatten().chain(later)))
}

/// Arrow puts NULL first, ClickHouse last unless told.
fn order_of(column: &str, schema: &Schema) -> String {
    match schema.field_with_name(column).is_ok_and(|f| f.is_nullable()) {
        true => format!("{} NULLS FIRST", quoted(column)),
        false => quoted(column),
    }
}

fn from_entity(sql: Sql, test: &RowTest) -> Sql {
    match &test.from_entity {
        Some(from) => sql.with("from_entity", &[from]),
        None => sql,
    }
}

/// Sorted names in pieces that one query holds.
fn portions(names: &[String]) -> Vec<&[String]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, name) in names.iter().enumerate() {
        if bytes + name.len() > NAMES && i > start {
            parts.push(&names[start..i]);
            (start, bytes) = (i, 0);
        }
        // With its quotes, and a little for what must be escaped.
        bytes += name.len() + 6;
    }
    parts.push(&names[start..]);
    parts
}

fn conditions(test: &RowTest, position: Option<&ingest::log::Position>) -> String {
    let (entity, time) = (quoted(&test.layout.entity), quoted(&test.layout.time));
    let instant = |at: Millis| format!("fromUnixTimestamp64Milli(toInt64({at}), 'UTC')");
    let mut all = Vec::new();
    if test.entities.is_some() {
        all.push(format!("{entity} IN {{names:Array(String)}}"));
    }
    if test.from_entity.is_some() {
        all.push(format!("{entity} >= {{from_entity:Array(String)}}[1]"));
    }
    all.extend(test.after.map(|at| format!("{time} > {}", instant(at))));
    all.extend(test.until.map(|at| format!("{time} <= {}", instant(at))));
    if let Some(position) = position {
        let mut below = "isNull(partition) OR isNull(offset)".to_owned();
        for (partition, offset) in &position.0 {
            below += &format!(" OR (partition = {partition} AND offset < {offset})");
        }
        all.push(format!("({below})"));
    }
    if all.is_empty() { String::new() } else { format!("WHERE {}", all.join(" AND ")) }
}

/// An answer of the server as batches.
struct Rows {
    reader: Option<StreamReader<Answer>>,
    columns: SchemaRef,
    view: View,
}

impl Rows {
    fn new(answer: Answer, columns: SchemaRef, view: View) -> Result<Rows, HistoryError> {
        let lost =
            |e| HistoryError::Unavailable(format!("the answer of ClickHouse was cut off: {e}; try again"));
        let reader = StreamReader::try_new(answer, None).map_err(lost)?;
        Ok(Rows { reader: Some(reader), columns, view })
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        match reader.next()? {
            Ok(batch) => {
                let batch = restore(&batch, &self.columns).and_then(|b| adapt(&b, &self.view.wide));
                Some(batch.map_err(|e| mismatch(&self.view.table, &e)))
            }
            Err(e) => {
                let told = reader.get_mut().take_error();
                self.reader = None;
                let cut = || {
                    HistoryError::Unavailable(format!("the answer of ClickHouse was cut off: {e}; try again"))
                };
                Some(Err(told.unwrap_or_else(cut)))
            }
        }
    }
}
