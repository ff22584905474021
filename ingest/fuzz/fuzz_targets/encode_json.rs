//! Any JSON is encoded or refused; what is encoded comes back, and encodes again to the same values.
#![no_main]

use std::sync::LazyLock;

use ingest::catalogue::{Catalogue, UnknownFields};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::load(&[]).expect("built-in types"));

fuzz_target!(|text: &str| {
    let Ok(data) = serde_json::from_str::<&RawValue>(text) else { return };
    for declared in CATALOGUE.types() {
        let _ = declared.encode_json(data, UnknownFields::Ignore);
        if let Ok(bytes) = declared.encode_json(data, UnknownFields::Reject) {
            let back = declared.decode_json(&bytes).expect("own encoding");
            let again = declared.encode_value(&back, UnknownFields::Reject).expect("own JSON");
            assert_eq!(declared.decode_json(&again).expect("own encoding"), back);
        }
    }
});
