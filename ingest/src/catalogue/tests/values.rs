//! What `data` may hold, and what is said of the rest.

use serde_json::json;

use super::*;

#[test]
fn a_wrong_value_is_named_with_its_path() {
    for (fields, data, reason) in [
        ("int64 minutes = 1;", r#"{"minutes":"ten"}"#, r#"data.minutes: expected an integer, got "ten""#),
        ("int64 minutes = 1;", r#"{"minutes":1.5}"#, "data.minutes: expected an integer, got 1.5"),
        ("int64 minutes = 1;", r#"{"minutes":true}"#, "data.minutes: expected an integer, got true"),
        ("int64 minutes = 1;", r#"{"minutes":[1]}"#, "data.minutes: expected an integer, got a list"),
        ("int64 minutes = 1;", r#"{"minutes":{}}"#, "data.minutes: expected an integer, got an object"),
        (
            "int64 n = 1;",
            r#"{"n":9223372036854775808}"#,
            "data.n: 9223372036854775808 is out of the range of int64",
        ),
        ("int64 n = 1;", r#"{"n":1e19}"#, "data.n: 10000000000000000000 is out of the range of int64"),
        ("int64 n = 1;", r#"{"n":1e40}"#, &format!("data.n: expected an integer, got {}", 1e40)),
        ("int64 n = 1;", r#"{"n":"inf"}"#, r#"data.n: expected an integer, got "inf""#),
        ("int32 n = 1;", r#"{"n":5000000000}"#, "data.n: 5000000000 is out of the range of int32"),
        ("uint32 n = 1;", r#"{"n":-1}"#, "data.n: -1 is out of the range of uint32"),
        ("uint64 n = 1;", r#"{"n":"-1"}"#, "data.n: -1 is out of the range of uint64"),
        ("google.protobuf.Int32Value n = 1;", r#"{"n":"x"}"#, r#"data.n: expected an integer, got "x""#),
        ("double d = 1;", r#"{"d":"warm"}"#, r#"data.d: expected a number, got "warm""#),
        ("double d = 1;", r#"{"d":"inf"}"#, r#"data.d: expected a number, got "inf""#),
        ("double d = 1;", r#"{"d":1e999}"#, "data.d: 1e999 is out of the range of double"),
        ("string s = 1;", r#"{"s":"\ud800"}"#, "data.s: unexpected end of hex escape"),
        ("string s = 1;", r#"{"s":5}"#, "data.s: expected a string, got 5"),
        ("bool b = 1;", r#"{"b":"true"}"#, r#"data.b: expected true or false, got "true""#),
        ("bool b = 1;", r#"{"b":1}"#, "data.b: expected true or false, got 1"),
        ("bytes b = 1;", r#"{"b":"*"}"#, r#"data.b: expected bytes as base64 text, got "*""#),
        ("repeated int64 n = 1;", r#"{"n":[1,null]}"#, "data.n[1]: expected an integer, got null"),
        ("repeated int64 n = 1;", r#"{"n":3}"#, "data.n: expected a list, got 3"),
        ("repeated int64 n = 1;", r#"{"n":{"a":3}}"#, "data.n: expected a list, got an object"),
        ("repeated int64 n = 1;", r#"{"n":[[1]]}"#, "data.n[0]: expected an integer, got a list"),
        ("map<string, int64> m = 1;", r#"{"m":[1]}"#, "data.m: expected an object, got a list"),
        (
            "map<string, int64> m = 1;",
            r#"{"m":{"a":1,"b":"x"}}"#,
            r#"data.m["b"]: expected an integer, got "x""#,
        ),
        ("map<string, int64> m = 1;", r#"{"m":{"a":null}}"#, r#"data.m["a"]: expected an integer, got null"#),
        ("map<string, int64> m = 1;", r#"{"m":{"a":1,"a":2}}"#, r#"data.m["a"]: given twice; leave one"#),
        ("map<int32, int64> m = 1;", r#"{"m":{"1":1,"01":2}}"#, r#"data.m["1"]: given twice; leave one"#),
        ("map<int32, int64> m = 1;", r#"{"m":{"x":1}}"#, r#"data.m: expected an integer as key, got "x""#),
        (
            "map<bool, int64> m = 1;",
            r#"{"m":{"yes":1}}"#,
            r#"data.m: expected true or false as key, got "yes""#,
        ),
        (
            "message C { int64 n = 1; } C c = 1;",
            r#"{"c":{"n":"x"}}"#,
            r#"data.c.n: expected an integer, got "x""#,
        ),
        ("message C { int64 n = 1; } C c = 1;", r#"{"c":[]}"#, "data.c: expected an object, got a list"),
        (
            "message C { int64 n = 1; string s = 2; } repeated C c = 1;",
            r#"{"c":[{},{"m":1}]}"#,
            "data.c[1].m: not a field of `tea.made`; here it has n, s",
        ),
        ("int64 n = 1;", r#"{"N":1}"#, "data.N: not a field of `tea.made`; here it has n"),
        ("int64 n = 1;", r#"{"n":1,"n":1}"#, "data.n: given twice; leave one"),
        ("int64 n_m = 1;", r#"{"n_m":1,"nM":1}"#, "data.n_m: given twice; leave one"),
        (
            "oneof o { int64 a = 1; int64 b = 2; }",
            r#"{"a":1,"b":1}"#,
            "data.b: `a` is given too, and only one of `o` may be",
        ),
        ("enum K { G = 0; B = 1; } K k = 1;", r#"{"k":"R"}"#, r#"data.k: expected one of G, B, got "R""#),
        ("enum K { G = 0; B = 1; } K k = 1;", r#"{"k":2}"#, "data.k: expected one of G, B, got 2"),
        (
            "google.protobuf.Timestamp t = 1;",
            r#"{"t":"yesterday"}"#,
            r#"data.t: expected an RFC 3339 time such as "2026-01-31T08:00:00Z", got "yesterday""#,
        ),
        (
            "google.protobuf.Duration d = 1;",
            r#"{"d":5}"#,
            r#"data.d: expected a duration in seconds such as "1.5s", got 5"#,
        ),
        ("int64 n = 1;", "[]", "data: invalid type: sequence, expected an object"),
        ("int64 n = 1;", "\"x\"", "data: invalid type: string \"x\", expected an object"),
    ] {
        assert_eq!(wrong(fields, data), reason, "{fields} {data}");
    }
}

#[test]
fn long_text_is_cut_in_reasons() {
    let data = format!(r#"{{"n":"{}"}}"#, "ä".repeat(500));
    assert_eq!(
        wrong("int64 n = 1;", &data),
        format!("data.n: expected an integer, got \"{}…\"", "ä".repeat(40))
    );
    let data = format!(r#"{{"{}":1}}"#, "n".repeat(5000));
    assert!(wrong("int64 n = 1;", &data).len() < 150);
}

#[test]
fn values_follow_proto3_json() {
    for (fields, data, back) in [
        ("int64 n = 1;", r#"{"n":"9007199254740993"}"#, json!({"n": 9_007_199_254_740_993_i64})),
        ("int64 n = 1;", r#"{"n":-9223372036854775808}"#, json!({"n": i64::MIN})),
        ("uint64 n = 1;", r#"{"n":18446744073709551615}"#, json!({"n": u64::MAX})),
        ("int32 n = 1;", r#"{"n":3.0}"#, json!({"n": 3})),
        ("int32 n = 1;", r#"{"n":"1e3"}"#, json!({"n": 1000})),
        ("int64 n = 1;", r#"{"n":0}"#, json!({"n": 0})),
        ("optional int64 n = 1;", r#"{"n":0}"#, json!({"n": 0})),
        ("string s = 1;", r#"{"s":""}"#, json!({"s": ""})),
        ("int64 n = 1;", r#"{"n":null}"#, json!({})),
        ("int64 n = 1;", "{}", json!({})),
        ("int64 n = 1;", "null", json!({})),
        ("int64 how_many = 1;", r#"{"howMany":1}"#, json!({"how_many": 1})),
        ("int64 how_many = 1;", r#"{"how_many":1}"#, json!({"how_many": 1})),
        ("int64 n = 1 [json_name = \"Count\"];", r#"{"Count":1}"#, json!({"n": 1})),
        ("double d = 1;", r#"{"d":3}"#, json!({"d": 3.0})),
        ("double d = 1;", r#"{"d":"2.5"}"#, json!({"d": 2.5})),
        ("double d = 1;", r#"{"d":"NaN"}"#, json!({"d": "NaN"})),
        ("float d = 1;", r#"{"d":"-Infinity"}"#, json!({"d": "-Infinity"})),
        ("float d = 1;", r#"{"d":0.1}"#, json!({"d": 0.1})),
        ("bytes b = 1;", r#"{"b":"-_8"}"#, json!({"b": "+/8="})),
        ("enum K { G = 0; B = 1; } K k = 1;", r#"{"k":1}"#, json!({"k": "B"})),
        ("enum K { G = 0; B = 1; } repeated K k = 1;", r#"{"k":["B",0]}"#, json!({"k": ["B", "G"]})),
        ("google.protobuf.BoolValue b = 1;", r#"{"b":false}"#, json!({"b": false})),
        ("google.protobuf.StringValue s = 1;", r#"{"s":""}"#, json!({"s": ""})),
        ("google.protobuf.Int64Value n = 1;", r#"{"n":null}"#, json!({})),
        ("google.protobuf.Duration d = 1;", r#"{"d":"-1.25s"}"#, json!({"d": "-1.25s"})),
        (
            "google.protobuf.Timestamp t = 1;",
            r#"{"t":"1969-12-31T23:59:59.123456789-01:00"}"#,
            json!({"t": "1970-01-01T00:59:59.123456789Z"}),
        ),
        ("map<bool, string> m = 1;", r#"{"m":{"true":"a"}}"#, json!({"m": {"true": "a"}})),
        ("map<sint32, bytes> m = 1;", r#"{"m":{"-5":""}}"#, json!({"m": {"-5": ""}})),
        ("oneof o { int64 a = 1; int64 b = 2; }", r#"{"a":null,"b":1}"#, json!({"b": 1})),
        ("repeated int64 n = 1;", r#"{"n":[]}"#, json!({})),
        ("repeated int64 n = 1;", r#"{"n":{}}"#, json!({})),
        ("map<string, int64> m = 1;", r#"{"m":{}}"#, json!({})),
        ("map<string, int64> m = 1;", r#"{"m":[]}"#, json!({})),
        ("message C { int64 n = 1; } C c = 1;", r#"{"c":{}}"#, json!({"c": {}})),
    ] {
        assert_eq!(round(fields, data), back, "{fields} {data}");
    }
}

#[test]
fn unknown_fields_are_left_out_on_request() {
    let catalogue = tea("int64 n = 1;").unwrap();
    let made = catalogue.get("tea.made").unwrap();
    let deep = format!(r#"{{"x":{}{},"n":1}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let bytes = made.encode_json(&raw(&deep), UnknownFields::Ignore).unwrap();
    assert_eq!(made.decode_json(&bytes).unwrap(), json!({"n": 1}));
    assert!(made.encode_json(&raw(&deep), UnknownFields::Reject).unwrap_err().field == "data.x");
    let value = serde_json::from_str(r#"{"n":"x"}"#).unwrap();
    assert_eq!(made.encode_value(&value, UnknownFields::Ignore).unwrap_err().field, "data.n");
}

#[test]
fn data_has_a_largest_size() {
    let catalogue = tea("string s = 1;").unwrap();
    let made = catalogue.get("tea.made").unwrap();
    let of = |bytes: usize| raw(&format!(r#"{{"s":"{}"}}"#, "x".repeat(bytes - 8)));
    assert!(made.encode_json(&of(MAX_DATA_BYTES), UnknownFields::Reject).is_ok());
    let error = made.encode_json(&of(MAX_DATA_BYTES + 1), UnknownFields::Reject).unwrap_err();
    assert_eq!(error.to_string(), "data: 1048577 bytes of JSON; at most 1048576 are taken");
}
