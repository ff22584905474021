//! Reading a checkpoint back. Heads and nodes are read, the events of large rows stay on disk until an edge of a
//! window needs them.

use std::sync::Arc;

use features::{Row, View, chunks::OnDisk};
use hashbrown::HashSet;
use ingest::log::Position;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use super::{Checkpoint, META, PIECES, ROWS, Restored, SEEN, at_piece, failed, row_key, state_of};
use crate::error::JobError;

impl Checkpoint {
    /// Reads everything, dropping rows of view versions that are gone; once `budget` bytes of events are in memory,
    /// further ones stay on disk.
    pub fn load(&self, views: &[Arc<View>], budget: usize) -> Result<Restored, JobError> {
        self.try_load(views, budget).map_err(|e| failed(&self.file, e))
    }

    fn try_load(&self, views: &[Arc<View>], budget: usize) -> Result<Restored, redb::Error> {
        let mut out = Restored::default();
        self.drop_foreign(views)?;
        let read = self.db.begin_read()?;
        // Reading is mostly copying and parsing, so views are shared out over threads.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8);
        let found = std::thread::scope(|scope| {
            let work: Vec<_> = (0..threads)
                .map(|k| {
                    let read = &read;
                    let own = views.iter();
                    scope.spawn(move || {
                        let (mut rows, mut names) = (Vec::new(), HashSet::new());
                        for view in own {
                            self.load_view(read, view, (k, threads), budget, &mut names, &mut rows)?;
                        }
                        Ok::<_, redb::Error>(rows)
                    })
                })
                .collect();
            work.into_iter()
                .map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        out.rows = found.into_iter().flatten().collect();
        self.load_meta(&read, views, &mut out)?;
        Ok(out)
    }

    /// Drops rows and pieces of view versions that are gone.
    fn drop_foreign(&self, views: &[Arc<View>]) -> Result<(), redb::Error> {
        let write = self.db.begin_write()?;
        {
            write.open_table(SEEN)?;
            write.open_table(META)?;
            for table in [ROWS, PIECES] {
                let mut table = write.open_table(table)?;
                // From one version to the next, so that the rows in between are not looked at.
                let mut from = Vec::new();
                loop {
                    let next = table.range::<&[u8]>(&from[..]..)?.next().transpose()?;
                    let Some(version) = next.and_then(|(k, _)| version_of(k.value())) else { break };
                    let (first, last) = (version.to_be_bytes(), version.checked_add(1).map(u64::to_be_bytes));
                    if !views.iter().any(|v| v.version == version) {
                        match &last {
                            Some(last) => table.retain_in::<&[u8], _>(&first[..]..&last[..], |_, _| false)?,
                            None => table.retain_in::<&[u8], _>(&first[..].., |_, _| false)?,
                        }
                    }
                    let Some(last) = last else { break };
                    from = last.to_vec();
                }
            }
        }
        write.commit()?;
        Ok(())
    }

    /// The rows of a view whose number, in the file's order, falls to this `share` of so many.
    fn load_view(
        &self,
        read: &ReadTransaction,
        view: &Arc<View>,
        share: (usize, usize),
        budget: usize,
        names: &mut HashSet<Arc<str>>,
        out: &mut Vec<(Arc<View>, Arc<Row>)>,
    ) -> Result<(), redb::Error> {
        const RUN: usize = 1_024;
        let source = self.chunks();
        let (rows, pieces) = (read.open_table(ROWS)?, read.open_table(PIECES)?);
        let first = view.version.to_be_bytes();
        for (i, entry) in rows.range::<&[u8]>(&first[..]..)?.enumerate() {
            let (key, head) = entry?;
            let key = key.value();
            if version_of(key) != Some(view.version) {
                break;
            }
            if i / RUN % share.1 != share.0 {
                continue;
            }
            let Ok(entity) = std::str::from_utf8(&key[8..]) else { continue };
            // Views share the names of their entities.
            let entity = names.get_or_insert_with(entity, |name| name.into()).clone();
            let mut trouble = None;
            let row = Row::restore(head.value(), view, entity.clone(), &source, |piece| {
                let mut key = row_key(view.version, &entity);
                let len = key.len();
                match pieces.get(at_piece(&mut key, len, piece)) {
                    Ok(found) => found.map(|p| p.value().to_vec()),
                    Err(e) => {
                        trouble = Some(e);
                        None
                    }
                }
            });
            if let Some(e) = trouble {
                return Err(e.into());
            }
            match row {
                Some(row) => {
                    if view.layout.held.memory() > budget {
                        let (source, entity) = (source.clone(), entity.clone());
                        row.events.spill(&Arc::new(OnDisk { source, version: view.version, entity }));
                    }
                    out.push((view.clone(), Arc::new(row)));
                }
                None => {
                    let damaged =
                        format!("the state of an entity of the view {} is not as it was written", view.name);
                    return Err(redb::Error::Corrupted(damaged));
                }
            }
        }
        Ok(())
    }

    fn load_meta(
        &self,
        read: &ReadTransaction,
        views: &[Arc<View>],
        out: &mut Restored,
    ) -> Result<(), redb::Error> {
        let meta = read.open_table(META)?;
        let mut known = String::new();
        for entry in meta.iter()? {
            let (key, value) = entry?;
            match key.value().split_once(':') {
                None if key.value() == "position" => out.position = value.value().parse().unwrap_or_default(),
                None if key.value() == "views" => known = value.value().to_owned(),
                Some(("note", name)) => out.notes.push((name.to_owned(), value.value().to_owned())),
                Some(("watermark", p)) => {
                    if let (Ok(p), Ok(t)) = (p.parse(), value.value().parse()) {
                        out.watermarks.push((p, t));
                    }
                }
                _ => {}
            }
        }
        if out.position != Position::default() {
            let fresh = |v: &&Arc<View>| !known.split(',').any(|k| k == state_of(v));
            out.new_views = views.iter().filter(fresh).cloned().collect();
        }
        for entry in read.open_table(SEEN)?.iter()? {
            let (key, value) = entry?;
            let keys = value.value().chunks_exact(24).filter_map(|c| {
                let key = u128::from_le_bytes(c[..16].try_into().ok()?);
                Some((key, i64::from_le_bytes(c[16..].try_into().ok()?)))
            });
            out.seen.push((key.value().0, keys.collect()));
        }
        Ok(())
    }
}

fn version_of(key: &[u8]) -> Option<u64> {
    key.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)
}
