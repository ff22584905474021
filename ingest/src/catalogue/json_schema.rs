//! JSON Schema of a type, from the same declaration.

use serde_json::{Map, Value, json};

use super::{
    SignalType,
    shape::{Cardinality, Field, Kind, Message, Scalar},
};

/// The schema of the type's `data`, in its usual form.
pub(crate) fn of(declared: &SignalType) -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), declared.name.as_str().into());
    schema.extend(object(&declared.message));
    Value::Object(schema)
}

fn object(message: &Message) -> Map<String, Value> {
    let properties: Map<String, Value> =
        message.fields.iter().map(|field| (field.name.clone(), property(field))).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    describe(&mut schema, &message.doc);
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    schema
}

fn property(field: &Field) -> Value {
    let item = of_kind(&field.kind);
    let mut schema = match field.cardinality {
        Cardinality::One => item,
        Cardinality::List => fields(json!({"type": "array", "items": item})),
        Cardinality::Map(key) => {
            let mut map = fields(json!({"type": "object", "additionalProperties": item}));
            if let Some(pattern) = key_pattern(key) {
                map.insert("propertyNames".to_owned(), json!({"pattern": pattern}));
            }
            map
        }
    };
    describe(&mut schema, &field.doc);
    Value::Object(schema)
}

fn of_kind(kind: &Kind) -> Map<String, Value> {
    fields(match kind {
        Kind::Message(message) => Value::Object(object(message)),
        Kind::Enum(declared) => {
            let names: Vec<&str> = declared.values.iter().map(|(name, _)| name.as_str()).collect();
            json!({"type": "string", "enum": names})
        }
        Kind::Timestamp => json!({"type": "string", "format": "date-time"}),
        Kind::Duration => json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
        Kind::Scalar(scalar) | Kind::Wrapped(scalar) => match scalar {
            Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => {
                json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Scalar::Uint32 | Scalar::Fixed32 => {
                json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
            }
            Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => {
                json!({"type": "integer", "format": "int64"})
            }
            Scalar::Uint64 | Scalar::Fixed64 => json!({"type": "integer", "format": "uint64", "minimum": 0}),
            Scalar::Float => json!({"type": "number", "format": "float"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::String => json!({"type": "string"}),
            Scalar::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        },
    })
}

fn key_pattern(key: Scalar) -> Option<&'static str> {
    match key {
        Scalar::String => None,
        Scalar::Bool => Some("^(true|false)$"),
        Scalar::Uint32 | Scalar::Uint64 | Scalar::Fixed32 | Scalar::Fixed64 => Some("^[0-9]+$"),
        _ => Some("^-?[0-9]+$"),
    }
}

fn describe(schema: &mut Map<String, Value>, doc: &str) {
    if !doc.is_empty() {
        // A field's comment replaces that of the message it holds.
        schema.insert("description".to_owned(), doc.into());
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
