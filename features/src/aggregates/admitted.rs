//! Which aggregates a view may use, and why not the others.

/// Those whose state merges and whose value no order of arrival can change.
const ADMITTED: [&str; 41] = [
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first",
    "first_n",
    "first_value",
    "last",
    "last_n",
    "last_value",
    "max",
    "mean",
    "median",
    "min",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "streak",
    "sum",
    "top_k",
    "var",
    "var_pop",
];

/// DataFusion's others.
const REFUSED: [(&str, &str); 4] = [
    ("any_value", "which value it picks depends on the order of arrival; use first(x) or last(x)"),
    (
        "approx_percentile_cont_with_weight",
        "its digest depends on the order in which parts are merged; approx_percentile_cont(x, p) does not",
    ),
    ("nth_value", "it needs every signal of the window in order; use first_n(x, n)[n] or last_n(x, n)[n]"),
    (
        "string_agg",
        "it grows with every signal; use array_to_string(array_agg(x, 20), ', ') and say how many to keep",
    ),
];

/// Why a view may not use an aggregate; `None` when it may.
pub(crate) fn refusal(name: &str) -> Option<String> {
    if ADMITTED.contains(&name) {
        return None;
    }
    let reason = REFUSED.iter().find(|(n, _)| *n == name).map_or_else(
        || format!("nothing shows that its state merges; there are {}", ADMITTED.join(", ")),
        |(_, reason)| (*reason).to_owned(),
    );
    Some(format!("the aggregate {name} is not supported: {reason}"))
}
