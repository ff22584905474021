//! Random types and values: JSON in, the same values out, in JSON and in Arrow, and as prost-reflect reads them.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType, UInt32Type,
        UInt64Type,
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::Map;

use super::*;
use crate::catalogue::{shape::Scalar, text};

#[derive(Debug, Clone)]
enum Kind {
    Scalar(Scalar),
    Wrapped(&'static str, Scalar),
    Enum,
    Timestamp,
    Duration,
    Message(Vec<Spec>),
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Plain,
    Optional,
    List,
    Map(Scalar),
}

#[derive(Debug, Clone)]
struct Spec {
    kind: Kind,
    shape: Shape,
}

const SCALARS: [Scalar; 15] = [
    Scalar::Int32,
    Scalar::Int64,
    Scalar::Uint32,
    Scalar::Uint64,
    Scalar::Sint32,
    Scalar::Sint64,
    Scalar::Fixed32,
    Scalar::Fixed64,
    Scalar::Sfixed32,
    Scalar::Sfixed64,
    Scalar::Bool,
    Scalar::String,
    Scalar::Float,
    Scalar::Double,
    Scalar::Bytes,
];

/// Fields of a random message, nested up to `depth`.
fn specs(depth: u32) -> BoxedStrategy<Vec<Spec>> {
    let leaf = prop_oneof![
        6 => prop::sample::select(&SCALARS[..]).prop_map(Kind::Scalar),
        1 => Just(Kind::Wrapped("Int64Value", Scalar::Int64)),
        1 => Just(Kind::Wrapped("StringValue", Scalar::String)),
        1 => Just(Kind::Enum),
        1 => Just(Kind::Timestamp),
        1 => Just(Kind::Duration),
    ];
    let kind = if depth == 0 {
        leaf.boxed()
    } else {
        prop_oneof![4 => leaf, 1 => specs(depth - 1).prop_map(Kind::Message)].boxed()
    };
    let shape = prop_oneof![
        2 => Just(Shape::Plain),
        2 => Just(Shape::Optional),
        1 => Just(Shape::List),
        1 => prop::sample::select(&SCALARS[..12]).prop_map(Shape::Map),
    ];
    vec((kind, shape).prop_map(|(kind, shape)| Spec { kind, shape }), 1..6).boxed()
}

/// The declaration of the fields; numbers leave gaps and run backwards.
fn declaration(specs: &[Spec]) -> String {
    let fields = specs.iter().enumerate().map(|(i, spec)| {
        let (before, kind) = match &spec.kind {
            Kind::Scalar(scalar) => (String::new(), scalar.name().to_owned()),
            Kind::Wrapped(name, _) => (String::new(), format!("google.protobuf.{name}")),
            Kind::Enum => {
                (format!("enum E{i} {{ E{i}_NONE = 0; E{i}_LOW = -7; E{i}_HIGH = 300; }}"), format!("E{i}"))
            }
            Kind::Timestamp => (String::new(), "google.protobuf.Timestamp".to_owned()),
            Kind::Duration => (String::new(), "google.protobuf.Duration".to_owned()),
            Kind::Message(nested) => (format!("message M{i} {{ {} }}", declaration(nested)), format!("M{i}")),
        };
        let kind = match spec.shape {
            Shape::Plain => kind,
            Shape::Optional => format!("optional {kind}"),
            Shape::List => format!("repeated {kind}"),
            Shape::Map(key) => format!("map<{}, {kind}>", key.name()),
        };
        format!("{before} {kind} field_{i} = {};", 40 - 7 * i)
    });
    fields.collect()
}

fn float(value: f64) -> Value {
    match value {
        v if v.is_nan() => "NaN".into(),
        v if v == f64::INFINITY => "Infinity".into(),
        v if v == f64::NEG_INFINITY => "-Infinity".into(),
        v => v.into(),
    }
}

fn scalar_value(scalar: Scalar) -> BoxedStrategy<Value> {
    match scalar {
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => any::<i32>().prop_map(Value::from).boxed(),
        Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => any::<i64>().prop_map(Value::from).boxed(),
        Scalar::Uint32 | Scalar::Fixed32 => any::<u32>().prop_map(Value::from).boxed(),
        Scalar::Uint64 | Scalar::Fixed64 => any::<u64>().prop_map(Value::from).boxed(),
        Scalar::Float => any::<f32>().prop_map(|v| float(v.to_string().parse().unwrap())).boxed(),
        Scalar::Double => any::<f64>().prop_map(float).boxed(),
        Scalar::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Scalar::String => ".{0,12}".prop_map(Value::from).boxed(),
        Scalar::Bytes => vec(any::<u8>(), 0..12).prop_map(|b| text::format_bytes(&b).into()).boxed(),
    }
}

fn value(kind: &Kind, index: usize) -> BoxedStrategy<Value> {
    match kind {
        Kind::Scalar(scalar) | Kind::Wrapped(_, scalar) => scalar_value(*scalar),
        Kind::Enum => prop::sample::select(vec!["NONE", "LOW", "HIGH"])
            .prop_map(move |name| format!("E{index}_{name}").into())
            .boxed(),
        Kind::Timestamp => (-62_135_596_800..=253_402_300_799_i64, 0..1_000_000_000)
            .prop_map(|(seconds, nanos)| text::format_timestamp(seconds, nanos).unwrap().into())
            .boxed(),
        Kind::Duration => (0..=315_576_000_000_i64, 0..1_000_000_000, any::<bool>())
            .prop_map(|(seconds, nanos, negative)| {
                let sign = if negative { -1 } else { 1 };
                text::format_duration(sign * seconds, sign as i32 * nanos).unwrap().into()
            })
            .boxed(),
        Kind::Message(nested) => data(nested),
    }
}

/// Data of a message in the form `decode_json` gives.
fn data(specs: &[Spec]) -> BoxedStrategy<Value> {
    let fields: Vec<BoxedStrategy<Option<Value>>> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            let value = value(&spec.kind, i);
            let value = match spec.shape {
                Shape::Plain | Shape::Optional => value,
                Shape::List => vec(value, 1..4).prop_map(Value::Array).boxed(),
                Shape::Map(key) => vec((scalar_value(key), value), 1..4)
                    .prop_map(|entries| {
                        let text = |key: Value| key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                        Value::Object(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
                    })
                    .boxed(),
            };
            option::of(value).boxed()
        })
        .collect();
    fields
        .prop_map(|values| {
            let named = values.into_iter().enumerate().map(|(i, value)| (format!("field_{i}"), value));
            Value::Object(named.filter_map(|(name, value)| Some((name, value?))).collect())
        })
        .boxed()
}

/// What a table should hold for this data.
fn expected(specs: &[Spec], data: &Value) -> Value {
    let cell = |kind: &Kind, value: &Value| match (kind, value.as_str()) {
        (Kind::Timestamp, Some(text)) => {
            let (seconds, nanos) = text::parse_timestamp(text).unwrap();
            (seconds * 1000 + i64::from(nanos / 1_000_000)).into()
        }
        (Kind::Duration, Some(text)) => {
            let (seconds, nanos) = text::parse_duration(text).unwrap();
            (i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
                .div_euclid(1_000_000)
                .to_string()
                .parse()
                .unwrap()
        }
        (Kind::Message(nested), _) => expected(nested, value),
        _ => value.clone(),
    };
    let mut row = Map::new();
    for (i, spec) in specs.iter().enumerate() {
        let name = format!("field_{i}");
        let given = data.get(&name);
        let value = match (spec.shape, given) {
            (Shape::Plain | Shape::Optional, value) => value.map_or(Value::Null, |v| cell(&spec.kind, v)),
            (Shape::List, Some(Value::Array(list))) => list.iter().map(|v| cell(&spec.kind, v)).collect(),
            (Shape::Map(_), Some(Value::Object(map))) => {
                Value::Object(map.iter().map(|(k, v)| (k.clone(), cell(&spec.kind, v))).collect())
            }
            (Shape::List, _) => Value::Array(Vec::new()),
            (Shape::Map(_), _) => Value::Object(Map::new()),
        };
        row.insert(name, value);
    }
    Value::Object(row)
}

/// A cell of an Arrow array as JSON.
fn cell(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => {
            float(array.as_primitive::<Float32Type>().value(row).to_string().parse().unwrap())
        }
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Binary => text::format_bytes(array.as_binary::<i32>().value(row)).into(),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMillisecondType>().value(row).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|i| cell(&items, i)).collect()
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let key = |i| match cell(entries.column(0), i) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object((0..entries.len()).map(|i| (key(i), cell(entries.column(1), i))).collect())
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            Value::Object(columns.map(|(field, column)| (field.name().clone(), cell(column, row))).collect())
        }
        other => panic!("{other}"),
    }
}

/// Only this file's types, and its descriptors.
fn load(fields: &str) -> (Arc<SignalType>, prost_reflect::MessageDescriptor) {
    let file = format!(
        "syntax = \"proto3\"; import \"kairos/signal.proto\"; import \"google/protobuf/timestamp.proto\"; import \
         \"google/protobuf/duration.proto\"; import \"google/protobuf/wrappers.proto\"; message Tea {{ option \
         (kairos.signal_type) = \"tea.made\"; {fields} }}"
    );
    let source = Source::in_memory("", &[("tea.proto", &file)]);
    let descriptor = source.compile().0.get_message_by_name("Tea").unwrap();
    let catalogue = Catalogue::from_sources(&[source], Vec::new()).unwrap();
    (catalogue.get("tea.made").unwrap().clone(), descriptor)
}

fn case() -> impl Strategy<Value = (Vec<Spec>, Vec<Value>)> {
    specs(2).prop_flat_map(|specs| {
        let rows = vec(data(&specs), 1..6);
        (Just(specs), rows)
    })
}

/// A type with one field of each kind.
fn all_kinds() -> Vec<Spec> {
    let mut kinds: Vec<Kind> = SCALARS.iter().map(|s| Kind::Scalar(*s)).collect();
    kinds.extend([Kind::Wrapped("Int64Value", Scalar::Int64), Kind::Enum, Kind::Timestamp, Kind::Duration]);
    let plain = |kind| Spec { kind, shape: Shape::Plain };
    let nested = Kind::Message(vec![
        plain(Kind::Scalar(Scalar::String)),
        Spec { kind: Kind::Timestamp, shape: Shape::List },
        Spec { kind: Kind::Scalar(Scalar::Int64), shape: Shape::Map(Scalar::String) },
    ]);
    let mut specs: Vec<Spec> = kinds.into_iter().map(plain).collect();
    specs.push(plain(nested.clone()));
    specs.push(Spec { kind: nested.clone(), shape: Shape::List });
    specs.push(Spec { kind: nested, shape: Shape::Map(Scalar::Sint64) });
    specs.push(Spec { kind: Kind::Scalar(Scalar::Sint32), shape: Shape::List });
    specs.push(Spec { kind: Kind::Scalar(Scalar::Double), shape: Shape::List });
    specs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_come_back_from_json_arrow_and_prost_reflect((specs, rows) in case()) {
        let (made, descriptor) = load(&declaration(&specs));
        let mut table = made.builder();
        for (offset, row) in rows.iter().enumerate() {
            let json = row.to_string();
            let bytes = made.encode_json(&raw(&json), UnknownFields::Reject).unwrap();
            prop_assert_eq!(&made.decode_json(&bytes).unwrap(), row);
            prop_assert_eq!(&made.encode_value(row, UnknownFields::Reject).unwrap(), &bytes);

            let theirs = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
            let same = DynamicMessage::deserialize(descriptor.clone(), row).unwrap();
            prop_assert_eq!(serde_json::to_value(&theirs).unwrap(), serde_json::to_value(&same).unwrap());
            prop_assert_eq!(
                serde_json::to_value(DynamicMessage::decode(descriptor.clone(), same.encode_to_vec().as_slice()).unwrap()).unwrap(),
                serde_json::to_value(&theirs).unwrap()
            );
            table.append(1, offset as u64, &record("tea.made", bytes)).unwrap();
        }
        let batch = table.finish();
        prop_assert_eq!(batch.num_rows(), rows.len());
        for (index, row) in rows.iter().enumerate() {
            let expected = expected(&specs, row);
            for i in 0..specs.len() {
                let name = format!("field_{i}");
                prop_assert_eq!(&cell(batch.column_by_name(&name).unwrap(), index), &expected[&name], "{}", name);
            }
        }
    }
}

/// The declaration of [`all_kinds`], numbered upwards.
fn all_kinds_declared() -> String {
    let specs = all_kinds();
    let one = |(i, spec): (usize, &Spec)| {
        let text = declaration(std::slice::from_ref(spec));
        text.replace("field_0 = 40", &format!("field_{i} = {}", i + 1))
            .replace("E0", &format!("E{i}"))
            .replace("M0", &format!("M{i}"))
    };
    specs.iter().enumerate().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..60),
            // Mostly well-formed: keys of declared fields with short values.
            vec((1_u8..25, 0_u8..6, vec(any::<u8>(), 0..8)), 0..8).prop_map(|fields| {
                let mut bytes = Vec::new();
                for (number, wire, value) in fields {
                    prost::encoding::encode_varint(u64::from(number) << 3 | u64::from(wire), &mut bytes);
                    if wire == 2 {
                        bytes.push(value.len() as u8);
                    }
                    bytes.extend(value);
                }
                bytes
            }),
        ]
    ) {
        static MADE: std::sync::LazyLock<(Arc<SignalType>, prost_reflect::MessageDescriptor)> =
            std::sync::LazyLock::new(|| load(&all_kinds_declared()));
        let (made, descriptor) = &*MADE;
        let mut table = made.builder();
        table.append(0, 0, &record("tea.made", Vec::new())).unwrap();
        let taken = table.append(0, 1, &record("tea.made", bytes.clone())).is_ok();
        table.append(0, 2, &record("tea.made", Vec::new())).unwrap();
        let batch = table.finish();
        prop_assert_eq!(batch.num_rows(), 2 + usize::from(taken));
        let json = made.decode_json(&bytes);
        if let (true, Ok(json)) = (taken, &json) {
            prop_assert!(json.is_object());
        }
        if taken {
            prop_assert!(DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).is_ok());
        }
    }

    #[test]
    fn arbitrary_text_is_encoded_or_refused(
        key in "[a-z_0-9]{0,8}|field_[0-9]{1,2}",
        value in prop_oneof![
            ".{0,20}".prop_map(Value::from),
            any::<f64>().prop_map(float),
            vec(any::<i64>(), 0..3).prop_map(Value::from),
            Just(Value::Null),
            ".{0,4}".prop_map(|key| serde_json::json!({ key: {"field_0": [1]} })),
        ]
    ) {
        static MADE: std::sync::LazyLock<Arc<SignalType>> = std::sync::LazyLock::new(|| load(&all_kinds_declared()).0);
        let json = serde_json::json!({ key: value }).to_string();
        match MADE.encode_json(&raw(&json), UnknownFields::Reject) {
            Ok(bytes) => {
                let back = MADE.decode_json(&bytes).unwrap();
                prop_assert_eq!(MADE.encode_value(&back, UnknownFields::Reject).unwrap(), bytes);
            }
            Err(invalid) => prop_assert!(invalid.field.starts_with("data") && !invalid.reason.is_empty()),
        }
    }
}
