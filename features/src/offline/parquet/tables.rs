//! Whole tables: renamed, dropped, sized up. Only the manifest changes; no row is read.

use super::{HistoryError, ParquetHistory, manifest::Replaced};
use crate::offline::{ScanFilter, layout::Layout};

impl ParquetHistory {
    pub(super) fn rename(&self, names: &[(String, String)]) -> Result<(), HistoryError> {
        for (_, to) in names {
            Layout::check_name(to)?;
        }
        let _maintaining = self.maintaining.lock();
        let writing = self.writing.lock();
        {
            let state = self.state.lock();
            if let Some((table, _)) = names.iter().find(|(t, _)| state.buffer.schema(t).is_some()) {
                return Err(HistoryError::Refused(format!(
                    "table `{table}` cannot get another name once rows were appended; that is a defect of the job"
                )));
            }
            let there = |t: &String| state.manifest.tables.contains_key(t);
            if !names.iter().any(|(from, _)| there(from)) {
                return Ok(());
            }
        }
        let edit = |m: &mut super::Manifest| {
            for (from, to) in names {
                if !m.tables.contains_key(to)
                    && let Some(table) = m.tables.remove(from)
                {
                    m.tables.insert(to.clone(), table);
                }
            }
        };
        self.commit(&writing, &[], edit, |_| ())
    }

    pub(super) fn remove_table(&self, table: &str) -> Result<(), HistoryError> {
        let _maintaining = self.maintaining.lock();
        let writing = self.writing.lock();
        let at = (self.clock)();
        let edit = |m: &mut super::Manifest| {
            let files = m.tables.remove(table).map(|t| t.files).unwrap_or_default();
            m.replaced.extend(files.into_iter().map(|f| Replaced { name: f.name, at }));
        };
        self.commit(&writing, &[], edit, |state| state.buffer.forget_table(table))?;
        self.remove_replaced(|_| true)
    }

    pub(super) fn estimate(&self, table: &str, filter: &ScanFilter) -> Result<u64, HistoryError> {
        let Some(view) = self.view(table)? else { return Ok(0) };
        let buffered: usize = view.buffered.iter().map(|b| b.num_rows()).sum();
        let manifest = self.state.lock().manifest.clone();
        let files = manifest.tables.get(table).map_or(&[][..], |t| &t.files);
        // Rows are taken to lie evenly over the span of time of their file.
        let share = |min: i64, max: i64| {
            let from = filter.after.map_or(min, |t| t.saturating_add(1)).max(min);
            let until = filter.until.unwrap_or(max).min(max);
            let span = |a: i64, b: i64| b.saturating_sub(a).saturating_add(1).max(0) as f64;
            span(from, until) / span(min, max)
        };
        let stored: f64 = files
            .iter()
            .filter(|f| filter.from_subject.as_ref().is_none_or(|from| *from <= f.max_entity))
            .map(|f| f.rows as f64 * share(f.min_time, f.max_time))
            .sum();
        Ok(stored.round() as u64 + buffered as u64)
    }
}
