//! A case's folder: `*.sql` (views), `*.proto` (types), `signals.ndjson`, `expected.ndjson`.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use features::{Functions, Prepared, Registry, View, registry::Beside};
use ingest::{
    Millis,
    admit::{Door, DoorOptions, Envelope, FutureTimes},
    catalogue::Catalogue,
    log::{LogOptions, embedded::EmbeddedLog},
    record::Record,
};
use serde::{Deserialize, Serialize};

use crate::error::JobError;

/// File of the signals; a folder that has it is a case.
const SIGNALS: &str = "signals.ndjson";
/// File of the values expected.
const EXPECTED: &str = "expected.ndjson";

/// Types and views beside those of a case: what the program itself would load.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Directories of `.proto` files.
    pub signals: Vec<PathBuf>,
    /// Directories of `.sql` files, for cases that have none of their own.
    pub views: Vec<PathBuf>,
    /// User functions.
    pub functions: Functions,
}

/// A signal of a case.
#[derive(Debug, Clone)]
pub struct Signal {
    /// Where it stands in its file, from 1.
    pub line: usize,
    /// As the door would store it.
    pub record: Record,
}

/// Values expected of one entity at one instant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Whom they are about.
    pub entity: String,
    /// The instant as written.
    pub at: String,
    /// The instant.
    #[serde(skip)]
    pub instant: Millis,
    /// Values by feature name; features that are not named are not looked at.
    #[serde(default)]
    pub values: std::collections::BTreeMap<String, serde_json::Value>,
}

/// See the module.
#[derive(Debug)]
pub struct Case {
    /// Its folder.
    pub dir: PathBuf,
    /// Types it may use.
    pub catalogue: Arc<Catalogue>,
    /// Views it is about.
    pub registry: Arc<Registry>,
    /// Signals, in the order of the file.
    pub signals: Vec<Signal>,
    /// Lines expected, in the order of the file.
    pub expected: Vec<Expected>,
}

/// Every case at or below these folders, by path.
///
/// # Errors
/// A folder without a case; the first file that is wrong, with its line.
pub fn find(dirs: &[PathBuf], around: &Surroundings) -> Result<Vec<Case>, JobError> {
    let mut folders = Vec::new();
    for dir in dirs {
        let before = folders.len();
        walk(dir, &mut folders)?;
        if folders.len() == before {
            return Err(JobError::Case(format!(
                "{}: no case here; a case is a folder with {SIGNALS}, {EXPECTED} and views (*.sql)",
                dir.display()
            )));
        }
    }
    folders.sort();
    folders.dedup();
    let mut shared = None;
    folders.into_iter().map(|dir| Case::load(dir, around, &mut shared)).collect()
}

fn walk(dir: &Path, to: &mut Vec<PathBuf>) -> Result<(), JobError> {
    if dir.join(SIGNALS).is_file() {
        to.push(dir.to_owned());
    }
    for entry in std::fs::read_dir(dir).map_err(unreadable(dir))? {
        let path = entry.map_err(unreadable(dir))?.path();
        if path.is_dir() {
            walk(&path, to)?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> JobError {
    move |e| JobError::Case(format!("{}: {e}", path.display()))
}

fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, JobError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable(dir))? {
        let path = entry.map_err(unreadable(dir))?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The types and views of the program, read once for all cases that need them.
#[derive(Default)]
struct Shared {
    catalogue: Option<Arc<Catalogue>>,
    registry: Option<Arc<Registry>>,
}

impl Case {
    fn load(dir: PathBuf, around: &Surroundings, shared: &mut Option<Shared>) -> Result<Case, JobError> {
        let shared = shared.get_or_insert_default();
        let of_dir = |e: &dyn std::fmt::Display| JobError::Case(format!("{}: {e}", dir.display()));
        let own_types = !files(&dir, "proto")?.is_empty();
        let catalogue = match &shared.catalogue {
            Some(catalogue) if !own_types => catalogue.clone(),
            _ => {
                let own = own_types.then(|| dir.clone());
                let dirs: Vec<PathBuf> = around.signals.iter().cloned().chain(own).collect();
                Arc::new(Catalogue::load(&dirs).map_err(|e| of_dir(&e))?)
            }
        };
        let views = files(&dir, "sql")?;
        let beside = Beside { functions: around.functions.clone(), ..Beside::default() };
        let registry = match &shared.registry {
            Some(registry) if views.is_empty() && !own_types => registry.clone(),
            _ if views.is_empty() => Arc::new(Registry::load_with(&catalogue, &around.views, &beside)?),
            _ => {
                let read = |p: &PathBuf| {
                    let text = std::fs::read_to_string(p).map_err(unreadable(p))?;
                    Ok((p.display().to_string(), text))
                };
                let texts: Vec<(String, String)> = views.iter().map(read).collect::<Result<_, JobError>>()?;
                let texts: Vec<_> = texts.iter().map(|(f, t)| (f.as_str(), t.as_str())).collect();
                Arc::new(Registry::from_texts_with(&catalogue, &texts, &beside)?)
            }
        };
        if !own_types {
            shared.catalogue = Some(catalogue.clone());
            if views.is_empty() {
                shared.registry = Some(registry.clone());
            }
        }
        let signals = signals(&dir.join(SIGNALS), &catalogue)?;
        let expected = expected(&dir.join(EXPECTED))?;
        Ok(Case { dir, catalogue, registry, signals, expected })
    }

    /// The views that read a type of which there are signals, or all where that is none.
    fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        let kinds: HashSet<&str> = self.signals.iter().map(|s| s.record.kind.as_str()).collect();
        let tables: HashSet<&str> =
            kinds.iter().filter_map(|k| self.catalogue.get(k)).map(|t| t.table.as_str()).collect();
        let all = !self.registry.views().iter().any(|v| tables.contains(v.table.as_str()));
        self.registry.views().iter().filter(move |v| all || tables.contains(v.table.as_str()))
    }

    /// Every feature of those views.
    pub fn feature_names(&self) -> Vec<String> {
        self.views().flat_map(|v| v.feature_names().map(move |f| format!("{}.{f}", v.name))).collect()
    }

    /// The least lateness that a view allows, in milliseconds.
    pub fn lateness(&self) -> Millis {
        self.views().map(|v| v.definition.lateness_ms).min().unwrap_or(0)
    }

    /// Resolves names of features.
    pub fn prepare(&self, names: &[String]) -> Result<Prepared, JobError> {
        let named = |e| JobError::Case(format!("{}: {e}", self.dir.join(EXPECTED).display()));
        self.registry.prepare(names).map_err(named)
    }

    /// Adds an empty line for each entity at each instant that has none; entities in the order in which they
    /// first appear.
    pub fn add_lines(&mut self, instants: &[Millis]) {
        let mut entities: Vec<&str> = Vec::new();
        for s in &self.signals {
            if !entities.contains(&s.record.subject.as_str()) {
                entities.push(&s.record.subject);
            }
        }
        for instant in instants {
            for entity in &entities {
                if !self.expected.iter().any(|e| e.entity == *entity && e.instant == *instant) {
                    let at = jiff::Timestamp::from_millisecond(*instant).unwrap_or_default().to_string();
                    let (entity, values) = ((*entity).to_owned(), Default::default());
                    self.expected.push(Expected { entity, at, instant: *instant, values });
                }
            }
        }
    }

    /// Writes the lines expected: one object a line, features in order of their names.
    pub fn write(&self) -> Result<(), JobError> {
        let path = self.dir.join(EXPECTED);
        let mut text = String::new();
        for e in &self.expected {
            text += &serde_json::to_string(e).map_err(|e| JobError::Case(e.to_string()))?;
            text.push('\n');
        }
        std::fs::write(&path, text).map_err(unreadable(&path))
    }
}

fn lines(path: &Path) -> Result<Vec<(usize, String)>, JobError> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(unreadable(path))?,
    };
    let numbered = text.lines().enumerate().map(|(i, l)| (i + 1, l.trim().to_owned()));
    Ok(numbered.filter(|(_, l)| !l.is_empty()).collect())
}

fn wrong(path: &Path, line: usize, what: impl std::fmt::Display) -> JobError {
    JobError::Case(format!("{}:{line}: {what}", path.display()))
}

fn expected(path: &Path) -> Result<Vec<Expected>, JobError> {
    let read = |(n, line): (usize, String)| {
        let mut e: Expected = serde_json::from_str(&line).map_err(|e| wrong(path, n, e))?;
        let at: jiff::Timestamp =
            e.at.parse()
                .map_err(|_| wrong(path, n, format!("`at`: `{}` is no instant of RFC 3339", e.at)))?;
        e.instant = at.as_millisecond();
        Ok(e)
    };
    lines(path)?.into_iter().map(read).collect()
}

/// Reads signals by the door's own checks. What tests seldom care about may be left out: `specversion` as at
/// the door, and `source`.
fn signals(path: &Path, catalogue: &Arc<Catalogue>) -> Result<Vec<Signal>, JobError> {
    let dir = tempfile::tempdir().map_err(unreadable(path))?;
    let log = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::default())?);
    // Cases may lie in the future: no clock is asked.
    let options = DoorOptions {
        future_times: FutureTimes::Reject,
        future_bound_ms: Millis::MAX,
        ..DoorOptions::default()
    };
    let door = Door::new(catalogue.clone(), log, options);
    let mut known: HashMap<(String, String), Signal> = HashMap::new();
    let mut found = Vec::new();
    for (n, line) in lines(path)? {
        let mut object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line).map_err(|e| wrong(path, n, e))?;
        object.entry("source").or_insert_with(|| "test".into());
        let line = serde_json::Value::Object(object).to_string();
        let envelope = Envelope::parse(line.as_bytes()).map_err(|e| wrong(path, n, e))?;
        let time =
            envelope.time.ok_or_else(|| wrong(path, n, "`time` is missing; a case knows no arrival"))?;
        let record = door.record(time, envelope).map_err(|e| wrong(path, n, e))?;
        let key = (record.source.clone(), record.id.clone());
        let signal = Signal { line: n, record };
        let first = known.entry(key).or_insert_with(|| signal.clone());
        if first.record != signal.record {
            let what = format!(
                "the signal of line {} again, with other content: which counts would depend on the order; give it \
                 another id",
                first.line
            );
            return Err(wrong(path, n, what));
        }
        found.push(signal);
    }
    Ok(found)
}
