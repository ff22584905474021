//! Stored bytes back to JSON.

use serde_json::{Map, Number, Value as Json};

use super::{
    error::Damaged,
    shape::{Cardinality, Kind, Message},
    text,
    wire::{Fields, Value, elements, entry, value},
};

/// A message as a JSON object.
pub(crate) fn decode(message: &Message, bytes: &[u8]) -> Result<Json, Damaged> {
    let mut object = Map::new();
    for found in Fields(bytes) {
        let (number, raw) = found?;
        let Some(field) = message.numbered(number).map(|index| &message.fields[index]) else { continue };
        match field.cardinality {
            Cardinality::One => {
                object.insert(field.name.clone(), json(&field.kind, value(&field.kind, raw)?)?);
            }
            Cardinality::List => {
                let list = object.entry(field.name.as_str()).or_insert_with(|| Json::Array(Vec::new()));
                let Json::Array(list) = list else { continue };
                elements(&field.kind, raw, |element| {
                    list.push(json(&field.kind, element)?);
                    Ok(())
                })?;
            }
            Cardinality::Map(key) => {
                let (key, value) = entry(key, &field.kind, raw)?;
                let map = object.entry(field.name.as_str()).or_insert_with(|| Json::Object(Map::new()));
                let Json::Object(map) = map else { continue };
                map.insert(key_text(key), json(&field.kind, value)?);
            }
        }
    }
    Ok(Json::Object(object))
}

fn json(kind: &Kind, value: Value<'_>) -> Result<Json, Damaged> {
    Ok(match value {
        Value::I32(v) => v.into(),
        Value::I64(v) => v.into(),
        Value::U32(v) => v.into(),
        Value::U64(v) => v.into(),
        // By way of the shortest text, so that 0.1 stays 0.1.
        Value::F32(v) if v.is_finite() => float(v.to_string().parse().unwrap_or(f64::from(v))),
        Value::F32(v) => float(f64::from(v)),
        Value::F64(v) => float(v),
        Value::Bool(v) => v.into(),
        Value::Text(v) => v.into(),
        Value::Bytes(v) => text::format_bytes(v).into(),
        Value::Enum(declared, number) => declared.name(number).map_or_else(|| number.into(), Json::from),
        Value::Timestamp(seconds, nanos) => {
            text::format_timestamp(seconds, nanos).ok_or_else(|| Damaged::new("a time out of range"))?.into()
        }
        Value::Duration(seconds, nanos) => text::format_duration(seconds, nanos)
            .ok_or_else(|| Damaged::new("a duration out of range"))?
            .into(),
        Value::Message(bytes) => match kind {
            Kind::Message(message) => decode(message, bytes)?,
            _ => return Err(Damaged::new("a message where none belongs")),
        },
    })
}

fn float(value: f64) -> Json {
    Number::from_f64(value).map_or_else(
        || {
            let text = match value {
                v if v.is_nan() => "NaN",
                v if v > 0.0 => "Infinity",
                _ => "-Infinity",
            };
            text.into()
        },
        Json::Number,
    )
}

fn key_text(key: Value<'_>) -> String {
    match key {
        Value::I32(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Text(v) => v.to_owned(),
        // Protobuf allows no other keys.
        _ => String::new(),
    }
}
