//! The block: what one group commit writes. All integers are little-endian.
//!
//! ```text
//! block   salt u64 | crc u32 | body length u32 | records u32 | zero u32 | sequence u64 | body
//! record  payload length u32 | subject length u16 | partition u16 | flags u8 | offset u64 | key u128
//!         | subject | payload
//! ```
//! The CRC32C covers everything behind it. The salt is random and the segment's own, so that nothing a
//! payload contains can pass for a block when a damaged file is searched.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::{Buf, BufMut, Bytes};

use crate::log::{Offset, Partition};

/// Bytes of a block before its body.
pub const BLOCK_HEADER: usize = 32;
/// Bytes of a record before its subject.
pub const RECORD_HEADER: usize = 33;
/// How much is read from a segment at once.
const CHUNK: u64 = 256 << 10;
const CRC_AT: usize = 8;
const CRC_FROM: usize = 12;
const ERASED: u8 = 1;

/// Builds one block in a buffer that is used again for the next.
#[derive(Default)]
pub struct BlockWriter {
    bytes: Vec<u8>,
    records: u32,
}

impl BlockWriter {
    /// Starts the next block.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(BLOCK_HEADER, 0);
        self.records = 0;
    }

    /// How many records it holds.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Adds a record. The caller has checked that the lengths fit their fields.
    pub fn push(&mut self, partition: Partition, offset: Offset, key: u128, subject: &str, payload: &[u8]) {
        let out = &mut self.bytes;
        out.put_u32_le(payload.len() as u32);
        out.put_u16_le(subject.len() as u16);
        out.put_u16_le(partition as u16);
        out.put_u8(0);
        out.put_u64_le(offset);
        out.put_u128_le(key);
        out.put_slice(subject.as_bytes());
        out.put_slice(payload);
        self.records += 1;
    }

    /// Closes the block and gives its bytes.
    pub fn finish(&mut self, salt: u64, sequence: u64) -> &[u8] {
        let body = (self.bytes.len() - BLOCK_HEADER) as u32;
        let mut header = &mut self.bytes[..BLOCK_HEADER];
        header.put_u64_le(salt);
        header.put_u32_le(0);
        header.put_u32_le(body);
        header.put_u32_le(self.records);
        header.put_u32_le(0);
        header.put_u64_le(sequence);
        reseal(&mut self.bytes);
        &self.bytes
    }
}

/// Writes the checksum of a block whose content has changed.
pub fn reseal(block: &mut [u8]) {
    let crc = crc32c::crc32c(&block[CRC_FROM..]);
    block[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
}

/// One record inside a block; ranges are into the block's bytes.
pub struct Frame {
    pub partition: Partition,
    pub offset: Offset,
    pub key: u128,
    pub erased: bool,
    pub subject: std::ops::Range<usize>,
    pub payload: std::ops::Range<usize>,
}

impl Frame {
    /// Wipes subject and payload in the block's bytes; place and key stay. The block must be resealed.
    pub fn wipe(&self, block: &mut [u8]) {
        block[self.subject.start - RECORD_HEADER + 8] |= ERASED;
        block[self.subject.start..self.payload.end].fill(0);
    }
}

/// A whole block whose checksum is right.
pub struct Block {
    /// Where it stands in its file.
    pub at: u64,
    /// Its number in the topic.
    pub sequence: u64,
    /// Header and body.
    pub bytes: Bytes,
}

impl Block {
    /// Its records in order; an error says that the content contradicts itself.
    pub fn frames(&self) -> Result<Vec<Frame>, &'static str> {
        let count = (&self.bytes[16..20]).get_u32_le() as usize;
        let mut frames = Vec::with_capacity(count.min(self.bytes.len() / RECORD_HEADER));
        let mut at = BLOCK_HEADER;
        for _ in 0..count {
            let mut head = self.bytes.get(at..at + RECORD_HEADER).ok_or("a record is cut short")?;
            let payload_len = head.get_u32_le() as usize;
            let subject_len = usize::from(head.get_u16_le());
            let partition = Partition::from(head.get_u16_le());
            let erased = head.get_u8() & ERASED != 0;
            let offset = head.get_u64_le();
            let key = head.get_u128_le();
            let subject = at + RECORD_HEADER..at + RECORD_HEADER + subject_len;
            let payload = subject.end..subject.end + payload_len;
            if payload.end > self.bytes.len() {
                return Err("a record is longer than its block");
            }
            at = payload.end;
            frames.push(Frame { partition, offset, key, erased, subject, payload });
        }
        Ok(frames)
    }
}

/// Why there is no valid block at a place.
#[derive(Debug, Clone, Copy)]
pub struct Bad {
    /// Byte in the file.
    pub at: u64,
    /// What is wrong there.
    pub why: &'static str,
}

/// What [`Blocks::next`] found.
pub enum Step {
    /// The next block.
    Block(Block),
    /// The limit, exactly behind a block.
    End,
    /// No valid block, although the limit is not reached.
    Bad(Bad),
}

/// Walks over the blocks of one segment file with large positioned reads.
pub struct Blocks {
    file: File,
    salt: u64,
    /// Where the next block starts, and its number.
    pub at: u64,
    pub sequence: u64,
    chunk: Bytes,
    chunk_at: u64,
}

impl Blocks {
    /// Walks `file` from byte `at`, where block number `sequence` is expected.
    pub fn new(file: File, salt: u64, at: u64, sequence: u64) -> Self {
        Blocks { file, salt, at, sequence, chunk: Bytes::new(), chunk_at: at }
    }

    /// The next block that ends at or before `limit`.
    pub fn next(&mut self, limit: u64) -> io::Result<Step> {
        if self.at >= limit {
            return Ok(Step::End);
        }
        let bad = |at, why| Ok(Step::Bad(Bad { at, why }));
        let left = limit - self.at;
        if left < BLOCK_HEADER as u64 {
            return bad(self.at, "a block is cut short");
        }
        self.fill(BLOCK_HEADER as u64, left)?;
        let total = match check_header(self.head(), self.salt, self.sequence) {
            Ok(total) if total <= left => total,
            Ok(_) => return bad(self.at, "a block is cut short"),
            Err(why) => return bad(self.at, why),
        };
        self.fill(total, left)?;
        let from = (self.at - self.chunk_at) as usize;
        let bytes = self.chunk.slice(from..from + total as usize);
        if !checksum_holds(&bytes) {
            return bad(self.at, "the checksum of a block does not match");
        }
        let block = Block { at: self.at, sequence: self.sequence, bytes };
        self.at += total;
        self.sequence += 1;
        Ok(Step::Block(block))
    }

    fn head(&self) -> &[u8] {
        &self.chunk[(self.at - self.chunk_at) as usize..]
    }

    /// Makes sure that `need` bytes from the current place on are in memory.
    fn fill(&mut self, need: u64, left: u64) -> io::Result<()> {
        if self.at >= self.chunk_at && self.at + need <= self.chunk_at + self.chunk.len() as u64 {
            return Ok(());
        }
        let mut buffer = vec![0; need.max(CHUNK).min(left) as usize];
        self.file.read_exact_at(&mut buffer, self.at)?;
        self.chunk = Bytes::from(buffer);
        self.chunk_at = self.at;
        Ok(())
    }
}

/// The length of the whole block that starts with these bytes, or why none does.
fn check_header(mut head: &[u8], salt: u64, sequence: u64) -> Result<u64, &'static str> {
    if head.get_u64_le() != salt {
        return Err("no block starts here");
    }
    head.advance(4);
    let body = head.get_u32_le();
    head.advance(8);
    if head.get_u64_le() != sequence {
        return Err("a block has the wrong number");
    }
    Ok(BLOCK_HEADER as u64 + u64::from(body))
}

fn checksum_holds(block: &[u8]) -> bool {
    (&block[CRC_AT..CRC_FROM]).get_u32_le() == crc32c::crc32c(&block[CRC_FROM..])
}

/// Whether any valid block stands anywhere in `rest`: then what precedes it is damage, not a torn write,
/// because a block is only written once the one before it is durable.
pub fn valid_block_in(rest: &[u8], salt: u64) -> bool {
    let mark = salt.to_le_bytes();
    let mut from = 0;
    while let Some(found) = find(&rest[from..], &mark) {
        let block = &rest[from + found..];
        if block.len() >= BLOCK_HEADER {
            let total = BLOCK_HEADER + (&block[CRC_FROM..]).get_u32_le() as usize;
            if total <= block.len() && checksum_holds(&block[..total]) {
                return true;
            }
        }
        from += found + 1;
    }
    false
}

fn find(haystack: &[u8], needle: &[u8; 8]) -> Option<usize> {
    let mut from = 0;
    while let Some(first) = haystack[from..].iter().position(|b| *b == needle[0]) {
        if haystack[from + first..].starts_with(needle) {
            return Some(from + first);
        }
        from += first + 1;
    }
    None
}
