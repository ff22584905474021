//! Parquet history with damaged files, a full disk, a reader in another process, and erasure down to bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod offline;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use features::offline::{HistoryError, OfflineStore, ParquetHistory, ScanFilter};
use offline::{Row, TestClock, at, batch, read, row, sorted};

const T: &str = "task_completed";

fn filled(dir: &Path, clock: &TestClock, flushes: u64) -> (ParquetHistory, Vec<Row>) {
    let store = clock.open(dir);
    let rows: Vec<Row> = (0..flushes * 20).map(|o| row(&format!("user{}", o % 7), o as i64, o)).collect();
    for (i, part) in rows.chunks(20).enumerate() {
        store.append(T, batch(part, false)).unwrap();
        store.flush(&at(i as u64 * 20 + 20)).unwrap();
    }
    (store, sorted(rows))
}

fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("data")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn assert_damaged(result: Result<impl Sized, HistoryError>, path: &Path) {
    let error = result.err().expect("damage is noticed");
    assert!(matches!(error, HistoryError::Damaged(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("backup"), "{text}");
}

#[test]
fn a_truncated_or_missing_file_is_named_at_start() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    drop(filled(dir.path(), &clock, 2));
    let file = data_files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    assert_damaged(ParquetHistory::open(dir.path(), clock.options()), &file);
    fs::remove_file(&file).unwrap();
    assert_damaged(ParquetHistory::open(dir.path(), clock.options()), &file);
    fs::write(&file, whole).unwrap();
    clock.open(dir.path());
}

#[test]
fn changed_bytes_are_named_when_read_or_verified() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    drop(filled(dir.path(), &clock, 4));
    assert_eq!(clock.open(dir.path()).verify().unwrap(), 4);
    let file = data_files(dir.path()).remove(1);
    let whole = fs::read(&file).unwrap();

    let mut footer = whole.clone();
    let end = footer.len();
    footer[end - 40..end - 8].fill(0xff);
    fs::write(&file, footer).unwrap();
    let store = clock.open(dir.path());
    assert_damaged(store.scan(T, &ScanFilter::default()), &file);
    assert_damaged(store.stream(T, &ScanFilter::default()), &file);

    let mut body = whole.clone();
    body[100] ^= 1;
    fs::write(&file, body).unwrap();
    let store = clock.open(dir.path());
    assert_damaged(store.verify(), &file);
    assert_damaged(store.compact_step(), &file);
    assert_damaged(store.erase("user1"), &file);
    assert_eq!(data_files(dir.path()).len(), 4, "nothing was made of damaged rows");
}

#[test]
fn a_damaged_or_missing_manifest_is_named() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    drop(filled(dir.path(), &clock, 1));
    let manifest = dir.path().join("MANIFEST.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let damages = [
        text[..text.len() / 2].to_owned(),
        String::new(),
        text.replace("\"rows\":20", "\"rows\":21"),
        text.replace("0:20", "0:30"),
    ];
    for damage in damages {
        assert_ne!(damage, text);
        fs::write(&manifest, damage).unwrap();
        assert_damaged(ParquetHistory::open(dir.path(), clock.options()), &manifest);
    }
    fs::write(&manifest, [0xff, 0xfe]).unwrap();
    assert_damaged(ParquetHistory::open(dir.path(), clock.options()), &manifest);
    fs::remove_file(&manifest).unwrap();
    assert_damaged(ParquetHistory::open(dir.path(), clock.options()), &manifest);
    assert_eq!(data_files(dir.path()).len(), 1, "no file was taken for a stranger");
}

#[test]
fn a_full_disk_loses_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(mount.path()).output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        eprintln!("SKIPPED: mounting a small file system needs more rights than this test has");
        return;
    }
    let clock = TestClock::default();
    let (store, mut rows) = filled(&mount.path().join("history"), &clock, 3);
    let ballast = mount.path().join("ballast");
    while fs::File::options().create(true).append(true).open(&ballast).is_ok_and(|mut f| {
        use std::io::Write;
        f.write_all(&[7; 4096]).is_ok()
    }) {}
    let more: Vec<Row> = (60..2000).map(|o| row(&format!("user{}", o % 7), o as i64, o)).collect();
    store.append(T, batch(&more, false)).unwrap();
    rows.extend(more);
    let rows = sorted(rows);
    for _ in 0..3 {
        let error = store.flush(&at(2000)).unwrap_err();
        assert!(
            matches!(error, HistoryError::Unavailable(_)) && error.to_string().contains("free some space")
        );
        assert_eq!(read(&store, T, &ScanFilter::default()), rows);
        assert_eq!(store.durable_position().unwrap(), at(60));
    }
    fs::remove_file(&ballast).unwrap();
    assert_eq!(store.persist().unwrap(), at(2000));
    drop(store);
    let found = read(&clock.open(&mount.path().join("history")), T, &ScanFilter::default());
    let unmounted = Command::new("umount").arg(mount.path()).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(found, rows);
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_durable() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    assert!(ParquetHistory::open_read_only(&dir.path().join("none"), clock.options()).is_err());
    let (store, mut rows) = filled(dir.path(), &clock, 3);
    let reader = ParquetHistory::open_read_only(dir.path(), clock.options()).unwrap();
    let all = ScanFilter::default();
    assert_eq!(read(&reader, T, &all), rows);
    assert!(matches!(reader.append(T, batch(&rows, false)), Err(HistoryError::Refused(_))));
    assert!(matches!(reader.erase("user1"), Err(HistoryError::Refused(_))));

    let more = vec![row("user1", 1000, 60)];
    store.append(T, batch(&more, false)).unwrap();
    assert_eq!(read(&reader, T, &all), rows);
    store.flush(&at(61)).unwrap();
    rows.extend(more);
    let rows = sorted(rows);
    assert_eq!(read(&reader, T, &all), rows);
    assert_eq!(reader.durable_position().unwrap(), at(61));

    let open_before = reader.stream(T, &all).unwrap();
    let files_before = data_files(dir.path());
    assert!(store.compact_step().unwrap());
    assert!(files_before.iter().all(|f| f.exists()), "replaced files stay for the time of grace");
    assert_eq!(read(&reader, T, &all), rows);
    clock.advance(Duration::from_secs(61));
    while store.compact_step().unwrap() {}
    assert!(files_before.iter().all(|f| !f.exists()), "and go afterwards");
    assert_eq!(data_files(dir.path()).len(), 1);
    assert_eq!(read(&reader, T, &all), rows);
    assert_eq!(open_before.map(|b| b.unwrap().num_rows()).sum::<usize>(), rows.len());
}

#[test]
fn replaced_files_of_an_earlier_run_go_too() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    let (store, rows) = filled(dir.path(), &clock, 5);
    assert!(store.compact_step().unwrap());
    drop(store);
    fs::write(dir.path().join("data/task_completed.000000009999.parquet"), b"never finished").unwrap();
    fs::write(dir.path().join("data/x.parquet.tmp"), b"never finished").unwrap();
    let store = clock.open(dir.path());
    assert_eq!(data_files(dir.path()).len(), 6, "five within grace and the merged one");
    clock.advance(Duration::from_secs(61));
    store.compact_step().unwrap();
    assert_eq!(data_files(dir.path()).len(), 1);
    assert_eq!(read(&store, T, &ScanFilter::default()), rows);
}

#[test]
fn erasure_leaves_no_byte_of_the_person() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    let store = clock.open(dir.path());
    let marker = "zq-person-to-forget-8471";
    let mut expected = Vec::new();
    for i in 0..6u64 {
        let mut rows: Vec<Row> =
            (0..50).map(|o| row(&format!("user{}", o % 7), o as i64, i * 100 + o)).collect();
        expected.extend(rows.clone());
        rows.push(Row { note: Some(format!("about {marker}")), ..row(marker, 25, i * 100 + 50) });
        store.append(T, batch(&rows, true)).unwrap();
        store.flush(&at(i * 100 + 100)).unwrap();
        if i == 4 {
            assert!(store.compact_step().unwrap());
        }
    }
    assert!(holds(dir.path(), marker), "the check finds a person who is there");
    assert_eq!(store.erase(marker).unwrap(), 6);
    assert!(!holds(dir.path(), marker), "replaced files within their time of grace are gone as well");
    assert_eq!(read(&store, T, &ScanFilter::default()), sorted(expected));
}

/// Whether any file of the store holds the text, in raw bytes or in any column once decoded.
fn holds(dir: &Path, text: &str) -> bool {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let raw = |path: &Path| fs::read(path).unwrap().windows(text.len()).any(|w| w == text.as_bytes());
    let decoded = |path: &Path| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
        reader.build().unwrap().any(|b| format!("{:?}", b.unwrap().columns()).contains(text))
    };
    raw(&dir.join("MANIFEST.json")) || data_files(dir).iter().any(|f| raw(f) || decoded(f))
}
