//! A tree of chunks holds what a sorted list does, and gives the same values, whatever it went through.
#![allow(clippy::unwrap_used)]

use std::{collections::HashSet, sync::Arc};

use arrow::array::ArrayRef;
use datafusion::common::ScalarValue;
use features::{
    FeatureError, Registry, View,
    chunks::{ChunkSource, Layout, OnDisk, Part, PieceId, Tree},
    events::{EventBuffer, EventList, Timeline},
    view::Kept,
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    record::Record,
};
use parking_lot::Mutex;
use proptest::prelude::*;

const VIEWS: &str = "CREATE FEATURE VIEW finite ENTITY u WINDOWS (5 SECONDS, 1 MINUTE, 2 HOURS, TODAY, SESSION 40 SECONDS) AS
    SELECT subject AS u, count(*) AS n, sum(minutes) AS total, avg(minutes / 7.0) AS mean, min(minutes) AS least,
      max(minutes) FILTER (WHERE minutes < 8) AS most, count(DISTINCT project) AS projects, count(DISTINCT minutes) AS lengths,
      first(project) AS opened, last(project) AS closed, last(minutes) FILTER (WHERE minutes > 3) AS long,
      stddev(minutes) AS spread, bool_and(minutes > 2) AS fine, bit_xor(minutes) AS bits, max(time) AS latest,
      sum(minutes) FILTER (WHERE project = 'rare') AS rare,
      last_n(project, 3) AS newest, first_n(minutes, 2) AS oldest, array_agg(minutes, 4) AS row,
      top_k(project, 2) AS often, approx_distinct(minutes) AS about, approx_percentile_cont(minutes, 0.9) AS high,
      median(minutes) AS middle, percentile_cont(minutes, 0.3) AS low
    FROM task_completed GROUP BY u;
    CREATE FEATURE VIEW endless ENTITY u WINDOWS (1 HOUR, LIFETIME) AS
    SELECT subject AS u, count(*) AS n, sum(minutes) AS total, avg(minutes) AS mean, count(DISTINCT project) AS projects,
      first(project) AS opened, last(minutes) AS latest,
      last_n(project, 3) AS newest, first_n(minutes, 2) AS oldest, array_agg(minutes, 4) AS row,
      top_k(project, 2) AS often, approx_distinct(minutes) AS about, approx_percentile_cont(minutes, 0.9) AS high,
      median(minutes) AS middle, percentile_cont(minutes, 0.3) AS low
    FROM task_completed GROUP BY u;";

const START: Millis = 1_700_000_000_000;

fn views() -> (Catalogue, Vec<Arc<View>>) {
    let catalogue = Catalogue::load(&[]).unwrap();
    let registry = Registry::from_texts(&catalogue, &[("views.sql", VIEWS)]).unwrap();
    let views = registry.views().to_vec();
    (catalogue, views)
}

type Event = (Millis, Vec<u8>);

/// Signals at these times, as the view keeps them.
fn project(catalogue: &Catalogue, view: &View, signals: &[(Millis, Option<i64>, &str)]) -> Vec<Event> {
    let kind = catalogue.get("task.completed").unwrap();
    let mut builder = kind.builder();
    for (i, (time, minutes, project)) in signals.iter().enumerate() {
        let data = serde_json::json!({"minutes": minutes, "project": project});
        let record = Record {
            kind: kind.name.clone(),
            id: format!("{i}"),
            source: "s".to_owned(),
            subject: "ada".to_owned(),
            time: START + time,
            received_at: START + time,
            data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        builder.append(0, i as u64, &record).unwrap();
    }
    let events = view.project(&builder.finish()).unwrap();
    (0..events.len()).map(|i| (events.get(i).0, events.get(i).1.to_vec())).collect()
}

fn buffer(events: &[Event]) -> EventBuffer {
    let mut events: Vec<_> = events.iter().map(|(t, b)| (*t, &b[..])).collect();
    EventBuffer::merge(EventList::default(), &mut events, Millis::MIN)
}

/// All events of a tree, in its order.
fn contents(tree: &Tree) -> Vec<Event> {
    let mut parts = Vec::new();
    let reader = tree.reader();
    reader.parts(0, tree.len(), false, &mut parts);
    reader.check().unwrap();
    let mut out = Vec::new();
    for part in parts {
        let Part::Events { body, count, from, to } = part else {
            panic!("states where events were asked for")
        };
        let list = EventList::parse(count, &body).unwrap();
        out.extend((from..to).map(|i| (list.time(i), list.bytes(i).to_vec())));
    }
    out
}

fn same(a: &ArrayRef, b: &ArrayRef) -> bool {
    let pair = |i| (ScalarValue::try_from_array(a, i).unwrap(), ScalarValue::try_from_array(b, i).unwrap());
    (0..a.len()).map(pair).all(|pair| match pair {
        (ScalarValue::Float64(Some(x)), ScalarValue::Float64(Some(y))) => {
            x == y || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0)
        }
        (a, b) => a == b,
    })
}

fn values(view: &View, kept: Kept<'_>) -> Vec<ArrayRef> {
    view.evaluate(&[kept]).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    /// The next so many events, in whatever order they come.
    Insert(usize),
    Prune(Millis),
    Spill,
    Copy,
    Look(Millis),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..60usize).prop_map(Step::Insert),
        1 => (0..400_000i64).prop_map(Step::Prune),
        1 => Just(Step::Spill),
        1 => Just(Step::Copy),
        4 => (0..500_000i64).prop_map(Step::Look),
    ];
    prop::collection::vec(step, 1..30)
}

fn signals(longest: Millis) -> impl Strategy<Value = Vec<(Millis, Option<i64>, &'static str)>> {
    let time = prop_oneof![3 => 0..longest, 2 => (0..60i64).prop_map(move |i| i * longest / 60), 1 => Just(longest / 2)];
    let project = prop::sample::select(vec!["a", "b", "", "ünïcode", "rare"]);
    let one = (time, prop::option::weighted(0.8, 0..10i64), project);
    prop_oneof![1 => Just(true), 1 => Just(false)].prop_flat_map(move |sorted| {
        prop::collection::vec(one.clone(), 1..400).prop_map(move |mut all| {
            if sorted {
                all.sort();
            }
            all
        })
    })
}

/// Chunks put aside by their numbers.
#[derive(Debug, Default)]
struct Aside(Mutex<std::collections::HashMap<PieceId, Arc<[u8]>>>);

impl ChunkSource for Aside {
    fn load(&self, _: u64, _: &str, chunk: PieceId) -> Result<Arc<[u8]>, FeatureError> {
        self.0.lock().get(&chunk).cloned().ok_or_else(|| FeatureError::Gone(format!("{chunk}")))
    }
}

/// As a checkpoint does: everything is put aside, and dropped from memory.
fn spill(tree: &Tree, aside: &Arc<Aside>) {
    for piece in tree.pieces(&HashSet::new(), |_| true).unwrap() {
        aside.0.lock().insert(piece.id, piece.bytes);
    }
    let mut head = Vec::new();
    tree.write_head(&mut head).unwrap();
    if head[0] == 1 {
        let id = u64::from_le_bytes(head[1..9].try_into().unwrap());
        aside.0.lock().insert(id, head[17..].into());
    }
    tree.mark_saved();
    tree.spill(&Arc::new(OnDisk { source: aside.clone(), version: 0, entity: "ada".into() }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_a_sorted_list(
        signals in signals(300_000),
        steps in steps(),
        chunk in 1..7usize,
        node in 1..5usize,
    ) {
        let (catalogue, views) = views();
        let view = &views[0];
        let layout = Layout { chunk, node, ..Layout::default() };
        let all = project(&catalogue, view, &signals);
        let aside = Arc::new(Aside::default());
        let (mut next, mut horizon) = (0, Millis::MIN);
        let mut tree = Tree::default();
        let mut model: Vec<Event> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(count) => {
                    let new = &all[next..(next + count).min(all.len())];
                    next += new.len();
                    let before = (tree.clone(), contents(&tree));
                    let mut refs: Vec<_> = new.iter().map(|(t, b)| (*t, &b[..])).collect();
                    tree = tree.insert(&mut refs, horizon, &layout, 1).unwrap();
                    view.seal(&mut [&mut tree], START).unwrap();
                    prop_assert_eq!(contents(&before.0), before.1, "the tree before is as it was");
                    model.extend(new.iter().filter(|(t, _)| *t > horizon).cloned());
                    model.sort();
                }
                Step::Prune(at) => {
                    horizon = horizon.max(START + at);
                    tree = tree.insert(&mut [], horizon, &layout, 1).unwrap();
                    view.seal(&mut [&mut tree], START).unwrap();
                    model.retain(|(t, _)| *t > horizon);
                }
                Step::Spill => spill(&tree, &aside),
                Step::Copy => {
                    let mut bytes = Vec::new();
                    tree.write_to(&mut bytes).unwrap();
                    tree = Tree::parse(&bytes, &layout.held).unwrap();
                }
                Step::Look(at) => look(view, &tree, &model, START + at, horizon)?,
            }
            let held = contents(&tree);
            prop_assert_eq!(held.len(), tree.len());
            prop_assert!(held.is_sorted());
            let young: Vec<_> = held.into_iter().filter(|(t, _)| *t > horizon).collect();
            prop_assert_eq!(&young, &model);
            prop_assert_eq!(tree.last().is_none(), tree.is_empty());
            if let Some((last, _)) = model.last() {
                prop_assert_eq!(tree.last(), Some(*last));
            }
        }
        drop(tree);
        prop_assert_eq!((layout.held.memory(), layout.held.spilled(), layout.held.chunks()), (0, 0, 0));
    }

    /// Events behind every finite window leave their states only, and signals that are older still count.
    #[test]
    fn a_lifetime_is_kept_in_states(
        signals in signals(20 * 86_400_000),
        sizes in prop::collection::vec(1..60usize, 1..30),
        chunk in 1..5usize,
        node in 1..4usize,
    ) {
        let (catalogue, views) = views();
        let view = &views[1];
        let layout = Layout { chunk, node, ..Layout::default() };
        let all = project(&catalogue, view, &signals);
        let (mut next, mut watermark) = (0, START);
        let mut tree = Tree::default();
        for size in sizes {
            let new = &all[next..(next + size).min(all.len())];
            next += new.len();
            watermark = new.iter().map(|(t, _)| *t).max().unwrap_or(START).max(watermark);
            let mut refs: Vec<_> = new.iter().map(|(t, b)| (*t, &b[..])).collect();
            tree = tree.insert(&mut refs, watermark.saturating_sub(view.horizon()), &layout, 1).unwrap();
            view.seal(&mut [&mut tree], watermark).unwrap();
            prop_assert_eq!(tree.len(), next);
            let mut bytes = Vec::new();
            tree.write_to(&mut bytes).unwrap();
            let copy = Tree::parse(&bytes, &layout.held).unwrap();
            let list = buffer(&all[..next]);
            for at in [watermark, watermark - 3_000_000, watermark + 9_000_000] {
                let wanted = values(view, Kept { events: list.as_list().into(), contexts: vec![], at });
                for tree in [&tree, &copy] {
                    let got = values(view, Kept { events: tree.reader().into(), contexts: vec![], at });
                    for (g, w) in got.iter().zip(&wanted) {
                        prop_assert!(same(g, w), "at {at}: {g:?}, a list gives {w:?}");
                    }
                }
            }
        }
        if next > 300 && all[..next].is_sorted() {
            let mut parts = Vec::new();
            tree.reader().parts(0, tree.len(), true, &mut parts);
            prop_assert!(matches!(parts[0], Part::States(_)), "twenty days leave something to fold");
        }
    }
}

/// What is read of the tree at an instant is what a list of the same events gives.
fn look(view: &View, tree: &Tree, model: &[Event], at: Millis, horizon: Millis) -> Result<(), TestCaseError> {
    let list = buffer(model);
    let list = list.as_list();
    let reader = tree.reader();
    let old = Timeline::count_until(&reader, horizon);
    if at > horizon {
        prop_assert_eq!(Timeline::count_until(&reader, at) - old, list.count_until(at));
    }
    let held = buffer(&contents(tree));
    let held = held.as_list();
    let upper = Timeline::count_until(&reader, at);
    prop_assert_eq!(upper, held.count_until(at));
    prop_assert_eq!(Timeline::newest_until(&reader, at), Timeline::newest_until(&held, at));
    for gap in [1, 1_000, 9_000, 50_000] {
        for first in [0, upper / 3] {
            prop_assert_eq!(
                Timeline::run_start(&reader, first, upper, gap),
                Timeline::run_start(&held, first, upper, gap)
            );
        }
    }
    reader.check().map_err(|e| TestCaseError::fail(e.to_string()))?;
    let of_tree = || Kept { events: tree.reader().into(), contexts: vec![], at };
    let of_list = || Kept { events: held.into(), contexts: vec![], at };
    prop_assert_eq!(view.next_change(&of_tree()).unwrap(), view.next_change(&of_list()).unwrap());
    for (i, (got, wanted)) in values(view, of_tree()).iter().zip(&values(view, of_list())).enumerate() {
        prop_assert!(same(got, wanted), "slot {i} at {at}: {got:?}, a list gives {wanted:?}");
    }
    Ok(())
}
