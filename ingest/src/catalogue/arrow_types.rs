//! Which Arrow type each declared field has.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::shape::{Cardinality, Kind, Message, Scalar};

/// Milliseconds since the Unix epoch.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
}

/// The envelope's columns, then the message's.
pub(crate) fn schema(message: &Message) -> SchemaRef {
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    let mut fields = vec![
        required("id", DataType::Utf8),
        required("source", DataType::Utf8),
        required("subject", DataType::Utf8),
        required("time", timestamp()),
        required("received_at", timestamp()),
        required("partition", DataType::UInt32),
        required("offset", DataType::UInt64),
    ];
    fields.extend(fields_of(message));
    Arc::new(Schema::new(fields))
}

pub(crate) fn fields_of(message: &Message) -> impl Iterator<Item = Field> {
    message.fields.iter().map(|field| {
        let item = type_of(&field.kind);
        let data_type = match field.cardinality {
            Cardinality::One => item,
            Cardinality::List => DataType::List(item_field(item)),
            Cardinality::Map(key) => DataType::Map(entries_field(key, item), false),
        };
        Field::new(&field.name, data_type, true)
    })
}

pub(crate) fn item_field(item: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(item, true))
}

pub(crate) fn entries_field(key: Scalar, value: DataType) -> FieldRef {
    let key = Field::new("key", type_of(&Kind::Scalar(key)), false);
    let entry = Fields::from(vec![key, Field::new("value", value, true)]);
    Arc::new(Field::new("entries", DataType::Struct(entry), false))
}

pub(crate) fn type_of(kind: &Kind) -> DataType {
    match kind {
        Kind::Scalar(scalar) | Kind::Wrapped(scalar) => match scalar {
            Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => DataType::Int32,
            Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => DataType::Int64,
            Scalar::Uint32 | Scalar::Fixed32 => DataType::UInt32,
            Scalar::Uint64 | Scalar::Fixed64 => DataType::UInt64,
            Scalar::Float => DataType::Float32,
            Scalar::Double => DataType::Float64,
            Scalar::Bool => DataType::Boolean,
            Scalar::String => DataType::Utf8,
            Scalar::Bytes => DataType::Binary,
        },
        Kind::Enum(_) => DataType::Utf8,
        Kind::Timestamp => timestamp(),
        Kind::Duration => DataType::Int64,
        Kind::Message(message) => DataType::Struct(fields_of(message).collect()),
    }
}
