//! A record of the log as a CloudEvents 1.0 object in JSON, where other programs read and write the log too.
//!
//! A signal stands there as it is declared:
//!
//! ```json
//! {"specversion":"1.0","id":"7","source":"app","type":"task.completed","subject":"ada",
//!  "time":"2026-01-31T12:00:00Z","datacontenttype":"application/json",
//!  "receivedat":"2026-01-31T12:00:00.25Z","data":{"minutes":25}}
//! ```
//!
//! Everything else (rewards, policies, what no type declares) is bytes in `data_base64`. Attributes of ours:
//!
//! | attribute | what |
//! |---|---|
//! | `receivedat` | when the signal came in |
//! | `kairoskey` | the idempotency key in hex, where it does not follow from `source` and `id` |
//! | `kairosdata` | the stored bytes of `data` in base64, where its JSON does not lead back to them exactly |
//!
//! What is written is read back to the same bytes; what others write is a signal if it is a valid one.

mod attributes;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;

use self::attributes::Attributes;
use crate::{
    Millis,
    admit::{envelope::check_extension_name, time},
    catalogue::{Catalogue, UnknownFields},
    log::{Append, Topic},
    record::{Record, idempotency_key},
};

/// What an event of this process that is no signal says of its source.
const OWN_SOURCE: &str = "kairos/log";
/// Times that RFC 3339 can write: the years 0 to 9999.
const WRITABLE: std::ops::RangeInclusive<Millis> = -62_167_219_200_000..=253_402_300_799_999;

/// A record read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whom it is about.
    pub subject: String,
    /// Idempotency key; 0 for none.
    pub key: u128,
    /// The record, as it was appended.
    pub payload: Bytes,
}

/// Why an object on the log is no record; a program that is not Kairos wrote it so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoRecord(String);

/// Writes a record. `catalogue` knows the types whose signals others shall be able to read.
pub fn encode(catalogue: &Catalogue, topic: Topic, record: &Append) -> Vec<u8> {
    if topic == Topic::Signals
        && let Ok(signal) = Record::decode(&record.subject, &record.payload)
    {
        let mut out = Vec::with_capacity(320 + 2 * record.payload.len());
        if write_signal(catalogue, &signal, record, &mut out).is_some() {
            return out;
        }
    }
    encode_bytes(topic.name(), record)
}

/// Writes a record whose payload is nobody else's business, of the type `kairos.<name>`.
pub fn encode_bytes(name: &str, record: &Append) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + 2 * record.payload.len());
    let id = match record.key {
        // Without a key nothing tells two records with the same content apart.
        0 => format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&record.payload)),
        key => format!("{key:032x}"),
    };
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    text("id", &id, &mut out);
    text("source", OWN_SOURCE, &mut out);
    text("type", &format!("kairos.{name}"), &mut out);
    text("subject", &record.subject, &mut out);
    text("datacontenttype", "application/octet-stream", &mut out);
    text("kairoskey", &format!("{:x}", record.key), &mut out);
    text("data_base64", &STANDARD.encode(&record.payload), &mut out);
    out.push(b'}');
    out
}

/// Writes a signal so that it reads back the same; nothing if that cannot be.
fn write_signal(catalogue: &Catalogue, signal: &Record, record: &Append, out: &mut Vec<u8>) -> Option<()> {
    let declared = catalogue.get(&signal.kind).filter(|declared| declared.name == signal.kind)?;
    let fits = WRITABLE.contains(&signal.time)
        && WRITABLE.contains(&signal.received_at)
        && writable(&signal.extensions)
        && signal.encode() == record.payload;
    if !fits {
        return None;
    }
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    text("id", &signal.id, out);
    text("source", &signal.source, out);
    text("type", &signal.kind, out);
    text("subject", &signal.subject, out);
    text("time", &time::show(signal.time), out);
    text("datacontenttype", "application/json", out);
    text("receivedat", &time::show(signal.received_at), out);
    if signal.key() != record.key {
        text("kairoskey", &format!("{:x}", record.key), out);
    }
    for (name, value) in &signal.extensions {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(br#","data":"#);
    let start = out.len();
    declared.write_json(&signal.data, out).ok()?;
    let json: &RawValue = serde_json::from_slice(&out[start..]).ok()?;
    if declared.encode_json(json, UnknownFields::Ignore).ok().as_deref() != Some(&*signal.data) {
        text("kairosdata", &STANDARD.encode(&signal.data), out);
    }
    out.push(b'}');
    Some(())
}

/// Whether the extension attributes can stand beside ours and read back the same.
fn writable(extensions: &[(String, String)]) -> bool {
    extensions.iter().enumerate().all(|(i, (name, value))| {
        let plain = serde_json::from_str::<&RawValue>(value).is_ok_and(|raw| raw.get() == value);
        plain
            && check_extension_name(name).is_ok()
            && !attributes::is_known(name)
            && extensions[..i].iter().all(|(other, _)| other != name)
    })
}

/// Appends `,"name":"value"`.
fn text(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    // Writing a text to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

/// Reads a record; `stamped` is when the log took it, for signals of others that do not say when they came in.
///
/// # Errors
/// When it is neither a valid signal nor a record that [`encode`] wrote.
pub fn decode(catalogue: &Catalogue, json: &[u8], stamped: Millis) -> Result<Event, NoRecord> {
    let found = Attributes::read(json)?;
    let key = match found.optional("kairoskey", found.kairoskey)? {
        Some(hex) => Some(
            u128::from_str_radix(&hex, 16).map_err(|_| NoRecord("`kairoskey` is no number in hex".into()))?,
        ),
        None => None,
    };
    let subject = found.required("subject", found.subject)?.into_owned();
    if let Some(encoded) = found.optional("data_base64", found.data_base64)? {
        let Some(key) = key else { return Err(NoRecord("`data_base64` is not taken from others".into())) };
        return Ok(Event { subject, key, payload: base64("data_base64", &encoded)?.into() });
    }
    let kind = found.required("type", found.kind)?;
    let declared = catalogue.get(&kind).ok_or_else(|| {
        let kind: String = kind.chars().take(64).collect();
        NoRecord(format!("the type `{kind}` is not declared in this process; declare it in signals.dirs"))
    })?;
    let at = |name: &str, value| -> Result<Option<Millis>, NoRecord> {
        found.optional(name, value)?.map(|text| time::parse(&text)).transpose().map_err(NoRecord)
    };
    let received_at = at("receivedat", found.receivedat)?.unwrap_or(stamped);
    let data = match found.optional("kairosdata", found.kairosdata)? {
        Some(encoded) => base64("kairosdata", &encoded)?,
        None => match found.data {
            Some(json) => declared
                .encode_json(json, UnknownFields::Ignore)
                .map_err(|e| NoRecord(format!("`{}`: {e}", declared.name)))?,
            None => Vec::new(),
        },
    };
    let record = Record {
        kind: declared.name.clone(),
        id: found.required("id", found.id)?.into_owned(),
        source: found.required("source", found.source)?.into_owned(),
        time: at("time", found.time)?.unwrap_or(received_at),
        received_at,
        data: data.into(),
        extensions: found
            .extensions
            .iter()
            .map(|(n, v)| (n.clone().into_owned(), v.get().to_owned()))
            .collect(),
        subject,
    };
    let (key, payload) = (key.unwrap_or_else(|| record.key()), record.encode());
    Ok(Event { subject: record.subject, key, payload })
}

/// The idempotency key of a record alone; 0 for none, and for what is no record.
pub fn key(json: &[u8]) -> u128 {
    let read = || -> Result<u128, NoRecord> {
        let found = Attributes::read(json)?;
        if let Some(hex) = found.optional("kairoskey", found.kairoskey)? {
            return Ok(u128::from_str_radix(&hex, 16).unwrap_or(0));
        }
        let (source, id) = (found.required("source", found.source)?, found.required("id", found.id)?);
        Ok(idempotency_key(&source, &id))
    };
    read().unwrap_or(0)
}

fn base64(name: &str, text: &str) -> Result<Vec<u8>, NoRecord> {
    STANDARD.decode(text).map_err(|_| NoRecord(format!("`{name}` is no base64")))
}

#[cfg(test)]
mod tests;
