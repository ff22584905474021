//! Random work on Parquet history against a plain list of rows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod offline;

use std::time::Duration;

use features::offline::{OfflineStore, ScanFilter};
use offline::{Row, TestClock, at, batch, read, sorted};
use proptest::prelude::*;

const TABLES: [&str; 2] = ["alpha", "beta"];

#[derive(Debug, Clone)]
enum Act {
    Append {
        table: usize,
        rows: Vec<(u8, i64)>,
        noted: bool,
    },
    Seal,
    Flush,
    Compact,
    Crash,
    Erase(u8),
    Retain {
        table: usize,
        cutoff: i64,
    },
    Wait,
    Read {
        table: usize,
        subjects: Option<Vec<u8>>,
        after: Option<i64>,
        until: Option<i64>,
        known: Option<u64>,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let append = || {
        (0..2usize, prop::collection::vec((0..6u8, 0..200i64), 1..30), any::<bool>())
            .prop_map(|(table, rows, noted)| Act::Append { table, rows, noted })
    };
    let subjects = prop::option::of(prop::collection::vec(0..8u8, 0..4));
    let instant = || prop::option::of(0..200i64);
    let read = (0..2usize, subjects, instant(), instant(), prop::option::of(0..300u64)).prop_map(
        |(table, subjects, after, until, known)| Act::Read { table, subjects, after, until, known },
    );
    let act = prop_oneof![
        6 => append(),
        2 => Just(Act::Seal),
        4 => Just(Act::Flush),
        3 => Just(Act::Compact),
        1 => Just(Act::Crash),
        1 => (0..6u8).prop_map(Act::Erase),
        1 => (0..2usize, 0..120i64).prop_map(|(table, cutoff)| Act::Retain { table, cutoff }),
        1 => Just(Act::Wait),
        4 => read,
    ];
    prop::collection::vec(act, 1..40)
}

/// What the store should hold.
#[derive(Default, Clone)]
struct Model {
    rows: [Vec<Row>; 2],
    /// Whether the table has come into being.
    known: [bool; 2],
    kept_after: [Option<i64>; 2],
    offset: u64,
}

impl Model {
    fn visible(&self, table: usize) -> Vec<Row> {
        let kept = |r: &&Row| self.kept_after[table].is_none_or(|k| r.time > k);
        sorted(self.rows[table].iter().filter(kept).cloned().collect())
    }

    fn erase(&mut self, subject: &str) {
        self.rows.iter_mut().for_each(|rows| rows.retain(|r| r.subject != subject));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_list_would(acts in acts()) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
        let mut store = clock.open(dir.path());
        let (mut now, mut sealed, mut durable) = (Model::default(), Model::default(), Model::default());
        for act in acts {
            match act {
                Act::Append { table, rows, noted } => {
                    let rows: Vec<Row> = rows.into_iter().map(|(who, time)| {
                        now.offset += 1;
                        let note = noted.then(|| format!("note {time}"));
                        Row { note, ..offline::row(&format!("u{who}"), time, now.offset - 1) }
                    }).collect();
                    store.append(TABLES[table], batch(&rows, noted)).unwrap();
                    now.rows[table].extend(rows);
                    now.known[table] = true;
                }
                Act::Seal => {
                    store.seal(&at(now.offset)).unwrap();
                    sealed = now.clone();
                }
                Act::Flush => {
                    store.flush(&at(now.offset)).unwrap();
                    sealed = now.clone();
                    durable = now.clone();
                }
                Act::Compact => {
                    store.compact_step().unwrap();
                }
                Act::Crash => {
                    drop(store);
                    store = clock.open(dir.path());
                    sealed = durable.clone();
                    now = durable.clone();
                }
                Act::Erase(who) => {
                    let who = format!("u{who}");
                    store.erase(&who).unwrap();
                    for model in [&mut now, &mut sealed, &mut durable] {
                        model.erase(&who);
                    }
                }
                Act::Retain { table, cutoff } => {
                    store.enforce_retention(cutoff, TABLES[table], Duration::ZERO).unwrap();
                    if now.known[table] {
                        for model in [&mut now, &mut sealed, &mut durable] {
                            model.known[table] = true;
                            model.kept_after[table] = model.kept_after[table].max(Some(cutoff));
                        }
                    }
                }
                Act::Wait => {
                    clock.advance(Duration::from_secs(61));
                    // Sealed rows become durable whenever the thread that persists gets to it.
                    store.persist().unwrap();
                    durable = sealed.clone();
                }
                Act::Read { table, subjects, after, until, known } => {
                    let names: Option<Vec<String>> =
                        subjects.map(|s| s.into_iter().map(|w| format!("u{w}")).collect());
                    let filter = ScanFilter {
                        subjects: names.clone(), after, until, max_position: known.map(at), columns: None,
                        from_subject: None,
                    };
                    let mut expected = now.visible(table);
                    expected.retain(|r| {
                        names.as_ref().is_none_or(|n| n.contains(&r.subject))
                            && after.is_none_or(|a| r.time > a)
                            && until.is_none_or(|u| r.time <= u)
                            && known.is_none_or(|k| r.offset < k)
                    });
                    prop_assert_eq!(read(&store, TABLES[table], &filter), expected);
                }
            }
            for (i, table) in TABLES.into_iter().enumerate() {
                prop_assert_eq!(read(&store, table, &ScanFilter::default()), now.visible(i));
            }
        }
        store.verify().unwrap();
    }
}
