//! `kairos replay`: signals from files, through the same door as any other.

mod report;
mod source;
mod target;

use std::path::PathBuf;

use clap::Args;
use tokio::sync::mpsc;

use crate::{
    config::Settings,
    error::{Error, Result},
    progress::Progress,
};
use report::Report;
use source::Input;
use target::{Server, Target};

/// What to replay, and where to.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Files of one JSON signal a line, plain or compressed with gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A running server to post to, such as http://127.0.0.1:8080, instead of the data directory
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File that gets every refused line with its reason
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Signals sent at once
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
}

/// Batches read ahead of the one being sent.
const AHEAD: usize = 2;

/// Replays and waits until every signal is in the features.
pub async fn run(settings: &Settings, args: ReplayArgs) -> Result<()> {
    let input = Input::open(&args.files)?;
    let mut report = Report::new(args.rejects.as_deref())?;
    let mut target = match &args.url {
        Some(url) => Target::Server(Box::new(Server::new(url)?)),
        None => Target::data_directory(settings)?,
    };
    let sent = send_all(input, args.batch as usize, &mut target, &mut report).await;
    let applied = match &sent {
        Ok(()) => target.wait_until_applied().await,
        Err(_) => Ok(()),
    };
    target.close().await?;
    report.finish()?;
    sent?;
    applied?;
    println!("{report}");
    Ok(())
}

async fn send_all(input: Input, batch: usize, target: &mut Target, report: &mut Report) -> Result<()> {
    let mut progress = Progress::bytes("replay", input.total_bytes);
    let bytes_read = input.bytes_read.clone();
    let (batches, mut received) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking(move || input.read_batches(batch, &batches));
    while let Some(lines) = received.recv().await {
        let answer = target.send(&lines).await?;
        report.add(&lines, &answer)?;
        progress.at(bytes_read.load(std::sync::atomic::Ordering::Relaxed), report.total());
    }
    progress.done();
    reader.await.map_err(|e| Error::Broken(format!("the reader of the files stopped: {e}")))?
}
