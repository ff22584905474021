//! Plans a view's SELECT with DataFusion and takes the plan apart: a filter and argument expressions over
//! signals, aggregates over those, and expressions over the aggregates.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::{
    common::{
        Column, DFSchema, DFSchemaRef,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::MemTable,
    error::DataFusionError,
    execution::context::{SessionConfig, SessionContext},
    logical_expr::{
        Expr, ExprSchemable, LogicalPlan, ScalarUDF, SortExpr, Volatility, expr::AggregateFunction,
        simplify::SimplifyContext,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder},
        create_physical_expr,
    },
};
use ingest::catalogue::Catalogue;

use super::{
    parse::Definition,
    source::{ReferenceTable, Source},
    time::{self, AS_OF, ZONE},
    window::Span,
};
use crate::{aggregates, error::FeatureError, udf::is_user_aggregate};

/// Its value depends on the day: the planner adds the day to its outputs.
const STREAK: &str = "streak";

/// One aggregate of a view.
#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub expr: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// A SELECT taken apart.
#[derive(Debug)]
pub(crate) struct SelectPlan {
    /// What it reads.
    pub source: Source,
    /// Which of the source's slowly changing tables tells of time zones, if one is needed.
    pub zone: Option<usize>,
    /// WHERE, all conditions of which must hold.
    pub filters: Vec<Arc<dyn PhysicalExpr>>,
    pub aggregates: Vec<Aggregate>,
    /// The same as written, types resolved: what another engine is told.
    pub calls: Vec<AggregateFunction>,
    /// Whether an aggregate looks at the order of events.
    pub ordered: bool,
    /// Whether an output changes with every instant.
    pub ages: bool,
    /// Name and expression over the aggregates' results, entity left out.
    pub outputs: Vec<(String, Arc<dyn PhysicalExpr>)>,
    /// Schema those expressions read: the aggregates in order, then [`AS_OF`] and [`ZONE`].
    pub results: SchemaRef,
}

/// A planning session that knows every signal table, the reference tables, and nothing else.
pub(crate) fn session(
    catalogue: &Catalogue,
    tables: &[ReferenceTable],
) -> Result<SessionContext, FeatureError> {
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
    for t in tables {
        if catalogue.by_table(&t.name).is_some() {
            return Err(FeatureError::Request(format!(
                "the reference table {} has the name of a signal table; rename its file",
                t.name
            )));
        }
        let table = MemTable::try_new(t.rows.schema(), vec![vec![]]).map_err(&wrong)?;
        ctx.register_table(t.name.as_str(), Arc::new(table)).map_err(&wrong)?;
    }
    time::functions().into_iter().for_each(|f| ctx.register_udf(f));
    aggregates::register(&ctx);
    Ok(ctx)
}

/// Plans the SELECT of a definition.
pub(crate) fn plan(
    ctx: &SessionContext,
    tables: &[ReferenceTable],
    d: &Definition,
) -> Result<SelectPlan, FeatureError> {
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
    TakeApart { d, ctx, tables }.select(analysed)
}

struct TakeApart<'a> {
    d: &'a Definition,
    ctx: &'a SessionContext,
    tables: &'a [ReferenceTable],
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
        for e in &top.expr {
            self.stable(e, true)?;
        }
        for e in &aggregate.aggr_expr {
            self.stable(e, false)?;
        }
        let mut source = match Source::of(&aggregate.input, self.tables) {
            Ok(source) => source,
            Err(reason) => return self.refuse(reason),
        };
        for f in &source.filters {
            self.stable(f, false)?;
        }
        let own = |name| source.own_column(name).map(Expr::Column);
        let [Expr::Column(group)] = &aggregate.group_expr[..] else {
            return self.refuse(format!("GROUP BY must name {} alone", self.d.entity));
        };
        if own("subject") != Some(Expr::Column(group.clone())) {
            return self.refuse(format!(
                "the entity must be the signal's subject (`subject AS {}`): the log is partitioned by it, so no other \
                 column's signals meet in one place; found `{}`",
                self.d.entity, group.name
            ));
        }
        let order: Vec<Expr> = ["time", "source", "id"].into_iter().filter_map(own).collect();
        let zone = self.zone(&mut source, &aggregate.aggr_expr, &top.expr)?;
        let mut filters = Vec::new();
        for f in &source.filters {
            filters.push(self.physical(&self.with_zone(f.clone(), &source.joined)?, &source.joined)?);
        }

        let mut aggregates = Vec::new();
        let mut calls = Vec::new();
        let mut ordered = false;
        for e in &aggregate.aggr_expr {
            if let Expr::AggregateFunction(call) = e.clone().unalias() {
                calls.push(call);
            }
            let (e, by_time) =
                self.aggregate(&self.with_zone(e.clone(), &source.joined)?, &source.joined, &order)?;
            ordered |= by_time;
            aggregates.push(self.lower(&e, &source.joined)?);
        }

        let entity_column =
            Column::from((aggregate.schema.qualified_field(0).0, aggregate.schema.qualified_field(0).1));
        let mut outputs = Vec::new();
        let mut entity_named = false;
        let results_df = Arc::new(self.results_schema(&aggregate.schema)?);
        let mut ages = false;
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
            let (e, uses_instant) = self.output(e, &aggregate.aggr_expr, &results_df)?;
            ages |= uses_instant;
            outputs.push((name, self.physical(&e, &results_df)?));
        }
        if !entity_named {
            return self.refuse(format!("the SELECT must begin with subject AS {}", self.d.entity));
        }
        if outputs.is_empty() {
            return self.refuse("the SELECT has no feature; add an aggregate such as count(*) AS n");
        }
        let results = Arc::new(results_df.as_arrow().clone());
        Ok(SelectPlan { source, zone, filters, aggregates, calls, ordered, ages, outputs, results })
    }

    /// Schema of the aggregates' results: the aggregate node's without its group column, then the instant and
    /// the time zone.
    fn results_schema(&self, schema: &DFSchemaRef) -> Result<DFSchema, FeatureError> {
        let mut fields: Vec<_> = schema.iter().skip(1).map(|(q, f)| (q.cloned(), f.clone())).collect();
        fields.push((None, Arc::new(Field::new(AS_OF, time::instant_type(), true))));
        fields.push((None, Arc::new(Field::new(ZONE, DataType::Utf8, true))));
        DFSchema::new_with_metadata(fields, Default::default()).map_err(|e| located(self.d, &e))
    }

    /// Puts the person's time zone beside the signals where the view needs it; the number of its table.
    fn zone(
        &self,
        source: &mut Source,
        aggregates: &[Expr],
        outputs: &[Expr],
    ) -> Result<Option<usize>, FeatureError> {
        let mut needed = self.d.windows.iter().any(|w| matches!(w.span, Span::Calendar(_)));
        for e in aggregates.iter().chain(outputs).chain(&source.filters) {
            let local = |e: &Expr| {
                Ok(calls(e, "local_time")
                    || matches!(e, Expr::AggregateFunction(a) if a.func.name() == STREAK))
            };
            needed |= e.exists(local).map_err(|e| located(self.d, &e))?;
        }
        if !needed {
            return Ok(None);
        }
        let (table, column) = time::ZONE_SOURCE;
        let schema = futures::executor::block_on(self.ctx.table_provider(table))
            .map_err(|e| located(self.d, &e))?
            .schema();
        let Ok(column) = schema.index_of(column) else {
            return self.refuse(format!("time zones come from {table}.{column}, which is not declared"));
        };
        match source.add_newest(ZONE, table, &schema, column) {
            Ok(number) => Ok(Some(number)),
            Err(reason) => self.refuse(reason),
        }
    }

    /// `local_time(t)` with the person's zone for a second argument; a streak counts local days.
    fn with_zone(&self, e: Expr, schema: &DFSchema) -> Result<Expr, FeatureError> {
        let zone = || Expr::Column(Column::new_unqualified(ZONE));
        let changed = e.transform(|e| {
            Ok(match e {
                Expr::ScalarFunction(mut f) if f.func.name() == "local_time" && f.args.len() == 1 => {
                    f.args.push(zone());
                    Transformed::yes(Expr::ScalarFunction(f))
                }
                // A streak counts local days; a date is one already, and so is a time without a zone.
                Expr::AggregateFunction(mut a) if a.func.name() == STREAK => {
                    let local = self.function("local_time")?;
                    for t in &mut a.params.args {
                        if matches!(t.get_type(schema)?, DataType::Timestamp(_, Some(_))) {
                            *t = local.call(vec![t.clone(), zone()]);
                        }
                    }
                    Transformed::yes(Expr::AggregateFunction(a))
                }
                e => Transformed::no(e),
            })
        });
        changed.map(|t| t.data).map_err(|e| located(self.d, &e))
    }

    fn function(&self, name: &str) -> Result<Arc<ScalarUDF>, DataFusionError> {
        let state = self.ctx.state_ref();
        let found = state.read().scalar_functions().get(name).cloned();
        found.ok_or_else(|| DataFusionError::Plan(format!("there is no function {name}")))
    }

    /// An output with the instant for `as_of()`, and whether it changes with it.
    fn output(
        &self,
        e: &Expr,
        aggregates: &[Expr],
        results: &DFSchemaRef,
    ) -> Result<(Expr, bool), FeatureError> {
        let mut ages = false;
        let instant = || Expr::Column(Column::new_unqualified(AS_OF));
        let is_streak = |c: &Column| {
            let of = results.maybe_index_of_column(c).and_then(|i| aggregates.get(i));
            of.is_some_and(
                |a| matches!(a.clone().unalias(), Expr::AggregateFunction(a) if a.func.name() == STREAK),
            )
        };
        let changed = e.clone().transform(|e| {
            Ok(match e {
                Expr::ScalarFunction(f) if f.func.name() == "as_of" => {
                    ages = true;
                    Transformed::yes(instant())
                }
                // What the aggregate gives is the last run of days; today decides whether it still counts.
                Expr::Column(c) if is_streak(&c) => {
                    ages = true;
                    let zone = Expr::Column(Column::new_unqualified(ZONE));
                    let today = self.function("local_time")?.call(vec![instant(), zone]);
                    let now = self.function("streak_now")?.call(vec![Expr::Column(c), today]);
                    Transformed::new(now, true, TreeNodeRecursion::Jump)
                }
                e => Transformed::no(e),
            })
        });
        let e = changed.map(|t| t.data).map_err(|e| located(self.d, &e))?;
        Ok((self.with_zone(e, results)?, ages))
    }

    /// Refuses what would give another answer tomorrow for the same signals.
    fn stable(&self, e: &Expr, output: bool) -> Result<(), FeatureError> {
        let mut found = None;
        let walked = e.apply(|e| {
            Ok(match e {
                Expr::ScalarFunction(f) if f.func.name() == "as_of" => {
                    if !output {
                        found = Some(
                            "as_of() changes with every instant, so it cannot decide what a signal is worth; use it outside \
                             of the aggregates, as in as_of() - max(time)"
                                .to_owned(),
                        );
                    }
                    TreeNodeRecursion::Continue
                }
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
    fn aggregate(&self, e: &Expr, input: &DFSchemaRef, order: &[Expr]) -> Result<(Expr, bool), FeatureError> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = e.clone().unalias() else {
            return self.refuse(format!("`{e}` is no aggregate"));
        };
        let name = func.name().to_owned();
        let of_a_user = is_user_aggregate(&func);
        if let Some(reason) = aggregates::refusal(&name).filter(|_| !of_a_user) {
            return self.refuse(reason);
        }
        if params.distinct && name != "count" {
            return self.refuse(format!("{name}(DISTINCT …) is not supported; count(DISTINCT …) is"));
        }
        let mut params = params;
        params.args = params.args.into_iter().map(|a| self.simplified(a, input)).collect::<Result<_, _>>()?;
        params.filter = params.filter.map(|f| self.simplified(*f, input).map(Box::new)).transpose()?;
        let by_time = of_a_user || aggregates::by_time(&name);
        if by_time {
            if !params.order_by.is_empty() {
                return self.refuse(format!("{name} goes by event time; leave its ORDER BY out"));
            }
            params.order_by = order.iter().map(|c| SortExpr::new(c.clone(), true, false)).collect();
        } else if !params.order_by.is_empty() && !func.supports_within_group_clause() {
            return self.refuse(format!("ORDER BY inside {name} changes nothing; leave it out"));
        }
        Ok((Expr::AggregateFunction(AggregateFunction { func, params }), by_time))
    }

    fn lower(&self, e: &Expr, input: &DFSchemaRef) -> Result<Aggregate, FeatureError> {
        let state = self.ctx.state();
        let planning = Default::default();
        let lowered =
            LoweredAggregateBuilder::new(e, input, input.as_arrow(), state.execution_props(), &planning)
                .with_name(e.schema_name().to_string())
                .build()
                .map_err(|e| located(self.d, &e))?;
        // Arguments are checked when it is made.
        lowered.aggregate.create_accumulator().map_err(|e| located(self.d, &e))?;
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

fn calls(e: &Expr, function: &str) -> bool {
    matches!(e, Expr::ScalarFunction(f) if f.func.name() == function)
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
    if let Some(name) = unknown_function(&message) {
        let hint = format!("; a function of your own is added with `kairos udf add {name}.rs`");
        message.push_str(&hint);
    }
    if let Some((text, line, column)) = parser_location(&message) {
        at = (line, column);
        message = text;
    }
    FeatureError::Definition { file: d.file.clone(), line: at.0, column: at.1, message }
}

/// Name in DataFusion's `Invalid function 'name'`.
fn unknown_function(message: &str) -> Option<String> {
    let (name, _) = message.split_once("Invalid function '")?.1.split_once('\'')?;
    Some(name.to_owned())
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
        // The difference of two instants, in milliseconds.
        Duration(arrow::datatypes::TimeUnit::Millisecond) => Int64,
        Null => Int64,
        List(item) | LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => {
            match canonical(item.data_type())? {
                List(_) => return None,
                item => List(Arc::new(Field::new_list_field(item, true))),
            }
        }
        _ => return None,
    })
}
