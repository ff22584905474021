use super::*;

const TASKS: &str = "-- Tasks finished lately,\n-- and how they spread.\nCREATE FEATURE VIEW task_activity\n  ENTITY user_id\n  \
    WINDOWS (7 DAYS, 1 HOUR)\n  WITH (lateness = '2 hours', owner = 'tips')\nAS SELECT subject AS user_id, count(*) AS n\n\
    FROM task_completed GROUP BY user_id;\n";

#[test]
fn reads_a_definition() {
    let found = parse("tasks.sql", TASKS).unwrap();
    let [d] = &found[..] else { panic!("{found:?}") };
    assert_eq!((d.name.as_str(), d.entity.as_str()), ("task_activity", "user_id"));
    assert_eq!(d.description, "Tasks finished lately, and how they spread.");
    let labels: Vec<_> = d.windows.iter().map(|w| (w.label.as_str(), w.span)).collect();
    assert_eq!(labels, [("1h", Span::Sliding(3_600_000)), ("7d", Span::Sliding(604_800_000))]);
    assert_eq!(d.lateness_ms, 7_200_000);
    assert_eq!(d.owner.as_deref(), Some("tips"));
    assert!(d.select.starts_with("SELECT subject") && d.select.ends_with("GROUP BY user_id"), "{}", d.select);
    assert_eq!(d.select_at, (7, 4));
}

#[test]
fn reads_every_kind_of_window() {
    let windows = "(LIFETIME, this week, TODAY, SESSION 30 MINUTES, 2 HOURS, This Month)";
    let text = TASKS.replace("(7 DAYS, 1 HOUR)", windows).replace("lateness", "resolution");
    let d = parse("f", &text).unwrap().remove(0);
    let labels: Vec<_> = d.windows.iter().map(|w| w.label.as_str()).collect();
    assert_eq!(labels, ["2h", "lifetime", "this_week", "today", "session_30m", "this_month"]);
    assert_eq!((d.windows[4].span, d.resolution_ms), (Span::Session(1_800_000), 7_200_000));
}

#[test]
fn reads_several_definitions() {
    let text = format!("{TASKS}\n{}", TASKS.replace("task_activity", "other"));
    let names: Vec<_> = parse("f", &text).unwrap().into_iter().map(|d| d.name).collect();
    assert_eq!(names, ["task_activity", "other"]);
}

#[test]
fn mistakes_name_their_place() {
    let cases = [
        ("CREATE VIEW x", "f:1:8: expected FEATURE"),
        ("CREATE FEATURE VIEW X", "f:1:21: expected the view's name"),
        ("CREATE FEATURE VIEW x ENTITY u\nWINDOWS (5 MOONS) AS SELECT", "f:2:10: expected a window"),
        ("CREATE FEATURE VIEW x ENTITY u WINDOWS (0 DAYS) AS SELECT", "f:1:41: expected a window"),
        ("CREATE FEATURE VIEW x ENTITY u WINDOWS (1 DAY, 24 HOURS) AS SELECT", "stands here twice"),
        ("CREATE FEATURE VIEW x ENTITY u WINDOWS (SESSION 2 DAYS) AS SELECT", "f:1:41: expected a window"),
        ("CREATE FEATURE VIEW x ENTITY u WINDOWS (THIS YEAR) AS SELECT", "f:1:41: expected a window"),
        ("CREATE FEATURE VIEW x ENTITY u WINDOWS (1 DAY) WITH (foo = 'a') AS SELECT", "unknown option `foo`"),
        (
            "CREATE FEATURE VIEW x ENTITY u WINDOWS (1 DAY) WITH (lateness = 'soon') AS SELECT",
            "no span of time",
        ),
        ("CREATE FEATURE VIEW x ENTITY u WINDOWS (1 DAY) AS", "expected SELECT"),
    ];
    for (text, wanted) in cases {
        let message = parse("f", text).unwrap_err().to_string();
        assert!(message.contains(wanted), "{text}: {message}");
    }
}
