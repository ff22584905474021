//! One log in all the forms that are read.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use parquet::{arrow::ArrowWriter, basic::Compression as Packing, file::properties::WriterProperties};

use super::*;

/// The reference's log in every form we read.
pub fn all(dir: &Path) -> Vec<PathBuf> {
    let csv = data("obp.csv");
    let mut packed =
        GzEncoder::new(std::fs::File::create(dir.join("a.csv.gz")).unwrap(), Compression::fast());
    packed.write_all(&std::fs::read(&csv).unwrap()).unwrap();
    packed.finish().unwrap();
    let mut files = vec![csv.clone(), dir.join("a.csv.gz")];
    for name in ["flat.jsonl", "flat.parquet"] {
        let input = Input::open(&csv, &[]).unwrap();
        let mut output = Output::create(&dir.join(name), &input.schema()).unwrap();
        input.for_each(|batch| output.write(&batch.unwrap()).unwrap());
        output.finish().unwrap();
        files.push(dir.join(name));
    }
    let flat = std::fs::read_to_string(dir.join("flat.jsonl")).unwrap();
    let nested: Vec<String> = flat.lines().map(nest).collect();
    std::fs::write(dir.join("nested.jsonl"), nested.join("\n")).unwrap();
    files.push(dir.join("nested.jsonl"));
    let input = Input::open(&dir.join("nested.jsonl"), &[]).unwrap();
    let mut output = Output::create(&dir.join("nested.parquet"), &input.schema()).unwrap();
    input.for_each(|batch| output.write(&batch.unwrap()).unwrap());
    output.finish().unwrap();
    files.push(dir.join("nested.parquet"));
    // As other programs pack by default.
    for (name, packing) in [
        ("snappy.parquet", Packing::SNAPPY),
        ("zstd.parquet", Packing::ZSTD(Default::default())),
        ("gzip.parquet", Packing::GZIP(Default::default())),
    ] {
        let input = Input::open(&csv, &[]).unwrap();
        let file = std::fs::File::create(dir.join(name)).unwrap();
        let properties = WriterProperties::builder().set_compression(packing).build();
        let mut output = ArrowWriter::try_new(file, input.schema(), Some(properties)).unwrap();
        input.for_each(|batch| output.write(&batch.unwrap()).unwrap());
        output.close().unwrap();
        files.push(dir.join(name));
    }
    files
}

/// `ctx` as an object, `target` as a list, `model` as an object.
fn nest(line: &str) -> String {
    let flat: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    let mut nested = serde_json::Map::new();
    let mut target = vec![serde_json::Value::Null; 5];
    for (name, value) in flat {
        match name.split_once('.') {
            Some(("target", action)) => target[action.parse::<usize>().unwrap()] = value,
            Some((group, inner)) => {
                let group = nested.entry(group).or_insert_with(|| serde_json::json!({}));
                group[inner] = value;
            }
            None => drop(nested.insert(name, value)),
        }
    }
    nested.insert("target".into(), target.into());
    serde_json::Value::from(nested).to_string()
}
