//! Chunks of events: in memory, or on disk with a way back.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ingest::Millis;
use parking_lot::RwLock;

use super::{Held, PieceId};
use crate::{error::FeatureError, events::EventList};

/// Where the events of spilled chunks are read from.
pub trait ChunkSource: Send + Sync + std::fmt::Debug {
    /// The bytes of a chunk's events, as [`Chunk::body`] gave them.
    ///
    /// # Errors
    /// `Gone` if a newer tree has replaced the chunk; else what the medium says.
    fn load(&self, version: u64, entity: &str, chunk: PieceId) -> Result<Arc<[u8]>, FeatureError>;
}

/// The way back to the chunks of one entity and view.
#[derive(Debug)]
pub struct OnDisk {
    /// Where they are.
    pub source: Arc<dyn ChunkSource>,
    /// Version of the view.
    pub version: u64,
    /// Whom they are about.
    pub entity: Arc<str>,
}

#[derive(Debug)]
pub(super) enum Body {
    /// In memory; and whether the checkpoint has it.
    Here(Arc<[u8]>, bool),
    There(Arc<OnDisk>),
}

/// Some events, at least one. See [`EventList`] for their bytes.
#[derive(Debug)]
pub struct Chunk {
    pub(super) id: PieceId,
    pub(super) count: u32,
    pub(super) bytes: u32,
    pub(super) first: Millis,
    pub(super) last: Millis,
    pub(super) body: RwLock<Body>,
    pub(super) held: Arc<Held>,
}

impl Chunk {
    pub(super) fn new(id: PieceId, list: EventList<'_>, body: Arc<[u8]>, held: &Arc<Held>) -> Self {
        held.memory.fetch_add(body.len(), Relaxed);
        held.chunks.fetch_add(1, Relaxed);
        Chunk {
            id,
            count: list.len() as u32,
            bytes: body.len() as u32,
            first: list.time(0),
            last: list.time(list.len() - 1),
            body: RwLock::new(Body::Here(body, false)),
            held: held.clone(),
        }
    }

    /// The bytes of its events, read from disk if they are there.
    pub(crate) fn body(&self) -> Result<Arc<[u8]>, FeatureError> {
        let on_disk = match &*self.body.read() {
            Body::Here(bytes, _) => return Ok(bytes.clone()),
            Body::There(on_disk) => on_disk.clone(),
        };
        let bytes = on_disk.source.load(on_disk.version, &on_disk.entity, self.id)?;
        if EventList::parse(self.count as usize, &bytes).is_none() {
            return Err(FeatureError::Damaged(format!(
                "chunk {} of stored events is not as it was written",
                self.id
            )));
        }
        Ok(bytes)
    }

    /// How many events it has.
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn list<'b>(&self, body: &'b [u8]) -> EventList<'b> {
        EventList::parse(self.count as usize, body).unwrap_or_default()
    }

    pub(super) fn mark_saved(&self) {
        if let Body::Here(_, saved) = &mut *self.body.write() {
            *saved = true;
        }
    }

    /// Lets go of the events' bytes, if the checkpoint has them; answers how many bytes that were.
    pub fn spill(&self, to: &Arc<OnDisk>) -> usize {
        let mut body = self.body.write();
        if !matches!(*body, Body::Here(_, true)) {
            return 0;
        }
        *body = Body::There(to.clone());
        self.held.memory.fetch_sub(self.bytes as usize, Relaxed);
        self.held.spilled.fetch_add(self.bytes as usize, Relaxed);
        self.bytes as usize
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let of = match self.body.get_mut() {
            Body::Here(..) => &self.held.memory,
            Body::There(_) => &self.held.spilled,
        };
        of.fetch_sub(self.bytes as usize, Relaxed);
        self.held.chunks.fetch_sub(1, Relaxed);
    }
}
