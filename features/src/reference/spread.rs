//! Many entities at many instants in one query, for engines that share a query among machines.
//!
//! The questions (whose values, at which instant, of which window) are a table; each is joined with the signals of
//! its window and makes a group. What stands beside a signal is joined as [`super`] looks it up, once for each
//! question and signal, because what was known may differ between questions. A window that holds no signals gives
//! no group; its values are computed where the answers are put together.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{dataframe::DataFrame, error::DataFusionError, execution::context::SessionContext};
use ingest::{Millis, log::Position};

use super::{
    Reference, ZONES,
    questions::{AFTER, AT, Bounds, HERE, NUMBER, OLDEST, ROW, WHO},
    select::{Joined, NTH, ZONE},
    window,
};
use crate::{error::FeatureError, past::Known, view::source::VALID_FROM};

/// The name of the table of questions in the session of a [`Spread`].
pub const QUESTIONS: &str = "__questions";
/// The name of the table of time zones there.
pub const CLOCKS: &str = "__clocks";

/// The name there of a table as it lies in files.
pub fn raw(table: &str) -> String {
    format!("__raw_{table}")
}

/// A view's query over many questions.
#[derive(Debug)]
pub struct Spread<'a> {
    pub(super) reference: &'a Reference,
}

/// Which of the rows of the tables count.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// By when they were known.
    pub known: Known,
    /// Below which position of the log.
    pub below: Option<Position>,
    /// Of a table, only rows later than this: what retention left.
    pub kept_after: Vec<(String, Millis)>,
}

impl Reference {
    /// The query over many questions.
    ///
    /// # Errors
    /// `Request` for a view that cannot be asked so, with the reason.
    pub fn spread(&self) -> Result<Spread<'_>, FeatureError> {
        let d = &self.definition;
        if let Some(w) = d.windows.iter().find(|w| window::goes_by_signals(w)) {
            return Err(FeatureError::Request(format!(
                "{}: the window {} is a session, whose begin depends on every signal before it, and a cluster cannot \
                 compute that in one query; leave the view out, or use the local engine for it",
                d.name, w.label
            )));
        }
        Ok(Spread { reference: self })
    }
}

impl Spread<'_> {
    /// The tables of signals it reads, with their columns; they must be registered as [`raw`] names them.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &SchemaRef)> {
        let zones = |name: &str| name == ZONES.0 && self.select().joined.iter().all(|j| j.table != name);
        let own = self.select().table.as_str();
        let tables = self.reference.tables.iter().map(|(name, schema)| (name.as_str(), schema));
        tables.filter(move |(name, _)| *name == own || !zones(name))
    }

    /// The other tables it reads, whole; they must be registered as [`raw`] names them.
    pub fn given(&self) -> impl Iterator<Item = (&str, &RecordBatch)> {
        self.reference.given.iter().map(|t| (t.name.as_str(), &t.rows))
    }

    /// The table of changes of time zone, if the view goes by clocks: the questions are made with its rows.
    pub fn clocks(&self) -> Option<&'static str> {
        self.reference.zoned.then_some(ZONES.0)
    }

    fn select(&self) -> &super::Select {
        &self.reference.select
    }

    /// The query: the number of a question, then the value of every output. Over the registered tables.
    ///
    /// # Errors
    /// What DataFusion cannot plan.
    pub async fn query(
        &self,
        ctx: &SessionContext,
        scope: &Scope,
        bounds: &Bounds,
    ) -> Result<DataFrame, FeatureError> {
        let query = async {
            self.register(ctx, scope, bounds).await?;
            let sql = self.select().of_many(NUMBER, AT, HERE).map_err(unreadable)?;
            ctx.sql(&sql).await
        };
        query.await.map_err(FeatureError::compute(&self.reference.definition.name))
    }

    /// The query for the rows asked for of which some signal in a window arrived later than the row's instant.
    ///
    /// # Errors
    /// What DataFusion cannot plan.
    pub async fn late(
        &self,
        ctx: &SessionContext,
        scope: &Scope,
        bounds: &Bounds,
    ) -> Result<DataFrame, FeatureError> {
        let of = |table: &str, s: &str, windowed: bool, window: &str| {
            let rows = self.signals(table, scope, bounds, windowed);
            format!(
                "SELECT __q.{ROW} FROM {QUESTIONS} __q JOIN ({rows}) {s} ON {s}.subject = __q.{WHO} AND {s}.time <= __q.{AT} \
                 AND {s}.received_at > __q.{AT} WHERE __q.{NUMBER} = __q.{ROW} * {} {window}",
                self.reference.definition.windows.len()
            )
        };
        let s = self.select().alias().to_string();
        let own_conditions = self.select().own_conditions().into_iter().map(|c| format!(" AND ({c})"));
        let inside = format!("AND {s}.time > __q.{OLDEST}{}", own_conditions.collect::<String>());
        let own = of(&self.select().table, &s, true, &inside);
        let mut parts = vec![own];
        parts.extend(self.changing().map(|j| of(&j.table, "s", false, "")));
        let sql = format!("SELECT DISTINCT {ROW} FROM ({})", parts.join(" UNION ALL "));
        ctx.sql(&sql).await.map_err(FeatureError::compute(&self.reference.definition.name))
    }

    /// The joined tables of signals.
    fn changing(&self) -> impl Iterator<Item = &Joined> {
        let given = |name: &str| self.reference.given.iter().any(|t| t.name == name);
        self.select().joined.iter().filter(move |j| !given(&j.table))
    }

    /// Registers under the names of the view's FROM what it is to see there.
    async fn register(
        &self,
        ctx: &SessionContext,
        scope: &Scope,
        bounds: &Bounds,
    ) -> Result<(), DataFusionError> {
        let select = self.select();
        put(ctx, &select.table, ctx.sql(&self.main(scope, bounds)).await?)?;
        for joined in &select.joined {
            let table = joined.table.as_str();
            let given = self.reference.given.iter().find(|t| t.name == table);
            let frame = match given {
                None => ctx.sql(&self.as_of(table, scope, bounds)).await?,
                Some(rows) => {
                    let whole = ctx.sql(&format!("SELECT * FROM {}", raw(table))).await?;
                    if rows.rows.column_by_name(VALID_FROM).is_none() {
                        whole
                    } else {
                        put(ctx, table, whole)?;
                        ctx.sql(&select.valid(joined)).await?.drop_columns(&["__newest"])?
                    }
                }
            };
            put(ctx, table, frame)?;
        }
        Ok(())
    }

    /// The view's own signals, one row for each question whose window holds them.
    fn main(&self, scope: &Scope, bounds: &Bounds) -> String {
        let columns: Vec<String> =
            self.reference.tables[0].1.fields().iter().map(|f| format!("s.\"{}\"", f.name())).collect();
        let nth = match self.select().joined.is_empty() {
            true => String::new(),
            false => format!(
                ", concat(CAST(q.{NUMBER} AS VARCHAR), ' ', CAST(character_length(s.source) AS VARCHAR), ' ', \
                 s.source, ' ', s.id) AS {NTH}"
            ),
        };
        let (zone, clocks) = match self.select().local {
            false => ("CAST(NULL AS VARCHAR)", String::new()),
            true => {
                let clocks = format!(
                    "LEFT JOIN {CLOCKS} c ON c.{ROW} = q.{ROW} AND c.since <= s.time AND s.time < c.until"
                );
                ("c.zone", clocks)
            }
        };
        let rows = self.signals(&self.select().table, scope, bounds, true);
        format!(
            "SELECT q.{NUMBER}, q.{AT}, q.{HERE}, {zone} AS {ZONE}{nth}, {} FROM {QUESTIONS} q \
             JOIN ({rows}) s ON s.subject = q.{WHO} AND s.time > q.{AFTER} AND s.time <= q.{AT} {} {clocks}",
            columns.join(", "),
            known(scope, "s", &format!("q.{AT}")),
        )
    }

    /// For each question and signal the newest row of a table that is not later.
    fn as_of(&self, table: &str, scope: &Scope, bounds: &Bounds) -> String {
        let rows = self.signals(table, scope, bounds, false);
        let main = &self.select().table;
        format!(
            "SELECT * FROM (SELECT r.*, m.{NTH}, row_number() OVER (PARTITION BY m.{NTH} ORDER BY r.time DESC, \
             r.source DESC, r.id DESC) AS __newest FROM \"{main}\" m JOIN ({rows}) r ON r.subject = m.subject \
             AND r.time <= m.time {}) WHERE __newest = 1",
            known(scope, "r", &format!("m.{AT}")),
        )
    }

    /// The signals of a table that any question may look at, each (source, id) once: the first in the log.
    fn signals(&self, table: &str, scope: &Scope, bounds: &Bounds, windowed: bool) -> String {
        let mut wanted = vec![
            format!("time <= {}", instant(bounds.newest)),
            format!("subject >= {}", text(&bounds.first)),
            format!("subject <= {}", text(&bounds.last)),
        ];
        if windowed {
            wanted.push(format!("time > {}", instant(bounds.oldest)));
        }
        let kept = scope.kept_after.iter().filter(|(name, _)| name == table);
        wanted.extend(kept.map(|(_, after)| format!("time > {}", instant(*after))));
        wanted.extend(scope.below.as_ref().map(below));
        let copy = "row_number() OVER (PARTITION BY subject, source, id ORDER BY \"offset\")";
        format!(
            "SELECT * FROM (SELECT *, {copy} AS __copy FROM {} WHERE {}) WHERE __copy = 1",
            raw(table),
            wanted.join(" AND ")
        )
    }
}

/// Puts a query under a name.
fn put(ctx: &SessionContext, name: &str, frame: DataFrame) -> Result<(), DataFusionError> {
    ctx.deregister_table(name)?;
    ctx.register_table(name, frame.into_view())?;
    Ok(())
}

/// The condition that a row was known at an instant.
fn known(scope: &Scope, row: &str, at: &str) -> String {
    match scope.known {
        Known::ByNow => String::new(),
        Known::ByThen => format!("AND ({row}.received_at IS NULL OR {row}.received_at <= {at})"),
    }
}

/// The condition that a row stands in the log below a position, or has no place there.
fn below(position: &Position) -> String {
    let cases: Vec<String> =
        position.0.iter().map(|(partition, next)| format!("WHEN {partition} THEN {next}")).collect();
    let next = match cases.is_empty() {
        true => "0".to_owned(),
        false => format!("CASE \"partition\" {} ELSE 0 END", cases.join(" ")),
    };
    format!("(\"partition\" IS NULL OR \"offset\" IS NULL OR CAST(\"offset\" AS BIGINT) < {next})")
}

fn instant(ms: Millis) -> String {
    format!("arrow_cast({ms}, 'Timestamp(Millisecond, Some(\"+00:00\"))')")
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn unreadable(e: impl ToString) -> DataFusionError {
    DataFusionError::Plan(e.to_string())
}

/// A schema with every column nullable, because files may lack one.
pub fn as_stored(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}
