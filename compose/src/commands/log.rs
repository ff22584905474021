//! `kairos log copy`: from one machine's log to the one configured.

use std::path::PathBuf;

use clap::Subcommand;
use ingest::log::{Append, Appended, Log, LogOptions, Position, Topic};

use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts::Core,
    progress::Progress,
};

/// Signals of one append.
const BATCH: usize = 1_000;

/// The log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Append every signal, impression and reaction of an embedded log to the log configured. Values, history,
    /// rewards and policies are made again from them by the roles there. May be run again: nothing is doubled
    Copy {
        /// Data directory of the embedded log, with no server on it
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
}

/// Runs the command.
pub async fn run(settings: &Settings, command: LogCommand) -> Result<()> {
    let LogCommand::Copy { from } = command;
    if settings.log.url.starts_with("embedded:") && same(&from, &settings.data.dir) {
        return Err(Error::Input(format!(
            "`{}` is the log configured; name the one to copy to in log.url, such as `fluvio://127.0.0.1:9003`",
            from.display()
        )));
    }
    if !from.join("log").is_dir() {
        return Err(Error::Input(format!("--from: there is no log in `{}`", from.display())));
    }
    let source = ingest::log::open("embedded:", &from, LogOptions::default())?;
    let target = Core::open(settings, clock::system())?.log;
    let (copied, known) = copy(&*source, &*target).await?;
    println!("{copied} records copied, {known} were there already");
    Ok(())
}

fn same(a: &std::path::Path, b: &std::path::Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

async fn copy(source: &dyn Log, target: &dyn Log) -> Result<(u64, u64)> {
    let partitions: Vec<u32> = (0..source.partitions(Topic::Signals)).collect();
    let end = source.end(Topic::Signals);
    let mut reader = source.reader(Topic::Signals, &partitions, &Position::default())?;
    let mut bar = Progress::items("copying", end.0.values().sum()).of("records");
    let (mut copied, mut known) = (0, 0);
    loop {
        let records = reader.poll(BATCH)?;
        if records.is_empty() {
            break;
        }
        let batch = records
            .into_iter()
            .map(|r| Append { subject: r.subject.to_string(), key: r.key, payload: r.payload })
            .collect();
        for outcome in target.append(Topic::Signals, batch).await? {
            match outcome {
                Appended::At(..) => copied += 1,
                Appended::Duplicate => known += 1,
            }
        }
        bar.at(0, copied + known);
    }
    bar.done();
    Ok((copied, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_is_copied_once_and_in_the_order_of_each_person() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source = ingest::log::open("embedded:", a.path(), LogOptions::default()).unwrap();
        let options = LogOptions { partitions: 3, ..LogOptions::default() };
        let target = ingest::log::open("embedded:", b.path(), options).unwrap();
        for i in 0..2_500u128 {
            let record = Append {
                subject: format!("user-{}", i % 7),
                key: i + 1,
                payload: i.to_string().into_bytes().into(),
            };
            source.append(Topic::Signals, vec![record]).await.unwrap();
        }
        assert_eq!(copy(&*source, &*target).await.unwrap(), (2_500, 0));
        assert_eq!(copy(&*source, &*target).await.unwrap(), (0, 2_500), "again changes nothing");
        let mut reader = target.reader(Topic::Signals, &[0, 1, 2], &Position::default()).unwrap();
        let read = reader.poll(usize::MAX).unwrap();
        assert_eq!(read.len(), 2_500);
        for user in 0..7 {
            let name = format!("user-{user}");
            let own = read.iter().filter(|r| *r.subject == *name);
            let numbers: Vec<u64> =
                own.map(|r| std::str::from_utf8(&r.payload).unwrap().parse().unwrap()).collect();
            assert!(numbers.is_sorted() && numbers.len() > 300, "{name}");
        }
    }
}
