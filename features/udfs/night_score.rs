use arroyo_udf_plugin::udf;

/// How good a night was, 0 to 100: up to 70 for time asleep, all of them from 7 to 9 hours, as is recommended for
/// adults (Hirshkowitz and others, Sleep Health 1, 2015), and up to 30 for the share of the time in bed that was
/// slept, all of them from 85 % (Ohayon and others, Sleep Health 3, 2017). Where the time in bed is not known, the
/// time asleep decides alone.
#[udf]
fn night_score(minutes_asleep: i64, minutes_in_bed: Option<i64>) -> f64 {
    let hours = minutes_asleep.max(0) as f64 / 60.0;
    let asleep = if hours > 9.0 { (1.0 - (hours - 9.0) / 4.0).max(0.0) } else { (hours / 7.0).min(1.0) };
    match minutes_in_bed {
        Some(in_bed) if in_bed > 0 => {
            let share = (hours * 60.0 / in_bed as f64).min(1.0);
            70.0 * asleep + 30.0 * (share / 0.85).min(1.0)
        }
        _ => 100.0 * asleep,
    }
}
