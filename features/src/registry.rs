//! Every feature view there is, and names resolved once into a prepared set.
//!
//! `view.feature_window` means the view as its file defines it now. A definition that was changed or removed
//! stays as an older version until it is dropped ([`crate::versions`]); `view@version.feature_window` reads
//! that one, where `version` is its hash or the beginning of it.

mod describe;
mod prepared;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::datatypes::DataType;
use ingest::catalogue::Catalogue;

use crate::{
    chunks::{Held, Layout},
    error::FeatureError,
    kernel::Kernel,
    on_demand::{OnDemand, REQUEST},
    tiles::Tiling,
    udf::Functions,
    value::ValueType,
    versions::Kept,
    view::{Definition, Output, ReferenceTable, View, parse, plan},
};

pub use describe::{FeatureDescription, ViewDescription};
pub use prepared::Prepared;
pub(crate) use prepared::PreparedView;

/// The views that ship with the binary.
const BUILT_IN: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/views.rs"));

/// Counts up when the meaning of a row's bytes or of a value changes without any definition changing.
const ENGINE_FORMAT: &str = "engine 4";

/// The shortest beginning of a version that pins it.
pub(crate) const SHORTEST_PIN: usize = 4;

/// What views may stand on beside signal tables.
#[derive(Debug, Clone, Default)]
pub struct Beside<'a> {
    /// Reference tables that they may join.
    pub tables: &'a [ReferenceTable],
    /// User functions that they may call.
    pub functions: Functions,
    /// Recorded definitions, of which the older versions are kept up.
    pub kept: &'a [Kept],
}

/// The feature views, by number and by name.
#[derive(Debug)]
pub struct Registry {
    /// The current ones first.
    views: Vec<Arc<View>>,
    /// The current ones.
    by_name: HashMap<String, usize>,
    on_demand: Vec<Arc<OnDemand>>,
    tables: Vec<ReferenceTable>,
    held: Arc<Held>,
    functions: Functions,
}

impl Registry {
    /// The built-in views and every `*.sql` file in `dirs`, planned against the catalogue's tables.
    ///
    /// # Errors
    /// The first definition that is wrong, with file, line and column; a directory that cannot be read.
    pub fn load(
        catalogue: &Catalogue,
        tables: &[ReferenceTable],
        dirs: &[PathBuf],
    ) -> Result<Registry, FeatureError> {
        Self::load_with(catalogue, dirs, &Beside { tables, ..Beside::default() })
    }

    /// The same, with all that views may stand on.
    ///
    /// # Errors
    /// As `load`; a user function with the name of a built-in one. A kept definition that is not valid any more is
    /// left out, with a warning.
    pub fn load_with(
        catalogue: &Catalogue,
        dirs: &[PathBuf],
        beside: &Beside<'_>,
    ) -> Result<Registry, FeatureError> {
        let mut texts: Vec<(String, String)> =
            BUILT_IN.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect();
        for dir in dirs {
            texts.extend(read_dir(dir)?);
        }
        let texts: Vec<_> = texts.iter().map(|(f, t)| (f.as_str(), t.as_str())).collect();
        Self::from_texts_with(catalogue, &texts, beside)
    }

    /// The views of these (file name, text) pairs alone.
    pub fn from_texts(catalogue: &Catalogue, texts: &[(&str, &str)]) -> Result<Registry, FeatureError> {
        Self::with_tables(catalogue, &[], texts)
    }

    /// The same, with reference tables that they may join.
    pub fn with_tables(
        catalogue: &Catalogue,
        tables: &[ReferenceTable],
        texts: &[(&str, &str)],
    ) -> Result<Registry, FeatureError> {
        Self::from_texts_with(catalogue, texts, &Beside { tables, ..Beside::default() })
    }

    /// The same, with all that views may stand on.
    ///
    /// # Errors
    /// As [`Registry::load_with`].
    pub fn from_texts_with(
        catalogue: &Catalogue,
        texts: &[(&str, &str)],
        beside: &Beside<'_>,
    ) -> Result<Registry, FeatureError> {
        let ctx = plan::session(catalogue, beside.tables)?;
        beside.functions.register(&ctx)?;
        let layout = Layout::default();
        let mut registry = Registry {
            views: Vec::new(),
            by_name: HashMap::new(),
            on_demand: Vec::new(),
            tables: beside.tables.to_vec(),
            held: layout.held.clone(),
            functions: beside.functions.clone(),
        };
        let mut on_demand = Vec::new();
        for (file, text) in texts {
            let found = parse::parse_all(file, text)?;
            for definition in found.views {
                registry.name_is_free(&definition.file, &definition.name, definition.at)?;
                let id = registry.views.len() as u32;
                let text = parse::statement(text, &definition);
                let view = compile(&ctx, beside, &layout, definition, text, id, true)?;
                registry.by_name.insert(view.name.to_string(), registry.views.len());
                registry.views.push(Arc::new(view));
            }
            on_demand.extend(found.on_demand);
        }
        // After all others, whose features they read.
        let stored = registry.stored_types();
        for definition in on_demand {
            registry.name_is_free(&definition.file, &definition.name, definition.at)?;
            registry.on_demand.push(Arc::new(OnDemand::compile(&ctx, definition, &stored)?));
        }
        for kept in beside.kept {
            registry.add_older(&ctx, beside, kept);
        }
        Ok(registry)
    }

    fn name_is_free(&self, file: &str, name: &str, at: (u64, u64)) -> Result<(), FeatureError> {
        let other = self.view(name).map(|v| &v.definition.file);
        let other = other.or_else(|| {
            self.on_demand.iter().map(|v| &v.definition).find(|d| d.name == name).map(|d| &d.file)
        });
        match other {
            None if name != REQUEST => Ok(()),
            other => Err(FeatureError::Definition {
                message: match other {
                    Some(other) => {
                        format!("the view {name} is already defined in {other}; give this one another name")
                    }
                    None => format!("`{name}` is what a request brings; give the view another name"),
                },
                file: file.to_owned(),
                line: at.0,
                column: at.1,
            }),
        }
    }

    /// Every stored feature with the Arrow type of its values.
    fn stored_types(&self) -> BTreeMap<String, DataType> {
        let of_view = |v: &Arc<View>| {
            let types = v.windows().iter().flat_map(|_| v.outputs.iter().map(|o| o.data_type.clone()));
            let names = v.feature_names().map(|f| format!("{}.{f}", v.name));
            names.zip(types).collect::<Vec<_>>()
        };
        self.views.iter().flat_map(of_view).collect()
    }

    /// Views computed at a read.
    pub fn on_demand(&self) -> &[Arc<OnDemand>] {
        &self.on_demand
    }

    fn add_older(
        &mut self,
        ctx: &datafusion::execution::context::SessionContext,
        beside: &Beside<'_>,
        kept: &Kept,
    ) {
        let layout = Layout { held: self.held.clone(), ..Layout::default() };
        let file = kept.file.display().to_string();
        let compiled = parse::parse(&file, &kept.text).and_then(|mut found| {
            let definition = found.pop().ok_or_else(|| FeatureError::Request("it is empty".to_owned()))?;
            compile(ctx, beside, &layout, definition, kept.text.clone(), self.views.len() as u32, false)
        });
        match compiled {
            Ok(view) if *view.version_text != *kept.version => tracing::warn!(
                view = kept.view,
                version = kept.version,
                "what an older version of a view stands on has changed, so it is not kept up; drop it"
            ),
            Ok(view) if self.versions(&view.name).any(|v| v.version_text == view.version_text) => {}
            Ok(view) => self.views.push(Arc::new(view)),
            Err(e) => tracing::warn!(
                view = kept.view, version = kept.version, error = %e,
                "an older version of a view is not valid any more, so it is not kept up; drop it"
            ),
        }
    }

    /// The same views, their state laid out otherwise. To be called before the views are shared.
    pub fn laid_out(mut self, layout: &Layout) -> Registry {
        self.held = layout.held.clone();
        for view in self.views.iter_mut().filter_map(Arc::get_mut) {
            view.layout = layout.clone();
        }
        self
    }

    /// What the state of its views holds.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// All views, by number; older versions after the current ones.
    pub fn views(&self) -> &[Arc<View>] {
        &self.views
    }

    /// The user functions its views may call.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The views that their names alone mean.
    pub fn current(&self) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter().filter(|v| v.current)
    }

    /// Every version of a view.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter().filter(move |v| &*v.name == name)
    }

    /// The reference tables that views may join.
    pub fn tables(&self) -> &[ReferenceTable] {
        &self.tables
    }

    /// The current version of a view, by name.
    pub fn view(&self, name: &str) -> Option<&Arc<View>> {
        self.by_name.get(name).map(|i| &self.views[*i])
    }

    /// A view by name, or by `name@version`.
    ///
    /// # Errors
    /// A view or version that is not there, with what is; a beginning that fits several versions.
    pub fn resolve(&self, pinned: &str) -> Result<&Arc<View>, FeatureError> {
        let name = pinned.split('@').next().unwrap_or_default();
        let kept: Vec<&str> = self.versions(name).map(|v| &*v.version_text).collect();
        let Some((_, pin)) = pinned.split_once('@') else {
            return self.view(name).ok_or_else(|| {
                FeatureError::Request(match kept.as_slice() {
                    [] => {
                        let known = self.current().map(|v| v.name.to_string());
                        format!("there is no view `{name}`{}", nearest(name, known))
                    }
                    [one, ..] => format!(
                        "the view `{name}` has no definition any more; its last values are kept as `{name}@{one}`"
                    ),
                })
            });
        };
        let fits = |v: &&Arc<View>| v.version_text.starts_with(pin);
        let found: Vec<_> = self.versions(name).filter(fits).collect();
        match found.as_slice() {
            [one] if pin.len() >= SHORTEST_PIN => Ok(one),
            [] | [_] => Err(FeatureError::Request(match kept.as_slice() {
                [] => format!("there is no view `{name}`"),
                _ => format!(
                    "`{pinned}` names no version of the view; there are {} (write at least {SHORTEST_PIN} letters)",
                    kept.join(", ")
                ),
            })),
            _ => Err(FeatureError::Request(format!(
                "`{pinned}` fits several versions ({}); write more of it",
                found.iter().map(|v| &*v.version_text).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Every feature of the current views, as `view.feature_window`.
    pub fn feature_names(&self) -> impl Iterator<Item = String> + '_ {
        self.current().flat_map(|v| v.feature_names().map(move |f| format!("{}.{f}", v.name)))
    }
}

fn compile(
    ctx: &datafusion::execution::context::SessionContext,
    beside: &Beside<'_>,
    layout: &Layout,
    definition: Definition,
    text: String,
    id: u32,
    current: bool,
) -> Result<View, FeatureError> {
    let plan = plan::plan(ctx, beside.tables, &definition)?;
    let table = plan.source.table.clone();
    let names: Vec<String> = plan.outputs.iter().map(|(name, _)| name.clone()).collect();
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    // State also depends on the engine and on the columns it was made from.
    let mut made_from = ENGINE_FORMAT.to_owned();
    made_from.push_str(&format!("{:?}", plan.source.fact));
    plan.source.contexts.iter().for_each(|c| made_from.push_str(&format!("{c:?}")));
    plan.source.references.iter().for_each(|r| made_from.push_str(&r.fingerprint()));
    let tiling = Tiling::of(&definition, &plan);
    let (kernel, described) = Kernel::new(&definition, plan).map_err(|e| match e {
        FeatureError::Request(message) => FeatureError::Definition {
            file: definition.file.clone(),
            line: definition.select_at.0,
            column: definition.select_at.1,
            message,
        },
        other => other,
    })?;
    let outputs = names
        .into_iter()
        .zip(described)
        .map(|(name, (data_type, empty))| Output { name, kind: kind(&data_type), data_type, empty })
        .collect();
    h.update(definition.entity.as_bytes());
    for w in &definition.windows {
        h.update(format!("{:?}", w.span).as_bytes());
    }
    h.update(&definition.resolution_ms.to_le_bytes());
    h.update(definition.select.split_whitespace().collect::<Vec<_>>().join(" ").as_bytes());
    for function in beside.functions.called_in(&definition.select) {
        h.update(function.name.as_bytes());
        h.update(function.hash.as_bytes());
    }
    let version_text = format!("{:016x}", h.digest()).into();
    h.update(made_from.as_bytes());
    Ok(View {
        id,
        table,
        outputs,
        version: h.digest(),
        version_text,
        current,
        text,
        name: definition.name.as_str().into(),
        kernel,
        layout: layout.clone(),
        tiling,
        definition,
    })
}

pub(crate) fn kind(t: &DataType) -> ValueType {
    match t {
        DataType::Int64 => ValueType::Int,
        DataType::Float64 => ValueType::Float,
        DataType::Boolean => ValueType::Bool,
        DataType::Utf8 => ValueType::Text,
        DataType::List(_) => ValueType::List,
        _ => ValueType::Time,
    }
}

fn read_dir(dir: &Path) -> Result<Vec<(String, String)>, FeatureError> {
    let unreadable = |e: std::io::Error| {
        FeatureError::Request(format!("reading feature views from {}: {e}; check views.dirs", dir.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "sql") {
            files.push(path);
        }
    }
    files.sort();
    let read = |p: &PathBuf| Ok((p.display().to_string(), std::fs::read_to_string(p).map_err(unreadable)?));
    files.iter().map(read).collect()
}

fn nearest(wanted: &str, known: impl Iterator<Item = String>) -> String {
    let score = |k: &str| {
        let begin = k.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        let end = k.bytes().rev().zip(wanted.bytes().rev()).take_while(|(a, b)| a == b).count();
        (begin + end).saturating_sub(k.len().abs_diff(wanted.len()))
    };
    match known.max_by_key(|k| score(k)) {
        Some(k) if score(&k) > 2 => format!("; did you mean `{k}`?"),
        _ => String::new(),
    }
}
