//! `kairos bandit --stdio`.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use scorer::bandit::{Limits, Session};

use super::Which;
use crate::error::{Error, Result};

/// Longest line that is read. A thousand actions with a hundred features each take about two megabytes.
const MOST_LINE_BYTES: usize = 16 << 20;
/// Lines read and answers written at once, where they come in bulk.
const BUFFER: usize = 1 << 16;

/// Answers until the input ends.
pub fn serve(which: &Which, rounds: usize) -> Result<()> {
    let limits = Limits { rounds, ..Limits::default() };
    let mut session = Session::new(&which.config(), which.seed, limits);
    let input = BufReader::with_capacity(BUFFER, io::stdin().lock());
    let output = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    answer(&mut session, input, output)
        .map_err(|e| Error::Unavailable(format!("standard input or output failed: {e}")))?;
    if session.dropped() > 0 {
        eprintln!("{} rounds were forgotten before their reward came; see --rounds", session.dropped());
    }
    Ok(())
}

fn answer<R: Read>(session: &mut Session, mut input: BufReader<R>, mut output: impl Write) -> io::Result<()> {
    let (mut line, mut out) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        out.clear();
        if (&mut input).take(MOST_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        if line.len() > MOST_LINE_BYTES && line.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            let error = format!("the line is longer than {MOST_LINE_BYTES} bytes; it was passed over");
            serde_json::to_writer(&mut out, &serde_json::json!({"error": error}))?;
            out.push(b'\n');
        } else {
            session.line(&line, &mut out);
        }
        output.write_all(&out)?;
        // Whoever waits gets the answer at once; lines that are here already are answered together.
        if !input.buffer().contains(&b'\n') {
            output.flush()?;
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let here = input.fill_buf()?;
        let (end, length) = match here.iter().position(|b| *b == b'\n') {
            Some(at) => (true, at + 1),
            None => (here.is_empty(), here.len()),
        };
        input.consume(length);
        if end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use scorer::policy::PolicyConfig;

    use super::*;

    #[test]
    fn a_line_too_long_is_passed_over_and_the_next_is_answered() {
        let mut input = vec![b'x'; MOST_LINE_BYTES + 10];
        input.extend_from_slice(b"\n\n{\"round\":1,\"actions\":[{\"id\":1}]}\n");
        // The last line needs no end.
        input.extend_from_slice(b"{\"round\":2,\"actions\":[{\"id\":2}]}");
        let mut session = Session::new(&PolicyConfig::default(), 0, Limits::default());
        let mut output = Vec::new();
        answer(&mut session, BufReader::new(&input[..]), &mut output).unwrap();
        let lines: Vec<&str> = std::str::from_utf8(&output).unwrap().lines().collect();
        assert!(lines[0].contains("longer than 16777216 bytes"), "{lines:?}");
        assert!(lines[1].starts_with("{\"round\":1,\"action\":1,"), "{lines:?}");
        assert!(lines[2].starts_with("{\"round\":2,\"action\":2,"), "{lines:?}");
        assert_eq!(lines.len(), 3);
    }
}
