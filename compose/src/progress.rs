//! Progress on stderr: a bar on a terminal, a plain line now and then otherwise.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// Progress by bytes of input, with a count of items beside it.
pub struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    /// What the items are.
    what: &'static str,
    total: Option<u64>,
    /// The total is of items, not of bytes.
    by_items: bool,
    began: Instant,
    last_line: Instant,
}

impl Progress {
    /// `total` bytes to come, where that is known.
    pub fn bytes(label: &'static str, total: Option<u64>) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            let template = match total {
                Some(_) => "{prefix} [{wide_bar}] {bytes}/{total_bytes}, {msg}, {eta} left",
                None => "{prefix} {spinner} {bytes}, {msg}",
            };
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(label);
            bar
        });
        let now = Instant::now();
        Progress { bar, label, what: "signals", total, by_items: false, began: now, last_line: now }
    }

    /// Only items are counted, of which `total` are to come.
    pub fn items(label: &'static str, total: u64) -> Progress {
        let shown = Progress::bytes(label, Some(total));
        if let Some(bar) = &shown.bar {
            let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {msg}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        }
        Progress { by_items: true, ..shown }
    }

    /// Items called so, and not signals.
    pub fn of(self, what: &'static str) -> Progress {
        Progress { what, ..self }
    }

    /// Shows where things stand.
    pub fn at(&mut self, bytes: u64, items: u64) {
        let rate = items as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        let so_far = format!("{} {}, {}/s", HumanCount(items), self.what, HumanCount(rate as u64));
        match &self.bar {
            Some(bar) => {
                bar.set_position(bytes);
                bar.set_message(so_far);
            }
            None if self.last_line.elapsed() >= BETWEEN_LINES => {
                self.last_line = Instant::now();
                match self.total {
                    Some(total) => {
                        let percent = bytes as f64 * 100.0 / total.max(1) as f64;
                        let total = HumanBytes(total).to_string();
                        let of = if self.by_items { String::new() } else { format!(" of {total}") };
                        eprintln!("{}: {percent:.0} %{of}, {so_far}", self.label);
                    }
                    None => eprintln!("{}: {}, {so_far}", self.label, HumanBytes(bytes)),
                }
            }
            None => {}
        }
    }

    /// Takes the bar away; what follows stands on lines of its own.
    pub fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
