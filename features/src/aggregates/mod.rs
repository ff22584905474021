//! Aggregate functions of our own, for what DataFusion's do not give a feature: a state that keeps its
//! meaning across versions and machines, stays small for one person's data, and merges to the same value in
//! any order.
//!
//! | function | value | bound |
//! |---|---|---|
//! | `min(x)`, `max(x)` | of floats too when some are NaN | exact |
//! | `approx_distinct(x)` | number of different values | exact to 256, then 3.25 % standard error |
//! | `approx_percentile_cont(x, p)`, `approx_median(x)` | quantile, interpolated | exact to 64 different values, then 1 % of the value |
//! | `percentile_cont(x, p)` | the same | exact; grows with the different values |
//! | `top_k(x, k)` | list of the k most frequent | exact to 1,024 different values, then counts off by n / 1,025 |
//! | `first_n(x, n)`, `last_n(x, n)`, `array_agg(x, n)` | list in order of (time, source, id) | exact |
//! | `streak(t)` | days in a row up to the latest | exact |
//!
//! Every state, but for `min` and `max`, is one Binary column whose first byte names its layout; each module says what follows.
//! `first`, `last`, `sum` and the rest are DataFusion's.
//!
//! | module | what |
//! |---|---|
//! | `family` | what they have in common: summaries, and the ways DataFusion asks for them |
//! | `arguments` | constant arguments |
//! | `keys` | values as bytes |
//! | `codec` | numbers and text in states |
//! | `distinct`, `quantile`, `exact`, `top_k`, `bounded`, `streak`, `extreme` | the functions |
//! | `admitted` | which aggregates a view may use |

mod admitted;
mod arguments;
mod bounded;
mod codec;
mod distinct;
mod exact;
mod extreme;
mod family;
mod keys;
mod quantile;
mod streak;
mod top_k;

use datafusion::{
    execution::context::SessionContext,
    functions_aggregate::first_last::{first_value_udaf, last_value_udaf},
    logical_expr::{AggregateUDF, ScalarUDF},
};

pub(crate) use admitted::refusal;

/// All of them.
pub fn aggregates() -> Vec<AggregateUDF> {
    vec![
        extreme::min(),
        extreme::max(),
        family::udaf(distinct::ApproxDistinct),
        family::udaf(quantile::Quantile::Percentile),
        family::udaf(quantile::Quantile::Median),
        family::udaf(exact::PercentileCont).with_aliases(["quantile_cont"]),
        family::udaf(top_k::TopK),
        family::udaf(bounded::Bounded::First),
        family::udaf(bounded::Bounded::Last),
        family::udaf(bounded::Bounded::ArrayAgg),
        family::udaf(streak::Streak),
    ]
}

/// `streak_now(streak(t), now)`: the length of a streak whose latest day is that of `now` or the day before,
/// else 0; 0 for no streak.
pub fn streak_now() -> ScalarUDF {
    ScalarUDF::new_from_impl(streak::StreakNow::default())
}

/// Registers them, in place of DataFusion's of the same name, and the short names of `first` and `last`.
pub fn register(ctx: &SessionContext) {
    ctx.register_udaf((*first_value_udaf()).clone().with_aliases(["first"]));
    ctx.register_udaf((*last_value_udaf()).clone().with_aliases(["last"]));
    aggregates().into_iter().for_each(|f| ctx.register_udaf(f));
    ctx.register_udf(streak_now());
}

/// Whether an aggregate goes by (time, source, id).
pub(crate) fn by_time(name: &str) -> bool {
    matches!(name, "first_value" | "last_value" | "first_n" | "last_n" | "array_agg")
}
