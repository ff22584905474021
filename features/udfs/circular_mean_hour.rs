use std::f64::consts::TAU;

use arroyo_udf_plugin::udf;

/// Mean hour of the day on the circle of 24 hours: of 23 and 1 it is 0, not 12.
///
/// The direction of the sum of unit vectors (Mardia and Jupp, Directional Statistics, 2000, section 2.2); NULL when
/// they cancel out, as 6 and 18 do.
#[udf]
fn circular_mean_hour(hours: Vec<f64>) -> Option<f64> {
    let (mut x, mut y) = (0.0, 0.0);
    for hour in &hours {
        let (sin, cos) = (hour / 24.0 * TAU).sin_cos();
        x += cos;
        y += sin;
    }
    let length = x.hypot(y) / hours.len() as f64;
    if !(length > 1e-9) {
        return None;
    }
    let hour = y.atan2(x) / TAU * 24.0;
    let hour = if hour < 0.0 { hour + 24.0 } else { hour };
    // A direction a hair below midnight would round up to 24.
    Some(if hour >= 24.0 { 0.0 } else { hour })
}
