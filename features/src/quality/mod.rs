//! How well the features are: how fresh, how often NULL, and how far their values have moved.
//!
//! The stream job tells what it applied and wrote; a task of the process puts the answers on `/metrics` now
//! and then; the registry read shows them.
//!
//! Values are counted as they are written, by the UTC day of the instant they hold for, at most
//! [`SAMPLED`] rows of a view and micro-batch, spread evenly. The newest day is compared with the seven before
//! it ([`drift`]). Counts survive restarts in a file; what is counted between the last save and a crash is
//! counted once more by the replay, or not at all, which a share does not notice.
//!
//! | module | what |
//! |---|---|
//! | [`shape`] | the values of a feature on a day |
//! | [`drift`] | two shapes compared |
//! | [`recent`] | waits of the last minutes |
//! | [`file`] | the counts across restarts |
//! | [`metrics`] | what stands on `/metrics` |

pub mod drift;
pub mod file;
pub mod metrics;
pub mod recent;
pub mod shape;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::TimestampMillisecondType,
};
use ingest::Millis;
use parking_lot::Mutex;
use serde::Serialize;

use crate::view::View;
use recent::{Recent, Waits};
use shape::Shape;

/// Rows of a view and micro-batch that are counted.
pub const SAMPLED: usize = 256;
/// Days that the newest one is compared with.
pub const REFERENCE_DAYS: i64 = 7;

const DAY: Millis = 86_400_000;

/// The counts of every view; see the module.
#[derive(Debug)]
pub struct Quality {
    views: Vec<Of>,
    by_version: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Of {
    view: Arc<View>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One shape a feature, by UTC day since 1970.
    days: BTreeMap<i64, Vec<Shape>>,
    recent: Recent,
    broken: u64,
    late: u64,
    newest: Option<Millis>,
}

/// How well a view is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewQuality {
    /// How fresh its values are.
    pub freshness: Freshness,
    /// Signals later than the view allows, since the process started.
    pub late: u64,
    /// Time of the newest signal applied.
    pub watermark: Option<Millis>,
    /// One a feature, in the view's order.
    pub features: Vec<FeatureQuality>,
}

/// How long signals took from the door until they could be read, over the last five to ten minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Freshness {
    /// What the view's definition asks for, in milliseconds.
    pub objective_ms: Option<Millis>,
    /// Half of the signals took at most this long.
    pub p50_ms: Option<Millis>,
    /// 99 of 100 took at most this long.
    pub p99_ms: Option<Millis>,
}

/// How the values of a feature are.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct FeatureQuality {
    /// Share of NULLs among the values written on the newest day.
    pub null_rate: Option<f64>,
    /// Population stability index of the newest day against the week before it; `None` without enough values.
    pub drift: Option<f64>,
}

impl Quality {
    /// Nothing counted yet.
    pub fn new(views: &[Arc<View>]) -> Quality {
        let of = |v: &Arc<View>| Of { view: v.clone(), state: Mutex::default() };
        let by_version = views.iter().enumerate().map(|(i, v)| (v.version, i)).collect();
        Quality { views: views.iter().map(of).collect(), by_version }
    }

    fn of(&self, view: &View) -> Option<&Of> {
        self.by_version.get(&view.version).map(|i| &self.views[*i])
    }

    /// Signals of a table became readable at `now`.
    pub fn applied(&self, table: &str, signals: &RecordBatch, now: Millis) {
        let mut views = self.views.iter().filter(|v| v.view.table == table).peekable();
        if views.peek().is_none() {
            return;
        }
        let times = |name| {
            signals.column_by_name(name).and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>())
        };
        let mut waits = Waits::default();
        let received = times("received_at").map(|c| c.values().as_ref()).unwrap_or_default();
        received.iter().for_each(|t| waits.add(now - t));
        let newest = times("time").and_then(arrow::compute::max);
        for of in views {
            let mut state = of.state.lock();
            state.newest = state.newest.max(newest);
            state.recent.add(&waits, now);
            if let Some(objective) = of.view.definition.freshness_ms {
                state.broken += received.iter().filter(|t| now - **t > objective).count() as u64;
            }
            metrics::waited(&of.view.name, &waits);
        }
    }

    /// Values of a view were written: a batch with the columns of [`View::history_schema`].
    pub fn written(&self, view: &View, values: &RecordBatch) {
        let Some(of) = self.of(view) else { return };
        let Some(first) = view.feature_names().next().and_then(|f| values.schema().index_of(&f).ok()) else {
            return;
        };
        let Some(instants) = values.column_by_name("as_of") else { return };
        let Some(instants) = instants.as_primitive_opt::<TimestampMillisecondType>() else { return };
        let mut rows: BTreeMap<i64, Vec<(usize, Millis)>> = BTreeMap::new();
        for row in (0..values.num_rows()).step_by(values.num_rows().div_ceil(SAMPLED).max(1)) {
            let at = instants.value(row);
            rows.entry(at.div_euclid(DAY)).or_default().push((row, at));
        }
        let mut state = of.state.lock();
        for (day, rows) in rows {
            let shapes = state.days.entry(day).or_insert_with(|| vec![Shape::default(); view.slots()]);
            for (shape, column) in shapes.iter_mut().zip(&values.columns()[first..]) {
                shape.add(column, &rows);
            }
        }
        let newest = state.days.keys().next_back().copied().unwrap_or(0);
        state.days.retain(|day, _| *day >= newest - REFERENCE_DAYS);
    }

    /// Signals came later than their view allows.
    pub fn late(&self, view: &View, signals: usize) {
        if let Some(of) = self.of(view) {
            of.state.lock().late += signals as u64;
        }
    }

    /// How well a view is; `None` for one that is not known here.
    pub fn report(&self, view: &View, now: Millis) -> Option<ViewQuality> {
        let of = self.of(view)?;
        let mut state = of.state.lock();
        let waits = state.recent.waits(now);
        Some(ViewQuality {
            freshness: Freshness {
                objective_ms: view.definition.freshness_ms,
                p50_ms: waits.quantile(0.5),
                p99_ms: waits.quantile(0.99),
            },
            late: state.late,
            watermark: state.newest,
            features: (0..view.slots()).map(|slot| state.feature(slot)).collect(),
        })
    }
}

impl State {
    fn feature(&self, slot: usize) -> FeatureQuality {
        let Some((newest, shapes)) = self.days.last_key_value() else {
            return FeatureQuality::default();
        };
        let mut week = Shape::default();
        for (_, shapes) in self.days.range(newest - REFERENCE_DAYS..*newest) {
            week.merge(&shapes[slot]);
        }
        FeatureQuality { null_rate: shapes[slot].null_rate(), drift: drift::psi(&shapes[slot], &week) }
    }
}
