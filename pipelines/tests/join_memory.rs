//! Joins of files larger than the memory they are given.
#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::File,
    io::{BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use features::{
    Registry,
    offline::{OfflineStore, Options, ParquetHistory},
};
use indicatif::ProgressBar;
use ingest::{
    catalogue::{Catalogue, UnknownFields},
    log::Position,
    record::Record,
};
use pipelines::join::{JoinJob, Known, Rows, run};

/// Counts what is allocated, and the most that ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator; only sizes are counted.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VIEW: &str = "CREATE FEATURE VIEW work ENTITY user_id WINDOWS (1 HOUR, 1 DAY) AS SELECT subject AS user_id, \
    count(*) AS done FROM task_completed GROUP BY user_id";
const PEOPLE: u64 = 300;
const ROWS: u64 = 12_000;
const MINUTE: i64 = 60_000;

#[test]
fn memory_is_bounded_however_long_the_file() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let registry = Registry::from_texts(&catalogue, &[("work.sql", VIEW)]).unwrap();
    let kind = catalogue.get("task.completed").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let history = ParquetHistory::open(&dir.path().join("history"), Options::new(Arc::new(|| 0))).unwrap();
    let mut table = kind.builder();
    for i in 0..PEOPLE * 10 {
        let record = Record {
            kind: kind.name.clone(),
            id: i.to_string(),
            source: "test".into(),
            subject: format!("u{}", i % PEOPLE),
            time: i as i64 * MINUTE,
            received_at: i as i64 * MINUTE,
            data: kind.encode_value(&serde_json::json!({}), UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        table.append(0, i, &record).unwrap();
    }
    history.append(&kind.table, table.finish()).unwrap();
    history.flush(&Position([(0, PEOPLE * 10)].into())).unwrap();

    let prepared = registry.prepare(&["work.done_1d"]).unwrap();
    let joined = |rows: u64| {
        let input = dir.path().join("rows.csv");
        let mut file = BufWriter::new(File::create(&input).unwrap());
        writeln!(file, "entity,as_of,note").unwrap();
        let note = "x".repeat(700);
        for i in 0..rows {
            let shuffled = i * 7_919 % rows;
            writeln!(file, "u{},{},{note}", shuffled % PEOPLE, shuffled as i64 % 3_000 * MINUTE).unwrap();
        }
        file.flush().unwrap();
        let job = JoinJob {
            input: Rows::File(input),
            output: dir.path().join("out.csv"),
            entity: "entity".into(),
            as_of: "as_of".into(),
            known: Known::ByThen,
            memory: 1 << 20,
        };
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let report = run(&history, &prepared, &job, &ProgressBar::hidden()).unwrap();
        assert_eq!(report.rows, rows);
        MOST.load(Ordering::Relaxed) - before
    };
    let (short, long) = (joined(ROWS), joined(5 * ROWS));
    println!("{} KiB at most for {ROWS} rows, {} for five times as many", short >> 10, long >> 10);
    assert!(long < short + short / 4, "{short} bytes for {ROWS} rows, {long} for five times as many");
}
