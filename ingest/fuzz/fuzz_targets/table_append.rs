//! Any stored bytes become a row or are refused without a trace.
#![no_main]

use std::sync::LazyLock;

use ingest::{catalogue::Catalogue, record::RecordRef};
use libfuzzer_sys::fuzz_target;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::load(&[]).expect("built-in types"));

fuzz_target!(|data: &[u8]| {
    for declared in CATALOGUE.types() {
        let row = |data| RecordRef {
            kind: &declared.name,
            id: "1",
            source: "fuzz",
            subject: "ada",
            time: 0,
            received_at: 0,
            data,
        };
        let mut table = declared.builder();
        table.append_ref(0, 0, &row(&[])).expect("an empty message");
        let taken = table.append_ref(0, 1, &row(data)).is_ok();
        table.append_ref(0, 2, &row(&[])).expect("an empty message");
        assert_eq!(table.finish().num_rows(), 2 + usize::from(taken));
        let _ = declared.decode_json(data);
    }
});
