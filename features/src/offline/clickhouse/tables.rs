//! The tables on the server: which there are, made and widened as rows need it, renamed, dropped, sized up.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::datatypes::{Field, Schema, SchemaRef};
use ingest::Millis;
use parking_lot::Mutex;

use super::{
    HistoryError,
    server::Server,
    sql::{literal, quoted},
    types::{NULLS, ORDER, column, comment, field, needs_nulls},
};
use crate::offline::{layout::Layout, schema::merge};

/// What is known of the tables may be so old when it is read.
const FRESH: Duration = Duration::from_secs(2);
/// How the comment of each of our tables begins.
const OURS: &str = "kairos history";
const KEPT_AFTER: &str = ", rows kept after ";
/// Where the log position stands that the tables reflect.
pub(super) const POSITIONS: &str = "kairos_positions";

/// How tables are stored. An insert is acknowledged once it is on disk, a repeated one is known by its token, and
/// parts that were replaced go soon, so that erased bytes do.
pub(super) const STORAGE: &str = "index_granularity = 8192, fsync_after_insert = 1, fsync_part_directory = 1, \
     min_rows_to_fsync_after_merge = 1, non_replicated_deduplication_window = 10000, old_parts_lifetime = 1, \
     cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 5, \
     finished_mutations_to_keep = 1, merge_with_ttl_timeout = 3600";

/// A table on the server.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub schema: SchemaRef,
    /// Rows at or before this time are hidden.
    pub kept_after: Option<Millis>,
    /// Whether it holds a row.
    pub filled: bool,
    /// Whether it has the column [`NULLS`].
    pub nulls: bool,
}

/// All of them.
pub(super) struct Tables {
    server: Arc<Server>,
    keep: Option<Duration>,
    read: Mutex<(Option<Instant>, Arc<BTreeMap<String, Known>>)>,
    /// Held while one is made or changed.
    changing: Mutex<()>,
}

impl Tables {
    pub fn new(server: Arc<Server>, keep: Option<Duration>) -> Tables {
        Tables { server, keep, read: Mutex::default(), changing: Mutex::default() }
    }

    /// The tables as of a moment ago.
    pub fn known(&self) -> Result<Arc<BTreeMap<String, Known>>, HistoryError> {
        let mut read = self.read.lock();
        if read.0.is_none_or(|at| at.elapsed() > FRESH) {
            read.1 = Arc::new(self.load()?);
            read.0 = Some(Instant::now());
        }
        Ok(read.1.clone())
    }

    /// Something changed: they are read anew.
    pub fn forget(&self) {
        self.read.lock().0 = None;
    }

    /// The tables read last, however long ago; for writers, while the server is away.
    pub fn last_known(&self) -> Arc<BTreeMap<String, Known>> {
        self.read.lock().1.clone()
    }

    fn load(&self) -> Result<BTreeMap<String, Known>, HistoryError> {
        let ours = format!("database = currentDatabase() AND startsWith(comment, '{OURS}')");
        let tables: Vec<(String, String, Option<u64>)> = self
            .server
            .ask(format!("SELECT name, comment, total_rows FROM system.tables WHERE {ours} ORDER BY name"))?;
        let columns: Vec<(String, String, String)> = self.server.ask(
            "SELECT table, name, comment FROM system.columns WHERE database = currentDatabase() \
             ORDER BY table, position",
        )?;
        let mut found = BTreeMap::new();
        for (name, text, rows) in tables {
            let mine = || columns.iter().filter(|c| c.0 == name);
            let fields: Vec<Field> = mine().filter_map(|(_, name, comment)| field(name, comment)).collect();
            let kept_after = text.split_once(KEPT_AFTER).and_then(|(_, at)| at.parse().ok());
            let nulls = mine().any(|c| c.1 == NULLS);
            let schema = Arc::new(Schema::new(fields));
            found.insert(name, Known { schema, kept_after, filled: rows.unwrap_or(0) > 0, nulls });
        }
        Ok(found)
    }

    /// Makes what every table needs beside it.
    pub fn prepare(&self) -> Result<(), HistoryError> {
        self.server.execute(format!(
            "CREATE TABLE IF NOT EXISTS {POSITIONS} (partition UInt32, position SimpleAggregateFunction(max, UInt64)) \
             ENGINE = AggregatingMergeTree ORDER BY partition SETTINGS fsync_after_insert = 1, fsync_part_directory = 1 \
             COMMENT 'the log below these positions is in the tables'"
        ))
    }

    /// Makes a table, or adds the columns it lacks, so that rows of this schema fit. Answers all its columns.
    pub fn fit(&self, table: &str, schema: &SchemaRef) -> Result<SchemaRef, HistoryError> {
        if let Some(known) = self.last_known().get(table)
            && merge(table, &known.schema, schema)?.fields() == known.schema.fields()
        {
            return Ok(known.schema.clone());
        }
        let _changing = self.changing.lock();
        // Another process may have been first.
        let there = self.load()?.remove(table);
        let wanted = match &there {
            Some(known) => merge(table, &known.schema, schema)?,
            None => schema.clone(),
        };
        match &there {
            None => self.create(table, &wanted)?,
            Some(known) => self.widen(table, known, &wanted)?,
        }
        self.forget();
        let known = self.known()?;
        match known.get(table) {
            Some(k) if merge(table, &k.schema, schema)?.fields() == k.schema.fields() => Ok(k.schema.clone()),
            _ => Err(HistoryError::Unavailable(format!(
                "table `{table}` in {} is not as it was made; is another program changing it?",
                self.server.place
            ))),
        }
    }

    fn create(&self, table: &str, schema: &SchemaRef) -> Result<(), HistoryError> {
        let layout = Layout::of(table, schema)?;
        let mut columns =
            schema.fields().iter().map(|f| declared(table, f)).collect::<Result<Vec<_>, _>>()?;
        if schema.fields().iter().any(|f| needs_nulls(f)) {
            columns.push(nulls_column());
        }
        let mut engine = "ReplacingMergeTree".to_owned();
        if layout.replaces {
            columns.push(order_column(layout.has_place));
            engine = format!("ReplacingMergeTree({ORDER})");
        }
        let key: Vec<String> = layout.identity().iter().map(|c| quoted(c)).collect();
        let time = quoted(&layout.time);
        let ttl = self.keep.map_or(String::new(), |k| format!("TTL {}", ttl(&time, k)));
        let optional =
            layout.identity().iter().any(|c| schema.field_with_name(c).is_ok_and(Field::is_nullable));
        let nullable = if optional { ", allow_nullable_key = 1" } else { "" };
        self.server.execute(format!(
            "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = {engine} PARTITION BY toYYYYMM({time}) ORDER BY ({}) {ttl} \
             SETTINGS {STORAGE}{nullable} COMMENT '{OURS}'",
            quoted(table),
            columns.join(", "),
            key.join(", "),
        ))
    }

    fn widen(&self, table: &str, known: &Known, wanted: &SchemaRef) -> Result<(), HistoryError> {
        let mut changes = Vec::new();
        for f in wanted.fields() {
            match known.schema.field_with_name(f.name()) {
                Err(_) => changes.push(format!("ADD COLUMN IF NOT EXISTS {}", declared(table, f)?)),
                // A message that grew: what it lacked is NULL.
                Ok(old) if old != f.as_ref() => {
                    changes.push(format!("MODIFY COLUMN {}", declared(table, f)?))
                }
                Ok(_) => {}
            }
        }
        if !known.nulls && wanted.fields().iter().any(|f| needs_nulls(f)) {
            changes.push(format!("ADD COLUMN IF NOT EXISTS {}", nulls_column()));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let sql = format!("ALTER TABLE {} {}", quoted(table), changes.join(", "));
        self.server.execute_with(sql, &[("alter_sync", "1"), ("mutations_sync", "1")])
    }

    /// Hides rows at or before this instant from now on.
    pub fn keep_after(&self, table: &str, at: Millis) -> Result<(), HistoryError> {
        let comment = literal(&format!("{OURS}{KEPT_AFTER}{at}"));
        self.server.execute(format!("ALTER TABLE {} MODIFY COMMENT {comment}", quoted(table)))?;
        self.forget();
        Ok(())
    }

    /// Sets the age at which the server drops rows, where it is another one.
    pub fn keep_for(&self, table: &str) -> Result<(), HistoryError> {
        let Some(known) = self.known()?.get(table).cloned() else { return Ok(()) };
        let time = quoted(&Layout::of(table, &known.schema)?.time);
        let made: Vec<(String,)> = self.server.ask(format!(
            "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {}",
            literal(table)
        ))?;
        let made = made.into_iter().next().map(|(sql,)| sql.replace('`', "")).unwrap_or_default();
        let wanted = self.keep.map(|k| ttl(&time, k));
        let change = match &wanted {
            Some(ttl) if !made.contains(&format!("TTL {}", ttl.replace('`', ""))) => {
                format!("MODIFY TTL {ttl}")
            }
            None if made.contains(" TTL ") => "REMOVE TTL".to_owned(),
            _ => return Ok(()),
        };
        // What is too old goes with the next merges, not at once.
        let sql = format!("ALTER TABLE {} {change}", quoted(table));
        self.server.execute_with(sql, &[("materialize_ttl_after_modify", "0")])
    }

    /// Gives tables other names, in this order; where a name is taken by rows, or nothing has the old one, that pair
    /// is left as it is.
    pub fn rename(&self, names: &[(String, String)]) -> Result<(), HistoryError> {
        let _changing = self.changing.lock();
        let mut there: BTreeMap<String, bool> =
            self.load()?.into_iter().map(|(name, known)| (name, known.filled)).collect();
        let mut pairs = Vec::new();
        for (from, to) in names {
            let (filled, taken) = (there.get(from) == Some(&true), there.get(to).copied());
            if !filled || taken == Some(true) {
                continue;
            }
            if taken == Some(false) {
                self.server.execute(format!("DROP TABLE IF EXISTS {} SYNC", quoted(to)))?;
            }
            there.remove(from);
            there.insert(to.clone(), true);
            pairs.push(format!("{} TO {}", quoted(from), quoted(to)));
        }
        if !pairs.is_empty() {
            self.server.execute(format!("RENAME TABLE {}", pairs.join(", ")))?;
        }
        self.forget();
        Ok(())
    }

    /// Removes a table and its bytes.
    pub fn remove(&self, table: &str) -> Result<(), HistoryError> {
        let _changing = self.changing.lock();
        self.server.execute(format!("DROP TABLE IF EXISTS {} SYNC", quoted(table)))?;
        self.forget();
        Ok(())
    }
}

fn declared(table: &str, f: &Field) -> Result<String, HistoryError> {
    let refused = |kind: String| {
        HistoryError::Refused(format!(
            "column `{}` of table `{table}` is of type {kind}, which ClickHouse has no place for; declare it otherwise",
            f.name()
        ))
    };
    // What cannot be read back from its comment would be lost.
    match field(f.name(), &comment(f)) {
        Some(back) if back.data_type() == f.data_type() => column(f).map_err(refused),
        _ => Err(refused(f.data_type().to_string())),
    }
}

fn nulls_column() -> String {
    format!("{NULLS} Array(LowCardinality(String)) CODEC(ZSTD(1)) COMMENT 'lists and maps that are NULL'")
}

/// Later rows by `written`, then by their place in the log, are greater.
fn order_column(has_place: bool) -> String {
    let mut sum = "bitShiftLeft(toUInt128(greatest(toUnixTimestamp64Milli(written), 0)), 80)".to_owned();
    if has_place {
        sum += " + bitShiftLeft(toUInt128(ifNull(toUInt64(partition) + 1, 0)), 64) + toUInt128(ifNull(offset, 0))";
    }
    format!(
        "{ORDER} UInt128 MATERIALIZED {sum} CODEC(ZSTD(1)) COMMENT 'the greatest of an entity and time counts'"
    )
}

fn ttl(time: &str, keep: Duration) -> String {
    format!("toDateTime({time}) + toIntervalSecond({})", keep.as_secs())
}
