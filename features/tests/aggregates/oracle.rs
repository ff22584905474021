//! Our aggregates against the same worked out by hand: sorted, counted, sliced.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type, TimestampMillisecondType, UInt64Type},
};
use datafusion::logical_expr::EmitTo;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};

use super::support::{accumulator, lower, rows};

/// The value over all rows.
fn whole(sql: &str, batch: &RecordBatch) -> ArrayRef {
    let (e, columns) = lower(sql, batch);
    let mut acc = accumulator(&e, false);
    acc.update_batch(&columns, &vec![0; batch.num_rows()], None, 1).unwrap();
    acc.evaluate(EmitTo::All).unwrap()
}

fn ints(batch: &RecordBatch) -> Vec<Option<i64>> {
    batch.column_by_name("i").unwrap().as_primitive::<Int64Type>().iter().collect()
}

fn texts(list: &ArrayRef) -> Vec<Option<String>> {
    list.as_list::<i32>().value(0).as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect()
}

/// Column `t` in the order (time, source, id).
fn in_order(batch: &RecordBatch) -> Vec<Option<String>> {
    let text = |name: &str, k: usize| {
        let column = batch.column_by_name(name).unwrap().as_string::<i32>();
        column.is_valid(k).then(|| column.value(k).to_owned())
    };
    let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampMillisecondType>();
    let mut order: Vec<usize> = (0..batch.num_rows()).collect();
    order.sort_by_key(|k| (times.value(*k), text("source", *k), text("id", *k)));
    order.into_iter().map(|k| text("t", k)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn our_aggregates_equal_the_naive(seed in any::<u64>(), count in 1..300usize, wide in any::<bool>(), n in 1..12usize) {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let batch = rows(&mut rng, count, wide);
        let ordered = in_order(&batch);

        let oldest: Vec<_> = ordered.iter().take(n).cloned().collect();
        prop_assert_eq!(texts(&whole(&format!("first_n(t, {n})"), &batch)), oldest);
        let mut newest: Vec<_> = ordered[ordered.len().saturating_sub(n)..].to_vec();
        prop_assert_eq!(&texts(&whole(&format!("array_agg(t, {n})"), &batch)), &newest);
        newest.reverse();
        prop_assert_eq!(texts(&whole(&format!("last_n(t, {n})"), &batch)), newest);

        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        ints(&batch).into_iter().flatten().for_each(|i| *counts.entry(i).or_default() += 1);
        let mut ranked: Vec<(usize, i64)> = counts.iter().map(|(i, n)| (*n, *i)).collect();
        ranked.sort_by_key(|(n, i)| (std::cmp::Reverse(*n), *i));
        let top = whole(&format!("top_k(i, {n})"), &batch);
        let wanted: Vec<i64> = ranked.iter().take(n).map(|(_, i)| *i).collect();
        prop_assert_eq!(top.is_null(0), wanted.is_empty());
        if !wanted.is_empty() {
            let got = top.as_list::<i32>().value(0);
            prop_assert_eq!(got.as_primitive::<Int64Type>().values().to_vec(), wanted);
        }

        let distinct = whole("approx_distinct(i)", &batch).as_primitive::<UInt64Type>().value(0);
        if counts.len() <= 256 {
            prop_assert_eq!(distinct, counts.len() as u64);
        }

        let share = rng.random_range(0..=20) as f64 / 20.0;
        let mut sorted: Vec<i64> = ints(&batch).into_iter().flatten().collect();
        sorted.sort_unstable();
        let exact = whole(&format!("percentile_cont(i, {share})"), &batch);
        let near = whole(&format!("approx_percentile_cont(i, {share})"), &batch);
        let (exact, near) = (exact.as_primitive::<Float64Type>(), near.as_primitive::<Float64Type>());
        prop_assert_eq!((exact.is_null(0), near.is_null(0)), (sorted.is_empty(), sorted.is_empty()));
        if !sorted.is_empty() {
            let rank = share * (sorted.len() - 1) as f64;
            let (low, high) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
            let wanted = low + (high - low) * rank.fract();
            prop_assert!((exact.value(0) - wanted).abs() <= 1e-9 * wanted.abs(), "{} {}", exact.value(0), wanted);
            prop_assert!((near.value(0) - wanted).abs() <= 0.01 * low.abs().max(high.abs()));
        }

        let at = batch.column_by_name("at").unwrap().as_primitive::<TimestampMillisecondType>();
        let days: BTreeSet<i64> = at.iter().flatten().map(|ms| ms.div_euclid(86_400_000)).collect();
        let streak = whole("streak(at)", &batch);
        let last = days.last().copied();
        prop_assert_eq!(streak.is_null(0), last.is_none());
        if let Some(last) = last {
            let length = (0..).take_while(|back| days.contains(&(last - back))).count() as i64;
            prop_assert_eq!(streak.as_primitive::<Int64Type>().value(0), last * (1 << 20) + length);
        }
    }
}
