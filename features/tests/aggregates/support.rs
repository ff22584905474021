//! Rows to aggregate, and aggregates as the engine lowers them.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMillisecondArray, UInt32Array, UInt64Array,
    },
    compute::take,
};
use datafusion::{
    common::{Column, DFSchema},
    logical_expr::{Expr, GroupsAccumulator, LogicalPlan, SortExpr},
    physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder},
    prelude::SessionContext,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use rand::Rng;

/// Rows of columns of every kind; `wide` draws from so many different values that sketches leave their exact
/// beginnings.
pub fn rows(rng: &mut impl Rng, count: usize, wide: bool) -> RecordBatch {
    let span = if wide { 100_000 } else { 12 };
    let mut null = |share: f64| (0..count).map(|_| !rng.random_bool(share)).collect::<Vec<bool>>();
    let (has_i, has_f, has_t) = (null(0.1), null(0.2), null(0.2));
    let mut ints = |from: i64, to: i64| (0..count).map(|_| rng.random_range(from..to)).collect::<Vec<_>>();
    let (i, f, t, u) = (ints(-span, span), ints(-span, span), ints(0, span), ints(0, span));
    let (at, time, source) = (ints(-40, 400), ints(0, 50), ints(0, 3));
    let some = |has: &[bool], k: usize| has[k];
    let zone = |a: TimestampMillisecondArray| a.with_timezone("+00:00");
    let floats = (0..count).map(|k| {
        some(&has_f, k).then(|| match f[k] {
            -1 => f64::NAN,
            0 if k % 2 == 0 => -0.0,
            n => n as f64 / 8.0,
        })
    });
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("time", Arc::new(zone(time.iter().map(|ms| Some(*ms)).collect()))),
        ("source", Arc::new(source.iter().map(|s| Some(format!("s{s}"))).collect::<StringArray>())),
        ("id", Arc::new((0..count).map(|k| Some(format!("{}", k * 7919 % 10_007))).collect::<StringArray>())),
        ("i", Arc::new((0..count).map(|k| some(&has_i, k).then(|| i[k])).collect::<Int64Array>())),
        ("f", Arc::new(floats.collect::<Float64Array>())),
        (
            "t",
            Arc::new(
                (0..count).map(|k| some(&has_t, k).then(|| format!("ż{}", t[k]))).collect::<StringArray>(),
            ),
        ),
        ("b", Arc::new((0..count).map(|k| some(&has_i, k).then(|| t[k] % 2 == 0)).collect::<BooleanArray>())),
        ("u", Arc::new(u.iter().map(|n| Some(u64::MAX - *n as u64)).collect::<UInt64Array>())),
        (
            "at",
            Arc::new(zone((0..count).map(|k| some(&has_f, k).then(|| at[k] * 43_200_000 + t[k])).collect())),
        ),
        ("keep", Arc::new(u.iter().map(|n| (n % 5 != 0).then_some(n % 3 != 0)).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

/// An aggregate as the engine would lower it, and its argument columns.
pub fn lower(sql: &str, batch: &RecordBatch) -> (Arc<AggregateFunctionExpr>, Vec<ArrayRef>) {
    let ctx = SessionContext::new();
    features::aggregates::register(&ctx);
    lower_in(&ctx, sql, batch)
}

pub fn lower_in(
    ctx: &SessionContext,
    sql: &str,
    batch: &RecordBatch,
) -> (Arc<AggregateFunctionExpr>, Vec<ArrayRef>) {
    ctx.register_batch("signals", batch.clone()).unwrap();
    let state = ctx.state();
    let plan =
        futures::executor::block_on(state.create_logical_plan(&format!("SELECT {sql} AS x FROM signals")))
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    let LogicalPlan::Projection(top) = plan else { panic!("{sql} is no projection") };
    let LogicalPlan::Aggregate(aggregate) = top.input.as_ref() else { panic!("{sql} is no aggregate") };
    let Expr::AggregateFunction(mut f) = aggregate.aggr_expr[0].clone().unalias() else { panic!("{sql}") };
    let by_time = ["first_value", "last_value", "first_n", "last_n", "array_agg"];
    if by_time.contains(&f.func.name()) {
        f.params.order_by = ["time", "source", "id"]
            .map(|c| SortExpr::new(Expr::Column(Column::from_name(c)), true, false))
            .into();
    }
    let schema = DFSchema::try_from(batch.schema()).unwrap();
    let unqualified = f.params.args.iter().map(|a| strip(a.clone())).collect();
    f.params.args = unqualified;
    for o in &mut f.params.order_by {
        o.expr = strip(o.expr.clone());
    }
    let arrow_schema = batch.schema();
    let planning = Default::default();
    let e = Expr::AggregateFunction(f);
    let lowered =
        LoweredAggregateBuilder::new(&e, &schema, &arrow_schema, state.execution_props(), &planning)
            .with_name(sql)
            .build()
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let e = lowered.aggregate;
    let orderings = e.order_bys().iter().map(|o| o.expr.clone());
    let columns = e.expressions().into_iter().chain(orderings);
    let columns = columns.map(|c| c.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap()).collect();
    (e, columns)
}

fn strip(e: Expr) -> Expr {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let unqualify = |e: Expr| {
        Ok(match e {
            Expr::Column(c) => Transformed::yes(Expr::Column(Column::from_name(c.name))),
            other => Transformed::no(other),
        })
    };
    e.transform(unqualify).unwrap().data
}

pub fn accumulator(e: &Arc<AggregateFunctionExpr>, rowwise: bool) -> Box<dyn GroupsAccumulator> {
    if e.groups_accumulator_supported() && !rowwise {
        e.create_groups_accumulator().unwrap()
    } else {
        let e = e.clone();
        Box::new(GroupsAccumulatorAdapter::new(move || e.create_accumulator()))
    }
}

pub fn pick(columns: &[ArrayRef], rows: &[u32]) -> Vec<ArrayRef> {
    let rows = UInt32Array::from(rows.to_vec());
    columns.iter().map(|c| take(c, &rows, None).unwrap()).collect()
}
