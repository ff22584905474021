//! Redis that goes away, comes back empty, stalls, is full, or has two writers: no read waits long or is told what is
//! not so, and no write is lost unseen.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

#[path = "support/rows.rs"]
mod rows;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    FeatureError, Registry, View,
    online::{OnlineOptions, OnlineRow, OnlineStore, redis::RedisOnline},
};
use ingest::{
    catalogue::Catalogue,
    log::Position,
    servers::{
        self, Server, Wishes,
        proxy::{Network, Proxy},
    },
};
use proptest::prelude::*;
use rows::row_of;

const VIEWS: &str = "CREATE FEATURE VIEW a ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, count(*) AS n FROM task_completed GROUP BY u;
    CREATE FEATURE VIEW b ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, sum(minutes) AS n FROM task_completed GROUP BY u;";

/// No read may take longer, whatever the network does.
const PATIENCE: Duration = Duration::from_secs(2);

fn views() -> Vec<Arc<View>> {
    let catalogue = Catalogue::load(&[]).unwrap();
    Registry::from_texts(&catalogue, &[("views.sql", VIEWS)]).unwrap().views().to_vec()
}

fn options() -> OnlineOptions {
    OnlineOptions {
        partitions: 1,
        timeout: Duration::from_millis(150),
        lease: Duration::from_millis(600),
        claim_within: Duration::from_millis(50),
        ..OnlineOptions::new(2)
    }
}

fn open(url: &str) -> RedisOnline {
    RedisOnline::open(url, &options()).unwrap()
}

fn at(offset: u64) -> Position {
    Position([(0, offset)].into())
}

fn put(
    store: &RedisOnline,
    view: &Arc<View>,
    entity: &str,
    next: u64,
    value: i64,
) -> Result<(), FeatureError> {
    let row = Some(row_of(entity, view.version, next, value));
    store.put_many(vec![OnlineRow { view: view.clone(), entity: entity.into(), row }])
}

/// Takes up the partition with one row of `ada`.
fn begin(store: &RedisOnline, views: &[Arc<View>]) {
    store.claim("state", &[0]).unwrap();
    store.clear(&[0]).unwrap();
    put(store, &views[0], "ada", 5, 1).unwrap();
    store.advance(&at(5)).unwrap();
}

/// The next offset of the row, and whether it is stale. Within the time a read may take.
async fn read(store: &RedisOnline, view: &View, entity: &str) -> Result<(Option<u64>, bool), FeatureError> {
    let began = Instant::now();
    let found = store.get_many(&[(view, entity)]).await;
    assert!(began.elapsed() < PATIENCE, "a read took {:?}", began.elapsed());
    let found = found?.remove(0);
    Ok((found.row.map(|row| row.header.next_offset), found.stale))
}

/// Waits until a read is answered by Redis itself.
async fn fresh(store: &RedisOnline, view: &View, entity: &str) -> Option<u64> {
    let began = Instant::now();
    loop {
        if let Ok((next, false)) = read(store, view, entity).await {
            return next;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "Redis was not found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, FeatureError>) -> String {
    match result {
        Err(FeatureError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Until it is no longer away for the writer.
fn until_lost(work: impl Fn() -> Result<(), FeatureError>) {
    let began = Instant::now();
    loop {
        match work() {
            Err(FeatureError::Lost(_)) => return,
            Err(FeatureError::Unavailable(_)) if began.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_back_without_its_data() {
    let Some(mut server) = servers::redis().filter(Server::is_own) else { return };
    let views = views();
    let (store, reader) = (open(&server.url), open(&server.url));
    begin(&store, &views);
    assert_eq!(read(&reader, &views[0], "ada").await.unwrap(), (Some(5), false));
    assert_eq!(read(&reader, &views[0], "nobody").await.unwrap(), (None, false));

    server.kill();
    // What was read lately is answered and marked, that there was nothing too; the rest is not made up.
    assert_eq!(read(&reader, &views[0], "ada").await.unwrap(), (Some(5), true));
    assert_eq!(read(&reader, &views[0], "nobody").await.unwrap(), (None, true));
    assert!(unavailable(read(&reader, &views[1], "ada").await).contains("online.url"));
    unavailable(put(&store, &views[0], "ada", 6, 2));
    reader.forget("ada");
    unavailable(read(&reader, &views[0], "ada").await);

    server.start();
    // Empty: nobody is told that ada did nothing.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        unavailable(read(&reader, &views[0], "ada").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(read(&reader, &views[0], "nobody").await.unwrap(), (None, true));
    until_lost(|| put(&store, &views[0], "ada", 6, 2));
    assert_eq!(store.claim("state", &[0]).unwrap(), Position::default());
    begin(&store, &views);
    put(&store, &views[0], "ada", 6, 2).unwrap();
    store.advance(&at(6)).unwrap();
    assert_eq!(fresh(&reader, &views[0], "ada").await, Some(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_drops_stalls_and_slows() {
    let Some(server) = servers::redis() else { return };
    let views = views();
    let proxy = Proxy::before(server.address());
    let store = open(&format!("redis://{}", proxy.address()));
    begin(&store, &views);
    assert_eq!(fresh(&store, &views[0], "ada").await, Some(5));
    for (next, network) in [(6, Network::Dropping), (7, Network::Stalled)] {
        proxy.set(network);
        assert_eq!(read(&store, &views[0], "ada").await.unwrap(), (Some(next - 1), true), "{network:?}");
        unavailable(put(&store, &views[0], "ada", next, 2));
        proxy.set(Network::Whole);
        // What was held back may come all the same.
        assert!(fresh(&store, &views[0], "ada").await >= Some(next - 1), "{network:?}");
        let began = Instant::now();
        while let Err(e) = put(&store, &views[0], "ada", next, 2) {
            assert!(
                matches!(e, FeatureError::Unavailable(_)) && began.elapsed() < Duration::from_secs(20),
                "{e}"
            );
        }
        store.advance(&at(next)).unwrap();
        assert_eq!(fresh(&store, &views[0], "ada").await, Some(next), "{network:?}");
    }
    proxy.set(Network::Slow(Duration::from_millis(20), 64 << 10));
    put(&store, &views[0], "ada", 8, 2).unwrap();
    assert_eq!(fresh(&store, &views[0], "ada").await, Some(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_continued() {
    let Some(server) = servers::redis().filter(Server::is_own) else { return };
    let views = views();
    let store = open(&server.url);
    begin(&store, &views);
    assert_eq!(fresh(&store, &views[0], "ada").await, Some(5));
    server.pause();
    assert_eq!(read(&store, &views[0], "ada").await.unwrap(), (Some(5), true));
    // Lies in the connection, and comes to Redis after what follows.
    unavailable(put(&store, &views[0], "ada", 6, 2));
    // Once it is known to be away, nobody waits.
    let began = Instant::now();
    assert!(read(&store, &views[0], "ada").await.unwrap().1);
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    server.resume();
    put(&store, &views[0], "ada", 9, 2).unwrap();
    store.advance(&at(9)).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fresh(&store, &views[0], "ada").await, Some(9), "a late write did not move it back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_memory_takes_no_rows_and_keeps_those_it_has() {
    let wishes = Wishes {
        arguments: ["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"].map(String::from).into(),
        ..Wishes::default()
    };
    let Some(server) = servers::redis_with(&wishes).filter(Server::is_own) else { return };
    let views = views();
    let store = open(&server.url);
    begin(&store, &views);
    let mut last = 5;
    let why = loop {
        match put(&store, &views[0], &format!("person {last}"), last + 1, 60) {
            Ok(()) => last += 1,
            Err(e) => break unavailable::<()>(Err(e)),
        }
        assert!(last < 100_000, "never full");
    };
    assert!(why.contains("maxmemory"), "{why}");
    assert_eq!(read(&store, &views[0], "ada").await.unwrap(), (Some(5), false));
    assert_eq!(read(&store, &views[0], &format!("person {}", last - 1)).await.unwrap(), (Some(last), false));
    let checked = features::online::redis::check(&server.url, &options()).await;
    assert!(unavailable(checked).contains("raise `maxmemory`"));
    // Room is made, and it goes on.
    for i in 5..last {
        store.erase(&format!("person {i}")).await.unwrap();
    }
    put(&store, &views[0], "ada", last + 1, 1).unwrap();
    assert_eq!(read(&store, &views[0], "ada").await.unwrap(), (Some(last + 1), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_redis_is_waited_out() {
    let wishes = Wishes {
        arguments: ["--appendonly", "yes"].map(String::from).into(),
        // Of its log of writes, which may grow no further.
        file_kib: Some(256),
    };
    let Some(mut server) = servers::redis_with(&wishes).filter(Server::is_own) else { return };
    let views = views();
    let store = open(&server.url);
    begin(&store, &views);
    let mut last = 5;
    let why = loop {
        match put(&store, &views[0], "ada", last + 1, 200) {
            Ok(()) => last += 1,
            Err(e) => break unavailable::<()>(Err(e)),
        }
        assert!(last < 100_000, "never full");
    };
    assert!(why.contains("disk"), "{why}");
    assert!(read(&store, &views[0], "ada").await.unwrap().0 >= Some(5), "reads go on");
    server.kill();
    server.limit_files(None);
    server.start();
    // It has what it wrote, or less than it said; the job would put everything again.
    let began = Instant::now();
    let next = loop {
        match put(&store, &views[0], "ada", last + 1, 1) {
            Ok(()) => break last + 1,
            Err(FeatureError::Lost(_)) => {
                begin(&store, &views);
                break 5;
            }
            Err(e) => assert!(began.elapsed() < Duration::from_secs(20), "{e}"),
        }
    };
    assert_eq!(fresh(&store, &views[0], "ada").await, Some(next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_one_writes() {
    let Some(server) = servers::redis() else { return };
    let views = views();
    let named = |name: &str| OnlineOptions { holder: name.into(), ..options() };
    let first = RedisOnline::open(&server.url, &named("first")).unwrap();
    let second = RedisOnline::open(&server.url, &named("second")).unwrap();
    begin(&first, &views);
    // It holds on without writing, however long, and is named.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Err(FeatureError::Fenced(why)) = second.claim("state", &[0]) else { panic!("claimed twice") };
    assert!(why.contains("written by first") && why.contains("partition 0"), "{why}");
    assert!(put(&second, &views[0], "ada", 50, 9).is_err(), "writes nothing that it has not claimed");
    // Let go, it is the other's at once, with what is there; the first writes no more.
    first.release();
    assert_eq!(second.claim("state", &[0]).unwrap(), at(5));
    put(&second, &views[0], "ada", 6, 2).unwrap();
    assert!(put(&first, &views[0], "ada", 60, 9).is_err());

    // One that dies without a word is waited for.
    let patient = OnlineOptions { claim_within: Duration::from_secs(10), ..named("third") };
    let third = RedisOnline::open(&server.url, &patient).unwrap();
    drop(second);
    assert_eq!(third.claim("state", &[0]).unwrap(), at(5));
    put(&third, &views[0], "ada", 7, 2).unwrap();
    assert_eq!(fresh(&third, &views[0], "ada").await, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_whose_claim_was_taken_finds_out() {
    let Some(server) = servers::redis() else { return };
    let views = views();
    let proxy = Proxy::before(server.address());
    let cut_off = open(&format!("redis://{}", proxy.address()));
    begin(&cut_off, &views);
    proxy.set(Network::Stalled);
    let patient =
        OnlineOptions { claim_within: Duration::from_secs(10), holder: "other".into(), ..options() };
    let other = RedisOnline::open(&server.url, &patient).unwrap();
    assert_eq!(other.claim("state", &[0]).unwrap(), at(5));
    put(&other, &views[0], "ada", 6, 2).unwrap();
    proxy.set(Network::Whole);
    let began = Instant::now();
    loop {
        match put(&cut_off, &views[0], "ada", 70, 9) {
            Err(FeatureError::Fenced(why)) => break assert!(why.contains("written by other"), "{why}"),
            Err(FeatureError::Unavailable(_)) if began.elapsed() < Duration::from_secs(10) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fresh(&other, &views[0], "ada").await, Some(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_end_with_what_they_can_say() {
    let Some(server) = servers::redis() else { return };
    let views = views();
    let store = open(&server.url);
    begin(&store, &views);
    let client = redis::Client::open(server.url.as_str()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("kairos:{0}:v:*:ada").query_async(&mut raw).await.unwrap();
    assert_eq!(keys, [format!("kairos:{{0}}:v:a@{}:ada", views[0].version_text)]);
    let left: i64 = redis::cmd("PTTL").arg(&keys[0]).query_async(&mut raw).await.unwrap();
    let horizon = views[0].horizon();
    assert!((horizon..=horizon + 2 * 3_600_000).contains(&left), "{left} of {horizon}");
    // The same in a replay.
    put(&store, &views[0], "ada", 5, 1).unwrap();
    let left: i64 = redis::cmd("PTTL").arg(&keys[0]).query_async(&mut raw).await.unwrap();
    assert!(left >= horizon, "{left}");
    let applied: String = redis::cmd("GET").arg("kairos:{0}:applied").query_async(&mut raw).await.unwrap();
    assert_eq!(applied, "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_never_moves_a_value_backwards() {
    let Some(server) = servers::redis() else { return };
    let views = views();
    let begun = open(&server.url);
    begin(&begun, &views);
    for next in 6..=40 {
        put(&begun, &views[0], "ada", next, 2).unwrap();
    }
    begun.advance(&at(40)).unwrap();
    begun.release();
    // The next start replays from 10; readers see nothing of it.
    let again = open(&server.url);
    assert_eq!(again.claim("state", &[0]).unwrap(), at(40));
    again.advance(&at(10)).unwrap();
    for next in 11..=40 {
        put(&again, &views[0], "ada", next, 2).unwrap();
        assert_eq!(read(&again, &views[0], "ada").await.unwrap(), (Some(40), false));
        if next == 20 {
            let row = OnlineRow { view: views[0].clone(), entity: "ada".into(), row: None };
            again.put_many(vec![row]).unwrap();
        }
        again.advance(&at(next)).unwrap();
        assert_eq!(again.applied().await.unwrap(), at(40));
    }
    put(&again, &views[0], "ada", 41, 2).unwrap();
    again.advance(&at(41)).unwrap();
    assert_eq!(again.applied().await.unwrap(), at(41));
    assert_eq!(read(&again, &views[0], "ada").await.unwrap(), (Some(41), false));
    let row = OnlineRow { view: views[0].clone(), entity: "ada".into(), row: None };
    again.put_many(vec![row]).unwrap();
    assert_eq!(read(&again, &views[0], "ada").await.unwrap(), (None, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_and_how_to_mend_it() {
    let arguments =
        |text: &str| Wishes { arguments: text.split(' ').map(String::from).collect(), ..Wishes::default() };
    let check = |url: String, options: OnlineOptions| async move {
        features::online::redis::check(&url, &options).await
    };
    let evicting = arguments("--maxmemory 100mb --maxmemory-policy allkeys-lru --requirepass right");
    let Some(server) = servers::redis_with(&evicting).filter(Server::is_own) else { return };
    let dir = tempfile::tempdir().unwrap();
    let password = |text: &str| {
        let file = dir.path().join(text);
        std::fs::write(&file, format!("{text}\n")).unwrap();
        OnlineOptions { password_file: Some(file), ..options() }
    };
    for options in [options(), password("wrong")] {
        let why = unavailable(check(server.url.clone(), options).await);
        assert!(why.contains("online.password_file") && !why.contains("right"), "{why}");
    }
    let why = unavailable(check(server.url.clone(), password("right")).await);
    assert!(why.contains("maxmemory-policy noeviction"), "{why}");
    let url = server.url.replace("redis://", "redis://default:right@");
    let why = unavailable(check(url.clone(), options()).await);
    assert!(why.contains("noeviction") && !why.contains("right@"), "{why}");
    drop(server);
    let why = unavailable(check(url, options()).await);
    assert!(why.contains("online.url") && !why.contains("right"), "{why}");
    let Some(server) = servers::redis() else { return };
    assert!(check(server.url.clone(), options()).await.unwrap().contains("version"));
    let no_file = OnlineOptions { password_file: Some("/no/such".into()), ..options() };
    let Err(FeatureError::Request(why)) = check(server.url.clone(), no_file).await else { panic!() };
    assert!(why.starts_with("online.password_file"), "{why}");
}

/// Whatever lies under the keys, reads are safe, and say that it is nothing of ours.
#[test]
fn any_bytes_in_redis_are_read_safely() {
    let Some(server) = servers::redis() else { return };
    let views = views();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = open(&server.url);
    begin(&store, &views);
    let client = redis::Client::open(server.url.as_str()).unwrap();
    let raw = runtime.block_on(client.get_multiplexed_async_connection()).unwrap();
    let key = format!("kairos:{{0}}:v:a@{}:ada", views[0].version_text);
    let good = row_of("ada", views[0].version, 5, 4).to_bytes().unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let flips = prop::collection::vec((0..400usize, any::<u8>()), 0..4);
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let bytes = (flips, 0..900usize, noise).prop_map(move |(flips, cut, noise)| {
        let mut bytes = good.clone();
        for (at, value) in flips {
            if let Some(b) = bytes.get_mut(at) {
                *b = value;
            }
        }
        bytes.truncate(cut);
        if cut % 3 == 0 { noise } else { bytes }
    });
    runner
        .run(&bytes, |bytes| {
            runtime.block_on(async {
                let mut raw = raw.clone();
                let _: () = redis::cmd("SET").arg(&key).arg(&bytes).query_async(&mut raw).await.unwrap();
                match read(&store, &views[0], "ada").await {
                    Ok((_, stale)) => assert!(!stale),
                    Err(FeatureError::Damaged(why)) => assert!(why.contains("view a"), "{why}"),
                    Err(e) => panic!("{e}"),
                }
            });
            Ok(())
        })
        .unwrap();
    // Nor does what stands where an offset should.
    let _: () = runtime
        .block_on(redis::cmd("SET").arg("kairos:{0}:applied").arg("nonsense").query_async(&mut raw.clone()))
        .unwrap();
    assert_eq!(runtime.block_on(store.applied()).unwrap(), Position::default());
}

/// The user that the guide describes may do all that is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_few_rights_suffices() {
    let Some(server) = servers::redis().filter(Server::is_own) else { return };
    let client = redis::Client::open(server.url.as_str()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let guide = include_str!("../../docs/guides/redis.md");
    let rule = guide.split('`').find(|text| text.starts_with("ACL SETUSER kairos")).unwrap();
    let rule = rule.replace(">…", ">secret");
    let mut words = rule.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    let _: () = command.query_async(&mut raw).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), "secret\n").unwrap();
    let few = OnlineOptions {
        user: Some("kairos".into()),
        password_file: Some(dir.path().join("password")),
        ..options()
    };
    assert!(features::online::redis::check(&server.url, &few).await.unwrap().contains("version"));
    let store = RedisOnline::open(&server.url, &few).unwrap();
    let views = views();
    begin(&store, &views);
    assert_eq!(read(&store, &views[0], "ada").await.unwrap(), (Some(5), false));
    assert_eq!(store.applied().await.unwrap(), at(5));
    assert_eq!(store.entities(&views[0]).await.unwrap().len(), 1);
    store.erase("ada").await.unwrap();
    assert_eq!(read(&store, &views[0], "ada").await.unwrap(), (None, false));
    store.release();
}
