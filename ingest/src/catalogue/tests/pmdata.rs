//! Signals of the PMData set are taken as they are.

use super::*;

/// Type and data in the form the published files have.
const LINES: &[(&str, &str)] = &[
    ("steps.hourly", r#"{"start":"2019-11-03T07:00:00.000Z","steps":412,"minutes_reported":60}"#),
    (
        "sleep.session",
        r#"{"start":"2019-11-03T22:10:30.000Z","end":"2019-11-04T05:40:00.000Z","minutes_asleep":401,
            "minutes_awake":48,"minutes_in_bed":449,"efficiency":95,"main_sleep":true,"kind":"stages",
            "stage_minutes":{"deep":80,"wake":48,"light":230,"rem":91}}"#,
    ),
    (
        "sleep.session",
        r#"{"start":"2019-11-03T12:00:00.000Z","end":"2019-11-03T12:50:00.000Z","minutes_asleep":45,
            "minutes_awake":5,"minutes_in_bed":50,"efficiency":90,"main_sleep":false,"kind":"classic",
            "stage_minutes":{"restless":4,"awake":1,"asleep":45}}"#,
    ),
    (
        "sleep.score",
        r#"{"score":81,"composition":20,"revitalization":21,"duration":40,"deep_minutes":70,"resting_bpm":55,
            "restlessness":0.0721}"#,
    ),
    (
        "mood.checkin",
        r#"{"mood":4,"stress":3,"fatigue":2,"readiness":7,"sleep_quality":3,"sleep_hours":7.5,"soreness":3,
            "soreness_areas":[12921003,22943007]}"#,
    ),
    (
        "mood.checkin",
        r#"{"mood":0,"stress":0,"fatigue":0,"readiness":0,"sleep_quality":0,"sleep_hours":0,"soreness":0,
            "soreness_areas":[]}"#,
    ),
    ("injury.report", r#"{"count":1,"injuries":{"right_knee":"major"}}"#),
    ("injury.report", r#"{"count":0,"injuries":{}}"#),
    (
        "exercise.session",
        r#"{"activity":"Run","start":"2019-11-05T16:00:00.000Z","end":"2019-11-05T16:31:30.000Z","minutes":31.5,
            "calories":390,"steps":5012,"avg_bpm":151,"distance_km":5.73,"log_type":"tracker"}"#,
    ),
    ("training.session", r#"{"activities":["team","strength"],"perceived_exertion":7,"minutes":75}"#),
    // Eleven records of the set hold an empty object where the others have a list.
    ("training.session", r#"{"activities":{}}"#),
    (
        "activity.daily",
        r#"{"for_date":"2019-11-05","very_active_minutes":31,"moderately_active_minutes":20,
            "lightly_active_minutes":180,"sedentary_minutes":1209}"#,
    ),
    ("heart_rate.resting", r#"{"for_date":"2019-11-05","bpm":57.25}"#),
    (
        "heart_rate.zones",
        r#"{"for_date":"2019-11-05","below_minutes":1300,"fat_burn_minutes":100,"cardio_minutes":9,
            "peak_minutes":1}"#,
    ),
    (
        "habit.report",
        r#"{"for_date":"2019-11-04","meals":["breakfast","dinner"],"meal_count":2,"weight_kg":71.2,
            "glasses_of_fluid":6,"alcohol":false}"#,
    ),
];

#[test]
fn every_kind_of_line_is_taken_and_comes_back() {
    let catalogue = Catalogue::load(&[]).unwrap();
    for (kind, data) in LINES {
        let declared = catalogue.get(kind).unwrap_or_else(|| panic!("{kind} is not declared"));
        let bytes = declared.encode_json(&raw(data), UnknownFields::Reject).unwrap();
        let mut given: Value = serde_json::from_str(data).unwrap();
        let mut back = declared.decode_json(&bytes).unwrap();
        for value in [&mut given, &mut back] {
            let fields = value.as_object_mut().unwrap();
            fields.retain(|_, v| !matches!(v, Value::Array(a) if a.is_empty()));
            fields.retain(|_, v| !matches!(v, Value::Object(o) if o.is_empty()));
            for field in fields.values_mut() {
                *field = match field.as_f64() {
                    Some(number) => number.into(),
                    None => field.as_str().map_or(field.clone(), |s| s.replace(".000Z", "Z").into()),
                };
            }
        }
        assert_eq!(given, back, "{kind}");
        let mut table = declared.builder();
        table.append(0, 0, &record(&declared.name, bytes)).unwrap();
        assert_eq!(table.finish().num_rows(), 1, "{kind}");
    }
}

#[test]
fn other_names_lead_to_the_type() {
    let catalogue = Catalogue::load(&[]).unwrap();
    for (alias, name, table) in [
        ("mood.checkin", "mood.reported", "mood_reported"),
        ("heart_rate.resting", "heart.resting", "heart_resting"),
        ("steps.hourly", "steps.counted", "steps_counted"),
        ("impression", "impression", "impressions"),
        ("reaction", "reaction", "reactions"),
    ] {
        let declared = catalogue.get(alias).unwrap();
        assert_eq!((declared.name.as_str(), declared.table.as_str()), (name, table));
        assert_eq!(catalogue.by_table(table).unwrap().name, name);
    }
    assert!(catalogue.get("mood_reported").is_none());
}
