//! The counts of values across restarts: one JSON file, replaced as a whole.
//!
//! A view is known by its version, so a view whose definition changed starts to count anew.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Quality, shape::Shape};

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct File {
    format: u32,
    /// By the version of the view, then by day, then one a feature.
    views: BTreeMap<String, BTreeMap<i64, Vec<Shape>>>,
}

impl Quality {
    /// Writes the counts to a file.
    ///
    /// # Errors
    /// When the file cannot be written; the one before is then still there.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let days = |of: &super::Of| (of.view.version_text.to_string(), of.state.lock().days.clone());
        let file = File { format: FORMAT, views: self.views.iter().map(days).collect() };
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(&file)?)?;
        fs::rename(new, path)
    }

    /// Takes up the counts of a file; none where there is no file, or one that an older program wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is none of ours.
    pub fn load(&self, path: &Path) -> io::Result<()> {
        let bytes = match fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        let mut file: File = serde_json::from_slice(&bytes)?;
        if file.format != FORMAT {
            return Ok(());
        }
        for of in &self.views {
            let days = file.views.remove(of.view.version_text.as_ref()).unwrap_or_default();
            let slots = of.view.slots();
            of.state.lock().days = days.into_iter().filter(|(_, shapes)| shapes.len() == slots).collect();
        }
        Ok(())
    }
}
