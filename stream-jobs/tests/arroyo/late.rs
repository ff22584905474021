//! Tiles made again from history, for signals that Arroyo drops.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::AsArray;
use features::{
    Functions, View,
    offline::{self, HistoryOptions, OfflineStore, ScanFilter},
    reference::{Reference, same},
    tiles::{TILE_MS, start_of},
};
use ingest::Millis;
use proptest::prelude::*;
use serde_json::json;
use stream_jobs::arroyo::history::{self, Mender};

use crate::{BEGIN, MOMENTS, WIDE, compiled, merged, odd, records, signal, sql_engine, tables};

const WAIT: Millis = 120_000;

fn store(dir: &std::path::Path) -> Arc<dyn OfflineStore> {
    offline::open(&HistoryOptions::new("embedded:", dir, Arc::new(|| 0))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, ..ProptestConfig::default() })]

    /// Tiles made here are those of the SQL that Arroyo runs, over the JSON of the topic.
    #[test]
    fn tiles_are_made_as_arroyo_makes_them(signals in prop::collection::vec(signal(), 0..60)) {
        let catalogue = odd();
        let registry = compiled(&catalogue, &[WIDE, MOMENTS].concat());
        let records = records(&catalogue, &signals);
        for view in registry.views() {
            let by_sql = sql_engine::tiles(view, &catalogue, &records);
            let batches = tables(&catalogue, &records)("odd").unwrap();
            let made = view.make_tiles(&batches, &Functions::none()).unwrap();
            let mut by_us = sql_engine::Tiles::new();
            made.into_iter().for_each(|t| by_us.entry(t.entity).or_default().push((t.start, t.row)));
            for entity in ["ada", "bo"] {
                let starts = |tiles: &sql_engine::Tiles| {
                    let mut starts: Vec<_> = tiles.get(entity).into_iter().flatten().map(|(s, _)| *s).collect();
                    starts.sort_unstable();
                    starts
                };
                prop_assert_eq!(starts(&by_sql), starts(&by_us));
                for at in (0..100).step_by(9).map(|m| BEGIN + m * TILE_MS) {
                    let (a, b) = (merged(view, &by_sql, entity, at), merged(view, &by_us, entity, at));
                    prop_assert!(a.iter().zip(&b).all(|(a, b)| same(a, b)), "{:?} {:?}", a, b);
                }
            }
        }
    }

    /// Whatever Arroyo drops in whatever order signals come, mended tiles give what all signals mean.
    #[test]
    fn what_is_dropped_is_mended(signals in prop::collection::vec(signal(), 1..60), behind in 0_i64..300_000) {
        let catalogue = odd();
        let registry = compiled(&catalogue, WIDE);
        let view = registry.view("wide").unwrap();
        let records = records(&catalogue, &signals);
        // Arroyo's watermark is behind ours by as much as it likes.
        let (mut watermark, mut kept) = (Millis::MIN, Vec::new());
        for r in &records {
            if start_of(r.time) >= start_of(watermark) {
                kept.push(r.clone());
            }
            watermark = watermark.max(r.time - WAIT - behind);
        }
        let mut tiles: BTreeMap<_, _> = sql_engine::tiles(view, &catalogue, &kept);
        let mut mender = Mender::new(registry.views(), WAIT);
        records.iter().for_each(|r| assert!(mender.note("odd", &r.subject, r.time, r.key())));
        let dir = tempfile::tempdir().unwrap();
        let history = store(dir.path());
        for batch in tables(&catalogue, &records)("odd").unwrap() {
            history.append("odd", batch).unwrap();
        }
        let mut rounds = 0;
        while mender.due() > 0 {
            for (of, mended) in mender.mend(&*history, &Functions::none(), 7).unwrap() {
                for tile in mended.into_iter().filter(|_| of.name == view.name) {
                    let rows = tiles.entry(tile.entity).or_default();
                    rows.retain(|(start, _)| *start != tile.start);
                    rows.push((tile.start, tile.row));
                }
            }
            rounds += 1;
            prop_assert!(rounds < 100);
        }
        let reference = Reference::new(&catalogue, &[], &view.definition).unwrap();
        for at in [40, 95].map(|m| BEGIN + m * TILE_MS) {
            for entity in ["ada", "bo"] {
                let wanted = reference.values(tables(&catalogue, &records), entity, at).unwrap();
                for ((name, got), wanted) in view.feature_names().zip(merged(view, &tiles, entity, at)).zip(&wanted) {
                    prop_assert!(same(&got, wanted), "{} of {}: {:?}, not {:?}", name, entity, got, wanted);
                }
            }
        }
    }
}

#[test]
fn signals_in_time_are_not_mended_and_the_newest_tile_counts() {
    let catalogue = odd();
    let registry = compiled(
        &catalogue,
        "CREATE FEATURE VIEW v ENTITY e WINDOWS (1 HOUR) WITH (lateness = '1 minute')
         AS SELECT subject AS e, count(*) AS n FROM odd GROUP BY e;
         CREATE FEATURE VIEW w ENTITY e WINDOWS (TODAY) AS SELECT subject AS e, count(*) AS n FROM odd GROUP BY e;",
    );
    let view: &Arc<View> = registry.view("v").unwrap();
    let mut mender = Mender::new(registry.views(), WAIT);
    for time in [BEGIN, BEGIN + 1, BEGIN + 60_000, BEGIN + 1, BEGIN + 120_000] {
        assert!(mender.note("odd", "ada", time, 1) && mender.note("task_completed", "ada", time, 1));
    }
    assert_eq!(mender.due(), 0);
    // The view waits less than the settings.
    assert!(mender.note("odd", "ada", BEGIN, 2) && mender.note("odd", "bo", BEGIN, 3));
    assert_eq!(mender.due(), 2);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(mender.mend(&*store(dir.path()), &Functions::none(), 9).unwrap().len(), 0);
    assert_eq!(mender.due(), 2, "history does not hold them yet");
    mender.forget("bo");
    assert_eq!(mender.due(), 1);

    let row = |version: &str, tile: &str, n: i64| {
        json!({"entity": "ada", "tile": tile, "version": version, "newest": BEGIN, "a0": n}).to_string()
    };
    let (start, version) = (BEGIN.to_string(), &view.version_text);
    let rows = [
        row(version, &start, 1),
        row("old", &start, 2),
        row(version, "12", 3),
        "{".into(),
        "x".repeat(2 << 20),
    ];
    let (tiles, left_out) = history::read(view, rows.iter().map(String::as_bytes));
    assert_eq!((tiles.len(), left_out), (1, 4));
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let again = features::tiles::Tile { row: row(version, &start, 9), ..tiles[0].clone() };
    store.append(&history::table("v"), history::batch(view, &[again], 20).unwrap()).unwrap();
    store.append(&history::table("v"), history::batch(view, &tiles, 10).unwrap()).unwrap();
    let found = store.scan("tiles_v", &ScanFilter::default()).unwrap();
    let texts: Vec<&str> = found
        .iter()
        .flat_map(|b| b.column_by_name("row").unwrap().as_string::<i32>().iter().flatten())
        .collect();
    assert_eq!(texts, [row(version, &start, 9)], "one row a tile, the one written last");
}
