//! The shipped views plan; mistakes are told with their place and what would be right.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use features::{Registry, Value, ValueType};
use ingest::catalogue::Catalogue;

fn catalogue() -> Catalogue {
    Catalogue::load(&[]).unwrap()
}

#[test]
fn the_shipped_views_plan() {
    let registry = Registry::load(&catalogue(), &[], &[]).unwrap_or_else(|e| panic!("{e}"));
    assert!(registry.views().len() >= 8, "{}", registry.views().len());
    for v in registry.describe() {
        assert!(!v.description.is_empty(), "{} has no comment above it", v.view);
        assert!(!v.features.is_empty());
    }
    let names: HashSet<_> = registry.feature_names().collect();
    assert!(names.contains("task_activity.completed_24h"), "{names:?}");
}

#[test]
fn types_and_empty_values_are_known() {
    let sql = "CREATE FEATURE VIEW v ENTITY user_id WINDOWS (1 DAY) AS SELECT subject AS user_id, count(*) AS n, \
        avg(minutes) AS mean, last(project) AS p, max(time) AS at, bool_or(minutes > 1) AS b, sum(minutes) AS s \
        FROM task_completed GROUP BY user_id";
    let registry = Registry::from_texts(&catalogue(), &[("v.sql", sql)]).unwrap();
    let view = registry.view("v").unwrap();
    let kinds: Vec<_> =
        view.outputs.iter().map(|o| (o.kind, serde_json::to_string(&o.empty).unwrap())).collect();
    use ValueType::*;
    let wanted = [(Int, "0"), (Float, "null"), (Text, "null"), (Time, "null"), (Bool, "null"), (Int, "null")];
    assert_eq!(kinds, wanted.map(|(k, e)| (k, e.to_owned())));
}

#[test]
fn whitespace_changes_no_version_but_meaning_does() {
    let version =
        |sql: &str| Registry::from_texts(&catalogue(), &[("v.sql", sql)]).unwrap().views()[0].version;
    let sql = "CREATE FEATURE VIEW v ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, count(*) AS n FROM task_completed GROUP BY u";
    assert_eq!(version(sql), version(&sql.replace(", ", ",\n   ")));
    assert_ne!(version(sql), version(&sql.replace("1 DAY", "2 DAYS")));
    assert_ne!(version(sql), version(&sql.replace("count(*)", "count(minutes)")));
}

#[test]
fn mistakes_name_place_and_remedy() {
    let view = |body: &str| format!("CREATE FEATURE VIEW v ENTITY user_id\nWINDOWS (1 DAY)\nAS {body}");
    let cases = [
        (
            "SELECT subject AS user_id,\n  sum(minuts) AS m\nFROM task_completed GROUP BY user_id",
            "v.sql:4:7: ",
            "minuts",
        ),
        (
            "SELECT subject AS user_id, count(*) AS n FROM tasks_completed GROUP BY user_id",
            "v.sql:3:",
            "tasks_completed",
        ),
        (
            "SELECT subject AS user_id, nosuch(minutes) AS n FROM task_completed GROUP BY user_id",
            "v.sql:3:",
            "nosuch",
        ),
        (
            "SELECT subject AS user_id count(*) FROM task_completed GROUP BY user_id",
            "v.sql:3:30: ",
            "Expected: end of statement, found: count",
        ),
        (
            "SELECT subject AS user_id, count(*) FROM task_completed GROUP BY user_id",
            "v.sql:3:4: ",
            "needs a name",
        ),
        (
            "SELECT project AS user_id, count(*) AS n FROM task_completed GROUP BY project",
            "v.sql:3:4: ",
            "subject",
        ),
        (
            "SELECT subject AS who, count(*) AS n FROM task_completed GROUP BY subject",
            "v.sql:3:4: ",
            "subject AS user_id",
        ),
        ("SELECT subject AS user_id, minutes AS n FROM task_completed", "v.sql:3:4: ", "aggregate"),
        (
            "SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id LIMIT 3",
            "v.sql:3:4: ",
            "LIMIT",
        ),
        (
            "SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id HAVING count(*) > 1",
            "v.sql:3:4: ",
            "HAVING",
        ),
        (
            "SELECT subject AS user_id, max(now()) AS n FROM task_completed GROUP BY user_id",
            "v.sql:3:4: ",
            "now() changes by itself",
        ),
        (
            "SELECT subject AS user_id, sum(random()) AS n FROM task_completed GROUP BY user_id",
            "v.sql:3:4: ",
            "random() changes",
        ),
        (
            "SELECT subject AS user_id, array_agg(project) AS n FROM task_completed GROUP BY user_id",
            "v.sql:3:4: ",
            "array_agg without a bound grows",
        ),
        (
            "SELECT subject AS user_id, sum(DISTINCT minutes) AS n FROM task_completed GROUP BY user_id",
            "v.sql:3:4: ",
            "DISTINCT",
        ),
        (
            "SELECT t.subject AS user_id, count(*) AS n FROM task_completed t JOIN task_created c ON t.id = c.id GROUP BY t.subject",
            "v.sql:3:4: ",
            "joins are LEFT JOINs; found Inner",
        ),
        (
            "SELECT subject AS user_id, count(*) AS n FROM (SELECT * FROM task_completed LIMIT 2) GROUP BY subject",
            "v.sql:3:4: ",
            "subqueries are not supported",
        ),
    ];
    for (body, place, what) in cases {
        let message = Registry::from_texts(&catalogue(), &[("v.sql", &view(body))]).unwrap_err().to_string();
        assert!(
            message.starts_with(place) && message.contains(what),
            "{body}\n  gave: {message}\n  wanted: {place}…{what}"
        );
    }
    let twice = format!(
        "{0};\n{0};",
        view("SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id")
    );
    let message = Registry::from_texts(&catalogue(), &[("v.sql", &twice)]).unwrap_err().to_string();
    assert!(message.contains("v.sql:4:1: ") && message.contains("already defined in v.sql"), "{message}");
}

#[test]
fn aggregates_that_no_window_can_keep_are_refused_with_the_reason() {
    let cases = [
        ("array_agg(project)", "array_agg without a bound grows with every signal"),
        ("array_agg(DISTINCT project, 3)", "array_agg(DISTINCT …) is not supported"),
        ("array_agg(project, 0)", "array_agg needs a constant whole number from 1 to 1000"),
        ("array_agg(project, minutes)", "array_agg needs a constant whole number"),
        ("array_agg(project, 3 ORDER BY minutes)", "array_agg goes by event time; leave its ORDER BY out"),
        ("last_n(project, 1001)", "from 1 to 1000"),
        ("last_n(project)", "last_n takes a value and how many: last_n(x, 5)"),
        ("first_n(project, NULL)", "first_n needs a constant whole number"),
        ("top_k(project, 101)", "top_k needs a constant whole number from 1 to 100"),
        ("string_agg(project, ',')", "array_to_string(array_agg(x, 20), ', ')"),
        ("nth_value(project, 2)", "use first_n(x, n)[n] or last_n(x, n)[n]"),
        ("any_value(project)", "depends on the order of arrival; use first(x) or last(x)"),
        ("approx_percentile_cont(minutes, 1.5)", "needs a constant share from 0 to 1"),
        ("approx_percentile_cont(minutes, 0.5, 100)", "takes a number and a share"),
        ("approx_percentile_cont(project, 0.5)", "takes numbers, not Utf8"),
        (
            "approx_percentile_cont_with_weight(0.5, minutes) WITHIN GROUP (ORDER BY minutes)",
            "depends on the order in which parts are merged",
        ),
        ("percentile_cont(minutes, 2)", "percentile_cont needs a constant share from 0 to 1"),
        ("streak(minutes)", "takes a"),
        ("sum(DISTINCT minutes)", "sum(DISTINCT …) is not supported; count(DISTINCT …) is"),
        ("sum(minutes ORDER BY time)", "ORDER BY inside sum changes nothing"),
        ("last(project ORDER BY minutes)", "goes by event time"),
    ];
    for (expression, reason) in cases {
        let sql = format!(
            "CREATE FEATURE VIEW v ENTITY user_id WINDOWS (1 DAY) AS SELECT subject AS user_id, {expression} AS x \
             FROM task_completed GROUP BY user_id"
        );
        let message = Registry::from_texts(&catalogue(), &[("v.sql", &sql)])
            .map_or_else(|e| e.to_string(), |_| "no refusal".to_owned());
        assert!(
            message.starts_with("v.sql:1:") && message.contains(reason),
            "{expression}\n  gave: {message}"
        );
    }
}

#[test]
fn lists_are_feature_values() {
    let sql = "CREATE FEATURE VIEW v ENTITY user_id WINDOWS (1 DAY) AS SELECT subject AS user_id, \
        last_n(project, 3) AS p, top_k(minutes, 2) AS m, array_agg(time, 2) AS t FROM task_completed GROUP BY user_id";
    let registry = Registry::from_texts(&catalogue(), &[("v.sql", sql)]).unwrap();
    let view = registry.view("v").unwrap();
    assert!(view.outputs.iter().all(|o| o.kind == ValueType::List && o.empty == features::Value::Null));
    let types: Vec<String> =
        view.history_schema().fields()[4..].iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types, ["List(Utf8)", "List(Int64)", "List(Timestamp(ms, \"+00:00\"))"]);
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let registry = Registry::load(&catalogue(), &[], &[]).unwrap();
    let message = registry.prepare(&["task_activity.complete_24h"]).unwrap_err().to_string();
    assert!(message.contains("did you mean `task_activity.completed_24h`"), "{message}");
    assert!(registry.prepare_views(&["nosuch"]).is_err());
}

const LOAD: &str = "
    CREATE FEATURE VIEW tasks ENTITY u WINDOWS (1 HOUR, 1 DAY)
    AS SELECT subject AS u, count(*) AS n, sum(minutes) AS minutes FROM task_completed GROUP BY u;
    -- How much is left of the time there is.
    CREATE ON DEMAND FEATURE VIEW room ENTITY u REQUEST (free BIGINT, place TEXT)
    AS SELECT request.free - coalesce(tasks.minutes_1h, 0) AS left_over,
      tasks.n_1h * 1.0 / nullif(tasks.n_1d, 0) AS share,
      CASE WHEN request.place = 'home' AND tasks.n_1d = 0 THEN 'idle' ELSE 'busy' END AS state,
      as_of() AS at;";

#[test]
fn on_demand_features_are_computed_at_the_read() {
    let registry = Registry::from_texts(&catalogue(), &[("v.sql", LOAD)]).unwrap_or_else(|e| panic!("{e}"));
    let prepared = registry.prepare(&["room.state", "tasks.n_1h", "room.left_over", "room.at"]).unwrap();
    let names: Vec<_> = prepared.names.iter().map(|n| n.to_string()).collect();
    assert_eq!(names, ["room.state", "tasks.n_1h", "room.left_over", "room.at"]);
    let given = serde_json::json!({"free": 30, "place": "home"});
    let prepared = prepared.with_request(given.as_object().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock: ingest::Clock = std::sync::Arc::new(|| 0);
    let store = features::FeatureStore::new(
        std::sync::Arc::new(registry),
        features::online::open("embedded:", &features::online::OnlineOptions::new(1)).unwrap(),
        features::offline::open(&features::offline::HistoryOptions::new("embedded:", dir.path(), clock))
            .unwrap(),
        features::Applied::default(),
    );
    let wanted = [Value::Text("idle".into()), Value::Int(0), Value::Int(30), Value::Time(77)];
    assert_eq!(store.read_here(&prepared, "nobody", 77).unwrap().values, wanted);
    assert_eq!(store.read_as_of(&prepared, &["nobody"], 77).unwrap()[0].values, wanted);
    let joined =
        features::past::join(&**store.history(), &prepared, &[("nobody", 77)], Default::default()).unwrap();
    assert_eq!((joined.values.num_columns(), joined.values.num_rows()), (4, 1));
    let share = store.registry().prepare_views(&["room"]).unwrap();
    assert_eq!(store.read_here(&share, "nobody", 0).unwrap().values[..2], [Value::Null, Value::Null]);

    let wrong =
        |json: serde_json::Value| prepared.with_request(json.as_object().unwrap()).unwrap_err().to_string();
    assert!(wrong(serde_json::json!({"free": "much"})).contains("`request.free` must be a whole number"));
    assert!(wrong(serde_json::json!({"hue": 1})).contains("none of the features asked for takes `hue`"));
}

#[test]
fn mistakes_in_on_demand_views_are_told() {
    for (text, wanted) in [
        ("AS SELECT tasks.m_1h AS x", "No field named"),
        ("AS SELECT n_1h AS x", "write view.feature_window"),
        ("AS SELECT moods.n_1h AS x", "there is no feature view `moods`"),
        ("AS SELECT count(tasks.n_1h) AS x", "a SELECT of expressions"),
        ("AS SELECT tasks.n_1h + 1", "needs a name"),
        ("REQUEST (x BLOB) AS SELECT request.x AS x", "expected a type"),
        ("REQUEST (x TEXT, x TEXT) AS SELECT request.x AS x", "twice"),
    ] {
        let (views, _) = LOAD.split_once("    -- How much").unwrap();
        let text = format!("{views} CREATE ON DEMAND FEATURE VIEW room ENTITY u {text};");
        let Err(e) = Registry::from_texts(&catalogue(), &[("v.sql", &text)]) else {
            panic!("{text} was taken")
        };
        assert!(e.to_string().contains(wanted), "{text}: {e}");
    }
}
