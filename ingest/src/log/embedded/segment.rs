//! A segment: one file of blocks with a header that says where in the topic it begins.
//!
//! ```text
//! magic [8] | salt u64 | index u64 | first block u64 | bytes of the segment before u64
//! | partitions u32 | next offset u64 for each partition | crc u32
//! ```

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, BufMut};

use super::{
    block::{Bad, Block, Blocks, Step, valid_block_in},
    files,
};
use crate::log::{LogError, Offset};

const MAGIC: &[u8; 8] = b"KAIRLOG1";
const EXTENSION: &str = "seg";
const FIXED: usize = 44;

/// A segment file, shared by the writer and the readers.
pub struct Segment {
    /// Its number in the topic, from 1.
    pub index: u64,
    pub path: PathBuf,
    /// Random mark of its blocks.
    pub salt: u64,
    /// Number of its first block.
    pub first_block: u64,
    /// Length of the segment before it.
    pub previous_len: u64,
    /// Next offset of each partition where it begins.
    pub base: Vec<Offset>,
    len: AtomicU64,
    rewrites: AtomicU64,
}

impl Segment {
    /// A new segment, not on disk yet.
    pub fn new(dir: &Path, index: u64, first_block: u64, previous_len: u64, base: Vec<Offset>) -> Self {
        // Not a matter of chance that anybody could observe: any value serves, as long as senders of
        // payloads cannot foresee it. Hence no generator handed in.
        let salt = RandomState::new().hash_one(index);
        let path = path(dir, index);
        let len = AtomicU64::new((FIXED + 8 * base.len() + 4) as u64);
        Segment { index, path, salt, first_block, previous_len, base, len, rewrites: AtomicU64::new(0) }
    }

    /// Creates its file, empty, durably.
    pub fn create(&self) -> io::Result<File> {
        let file = files::create(&self.path)?;
        file.write_all_at(&self.header(), 0)?;
        file.sync_all()?;
        self.path.parent().map_or(Ok(()), files::sync_dir)?;
        Ok(file)
    }

    /// Reads the header of a segment file; its length is taken from the file.
    pub fn load(dir: &Path, index: u64) -> Result<Segment, HeaderError> {
        let path = path(dir, index);
        let mut file = File::open(&path)?;
        let len = file.metadata()?.len();
        let mut bytes = vec![0; FIXED];
        let short = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => HeaderError::Short,
            _ => HeaderError::Io(e),
        };
        file.read_exact(&mut bytes).map_err(short)?;
        if &bytes[..8] != MAGIC {
            return Err(HeaderError::wrong(len, FIXED, "it is no segment of this log's format"));
        }
        let mut head = &bytes[8..];
        let (salt, stored_index) = (head.get_u64_le(), head.get_u64_le());
        let (first_block, previous_len) = (head.get_u64_le(), head.get_u64_le());
        let partitions = head.get_u32_le() as usize;
        if partitions > 1024 {
            return Err(HeaderError::wrong(len, FIXED, "its header is damaged"));
        }
        let whole = FIXED + 8 * partitions + 4;
        bytes.resize(whole, 0);
        file.read_exact(&mut bytes[FIXED..]).map_err(short)?;
        let (content, crc) = bytes.split_at(whole - 4);
        let mut crc = crc;
        if crc.get_u32_le() != crc32c::crc32c(content) || stored_index != index {
            return Err(HeaderError::wrong(len, whole, "its header is damaged"));
        }
        let mut head = &content[FIXED..];
        let base = (0..partitions).map(|_| head.get_u64_le()).collect();
        let (len, rewrites) = (AtomicU64::new(len), AtomicU64::new(0));
        Ok(Segment { index, path, salt, first_block, previous_len, base, len, rewrites })
    }

    /// The header as it stands in the file.
    pub fn header(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.header_len() as usize);
        out.put_slice(MAGIC);
        out.put_u64_le(self.salt);
        out.put_u64_le(self.index);
        out.put_u64_le(self.first_block);
        out.put_u64_le(self.previous_len);
        out.put_u32_le(self.base.len() as u32);
        self.base.iter().for_each(|b| out.put_u64_le(*b));
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out
    }

    /// Bytes before the first block.
    pub fn header_len(&self) -> u64 {
        (FIXED + 8 * self.base.len() + 4) as u64
    }

    /// Bytes that are durable and hold whole blocks.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Makes blocks up to `len` visible to readers.
    pub fn publish(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// How often the file was replaced by a rewritten one; places of blocks stay the same.
    pub fn rewrites(&self) -> u64 {
        self.rewrites.load(Ordering::Acquire)
    }

    /// Tells readers to open the file again.
    pub fn rewritten(&self) {
        self.rewrites.fetch_add(1, Ordering::AcqRel);
    }

    /// Walks over its blocks from the first.
    pub fn blocks(&self) -> io::Result<Blocks> {
        self.blocks_from(self.header_len(), self.first_block)
    }

    /// Walks over its blocks from the one with number `block`, which starts at byte `at`.
    pub fn blocks_from(&self, at: u64, block: u64) -> io::Result<Blocks> {
        Ok(Blocks::new(File::open(&self.path)?, self.salt, at, block))
    }

    /// Calls `visit` with every block up to the visible length, all of which must be valid.
    pub fn for_each(&self, mut visit: impl FnMut(&Block) -> Result<(), LogError>) -> Result<(), LogError> {
        let broken = |e| files::unavailable("cannot read", &self.path, &e);
        let mut blocks = self.blocks().map_err(broken)?;
        loop {
            match blocks.next(self.len()).map_err(broken)? {
                Step::Block(block) => visit(&block)?,
                Step::End => return Ok(()),
                Step::Bad(bad) => return Err(self.damaged(bad)),
            }
        }
    }

    /// The error that names this file and what a person can do.
    pub fn damaged(&self, bad: Bad) -> LogError {
        LogError::Damaged(format!(
            "{} is damaged at byte {}: {}. What stands before that byte can still be read; restore the file from a \
             backup to read on. Nothing was changed",
            self.path.display(),
            bad.at,
            bad.why
        ))
    }

    /// Walks over the last segment of a topic after a restart. Answers where its valid blocks end and the
    /// number of the next; what follows is a torn write if nothing valid stands behind it, else damage.
    pub fn recover(&self, mut visit: impl FnMut(&Block) -> Result<(), Bad>) -> Result<(u64, u64), LogError> {
        let broken = |e| files::unavailable("cannot read", &self.path, &e);
        let mut blocks = self.blocks().map_err(broken)?;
        let limit = self.len();
        loop {
            match blocks.next(limit).map_err(broken)? {
                Step::Block(block) => visit(&block).map_err(|bad| self.damaged(bad))?,
                Step::End => return Ok((blocks.at, blocks.sequence)),
                Step::Bad(bad) => {
                    let all = std::fs::read(&self.path).map_err(broken)?;
                    let behind = (bad.at as usize + 1).min(all.len());
                    if valid_block_in(&all[behind..], self.salt) {
                        return Err(self.damaged(bad));
                    }
                    return Ok((bad.at, blocks.sequence));
                }
            }
        }
    }

    /// Whether reading from `from` on may begin in this segment without missing a record.
    pub fn begins_before(&self, from: &[Offset], wanted: &[bool]) -> bool {
        (0..self.base.len()).all(|p| !wanted[p] || self.base[p] <= from[p])
    }
}

/// Moves `next` past the records of a block; refuses partitions that do not exist.
pub fn advance(block: &Block, next: &mut [Offset], mut key: impl FnMut(u128)) -> Result<(), Bad> {
    let bad = |why| Bad { at: block.at, why };
    for frame in block.frames().map_err(bad)? {
        let end = next.get_mut(frame.partition as usize).ok_or(bad("a record of an unknown partition"))?;
        *end = (*end).max(frame.offset + 1);
        key(frame.key);
    }
    Ok(())
}

/// Why the header of a segment cannot be used.
pub enum HeaderError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file ends inside the header: it was being created.
    Short,
    /// The header is there but wrong; `torn` if nothing stands behind it.
    Wrong { why: &'static str, torn: bool },
}

impl HeaderError {
    fn wrong(len: u64, header: usize, why: &'static str) -> Self {
        HeaderError::Wrong { why, torn: len <= header as u64 }
    }

    /// Whether a crash while creating the file explains it.
    pub fn torn(&self) -> bool {
        matches!(self, HeaderError::Short | HeaderError::Wrong { torn: true, .. })
    }

    /// As the log reports it.
    pub fn report(&self, dir: &Path, index: u64) -> LogError {
        let path = path(dir, index);
        match self {
            HeaderError::Io(e) => files::unavailable("cannot read", &path, e),
            HeaderError::Short => self.damaged(&path, "it ends inside its header"),
            HeaderError::Wrong { why, .. } => self.damaged(&path, why),
        }
    }

    fn damaged(&self, path: &Path, why: &str) -> LogError {
        LogError::Damaged(format!("{} is damaged at byte 0: {why}. Restore it from a backup", path.display()))
    }
}

impl From<io::Error> for HeaderError {
    fn from(e: io::Error) -> Self {
        HeaderError::Io(e)
    }
}

/// The numbers of the segment files in a directory, ascending.
pub fn indices(dir: &Path) -> io::Result<Vec<u64>> {
    let number = |p: PathBuf| p.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
    let mut found: Vec<u64> = files::list(dir, EXTENSION)?.into_iter().filter_map(number).collect();
    found.sort_unstable();
    Ok(found)
}

/// Where segment `index` lives.
pub fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016}.{EXTENSION}"))
}
