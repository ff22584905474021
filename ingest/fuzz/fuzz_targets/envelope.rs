//! Any bytes are read as an envelope or refused; what is read and written again is read the same.
#![no_main]

use ingest::admit::Envelope;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Envelope::parse(bytes) else { return };
    for (name, value) in &read.extensions {
        serde_json::from_str::<Value>(value).unwrap_or_else(|e| panic!("extension {name}: {e}"));
    }
    let text = json!({"id": read.id, "source": read.source, "type": read.kind, "subject": read.subject}).to_string();
    let again = Envelope::parse(text.as_bytes()).expect("own form");
    assert_eq!(
        (&read.id, &read.source, &read.kind, &read.subject),
        (&again.id, &again.source, &again.kind, &again.subject)
    );
});
