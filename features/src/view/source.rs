//! The FROM of a view: its signal table, and what stands beside it.
//!
//! A `LEFT JOIN` with another signal table on the subject gives each signal the newest row of that table as
//! of its event time (ties by source and id): a slowly changing table. A `LEFT JOIN` with a reference table
//! (`tables.dirs`, or the tips) on a key gives the row of that key; one with a column `valid_from` gives the
//! newest that was valid by the event time.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, NullArray, RecordBatch, UInt32Array},
    compute::{cast, take},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType},
    row::{OwnedRow, RowConverter, SortField},
};
use datafusion::{
    common::{Column, DFSchema, DFSchemaRef},
    logical_expr::{Expr, JoinType, LogicalPlan, Operator, utils::split_conjunction},
};
use hashbrown::HashMap;
use ingest::Millis;

use super::time::instant_type;
use crate::error::FeatureError;

/// Column of a reference table that says since when a row holds.
pub const VALID_FROM: &str = "valid_from";

/// A table that views may join, known at start: the tips, or a file of an operator.
#[derive(Debug, Clone)]
pub struct ReferenceTable {
    /// Its name in SQL.
    pub name: String,
    /// All of it.
    pub rows: RecordBatch,
}

/// Where a column of the joined row comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// A column of the view's own table.
    Fact(usize),
    /// A column of a reference table: which, and its column.
    Reference(usize, usize),
    /// A column of a slowly changing table: which, and its column.
    Context(usize, usize),
}

/// A slowly changing table beside the view's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContextTable {
    pub table: String,
    pub schema: SchemaRef,
    /// A row without a value here says nothing.
    pub needs: Option<usize>,
}

/// A reference table beside the view's own.
#[derive(Debug)]
pub(crate) struct ReferenceJoin {
    table: ReferenceTable,
    /// Column of the view's table that holds the key.
    key: usize,
    keys: RowConverter,
    key_type: DataType,
    /// Rows by key, the oldest first.
    by_key: HashMap<OwnedRow, Vec<(Millis, u32)>>,
}

/// A FROM taken apart.
#[derive(Debug)]
pub(crate) struct Source {
    pub table: String,
    /// Columns of that table.
    pub fact: SchemaRef,
    /// What the expressions see: its columns and those joined to them.
    pub joined: DFSchemaRef,
    pub origins: Vec<Origin>,
    pub contexts: Vec<ContextTable>,
    pub references: Vec<ReferenceJoin>,
    /// WHERE, all conditions of which must hold.
    pub filters: Vec<Expr>,
}

impl Source {
    /// Takes a plan below its aggregation apart; an error is the reason why it cannot be a view's.
    pub(crate) fn of(plan: &LogicalPlan, tables: &[ReferenceTable]) -> Result<Source, String> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let table = scan.table_name.table().to_owned();
                if tables.iter().any(|t| t.name == table) {
                    return Err(format!(
                        "{table} is a reference table; a view reads signals, join it to those"
                    ));
                }
                let fact = scan.source.schema();
                Ok(Source {
                    table,
                    origins: (0..fact.fields().len()).map(Origin::Fact).collect(),
                    fact,
                    joined: scan.projected_schema.clone(),
                    contexts: Vec::new(),
                    references: Vec::new(),
                    filters: Vec::new(),
                })
            }
            LogicalPlan::Filter(f) => {
                let mut source = Source::of(&f.input, tables)?;
                source.filters.push(f.predicate.clone());
                Ok(source)
            }
            LogicalPlan::SubqueryAlias(a) if matches!(a.input.as_ref(), LogicalPlan::TableScan(_)) => {
                Ok(Source { joined: a.schema.clone(), ..Source::of(&a.input, tables)? })
            }
            LogicalPlan::Join(join) if join.join_type == JoinType::Left => {
                let mut source = Source::of(&join.left, tables)?;
                if !source.filters.is_empty() {
                    return Err("write WHERE after the joins".to_owned());
                }
                let right = Source::of(&join.right, &[])
                    .map_err(|_| "the right side of a join must be a table itself".to_owned())?;
                let mut pairs: Vec<(Expr, Expr)> = join.on.clone();
                for condition in join.filter.iter().flat_map(split_conjunction) {
                    match condition {
                        Expr::BinaryExpr(b) if b.op == Operator::Eq => {
                            pairs.push((*b.left.clone(), *b.right.clone()));
                        }
                        other => return Err(format!("a join is on one equality; found `{other}`")),
                    }
                }
                source.join(&right, &pairs, tables)?;
                source.joined = join.schema.clone();
                Ok(source)
            }
            LogicalPlan::Join(join) => Err(format!(
                "a feature view keeps all its signals, so that its joins are LEFT JOINs; found {}",
                join.join_type
            )),
            other => Err(format!(
                "a feature view reads one signal table, with LEFT JOINs beside it; subqueries are not supported (found {})",
                other.display()
            )),
        }
    }

    fn join(
        &mut self,
        right: &Source,
        pairs: &[(Expr, Expr)],
        tables: &[ReferenceTable],
    ) -> Result<(), String> {
        let [(a, b)] = pairs else { return Err("a join is on one equality".to_owned()) };
        let place = |schema: &DFSchema, e: &Expr| match e {
            Expr::Column(c) => schema.maybe_index_of_column(c),
            _ => None,
        };
        let (Some(left_key), Some(right_key)) = (
            place(&self.joined, a).or_else(|| place(&self.joined, b)),
            place(&right.joined, b).or_else(|| place(&right.joined, a)),
        ) else {
            return Err(format!("a join is on a column of either side; found `{a}` = `{b}`"));
        };
        let Origin::Fact(left_key) = self.origins[left_key] else {
            return Err("a join is on a column of the view's own table".to_owned());
        };
        if let Some(table) = tables.iter().find(|t| t.name == right.table) {
            let number = self.references.len();
            let key_type = self.fact.field(left_key).data_type();
            self.references.push(ReferenceJoin::new(table, left_key, right_key, key_type)?);
            self.origins.extend((0..right.origins.len()).map(|c| Origin::Reference(number, c)));
            return Ok(());
        }
        if self.fact.field(left_key).name() != "subject" || right.fact.field(right_key).name() != "subject" {
            return Err(format!(
                "{} is joined by something else than subject; the signals of a person meet in one place, others do not",
                right.table
            ));
        }
        if right.table == self.table {
            return Err("a table cannot be joined to itself".to_owned());
        }
        let number = self.context(ContextTable {
            table: right.table.clone(),
            schema: right.fact.clone(),
            needs: None,
        });
        self.origins.extend((0..right.origins.len()).map(|c| Origin::Context(number, c)));
        Ok(())
    }

    /// The number of this slowly changing table.
    fn context(&mut self, wanted: ContextTable) -> usize {
        let known = self.contexts.iter().position(|c| *c == wanted);
        known.unwrap_or_else(|| {
            self.contexts.push(wanted);
            self.contexts.len() - 1
        })
    }

    /// Puts one column of a slowly changing table beside the others, under `name`, with the newest row that
    /// has a value there.
    pub(crate) fn add_newest(
        &mut self,
        name: &str,
        table: &str,
        schema: &SchemaRef,
        column: usize,
    ) -> Result<usize, String> {
        let number = self.context(ContextTable {
            table: table.to_owned(),
            schema: schema.clone(),
            needs: Some(column),
        });
        self.origins.push(Origin::Context(number, column));
        let field = Arc::new(Field::new(name, schema.field(column).data_type().clone(), true));
        let mut fields: Vec<_> = self.joined.iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        fields.push((None, field));
        let joined = DFSchema::new_with_metadata(fields, Default::default()).map_err(|e| e.to_string())?;
        self.joined = Arc::new(joined);
        Ok(number)
    }

    /// The column `subject` or such of the view's own table.
    pub(crate) fn own_column(&self, name: &str) -> Option<Column> {
        let index = self.fact.index_of(name).ok()?;
        let at = self.origins.iter().position(|o| *o == Origin::Fact(index))?;
        Some(Column::from(self.joined.qualified_field(at)))
    }
}

impl ReferenceJoin {
    fn new(
        table: &ReferenceTable,
        key: usize,
        right_key: usize,
        key_type: &DataType,
    ) -> Result<Self, String> {
        let unfit = |e: arrow::error::ArrowError| format!("the reference table {}: {e}", table.name);
        let keys = RowConverter::new(vec![SortField::new(key_type.clone())]).map_err(unfit)?;
        let column = cast(table.rows.column(right_key), key_type).map_err(unfit)?;
        let rows = keys.convert_columns(std::slice::from_ref(&column)).map_err(unfit)?;
        let since = match table.rows.column_by_name(VALID_FROM) {
            Some(c) => Some(cast(c, &instant_type()).map_err(unfit)?),
            None => None,
        };
        let mut by_key: HashMap<OwnedRow, Vec<(Millis, u32)>> = HashMap::new();
        for (i, row) in rows.iter().enumerate().filter(|(i, _)| column.is_valid(*i)) {
            let from =
                since.as_ref().map_or(Millis::MIN, |s| s.as_primitive::<TimestampMillisecondType>().value(i));
            by_key.entry(row.owned()).or_default().push((from, i as u32));
        }
        for found in by_key.values_mut() {
            found.sort_unstable();
            if found.windows(2).any(|w| w[0].0 == w[1].0) {
                return Err(format!(
                    "the reference table {} has a key twice; make it unique, or tell its rows apart by {VALID_FROM}",
                    table.name
                ));
            }
        }
        Ok(ReferenceJoin { table: table.clone(), key, keys, key_type: key_type.clone(), by_key })
    }

    fn pick(&self, fact: &RecordBatch, times: &[Millis]) -> Result<UInt32Array, arrow::error::ArrowError> {
        let column = fact.column(self.key);
        let keys = self.keys.convert_columns(&[cast(column, &self.key_type)?])?;
        let found = |(i, key): (usize, arrow::row::Row<'_>)| {
            // NULL is equal to nothing.
            let rows = self.by_key.get(&key.owned()).filter(|_| column.is_valid(i))?;
            let newer = rows.partition_point(|(from, _)| *from <= times[i]);
            newer.checked_sub(1).map(|k| rows[k].1)
        };
        Ok(keys.iter().enumerate().map(found).collect())
    }

    /// What decides its rows, for the version of a view.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:?}", self.table.rows)
    }
}

/// The joined row of signals as far as it is known before anything changes with time: columns of slowly
/// changing tables are left NULL.
pub(crate) fn with_references(source: &Source, fact: &RecordBatch) -> Result<RecordBatch, FeatureError> {
    let wrong = |e: arrow::error::ArrowError| FeatureError::compute(&source.table)(e.into());
    if source.origins.len() == fact.num_columns() {
        return Ok(fact.clone());
    }
    let times = fact
        .column_by_name("time")
        .map(|c| c.as_primitive::<TimestampMillisecondType>().values().to_vec())
        .unwrap_or_default();
    let mut picks = Vec::with_capacity(source.references.len());
    for r in &source.references {
        picks.push(r.pick(fact, &times).map_err(wrong)?);
    }
    joined(source, fact.num_rows(), |_, origin| match origin {
        Origin::Fact(i) => Ok(Some(fact.column(*i).clone())),
        Origin::Reference(r, c) => {
            take(source.references[*r].table.rows.column(*c), &picks[*r], None).map(Some).map_err(wrong)
        }
        Origin::Context(..) => Ok(None),
    })
}

/// A joined row of columns by origin; what is not there is NULL without a type, and never looked at.
pub(crate) fn joined(
    source: &Source,
    rows: usize,
    column: impl Fn(usize, &Origin) -> Result<Option<ArrayRef>, FeatureError>,
) -> Result<RecordBatch, FeatureError> {
    let mut fields = Vec::with_capacity(source.origins.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(source.origins.len());
    for (i, (origin, field)) in source.origins.iter().zip(source.joined.fields()).enumerate() {
        let found = column(i, origin)?.unwrap_or_else(|| Arc::new(NullArray::new(rows)));
        fields.push(Field::new(field.name(), found.data_type().clone(), true));
        columns.push(found);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| FeatureError::compute(&source.table)(e.into()))
}
