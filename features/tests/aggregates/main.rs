//! Every aggregate a view may use: any split of its rows into parts, merged in any order, with the states
//! brought through `arrow::row` bytes, gives what one pass gives.
#![allow(clippy::unwrap_used)]

mod oracle;
mod sizes;
mod support;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::concat,
    datatypes::{DataType, Float64Type},
    row::{RowConverter, SortField},
};
use datafusion::logical_expr::EmitTo;
use proptest::prelude::*;
use rand::{
    Rng, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use std::sync::Arc;
use support::{accumulator, lower, pick, rows};

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
