//! Every aggregate a view may use: any split of its rows into parts, merged in any order, with the states
//! brought through `arrow::row` bytes, gives what one pass gives.
#![allow(clippy::unwrap_used)]

mod oracle;

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMillisecondArray, UInt32Array, UInt64Array,
    },
    compute::{concat, take},
    datatypes::{DataType, Float64Type},
    row::{RowConverter, SortField},
};
use datafusion::{
    common::{Column, DFSchema},
    logical_expr::{EmitTo, Expr, GroupsAccumulator, LogicalPlan, SortExpr},
    physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder},
    prelude::SessionContext,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use proptest::prelude::*;
use rand::{
    Rng, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};

/// Whose parts merge to the very value of one pass.
const EXACT: &[&str] = &[
    "count(*)",
    "count(f)",
    "count(DISTINCT t)",
    "count(DISTINCT f)",
    "count(DISTINCT at)",
    "count(DISTINCT b)",
    "count(DISTINCT i)",
    "sum(i)",
    "min(t)",
    "min(f)",
    "max(f)",
    "max(b)",
    "max(at)",
    "bool_and(b)",
    "bool_or(b)",
    "bit_and(i)",
    "bit_or(i)",
    "bit_xor(i)",
    "first(t)",
    "last(f)",
    "first(f) IGNORE NULLS",
    "last(t) IGNORE NULLS",
    "median(i)",
    "median(f)",
    "percentile_cont(f, 0.3)",
    "regr_count(f, i)",
    "approx_distinct(i)",
    "approx_distinct(u)",
    "approx_distinct(f)",
    "approx_distinct(t)",
    "approx_distinct(b)",
    "approx_distinct(at)",
    "approx_median(f)",
    "approx_median(i)",
    "approx_percentile_cont(f, 0.99)",
    "approx_percentile_cont(0.2) WITHIN GROUP (ORDER BY i DESC)",
    "top_k(t, 3)",
    "top_k(i, 10)",
    "top_k(f, 1)",
    "top_k(b, 2)",
    "top_k(at, 2)",
    "first_n(t, 1)",
    "first_n(i, 7)",
    "last_n(f, 3)",
    "last_n(b, 100)",
    "array_agg(at, 5)",
    "array_agg(t, 4)",
    "streak(at)",
    "streak(CAST(at AS TIMESTAMP))",
    "streak(CAST(at AS DATE))",
];

/// The same but for the last bits of a float.
const NEAR: &[&str] = &[
    "sum(f)",
    "avg(f)",
    "avg(i)",
    "stddev(f)",
    "stddev_pop(f)",
    "var(i)",
    "var_pop(f)",
    "corr(f, i)",
    "covar_samp(f, i)",
    "covar_pop(f, i)",
    "regr_slope(f, i)",
    "regr_intercept(f, i)",
    "regr_r2(f, i)",
    "regr_avgx(f, i)",
    "regr_avgy(f, i)",
    "regr_sxx(f, i)",
    "regr_syy(f, i)",
    "regr_sxy(f, i)",
];

/// Rows of columns of every kind; `wide` draws from so many different values that sketches leave their exact
/// beginnings.
fn rows(rng: &mut impl Rng, count: usize, wide: bool) -> RecordBatch {
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
fn lower(sql: &str, batch: &RecordBatch) -> (Arc<AggregateFunctionExpr>, Vec<ArrayRef>) {
    let ctx = SessionContext::new();
    features::aggregates::register(&ctx);
    lower_in(&ctx, sql, batch)
}

fn lower_in(
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

fn accumulator(e: &Arc<AggregateFunctionExpr>, rowwise: bool) -> Box<dyn GroupsAccumulator> {
    if e.groups_accumulator_supported() && !rowwise {
        e.create_groups_accumulator().unwrap()
    } else {
        let e = e.clone();
        Box::new(GroupsAccumulatorAdapter::new(move || e.create_accumulator()))
    }
}

fn pick(columns: &[ArrayRef], rows: &[u32]) -> Vec<ArrayRef> {
    let rows = UInt32Array::from(rows.to_vec());
    columns.iter().map(|c| take(c, &rows, None).unwrap()).collect()
}

fn through_row_bytes(states: Vec<ArrayRef>) -> Vec<ArrayRef> {
    let types = states.iter().map(|s| SortField::new(s.data_type().clone())).collect();
    let converter = RowConverter::new(types).unwrap();
    let kept: Vec<Vec<u8>> =
        converter.convert_columns(&states).unwrap().iter().map(|r| r.as_ref().to_vec()).collect();
    let parser = converter.parser();
    converter.convert_rows(kept.iter().map(|b| parser.parse(b))).unwrap()
}

/// What the groups' values are in one pass, and through parts.
fn both(sql: &str, rng: &mut impl Rng) -> (ArrayRef, ArrayRef) {
    let count = *[3, 40, 40, 1_000].choose(rng).unwrap();
    let wide = rng.random_bool(0.5);
    let batch = rows(rng, count, wide);
    let (e, columns) = lower(sql, &batch);
    let groups = rng.random_range(1..4usize);
    // Every group has a row, as in the kernel.
    let group: Vec<usize> =
        (0..count).map(|k| if k < groups { k } else { rng.random_range(0..groups) }).collect();
    let filter = rng.random_bool(0.4).then(|| batch.column_by_name("keep").unwrap().as_boolean().clone());
    let rowwise = rng.random_bool(0.3);

    let mut whole = accumulator(&e, rowwise);
    whole.update_batch(&columns, &group, filter.as_ref(), groups).unwrap();
    let whole = whole.evaluate(EmitTo::All).unwrap();

    // One partial state a pair of part and group, in random batches.
    let parts = rng.random_range(1..6usize);
    let part: Vec<usize> = (0..count).map(|_| rng.random_range(0..parts)).collect();
    let mut number = std::collections::HashMap::new();
    let mut of_group = Vec::new();
    let ring: Vec<usize> = (0..count)
        .map(|k| {
            *number.entry((part[k], group[k])).or_insert_with(|| {
                of_group.push(group[k]);
                of_group.len() - 1
            })
        })
        .collect();
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.shuffle(rng);
    let mut partial = accumulator(&e, rowwise);
    // DataFusion's take every numbered group for seen once a batch has no NULL; the kernel gives them one batch.
    let ours = e.state_fields().unwrap()[0].data_type() == &DataType::Binary;
    let batches = if ours { rng.random_range(1..4) } else { 1 };
    for chunk in order.chunks(count.div_ceil(batches)) {
        let filter = filter.as_ref().map(|f| pick(&[Arc::new(f.clone())], chunk).remove(0));
        let rings: Vec<usize> = chunk.iter().map(|k| ring[*k as usize]).collect();
        let filter = filter.as_ref().map(|f| f.as_boolean());
        partial.update_batch(&pick(&columns, chunk), &rings, filter, of_group.len()).unwrap();
    }
    let states = through_row_bytes(partial.state(EmitTo::All).unwrap());

    // Merged in random order, some of them twice over.
    let mut order: Vec<u32> = (0..of_group.len() as u32).collect();
    order.shuffle(rng);
    let (first, rest) = order.split_at(rng.random_range(0..=order.len()));
    let groups_of = |rows: &[u32]| rows.iter().map(|r| of_group[*r as usize]).collect::<Vec<_>>();
    let mut merged = accumulator(&e, rowwise);
    if !first.is_empty() {
        // Only groups that were seen are numbered.
        let mut seen: Vec<usize> = groups_of(first);
        seen.sort_unstable();
        seen.dedup();
        let dense: Vec<usize> = groups_of(first).iter().map(|g| seen.binary_search(g).unwrap()).collect();
        let mut early = accumulator(&e, rowwise);
        early.merge_batch(&pick(&states, first), &dense, seen.len()).unwrap();
        let early = through_row_bytes(early.state(EmitTo::All).unwrap());
        let both: Vec<ArrayRef> = early
            .iter()
            .zip(pick(&states, rest))
            .map(|(a, b)| concat(&[a.as_ref(), b.as_ref()]).unwrap())
            .collect();
        let groups_of_both: Vec<usize> = seen.into_iter().chain(groups_of(rest)).collect();
        merged.merge_batch(&both, &groups_of_both, groups).unwrap();
    } else {
        merged.merge_batch(&pick(&states, rest), &groups_of(rest), groups).unwrap();
    }
    (whole, merged.evaluate(EmitTo::All).unwrap())
}

fn near(a: &ArrayRef, b: &ArrayRef) -> bool {
    let (a, b) = (a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>());
    (0..a.len()).all(|k| {
        let (x, y) = (a.value(k), b.value(k));
        a.is_null(k) == b.is_null(k)
            && (a.is_null(k)
                || x == y
                || (x.is_nan() && y.is_nan())
                || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0))
    })
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_merge_to_the_whole(seed in any::<u64>()) {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        for sql in EXACT {
            let (whole, merged) = both(sql, &mut rng);
            prop_assert_eq!(&whole, &merged, "{} with seed {}", sql, seed);
        }
        for sql in NEAR {
            let (whole, merged) = both(sql, &mut rng);
            prop_assert!(near(&whole, &merged), "{} with seed {}: {:?} {:?}", sql, seed, whole, merged);
        }
    }
}

/// Prints the sizes that `docs/guides/aggregates.md` gives.
#[test]
fn states_stay_small() {
    let mut rng = rand::rngs::SmallRng::seed_from_u64(3);
    let batch = rows(&mut rng, 1_000, true);
    let most = [
        ("approx_distinct(t)", [10, 60, 700]),
        ("approx_median(f)", [12, 100, 900]),
        ("percentile_cont(f, 0.9)", [12, 100, 8_100]),
        ("top_k(t, 3)", [12, 120, 9_000]),
        ("last_n(f, 5)", [40, 140, 140]),
        ("array_agg(t, 20)", [40, 350, 700]),
        ("streak(at)", [6, 40, 700]),
    ];
    for (sql, limits) in most {
        let sizes = state_bytes(lower(sql, &batch), false);
        println!("| `{sql}` | {} | {} | {} |", sizes[0], sizes[1], sizes[2]);
        assert!(sizes.iter().zip(limits).all(|(got, most)| *got <= most), "{sql}: {sizes:?}");
    }
    for (sql, rowwise) in [
        ("approx_distinct(t)", true),
        ("approx_distinct(t)", false),
        ("approx_percentile_cont(f, 0.5)", false),
        ("median(f)", false),
        ("avg(f)", false),
        ("stddev(f)", false),
        ("last(t)", false),
        ("count(DISTINCT t)", false),
    ] {
        let lowered = match sql.starts_with("last") {
            true => lower(sql, &batch),
            false => lower_in(&SessionContext::new(), sql, &batch),
        };
        let sizes = state_bytes(lowered, rowwise);
        let how = if rowwise { ", row by row" } else { "" };
        println!("| DataFusion's `{sql}`{how} | {} | {} | {} |", sizes[0], sizes[1], sizes[2]);
    }
}

/// Bytes of the state over 1, 10 and 1,000 rows.
fn state_bytes((e, columns): (Arc<AggregateFunctionExpr>, Vec<ArrayRef>), rowwise: bool) -> [usize; 3] {
    [1usize, 10, 1_000].map(|n| {
        let first: Vec<u32> = (0..n as u32).collect();
        let mut acc = accumulator(&e, rowwise);
        acc.update_batch(&pick(&columns, &first), &vec![0; n], None, 1).unwrap();
        let states = acc.state(EmitTo::All).unwrap();
        states.iter().map(value_bytes).sum::<usize>()
    })
}

/// Bytes of the values alone.
fn value_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(0).len(),
        DataType::Utf8 => array.as_string::<i32>().iter().flatten().map(|t| t.len() + 4).sum(),
        DataType::List(_) => 4 + value_bytes(array.as_list::<i32>().values()),
        DataType::Boolean => array.len(),
        other => other.primitive_width().unwrap_or_else(|| panic!("{other}")) * array.len(),
    }
}
