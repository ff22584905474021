//! Definitions that were changed or removed. Each version of a view that ever ran on a data directory is recorded
//! there, as `views/<view>@<version>.sql` with its statement. It is kept up and can be read until it is dropped.
//!
//! Values of the current version go to the table `features_<view>` of history, those of an older one to
//! `features_<view>__<version>`. When another version becomes the current one, the tables change their names;
//! the column `version` of the rows says whose they are.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use arrow::array::AsArray;

use crate::{
    error::FeatureError,
    offline::{OfflineStore, ScanFilter},
    registry::{Registry, SHORTEST_PIN},
    view::View,
};

/// A recorded definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Name of the view.
    pub view: String,
    /// Hash of the definition, in hexadecimal.
    pub version: String,
    /// The statement.
    pub text: String,
    /// Where it is recorded.
    pub file: PathBuf,
}

/// The records of one data directory.
#[derive(Debug, Clone)]
pub struct Versions {
    dir: PathBuf,
}

impl Versions {
    /// Those of this data directory.
    pub fn of(data_dir: &Path) -> Versions {
        Versions { dir: data_dir.join("views") }
    }

    /// What is recorded; nothing, where no job ever ran.
    ///
    /// # Errors
    /// `Unavailable` when the records cannot be read.
    pub fn read(&self) -> Result<Vec<Kept>, FeatureError> {
        let failed = |e: io::Error| self.failed("read", &e);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.path();
            let name = file.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".sql"));
            if let Some((view, version)) = name.and_then(|n| n.split_once('@')) {
                let (view, version) = (view.to_owned(), version.to_owned());
                kept.push(Kept { view, version, text: fs::read_to_string(&file).map_err(failed)?, file });
            }
        }
        kept.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(kept)
    }

    /// Records every view of a registry, and gives each version its table of history. Only the process that
    /// holds the data directory may call this, before its job opens.
    ///
    /// # Errors
    /// When records or history cannot be read or written.
    pub fn settle(&self, registry: &Registry, history: &dyn OfflineStore) -> Result<(), FeatureError> {
        let kept = self.read()?;
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("write", &e))?;
        for view in registry.views() {
            if !kept.iter().any(|k| *k.view == *view.name && *k.version == *view.version_text) {
                self.write(view)?;
            }
        }
        let names: BTreeSet<&str> =
            registry.views().iter().map(|v| &*v.name).chain(kept.iter().map(|k| k.view.as_str())).collect();
        for name in names {
            let current = registry.view(name).map(|v| v.version_text.to_string());
            if kept.iter().any(|k| k.view == name && Some(&k.version) != current.as_ref()) {
                history.rename_tables(&renames(name, current.as_deref(), history)?)?;
            }
        }
        let known = |table: &str| {
            registry.views().iter().any(|v| v.history_table() == table)
                || kept.iter().any(|k| table == format!("features_{}__{}", k.view, k.version))
        };
        for table in history.tables()?.iter().filter(|t| is_of_older_version(t) && !known(t)) {
            history.drop_table(table)?;
        }
        Ok(())
    }

    /// Takes an older version out of the records. The next [`settle`](Self::settle) drops its history, and the
    /// job its state.
    ///
    /// # Errors
    /// `Request` for a current version, `Unavailable` when the record cannot be removed.
    pub fn forget(&self, view: &View) -> Result<(), FeatureError> {
        if view.current {
            return Err(FeatureError::Request(format!(
                "{} is the current version of `{}`; change or remove its definition in {} first, then drop it",
                view.version_text, view.name, view.definition.file
            )));
        }
        match fs::remove_file(self.file(view)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed("write", &e)),
            _ => Ok(()),
        }
    }

    /// Takes what `view@version` names out of the records, also where it is not valid any more; answers its full
    /// name.
    ///
    /// # Errors
    /// As [`forget`](Self::forget), and `Request` where nothing of that name is recorded.
    pub fn forget_pinned(&self, registry: &Registry, pinned: &str) -> Result<String, FeatureError> {
        let unknown = match registry.resolve(pinned) {
            Ok(view) => return self.forget(view).map(|()| view.pinned_name()),
            Err(unknown) => unknown,
        };
        let Some((name, pin)) = pinned.split_once('@').filter(|(_, pin)| pin.len() >= SHORTEST_PIN) else {
            return Err(unknown);
        };
        let recorded = self.read()?;
        let known = |k: &&Kept| registry.versions(&k.view).any(|v| *v.version_text == *k.version);
        let fits = |k: &&Kept| k.view == name && k.version.starts_with(pin) && !known(k);
        match recorded.iter().filter(fits).collect::<Vec<_>>().as_slice() {
            [one] => {
                fs::remove_file(&one.file).map_err(|e| self.failed("write", &e))?;
                Ok(format!("{name}@{}", one.version))
            }
            _ => Err(unknown),
        }
    }

    fn file(&self, view: &View) -> PathBuf {
        self.dir.join(format!("{}@{}.sql", view.name, view.version_text))
    }

    fn write(&self, view: &View) -> Result<(), FeatureError> {
        let failed = |e: io::Error| self.failed("write", &e);
        let file = self.file(view);
        let unfinished = file.with_extension("sql.tmp");
        let mut to = fs::File::create(&unfinished).map_err(failed)?;
        to.write_all(view.text.as_bytes()).and_then(|()| to.sync_all()).map_err(failed)?;
        fs::rename(&unfinished, &file).map_err(failed)?;
        fs::File::open(&self.dir).and_then(|d| d.sync_all()).map_err(failed)
    }

    fn failed(&self, what: &str, e: &io::Error) -> FeatureError {
        FeatureError::Unavailable(format!(
            "the definitions kept in {} cannot be {what}: {e}; see to the disk and its rights",
            self.dir.display()
        ))
    }
}

/// The tables of a view that need another name now that `current` is the version its name means.
fn renames(
    name: &str,
    current: Option<&str>,
    history: &dyn OfflineStore,
) -> Result<Vec<(String, String)>, FeatureError> {
    let plain = format!("features_{name}");
    let of_version = |version: &str| format!("features_{name}__{version}");
    let mut renames = Vec::new();
    if let Some(held) = version_in(&plain, history)?.filter(|held| Some(held.as_str()) != current) {
        renames.push((plain.clone(), of_version(&held)));
    }
    if let Some(current) = current {
        renames.push((of_version(current), plain));
    }
    Ok(renames)
}

/// Whose values a table holds.
fn version_in(table: &str, history: &dyn OfflineStore) -> Result<Option<String>, FeatureError> {
    if history.schema(table)?.is_none_or(|s| s.index_of("version").is_err()) {
        return Ok(None);
    }
    let filter = ScanFilter { columns: Some(vec!["version".into()]), ..ScanFilter::default() };
    let first = history.stream(table, &filter)?.next().transpose()?;
    let text = first.and_then(|b| {
        let versions = b.column(0).as_string_opt::<i32>()?.clone();
        versions.iter().flatten().next().map(str::to_owned)
    });
    Ok(text)
}

/// Whether a table is named `features_<view>__<16 hexadecimal digits>`.
fn is_of_older_version(table: &str) -> bool {
    let version = table.strip_prefix("features_").and_then(|t| t.rsplit_once("__")).map(|(_, v)| v);
    version.is_some_and(|v| v.len() == 16 && v.bytes().all(|b| b.is_ascii_hexdigit()))
}
