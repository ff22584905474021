//! What dashboards read: `signals`, the envelope of every signal, and counts a minute.
//!
//! | table | a row for each |
//! |---|---|
//! | `signals` | signal, of whatever type (a view over the tables of types) |
//! | `signals_per_minute` | minute of arrival and type: `signals`, and `late`, those that came over a minute late |
//! | `impressions_per_minute` | minute, tip, policy and channel: `impressions` |
//! | `reactions_per_minute` | minute, tip, reaction and channel: `reactions` |
//!
//! Counts are sums over rows (`SELECT minute, sum(signals) … GROUP BY minute`): the server adds them up when it
//! merges. They hold nothing of a person and are not changed when one is erased.

use super::{
    HistoryError, Inner,
    sql::{literal, quoted},
    tables::STORAGE,
};
use crate::offline::Declared;

/// Counts of one kind.
struct Count {
    name: &'static str,
    /// Columns of the key beyond `minute`, as they are declared.
    key: &'static [&'static str],
    sums: &'static [&'static str],
}

const SIGNALS: Count = Count { name: "signals_per_minute", key: &["type"], sums: &["signals", "late"] };
const IMPRESSIONS: Count =
    Count { name: "impressions_per_minute", key: &["tip", "policy", "channel"], sums: &["impressions"] };
const REACTIONS: Count =
    Count { name: "reactions_per_minute", key: &["tip", "reaction", "channel"], sums: &["reactions"] };

/// Tables that later parts of the system write; analysts may write their queries now.
const TO_COME: [(&str, &[&str]); 2] = [
    (
        "deliveries",
        &[
            "impression String",
            "tip LowCardinality(String)",
            "channel LowCardinality(String)",
            "outcome LowCardinality(String)",
            "attempts UInt32",
        ],
    ),
    (
        "llm_calls",
        &[
            "purpose LowCardinality(String)",
            "model LowCardinality(String)",
            "prompt_tokens UInt64",
            "completion_tokens UInt64",
            "milliseconds UInt64",
            "outcome LowCardinality(String)",
        ],
    ),
];

/// Makes the tables, and what stands over those of signals.
pub(super) fn ensure(inner: &Inner, tables: &[Declared]) -> Result<(), HistoryError> {
    for declared in tables {
        inner.tables.fit(&declared.table, &declared.schema)?;
        inner.tables.keep_for(&declared.table)?;
    }
    let server = &inner.server;
    for (name, columns) in TO_COME {
        let columns: String = columns.iter().map(|c| format!(", {c}")).collect();
        server.execute(format!(
            "CREATE TABLE IF NOT EXISTS {name} (id String, source LowCardinality(String), subject String, \
             time DateTime64(3, 'UTC'){columns}) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(time) \
             ORDER BY (subject, time, source, id) SETTINGS {STORAGE}"
        ))?;
    }
    for count in [SIGNALS, IMPRESSIONS, REACTIONS] {
        let keys: String = count.key.iter().map(|k| format!(", {k} LowCardinality(String)")).collect();
        let sums: String = count.sums.iter().map(|s| format!(", {s} UInt64")).collect();
        server.execute(format!(
            "CREATE TABLE IF NOT EXISTS {} (minute DateTime('UTC'){keys}{sums}) ENGINE = SummingMergeTree \
             PARTITION BY toYYYYMM(minute) ORDER BY ({}, minute) SETTINGS {STORAGE}",
            count.name,
            count.key.join(", "),
        ))?;
    }
    let of_signals = || tables.iter().filter_map(|d| Some((d, d.signal.as_deref()?)));
    for (declared, kind) in of_signals() {
        let select = format!(
            "toStartOfMinute(toDateTime(received_at, 'UTC')) AS minute, {} AS type, count() AS signals, \
             countIf(received_at > time + toIntervalMinute(1)) AS late",
            literal(kind)
        );
        count(inner, &SIGNALS, &declared.table, &select, "minute")?;
        let text = |c: &str| format!("ifNull({c}, '') AS {c}");
        let minute = "toStartOfMinute(toDateTime(time, 'UTC')) AS minute";
        let of = |c: &Count| -> Vec<String> { c.key.iter().map(|k| text(k)).collect() };
        let own = match kind {
            "impression" => Some((&IMPRESSIONS, "impressions")),
            "reaction" => Some((&REACTIONS, "reactions")),
            _ => None,
        };
        if let Some((kind, sum)) = own {
            let select = format!("{minute}, {}, count() AS {sum}", of(kind).join(", "));
            count(inner, kind, &declared.table, &select, &format!("minute, {}", kind.key.join(", ")))?;
        }
    }
    let each: Vec<String> = of_signals()
        .map(|(declared, kind)| {
            format!(
                "SELECT {} AS type, id, source, subject, time, received_at, partition, offset FROM {} FINAL",
                literal(kind),
                quoted(&declared.table)
            )
        })
        .collect();
    if each.is_empty() {
        return Ok(());
    }
    server.execute(format!("CREATE OR REPLACE VIEW signals AS {}", each.join(" UNION ALL ")))
}

fn count(inner: &Inner, to: &Count, table: &str, select: &str, group: &str) -> Result<(), HistoryError> {
    let name = format!("{}__{table}", to.name);
    inner.server.execute(format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {} TO {} AS SELECT {select} FROM {} GROUP BY {group}",
        quoted(&name),
        to.name,
        quoted(table),
    ))
}
