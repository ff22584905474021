//! Features in Redis beside the raw client on the same server: reads, writes, and the memory of an entity.
//!
//! Everything lies under a prefix of its own and is taken out in the end.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    View,
    online::{self, OnlineRow},
};
use ingest::log::Topic;
use redis::aio::MultiplexedConnection;

use super::{
    figures::{Bound, Figure, Latencies, median},
    reads::{SETTLE, features_with_values},
    subject::Subject,
};
use crate::{
    config::Settings,
    error::{Error, Result},
};

const PREFIX: &str = "kairos-bench";
/// Prefix of the rows that are written again and again.
const WRITTEN: &str = "kairos-bench-writes";
const RAW: &str = "kairos-bench-raw";
const ROUNDS: u32 = 5;
/// Rows written at once, about as many as a busy micro-batch has.
const AT_ONCE: usize = 2_000;

/// Measures a program of its own whose features are in the Redis of the settings.
pub async fn run(chosen: &Settings, seconds: f64) -> Result<Vec<Figure>> {
    let settings = settings(chosen)?;
    clean(&settings).await?;
    let subject = Subject::start(settings.clone()).await?;
    let figures = measure(&settings, &subject, seconds).await;
    subject.stop().await?;
    clean(&settings).await?;
    figures
}

/// Settings under which nothing of a real store is touched.
fn settings(settings: &Settings) -> Result<Settings> {
    let mut settings = settings.clone();
    if settings.online.url == "embedded:" {
        let text = "bench redis: name a Redis to measure in online.url, such as KAIROS__ONLINE__URL=redis://127.0.0.1:6379";
        return Err(Error::Setting(text.into()));
    }
    settings.online.prefix = PREFIX.into();
    Ok(settings)
}

/// Reads of twenty features beside a GET of the same bytes, writes beside pipelined SETs of the same, memory.
async fn measure(settings: &Settings, subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    let mut raw = connect(settings).await?;
    // The sweep renews rows whose values changed since the signals were made; it begins with the job.
    tokio::time::sleep(SETTLE).await;
    let names = features_with_values(subject)?;
    let prepared = subject.features.registry().prepare(&names).map_err(broken)?;
    let views: Vec<Arc<View>> = views_of(subject, &names);
    let share = Duration::from_secs_f64(seconds / f64::from(ROUNDS));
    let rows = rows(subject, &views).await?;
    let bytes = rows.iter().map(|r| r.1).sum::<usize>() / subject.people.len().max(1);
    command(&mut raw, redis::cmd("SET").arg(RAW).arg(vec![7u8; bytes])).await?;
    let (mut ours, mut bare) = (Latencies::default(), Latencies::default());
    for round in 0..ROUNDS {
        let began = Instant::now();
        while began.elapsed() < share {
            let asked = Instant::now();
            let got: Vec<u8> = redis::cmd("GET").arg(RAW).query_async(&mut raw).await.map_err(broken)?;
            black_box(got);
            bare.add(asked.elapsed());
        }
        let (began, mut n) = (Instant::now(), round as usize);
        while began.elapsed() < share {
            let person = &subject.people[n % subject.people.len()];
            n += 1;
            let asked = Instant::now();
            let row =
                subject.features.read_one(&prepared, person, (subject.clock)()).await.map_err(broken)?;
            ours.add(asked.elapsed());
            if black_box(row).stale {
                return Err(Error::Unavailable("the online store went away while it was measured".into()));
            }
        }
    }
    let micros = |l: &mut Latencies, share| l.quantile(share).unwrap_or_default().as_secs_f64() * 1e6;
    let beside = "a raw GET of the same bytes";
    let mut figures = vec![
        Figure::alone("redis, bytes of a person's rows", bytes as f64, "bytes"),
        Figure::alone("redis, read 20 features, p50", micros(&mut ours, 0.5), "µs")
            .beside(beside, micros(&mut bare, 0.5))
            .hold(Bound::AtMost(1.2)),
        Figure::alone("redis, read 20 features, p99", micros(&mut ours, 0.99), "µs")
            .beside(beside, micros(&mut bare, 0.99))
            .hold(Bound::AtMost(1.2)),
    ];
    figures.push(writes(settings, subject, &rows, &mut raw, share).await?);
    figures.extend(memory(subject, &views, &mut raw).await?);
    Ok(figures)
}

/// Takes everything out that the bench has put.
async fn clean(settings: &Settings) -> Result<()> {
    let mut raw = connect(settings).await?;
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{PREFIX}*")).arg("COUNT").arg(1_000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut raw).await.map_err(broken)?;
        for key in keys {
            command(&mut raw, redis::cmd("UNLINK").arg(key)).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Rows put through the store, beside SETs of the same bytes in pipelines of as many.
async fn writes(
    settings: &Settings,
    subject: &Subject,
    rows: &[(OnlineRow, usize)],
    raw: &mut MultiplexedConnection,
    share: Duration,
) -> Result<Figure> {
    let mut online = settings.online.clone();
    online.prefix = WRITTEN.into();
    let partitions = subject.log.partitions(Topic::Signals);
    let options = online.options(subject.features.registry().views().len(), partitions);
    let store = online::open(&online.url, &options).map_err(broken)?;
    let all: Vec<_> = (0..partitions).collect();
    store.claim("bench", &all).map_err(broken)?;
    store.clear(&all).map_err(broken)?;
    let batch: Vec<&(OnlineRow, usize)> = rows.iter().cycle().take(AT_ONCE).collect();
    let mut pipe = redis::pipe();
    for (n, (row, _)) in batch.iter().enumerate() {
        let bytes = row.row.as_ref().map(|r| r.to_bytes()).transpose().map_err(broken)?.unwrap_or_default();
        pipe.cmd("SET").arg(format!("{WRITTEN}-raw:{n}")).arg(bytes).ignore();
    }
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < share {
            pipe.exec_async(raw).await.map_err(broken)?;
            count += batch.len();
        }
        bare.push(count as f64 / began.elapsed().as_secs_f64());
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < share {
            let rows = batch.iter().map(|(row, _)| row.clone()).collect();
            let store = store.clone();
            let put = tokio::task::spawn_blocking(move || store.put_many(rows)).await;
            put.map_err(broken)?.map_err(broken)?;
            count += batch.len();
        }
        ours.push(count as f64 / began.elapsed().as_secs_f64());
    }
    store.release();
    Ok(Figure::alone("redis, rows written", median(ours), "rows/s")
        .beside("pipelined SETs of the same bytes", median(bare)))
}

/// What Redis itself says that the rows take.
async fn memory(
    subject: &Subject,
    views: &[Arc<View>],
    raw: &mut MultiplexedConnection,
) -> Result<Vec<Figure>> {
    let partitions = subject.log.partitions(Topic::Signals);
    let mut figures = Vec::new();
    for view in views {
        let (mut sum, mut count) = (0u64, 0u64);
        for person in &subject.people {
            let partition = ingest::log::partition_of(person, partitions);
            let key = format!("{PREFIX}:{{{partition}}}:v:{}@{}:{person}", view.name, view.version_text);
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
            let bytes: Option<u64> = usage.query_async(raw).await.map_err(broken)?;
            sum += bytes.unwrap_or(0);
            count += u64::from(bytes.is_some());
        }
        let what = format!("redis, memory of a person in {}", view.name);
        figures.push(Figure::alone(what, sum as f64 / count.max(1) as f64, "bytes"));
    }
    Ok(figures)
}

/// The rows of everybody, with the bytes they take.
async fn rows(subject: &Subject, views: &[Arc<View>]) -> Result<Vec<(OnlineRow, usize)>> {
    let mut rows = Vec::new();
    for view in views {
        let keys: Vec<(&View, &str)> = subject.people.iter().map(|p| (&**view, p.as_str())).collect();
        for found in subject.features.online().get_many(&keys).await.map_err(broken)? {
            let Some(row) = found.row else { continue };
            let bytes = row.to_bytes().map_err(broken)?.len();
            let entity = row.entity.clone();
            rows.push((OnlineRow { view: view.clone(), entity, row: Some(row) }, bytes));
        }
    }
    if rows.is_empty() {
        return Err(Error::Broken("nobody has a row in Redis".into()));
    }
    Ok(rows)
}

fn views_of(subject: &Subject, names: &[String]) -> Vec<Arc<View>> {
    let registry = subject.features.registry();
    let named = |view: &&Arc<View>| names.iter().any(|n| n.split('.').next() == Some(&*view.name));
    registry.current().filter(named).cloned().collect()
}

async fn connect(settings: &Settings) -> Result<MultiplexedConnection> {
    let online = &settings.online;
    let wrong = |e: redis::RedisError| Error::Unavailable(format!("bench redis, the raw client: {e}"));
    let mut info = redis::IntoConnectionInfo::into_connection_info(online.url.as_str()).map_err(wrong)?;
    let mut login = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
    if let Some(user) = &online.user {
        login = login.set_username(user);
    }
    if let Some(file) = &online.password_file {
        let password = std::fs::read_to_string(file).map_err(|e| crate::error::on_file("read", file, &e))?;
        login = login.set_password(password.trim_end());
    }
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    info = info.set_redis_settings(login).set_tcp_settings(tcp);
    let client = redis::Client::open(info).map_err(wrong)?;
    client.get_multiplexed_async_connection().await.map_err(wrong)
}

async fn command(raw: &mut MultiplexedConnection, command: &redis::Cmd) -> Result<()> {
    command.query_async::<redis::Value>(raw).await.map(drop).map_err(broken)
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::Broken(format!("bench redis: {e}"))
}
