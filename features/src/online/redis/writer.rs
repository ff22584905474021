//! Writing: claims, rows, applied offsets. See [`scripts`](super::scripts) for what makes it safe.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use ingest::log::{Offset, Partition, Position};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value, cmd, pipe};

use super::{keys::Keys, link::Link, scripts};
use crate::error::FeatureError;

/// Rows in a script at most: Redis does nothing else meanwhile.
const ROWS: usize = 256;
/// Bytes of rows after which a script is full.
const BYTES: usize = 256 << 10;
/// Scripts sent before their answers are waited for.
const IN_FLIGHT: usize = 16;
/// Pause between looks at a claim that another process has.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What changes when rows are not read as before; a store of another format is filled anew.
const FORMAT: &str = "4";

/// A row on its way.
pub(super) struct Write {
    pub key: String,
    /// For how long it is kept, in milliseconds; 0 for good.
    pub ttl: i64,
    /// Its next offset and its bytes; `None` takes it out.
    pub row: Option<(Offset, Vec<u8>)>,
}

/// A partition this process writes.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    /// Number of the last write sent,
    issued: u64,
    /// and of the last one answered.
    answered: u64,
    /// What Redis says is applied; `None` while rows are missing.
    applied: Option<Offset>,
    /// How far this process has come, below what is applied while it replays.
    reached: Offset,
}

/// Writes partitions that it has claimed.
pub(super) struct Writer {
    pub link: Link,
    pub keys: Keys,
    token: String,
    lease: Duration,
    claims: Mutex<BTreeMap<Partition, Claim>>,
}

impl Writer {
    pub fn new(link: Link, keys: Keys, holder: &str, lease: Duration) -> Writer {
        // Two processes of one name are still two.
        let token = format!("{holder} {:016x}", ahash::RandomState::new().hash_one(holder));
        Writer { link, keys, token, lease, claims: Mutex::default() }
    }

    /// Claims partitions; see [`OnlineStore::claim`](crate::online::OnlineStore::claim).
    pub async fn claim(
        &self,
        state: &str,
        partitions: &[Partition],
        within: Duration,
    ) -> Result<Position, FeatureError> {
        let began = Instant::now();
        let mut whole = Position::default();
        for partition in partitions {
            let applied = loop {
                match self.try_claim(state, *partition).await? {
                    Ok(applied) => break applied,
                    Err(_) if began.elapsed() < within => tokio::time::sleep(LOOK_EVERY).await,
                    Err(holder) => return Err(self.fenced(*partition, &holder)),
                }
            };
            whole.0.extend(applied.map(|next| (*partition, next)));
        }
        Ok(whole)
    }

    /// What is applied, or who has the partition.
    async fn try_claim(
        &self,
        state: &str,
        partition: Partition,
    ) -> Result<Result<Option<Offset>, String>, FeatureError> {
        let before = self.claims.lock().get(&partition).copied().unwrap_or_default();
        let mut command = self.script(scripts::CLAIM, partition, &[]);
        command.arg(&self.token).arg(self.lease.as_millis() as u64).arg(format!("{FORMAT} {state}"));
        command.arg(before.issued);
        let answer = items(self.link.ask(&command).await?);
        let text = |i: usize| answer.get(i).map(text_of).unwrap_or_default();
        match answer.first() {
            Some(Value::Int(1)) => {}
            Some(Value::Int(-2)) => return Ok(Err(text(1))),
            _ => return Err(self.unexpected(&answer)),
        }
        let number = text(1).parse().map_err(|_| self.unexpected(&answer))?;
        let applied = text(2).parse().ok();
        let claim = Claim { issued: number, answered: number, applied, reached: before.reached };
        self.claims.lock().insert(partition, claim);
        Ok(Ok(applied))
    }

    /// Puts rows of claimed partitions, in their order.
    pub async fn put(&self, rows: BTreeMap<Partition, Vec<Write>>) -> Result<(), FeatureError> {
        try_join_all(rows.into_iter().map(|(partition, rows)| self.put_in(partition, rows))).await?;
        Ok(())
    }

    async fn put_in(&self, partition: Partition, mut rows: Vec<Write>) -> Result<(), FeatureError> {
        let claim = self.claimed(partition)?;
        let applied = claim.applied.unwrap_or(0);
        // While it replays, a row without events may be one that is to come again; it reads the same.
        rows.retain(|w| w.row.is_some() || claim.reached >= applied);
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut scripts = Vec::new();
            while scripts.len() < IN_FLIGHT && rows.peek().is_some() {
                let (mut some, mut bytes) = (Vec::new(), 0);
                while some.len() < ROWS && bytes < BYTES {
                    let Some(write) = rows.next() else { break };
                    bytes += write.row.as_ref().map_or(0, |(_, b)| b.len());
                    some.push(write);
                }
                scripts.push(some);
            }
            self.send(partition, scripts, applied, "").await?;
        }
        Ok(())
    }

    /// Tells how far the rows are.
    pub async fn advance(&self, position: &Position) -> Result<(), FeatureError> {
        try_join_all(position.0.iter().map(|(partition, next)| self.advance_in(*partition, *next))).await?;
        Ok(())
    }

    async fn advance_in(&self, partition: Partition, next: Offset) -> Result<(), FeatureError> {
        // During a replay the rows are further already.
        if self.claimed(partition)?.applied.is_none_or(|applied| applied < next) {
            self.send(partition, vec![Vec::new()], 0, &next.to_string()).await?;
            self.change(partition, |c| c.applied = Some(next));
        }
        self.change(partition, |c| c.reached = next);
        Ok(())
    }

    /// Takes everything out of claimed partitions.
    pub async fn clear(&self, partitions: &[Partition]) -> Result<(), FeatureError> {
        for partition in partitions {
            self.send(*partition, vec![Vec::new()], 0, "-").await?;
            self.change(*partition, |c| (c.applied, c.reached) = (None, 0));
        }
        if partitions.is_empty() {
            return Ok(());
        }
        let one = (partitions.len() == 1).then(|| partitions[0]);
        let pattern = self.keys.pattern(one, None, None);
        super::scan::unlink(&self.link, &self.keys, pattern, Some(partitions), None).await
    }

    /// Keeps the claims of a writer while it is there.
    pub async fn keep_claims(this: Weak<Writer>, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            let Some(writer) = this.upgrade() else { return };
            let partitions: Vec<Partition> = writer.claims.lock().keys().copied().collect();
            for partition in partitions {
                let mut command = writer.script(scripts::RENEW, partition, &[]);
                command.arg(&writer.token).arg(writer.lease.as_millis() as u64);
                // The next write tells what is wrong to whoever can do something about it.
                let _ = writer.link.ask(&command).await;
            }
        }
    }

    /// Lets every claim go.
    pub async fn release(&self) {
        let claims = std::mem::take(&mut *self.claims.lock());
        for partition in claims.into_keys() {
            let mut command = self.script(scripts::RELEASE, partition, &[]);
            command.arg(&self.token);
            if let Err(e) = self.link.ask(&command).await {
                tracing::warn!(error = %e, partition, "a claim was not let go; it ends with its lease");
                return;
            }
        }
    }

    /// Sends scripts one behind the other and takes in what they answer.
    async fn send(
        &self,
        partition: Partition,
        scripts: Vec<Vec<Write>>,
        applied: Offset,
        then: &str,
    ) -> Result<(), FeatureError> {
        let claim = self.claimed(partition)?;
        let mut number = claim.issued;
        let mut commands: Pipeline = pipe();
        for rows in scripts {
            number += 1;
            let keys: Vec<&str> = rows.iter().map(|w| w.key.as_str()).collect();
            let mut command = self.script(scripts::WRITE, partition, &keys);
            command.arg(&self.token).arg(self.lease.as_millis() as u64);
            command.arg(number).arg(claim.answered).arg(then);
            for write in &rows {
                match &write.row {
                    None => command.arg("D").arg(""),
                    Some((next, bytes)) => {
                        let what = if *next <= applied { 'C' } else { 'S' };
                        command.arg(format!("{what}{}", write.ttl)).arg(&bytes[..])
                    }
                };
            }
            commands.add_command(command);
        }
        self.change(partition, |c| c.issued = number);
        for answer in self.link.ask_all(&commands).await? {
            let answer = items(answer);
            match answer.first() {
                // 0: it was asked twice, and done the first time.
                Some(Value::Int(0 | 1)) => {}
                Some(Value::Int(-1)) => {
                    return Err(FeatureError::Lost(format!(
                        "Redis at {} has lost rows of partition {partition}",
                        self.link.target.shown
                    )));
                }
                Some(Value::Int(-2)) => {
                    let holder = answer.get(1).map(text_of).unwrap_or_default();
                    return Err(self.fenced(partition, &holder));
                }
                _ => return Err(self.unexpected(&answer)),
            }
        }
        self.change(partition, |c| c.answered = number);
        Ok(())
    }

    /// A script on the keys of a partition: owner, store, applied, and these.
    fn script(&self, code: &str, partition: Partition, keys: &[&str]) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(code).arg(3 + keys.len());
        command.arg(self.keys.owner(partition)).arg(self.keys.store(partition));
        command.arg(self.keys.applied(partition)).arg(keys);
        command
    }

    fn claimed(&self, partition: Partition) -> Result<Claim, FeatureError> {
        self.claims.lock().get(&partition).copied().ok_or_else(|| {
            FeatureError::Lost(format!("partition {partition} was not claimed, or was let go"))
        })
    }

    fn change(&self, partition: Partition, change: impl FnOnce(&mut Claim)) {
        self.claims.lock().get_mut(&partition).map(change).unwrap_or_default();
    }

    fn fenced(&self, partition: Partition, holder: &str) -> FeatureError {
        // The token is the holder's name and a number.
        let name = holder.rsplit_once(' ').map_or(holder, |(name, _)| name);
        FeatureError::Fenced(format!(
            "partition {partition} is written by {name}; stop that process, or give each its own partitions"
        ))
    }

    fn unexpected(&self, answer: &[Value]) -> FeatureError {
        FeatureError::Damaged(format!(
            "Redis at {} answered {answer:?} to a script of Kairos; is it a Redis 7 or newer?",
            self.link.target.shown
        ))
    }
}

/// Shares a writer with the task that keeps its claims.
pub(super) fn start(writer: Writer, runtime: &tokio::runtime::Handle) -> Arc<Writer> {
    let pause = writer.lease / 4;
    let writer = Arc::new(writer);
    runtime.spawn(Writer::keep_claims(Arc::downgrade(&writer), pause));
    writer
}

pub(super) fn items(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        other => vec![other],
    }
}

pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}
