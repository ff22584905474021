//! The golden cases on a real Arroyo, as far as it can hold them: signals into Fluvio, tiles out of Redis and out of the
//! topic, values at full minutes.
//!
//! | variable | what |
//! |---|---|
//! | `KAIROS_TEST_ARROYO_URL` | Arroyo's API, such as `http://127.0.0.1:5115`; without it nothing is run |
//! | `KAIROS_TEST_ARROYO_KEY_FILE` | file of its static API key, if it has one |
//! | `KAIROS_TEST_ARROYO_FLUVIO`, `KAIROS_TEST_ARROYO_REDIS` | how Arroyo reaches those of the test, where that differs: `host:port`, `redis://host:port` |
//!
//! Fluvio and Redis are those of `ingest::servers`: of their own, or those that its variables name.
#![cfg(feature = "arroyo")]
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    Functions, Value, View,
    tiles::{TILE_MS, key_prefix},
};
use ingest::{
    Millis,
    log::{Append, FluvioOptions, Log, LogOptions, Topic, fluvio::FluvioLog, fluvio::plain::PlainTopic},
    record::Record,
    servers,
};
use stream_jobs::{
    arroyo::{
        self, Places, Redis,
        client::{Client, How, Reach},
        deploy::{self, Patience},
        history, sql,
    },
    golden::{self, Case, Surroundings},
};

/// How long Arroyo may take to plan, build and start a pipeline and to close the tiles of a case.
const PATIENCE: Duration = Duration::from_secs(180);
/// More than the disorder of any case, all of which are sent in the order of time.
const WAIT: Millis = 10_000;

type Tiles = BTreeMap<(String, Millis), String>;

#[test]
fn golden_cases_hold_on_arroyo() {
    let Ok(url) = std::env::var("KAIROS_TEST_ARROYO_URL") else {
        println!("skipped: no Arroyo (set KAIROS_TEST_ARROYO_URL)");
        return;
    };
    let (Some(fluvio), Some(redis)) = (servers::fluvio(), servers::redis()) else { return };
    let key = std::env::var("KAIROS_TEST_ARROYO_KEY_FILE").ok();
    let reach = Reach::of(&url).with_files(key.as_deref().map(Path::new), None).unwrap();
    let client = Client::new(reach).unwrap();
    client.ping().unwrap();
    let seen_as = |name: &str, usual: String| std::env::var(name).unwrap_or(usual);
    let places = Places {
        topic_prefix: String::new(),
        fluvio: Some(seen_as("KAIROS_TEST_ARROYO_FLUVIO", fluvio.address().to_string())),
        redis: Redis::Address(seen_as("KAIROS_TEST_ARROYO_REDIS", format!("redis://{}", redis.address()))),
        key_prefix: "kairos".into(),
        wait_ms: WAIT,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut looked = 0;
    for case in golden::find(&[root], &Surroundings::default()).unwrap() {
        let run = Run {
            client: &client,
            fluvio: format!("fluvio://{}", fluvio.address()),
            redis: redis.address().to_string(),
            case: &case,
        };
        looked += runtime.block_on(run.run(&places));
    }
    assert!(looked >= 30, "only {looked} values were looked at");
}

struct Run<'a> {
    client: &'a Client,
    fluvio: String,
    redis: String,
    case: &'a Case,
}

impl Run<'_> {
    /// The number of values looked at.
    async fn run(&self, places: &Places) -> usize {
        let case = self.case;
        let name = case.dir.file_name().unwrap().to_string_lossy().into_owned();
        let views: Vec<&Arc<View>> = case.registry.views().iter().filter(|v| v.tiling.is_ok()).collect();
        if views.is_empty() {
            println!("{name}: Arroyo holds none of its views");
            return 0;
        }
        // A prefix of its own, so that a run finds nothing of the one before.
        let begin = jiff::Timestamp::now().as_millisecond();
        let places = Places { topic_prefix: format!("golden-{name}-{begin}"), ..places.clone() };
        let fluvio = FluvioOptions { topic_prefix: places.topic_prefix.clone(), ..FluvioOptions::default() };
        let options = LogOptions {
            partitions: 1,
            catalogue: Some(case.catalogue.clone()),
            clock: Some(Arc::new(|| jiff::Timestamp::now().as_millisecond())),
            fluvio: fluvio.clone(),
            ..LogOptions::default()
        };
        let url = self.fluvio.clone();
        let log = tokio::task::spawn_blocking(move || FluvioLog::open(&url, options)).await.unwrap().unwrap();
        let mut topics = Vec::new();
        for view in &views {
            let topic = sql::tiles_topic(&places.topic_prefix, &view.name);
            topics.push(
                PlainTopic::open(&self.fluvio, &fluvio, &topic, Duration::from_secs(3_600)).await.unwrap(),
            );
        }
        let how = How { parallelism: 1, checkpoint_seconds: 1 };
        for view in &views {
            let pipeline = arroyo::pipeline(view, &case.catalogue, &Functions::none(), &places).unwrap();
            let outcome = tokio::task::block_in_place(|| {
                deploy::deploy(self.client, &places.topic_prefix, &pipeline, &how, Patience::default())
            });
            println!("{name}: {} {:?}", view.name, outcome.unwrap());
        }
        let mut records: Vec<Record> = case.signals.iter().map(|s| s.record.clone()).collect();
        records.sort_by_key(|r| r.time);
        // Each comes twice.
        for r in &records {
            append(&log, &[r.clone(), r.clone()]).await;
        }
        let looked = self.look(&log, &views, &mut topics, &records).await;
        let stopped = tokio::task::block_in_place(|| {
            deploy::stop(self.client, &places.topic_prefix, &[], Patience::default())
        });
        println!("{name}: {looked} values, stopped {}", stopped.unwrap().len());
        looked
    }

    /// Waits until both ways give every value, or tells which does not.
    async fn look(
        &self,
        log: &FluvioLog,
        views: &[&Arc<View>],
        topics: &mut [PlainTopic],
        records: &[Record],
    ) -> usize {
        let end = records.iter().map(|r| r.time).max().unwrap();
        let mut by_topic: Vec<Tiles> = views.iter().map(|_| Tiles::new()).collect();
        let (begin, mut beat) = (Instant::now(), 0);
        loop {
            // Event time stands still unless somebody sends: a signal of nobody, each time in a batch of its own.
            beat += 1;
            let heartbeat = Record {
                id: format!("heartbeat-{beat}"),
                subject: "nobody".into(),
                time: end + 2 * WAIT + 2 * TILE_MS + beat * 2_000,
                ..records[0].clone()
            };
            append(log, &[heartbeat]).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (mut looked, mut wrong) = (0, Vec::new());
            for (i, view) in views.iter().enumerate() {
                let rows = topics[i].poll().await.unwrap();
                let (tiles, left_out) = history::read(view, rows.iter().map(|r| &r.value[..]));
                assert_eq!(left_out, 0, "rows of {} that are none", topics[i].name());
                by_topic[i].extend(tiles.into_iter().map(|t| ((t.entity, t.start), t.row)));
                let by_redis = self.hashes(view).await;
                for (way, tiles) in [("Redis", &by_redis), ("topic", &by_topic[i])] {
                    let (right, differ) = self.compare(view, tiles, way);
                    looked += right;
                    wrong.extend(differ);
                }
            }
            if wrong.is_empty() {
                return looked;
            }
            if begin.elapsed() > PATIENCE {
                let status = tokio::task::block_in_place(|| deploy::status(self.client, "golden"));
                panic!("after {PATIENCE:?}:\n{}\n{status:?}", wrong.join("\n"));
            }
        }
    }

    /// How many values are right, and those that are not.
    fn compare(&self, view: &View, tiles: &Tiles, way: &str) -> (usize, Vec<String>) {
        let (mut right, mut wrong) = (0, Vec::new());
        for e in self.case.expected.iter().filter(|e| e.instant % TILE_MS == 0) {
            let of_entity = tiles.iter().filter(|((entity, _), _)| *entity == e.entity);
            let rows: Vec<(Millis, &str)> =
                of_entity.map(|((_, start), row)| (*start, row.as_str())).collect();
            let values: Vec<Value> = view.merge_tiles(&rows, e.instant).unwrap().values;
            for (name, value) in view.feature_names().zip(&values) {
                match e.values.get(&format!("{}.{name}", view.name)) {
                    Some(wanted) if !golden::same(value, wanted) => wrong.push(format!(
                        "{}.{name} of {} at {}, by {way}: {value:?}, not {wanted}",
                        view.name, e.entity, e.at
                    )),
                    Some(_) => right += 1,
                    None => {}
                }
            }
        }
        (right, wrong)
    }

    /// The tiles in Redis, read as plainly as can be.
    async fn hashes(&self, view: &View) -> Tiles {
        let client = redis::Client::open(format!("redis://{}", self.redis)).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let mut found = Tiles::new();
        let entities: BTreeSet<&str> = self.case.signals.iter().map(|s| s.record.subject.as_str()).collect();
        for entity in entities {
            let key = format!("{}{entity}", key_prefix("kairos", &view.name));
            let hash: BTreeMap<String, String> =
                redis::cmd("HGETALL").arg(key).query_async(&mut redis).await.unwrap();
            found.extend(
                hash.into_iter().map(|(start, row)| ((entity.to_owned(), start.parse().unwrap()), row)),
            );
        }
        found
    }
}

async fn append(log: &FluvioLog, records: &[Record]) {
    // Without keys, so that repeats are written.
    let entry = |r: &Record| Append { subject: r.subject.clone(), key: 0, payload: r.encode() };
    log.append(Topic::Signals, records.iter().map(entry).collect()).await.unwrap();
}
