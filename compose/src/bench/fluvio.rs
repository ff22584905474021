//! The log on Fluvio beside the client's own producer and consumer on the same records, and the embedded log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::fluvio::{
    Compression, Fluvio, FluvioClusterConfig, Isolation, Offset, TopicProducerConfigBuilder,
    consumer::ConsumerConfigExt, metadata::topic::TopicSpec,
};
use ::ingest::{
    admit::envelope::Envelope,
    catalogue::UnknownFields,
    event,
    log::{self, Append, FluvioOptions, Log, LogOptions, Position, Topic},
    record::Record,
};
use futures::{StreamExt, future::join_all};

use super::{
    figures::{Bound, Figure, median},
    subject::{Directory, signal},
};
use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Records of one call, all durable when it answers.
const BATCH: usize = 500;
/// Callers at once.
const CALLERS: usize = 8;
/// Runs of each side, taken in turns so that both see the same machine.
const ROUNDS: usize = 3;
/// Batches of one run.
const BATCHES: usize = 200;
/// So much that no answer to the client's consumer ends within a batch.
const FETCH_BYTES: i32 = 256 << 20;
/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Needs `log.url` to name a cluster; its topics are gone afterwards.
pub async fn measure(settings: &Settings) -> Result<Vec<Figure>> {
    let Some(address) = settings.log.url.strip_prefix("fluvio://") else {
        return Err(Error::Setting(
            "log.url: name the cluster to measure on, as `fluvio://host:port`".into(),
        ));
    };
    let prefix = format!("bench-{}", clock::now());
    let bench = Bench::start(settings, address, &prefix).await?;
    let figures = bench.run().await;
    bench.clean(&prefix).await?;
    figures
}

struct Bench {
    client: Fluvio,
    ours: Arc<dyn Log>,
    embedded: Arc<dyn Log>,
    raw: String,
    /// By run and call.
    records: Vec<Vec<Vec<Append>>>,
    /// The same as events.
    events: Vec<Vec<Vec<(String, Vec<u8>)>>>,
    _dir: Directory,
}

impl Bench {
    async fn start(settings: &Settings, address: &str, prefix: &str) -> Result<Bench> {
        let catalogue = Arc::new(parts::catalogue(settings)?);
        let dir = Directory::new("fluvio")?;
        let options = LogOptions {
            partitions: settings.log.partitions,
            catalogue: Some(catalogue.clone()),
            clock: Some(clock::system()),
            fluvio: FluvioOptions { topic_prefix: prefix.to_owned(), ..settings.log.fluvio() },
            ..LogOptions::default()
        };
        let (url, path, given) = (settings.log.url.clone(), dir.0.clone(), options.clone());
        let opened = tokio::task::spawn_blocking(move || {
            Ok::<_, log::LogError>((
                log::open(&url, &path, given.clone())?,
                log::open("embedded:", &path, given)?,
            ))
        });
        let (ours, embedded) = opened.await.map_err(|e| Error::Broken(e.to_string()))??;
        let client = Fluvio::connect_with_config(&FluvioClusterConfig::new(address)).await.map_err(away)?;
        let raw = format!("{prefix}-raw");
        let spec = TopicSpec::new_computed(options.partitions, 1, None);
        client.admin().await.create(raw.clone(), false, spec).await.map_err(away)?;
        let declared = catalogue.get("task.completed");
        let declared = declared.ok_or_else(|| Error::Broken("no type `task.completed`".into()))?;
        let now = clock::now();
        let record = |number: usize| -> Result<Append> {
            let json = signal(number as u64, &format!("person-{}", number % 1_000));
            let wrong = |e: String| Error::Broken(format!("a signal of the bench: {e}"));
            let envelope = Envelope::parse(&json).map_err(|e| wrong(e.to_string()))?;
            let data = envelope.data.as_deref().ok_or_else(|| wrong("no data".into()))?;
            let data = declared.encode_json(data, UnknownFields::Reject).map_err(|e| wrong(e.to_string()))?;
            let record = Record {
                kind: declared.name.clone(),
                id: envelope.id.into_owned(),
                source: envelope.source.into_owned(),
                subject: envelope.subject.into_owned(),
                time: now,
                received_at: now,
                data: data.into(),
                extensions: Vec::new(),
            };
            let (key, payload) = (record.key(), record.encode());
            Ok(Append { subject: record.subject, key, payload })
        };
        let call = |run: usize, call: usize| -> Result<Vec<Append>> {
            (0..BATCH).map(|i| record((run * BATCHES + call) * BATCH + i)).collect()
        };
        let run = |run: usize| -> Result<Vec<Vec<Append>>> { (0..BATCHES).map(|c| call(run, c)).collect() };
        let records: Vec<Vec<Vec<Append>>> = (0..ROUNDS).map(run).collect::<Result<_>>()?;
        let event = |r: &Append| (r.subject.clone(), event::encode(&catalogue, Topic::Signals, r));
        let events = records.iter().map(|run| run.iter().map(|c| c.iter().map(event).collect()).collect());
        let events = events.collect();
        Ok(Bench { client, ours, embedded, raw, records, events, _dir: dir })
    }

    async fn run(&self) -> Result<Vec<Figure>> {
        let (mut ours, mut raw, mut embedded) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            raw.push(self.produce_raw(round).await?);
            ours.push(produce(&self.ours, &self.records[round]).await?);
            embedded.push(produce(&self.embedded, &self.records[round]).await?);
        }
        let (mut read_ours, mut read_raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            read_raw.push(within(self.consume_raw()).await?);
            read_ours.push(within(consume(&*self.ours)).await?);
        }
        let read_embedded = within(consume(&*self.embedded)).await?;
        Ok(vec![
            Figure::alone("log on Fluvio, batches of 500, durable", median(ours), "records/s")
                .beside("the client's producer, flushed once", median(raw))
                .hold(Bound::AtLeast(0.5)),
            Figure::alone("embedded log, batches of 500, durable", median(embedded), "records/s"),
            Figure::alone("log on Fluvio, read and decoded", median(read_ours), "records/s")
                .beside("the client's consumer, not decoded", median(read_raw))
                .hold(Bound::AtLeast(0.5)),
            Figure::alone("embedded log, read", read_embedded, "records/s"),
        ])
    }

    async fn produce_raw(&self, round: usize) -> Result<f64> {
        let config = TopicProducerConfigBuilder::default()
            .batch_size(256 << 10)
            .compression(Compression::Lz4)
            .isolation(Isolation::ReadCommitted)
            .build()
            .map_err(away)?;
        let producer =
            self.client.topic_producer_with_config(self.raw.clone(), config).await.map_err(away)?;
        let calls = self.events[round].clone();
        let started = Instant::now();
        for call in calls {
            producer.send_all(call).await.map_err(away)?;
        }
        producer.flush().await.map_err(away)?;
        Ok((BATCHES * BATCH) as f64 / started.elapsed().as_secs_f64())
    }

    async fn consume_raw(&self) -> Result<f64> {
        let config = ConsumerConfigExt::builder()
            .topic(self.raw.clone())
            .offset_start(Offset::beginning())
            .isolation(Isolation::ReadCommitted)
            // The client fails on a compressed batch that an answer cuts off, and waits before it tries again.
            .max_bytes(FETCH_BYTES)
            .build()
            .map_err(away)?;
        let started = Instant::now();
        let mut records = self.client.consumer_with_config(config).await.map_err(away)?;
        for _ in 0..ROUNDS * BATCHES * BATCH {
            records.next().await.ok_or_else(|| away("the stream ended"))?.map_err(away)?;
        }
        Ok((ROUNDS * BATCHES * BATCH) as f64 / started.elapsed().as_secs_f64())
    }

    async fn clean(&self, prefix: &str) -> Result<()> {
        let admin = self.client.admin().await;
        for topic in admin.all::<TopicSpec>().await.map_err(away)? {
            if topic.name.starts_with(prefix) {
                admin.delete::<TopicSpec>(topic.name).await.map_err(away)?;
            }
        }
        Ok(())
    }
}

async fn produce(log: &Arc<dyn Log>, calls: &[Vec<Append>]) -> Result<f64> {
    let calls = calls.to_vec();
    let share = calls.len().div_ceil(CALLERS);
    let started = Instant::now();
    let callers = calls.chunks(share).map(|calls| {
        let (log, calls) = (log.clone(), calls.to_vec());
        tokio::spawn(async move {
            for call in calls {
                log.append(Topic::Signals, call).await?;
            }
            Ok::<_, log::LogError>(())
        })
    });
    for caller in join_all(callers.collect::<Vec<_>>()).await {
        caller.map_err(|e| Error::Broken(e.to_string()))??;
    }
    Ok((BATCHES * BATCH) as f64 / started.elapsed().as_secs_f64())
}

async fn consume(log: &dyn Log) -> Result<f64> {
    let partitions: Vec<u32> = (0..log.partitions(Topic::Signals)).collect();
    let started = Instant::now();
    let mut reader = log.reader(Topic::Signals, &partitions, &Position::default())?;
    let mut left = ROUNDS * BATCHES * BATCH;
    while left > 0 {
        left = left.saturating_sub(reader.next(8_192).await?.len());
    }
    Ok((ROUNDS * BATCHES * BATCH) as f64 / started.elapsed().as_secs_f64())
}

async fn within(run: impl Future<Output = Result<f64>>) -> Result<f64> {
    tokio::time::timeout(PATIENCE, run).await.map_err(|_| away("a run took too long"))?
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("the bench on Fluvio: {error}"))
}
