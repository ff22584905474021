//! What Arroyo is told, and what its rows mean, without an Arroyo.
#![allow(clippy::unwrap_used)]

mod late;
#[cfg(feature = "arroyo")]
mod online;
#[cfg(feature = "arroyo")]
mod rest;
mod sql_engine;
#[cfg(feature = "arroyo")]
mod stand_in;

use std::{path::Path, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::{dialect::GenericDialect, parser::Parser};
use features::{
    FeatureError, Functions, Registry, Value, View,
    reference::{Reference, same},
    tiles::TILE_MS,
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    record::Record,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use stream_jobs::{
    arroyo::{self, Places, Redis},
    golden::{self, Surroundings},
};

fn places() -> Places {
    Places {
        topic_prefix: "kairos".into(),
        fluvio: Some("fluvio:9003".into()),
        redis: Redis::Address("redis://redis:6379".into()),
        key_prefix: "kairos".into(),
        wait_ms: 60_000,
    }
}

fn compiled(catalogue: &Catalogue, sql: &str) -> Registry {
    Registry::from_texts(catalogue, &[("t.sql", sql)]).unwrap()
}

/// The values from tiles.
fn merged(view: &View, tiles: &sql_engine::Tiles, entity: &str, at: Millis) -> Vec<Value> {
    let rows = tiles.get(entity).map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<(Millis, &str)> = rows.iter().map(|(start, row)| (*start, row.as_str())).collect();
    view.merge_tiles(&rows, at).unwrap().values
}

/// The records as tables, each (source, id) once.
fn tables<'a>(
    catalogue: &'a Catalogue,
    records: &'a [Record],
) -> impl Fn(&str) -> Result<Vec<RecordBatch>, FeatureError> + 'a {
    move |table| {
        let declared = catalogue.by_table(table).unwrap();
        let mut builder = declared.builder();
        let mut seen = std::collections::HashSet::new();
        for (i, r) in records.iter().enumerate().filter(|(_, r)| r.kind == declared.name) {
            if seen.insert(r.key()) {
                builder.append(0, i as u64, r).unwrap();
            }
        }
        Ok(vec![builder.finish()])
    }
}

#[test]
fn golden_cases_hold_at_full_minutes_on_the_sql_of_arroyo() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (mut looked, mut refused) = (0, Vec::new());
    for case in golden::find(&[root], &Surroundings::default()).unwrap() {
        let records: Vec<Record> = case.signals.iter().map(|s| s.record.clone()).collect();
        for view in case.registry.views() {
            if view.tiling.is_err() {
                refused.push(view.name.to_string());
                continue;
            }
            let tiles = sql_engine::tiles(view, &case.catalogue, &records);
            for e in case.expected.iter().filter(|e| e.instant % TILE_MS == 0) {
                let values = merged(view, &tiles, &e.entity, e.instant);
                for (name, value) in view.feature_names().zip(&values) {
                    if let Some(wanted) = e.values.get(&format!("{}.{name}", view.name)) {
                        assert!(
                            golden::same(value, wanted),
                            "{name} of {} at {}: {value:?}, not {wanted}",
                            e.entity,
                            e.at
                        );
                        looked += 1;
                    }
                }
            }
        }
    }
    assert!(looked >= 30, "only {looked} values were looked at");
    assert_eq!(refused, ["days", "by_place", "elsewhere", "lately", "going_on", "rhythm", "rhythm_utc"]);
}

#[test]
fn every_built_in_view_is_written_and_parses() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let registry = Registry::load(&catalogue, &[], &[]).unwrap();
    for view in registry.current() {
        let pipeline = arroyo::pipeline(view, &catalogue, &Functions::none(), &places()).unwrap();
        // A watermark is Arroyo's own.
        let lines = pipeline.sql.lines().filter(|l| !l.contains("WATERMARK"));
        let sql = lines.collect::<Vec<_>>().join("\n").replace("'1 millisecond'),\n)", "'1 millisecond')\n)");
        let statements = Parser::parse_sql(&GenericDialect {}, &sql).unwrap_or_else(|e| panic!("{e}\n{sql}"));
        assert_eq!(statements.len(), 5, "{sql}");
    }
}

#[test]
fn a_view_reads_as_documented() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let registry = compiled(
        &catalogue,
        "CREATE FEATURE VIEW busy ENTITY user_id WINDOWS (1 HOUR) WITH (lateness = '30 seconds')
         AS SELECT subject AS user_id, count(*) FILTER (WHERE late) AS late, avg(minutes) AS mean
         FROM task_completed t WHERE t.project = 'it''s' GROUP BY user_id;",
    );
    let view = registry.view("busy").unwrap();
    let sql = arroyo::pipeline(view, &catalogue, &Functions::none(), &places()).unwrap().sql;
    for part in [
        "topic = 'kairos-signals'",
        "'source.offset' = 'earliest'",
        "bad_data = 'drop'",
        "endpoint = 'fluvio:9003'",
        "GENERATED ALWAYS AS (\"time\" - INTERVAL '1 millisecond')",
        // The view allows less than the settings.
        "WATERMARK FOR event_time AS (\"time\" - INTERVAL '30001 milliseconds')",
        "'target.key_prefix' = 'kairos:tiles:busy:'",
        "'target.key_column' = 'entity'",
        "'target.field_column' = 'tile'",
        "address = 'redis://redis:6379'",
        "topic = 'kairos-tiles-busy'",
        "entity TEXT NOT NULL,\n  tile TEXT NOT NULL",
        "a1_count BIGINT,\n  a1_sum TEXT",
        "json_get_bool(\"data\", 'late') AS \"late\"",
        "(\"project\" = 'it''s')",
        "'kairos:tiles:busy:'",
    ] {
        assert!(sql.contains(part), "{part} is missing in\n{sql}");
    }
    assert_eq!(
        sql.matches("tumble(INTERVAL '1 minute') AS window").count(),
        2,
        "the query once for each sink"
    );
    let profile = Places { redis: Redis::Profile("shared".into()), fluvio: None, ..places() };
    let sql = arroyo::pipeline(view, &catalogue, &Functions::none(), &profile).unwrap().sql;
    assert!(
        sql.contains("connection_profile = 'shared'")
            && !sql.contains("endpoint")
            && !sql.contains("address")
    );
}

#[test]
fn what_arroyo_cannot_hold_is_refused_with_the_way_out() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let reason = |windows: &str, select: &str, from: &str| {
        let sql = format!(
            "CREATE FEATURE VIEW v ENTITY user_id WINDOWS ({windows}) AS SELECT t.subject AS user_id, {select} AS x FROM {from} \
             GROUP BY user_id;"
        );
        let registry = compiled(&catalogue, &sql);
        let refusal =
            arroyo::pipeline(&registry.views()[0], &catalogue, &Functions::none(), &places()).unwrap_err();
        assert_eq!(refusal.view, "v");
        let text = refusal.to_string();
        assert!(text.contains("embedded engine") || text.contains(';'), "no way out: {text}");
        text
    };
    let tasks = "task_completed t";
    assert!(reason("TODAY", "count(*)", tasks).contains("window today begins at the person's own midnight"));
    assert!(reason("LIFETIME", "count(*)", tasks).contains("every tile for good"));
    assert!(reason("SESSION 5 MINUTES", "count(*)", tasks).contains("gap"));
    assert!(reason("1 DAY", "streak(time)", tasks).contains("time zone"));
    assert!(reason("1 DAY", "top_k(project, 2)", tasks).contains("top_k() has a state"));
    assert!(reason("1 DAY", "approx_median(minutes)", tasks).contains("approx_median()"));
    assert!(reason("1 DAY", "last_n(project, 2)", tasks).contains("last_n()"));
    assert!(reason("1 DAY", "max(received_at)", tasks).contains("only the log knows"));
    assert!(reason("1 DAY", "count(tags)", tasks).contains("of the type List"));
    let joined = "task_completed t LEFT JOIN context_changed c ON c.subject = t.subject";
    assert!(reason("1 DAY", "last(c.place)", joined).contains("joined to context_changed"));
}

/// Every aggregate that tiles hold, over every type.
const WIDE: &str = "
CREATE FEATURE VIEW wide ENTITY user_id WINDOWS (5 MINUTES, 1 HOUR) AS SELECT subject AS user_id,
  count(*) AS n, count(x) AS xs, count(*) FILTER (WHERE ok) AS oks, sum(i) AS sum_i, sum(x) FILTER (WHERE i > 0) AS sum_x,
  avg(i) AS avg_i, avg(x) AS avg_x, min(i) AS min_i, max(i) AS max_i, min(x) AS min_x, max(x) AS max_x,
  min(t) AS min_t, max(t) AS max_t, max(at) AS max_at, min(time) AS min_time, min(ok) AS min_ok, max(ok) AS max_ok,
  bool_and(ok) AS all_ok, bool_or(ok) AS any_ok, bit_and(i) AS bits_and, bit_or(i) AS bits_or, bit_xor(i) AS bits_xor,
  count(DISTINCT t) AS ts, count(DISTINCT i) AS is, count(DISTINCT x) AS different, count(DISTINCT at) AS ats,
  first(t) AS first_t, last(t) AS last_t, last(i) FILTER (WHERE i IS NOT NULL) AS last_i, first(x) AS first_x,
  last(ok) AS last_ok, last(at) AS last_at, last(t = 'a') AS last_is_a, last(kind) AS last_kind,
  sum(i) / count(*) AS per, coalesce(sum(u), 0) AS us, as_of() - max(time) AS since,
  count(*) FILTER (WHERE extract(hour FROM time) >= 8) AS late, count(*) FILTER (WHERE at <= time + INTERVAL '24 hours') AS soon,
  sum(CASE WHEN i < 3 THEN 3 - i ELSE 0 END) AS short, last(f) AS last_f
FROM odd WHERE t IS DISTINCT FROM 'zz' GROUP BY user_id;

CREATE FEATURE VIEW coarse ENTITY user_id WINDOWS (20 MINUTES) WITH (resolution = '10 minutes')
AS SELECT subject AS user_id, count(*) AS n, sum(i) AS i FROM odd GROUP BY user_id;";

/// Those of moments, over values without NaN and infinities.
const MOMENTS: &str = "
CREATE FEATURE VIEW moments ENTITY user_id WINDOWS (5 MINUTES, 1 HOUR) AS SELECT subject AS user_id,
  var(i) AS v, var_pop(i) AS vp, stddev(i) AS s, stddev_pop(i) FILTER (WHERE ok) AS sp, covar_samp(i, u) AS cs, covar_pop(i, u) AS cp,
  corr(i, u) AS c, regr_slope(i, u) AS slope, regr_intercept(i, u) AS intercept, regr_count(i, u) AS rn,
  regr_avgx(i, u) AS ax, regr_avgy(i, u) AS ay, regr_sxx(i, u) AS sxx, regr_syy(i, u) AS syy, regr_sxy(i, u) AS sxy,
  regr_r2(i, u) AS r2
FROM odd GROUP BY user_id;";

const ODD: &str = r#"syntax = "proto3";
import "kairos/signal.proto";
import "google/protobuf/timestamp.proto";
enum Odd_Kind { PLAIN = 0; ODD = 1; }
message Odd {
  option (kairos.signal_type) = "odd";
  optional int64 i = 1;
  optional double x = 2;
  optional string t = 3;
  optional bool ok = 4;
  google.protobuf.Timestamp at = 5;
  optional uint32 u = 6;
  optional float f = 7;
  optional Odd_Kind kind = 8;
}"#;

fn odd() -> Catalogue {
    Catalogue::parse(&[("odd.proto", ODD)]).unwrap()
}

/// 2026-03-01T07:30:00Z
const BEGIN: Millis = 1_772_350_200_000;

fn signal() -> impl Strategy<Value = (u8, &'static str, Millis, Json)> {
    let data = (
        prop::option::of(-5_i64..20),
        prop::option::of(prop_oneof![
            4 => (-4_i32..9).prop_map(|x| json!(f64::from(x) * 0.37)),
            1 => Just(json!("NaN")), 1 => Just(json!("Infinity")), 1 => Just(json!("-Infinity")),
        ]),
        prop::option::of(prop::sample::select(vec!["a", "b", "c\u{1}d", "+-", "zz", ""])),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::sample::select(vec![
            "2026-03-01T07:31:00.5Z",
            "9999-01-01T00:00:00Z",
            "1960-01-01T00:00:00Z",
        ])),
        prop::option::of(0_u32..9),
        prop::option::of(prop::sample::select(vec![0.1_f32, -2.5e-20, 7.0])),
        prop::option::of(prop::sample::select(vec![json!("PLAIN"), json!("ODD")])),
    );
    // Many at the edges of minutes, and at the same instant.
    let offset = prop_oneof![
        3 => (0_i64..90).prop_map(|m| m * 60_000),
        1 => (0_i64..90).prop_map(|m| m * 60_000 + 1),
        2 => 0_i64..5_400_000,
    ];
    (0_u8..12, prop::sample::select(vec!["ada", "bo"]), offset, data).prop_map(|(id, who, offset, d)| {
        let (i, x, t, ok, at, u, f, kind) = d;
        let object = json!({"i": i, "x": x, "t": t, "ok": ok, "at": at, "u": u, "f": f, "kind": kind});
        (id, who, BEGIN + offset, object)
    })
}

fn records(catalogue: &Catalogue, signals: &[(u8, &str, Millis, Json)]) -> Vec<Record> {
    let kind = catalogue.get("odd").unwrap();
    let mut records = Vec::new();
    for (n, (id, who, time, data)) in signals.iter().enumerate() {
        let record = Record {
            kind: "odd".into(),
            // Order by source and id is not that of arrival.
            id: format!("{id}-{n}"),
            source: format!("s{}", id % 3),
            subject: (*who).into(),
            time: *time,
            received_at: *time,
            data: kind.encode_value(data, UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        // Some come twice.
        records.extend(std::iter::repeat_n(record, 1 + usize::from(id % 4 == 0)));
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn tiles_merge_into_what_the_sql_means(
        signals in prop::collection::vec(signal(), 0..60),
        minutes in prop::collection::vec(0_i64..150, 3),
    ) {
        let catalogue = odd();
        let registry = compiled(&catalogue, &[WIDE, MOMENTS].concat());
        let records = records(&catalogue, &signals);
        for view in registry.views() {
            let tiles = sql_engine::tiles(view, &catalogue, &records);
            let reference = Reference::new(&catalogue, &[], &view.definition).unwrap();
            for at in minutes.iter().map(|m| BEGIN + m * TILE_MS) {
                for entity in ["ada", "bo"] {
                    let wanted = reference.values(tables(&catalogue, &records), entity, at).unwrap();
                    let got = merged(view, &tiles, entity, at);
                    for ((name, got), wanted) in view.feature_names().zip(&got).zip(&wanted) {
                        prop_assert!(same(got, wanted), "{} of {} at {}: {:?}, not {:?}", name, entity, at, got, wanted);
                    }
                }
            }
        }
    }

    /// Between full minutes: down to the full minute below, up to the one above.
    #[test]
    fn edges_fall_on_minutes(signals in prop::collection::vec(signal(), 0..60), at in 0_i64..9_000_000) {
        let catalogue = odd();
        let registry = compiled(&catalogue, "CREATE FEATURE VIEW v ENTITY e WINDOWS (90 SECONDS, 1 HOUR)
            AS SELECT subject AS e, count(*) AS n FROM odd GROUP BY e;");
        let view = registry.view("v").unwrap();
        let (records, at) = (records(&catalogue, &signals), BEGIN + at);
        let tiles = sql_engine::tiles(view, &catalogue, &records);
        let got = merged(view, &tiles, "ada", at);
        for (value, span) in got.iter().zip([90_000, 3_600_000]) {
            let (lower, upper) = ((at - span).div_euclid(TILE_MS) * TILE_MS, (at + TILE_MS - 1).div_euclid(TILE_MS) * TILE_MS);
            let inside = |(_, who, time, _): &&(u8, &str, Millis, Json)| *who == "ada" && *time > lower && *time <= upper;
            prop_assert_eq!(value, &Value::Int(signals.iter().filter(inside).count() as i64));
        }
    }
}

#[test]
fn rows_are_judged() {
    let catalogue = Arc::new(odd());
    let registry = compiled(
        &catalogue,
        "CREATE FEATURE VIEW v ENTITY e WINDOWS (2 MINUTES) AS SELECT subject AS e, count(*) AS n FROM odd GROUP BY e;",
    );
    let view = registry.view("v").unwrap();
    let row = |version: &str, n: i64| json!({"version": version, "newest": BEGIN + 5, "a0": n}).to_string();
    let (good, other) = (row(&view.version_text, 3), row("another", 40));
    let old = BEGIN - 2 * 3_600_000;
    let rows = [
        (BEGIN, good.as_str()),
        (BEGIN - TILE_MS, other.as_str()),
        (old, good.as_str()),
        (BEGIN + 2 * TILE_MS, good.as_str()),
    ];
    let merged = view.merge_tiles(&rows, BEGIN + TILE_MS).unwrap();
    assert_eq!(merged.values, [Value::Int(3)], "neither another version's tile nor one after the instant");
    assert_eq!(merged.newest_in, [Some(BEGIN + 5)]);
    assert_eq!(merged.expired, [BEGIN - TILE_MS, old]);
    let empty = view.merge_tiles(&[], BEGIN).unwrap();
    assert_eq!((empty.values, empty.newest), (vec![Value::Int(0)], None));
    for wrong in ["", "[]", "{", &row(&view.version_text, 3).replace('3', "\"3\""), &" ".repeat(2 << 20)] {
        if let Ok(merged) = view.merge_tiles(&[(BEGIN, wrong)], BEGIN + TILE_MS) {
            // What is an object of nobody's is another version's.
            assert_eq!((merged.values, merged.expired), (vec![Value::Int(0)], vec![BEGIN]), "{wrong}");
        }
    }
    let error = view.merge_tiles(&[(BEGIN, "{")], BEGIN + TILE_MS).unwrap_err().to_string();
    assert!(error.contains("the tile of v at") && error.contains("delete it"), "{error}");
}
