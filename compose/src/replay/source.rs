//! Files of lines, whatever they are packed in.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use tokio::sync::mpsc;

use crate::error::{Result, on_file};

/// Longest line that is read as one signal; the rest of a longer one is passed over.
const LONGEST_LINE: usize = 2 << 20;
const BUFFER: usize = 256 << 10;

/// One line of a file.
#[derive(Debug, Clone)]
pub struct Line {
    /// The file it stands in.
    pub file: Arc<Path>,
    /// Its number there, from 1.
    pub number: u64,
    /// What it says, without the line break; cut at the longest length taken.
    pub text: Bytes,
}

/// The files to read, opened one after the other.
pub struct Input {
    files: Vec<PathBuf>,
    /// Size of all files as they lie on disk; unknown with standard input.
    pub total_bytes: Option<u64>,
    /// How much of that has been read.
    pub bytes_read: Arc<AtomicU64>,
}

impl Input {
    /// Looks at the files: each must be there.
    pub fn open(files: &[PathBuf]) -> Result<Input> {
        let mut total_bytes = Some(0);
        for file in files {
            if is_stdin(file) {
                total_bytes = None;
                continue;
            }
            let found = std::fs::metadata(file).map_err(|e| on_file("read", file, &e))?;
            total_bytes = total_bytes.map(|t| t + found.len());
        }
        Ok(Input { files: files.to_vec(), total_bytes, bytes_read: Arc::default() })
    }

    /// Reads everything and hands it on in batches; stops early when nobody takes them any more.
    pub fn read_batches(&self, size: usize, batches: &mpsc::Sender<Vec<Line>>) -> Result<()> {
        let mut batch = Vec::with_capacity(size);
        for path in &self.files {
            let file: Arc<Path> = Arc::from(path.as_path());
            let mut lines = self.unpacked(path).map_err(|e| on_file("read", path, &e))?;
            for number in 1.. {
                let Some(text) = next_line(&mut lines).map_err(|e| on_file("read on in", path, &e))? else {
                    break;
                };
                if text.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                batch.push(Line { file: file.clone(), number, text: text.into() });
                if batch.len() == size
                    && batches.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(size))).is_err()
                {
                    return Ok(());
                }
            }
        }
        if !batch.is_empty() {
            // Whoever no longer listens has reported why.
            let _ = batches.blocking_send(batch);
        }
        Ok(())
    }

    fn unpacked(&self, path: &Path) -> io::Result<Box<dyn BufRead>> {
        let raw: Box<dyn Read> =
            if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let counted = Counted { inner: raw, count: self.bytes_read.clone() };
        let mut packed = BufReader::with_capacity(BUFFER, counted);
        // What a file is shows in its first bytes; its name may say anything.
        let start = packed.fill_buf()?;
        Ok(if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(packed)))
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(BufReader::with_capacity(BUFFER, ZstdFrames::Between(packed)))
        } else {
            Box::new(packed)
        })
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The next line without its break; `None` at the end.
fn next_line(from: &mut dyn BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut any = false;
    loop {
        let chunk = from.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = (LONGEST_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |e| e + 1);
        from.consume(used);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(line));
        }
    }
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// A zstd file is a row of frames; the decoder knows one at a time.
enum ZstdFrames<R: BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, ZstdFrames::Ended) {
                ZstdFrames::Ended => return Ok(0),
                ZstdFrames::Between(mut source) => {
                    if source.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(source).map_err(io::Error::other)?;
                    *self = ZstdFrames::Within(Box::new(frame));
                }
                ZstdFrames::Within(mut frame) => {
                    let n = frame.read(into)?;
                    if n > 0 || into.is_empty() {
                        *self = ZstdFrames::Within(frame);
                        return Ok(n);
                    }
                    *self = ZstdFrames::Between(frame.into_inner());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn read_all(paths: &[PathBuf], size: usize) -> Vec<Vec<Line>> {
        let input = Input::open(paths).unwrap();
        let (send, mut receive) = mpsc::channel(1_000);
        input.read_batches(size, &send).unwrap();
        drop(send);
        let mut all = Vec::new();
        while let Ok(batch) = receive.try_recv() {
            all.push(batch);
        }
        if let Some(total) = input.total_bytes {
            assert_eq!(input.bytes_read.load(Ordering::Relaxed), total);
        }
        all
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn packing_does_not_change_the_lines(
            texts in prop::collection::vec("[a-z{}\":]{1,30}", 1..60), size in 1usize..20, packing in 0..4,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (first, second) = texts.split_at(texts.len() / 2);
            let joined = |t: &[String]| t.iter().fold(String::new(), |all, l| all + l + "\n").into_bytes();
            // Two members, or frames, in one file: both must be read.
            let bytes = match packing {
                0 => [joined(first), joined(second)].concat(),
                1 => [gzip(&joined(first)), gzip(&joined(second))].concat(),
                2 if !first.is_empty() => [zstd(&joined(first)), zstd(&joined(second))].concat(),
                _ => zstd(&joined(&texts)),
            };
            let path = dir.path().join("signals");
            std::fs::write(&path, bytes).unwrap();
            let batches = read_all(&[path], size);
            prop_assert!(batches.iter().rev().skip(1).all(|b| b.len() == size));
            let lines: Vec<Line> = batches.concat();
            let read: Vec<&[u8]> = lines.iter().map(|l| &l.text[..]).collect();
            prop_assert_eq!(read, texts.iter().map(String::as_bytes).collect::<Vec<_>>());
            prop_assert_eq!(lines.last().unwrap().number, texts.len() as u64);
        }
    }

    #[test]
    fn blank_lines_are_passed_over_and_numbers_stay_true() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signals");
        std::fs::write(&path, "one\r\n\n  \ntwo").unwrap();
        let lines = read_all(&[path], 10).concat();
        let seen: Vec<(u64, &[u8])> = lines.iter().map(|l| (l.number, &l.text[..])).collect();
        assert_eq!(seen, [(1, &b"one"[..]), (4, &b"two"[..])]);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signals");
        std::fs::write(&path, [vec![b'x'; LONGEST_LINE * 2], b"\nnext\n".to_vec()].concat()).unwrap();
        let lines = read_all(&[path], 10).concat();
        assert_eq!(lines[0].text.len(), LONGEST_LINE + 1);
        assert_eq!(&lines[1].text[..], b"next");
    }

    #[test]
    fn a_cut_archive_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.gz");
        let whole = gzip(&b"a signal that takes some room\n".repeat(500));
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let (send, _receive) = mpsc::channel(1_000);
        let why = Input::open(&[path]).unwrap().read_batches(10_000, &send).unwrap_err().to_string();
        assert!(why.contains("cut.gz"), "{why}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let why = Input::open(&[PathBuf::from("/no/such/file")]).err().unwrap().to_string();
        assert!(why.contains("/no/such/file"), "{why}");
    }
}
