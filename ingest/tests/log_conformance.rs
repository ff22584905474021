//! What every log must do, whatever it is built on. A backend joins by a `Place` of its own and one line at
//! the end of this file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use ingest::log::{
    Append, Appended, Log, LogError, LogOptions, LogRecord, Position, Reader, Topic, embedded::EmbeddedLog,
    partition_of,
};

/// Somewhere a log lives on after it was closed.
trait Place {
    fn open(&self) -> Arc<dyn Log>;

    /// Whether an erasure deletes, and so tells how many records there were.
    fn deletes(&self) -> bool {
        true
    }
}

fn record(subject: &str, key: u128, payload: &str) -> Append {
    Append { subject: subject.into(), key, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

fn all_partitions(log: &dyn Log, topic: Topic) -> Vec<u32> {
    (0..log.partitions(topic)).collect()
}

fn reader(log: &dyn Log, topic: Topic, from: &Position) -> Box<dyn Reader> {
    log.reader(topic, &all_partitions(log, topic), from).unwrap()
}

/// Reads until the durable end.
async fn everything(log: &dyn Log, topic: Topic) -> Vec<LogRecord> {
    let (end, mut reader) = (log.end(topic), reader(log, topic, &Position::default()));
    let (mut records, mut position) = (Vec::new(), Position::default());
    while !position.covers(&end) {
        let more = within(reader.poll(7), "poll");
        if more.is_empty() {
            // What is left below the end was erased.
            break;
        }
        more.iter().for_each(|r| position.advance(r.partition, r.offset));
        records.extend(more);
    }
    records
}

fn within<T>(result: Result<T, LogError>, what: &str) -> T {
    result.unwrap_or_else(|e| panic!("{what}: {e}"))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("took too long")
}

fn payloads(records: &[LogRecord]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.payload.to_vec()).unwrap()).collect()
}

async fn records_of_a_subject_keep_their_order(place: &dyn Place) {
    let log = place.open();
    for i in 0..50 {
        let batch = (0..4).map(|u| record(&format!("u{u}"), 0, &i.to_string())).collect();
        let answers = log.append(Topic::Signals, batch).await.unwrap();
        for (u, answer) in answers.iter().enumerate() {
            let partition = partition_of(&format!("u{u}"), log.partitions(Topic::Signals));
            assert!(matches!(answer, Appended::At(p, _) if *p == partition), "{answer:?}");
        }
    }
    let records = everything(&*log, Topic::Signals).await;
    let expected: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    let mut last: HashMap<u32, u64> = HashMap::new();
    for record in &records {
        let before = last.insert(record.partition, record.offset);
        assert!(before.is_none_or(|b| b < record.offset), "offsets of a partition grow");
    }
    for u in 0..4 {
        let name = format!("u{u}");
        let own: Vec<_> = records.iter().filter(|r| *r.subject == *name).cloned().collect();
        assert_eq!(payloads(&own), expected);
    }
}

async fn a_record_comes_back_as_it_was(place: &dyn Place) {
    let log = place.open();
    let sent = record("ünïcode \u{0} subject", u128::MAX, "payload \u{1F600}");
    let answer = log.append(Topic::Policies, vec![sent.clone()]).await.unwrap();
    let empty = Append { subject: String::new(), key: 9, payload: Bytes::new() };
    log.append(Topic::Policies, vec![empty]).await.unwrap();
    let read = everything(&*log, Topic::Policies).await;
    assert_eq!(answer, [Appended::At(read[0].partition, read[0].offset)]);
    assert_eq!((&*read[0].subject, read[0].key, &read[0].payload), (&*sent.subject, sent.key, &sent.payload));
    assert_eq!((&*read[1].subject, read[1].key, read[1].payload.len()), ("", 9, 0));
}

async fn repeats_change_nothing(place: &dyn Place) {
    let log = place.open();
    let batch = vec![record("a", 1, "first"), record("b", 2, "x"), record("a", 1, "again")];
    let answers = log.append(Topic::Signals, batch).await.unwrap();
    assert!(matches!(answers[..], [Appended::At(..), Appended::At(..), Appended::Duplicate]), "{answers:?}");
    let answers = log.append(Topic::Signals, vec![record("b", 2, "y"), record("c", 3, "z")]).await.unwrap();
    assert!(matches!(answers[..], [Appended::Duplicate, Appended::At(..)]), "{answers:?}");
    // Another topic knows nothing of these keys.
    let answers = log.append(Topic::Rewards, vec![record("b", 2, "reward")]).await.unwrap();
    assert!(matches!(answers[..], [Appended::At(..)]));
    drop(log);
    let log = place.open();
    let again = vec![record("a", 1, "later"), record("c", 3, "later"), record("c", 4, "new")];
    let answers = log.append(Topic::Signals, again).await.unwrap();
    assert!(
        matches!(answers[..], [Appended::Duplicate, Appended::Duplicate, Appended::At(..)]),
        "{answers:?}"
    );
    let mut read = payloads(&everything(&*log, Topic::Signals).await);
    read.sort();
    assert_eq!(read, ["first", "new", "x", "z"]);
}

async fn without_a_key_nothing_is_a_repeat(place: &dyn Place) {
    let log = place.open();
    for _ in 0..3 {
        let answers =
            log.append(Topic::Rewards, vec![record("a", 0, "p"), record("a", 0, "p")]).await.unwrap();
        assert!(answers.iter().all(|a| matches!(a, Appended::At(..))));
    }
    assert_eq!(everything(&*log, Topic::Rewards).await.len(), 6);
}

async fn many_callers_one_copy_each(place: &dyn Place) {
    let log = place.open();
    let callers = (0..16).map(|caller| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut new = 0;
            for i in 0..40u128 {
                // Every key is sent by all callers, in different orders.
                let key = 1 + (i * 7 + caller) % 40;
                let answers = log.append(Topic::Signals, vec![record(&format!("u{key}"), key, "p")]).await;
                new += usize::from(matches!(answers.unwrap()[..], [Appended::At(..)]));
            }
            new
        })
    });
    let mut new = 0;
    for caller in callers.collect::<Vec<_>>() {
        new += soon(caller).await.unwrap();
    }
    assert_eq!(new, 40);
    let mut keys: Vec<u128> = everything(&*log, Topic::Signals).await.iter().map(|r| r.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, (1..=40).collect::<Vec<u128>>());
}

async fn an_append_nobody_waits_for_leaves_at_most_one_copy(place: &dyn Place) {
    let log = place.open();
    for key in 1..=50u128 {
        let append = log.append(Topic::Signals, vec![record("u", key, "p")]);
        // Dropped as soon as it has been looked at once.
        let _ = tokio::time::timeout(Duration::ZERO, append).await;
        log.append(Topic::Signals, vec![record("u", key, "p")]).await.unwrap();
    }
    let keys: Vec<u128> = everything(&*log, Topic::Signals).await.iter().map(|r| r.key).collect();
    assert_eq!(keys, (1..=50).collect::<Vec<u128>>());
}

async fn a_reader_follows_the_tail_and_may_be_cancelled(place: &dyn Place) {
    let log = place.open();
    let mut tail = reader(&*log, Topic::Signals, &Position::default());
    assert!(tail.poll(10).unwrap().is_empty());
    let writer = {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0..200 {
                log.append(Topic::Signals, vec![record("u", 0, &i.to_string())]).await.unwrap();
                if i % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    };
    let mut read = Vec::new();
    while read.len() < 200 {
        // Most of these are dropped while they wait.
        if let Ok(records) = tokio::time::timeout(Duration::from_micros(300), tail.next(3)).await {
            let records = records.unwrap();
            assert!((1..=3).contains(&records.len()));
            read.extend(payloads(&records));
        }
    }
    soon(writer).await.unwrap();
    assert_eq!(read, (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(tail.poll(1).unwrap().is_empty());
}

async fn reading_goes_on_from_a_position(place: &dyn Place) {
    let log = place.open();
    for i in 0..120 {
        log.append(Topic::Signals, vec![record(&format!("u{}", i % 9), 0, &i.to_string())]).await.unwrap();
    }
    let all = everything(&*log, Topic::Signals).await;
    for cut in [0, 1, 17, 60, 119, 120] {
        let mut position = Position::default();
        all[..cut].iter().for_each(|r| position.advance(r.partition, r.offset));
        let text = position.to_string();
        assert_eq!(text.parse::<Position>().unwrap(), position);
        let rest = reader(&*log, Topic::Signals, &position).poll(usize::MAX).unwrap();
        let mut rest = payloads(&rest);
        let mut expected = payloads(&all[cut..]);
        rest.sort();
        expected.sort();
        assert_eq!(rest, expected);
    }
    let mut position = Position::default();
    all.iter().for_each(|r| position.advance(r.partition, r.offset));
    assert!(position.covers(&log.end(Topic::Signals)) && log.end(Topic::Signals).covers(&position));
}

async fn a_reader_sees_its_partitions_only(place: &dyn Place) {
    let log = place.open();
    let batch = (0..100).map(|i| record(&format!("u{i}"), 0, "p")).collect();
    log.append(Topic::Signals, batch).await.unwrap();
    let mut seen = 0;
    for partition in all_partitions(&*log, Topic::Signals) {
        let mut one = log.reader(Topic::Signals, &[partition], &Position::default()).unwrap();
        let records = one.poll(1000).unwrap();
        assert!(records.iter().all(|r| r.partition == partition));
        seen += records.len();
    }
    assert_eq!(seen, 100);
    let unknown = log.reader(Topic::Signals, &[9999], &Position::default());
    assert!(matches!(unknown.err(), Some(LogError::Refused(_))));
}

async fn committed_positions_outlive_a_restart(place: &dyn Place) {
    let log = place.open();
    let (one, two): (Position, Position) = ("0:3,2:9".parse().unwrap(), "0:1".parse().unwrap());
    assert_eq!(log.committed("jobs", Topic::Signals).unwrap(), Position::default());
    log.commit("jobs", Topic::Signals, &two).await.unwrap();
    log.commit("jobs", Topic::Signals, &one).await.unwrap();
    log.commit("jobs", Topic::Rewards, &two).await.unwrap();
    log.commit("a \"strange\" / name", Topic::Signals, &two).await.unwrap();
    drop(log);
    let log = place.open();
    assert_eq!(log.committed("jobs", Topic::Signals).unwrap(), one);
    assert_eq!(log.committed("jobs", Topic::Rewards).unwrap(), two);
    assert_eq!(log.committed("a \"strange\" / name", Topic::Signals).unwrap(), two);
    assert_eq!(log.committed("else", Topic::Signals).unwrap(), Position::default());
}

async fn an_erased_person_is_gone(place: &dyn Place) {
    let log = place.open();
    for i in 0..60u128 {
        let batch = vec![record("gone", 1000 + i, "private"), record("stays", 2000 + i, &i.to_string())];
        log.append(Topic::Signals, batch).await.unwrap();
    }
    log.append(Topic::Rewards, vec![record("gone", 5, "private")]).await.unwrap();
    let mut running = reader(&*log, Topic::Signals, &Position::default());
    let before = running.poll(30).unwrap();
    assert_eq!(before.len(), 30);

    assert_eq!(log.erase("gone").await.unwrap(), if place.deletes() { 61 } else { 0 });
    assert_eq!(log.erase("gone").await.unwrap(), 0);
    assert_eq!(log.erase("nobody").await.unwrap(), 0);
    let erased = everything(&*log, Topic::Erasures).await;
    let subjects: Vec<&str> = erased.iter().map(|r| &*r.subject).collect();
    assert_eq!(subjects, if place.deletes() { &[][..] } else { &["gone", "gone", "nobody"] });

    let after = running.poll(usize::MAX).unwrap();
    assert!(after.iter().all(|r| &*r.subject == "stays"), "a running reader shows nothing any more");
    let stays: Vec<_> = before.iter().chain(&after).filter(|r| &*r.subject == "stays").cloned().collect();
    let mut stays = payloads(&stays);
    stays.sort_by_key(|p| p.parse::<u32>().unwrap());
    assert_eq!(stays, (0..60).map(|i| i.to_string()).collect::<Vec<_>>());

    let end = log.end(Topic::Signals);
    drop(running);
    drop(log);
    let log = place.open();
    assert_eq!(log.end(Topic::Signals), end, "offsets stay");
    let mut left = reader(&*log, Topic::Signals, &Position::default());
    let left = left.poll(usize::MAX).unwrap();
    assert!(left.len() == 60 && left.iter().all(|r| &*r.subject == "stays"));
    // A repeat does not bring the person back.
    let answers = log.append(Topic::Signals, vec![record("gone", 1003, "private")]).await.unwrap();
    assert_eq!(answers, [Appended::Duplicate]);
    log.append(Topic::Signals, vec![record("stays", 1, "more")]).await.unwrap();
    assert!(log.end(Topic::Signals).covers(&end));
}

async fn what_is_too_large_is_refused_whole(place: &dyn Place) {
    let log = place.open();
    let large = Append { subject: "u".into(), key: 2, payload: Bytes::from(vec![0; 64 << 20]) };
    let refused = log.append(Topic::Signals, vec![record("u", 1, "small"), large]).await;
    assert!(matches!(refused, Err(LogError::Refused(_))));
    let long = record(&"s".repeat(1 << 20), 3, "p");
    let refused = log.append(Topic::Signals, vec![long]).await;
    assert!(matches!(refused, Err(LogError::Refused(_))));
    assert!(everything(&*log, Topic::Signals).await.is_empty());
    let answers = log.append(Topic::Signals, vec![record("u", 1, "small")]).await.unwrap();
    assert!(matches!(answers[..], [Appended::At(..)]), "what was refused has left no key");
    assert!(log.append(Topic::Signals, Vec::new()).await.unwrap().is_empty());
}

async fn everything_outlives_a_restart(place: &dyn Place) {
    let mut expected = Vec::new();
    for round in 0..4 {
        let log = place.open();
        for i in 0..25 {
            let payload = format!("{round}.{i}");
            log.append(Topic::Policies, vec![record("p", 0, &payload)]).await.unwrap();
            expected.push(payload);
        }
        assert_eq!(payloads(&everything(&*log, Topic::Policies).await), expected);
    }
}

macro_rules! suite {
    ($backend:ident, $place:expr) => {
        mod $backend {
            suite!(@ $place; records_of_a_subject_keep_their_order, a_record_comes_back_as_it_was,
                repeats_change_nothing, without_a_key_nothing_is_a_repeat, many_callers_one_copy_each,
                an_append_nobody_waits_for_leaves_at_most_one_copy,
                a_reader_follows_the_tail_and_may_be_cancelled, reading_goes_on_from_a_position,
                a_reader_sees_its_partitions_only, committed_positions_outlive_a_restart,
                an_erased_person_is_gone, what_is_too_large_is_refused_whole, everything_outlives_a_restart);
        }
    };
    (@ $place:expr; $($test:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let place_of = $place;
            if let Some(place) = place_of(stringify!($test)) {
                super::$test(&place).await;
            }
        })*
    };
}

/// The embedded log, with segments of the given size.
struct Embedded(tempfile::TempDir, u64);

impl Embedded {
    fn with_segments_of(bytes: u64) -> Self {
        Embedded(tempfile::tempdir().unwrap(), bytes)
    }
}

impl Place for Embedded {
    fn open(&self) -> Arc<dyn Log> {
        let options = LogOptions { segment_bytes: self.1, ..LogOptions::default() };
        Arc::new(EmbeddedLog::open(self.0.path(), options).unwrap())
    }
}

suite!(embedded, |_: &str| Some(super::Embedded::with_segments_of(64 << 20)));
suite!(embedded_in_many_segments, |_: &str| Some(super::Embedded::with_segments_of(700)));

#[cfg(all(feature = "fluvio", feature = "test-servers"))]
mod on_fluvio {
    use std::sync::{
        LazyLock, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    };

    use ingest::{
        catalogue::Catalogue,
        log::{FluvioOptions, fluvio::FluvioLog},
        servers::{self, Server},
    };

    use super::*;

    /// Topics of one prefix on a cluster that the whole suite shares.
    pub struct OnFluvio(Arc<Server>, String);

    impl OnFluvio {
        pub fn of(_test: &str) -> Option<OnFluvio> {
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            // Stopped with the last test that holds it.
            static SHARED: LazyLock<Mutex<Weak<Server>>> = LazyLock::new(Mutex::default);
            let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let server = match shared.upgrade() {
                Some(server) => server,
                None => Arc::new(servers::fluvio()?),
            };
            *shared = Arc::downgrade(&server);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Some(OnFluvio(server, format!("suite-{}-{number}", std::process::id())))
        }
    }

    impl Place for OnFluvio {
        fn open(&self) -> Arc<dyn Log> {
            let options = LogOptions {
                catalogue: Some(Arc::new(Catalogue::load(&[]).unwrap())),
                clock: Some(Arc::new(|| 1_769_860_800_000)),
                fluvio: FluvioOptions {
                    topic_prefix: self.1.clone(),
                    patience: Duration::from_secs(30),
                    ..FluvioOptions::default()
                },
                ..LogOptions::default()
            };
            Arc::new(FluvioLog::open(&self.0.url, options).unwrap())
        }

        fn deletes(&self) -> bool {
            false
        }
    }
}

#[cfg(all(feature = "fluvio", feature = "test-servers"))]
suite!(fluvio, super::on_fluvio::OnFluvio::of);
