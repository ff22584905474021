//! A run: the sorted keys of some closed segments in one file.
//!
//! ```text
//! page 0      magic [8] | keys u64 | first segment u64 | last segment u64 | pages u64 | filter bytes u64
//!             | crc of index and filter u32 | crc of the above u32
//! pages 1..   255 keys u128, ascending (the last page is filled up by repeating its last key) | crc u32 | zero
//! index       the upper half of the first key of each page, u64
//! filter      Bloom filter over all keys
//! ```
//! In memory stand the index and the filter, 1.5 bytes a key; a key that passes the filter costs one read.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::{Buf, BufMut};

use super::{bloom::Bloom, files};
use crate::log::LogError;

/// Suffix of run files.
pub const EXTENSION: &str = "keys";
const MAGIC: &[u8; 8] = b"KAIRKEY1";
const PAGE: usize = 4096;
const KEYS_PER_PAGE: usize = 255;
const HEADER: usize = 56;

/// An open run.
pub struct Run {
    /// The closed segments whose keys it holds.
    pub segments: (u64, u64),
    /// How many keys it holds.
    pub keys: u64,
    pub path: PathBuf,
    file: File,
    index: Vec<u64>,
    filter: Bloom,
}

impl Run {
    /// Whether it holds a key.
    pub fn contains(&self, key: u128) -> Result<bool, LogError> {
        if !self.filter.may_contain(key) {
            return Ok(false);
        }
        let high = (key >> 64) as u64;
        let mut page = self.index.partition_point(|first| *first <= high);
        // More than one page only if their first keys share the upper half with this one.
        while page > 0 {
            page -= 1;
            if self.page(page)?.binary_search(&key).is_ok() {
                return Ok(true);
            }
            if self.index[page] < high {
                break;
            }
        }
        Ok(false)
    }

    /// The keys of a page, ascending.
    fn page(&self, page: usize) -> Result<Vec<u128>, LogError> {
        let mut bytes = [0; PAGE];
        let at = (page + 1) * PAGE;
        let read = self.file.read_exact_at(&mut bytes, at as u64);
        read.map_err(|e| files::unavailable("cannot read", &self.path, &e))?;
        let (keys, mut crc) = bytes.split_at(KEYS_PER_PAGE * 16);
        if crc.get_u32_le() != crc32c::crc32c(keys) {
            return Err(damaged(&self.path, at));
        }
        let held = (self.keys as usize - page * KEYS_PER_PAGE).min(KEYS_PER_PAGE);
        let (keys, _) = keys.as_chunks::<16>();
        Ok(keys[..held].iter().map(|k| u128::from_le_bytes(*k)).collect())
    }

    /// Opens a run file.
    pub fn open(path: &Path) -> Result<Run, LogError> {
        let broken = |e| files::unavailable("cannot read", path, &e);
        let file = File::open(path).map_err(broken)?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(|_| damaged(path, 0))?;
        let (content, mut crc) = header.split_at(HEADER - 4);
        if &content[..8] != MAGIC || crc.get_u32_le() != crc32c::crc32c(content) {
            return Err(damaged(path, 0));
        }
        let mut head = &content[8..];
        let keys = head.get_u64_le();
        let segments = (head.get_u64_le(), head.get_u64_le());
        let (pages, filter_len) = (head.get_u64_le() as usize, head.get_u64_le() as usize);
        let mut tail = vec![0; pages * 8 + filter_len];
        let tail_at = (pages + 1) * PAGE;
        file.read_exact_at(&mut tail, tail_at as u64).map_err(|_| damaged(path, tail_at))?;
        if head.get_u32_le() != crc32c::crc32c(&tail) {
            return Err(damaged(path, tail_at));
        }
        let (index, filter) = tail.split_at(pages * 8);
        let index = index.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
        let filter = Bloom::from_bytes(filter).ok_or_else(|| damaged(path, tail_at))?;
        Ok(Run { segments, keys, path: path.to_owned(), file, index, filter })
    }

    /// Writes a run durably from ascending keys, at most `expected` of them, and opens it. `keep_on` is asked
    /// once a page; when it says no, nothing is left behind and the answer is none.
    pub fn write(
        dir: &Path,
        segments: (u64, u64),
        expected: u64,
        keys: impl Iterator<Item = Result<u128, LogError>>,
        mut keep_on: impl FnMut() -> bool,
    ) -> Result<Option<Run>, LogError> {
        let path = path(dir, segments);
        let temporary = files::unfinished(&path);
        let broken = |e| files::unavailable("cannot write", &temporary, &e);
        let write = || {
            let mut writer = RunWriter::begin(&temporary, expected).map_err(broken)?;
            for key in keys {
                if writer.push(key?).map_err(broken)? && !keep_on() {
                    std::fs::remove_file(&temporary).map_err(broken)?;
                    return Ok(None);
                }
            }
            writer.finish(segments).map_err(broken)?;
            files::put_in_place(&temporary, &path).map_err(broken)?;
            Run::open(&path).map(Some)
        };
        files::or_remove(&temporary, write())
    }

    /// All its keys, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Result<u128, LogError>> {
        (0..self.index.len()).flat_map(|page| {
            let (keys, error) = match self.page(page) {
                Ok(keys) => (keys, None),
                Err(e) => (Vec::new(), Some(Err(e))),
            };
            keys.into_iter().map(Ok).chain(error)
        })
    }
}

/// Two ascending sequences as one, without repeats.
pub fn merge(
    a: impl Iterator<Item = Result<u128, LogError>>,
    b: impl Iterator<Item = Result<u128, LogError>>,
) -> impl Iterator<Item = Result<u128, LogError>> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(Ok(x)), Some(Ok(y))) => match x.cmp(y) {
            std::cmp::Ordering::Less => a.next(),
            std::cmp::Ordering::Greater => b.next(),
            std::cmp::Ordering::Equal => {
                b.next();
                a.next()
            }
        },
        (Some(_), None) | (Some(Err(_)), _) => a.next(),
        (None, _) | (_, Some(Err(_))) => b.next(),
    })
}

struct RunWriter {
    out: BufWriter<File>,
    page: Vec<u8>,
    index: Vec<u64>,
    filter: Bloom,
    keys: u64,
}

impl RunWriter {
    fn begin(path: &Path, expected: u64) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(16 * PAGE, files::create(path)?);
        out.write_all(&[0; PAGE])?;
        let filter = Bloom::for_keys(expected);
        Ok(RunWriter { out, page: Vec::with_capacity(PAGE), index: Vec::new(), filter, keys: 0 })
    }

    /// Adds a key; answers whether a page became full.
    fn push(&mut self, key: u128) -> io::Result<bool> {
        if self.page.is_empty() {
            self.index.push((key >> 64) as u64);
        }
        self.page.put_u128_le(key);
        self.filter.insert(key);
        self.keys += 1;
        let full = self.page.len() == KEYS_PER_PAGE * 16;
        if full {
            self.close_page()?;
        }
        Ok(full)
    }

    fn close_page(&mut self) -> io::Result<()> {
        let last = self.page[self.page.len() - 16..].to_vec();
        while self.page.len() < KEYS_PER_PAGE * 16 {
            self.page.extend_from_slice(&last);
        }
        let crc = crc32c::crc32c(&self.page);
        self.page.put_u32_le(crc);
        self.page.resize(PAGE, 0);
        self.out.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }

    fn finish(mut self, segments: (u64, u64)) -> io::Result<()> {
        if !self.page.is_empty() {
            self.close_page()?;
        }
        let filter = self.filter.to_bytes();
        let mut tail: Vec<u8> = self.index.iter().flat_map(|w| w.to_le_bytes()).collect();
        tail.extend_from_slice(&filter);
        self.out.write_all(&tail)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut header = Vec::with_capacity(HEADER);
        header.put_slice(MAGIC);
        let lengths = [self.keys, segments.0, segments.1, self.index.len() as u64, filter.len() as u64];
        lengths.iter().for_each(|n| header.put_u64_le(*n));
        header.put_u32_le(crc32c::crc32c(&tail));
        let crc = crc32c::crc32c(&header);
        header.put_u32_le(crc);
        file.write_all_at(&header, 0)?;
        file.sync_all()
    }
}

fn path(dir: &Path, segments: (u64, u64)) -> PathBuf {
    dir.join(format!("{:016}-{:016}.{EXTENSION}", segments.0, segments.1))
}

fn damaged(path: &Path, at: usize) -> LogError {
    LogError::Damaged(format!(
        "{} is damaged at byte {at}: a checksum does not match. Restore it from a backup; or remove it: it is then \
         built again from the segments still there, but repeats of records that retention dropped are no longer \
         recognised",
        path.display()
    ))
}
