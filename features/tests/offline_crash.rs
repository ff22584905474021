//! Parquet history across crashes: at every change to a file the directory is copied as a crash would leave
//! it, opened again and compared with what was promised.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod offline;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use features::offline::{OfflineStore, ParquetHistory, ScanFilter, parquet::disk::FileOp};
use ingest::log::Position;
use offline::{Row, TestClock, at, batch, copy_dir, read, row};
use parking_lot::Mutex;

const TABLES: [&str; 2] = ["alpha", "beta"];

type Rows = BTreeMap<&'static str, Vec<Row>>;

/// What may be found after a crash: a position and the rows that belong to it.
type Promise = (Position, Rows);

/// Watches a store's files and keeps what a crash at each moment would leave.
#[derive(Default)]
struct Crashes {
    root: PathBuf,
    images: PathBuf,
    taken: Vec<(PathBuf, Vec<Promise>)>,
    allowed: Vec<Promise>,
    synced: BTreeSet<PathBuf>,
    syncing: Option<PathBuf>,
    /// Names given since their directory was last made durable, with what they replaced.
    renamed: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Crashes {
    fn before(&mut self, op: FileOp, path: &Path) {
        self.synced.extend(self.syncing.take());
        self.image(false);
        self.image(true);
        match op {
            FileOp::Sync => self.syncing = Some(path.to_owned()),
            FileOp::Rename => {
                let named = path.with_extension("");
                let replaced = fs::read(&named).ok();
                if self.synced.remove(path) {
                    self.synced.insert(named.clone());
                }
                self.renamed.push((named, replaced));
            }
            FileOp::SyncDir => self.renamed.retain(|(p, _)| p.parent() != Some(path)),
            FileOp::Create => drop(self.synced.remove(path)),
            FileOp::Write | FileOp::Remove => {}
        }
    }

    /// A copy of the directory in which bytes never synced are cut; `harsh` also takes back names.
    fn image(&mut self, harsh: bool) {
        let image = self.images.join(self.taken.len().to_string());
        copy_dir(&self.root, &image);
        let inside = |p: &Path| image.join(p.strip_prefix(&self.root).unwrap());
        for entry in walk(&self.root) {
            if !self.synced.contains(&entry) {
                let file = fs::File::options().write(true).open(inside(&entry)).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }
        }
        if harsh {
            for (named, replaced) in self.renamed.iter().rev() {
                match replaced {
                    Some(bytes) => fs::write(inside(named), bytes).unwrap(),
                    None => drop(fs::remove_file(inside(named))),
                }
            }
        }
        self.taken.push((image, self.allowed.clone()));
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.into_iter().flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

fn found(store: &dyn OfflineStore) -> Rows {
    TABLES
        .into_iter()
        .map(|t| (t, read(store, t, &ScanFilter::default())))
        .filter(|(_, r)| !r.is_empty())
        .collect()
}

#[test]
fn a_crash_at_any_moment_leaves_exactly_what_was_durable() {
    let (dir, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = TestClock::default();
    let crashes = Arc::new(Mutex::new(Crashes {
        root: dir.path().join("history"),
        images: images.path().to_owned(),
        allowed: vec![Promise::default()],
        ..Crashes::default()
    }));
    let mut options = clock.options();
    let watch = crashes.clone();
    options.hook = Some(Arc::new(move |op, path| {
        watch.lock().before(op, path);
        Ok(())
    }));
    let store = ParquetHistory::open(&dir.path().join("history"), options).unwrap();

    let (mut durable, mut pending) = (Promise::default(), Rows::new());
    let mut offset = 0;
    let step = |durable: &mut Promise, next: Promise, act: &dyn Fn()| {
        crashes.lock().allowed = vec![durable.clone(), next.clone()];
        act();
        crashes.lock().allowed = vec![next.clone()];
        *durable = next;
    };
    for round in 0..10 {
        for table in TABLES.into_iter().take(1 + round % 2) {
            let rows: Vec<Row> =
                (0..5).map(|i| row(&format!("u{i}"), (offset * 3 + i) as i64, offset + i)).collect();
            offset += 5;
            store.append(table, batch(&rows, round % 2 == 0)).unwrap();
            pending.entry(table).or_default().extend(rows);
        }
        let mut next = (at(offset), durable.1.clone());
        for (table, rows) in std::mem::take(&mut pending) {
            let all = next.1.entry(table).or_default();
            all.extend(rows);
            all.sort();
        }
        step(&mut durable, next, &|| store.flush(&at(offset)).unwrap());
        if round % 3 == 2 {
            clock.advance(Duration::from_secs(61));
            let same = durable.clone();
            step(&mut durable, same, &|| {
                store.compact_step().unwrap();
            });
        }
        if round == 6 {
            let mut next = durable.clone();
            next.1.values_mut().for_each(|rows| rows.retain(|r| r.subject != "u2"));
            step(&mut durable, next, &|| assert!(store.erase("u2").unwrap() > 0));
        }
        if round == 8 {
            let mut next = durable.clone();
            next.1.entry("alpha").or_default().retain(|r| r.time > 60);
            step(&mut durable, next, &|| {
                assert!(store.enforce_retention(60, "alpha", Duration::ZERO).unwrap() > 0);
            });
        }
    }
    assert_eq!(found(&store), durable.1);

    let taken = std::mem::take(&mut crashes.lock().taken);
    assert!(taken.len() > 200, "only {} images", taken.len());
    for (image, allowed) in taken {
        let store = clock.open(&image);
        let state = (store.durable_position().unwrap(), found(&store));
        assert!(allowed.contains(&state), "{}: found {state:?}, allowed {allowed:?}", image.display());
        drop(store);
        fs::remove_dir_all(image).unwrap();
    }
}

#[test]
fn any_failing_change_leaves_the_state_before_and_a_later_try_works() {
    for failing in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::default();
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let mut options = clock.options();
        let countdown = left.clone();
        options.hook = Some(Arc::new(move |op, _| {
            if op != FileOp::Remove && countdown.fetch_sub(1, Ordering::SeqCst) == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }));
        let store = ParquetHistory::open(dir.path(), options).unwrap();
        let rows = |from: u64, to: u64| {
            (from..to).map(|o| row(&format!("u{}", o % 3), o as i64, o)).collect::<Vec<_>>()
        };
        for i in 0..4 {
            store.append("alpha", batch(&rows(i * 5, i * 5 + 5), false)).unwrap();
            store.flush(&at(i * 5 + 5)).unwrap();
        }
        store.append("alpha", batch(&rows(20, 25), false)).unwrap();
        store.append("beta", batch(&rows(20, 25), false)).unwrap();
        let before = found(&store);
        left.store(failing, Ordering::SeqCst);
        let flushed = store.flush(&at(25));
        let compacted = store.compact_step();
        let reached = left.swap(i64::MAX, Ordering::SeqCst) < 0;
        assert_eq!(found(&store), before, "after failing change {failing}");
        if reached {
            let error = flushed.err().or(compacted.err()).expect("one of them met the failure").to_string();
            assert!(error.contains("free some space"), "{error}");
        }
        assert_eq!(store.persist().unwrap(), at(25));
        while store.compact_step().unwrap() {}
        assert_eq!(found(&store), before);
        drop(store);
        let store = clock.open(dir.path());
        assert_eq!(store.durable_position().unwrap(), at(25));
        assert_eq!(found(&store), before);
        if !reached {
            assert!(failing > 15, "the failure was never met");
            return;
        }
    }
}
