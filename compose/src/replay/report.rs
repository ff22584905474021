//! What became of the lines.

use std::{
    fmt,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use indicatif::HumanCount;
use serde_json::json;

use super::{source::Line, target::Answer};
use crate::error::{Result, on_file};

/// How many refusals are shown; all are counted, and written to the file of rejects.
const SHOWN: usize = 5;

/// Counts, and where refused lines go.
pub struct Report {
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    shown: Vec<String>,
    rejects: Option<(PathBuf, BufWriter<File>)>,
    began: Instant,
}

impl Report {
    /// An empty report; `rejects` is made anew.
    pub fn new(rejects: Option<&Path>) -> Result<Report> {
        let rejects = match rejects {
            Some(path) => {
                let file = File::create(path).map_err(|e| on_file("write", path, &e))?;
                Some((path.to_owned(), BufWriter::new(file)))
            }
            None => None,
        };
        Ok(Report {
            accepted: 0,
            duplicates: 0,
            rejected: 0,
            shown: Vec::new(),
            rejects,
            began: Instant::now(),
        })
    }

    /// Adds the answer to one batch.
    pub fn add(&mut self, lines: &[Line], answer: &Answer) -> Result<()> {
        self.accepted += answer.accepted;
        self.duplicates += answer.duplicates;
        self.rejected += answer.rejected.len() as u64;
        for refusal in &answer.rejected {
            let Some(line) = lines.get(refusal.index) else { continue };
            if self.shown.len() < SHOWN {
                self.shown.push(format!("{}:{}: {}", line.file.display(), line.number, refusal.reason));
            }
            if let Some((path, file)) = &mut self.rejects {
                let entry = json!({
                    "file": line.file.display().to_string(),
                    "line": line.number,
                    "id": refusal.id,
                    "reason": refusal.reason,
                    "signal": String::from_utf8_lossy(&line.text),
                });
                writeln!(file, "{entry}").map_err(|e| on_file("write", path, &e))?;
            }
        }
        Ok(())
    }

    /// Lines answered so far.
    pub fn total(&self) -> u64 {
        self.accepted + self.duplicates + self.rejected
    }

    /// Puts the file of rejects on disk.
    pub fn finish(&mut self) -> Result<()> {
        match &mut self.rejects {
            Some((path, file)) => file.flush().map_err(|e| on_file("write", path, &e)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.began.elapsed().as_secs_f64();
        write!(
            f,
            "{} accepted, {} duplicates, {} rejected in {seconds:.1} s ({} signals/s), all of them applied",
            HumanCount(self.accepted),
            HumanCount(self.duplicates),
            HumanCount(self.rejected),
            HumanCount((self.total() as f64 / seconds.max(1e-3)) as u64),
        )?;
        for line in &self.shown {
            write!(f, "\n  {line}")?;
        }
        let more = self.rejected.saturating_sub(self.shown.len() as u64);
        match &self.rejects {
            Some((path, _)) if self.rejected > 0 => write!(f, "\n  all of them: {}", path.display()),
            None if more > 0 => write!(f, "\n  and {more} more; `--rejects FILE` writes them all"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::target::Refusal;

    #[test]
    fn refusals_are_counted_shown_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejects");
        let line =
            |number| Line { file: Arc::from(Path::new("f")), number, text: format!("{{{number}").into() };
        let lines: Vec<Line> = (1..=9).map(line).collect();
        let refusal = |index| Refusal { index, id: None, reason: "no JSON".into() };
        let mut report = Report::new(Some(&path)).unwrap();
        let answer =
            Answer { accepted: 1, duplicates: 1, rejected: (2..9).map(refusal).collect(), position: None };
        report.add(&lines, &answer).unwrap();
        report.finish().unwrap();
        let text = report.to_string();
        assert_eq!(report.total(), 9);
        assert!(text.contains("f:3: no JSON") && !text.contains("f:9"), "{text}");
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 7);
        assert!(written.contains(r#""line":9"#) && written.contains(r#""signal":"{9""#), "{written}");
    }
}
