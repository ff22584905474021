//! History on ClickHouse when things break: the server, the network, either disk, this process. No row is lost, and
//! none counts twice.
#![cfg(feature = "clickhouse")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod offline;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use features::offline::{
    HistoryError, HistoryOptions, OfflineStore, ScanFilter, clickhouse::ClickHouseHistory,
};
use ingest::servers::{
    self, Server,
    proxy::{Network, Proxy},
};
use offline::{Row, at, batch, clickhouse::options, read, row, sorted};

const T: &str = "task_completed";
const OTHER: &str = "mood_reported";
const LONG: Duration = Duration::from_secs(50);

fn some_rows(offsets: Range<u64>) -> Vec<Row> {
    offsets.map(|o| row(&format!("user{}", o % 7), 1_600_000_000_000 + (o * 37 % 1_009) as i64, o)).collect()
}

/// As a job appends and persists; what cannot be made durable stays for the next call.
fn write(store: &ClickHouseHistory, offsets: Range<u64>) -> Result<(), HistoryError> {
    let end = offsets.end;
    store.append(T, batch(&some_rows(offsets.clone()), false)).unwrap();
    store.append(OTHER, batch(&some_rows(offsets), false)).unwrap();
    store.seal(&at(end)).unwrap();
    store.persist().map(drop)
}

/// What a process elsewhere reads: exactly these rows, each once.
fn audit(url: &str, rows: u64) {
    let none = tempfile::tempdir().unwrap();
    let reader = HistoryOptions { read_only: true, ..options(url, none.path(), Duration::ZERO) };
    let reader = ClickHouseHistory::open(&reader).unwrap();
    assert_eq!(reader.durable_position().unwrap(), at(rows));
    for table in [T, OTHER] {
        assert_eq!(read(&reader, table, &ScanFilter::default()), sorted(some_rows(0..rows)), "{table}");
    }
}

fn behind(server: &Server, proxy: &Proxy) -> String {
    server.url.replace(&server.address().to_string(), &proxy.address().to_string())
}

fn own_server() -> Option<Server> {
    servers::clickhouse().filter(Server::is_own)
}

#[test]
fn a_server_killed_under_load_gets_everything_once_it_is_back() {
    let Some(mut server) = own_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = ClickHouseHistory::open(&options(&server.url, dir.path(), Duration::ZERO)).unwrap();
    for i in 0..40 {
        write(&store, i * 100..i * 100 + 100).unwrap();
        match i {
            8 | 25 => server.kill(),
            15 | 32 => server.start(),
            12 => {
                let error = store.scan(T, &ScanFilter::default()).unwrap_err();
                assert!(matches!(error, HistoryError::Unavailable(_)), "{error}");
                assert!(store.waiting().0 > 0);
            }
            _ => std::thread::sleep(Duration::from_millis(15)),
        }
    }
    store.deliver(LONG).unwrap();
    assert_eq!(store.waiting(), (0, None));
    audit(&server.url, 4_000);
}

#[test]
fn a_network_that_drops_stalls_and_slows_loses_nothing() {
    let Some(server) = servers::clickhouse() else { return };
    let proxy = Proxy::before(server.address());
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&behind(&server, &proxy), dir.path(), Duration::ZERO);
    options.server.timeout = Duration::from_millis(700);
    let store = ClickHouseHistory::open(&options).unwrap();
    let networks = [
        Network::Dropping,
        Network::Whole,
        Network::Stalled,
        Network::Whole,
        Network::Slow(Duration::from_millis(5), 2_048),
        Network::Stalled,
        Network::Dropping,
    ];
    let mut offset = 0;
    for network in networks {
        proxy.set(network);
        for _ in 0..4 {
            write(&store, offset..offset + 200).unwrap();
            offset += 200;
            std::thread::sleep(Duration::from_millis(150));
        }
        // In the middle of an insert, perhaps after the server took it.
        proxy.cut();
    }
    proxy.set(Network::Whole);
    store.deliver(LONG).unwrap();
    audit(&server.url, offset);
}

#[test]
fn a_slow_server_fills_the_spool_and_the_writer_waits() {
    let Some(server) = servers::clickhouse() else { return };
    let proxy = Proxy::before(server.address());
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&behind(&server, &proxy), dir.path(), Duration::ZERO);
    options.server.spool_bytes = 2_000_000;
    let store = ClickHouseHistory::open(&options).unwrap();
    // A tenth of what is written, for far longer than the spool lasts.
    proxy.set(Network::Slow(Duration::from_millis(400), 1_024));
    let (mut offset, mut refused) = (0, 0);
    while refused < 5 {
        assert!(offset < 100_000, "the spool has no bound");
        match write(&store, offset..offset + 1_000) {
            Ok(()) => {}
            Err(e) => {
                assert!(matches!(&e, HistoryError::Unavailable(m) if m.contains("history.spool_mb")), "{e}");
                refused += 1;
            }
        }
        offset += 1_000;
    }
    assert!(store.buffered_bytes() > 0 && store.waiting().0 <= 2_000_000);
    assert!(store.durable_position().unwrap().get(0) < offset);
    proxy.set(Network::Whole);
    let began = Instant::now();
    while store.persist().is_err() {
        assert!(began.elapsed() < LONG, "it does not catch up");
        std::thread::sleep(Duration::from_millis(50));
    }
    store.deliver(LONG).unwrap();
    audit(&server.url, offset);
}

/// A file system of its own for a directory, taken away again with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a visible line, without the right to mount.
    fn at(dir: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(dir).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(dir).output();
        if mounted.is_ok_and(|m| m.status.success()) {
            return Some(SmallDisk(dir.to_owned()));
        }
        eprintln!("SKIPPED: mounting a small file system needs more rights than this test has");
        None
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,{size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_of_the_server_makes_rows_wait() {
    let Some(mut server) = own_server() else { return };
    server.kill();
    let data = server.dir().unwrap().join("data");
    let _ = std::fs::remove_dir_all(&data);
    let Some(disk) = SmallDisk::at(&data, "size=4m") else { return };
    server.start();
    let dir = tempfile::tempdir().unwrap();
    let store = ClickHouseHistory::open(&options(&server.url, dir.path(), Duration::ZERO)).unwrap();
    let mut offset = 0;
    let error = loop {
        assert!(offset < 1_000_000, "the disk is not full");
        write(&store, offset..offset + 10_000).unwrap();
        offset += 10_000;
        // Merges that end may make room once more.
        if store.waiting().1.is_some()
            && let Err(e) = store.deliver(Duration::from_secs(2))
        {
            break e.to_string();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(error.contains("rows still wait for ClickHouse") && error.contains("space"), "{error}");
    disk.resize("size=256m");
    store.deliver(LONG).unwrap();
    audit(&server.url, offset);
    drop(store);
    server.kill();
}

#[test]
fn a_full_disk_of_the_spool_loses_nothing() {
    let Some(server) = servers::clickhouse() else { return };
    let mount = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::at(mount.path(), "size=1m") else { return };
    let store = ClickHouseHistory::open(&options(&server.url, mount.path(), Duration::ZERO)).unwrap();
    write(&store, 0..100).unwrap();
    store.deliver(LONG).unwrap();
    for _ in 0..2 {
        let error = write(&store, 100..20_000).unwrap_err();
        assert!(matches!(&error, HistoryError::Unavailable(m) if m.contains("free some space")), "{error}");
        assert_eq!(read(&store, T, &ScanFilter::default()), sorted(some_rows(0..20_000)));
        assert_eq!(store.durable_position().unwrap(), at(100));
        store.discard_unflushed().unwrap();
    }
    let error = write(&store, 100..20_000).unwrap_err();
    assert!(error.to_string().contains("free some space"));
    disk.resize("size=64m");
    assert_eq!(store.persist().unwrap(), at(20_000));
    store.deliver(LONG).unwrap();
    audit(&server.url, 20_000);
}

#[test]
fn rows_that_come_twice_count_once() {
    let Some(server) = servers::clickhouse() else { return };
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let open =
        |i: usize| ClickHouseHistory::open(&options(&server.url, dirs[i].path(), Duration::ZERO)).unwrap();
    // Two processes that both believe to be the one, with batches that do not agree.
    let (first, second) = (open(0), open(1));
    for i in 0..10 {
        write(&first, i * 100..i * 100 + 100).unwrap();
    }
    for i in 0..4 {
        write(&second, i * 250..i * 250 + 250).unwrap();
    }
    first.deliver(LONG).unwrap();
    second.deliver(LONG).unwrap();
    audit(&server.url, 1_000);
    // One that begins on an empty disk, and is given the log from its start.
    let third = open(2);
    assert_eq!(third.durable_position().unwrap(), at(1_000));
    assert_eq!(third.append(T, batch(&some_rows(0..1_200), false)).unwrap(), 200);
    assert_eq!(third.append(OTHER, batch(&some_rows(0..1_200), false)).unwrap(), 200);
    third.flush(&at(1_200)).unwrap();
    assert_eq!(read(&third, T, &ScanFilter::default()), sorted(some_rows(0..1_200)));
    third.deliver(LONG).unwrap();
    audit(&server.url, 1_200);
}

#[test]
fn instances_of_other_partitions_share_the_tables() {
    let Some(server) = servers::clickhouse() else { return };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let rows = |partition: u32, offsets: Range<u64>| -> Vec<Row> {
        let of = |r: Row| Row { partition, id: format!("{partition}-{}", r.id), ..r };
        some_rows(offsets).into_iter().map(of).collect()
    };
    let stores = [0, 1].map(|i| {
        ClickHouseHistory::open(&options(&server.url, dirs[i].path(), Duration::from_millis(10))).unwrap()
    });
    for i in 0..20 {
        for (partition, store) in stores.iter().enumerate() {
            let partition = partition as u32;
            store.append(T, batch(&rows(partition, i * 50..i * 50 + 50), partition == 1)).unwrap();
            store.flush(&ingest::log::Position([(partition, i * 50 + 50)].into())).unwrap();
        }
    }
    for store in &stores {
        store.deliver(LONG).unwrap();
    }
    let all = sorted([rows(0, 0..1_000), rows(1, 0..1_000)].concat());
    drop(stores);
    let store = ClickHouseHistory::open(&options(&server.url, dirs[0].path(), Duration::ZERO)).unwrap();
    assert_eq!(read(&store, T, &ScanFilter::default()), all);
    assert_eq!(store.durable_position().unwrap(), ingest::log::Position([(0, 1_000), (1, 1_000)].into()));
}

/// The process that the next test kills: writes on from where history stands, until it is killed.
#[test]
fn a_writer_to_be_killed() {
    let Ok(task) = std::env::var("KAIROS_TEST_WRITER") else { return };
    let (url, dir) = task.split_once(' ').unwrap();
    let mut options = options(url, Path::new(dir), Duration::from_millis(3));
    options.server.batch_rows = 300;
    let store = ClickHouseHistory::open(&options).unwrap();
    let mut offset = store.durable_position().unwrap().get(0);
    loop {
        write(&store, offset..offset + 60).unwrap();
        offset += 60;
    }
}

#[test]
fn a_process_killed_between_any_two_writes_goes_on_where_it_was() {
    let Some(server) = servers::clickhouse() else { return };
    let dir = tempfile::tempdir().unwrap();
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_writer_to_be_killed"])
            .env("KAIROS_TEST_WRITER", format!("{} {}", server.url, dir.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(250 + 61 * round % 400));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let store = ClickHouseHistory::open(&options(&server.url, dir.path(), Duration::ZERO)).unwrap();
    let written = store.durable_position().unwrap().get(0);
    assert!(written > 1_000, "it hardly wrote: {written}");
    assert_eq!(read(&store, T, &ScanFilter::default()), sorted(some_rows(0..written)));
    store.deliver(LONG).unwrap();
    audit(&server.url, written);
}

#[test]
fn a_damaged_spool_is_named_and_nothing_of_it_is_sent() {
    let Some(server) = servers::clickhouse() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = ClickHouseHistory::open(&options(&server.url, dir.path(), LONG)).unwrap();
    write(&store, 0..100).unwrap();
    let batch = std::fs::read_dir(dir.path().join("history-spool"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.is_dir())
        .unwrap();
    let file = batch.join(format!("{OTHER}.arrow"));
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = store.deliver(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("backup"), "{error}");
    assert_eq!(
        store.waiting().0,
        std::fs::metadata(batch.join(format!("{T}.arrow"))).unwrap().len() + end as u64
    );
}
