use arroyo_udf_plugin::udf;

/// Slope of the straight line nearest to the values (least squares), in units a day.
///
/// `values` with the `seconds` they stand at; where one of the two is NULL the pair is left out. NULL for fewer
/// than two different times.
#[udf]
fn trend(values: Vec<Option<f64>>, seconds: Vec<Option<f64>>) -> Option<f64> {
    const DAY: f64 = 86_400.0;
    let pairs: Vec<(f64, f64)> =
        values.iter().zip(&seconds).filter_map(|(v, s)| Some(((*s)? / DAY, (*v)?))).collect();
    let n = pairs.len() as f64;
    let mean_day = pairs.iter().map(|(d, _)| d).sum::<f64>() / n;
    let mean_value = pairs.iter().map(|(_, v)| v).sum::<f64>() / n;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (day, value) in &pairs {
        covariance += (day - mean_day) * (value - mean_value);
        variance += (day - mean_day).powi(2);
    }
    (variance > 0.0).then(|| covariance / variance)
}
