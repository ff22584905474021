//! The catalogue as its users see it.

mod declarations;
mod pmdata;
mod properties;
mod tables;
mod values;

use serde_json::{Value, value::RawValue};

use super::*;
use crate::record::Record;

/// A catalogue with one more type, `tea.made`, with these fields.
fn tea(fields: &str) -> Result<Catalogue, CatalogueError> {
    let file = format!(
        "syntax = \"proto3\";\nimport \"kairos/signal.proto\";\nimport \"google/protobuf/timestamp.proto\";\n\
         import \"google/protobuf/duration.proto\";\nimport \"google/protobuf/wrappers.proto\";\n\
         import \"google/protobuf/struct.proto\";\n\
         message Tea {{\n  option (kairos.signal_type) = \"tea.made\";\n{fields}\n}}\n"
    );
    Catalogue::parse(&[("tea.proto", &file)])
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn record(kind: &str, data: Vec<u8>) -> Record {
    Record {
        kind: kind.to_owned(),
        id: "1".to_owned(),
        source: "test".to_owned(),
        subject: "ada".to_owned(),
        time: 1_000,
        received_at: 2_000,
        data: data.into(),
        extensions: Vec::new(),
    }
}

/// What is wrong with `data` as tea.
fn wrong(fields: &str, data: &str) -> String {
    let catalogue = tea(fields).unwrap();
    let made = catalogue.get("tea.made").unwrap();
    made.encode_json(&raw(data), UnknownFields::Reject).unwrap_err().to_string()
}

/// `data` encoded, decoded.
fn round(fields: &str, data: &str) -> Value {
    let catalogue = tea(fields).unwrap();
    let made = catalogue.get("tea.made").unwrap();
    made.decode_json(&made.encode_json(&raw(data), UnknownFields::Reject).unwrap()).unwrap()
}
