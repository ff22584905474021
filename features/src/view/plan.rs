//! Plans a view's SELECT with DataFusion and takes the plan apart: a filter and argument expressions over
//! signals, aggregates over those, and expressions over the aggregates.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    common::{
        Column, DFSchema, DFSchemaRef,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::MemTable,
    error::DataFusionError,
    execution::context::{SessionConfig, SessionContext},
    functions_aggregate::first_last::{first_value_udaf, last_value_udaf},
    logical_expr::{
        Expr, LogicalPlan, SortExpr, Volatility, expr::AggregateFunction, simplify::SimplifyContext,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder},
        create_physical_expr,
    },
};
use ingest::catalogue::Catalogue;

use super::parse::Definition;
use crate::error::FeatureError;

/// Aggregates a view may use: those whose state merges and whose value no order of arrival can change.
const AGGREGATES: [&str; 19] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "first",
    "last",
    "first_value",
    "last_value",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
];

/// One aggregate of a view.
#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub expr: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// A SELECT taken apart.
#[derive(Debug)]
pub(crate) struct SelectPlan {
    /// Table it reads.
    pub table: String,
    /// Schema of that table.
    pub input: SchemaRef,
    /// WHERE, all conditions of which must hold.
    pub filters: Vec<Arc<dyn PhysicalExpr>>,
    pub aggregates: Vec<Aggregate>,
    /// Whether an aggregate looks at the order of events.
    pub ordered: bool,
    /// Name and expression over the aggregates' results, entity left out.
    pub outputs: Vec<(String, Arc<dyn PhysicalExpr>)>,
    /// Schema those expressions read: the aggregates in order.
    pub results: SchemaRef,
}

/// A planning session that knows every signal table and nothing else.
pub(crate) fn session(catalogue: &Catalogue) -> Result<SessionContext, FeatureError> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.collect_spans = true;
    // Strings stay Utf8 as the catalogue declares them.
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let ctx = SessionContext::new_with_config(config);
    let wrong = FeatureError::compute("registering signal tables");
    for t in catalogue.types() {
        let table = MemTable::try_new(t.schema.clone(), vec![vec![]]).map_err(&wrong)?;
        ctx.register_table(t.table.as_str(), Arc::new(table)).map_err(&wrong)?;
    }
    ctx.register_udaf((*first_value_udaf()).clone().with_aliases(["first"]));
    ctx.register_udaf((*last_value_udaf()).clone().with_aliases(["last"]));
    Ok(ctx)
}

/// Plans the SELECT of a definition.
pub(crate) fn plan(ctx: &SessionContext, d: &Definition) -> Result<SelectPlan, FeatureError> {
    // Moved to its place in the file, so that every location DataFusion reports is the file's own.
    let (line, column) = d.select_at;
    let mut sql = "\n".repeat(line as usize - 1);
    sql.push_str(&" ".repeat(column as usize - 1));
    sql.push_str(&d.select);

    let state = ctx.state();
    let planned = futures::executor::block_on(state.create_logical_plan(&sql)).map_err(|e| located(d, &e))?;
    let analysed = state
        .analyzer()
        .execute_and_check(planned, state.config_options(), |_, _| {})
        .map_err(|e| located(d, &e))?;
    TakeApart { d, ctx }.select(analysed)
}

struct TakeApart<'a> {
    d: &'a Definition,
    ctx: &'a SessionContext,
}

impl TakeApart<'_> {
    fn refuse<T>(&self, message: impl Into<String>) -> Result<T, FeatureError> {
        let (line, column) = self.d.select_at;
        Err(FeatureError::Definition { file: self.d.file.clone(), line, column, message: message.into() })
    }

    fn select(&self, plan: LogicalPlan) -> Result<SelectPlan, FeatureError> {
        let LogicalPlan::Projection(top) = plan else {
            return self.refuse(format!(
                "a feature view is a SELECT … FROM one table [WHERE …] GROUP BY {}; it has no ORDER BY, LIMIT, \
                 DISTINCT, HAVING or UNION (found {})",
                self.d.entity,
                plan.display()
            ));
        };
        let LogicalPlan::Aggregate(aggregate) = top.input.as_ref() else {
            return self.refuse(match top.input.as_ref() {
                LogicalPlan::Filter(_) => {
                    "HAVING has no meaning in a feature view: every entity has a value; leave it out"
                        .to_owned()
                }
                _ => format!("the SELECT aggregates nothing; add aggregates and GROUP BY {}", self.d.entity),
            });
        };
        for e in top.expr.iter().chain(&aggregate.aggr_expr) {
            self.stable(e)?;
        }
        let (table, input, df_input, filters) = self.input(&aggregate.input)?;

        let [Expr::Column(group)] = &aggregate.group_expr[..] else {
            return self.refuse(format!("GROUP BY must name {} alone", self.d.entity));
        };
        if group.name != "subject" {
            return self.refuse(format!(
                "the entity must be the signal's subject (`subject AS {}`): the log is partitioned by it, so no other \
                 column's signals meet in one place; found `{}`",
                self.d.entity, group.name
            ));
        }

        let mut aggregates = Vec::new();
        let mut ordered = false;
        for e in &aggregate.aggr_expr {
            let (e, by_time) = self.aggregate(e, &df_input)?;
            ordered |= by_time;
            aggregates.push(self.lower(&e, &df_input, &input)?);
        }

        let entity_column =
            Column::from((aggregate.schema.qualified_field(0).0, aggregate.schema.qualified_field(0).1));
        let mut outputs = Vec::new();
        let mut entity_named = false;
        let results_df = Arc::new(self.results_schema(&aggregate.schema)?);
        for (i, e) in top.expr.iter().enumerate() {
            let name = top.schema.field(i).name().clone();
            if e.clone().unalias() == Expr::Column(entity_column.clone()) {
                if name != self.d.entity {
                    return self.refuse(format!(
                        "the entity's column is called `{name}`; write subject AS {}",
                        self.d.entity
                    ));
                }
                entity_named = true;
                continue;
            }
            if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
                return self.refuse(format!("`{name}` needs a name: write {name} AS some_name (lower case)"));
            }
            if outputs.iter().any(|(n, _)| *n == name) {
                return self.refuse(format!("two columns are called `{name}`"));
            }
            outputs.push((name, self.physical(e, &results_df)?));
        }
        if !entity_named {
            return self.refuse(format!("the SELECT must begin with subject AS {}", self.d.entity));
        }
        if outputs.is_empty() {
            return self.refuse("the SELECT has no feature; add an aggregate such as count(*) AS n");
        }
        let results = Arc::new(results_df.as_arrow().clone());
        Ok(SelectPlan { table, input, filters, aggregates, ordered, outputs, results })
    }

    /// Schema of the aggregates' results: the aggregate node's without its group column.
    fn results_schema(&self, schema: &DFSchemaRef) -> Result<DFSchema, FeatureError> {
        let fields = schema.iter().skip(1).map(|(q, f)| (q.cloned(), f.clone())).collect();
        DFSchema::new_with_metadata(fields, Default::default()).map_err(|e| located(self.d, &e))
    }

    /// Follows the input down to its table, collecting filters.
    #[allow(clippy::type_complexity)]
    fn input(
        &self,
        plan: &LogicalPlan,
    ) -> Result<(String, SchemaRef, DFSchemaRef, Vec<Arc<dyn PhysicalExpr>>), FeatureError> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let schema = scan.source.schema();
                Ok((scan.table_name.table().to_owned(), schema, scan.projected_schema.clone(), Vec::new()))
            }
            LogicalPlan::Filter(f) => {
                self.stable(&f.predicate)?;
                let (table, schema, df, mut filters) = self.input(&f.input)?;
                filters.push(self.physical(&f.predicate, &df)?);
                Ok((table, schema, df, filters))
            }
            LogicalPlan::SubqueryAlias(a) if matches!(a.input.as_ref(), LogicalPlan::TableScan(_)) => {
                let (table, schema, _, filters) = self.input(&a.input)?;
                Ok((table, schema, a.schema.clone(), filters))
            }
            LogicalPlan::Join(_) => {
                self.refuse("a feature view reads one signal table; joins are not supported")
            }
            other => self.refuse(format!(
                "a feature view reads one signal table directly; subqueries are not supported (found {})",
                other.display()
            )),
        }
    }

    /// Refuses what would give another answer tomorrow for the same signals.
    fn stable(&self, e: &Expr) -> Result<(), FeatureError> {
        let mut found = None;
        let walked = e.apply(|e| {
            Ok(match e {
                Expr::ScalarFunction(f) if f.func.signature().volatility != Volatility::Immutable => {
                    found = Some(format!(
                        "{}() changes by itself, so the same signals would give different values; features may use \
                         columns of the signal (such as time) only",
                        f.func.name()
                    ));
                    TreeNodeRecursion::Stop
                }
                Expr::WindowFunction(_) => {
                    found = Some("window functions (OVER) are not supported; the view's WINDOWS do that".to_owned());
                    TreeNodeRecursion::Stop
                }
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                    found = Some("subqueries are not supported in a feature view".to_owned());
                    TreeNodeRecursion::Stop
                }
                _ => TreeNodeRecursion::Continue,
            })
        });
        walked.map_err(|e| located(self.d, &e))?;
        found.map_or(Ok(()), |m| self.refuse(m))
    }

    /// Checks one aggregate; order-sensitive ones are given the total order (time, source, id).
    fn aggregate(&self, e: &Expr, input: &DFSchemaRef) -> Result<(Expr, bool), FeatureError> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = e.clone().unalias() else {
            return self.refuse(format!("`{e}` is no aggregate"));
        };
        let name = func.name().to_owned();
        if !AGGREGATES.contains(&name.as_str()) {
            return self.refuse(format!(
                "the aggregate {name} is not supported; there are {}",
                AGGREGATES.join(", ")
            ));
        }
        if params.distinct && name != "count" {
            return self.refuse(format!("{name}(DISTINCT …) is not supported; count(DISTINCT …) is"));
        }
        let mut params = params;
        params.args = params.args.into_iter().map(|a| self.simplified(a, input)).collect::<Result<_, _>>()?;
        params.filter = params.filter.map(|f| self.simplified(*f, input).map(Box::new)).transpose()?;
        let by_time = matches!(name.as_str(), "first_value" | "last_value");
        if by_time {
            if !params.order_by.is_empty() {
                return self.refuse(format!("{name} goes by event time; leave its ORDER BY out"));
            }
            params.order_by = ["time", "source", "id"]
                .map(|c| SortExpr::new(Expr::Column(Column::from_name(c)), true, false))
                .into();
        } else if !params.order_by.is_empty() {
            return self.refuse(format!("ORDER BY inside {name} changes nothing; leave it out"));
        }
        Ok((Expr::AggregateFunction(AggregateFunction { func, params }), by_time))
    }

    fn lower(&self, e: &Expr, df_input: &DFSchema, input: &SchemaRef) -> Result<Aggregate, FeatureError> {
        let state = self.ctx.state();
        let planning = Default::default();
        let lowered = LoweredAggregateBuilder::new(e, df_input, input, state.execution_props(), &planning)
            .with_name(e.schema_name().to_string())
            .build()
            .map_err(|e| located(self.d, &e))?;
        Ok(Aggregate { expr: lowered.aggregate, filter: lowered.filter })
    }

    fn physical(&self, e: &Expr, schema: &DFSchemaRef) -> Result<Arc<dyn PhysicalExpr>, FeatureError> {
        let state = self.ctx.state();
        let e = self.simplified(e.clone(), schema)?;
        create_physical_expr(&e, schema, state.execution_props(), &Default::default())
            .map_err(|e| located(self.d, &e))
    }

    /// Some functions (coalesce, for one) exist only for the simplifier to replace.
    fn simplified(&self, e: Expr, schema: &DFSchemaRef) -> Result<Expr, FeatureError> {
        let context = SimplifyContext::builder().with_schema(schema.clone()).build();
        ExprSimplifier::new(context).simplify(e).map_err(|e| located(self.d, &e))
    }
}

/// A DataFusion error with the place it happened at, if DataFusion knows it, else the SELECT's.
fn located(d: &Definition, e: &DataFusionError) -> FeatureError {
    let mut at = d.select_at;
    let mut message = e.strip_backtrace();
    if let Some(diagnostic) = e.diagnostic() {
        if let Some(span) = diagnostic.span {
            at = (span.start.line, span.start.column);
        }
        message.clone_from(&diagnostic.message);
        for hint in
            diagnostic.notes.iter().map(|n| &n.message).chain(diagnostic.helps.iter().map(|h| &h.message))
        {
            message.push_str("; ");
            message.push_str(hint);
        }
    }
    if let Some((text, line, column)) = parser_location(&message) {
        at = (line, column);
        message = text;
    }
    FeatureError::Definition { file: d.file.clone(), line: at.0, column: at.1, message }
}

/// The parser writes its place into the message: `… at Line: 3, Column: 5`.
fn parser_location(message: &str) -> Option<(String, u64, u64)> {
    let (text, rest) = message.split_once(" at Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((text.to_owned(), line.parse().ok()?, digits.parse().ok()?))
}

/// The Arrow type values of an output are kept in; `None` when it cannot be a feature value.
pub(crate) fn canonical(t: &DataType) -> Option<DataType> {
    use DataType::*;
    Some(match t {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Int64,
        Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
            Float64
        }
        Boolean => Boolean,
        Utf8 | LargeUtf8 | Utf8View => Utf8,
        Timestamp(..) | Date32 | Date64 => {
            Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("+00:00".into()))
        }
        Null => Int64,
        _ => return None,
    })
}
