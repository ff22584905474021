//! Tables filled from stored bytes.

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type},
};

use super::*;

const FIELDS: &str = "int64 cups = 1; string note = 2; repeated int64 sips = 3; map<string, double> heat = 4; \
                      message Cup { string colour = 1; repeated string marks = 2; } Cup cup = 5; \
                      enum Kind { GREEN = 0; BLACK = 1; } Kind kind = 6; google.protobuf.Timestamp at = 7; \
                      google.protobuf.Duration took = 8; google.protobuf.BoolValue hot = 9; bytes raw = 10;";

fn made() -> Arc<SignalType> {
    tea(FIELDS).unwrap().get("tea.made").unwrap().clone()
}

fn bytes(made: &SignalType, data: &str) -> Vec<u8> {
    made.encode_json(&raw(data), UnknownFields::Reject).unwrap()
}

#[test]
fn a_row_holds_envelope_and_fields() {
    let made = made();
    let mut table = made.builder();
    assert!(table.is_empty());
    let full = r#"{"cups":0,"note":"ä","sips":[1,2],"heat":{"a":0.5},"cup":{"colour":"red","marks":["x"]},
                   "kind":"BLACK","at":"1969-12-31T23:59:59.9999Z","took":"1.5s","hot":false,"raw":"AA=="}"#;
    table.append(3, 17, &record("tea.made", bytes(&made, full))).unwrap();
    table.append(3, 18, &record("tea.made", Vec::new())).unwrap();
    assert_eq!(table.len(), 2);
    let batch = table.finish();
    assert_eq!(batch.schema(), made.schema);
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert_eq!(column("id").as_string::<i32>().value(0), "1");
    assert_eq!(column("source").as_string::<i32>().value(0), "test");
    assert_eq!(column("subject").as_string::<i32>().value(1), "ada");
    assert_eq!(column("time").as_primitive::<TimestampMillisecondType>().value(0), 1_000);
    assert_eq!(column("received_at").as_primitive::<TimestampMillisecondType>().value(0), 2_000);
    assert_eq!(column("partition").as_primitive::<UInt32Type>().values(), &[3, 3]);
    assert_eq!(column("offset").as_primitive::<UInt64Type>().values(), &[17, 18]);
    assert_eq!(column("cups").as_primitive::<Int64Type>().value(0), 0);
    assert_eq!(column("kind").as_string::<i32>().value(0), "BLACK");
    assert_eq!(column("at").as_primitive::<TimestampMillisecondType>().value(0), -1);
    assert_eq!(column("took").as_primitive::<Int64Type>().value(0), 1_500);
    assert!(!column("hot").as_boolean().value(0));
    assert_eq!(column("raw").as_binary::<i32>().value(0), [0]);
    for field in batch.schema().fields().iter().skip(7) {
        let array = column(field.name());
        let empty = matches!(field.data_type(), DataType::List(_) | DataType::Map(..));
        assert!(array.is_valid(0), "{}", field.name());
        assert_eq!(array.is_valid(1), empty, "{}: absent is NULL, but a list is empty", field.name());
    }
    assert_eq!(column("sips").as_list::<i32>().value(0).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert!(column("sips").as_list::<i32>().value(1).is_empty());
    assert_eq!(column("heat").as_map().value(0).column(0).as_string::<i32>().value(0), "a");
    let cup = column("cup").as_struct();
    assert_eq!(cup.column(0).as_string::<i32>().value(0), "red");
    assert_eq!(cup.column(1).as_list::<i32>().value(0).as_string::<i32>().value(0), "x");
    assert_eq!(table.finish().num_rows(), 0, "a builder begins anew");
}

#[test]
fn foreign_encodings_are_understood() {
    let made = made();
    let mut table = made.builder();
    // cups twice, an unknown field and a group in between, sips unpacked with note between them.
    let data = [
        0x08, 5, 0x7d, 1, 2, 3, 4, 0x83, 0x01, 0x08, 1, 0x84, 0x01, 0x18, 7, 0x12, 1, b'n', 0x18, 8, 0x08, 6,
    ];
    table.append(0, 0, &record("tea.made", data.to_vec())).unwrap();
    // An enumeration's number without a name, and a map entry without its parts.
    table.append(0, 1, &record("tea.made", vec![0x30, 9, 0x22, 0])).unwrap();
    let batch = table.finish();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert_eq!(column("cups").as_primitive::<Int64Type>().value(0), 6, "the last counts");
    assert_eq!(column("sips").as_list::<i32>().value(0).as_primitive::<Int64Type>().values(), &[7, 8]);
    assert_eq!(column("note").as_string::<i32>().value(0), "n");
    assert_eq!(column("kind").as_string::<i32>().value(1), "9");
    assert_eq!(column("heat").as_map().value(1).column(0).as_string::<i32>().value(0), "");
    let json = made.decode_json(&data).unwrap();
    assert_eq!(json, serde_json::json!({"cups": 6, "sips": [7, 8], "note": "n"}));
}

#[test]
fn a_declared_field_in_another_wire_type_is_damage() {
    let made = made();
    let mut table = made.builder();
    // The first field as a group, and as a fixed number.
    for data in [vec![0x0b, 0x0c], vec![0x0d, 1, 2, 3, 4]] {
        assert!(table.append(0, 0, &record("tea.made", data.clone())).is_err());
        assert!(made.decode_json(&data).is_err());
    }
    assert_eq!(table.finish().num_rows(), 0);
}

#[test]
fn a_row_that_fails_leaves_no_trace() {
    let made = made();
    let good = bytes(
        &made,
        r#"{"cups":1,"note":"n","sips":[1],"heat":{"a":1,"b":2},"cup":{"marks":["x","y"]},"at":"2026-01-01T00:00:00Z"}"#,
    );
    let mut expected = made.builder();
    expected.append(0, 0, &record("tea.made", good.clone())).unwrap();
    expected.append(0, 2, &record("tea.made", good.clone())).unwrap();
    let mut table = made.builder();
    table.append(0, 0, &record("tea.made", good.clone())).unwrap();
    for tail in [
        &[0x08][..],                                                 // a number cut off
        &[0x12, 5, b'a'],                                            // a text cut off
        &[0x12, 1, 0xff],                                            // no UTF-8
        &[0x09, 0, 0, 0, 0, 0, 0, 0, 0],                             // another wire type
        &[0x1a, 2, 1, 0x80],                                         // a packed number cut off
        &[0x2a, 6, 0x12, 1, b'z', 0x12, 1, 0xff],                    // deep inside
        &[0x22, 5, 0x0a, 1, b'k', 0x10, 1],                          // a map's value of another wire type
        &[0x3a, 2, 8, 255],                                          // a time cut off
        &[0x3a, 10, 8, 255, 255, 255, 255, 255, 255, 255, 255, 127], // a time out of range
        &[0x00],                                                     // field number 0
        &[0x0f],                                                     // no wire type
    ] {
        let bad = [good.as_slice(), tail].concat();
        assert!(table.append(0, 1, &record("tea.made", bad)).is_err(), "{tail:?}");
    }
    let error = table.append(0, 1, &record("tea.drunk", Vec::new())).unwrap_err();
    assert!(error.to_string().contains("`tea.drunk` does not belong in the table of `tea.made`"), "{error}");
    table.append(0, 2, &record("tea.made", good)).unwrap();
    assert_eq!(table.finish(), expected.finish());
}
