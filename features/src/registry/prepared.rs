//! Names resolved once, for many reads.

use std::sync::Arc;

use arrow::datatypes::DataType;
use serde_json::Map;

use super::{Registry, nearest};
use crate::{
    error::FeatureError,
    on_demand::{Cell, Computed, OnDemand},
    table::Columns,
    value::{FeatureRow, Value},
    view::View,
};

/// Names resolved to places: what a read needs, and nothing to look up again.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The names as asked, in order.
    pub names: Arc<[Arc<str>]>,
    /// The same with their types.
    pub columns: Arc<Columns>,
    /// What an entity without signals reads.
    pub empty: Vec<Value>,
    /// Stored features; none where some are computed, which name theirs.
    pub(crate) parts: Vec<PreparedView>,
    pub(crate) computed: Option<Computed>,
}

impl Prepared {
    /// The same set, with what a request brings to its on-demand features.
    ///
    /// # Errors
    /// A field that no on-demand view of the set declares, or of another type than declared.
    pub fn with_request(&self, given: &Map<String, serde_json::Value>) -> Result<Prepared, FeatureError> {
        let mut prepared = self.clone();
        let computed = prepared.computed.as_mut();
        let declared = |name: &str| {
            let views = computed.as_deref().map(|c| &c.views[..]).unwrap_or_default();
            views.iter().any(|v| v.definition.request.iter().any(|(n, _)| n == name))
        };
        if let Some(name) = given.keys().find(|n| !declared(n)) {
            return Err(FeatureError::Request(format!(
                "none of the features asked for takes `{name}` from the request; declare it in REQUEST (…)"
            )));
        }
        if let Some(c) = computed {
            c.requests = c.views.iter().map(|v| v.request(given)).collect::<Result<_, _>>()?;
        }
        Ok(prepared)
    }

    /// The stored features behind the set: itself where none is computed at the read.
    pub fn stored(&self) -> &Prepared {
        self.computed.as_ref().map_or(self, |c| &c.stored)
    }

    /// The row of an entity without signals.
    fn empty_row(&self) -> FeatureRow {
        FeatureRow {
            entity: String::new(),
            age_ms: vec![None; self.empty.len()],
            values: self.empty.clone(),
            as_of: 0,
            parts: Vec::new(),
            stale: false,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct PreparedView {
    pub view: Arc<View>,
    pub slots: Vec<PreparedSlot>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PreparedSlot {
    /// Place in the answer.
    pub at: usize,
    /// Place in the view's row.
    pub slot: usize,
    /// Place of its window.
    pub window: usize,
}

impl Registry {
    /// Resolves names (`view.feature_window`, `view@version.feature_window`) once, for many reads.
    ///
    /// # Errors
    /// A name that is not there, with the nearest that is.
    pub fn prepare<S: AsRef<str>>(&self, names: &[S]) -> Result<Prepared, FeatureError> {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        if names.iter().any(|n| self.find_on_demand(n).is_some()) {
            return self.prepare_computed(&names);
        }
        let mut parts: Vec<PreparedView> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let (view, slot) = self.find(name)?;
            let part = match parts.iter_mut().find(|p| p.view.id == view.id) {
                Some(part) => part,
                None => {
                    parts.push(PreparedView { view: view.clone(), slots: Vec::new() });
                    let last = parts.len() - 1;
                    &mut parts[last]
                }
            };
            part.slots.push(PreparedSlot { at, slot, window: slot / view.outputs.len() });
        }
        let names: Arc<[Arc<str>]> = names.into_iter().map(Arc::from).collect();
        let mut cells = vec![(DataType::Null, Value::Null); names.len()];
        for part in &parts {
            for s in &part.slots {
                let output = &part.view.outputs[s.slot % part.view.outputs.len()];
                cells[s.at] = (output.data_type.clone(), output.empty.clone());
            }
        }
        let (types, empty) = cells.into_iter().unzip();
        let views = parts.iter().map(|p| (p.view.name.clone(), p.view.version_text.clone())).collect();
        let columns = Arc::new(Columns::new(names.clone(), types, views));
        Ok(Prepared { names, columns, empty, parts, computed: None })
    }

    fn find_on_demand(&self, name: &str) -> Option<(&Arc<OnDemand>, usize)> {
        let (view, feature) = name.split_once('.')?;
        let view = self.on_demand.iter().find(|v| v.definition.name == view)?;
        Some((view, view.outputs.iter().position(|o| o.name == feature)?))
    }

    /// A set of which some are computed at the read: those and the stored ones they rest on.
    fn prepare_computed(&self, names: &[&str]) -> Result<Prepared, FeatureError> {
        let mut stored: Vec<String> = Vec::new();
        let mut views: Vec<Arc<OnDemand>> = Vec::new();
        let mut cells = Vec::with_capacity(names.len());
        let place = |stored: &mut Vec<String>, name: &str| {
            let known = stored.iter().position(|n| n == name);
            known.unwrap_or_else(|| {
                stored.push(name.to_owned());
                stored.len() - 1
            })
        };
        for name in names {
            cells.push(match self.find_on_demand(name) {
                None => Cell::Stored(place(&mut stored, name)),
                Some((view, output)) => {
                    let known = views.iter().position(|v| Arc::ptr_eq(v, view));
                    let number = known.unwrap_or_else(|| {
                        views.push(view.clone());
                        views.len() - 1
                    });
                    for read in view.reads() {
                        place(&mut stored, read);
                    }
                    Cell::Computed(number, output)
                }
            });
        }
        let stored = self.prepare(&stored)?;
        let types = cells.iter().map(|c| match *c {
            Cell::Stored(i) => stored.columns.types[i].clone(),
            Cell::Computed(v, o) => views[v].outputs[o].data_type.clone(),
        });
        let names: Arc<[Arc<str>]> = names.iter().map(|n| Arc::from(*n)).collect();
        let versions = views.iter().map(|v| (v.definition.name.as_str().into(), v.version.clone()));
        let behind = stored.columns.views.iter().cloned().chain(versions).collect();
        let columns = Arc::new(Columns::new(names.clone(), types.collect(), behind));
        let nothing = Map::new();
        let requests = views.iter().map(|v| v.request(&nothing)).collect::<Result<_, _>>()?;
        let computed = Computed { stored: Box::new(stored), cells, views, requests };
        let empty = computed.finish(computed.stored.empty_row())?.values;
        Ok(Prepared { names, columns, empty, parts: Vec::new(), computed: Some(computed) })
    }

    /// Every feature of these views (`view`, `view@version`).
    pub fn prepare_views<S: AsRef<str>>(&self, views: &[S]) -> Result<Prepared, FeatureError> {
        let mut names = Vec::new();
        for name in views {
            let name = name.as_ref();
            if let Some(view) = self.on_demand.iter().find(|v| v.definition.name == name) {
                names.extend(view.outputs.iter().map(|o| format!("{name}.{}", o.name)));
                continue;
            }
            let view = self.resolve(name)?;
            names.extend(view.feature_names().map(|f| format!("{name}.{f}")));
        }
        self.prepare(&names)
    }

    fn find(&self, name: &str) -> Result<(&Arc<View>, usize), FeatureError> {
        let parts = name.split_once('.');
        if let Some((view, _)) = parts.filter(|(view, _)| view.contains('@')) {
            self.resolve(view)?;
        }
        let found = parts.and_then(|(view, feature)| {
            let view = self.resolve(view).ok()?;
            let slot = view.feature_names().position(|f| f == feature)?;
            Some((view, slot))
        });
        found.ok_or_else(|| {
            FeatureError::Request(format!(
                "there is no feature `{name}`{}; features are named view.feature_window",
                nearest(name, self.feature_names())
            ))
        })
    }
}
