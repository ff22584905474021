//! How large states are.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::DataType,
};
use datafusion::{
    logical_expr::EmitTo, physical_expr::aggregate::AggregateFunctionExpr, prelude::SessionContext,
};
use rand::SeedableRng;

use super::support::{accumulator, lower, lower_in, pick, rows};

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
