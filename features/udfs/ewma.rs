use arroyo_udf_plugin::udf;

/// Mean in which a value counts half as much for every half-life that it is older than the newest one.
///
/// `values` with the `seconds` they stand at, and the half-life in seconds (a constant). Where value or time is
/// NULL the pair is left out.
#[udf]
fn ewma(values: Vec<Option<f64>>, seconds: Vec<Option<f64>>, half_life: Vec<Option<f64>>) -> Option<f64> {
    let half_life = half_life.first().copied().flatten().filter(|h| *h > 0.0)?;
    let pairs = || values.iter().zip(&seconds).filter_map(|(v, s)| Some(((*v)?, (*s)?)));
    let newest = pairs().map(|(_, s)| s).reduce(f64::max)?;
    let (mut sum, mut weights) = (0.0, 0.0);
    for (value, at) in pairs() {
        let weight = ((at - newest) / half_life).exp2();
        sum += weight * value;
        weights += weight;
    }
    Some(sum / weights)
}
