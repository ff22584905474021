//! What needs an Arroyo.

use std::time::Duration;

use ingest::log::fluvio::plain::PlainTopic;
use serde_json::json;
use stream_jobs::{
    JobError,
    arroyo::{
        client::{Client, How, Reach},
        deploy::{self, Outcome, Patience, Status},
        sql,
    },
};

use super::{pipelines, topic_prefix};
use crate::{
    config::Settings,
    error::{Error, Result},
};

pub(super) async fn deploy(settings: &Settings, names: &[String]) -> Result<()> {
    let client = client(settings)?;
    let chosen = pipelines(settings, names)?;
    let how = How {
        parallelism: settings.arroyo.parallelism,
        checkpoint_seconds: settings.arroyo.checkpoint_seconds,
    };
    for pipeline in &chosen.pipelines {
        if settings.log.url.starts_with("fluvio:") {
            // A sink of Arroyo does not make its topic.
            let topic = sql::tiles_topic(topic_prefix(settings), &pipeline.view);
            PlainTopic::open(&settings.log.url, &settings.log.fluvio(), &topic, keep(settings)).await?;
        }
        let outcome = deploy::deploy(&client, topic_prefix(settings), pipeline, &how, Patience::default());
        println!(
            "{:<24} {}",
            pipeline.view,
            match outcome.map_err(told)? {
                Outcome::Unchanged => "runs already".to_owned(),
                Outcome::Resumed => "goes on from its last checkpoint".to_owned(),
                Outcome::Created(before) if before.is_empty() => "runs".to_owned(),
                Outcome::Created(before) => format!("runs in place of {}", before.join(", ")),
            }
        );
    }
    chosen.tell_refusals(names)
}

/// How long the topics of tiles keep their records: as the topic of signals, or long enough to be taken.
pub(super) fn keep(settings: &Settings) -> Duration {
    Duration::from_secs(settings.retention.days.unwrap_or(7) * 86_400)
}

pub(super) fn status(settings: &Settings, as_json: bool) -> Result<()> {
    let all = deploy::status(&client(settings)?, topic_prefix(settings)).map_err(told)?;
    if all.is_empty() {
        eprintln!("no view runs in Arroyo; `kairos arroyo deploy` brings them there");
    }
    for Status { name, id, state, error, checkpoint } in all {
        let (epoch, at) = checkpoint.unzip();
        let at = at.and_then(|us| jiff::Timestamp::from_microsecond(us as i64).ok()).map(|t| t.to_string());
        if as_json {
            println!(
                "{}",
                json!({"name": name, "id": id, "state": state, "error": error,
                                  "checkpoint": epoch, "checkpoint_at": at})
            );
            continue;
        }
        let checkpoint = match (epoch, at) {
            (Some(epoch), Some(at)) => format!("checkpoint {epoch} of {at}"),
            _ => "no checkpoint yet".to_owned(),
        };
        println!("{name:<32} {state:<12} {checkpoint}");
        if let Some(error) = error {
            println!("  {}", error.replace('\n', "\n  "));
        }
    }
    Ok(())
}

pub(super) fn stop(settings: &Settings, names: &[String]) -> Result<()> {
    let client = client(settings)?;
    let stopped = deploy::stop(&client, topic_prefix(settings), names, Patience::default()).map_err(told)?;
    stopped.iter().for_each(|id| println!("stopped {id}"));
    if stopped.is_empty() {
        eprintln!("none of them ran");
    }
    Ok(())
}

pub(super) fn check(settings: &Settings) -> Result<String> {
    let client = client(settings)?;
    client.ping().map_err(told)?;
    let mut running = deploy::status(&client, topic_prefix(settings)).map_err(told)?;
    // Those that were replaced stand behind what replaced them.
    running.dedup_by(|a, b| a.name == b.name);
    let well = running.iter().filter(|s| s.state == "Running").count();
    Ok(format!("{}, {well} of {} pipelines run", client.url(), running.len()))
}

fn client(settings: &Settings) -> Result<Client> {
    let arroyo = &settings.arroyo;
    let Some(url) = &arroyo.url else {
        return Err(Error::Setting(
            "arroyo.url: there is no Arroyo; write its address, such as `http://arroyo:5115`".into(),
        ));
    };
    let reach = Reach::of(url).with_files(arroyo.key_file.as_deref(), arroyo.ca_file.as_deref());
    reach.and_then(Client::new).map_err(told)
}

pub(super) fn told(e: JobError) -> Error {
    match e {
        JobError::ArroyoAway(_) => Error::Unavailable(e.to_string()),
        e => Error::Setting(e.to_string()),
    }
}
