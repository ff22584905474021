use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;

const TYPES: &str = r#"syntax = "proto3";
package t;
import "kairos/signal.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
enum Mood { UNKNOWN = 0; GOOD = 1; }
message Inner { int32 depth = 1; Leaf inner = 2; }
message Leaf { int32 depth = 1; }
message Everything {
  option (kairos.signal_type) = "every.thing";
  int64 whole = 1; double real = 2; float single = 3; bool yes = 4; string text = 5; bytes raw = 6;
  Mood mood = 7; Inner inner = 8; repeated int32 numbers = 9; repeated string texts = 10;
  map<string, double> weights = 11; map<int32, string> names = 12;
  google.protobuf.Timestamp at = 13; google.protobuf.Duration took = 14; repeated Inner inners = 15;
  uint64 large = 16;
}
"#;

fn catalogue() -> Catalogue {
    Catalogue::parse(&[("t.proto", TYPES)]).unwrap()
}

fn data() -> impl Strategy<Value = serde_json::Value> {
    let scalars = (any::<i64>(), any::<f64>(), any::<f32>(), any::<bool>(), ".{0,12}", any::<u64>());
    let lists = (
        vec(any::<i32>(), 0..4),
        vec(".{0,6}", 0..4),
        proptest::collection::btree_map(".{0,6}", -1e9..1e9, 0..4),
        proptest::collection::btree_map(any::<i32>(), ".{0,6}", 0..3),
    );
    let times = (0i64..4_000_000_000, 0u32..1_000_000_000, -1000i64..1000);
    (scalars, lists, times, any::<[bool; 10]>()).prop_map(|(scalars, lists, times, given)| {
        let (whole, real, single, yes, text, large) = scalars;
        let (numbers, texts, weights, names) = lists;
        let (seconds, nanos, took) = times;
        let at = jiff::Timestamp::new(seconds, nanos as i32).unwrap().to_string();
        let float = |v: f64| match v {
            v if v.is_finite() => json!(v),
            v if v.is_nan() => json!("NaN"),
            v if v > 0.0 => json!("Infinity"),
            _ => json!("-Infinity"),
        };
        let all = [
            ("whole", json!(whole)),
            ("real", float(real)),
            ("single", float(f64::from(single))),
            ("yes", json!(yes)),
            ("text", json!(text)),
            ("mood", json!("GOOD")),
            ("large", json!(large)),
            ("at", json!(at)),
            ("took", json!(format!("{took}.25s"))),
            ("inner", json!({"depth": 1, "inner": {"depth": 2}})),
        ];
        let mut object: serde_json::Map<String, serde_json::Value> =
            all.into_iter().zip(given).filter(|(_, given)| *given).map(|((n, v), _)| (n.into(), v)).collect();
        object.insert("numbers".into(), json!(numbers));
        object.insert("texts".into(), json!(texts));
        object.insert("weights".into(), json!(weights));
        object.insert("names".into(), json!(names));
        object.insert("inners".into(), json!([{"depth": 1}, {}]));
        object.insert("raw".into(), json!("AQID"));
        object.into()
    })
}

fn record(kind: &str, id: &str, data: &[u8], time: Millis, extensions: Vec<(String, String)>) -> Append {
    let record = Record {
        kind: kind.into(),
        id: id.into(),
        source: "a \"source\"".into(),
        subject: "ü\u{0}".into(),
        time,
        received_at: time.saturating_add(250),
        data: Bytes::copy_from_slice(data),
        extensions,
    };
    Append { subject: record.subject.clone(), key: record.key(), payload: record.encode() }
}

fn as_it_was(append: &Append) -> Event {
    Event { subject: append.subject.clone(), key: append.key, payload: append.payload.clone() }
}

proptest! {
    #[test]
    fn a_signal_reads_back_to_the_same_bytes(
        data in data(), id in ".{0,12}", time in -62_000_000_000_000i64..250_000_000_000_000, name in "[a-z]{1,12}", other_key in any::<bool>(),
    ) {
        let catalogue = catalogue();
        let bytes = catalogue.get("every.thing").unwrap().encode_value(&data, UnknownFields::Reject).unwrap();
        let mut append = record("every.thing", &id, &bytes, time, vec![(name, "\"v\\n\"".into())]);
        append.key ^= u128::from(other_key);
        let json = encode(&catalogue, Topic::Signals, &append);
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(&read["type"], "every.thing");
        prop_assert!(read["data"].is_object());
        prop_assert_eq!(decode(&catalogue, &json, 0).unwrap(), as_it_was(&append));
        prop_assert_eq!(key(&json), append.key);
    }

    #[test]
    fn any_payload_reads_back(
        payload in vec(any::<u8>(), 0..200), subject in ".{0,12}", key in any::<u128>(), topic in 0..4usize,
    ) {
        let catalogue = catalogue();
        let append = Append { subject, key, payload: payload.into() };
        let json = encode(&catalogue, Topic::ALL[topic], &append);
        prop_assert_eq!(decode(&catalogue, &json, 0).unwrap(), as_it_was(&append));
        prop_assert_eq!(super::key(&json), append.key);
    }

    #[test]
    fn stored_bytes_that_nobody_encoded_so_read_back(data in vec(any::<u8>(), 0..60)) {
        let catalogue = catalogue();
        let append = record("every.thing", "1", &data, 0, Vec::new());
        let json = encode(&catalogue, Topic::Signals, &append);
        prop_assert_eq!(decode(&catalogue, &json, 0).unwrap(), as_it_was(&append));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&catalogue(), &bytes, 0);
        key(&bytes);
    }
}

#[test]
fn what_cannot_stand_as_a_signal_goes_as_bytes() {
    let catalogue = catalogue();
    let extension = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for append in [
        record("not.declared", "1", &[], 0, Vec::new()),
        record("every.thing", "1", &[], i64::MAX / 2, Vec::new()),
        record("every.thing", "1", &[], 0, extension("receivedat", "1")),
        record("every.thing", "1", &[], 0, extension("Bad Name", "1")),
        record("every.thing", "1", &[], 0, extension("name", "no json")),
    ] {
        let json = encode(&catalogue, Topic::Signals, &append);
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert!(read["data_base64"].is_string(), "{read}");
        assert_eq!(decode(&catalogue, &json, 0).unwrap(), as_it_was(&append));
    }
}

#[test]
fn a_signal_of_others_is_taken_if_it_is_valid() {
    let catalogue = catalogue();
    let event = json!({"specversion": "1.0", "id": "1", "source": "flow", "type": "every.thing", "subject": "ada",
        "data": {"whole": 5, "more": true}});
    let read = decode(&catalogue, event.to_string().as_bytes(), 99).unwrap();
    let record = Record::decode(&read.subject, &read.payload).unwrap();
    assert_eq!((record.time, record.received_at, &*record.data), (99, 99, &[8u8, 5][..]));
    assert_eq!((read.key, &*read.subject), (idempotency_key("flow", "1"), "ada"));
    for (change, said) in [
        (json!({"type": "no.such"}), "not declared"),
        (json!({"subject": null}), "`subject` is missing"),
        (json!({"id": 5}), "`id` must be a text"),
        (json!({"data": {"whole": "x"}}), "whole"),
        (json!({"data_base64": "AA=="}), "not taken from others"),
        (json!({"time": "noon"}), "RFC 3339"),
        (json!({"kairoskey": "zz"}), "hex"),
    ] {
        let mut event = event.clone();
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = decode(&catalogue, event.to_string().as_bytes(), 0).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(decode(&catalogue, b"tombstone", 0).is_err());
}
