//! What may stand inside and around aggregates: every expression below gives in a view what it gives in a plain
//! query over the same signals.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::Float64Type,
};
use datafusion::prelude::SessionContext;
use features::{
    Registry,
    kernel::{EventList, Kept},
    view::View,
};
use ingest::catalogue::Catalogue;

const DAY: i64 = 86_400_000;
const START: i64 = 1_700_000_000_000;

fn catalogue() -> Catalogue {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/signals");
    Catalogue::load(&[examples]).unwrap()
}

/// Signals of one person, in order of time, all of the last day.
fn signals(catalogue: &Catalogue) -> RecordBatch {
    let data = [
        serde_json::json!({"book": "Solaris", "pages": 30, "reading": "1800s", "mood": "ABSORBED",
            "where": {"place": "train", "company": true}, "tags": ["sf", "polish"]}),
        serde_json::json!({"book": "Ślepnąc od świateł", "pages": 12, "reading": "900.5s", "mood": "DISTRACTED",
            "where": {"place": "home"}, "tags": ["crime"]}),
        serde_json::json!({"pages": 0, "where": {"place": "home", "company": false}}),
        serde_json::json!({"book": "solaris", "pages": 61, "reading": "3000s", "mood": "ABSORBED", "tags": []}),
        serde_json::json!({}),
        serde_json::json!({"book": "Fiasco", "pages": 7, "where": {"place": "work"}, "tags": ["sf", "lem", "sf"]}),
    ];
    let timed = data.into_iter().enumerate().map(|(i, data)| (START + i as i64 * 3_777_000, data));
    support::signals(catalogue, "reading_session", &timed.collect::<Vec<_>>())
}

fn view(catalogue: &Catalogue, expression: &str) -> std::sync::Arc<View> {
    let sql = format!(
        "CREATE FEATURE VIEW v ENTITY user_id WINDOWS (1 HOUR, 1 DAY) AS SELECT subject AS user_id, {expression} AS x \
         FROM reading_session GROUP BY user_id"
    );
    let registry =
        Registry::from_texts(catalogue, &[("v.sql", &sql)]).unwrap_or_else(|e| panic!("{expression}: {e}"));
    registry.view("v").unwrap().clone()
}

/// The value of the longer window over all signals.
fn in_view(catalogue: &Catalogue, signals: &RecordBatch, expression: &str) -> ArrayRef {
    let view = view(catalogue, expression);
    let events = view.project(signals).unwrap();
    let mut kept: Vec<_> = (0..events.len()).map(|i| events.get(i)).collect();
    let buffer = features::events::EventBuffer::merge(EventList::default(), &mut kept, i64::MIN);
    view.evaluate(&[Kept { events: buffer.as_list().into(), ..view.nothing(START + DAY / 2) }]).unwrap()[1]
        .clone()
}

fn in_query(signals: &RecordBatch, expression: &str) -> ArrayRef {
    let ctx = SessionContext::new();
    ctx.register_batch("reading_session", signals.clone()).unwrap();
    let sql = format!("SELECT {expression} AS x FROM reading_session");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async { ctx.sql(&sql).await.unwrap().collect().await.unwrap() });
    batches[0].column(0).clone()
}

#[test]
fn expressions_mean_in_a_view_what_they_mean_in_a_query() {
    let catalogue = catalogue();
    let signals = signals(&catalogue);
    let ordered = "ORDER BY time, source, id";
    // In a view, and in a query where it says the same in other words.
    let cases: Vec<(&str, String)> = [
        // Ratios and differences of aggregates.
        ("sum(pages) / count(*)", ""),
        ("sum(pages) * 1.0 / nullif(count(tags), 0)", ""),
        ("max(pages) - min(pages)", ""),
        ("CAST(count(*) FILTER (WHERE pages > 10) AS DOUBLE) / count(*)", ""),
        ("coalesce(sum(pages) FILTER (WHERE book = 'none'), -1)", ""),
        ("round(avg(pages), 1)", ""),
        ("sqrt(var_pop(pages)) - stddev_pop(pages) > 0.001", ""),
        ("max(time) - min(time) > INTERVAL '1 hour'", ""),
        ("CASE WHEN count(*) > 3 THEN 'many' WHEN count(*) > 0 THEN 'few' ELSE 'none' END", ""),
        ("greatest(max(pages), 40)", ""),
        // Filters.
        ("count(*) FILTER (WHERE book LIKE 'S%' AND pages BETWEEN 5 AND 40)", ""),
        ("count(*) FILTER (WHERE mood IN ('ABSORBED'))", ""),
        ("count(*) FILTER (WHERE NOT (pages > 10))", ""),
        ("count(*) FILTER (WHERE book IS NULL)", ""),
        // CASE and casts inside.
        ("sum(CASE WHEN pages > 20 THEN 1 ELSE 0 END)", ""),
        ("sum(CASE mood WHEN 'ABSORBED' THEN pages END)", ""),
        ("max(CAST(pages AS VARCHAR))", ""),
        ("sum(CAST(pages AS DOUBLE) / 3)", ""),
        ("sum(TRY_CAST(book AS BIGINT))", ""),
        ("avg(reading) / 60000", ""),
        ("count(DISTINCT coalesce(book, mood, '-'))", ""),
        // Fields of messages.
        ("count(*) FILTER (WHERE reading_session.\"where\"['place'] = 'home')", ""),
        ("max(get_field(\"where\", 'place'))", ""),
        ("bool_or(\"where\"['company'])", ""),
        ("count(DISTINCT \"where\"['place'])", ""),
        ("last(\"where\"['place'])", "last_value(\"where\"['place'] ORDER BY time, source, id)"),
        // Lists.
        ("sum(array_length(tags))", ""),
        ("sum(cardinality(tags))", ""),
        ("count(*) FILTER (WHERE array_has(tags, 'sf'))", ""),
        ("max(tags[1])", ""),
        ("max(array_to_string(tags, '+'))", ""),
        ("last(tags)", "last_value(tags ORDER BY time, source, id)"),
        ("first(tags)", "first_value(tags ORDER BY time, source, id)"),
        // Text.
        ("count(DISTINCT lower(book))", ""),
        ("max(character_length(book))", ""),
        ("min(substr(book, 1, 2) || '!')", ""),
        ("max(upper(book))", ""),
        ("bool_or(starts_with(book, 'Sol'))", ""),
        ("max(regexp_replace(book, 'l.r', '_'))", ""),
        ("max(split_part(book, ' ', 1))", ""),
        ("sum(strpos(book, 'a'))", ""),
        ("count(*) FILTER (WHERE book ~ '^S')", ""),
        // Dates.
        ("count(DISTINCT date_trunc('hour', time))", ""),
        ("max(extract(hour FROM time))", ""),
        ("min(date_part('dow', time))", ""),
        ("max(date_bin(INTERVAL '15 minutes', time))", ""),
        ("max(to_char(time, '%H:%M'))", ""),
        ("max(CAST(time AS DATE))", ""),
        ("count(DISTINCT CAST(time AS DATE))", ""),
        ("max(time + INTERVAL '30 minutes')", ""),
        // Aggregates that are ours or read otherwise.
        ("median(pages)", ""),
        ("percentile_cont(pages, 0.9)", ""),
        ("percentile_cont(0.9) WITHIN GROUP (ORDER BY pages)", ""),
        ("corr(pages, reading)", ""),
        ("regr_slope(pages, reading)", ""),
        ("approx_distinct(book)", "count(DISTINCT book)"),
        ("approx_median(pages)", "median(pages)"),
        ("approx_percentile_cont(pages, 0.9)", "percentile_cont(pages, 0.9)"),
        ("approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY pages)", "percentile_cont(pages, 0.25)"),
        ("approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY pages DESC)", "percentile_cont(pages, 0.75)"),
        ("last_n(book, 3)", "array_reverse(array_agg(book {o})[4:6])"),
        ("first_n(pages, 2)", "array_agg(pages {o})[1:2]"),
        ("array_agg(mood, 4)", "array_agg(mood {o})[3:6]"),
        ("array_agg(pages, 99)", "array_agg(pages {o})"),
        (
            "array_agg(pages * 2, 9) FILTER (WHERE pages > 10)",
            "array_agg(pages * 2 {o}) FILTER (WHERE pages > 10)",
        ),
        ("last_n(book, 2)[1]", "array_agg(book {o})[6]"),
        ("array_to_string(array_agg(book, 9), ', ')", "array_to_string(array_agg(book {o}), ', ')"),
        ("array_length(top_k(book, 2))", "CAST(2 AS BIGINT UNSIGNED)"),
        ("top_k(\"where\"['place'], 1)[1]", "'home'"),
        ("streak(time)", "count(DISTINCT CAST(time AS DATE))"),
        ("streak(time) > 1", "true"),
        ("streak(time) * 1.0 / count(*)", "count(DISTINCT CAST(time AS DATE)) * 1.0 / count(*)"),
    ]
    .map(|(view, query)| (view, if query.is_empty() { view } else { query }.replace("{o}", ordered)))
    .into();
    let mut wrong = Vec::new();
    for (expression, query) in cases {
        let query = query.as_str();
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let wanted = in_query(&signals, query);
            let got = in_view(&catalogue, &signals, expression);
            (cast(&wanted, got.data_type()).unwrap().slice(0, 1), got)
        }));
        match &tried {
            Ok((wanted, got)) if wanted == got || near(wanted, got) => {}
            Ok((wanted, got)) => wrong.push(format!("{expression} gave {got:?}, the query {wanted:?}")),
            Err(e) => wrong.push(format!("{expression}: {:?}", e.downcast_ref::<String>())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn near(a: &ArrayRef, b: &ArrayRef) -> bool {
    let number = |x: &ArrayRef| x.as_primitive_opt::<Float64Type>().map(|x| x.value(0));
    matches!((number(a), number(b)), (Some(x), Some(y)) if (x - y).abs() <= 1e-9 * x.abs())
}

#[test]
fn nothing_reads_as_nothing() {
    let catalogue = catalogue();
    let cases = [
        ("approx_distinct(book)", "0"),
        ("approx_median(pages)", "null"),
        ("top_k(book, 2)", "null"),
        ("last_n(book, 2)", "null"),
        ("array_agg(book, 2)", "null"),
        ("median(pages)", "null"),
        ("streak(time)", "0"),
        ("array_length(last_n(book, 2))", "null"),
    ];
    for (expression, wanted) in cases {
        let view = view(&catalogue, expression);
        assert_eq!(serde_json::to_string(&view.outputs[0].empty).unwrap(), wanted, "{expression}");
    }
}
