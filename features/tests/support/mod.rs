//! What several tests share.

use arrow::array::RecordBatch;
use ingest::{
    catalogue::{Catalogue, UnknownFields},
    record::Record,
};

/// Signals of one person, of the type of this table: each with its data and its time.
pub fn signals(catalogue: &Catalogue, table: &str, data: &[(i64, serde_json::Value)]) -> RecordBatch {
    let kind = catalogue.by_table(table).unwrap();
    let mut builder = kind.builder();
    for (i, (time, data)) in data.iter().enumerate() {
        let record = Record {
            kind: kind.name.clone(),
            id: format!("id{i}"),
            source: "test".to_owned(),
            subject: "ada".to_owned(),
            time: *time,
            received_at: *time,
            data: kind.encode_value(data, UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        builder.append(0, i as u64, &record).unwrap();
    }
    builder.finish()
}
