//! Values read from tiles in a real Redis.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use features::{
    Applied, FeatureError, FeatureStore, Functions, Value,
    offline::{self, HistoryOptions},
    online::{
        self, OnlineOptions, OnlineStore,
        redis::RedisTiles,
        tiles::{TileStore, TiledOnline},
    },
    tiles::{TILE_MS, key_prefix},
};
use ingest::{Millis, record::Record, servers};
use serde_json::json;

use crate::{BEGIN, compiled, odd, records, tables};

const VIEWS: &str = "
CREATE FEATURE VIEW v ENTITY e WINDOWS (2 MINUTES, 1 HOUR)
AS SELECT subject AS e, count(*) AS n, sum(i) AS i, last(t) AS t, as_of() - max(time) AS since FROM odd GROUP BY e;
CREATE FEATURE VIEW w ENTITY e WINDOWS (TODAY) AS SELECT subject AS e, count(*) AS n FROM odd GROUP BY e;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_come_from_the_hashes_and_old_tiles_go() {
    let Some(mut server) = servers::redis() else { return };
    let catalogue = odd();
    let registry = Arc::new(compiled(&catalogue, VIEWS));
    let url = format!("redis://{}", server.address());
    let options = OnlineOptions::new(registry.views().len());
    let tiles = Arc::new(RedisTiles::open(&url, &options).unwrap());
    let now = Arc::new(AtomicI64::new(BEGIN));
    let clock: ingest::Clock = {
        let now = now.clone();
        Arc::new(move || now.load(Relaxed))
    };
    let rows = online::open("embedded:", &options).unwrap();
    let online = Arc::new(TiledOnline::new(rows, tiles.clone(), registry.views(), clock.clone()));
    let dir = tempfile::tempdir().unwrap();
    let history = offline::open(&HistoryOptions::new("embedded:", dir.path(), clock)).unwrap();
    let store = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());

    let signal =
        |minute: i64, i: i64, t: &str| (1_u8, "ada", BEGIN + minute * TILE_MS, json!({"i": i, "t": t}));
    let signals: Vec<Record> = records(
        &catalogue,
        &[signal(-500, 64, "old"), signal(-30, 4, "x"), signal(-1, 2, "y"), signal(0, 1, "z")],
    );
    let view = registry.view("v").unwrap();
    let batches = tables(&catalogue, &signals)("odd").unwrap();
    tiles.put(view, &view.make_tiles(&batches, &Functions::none()).unwrap()).await.unwrap();

    let names: Vec<String> =
        ["v.n_2m", "v.i_2m", "v.n_1h", "v.i_1h", "v.t_1h", "v.since_1h", "w.n_today", "v.n_2m"]
            .map(str::to_owned)
            .to_vec();
    let prepared = registry.prepare(&names).unwrap();
    let row = store.read_one(&prepared, "ada", BEGIN).await.unwrap();
    let int = Value::Int;
    let wanted = [int(2), int(3), int(3), int(7), Value::Text("z".into()), int(0), int(0), int(2)];
    assert_eq!(row.values, wanted);
    assert_eq!(row.age_ms, [Some(0), Some(0), Some(0), Some(0), Some(0), Some(0), None, Some(0)]);
    // Nobody's.
    let empty = store.read_one(&prepared, "bo", BEGIN).await.unwrap();
    assert_eq!(empty.values[..4], [int(0), Value::Null, int(0), Value::Null]);
    // A tile again, whole: nothing is counted twice.
    tiles.put(view, &view.make_tiles(&batches, &Functions::none()).unwrap()).await.unwrap();
    assert_eq!(store.read_one(&prepared, "ada", BEGIN).await.unwrap().values, wanted);

    let kept = async || {
        let mut all = tiles.tiles(&[(view, "ada")]).await.unwrap().remove(0);
        all.sort_unstable();
        all.iter().map(|(start, _)| (*start - BEGIN) / TILE_MS).collect::<Vec<Millis>>()
    };
    assert_eq!(kept().await, [-31, -2, -1], "the one of eight hours ago was taken out by the first read");
    now.store(BEGIN + 119 * TILE_MS, Relaxed);
    store.read_one(&prepared, "ada", BEGIN + 119 * TILE_MS).await.unwrap();
    assert_eq!(kept().await, [-1]);

    assert_eq!(online.entities(view).await.unwrap(), [Arc::from("ada")]);
    // What stands there by the hand of another is told, with the way out.
    let client = redis::Client::open(url).unwrap();
    let mut plain = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}ada", key_prefix("kairos", "v"));
    let set =
        redis::cmd("HSET").arg(&key).arg(BEGIN + 118 * TILE_MS).arg("{").query_async::<i64>(&mut plain).await;
    assert_eq!(set.unwrap(), 1);
    let error = store.read_one(&prepared, "ada", BEGIN + 119 * TILE_MS).await.unwrap_err();
    assert!(matches!(&error, FeatureError::Damaged(m) if m.contains("delete it")), "{error}");
    online.erase("ada").await.unwrap();
    assert_eq!(online.entities(view).await.unwrap(), Vec::<Arc<str>>::new());

    server.kill();
    let away = store.read_one(&prepared, "ada", BEGIN).await.unwrap_err();
    assert!(matches!(away, FeatureError::Unavailable(_)), "{away}");
    server.start();
    assert_eq!(store.read_one(&prepared, "ada", BEGIN).await.unwrap().values[0], int(0));
}
