//! The directory of installed functions: `NAME.rs`, its library `NAME.so`, and `NAME.json` with the hashes of both.
//!
//! A library is loaded only when it is, byte for byte, the one that was built here from the source beside it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    builder::{Built, PLUGIN_VERSION},
    plugin::Plugin,
    shipped,
    source::{Source, hash},
};
use crate::error::FeatureError;

/// A directory of functions.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
}

/// What `NAME.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Name of the function.
    pub name: String,
    /// SHA-256 of `NAME.rs`.
    pub source_sha256: String,
    /// SHA-256 of `NAME.so`.
    pub library_sha256: String,
    /// Compiler it was built by.
    pub rustc: String,
    /// Version of `arroyo-udf-plugin` it was built with.
    pub plugin: String,
}

impl Folder {
    /// The directory; it need not exist.
    pub fn new(dir: &Path) -> Folder {
        Folder { dir: dir.to_owned() }
    }

    /// Directory of the views that came with shipped functions.
    pub fn views(&self) -> PathBuf {
        self.dir.join("views")
    }

    /// The functions installed, by name, unchecked.
    ///
    /// # Errors
    /// A directory or description that cannot be read.
    pub fn list(&self) -> Result<Vec<Installed>, FeatureError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(unreadable(&self.dir, &e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| unreadable(&self.dir, &e))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let text = std::fs::read(&path).map_err(|e| unreadable(&path, &e))?;
            let installed: Installed = serde_json::from_slice(&text).map_err(|e| {
                FeatureError::Damaged(format!(
                    "{}: {e}; add the function again with `kairos udf add`",
                    path.display()
                ))
            })?;
            if path.file_stem().is_none_or(|stem| stem != installed.name.as_str()) {
                return Err(changed(&path, "it describes a function of another name"));
            }
            found.push(installed);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The source of an installed function, compared with its hash.
    ///
    /// # Errors
    /// A source that was changed since.
    pub fn source(&self, installed: &Installed) -> Result<Source, FeatureError> {
        let path = self.file(&installed.name, "rs");
        let text = std::fs::read(&path).map_err(|e| unreadable(&path, &e))?;
        if hash(&text) != installed.source_sha256 {
            return Err(changed(&path, "it was edited since it was built"));
        }
        Source::parse(&path.display().to_string(), &String::from_utf8_lossy(&text))
    }

    /// Loads every function.
    pub(super) fn load(&self) -> Result<Vec<Plugin>, FeatureError> {
        let installed = self.list()?;
        if !installed.is_empty() {
            refuse_open_to_all(&self.dir)?;
        }
        installed.iter().map(|i| self.load_one(i)).collect()
    }

    fn load_one(&self, installed: &Installed) -> Result<Plugin, FeatureError> {
        if installed.plugin != PLUGIN_VERSION {
            return Err(FeatureError::Request(format!(
                "{}() was built with arroyo-udf-plugin {}, this program calls {PLUGIN_VERSION}; add it again with \
                 `kairos udf add`",
                installed.name, installed.plugin
            )));
        }
        let source = self.source(installed)?;
        let library = self.library(&installed.name);
        refuse_open_to_all(&library)?;
        let bytes = std::fs::read(&library).map_err(|e| unreadable(&library, &e))?;
        if hash(&bytes) != installed.library_sha256 {
            return Err(changed(&library, "it is not the library that was built"));
        }
        Plugin::load(source, &library)
    }

    /// Puts a function in, in place of one of the same name, and loads it.
    ///
    /// # Errors
    /// A directory that cannot be written; a library that does not load, or fails on sample values: then nothing
    /// is put in.
    pub fn install(&self, source: &Source, built: &Built) -> Result<Installed, FeatureError> {
        let plugin = Plugin::load(source.clone(), &built.library)?;
        plugin.try_out().map_err(|e| {
            FeatureError::Request(format!(
                "{e} (tried with 0, 1, 12.5, -3, NULL; with the empty text and \"a\")"
            ))
        })?;
        let library = std::fs::read(&built.library).map_err(|e| unreadable(&built.library, &e))?;
        let installed = Installed {
            name: source.name.clone(),
            source_sha256: source.hash.clone(),
            library_sha256: hash(&library),
            rustc: built.rustc.clone(),
            plugin: PLUGIN_VERSION.into(),
        };
        let described = serde_json::to_vec_pretty(&installed)
            .map_err(|e| FeatureError::Request(format!("describing {}(): {e}", source.name)))?;
        std::fs::create_dir_all(&self.dir).map_err(|e| unwritable(&self.dir, &e))?;
        put(&self.file(&source.name, "rs"), source.text.as_bytes())?;
        put(&self.library(&source.name), &library)?;
        // Last: with it the function counts.
        put(&self.file(&source.name, "json"), &described)?;
        Ok(installed)
    }

    /// Puts a shipped function's view beside it; answers its file.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn install_view(&self, shipped: &shipped::Shipped) -> Result<PathBuf, FeatureError> {
        let path = self.views().join(format!("{}.sql", shipped.name));
        std::fs::create_dir_all(self.views()).map_err(|e| unwritable(&self.views(), &e))?;
        put(&path, shipped.view.as_bytes())?;
        Ok(path)
    }

    /// Takes a function out, with the view that came with it; answers whether it was there.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, FeatureError> {
        let there = self.list()?.iter().any(|i| i.name == name);
        if there {
            let view = self.views().join(format!("{name}.sql"));
            // The description first: without it nothing is loaded.
            for path in [self.file(name, "json"), self.library(name), self.file(name, "rs"), view] {
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(&path, &e)),
                    _ => {}
                }
            }
        }
        Ok(there)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}.{extension}"))
    }

    fn library(&self, name: &str) -> PathBuf {
        self.file(name, std::env::consts::DLL_EXTENSION)
    }
}

/// In place at once: a running program keeps the file it has loaded.
fn put(path: &Path, bytes: &[u8]) -> Result<(), FeatureError> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::File::open(&new)?.sync_all())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|e| unwritable(path, &e))
}

/// Whoever may write there may run code in this process.
#[cfg(unix)]
fn refuse_open_to_all(path: &Path) -> Result<(), FeatureError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.permissions().mode();
    if mode & 0o002 == 0 {
        return Ok(());
    }
    Err(FeatureError::Request(format!(
        "{} can be written by everybody on this machine, so what it holds is not loaded; `chmod o-w` it",
        path.display()
    )))
}

#[cfg(not(unix))]
fn refuse_open_to_all(_: &Path) -> Result<(), FeatureError> {
    Ok(())
}

fn changed(path: &Path, how: &str) -> FeatureError {
    FeatureError::Damaged(format!(
        "{} is not loaded: {how}; build the function again with `kairos udf add {}`",
        path.display(),
        path.with_extension("rs").display()
    ))
}

fn unreadable(path: &Path, e: &std::io::Error) -> FeatureError {
    FeatureError::Request(format!("user functions: cannot read {}: {e}; check udfs.dir", path.display()))
}

fn unwritable(path: &Path, e: &std::io::Error) -> FeatureError {
    FeatureError::Unavailable(format!("user functions: cannot write {}: {e}; check udfs.dir", path.display()))
}
