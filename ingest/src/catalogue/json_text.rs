//! Stored bytes to JSON text, field by field in the order in which they stand, so that encoding the text again
//! gives the same bytes.

use serde::Serialize;

use super::{
    error::Damaged,
    shape::{Cardinality, Kind, Message},
    text,
    wire::{Fields, Value, elements, entry, value},
};

/// Appends a message as a JSON object.
pub(crate) fn write(message: &Message, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Damaged> {
    out.push(b'{');
    let start = out.len();
    // The list or map whose elements are being written: number of its field, and what ends it.
    let mut open: Option<(u32, u8)> = None;
    for found in Fields(bytes) {
        let (number, raw) = found?;
        let Some(field) = message.numbered(number).map(|index| &message.fields[index]) else { continue };
        let mut goes_on = open.is_some_and(|(other, _)| other == number);
        if !goes_on {
            out.extend(open.take().map(|(_, end)| end));
            if out.len() > start {
                out.push(b',');
            }
            quoted(&field.name, out)?;
            out.push(b':');
        }
        match field.cardinality {
            Cardinality::One => single(&field.kind, value(&field.kind, raw)?, out)?,
            Cardinality::List => {
                if open.is_none() {
                    open = Some((number, b']'));
                    out.push(b'[');
                }
                elements(&field.kind, raw, |element| {
                    if std::mem::replace(&mut goes_on, true) {
                        out.push(b',');
                    }
                    single(&field.kind, element, out)
                })?;
            }
            Cardinality::Map(key) => {
                out.push(if goes_on { b',' } else { b'{' });
                open = Some((number, b'}'));
                let (key, value) = entry(key, &field.kind, raw)?;
                match key {
                    Value::Text(text) => quoted(text, out)?,
                    key => {
                        out.push(b'"');
                        single(&field.kind, key, out)?;
                        out.push(b'"');
                    }
                }
                out.push(b':');
                single(&field.kind, value, out)?;
            }
        }
    }
    out.extend(open.map(|(_, end)| end));
    out.push(b'}');
    Ok(())
}

fn single(kind: &Kind, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Damaged> {
    match value {
        Value::I32(v) => plain(&v, out),
        Value::I64(v) => plain(&v, out),
        Value::U32(v) => plain(&v, out),
        Value::U64(v) => plain(&v, out),
        Value::F32(v) if v.is_finite() => plain(&v, out),
        Value::F32(v) => quoted(odd(f64::from(v)), out),
        Value::F64(v) if v.is_finite() => plain(&v, out),
        Value::F64(v) => quoted(odd(v), out),
        Value::Bool(v) => plain(&v, out),
        Value::Text(v) => quoted(v, out),
        Value::Bytes(v) => quoted(&text::format_bytes(v), out),
        Value::Enum(declared, number) => match declared.name(number) {
            Some(name) => quoted(name, out),
            None => plain(&number, out),
        },
        Value::Timestamp(seconds, nanos) => {
            let time = text::format_timestamp(seconds, nanos);
            quoted(&time.ok_or_else(|| Damaged::new("a time out of range"))?, out)
        }
        Value::Duration(seconds, nanos) => {
            let duration = text::format_duration(seconds, nanos);
            quoted(&duration.ok_or_else(|| Damaged::new("a duration out of range"))?, out)
        }
        Value::Message(bytes) => match kind {
            Kind::Message(message) => write(message, bytes, out),
            _ => Err(Damaged::new("a message where none belongs")),
        },
    }
}

fn odd(value: f64) -> &'static str {
    match value {
        v if v.is_nan() => "NaN",
        v if v > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn quoted(text: &str, out: &mut Vec<u8>) -> Result<(), Damaged> {
    plain(text, out)
}

fn plain<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Damaged> {
    serde_json::to_writer(out, value).map_err(|e| Damaged::new(e.to_string()))
}
