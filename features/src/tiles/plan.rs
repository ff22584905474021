//! Which columns a tile needs for each aggregate, and which views tiles cannot hold.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::{
    common::DFSchema,
    logical_expr::{Expr, ExprSchemable, expr::AggregateFunction},
};

use super::{Column, ColumnKind, Tiling, text};
use crate::{
    udf::is_user_aggregate,
    view::{Definition, Span, plan::SelectPlan},
};

/// Columns of every signal table that Arroyo knows without looking into a signal's data.
const ENVELOPE: [&str; 4] = ["id", "source", "subject", "time"];
/// Those that only the log and its door know.
const OF_THE_LOG: [&str; 3] = ["received_at", "partition", "offset"];
/// Names that the SQL around a view's own uses.
const TAKEN: [&str; 1] = ["window"];

/// Aggregates of two columns whose state is made of moments.
const REGRESSIONS: [&str; 9] = [
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
];

/// What a value is, whatever its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Int,
    Float,
    Text,
    Bool,
    /// Milliseconds.
    Time,
}

/// How an aggregate comes from columns of tiles, which are named by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Merge {
    /// They are the state of the embedded engine's accumulator, in its order. A tile with a NULL says nothing.
    State(Vec<usize>),
    /// The column's values are aggregated again.
    Values(usize, Shape),
    /// Of floats: rank (minus infinity, finite, infinity, NaN) and value of the best.
    Extreme(usize, usize),
    /// Lists of different values, as text.
    Distinct(usize, Shape),
    /// The greatest (true) or least packed text tells the value.
    Packed(usize, bool, Shape),
}

impl Tiling {
    /// How a view is computed in tiles; an error is the reason why it cannot be, with the way out.
    pub(crate) fn of(d: &Definition, plan: &SelectPlan) -> Result<Tiling, String> {
        if let Some(w) = d.windows.iter().find(|w| !matches!(w.span, Span::Sliding(_))) {
            let why = match w.span {
                Span::Calendar(_) => "begins at the person's own midnight, which differs from tile to tile",
                Span::Session(_) => "needs the gap between every two signals",
                _ => "would keep every tile for good",
            };
            return Err(format!(
                "its window {} {why}; give the view sliding windows (such as 7 DAYS), or keep it on the embedded engine",
                w.label
            ));
        }
        let source = &plan.source;
        if let Some(c) = source.contexts.iter().find(|_| plan.zone.is_none()) {
            return Err(format!(
                "it is joined to {}, whose rows as of each signal Arroyo cannot hold; send the columns with the \
                 signal, or keep the view on the embedded engine",
                c.table
            ));
        }
        if plan.zone.is_some() {
            return Err("it depends on the person's time zone (local_time, streak), which another signal tells; send \
                        the local time with the signal, or keep the view on the embedded engine"
                .to_owned());
        }
        if !source.references.is_empty() {
            return Err(
                "it is joined to a reference table, which Arroyo does not have; send the columns with the \
                        signal, or keep the view on the embedded engine"
                    .to_owned(),
            );
        }
        let mut tiling = Builder {
            schema: &source.joined,
            reads: BTreeSet::new(),
            inputs: Vec::new(),
            columns: Vec::new(),
        };
        let mut filters = Vec::new();
        for f in &source.filters {
            filters.push(tiling.expression(f)?);
        }
        let mut merges = Vec::new();
        for (i, call) in plan.calls.iter().enumerate() {
            merges.push(tiling.aggregate(i, call)?);
        }
        let Builder { reads, inputs, columns, .. } = tiling;
        Ok(Tiling { reads: reads.into_iter().collect(), filters, inputs, columns, merges })
    }
}

struct Builder<'a> {
    schema: &'a DFSchema,
    reads: BTreeSet<String>,
    inputs: Vec<String>,
    columns: Vec<Column>,
}

impl Builder<'_> {
    /// An expression over a signal, whose columns are noted.
    fn expression(&mut self, e: &Expr) -> Result<String, String> {
        for c in e.column_refs() {
            if OF_THE_LOG.contains(&c.name.as_str()) {
                return Err(format!("it uses {}, which only the log knows; use time", c.name));
            }
            if TAKEN.contains(&c.name.as_str()) {
                return Err(format!(
                    "its signal has a field `{}`, a name the tiles' SQL needs; rename it",
                    c.name
                ));
            }
            if !ENVELOPE.contains(&c.name.as_str()) {
                self.reads.insert(c.name.clone());
            }
        }
        text::of(e)
    }

    /// The name of an input.
    fn input(&mut self, sql: String) -> String {
        let known = self.inputs.iter().position(|i| *i == sql);
        let number = known.unwrap_or_else(|| {
            self.inputs.push(sql);
            self.inputs.len() - 1
        });
        format!("x{number}")
    }

    /// The number of a column; aggregates that need the same share it.
    fn column(&mut self, name: String, kind: ColumnKind, sql: String) -> usize {
        if let Some(known) = self.columns.iter().position(|c| c.sql == sql) {
            return known;
        }
        self.columns.push(Column { name, kind, sql });
        self.columns.len() - 1
    }

    fn aggregate(&mut self, number: usize, call: &AggregateFunction) -> Result<Merge, String> {
        let AggregateFunction { func, params } = call;
        let name = func.name();
        if is_user_aggregate(func) {
            return Err(format!(
                "{name}() is a user aggregate, which sees all signals of a window in order; keep the view on the \
                 embedded engine"
            ));
        }
        let filter = params.filter.as_deref().map(|f| self.expression(f)).transpose()?;
        let only = |value: &str, and: &[&str]| {
            let conditions: Vec<String> =
                filter.iter().map(|f| format!("({f})")).chain(and.iter().map(|c| (*c).to_owned())).collect();
            match &conditions[..] {
                [] => value.to_owned(),
                all => format!("CASE WHEN {} THEN {value} END", all.join(" AND ")),
            }
        };
        let mut arguments = Vec::new();
        for a in &params.args {
            arguments.push((self.expression(a)?, a.get_type(self.schema).map_err(|e| e.to_string())?));
        }
        let shape_of = |t: &DataType| {
            shape(t).ok_or_else(|| {
                format!(
                    "{name}() over values of type {t} has no tile column; cast them to BIGINT, DOUBLE or TEXT"
                )
            })
        };
        let own = format!("a{number}");
        let part = |of: &str| format!("a{number}_{of}");
        use ColumnKind::{Bool, Int, Text, Texts};
        match (name, &arguments[..]) {
            ("count", [(x, t)]) if params.distinct => {
                let shape = shape_of(t)?;
                let x = self.input(only(&format!("({x})"), &[]));
                let sql = format!("array_agg(DISTINCT {})", as_text(&x, shape));
                Ok(Merge::Distinct(self.column(own, Texts, sql), shape))
            }
            ("count", [(x, _)]) => {
                // `count(*)` comes as the count of a constant.
                let constant = matches!(params.args[0], Expr::Literal(..));
                let x = self.input(only(if constant { "1" } else { x }, &[]));
                Ok(Merge::State(vec![self.column(own, Int, format!("count({x})"))]))
            }
            ("sum", [(x, t)]) => match shape_of(t)? {
                Shape::Int => {
                    let x = self.input(only(&format!("CAST({x} AS BIGINT)"), &[]));
                    Ok(Merge::State(vec![self.column(own, Int, format!("sum({x})"))]))
                }
                Shape::Float => {
                    let x = self.input(only(&format!("CAST({x} AS DOUBLE)"), &[]));
                    Ok(Merge::State(vec![self.column(own, Text, float(&format!("sum({x})")))]))
                }
                _ => Err(format!("sum() over values of type {t} has no tile column; cast them to a number")),
            },
            ("avg", [(x, _)]) => {
                let x = self.input(only(&format!("CAST({x} AS DOUBLE)"), &[]));
                let count = self.column(part("count"), Int, format!("count({x})"));
                let sum = self.column(part("sum"), Text, float(&format!("sum({x})")));
                Ok(Merge::State(vec![count, sum]))
            }
            ("min" | "max", [(x, t)]) => match shape_of(t)? {
                Shape::Float => {
                    let x = only(&format!("CAST({x} AS DOUBLE)"), &[]);
                    let rank = self.input(rank(&x));
                    let finite = self.input(format!("CASE WHEN {} = 1 THEN {x} END", self::rank(&x)));
                    let rank = self.column(part("rank"), Int, format!("{name}({rank})"));
                    let value = self.column(own, Text, float(&format!("{name}({finite})")));
                    Ok(Merge::Extreme(rank, value))
                }
                shape => {
                    let x = self.input(only(&plain(x, shape), &[]));
                    let kind = if shape == Shape::Text { Text } else { Int };
                    Ok(Merge::Values(self.column(own, kind, format!("{name}({x})")), shape))
                }
            },
            ("bool_and" | "bool_or", [(x, _)]) => {
                let x = self.input(only(x, &[]));
                Ok(Merge::State(vec![self.column(own, Bool, format!("{name}({x})"))]))
            }
            ("bit_and" | "bit_or" | "bit_xor", [(x, t)])
                if shape_of(t)? == Shape::Int && !params.distinct =>
            {
                let x = self.input(only(&format!("CAST({x} AS BIGINT)"), &[]));
                Ok(Merge::State(vec![self.column(own, Int, format!("{name}({x})"))]))
            }
            ("var" | "var_pop" | "stddev" | "stddev_pop", [(x, _)]) => {
                let x = self.input(only(&format!("CAST({x} AS DOUBLE)"), &[]));
                let count = self.column(part("count"), Int, format!("count({x})"));
                Ok(Merge::State(vec![
                    count,
                    self.mean(part("mean"), &x),
                    self.moment(part("m2"), "var_pop", &x, &x),
                ]))
            }
            (name, [(a, _), (b, _)])
                if name.starts_with("covar") || name == "corr" || REGRESSIONS.contains(&name) =>
            {
                // Pairs count where both are there. A regression is of the first on the second.
                let (a, b) = (format!("CAST({a} AS DOUBLE)"), format!("CAST({b} AS DOUBLE)"));
                let x = self.input(only(&a, &[&format!("{b} IS NOT NULL")]));
                let y = self.input(only(&b, &[&format!("{a} IS NOT NULL")]));
                let count = self.column(part("count"), Int, format!("count({x})"));
                let (mean_x, mean_y) = (self.mean(part("mean_1"), &x), self.mean(part("mean_2"), &y));
                let both = self.moment(part("c"), "covar_pop", &format!("{x}, {y}"), &x);
                if name.starts_with("covar") {
                    return Ok(Merge::State(vec![count, mean_x, mean_y, both]));
                }
                let m2_x = self.moment(part("m2_1"), "var_pop", &x, &x);
                let m2_y = self.moment(part("m2_2"), "var_pop", &y, &y);
                Ok(Merge::State(match name {
                    "corr" => vec![count, mean_x, m2_x, mean_y, m2_y, both],
                    _ => vec![count, mean_y, mean_x, m2_y, m2_x, both],
                }))
            }
            ("first_value" | "last_value", [(x, t)]) => {
                let shape = shape_of(t)?;
                let value = as_text(&plain(x, shape), if shape == Shape::Time { Shape::Int } else { shape });
                let packed = format!("{PLACE} || CASE WHEN ({x}) IS NULL THEN '-' ELSE '+' || {value} END",);
                let x = self.input(only(&packed, &[]));
                let latest = name == "last_value";
                let sql = format!("{}({x})", if latest { "max" } else { "min" });
                Ok(Merge::Packed(self.column(own, Text, sql), latest, shape))
            }
            _ => Err(format!(
                "{name}() has a state that plain aggregates of a minute do not merge into; use count, sum, avg, min, \
                 max, bool_and, bool_or, var, stddev, corr, first, last or count(DISTINCT …), or keep the view on the \
                 embedded engine"
            )),
        }
    }

    fn mean(&mut self, name: String, x: &str) -> usize {
        self.column(name, ColumnKind::Text, float(&format!("avg({x})")))
    }

    /// A central moment: a mean of products times their number.
    fn moment(&mut self, name: String, of: &str, arguments: &str, counted: &str) -> usize {
        let sql = float(&format!("{of}({arguments}) * CAST(count({counted}) AS DOUBLE)"));
        self.column(name, ColumnKind::Text, sql)
    }
}

/// Text that compares as (time, source, id). The door takes no control characters in those, so that U+0001 is less
/// than whatever could go on; times count from the year 1, so that none is negative.
const PLACE: &str = "lpad(CAST(CAST(\"time\" AS BIGINT) + 62135596800000 AS TEXT), 15, '0') || chr(1) || \"source\" \
                     || chr(1) || \"id\" || chr(1)";

fn shape(t: &DataType) -> Option<Shape> {
    use DataType::*;
    Some(match t {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Shape::Int,
        Float16 | Float32 | Float64 => Shape::Float,
        Utf8 | LargeUtf8 | Utf8View => Shape::Text,
        Boolean => Shape::Bool,
        Timestamp(..) | Date32 => Shape::Time,
        _ => return None,
    })
}

/// A value in the type of a column of its own.
fn plain(x: &str, shape: Shape) -> String {
    match shape {
        Shape::Int => format!("CAST({x} AS BIGINT)"),
        Shape::Float => format!("CAST({x} AS DOUBLE)"),
        Shape::Text => format!("({x})"),
        Shape::Bool => format!("CASE WHEN {x} THEN 1 WHEN NOT ({x}) THEN 0 END"),
        Shape::Time => format!("CAST(CAST({x} AS TIMESTAMP(3)) AS BIGINT)"),
    }
}

fn as_text(x: &str, shape: Shape) -> String {
    match shape {
        Shape::Text => x.to_owned(),
        Shape::Time => format!("CAST({} AS TEXT)", plain(x, shape)),
        Shape::Float => format!("CAST(CAST({x} AS DOUBLE) AS TEXT)"),
        Shape::Int | Shape::Bool => format!("CAST({x} AS TEXT)"),
    }
}

fn float(sql: &str) -> String {
    format!("CAST({sql} AS TEXT)")
}

/// 0 for minus infinity, 1 for a finite number, 2 for infinity, 3 for NaN: engines differ in what those are to
/// `min` and `max`.
fn rank(x: &str) -> String {
    format!(
        "CASE WHEN {x} IS NULL THEN NULL WHEN isnan({x}) THEN 3 WHEN {x} = CAST('Infinity' AS DOUBLE) THEN 2 \
         WHEN {x} = CAST('-Infinity' AS DOUBLE) THEN 0 ELSE 1 END"
    )
}
