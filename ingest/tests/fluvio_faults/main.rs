//! The log on Fluvio while brokers die, networks break, disks are full and copies arrive.
#![cfg(all(feature = "fluvio", feature = "test-servers"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod load;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ingest::{
    log::{
        Append, Appended, Compression, Log, LogError, LogOptions, Position, Tls, Topic, fluvio::FluvioLog,
    },
    servers::{
        self, Wishes,
        proxy::Network::{Dropping, Slow, Stalled, Whole},
    },
};
use load::{Load, PATIENCE, open, options, reader, record, sees_each_once};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_under_load_loses_nothing() {
    let Some(mut server) = servers::fluvio_with(&Wishes::default()) else { return };
    let log = open(&server.url, &options("killed"));
    let (mut running, mut seen) = (reader(&*log), HashMap::new());
    let load = Load::start(&log, 4);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::block_in_place(|| server.kill());
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| server.start());
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let keys = load.stop().await;
    assert!(keys.len() > 100, "there was load: {}", keys.len());
    sees_each_once(&mut *running, &mut seen, &keys).await;
    sees_each_once(&mut *reader(&*log), &mut HashMap::new(), &keys).await;
    // What was acknowledged is known to a process that starts now.
    drop((running, log));
    let log = open(&server.url, &options("killed"));
    let again = log.append(Topic::Signals, vec![record(keys[0], Bytes::new())]).await.unwrap();
    assert_eq!(again, [Appended::Duplicate]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_breaks_loses_nothing() {
    let Some((server, network)) = servers::fluvio_behind(&Wishes::default()) else { return };
    let log = open(&server.url, &options("network"));
    let (mut running, mut seen) = (reader(&*log), HashMap::new());
    let load = Load::start(&log, 4);
    for fault in [Dropping, Stalled, Slow(Duration::from_millis(3), 2_000)] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        network.set(fault);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        network.set(Whole);
    }
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        network.cut();
    }
    let keys = load.stop().await;
    assert!(keys.len() > 100, "there was load: {}", keys.len());
    sees_each_once(&mut *running, &mut seen, &keys).await;
    sees_each_once(&mut *reader(&*log), &mut HashMap::new(), &keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_broker_is_told_in_bounded_time_and_readers_wait() {
    let Some((server, network)) = servers::fluvio_behind(&Wishes::default()) else { return };
    let log = open(&server.url, &options("absent"));
    log.append(Topic::Signals, vec![record(1, Bytes::new())]).await.unwrap();
    log.reachable().unwrap();
    let mut running = reader(&*log);
    assert_eq!(running.next(10).await.unwrap().len(), 1);
    for fault in [Dropping, Stalled] {
        network.set(fault);
        let began = Instant::now();
        let refused = log.append(Topic::Signals, vec![record(2, Bytes::new())]).await.unwrap_err();
        assert!(matches!(&refused, LogError::Unavailable(text) if text.contains("log.url")), "{refused}");
        assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
        assert!(log.reachable().is_err());
        assert!(log.commit("c", Topic::Signals, &Position::default()).await.is_err());
        assert_eq!(log.end(Topic::Signals).0.values().sum::<u64>(), 1, "the last end known");
    }
    let waiting = tokio::spawn(async move { running.next(10).await.unwrap().len() });
    network.set(Whole);
    let retry = async { while log.append(Topic::Signals, vec![record(2, Bytes::new())]).await.is_err() {} };
    timeout(Duration::from_secs(20), retry).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap(), 1);
    let healthy = async {
        while log.reachable().is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), healthy).await.unwrap();
    let refused = FluvioLog::open("fluvio://127.0.0.1:1", options("absent")).err();
    assert!(matches!(refused, Some(LogError::Unavailable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_on_the_broker_loses_nothing() {
    // The index of a segment takes 10 MiB at once.
    let wishes = Wishes { file_kib: Some(13 << 10), ..Wishes::default() };
    let Some(mut server) = servers::fluvio_with(&wishes) else { return };
    let mut options = options("full");
    options.fluvio.compression = Compression::None;
    let log = open(&server.url, &options);
    let payload = Bytes::from(vec![b'x'; 300_000]);
    let (mut acknowledged, mut refused) = (Vec::new(), None);
    for key in 1..200u128 {
        let one = Append { subject: "u".into(), key, payload: payload.clone() };
        match log.append(Topic::Signals, vec![one]).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => {
                refused = Some((key, error));
                break;
            }
        }
    }
    let (key, error) = refused.expect("the disk never became full");
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
    assert!(acknowledged.len() > 5);
    tokio::task::block_in_place(|| {
        server.kill();
        server.limit_files(None);
        server.start();
    });
    let again = async {
        loop {
            let one = Append { subject: "u".into(), key, payload: payload.clone() };
            if log.append(Topic::Signals, vec![one]).await.is_ok() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(40), again).await.expect("it goes on once there is space");
    acknowledged.push(key);
    sees_each_once(&mut *reader(&*log), &mut HashMap::new(), &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_reached_by_tls() {
    let Some(certificates) = servers::Certificates::make() else { return };
    let Some(server) = servers::fluvio_secured(&certificates) else { return };
    let tls = |client| Tls { ca_file: certificates.authority(), client, domain: certificates.domain.into() };
    let with = |tls| {
        let mut options = options("secured");
        options.fluvio.tls = tls;
        options
    };
    let log = open(&server.url, &with(Some(tls(Some(certificates.of("client"))))));
    log.append(Topic::Signals, vec![record(1, Bytes::new()), record(2, Bytes::new())]).await.unwrap();
    sees_each_once(&mut *reader(&*log), &mut HashMap::new(), &[1, 2]).await;
    let unknown = Tls { domain: "else.test".into(), ..tls(Some(certificates.of("client"))) };
    for (wrong, why) in
        [(None, "in the clear"), (Some(tls(None)), "without"), (Some(unknown), "by another name")]
    {
        assert!(FluvioLog::open(&server.url, with(wrong)).is_err(), "reached {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_records_of_others() {
    let Some(server) = servers::fluvio() else { return };
    let (one, two) = (open(&server.url, &options("copies")), open(&server.url, &options("copies")));
    // Both append the same keys at the same instant, again and again.
    let keys: Vec<u128> = (1..=200).collect();
    let racing = [one.clone(), two.clone()].map(|log| {
        let keys = keys.clone();
        tokio::spawn(async move {
            for key in keys {
                log.append(Topic::Signals, vec![record(key, Bytes::from_static(b"p"))]).await.unwrap();
            }
        })
    });
    for race in racing {
        race.await.unwrap();
    }
    for log in [&one, &two] {
        sees_each_once(&mut *reader(&**log), &mut HashMap::new(), &keys).await;
    }
    // What the other one appended is known soon.
    two.append(Topic::Signals, vec![record(1_000, Bytes::new())]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let again = one.append(Topic::Signals, vec![record(1_000, Bytes::new())]).await.unwrap();
    assert_eq!(again, [Appended::Duplicate]);
    // So is whom it erased, and what it committed.
    let position: Position = "0:7,1:3".parse().unwrap();
    two.commit("c", Topic::Signals, &position).await.unwrap();
    two.erase("u3").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(one.committed("c", Topic::Signals).unwrap(), position);
    assert!(reader(&*one).poll(usize::MAX).unwrap().iter().all(|record| &*record.subject != "u3"));

    // Another program writes what is no signal, and one that is.
    let cluster = fluvio::FluvioClusterConfig::new(server.url.trim_start_matches("fluvio://"));
    let client = fluvio::Fluvio::connect_with_config(&cluster).await.unwrap();
    let producer = client.topic_producer("copies-signals").await.unwrap();
    let signal =
        r#"{"specversion":"1.0","id":"1","source":"flow","type":"reaction","subject":"ada","data":{}}"#;
    // A producer that tries again writes a second copy.
    for text in ["no json", "{}", signal, signal] {
        producer.send("ada", text).await.unwrap();
    }
    producer.flush().await.unwrap();
    let mut all = reader(&*one);
    let found = async {
        loop {
            if let Some(record) = all.next(1000).await.unwrap().into_iter().find(|r| &*r.subject == "ada") {
                return record;
            }
        }
    };
    let found = timeout(Duration::from_secs(10), found).await.unwrap();
    assert_eq!(found.key, ingest::record::idempotency_key("flow", "1"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let written: u64 = one.end(Topic::Signals).0.values().sum();
    let shown = reader(&*one).poll(usize::MAX).unwrap();
    assert!(written >= shown.len() as u64 + 3, "two that are no signals and a copy are there");
    assert_eq!(shown.iter().filter(|r| &*r.subject == "ada").count(), 1);

    // A topic that is there with another number of partitions.
    let other = LogOptions { partitions: 3, ..options("copies") };
    let refused = FluvioLog::open(&server.url, other).err();
    assert!(
        matches!(&refused, Some(LogError::Refused(text)) if text.contains("log.partitions")),
        "{refused:?}"
    );
    // Retention that is not what the settings say.
    let kept = LogOptions { retain_age: Some(Duration::from_secs(86_400)), ..options("copies") };
    let remarks = FluvioLog::open(&server.url, kept).unwrap().remarks();
    assert!(remarks.iter().any(|remark| remark.contains("retention.days")), "{remarks:?}");
}
