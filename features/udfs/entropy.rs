use std::collections::BTreeMap;

use arroyo_udf_plugin::udf;

/// How evenly values spread over the codes that occur, as Shannon's entropy in bits: 0 when all are the same,
/// log2(k) when k codes occur equally often.
#[udf]
fn entropy(codes: Vec<i64>) -> Option<f64> {
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    for code in &codes {
        *counts.entry(*code).or_default() += 1;
    }
    let n = codes.len() as f64;
    let bits = counts.values().map(|c| *c as f64 / n).map(|p| p * p.recip().log2()).sum();
    (!codes.is_empty()).then_some(bits)
}
