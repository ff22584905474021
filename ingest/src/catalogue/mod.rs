//! The catalogue: which signal types there are, declared in protobuf files and read at start-up.
//!
//! A message becomes a type by `option (kairos.signal_type) = "task.completed";`. From that one declaration
//! come the check at the door ([`SignalType::encode_json`]), the stored bytes, the SQL table
//! ([`SignalType::schema`], [`SignalType::builder`]) and the JSON Schema ([`SignalType::json_schema`]).
//!
//! Meaning of the values:
//! - JSON follows proto3's mapping: a field goes by its declared or its lowerCamelCase name, 64-bit integers
//!   may be text, enumerations go by name or number, `null` is the same as leaving the field out. Beyond it,
//!   `{}` is taken for an empty list and `[]` for an empty map.
//! - A field that is left out is NULL, whether or not it is declared `optional`; a zero that is given stays a
//!   zero. A list or map that is left out is empty, never NULL, as protobuf cannot tell the two apart.
//! - `google.protobuf.Timestamp` becomes milliseconds UTC, `google.protobuf.Duration` whole milliseconds as
//!   Int64 (both rounded down), a wrapper such as `Int64Value` its plain value, an enumeration its name.

mod arrow_types;
mod builtin;
mod column;
mod declare;
mod encode;
mod error;
mod evolution;
mod json;
mod json_schema;
mod json_text;
mod rows;
mod shape;
mod source;
mod spans;
mod table;
mod text;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use arrow::datatypes::SchemaRef;
use serde_json::value::RawValue;

pub use error::{CatalogueError, Damaged, Invalid, Problem};
pub use evolution::{Breakage, Outline, check_evolution};
pub use table::TableBuilder;

use shape::Message;
use source::Source;

/// The columns every table begins with; none is ever NULL.
pub const ENVELOPE: [&str; 7] = ["id", "source", "subject", "time", "received_at", "partition", "offset"];

/// The longest `data` taken, in bytes of JSON.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// What to do with a field of `data` that the type does not declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// Refuse the signal, naming the field.
    #[default]
    Reject,
    /// Leave the field out.
    Ignore,
}

/// One declared signal type.
#[derive(Debug)]
pub struct SignalType {
    /// Its name, such as `task.completed`.
    pub name: String,
    /// Its SQL table, such as `task_completed`.
    pub table: String,
    /// Other names accepted at the door.
    pub aliases: Vec<String>,
    /// The comment before its declaration; empty if there is none.
    pub doc: String,
    /// File and line of its declaration.
    pub declared_at: String,
    /// Columns of its table: those of [`ENVELOPE`], then its fields.
    pub schema: SchemaRef,
    message: Arc<Message>,
}

impl SignalType {
    /// Checks the `data` of a signal and gives its protobuf encoding.
    pub fn encode_json(&self, data: &RawValue, unknown: UnknownFields) -> Result<Vec<u8>, Invalid> {
        let bytes = data.get().len();
        if bytes > MAX_DATA_BYTES {
            let reason = format!("{bytes} bytes of JSON; at most {MAX_DATA_BYTES} are taken");
            return Err(Invalid { field: "data".to_owned(), reason });
        }
        encode::encode_text(&self.name, &self.message, data.get(), unknown)
    }

    /// As [`encode_json`](Self::encode_json), from a value in memory, whatever its size.
    pub fn encode_value(&self, data: &serde_json::Value, unknown: UnknownFields) -> Result<Vec<u8>, Invalid> {
        encode::encode_value(&self.name, &self.message, data, unknown)
    }

    /// The stored bytes as JSON: declared names, integers as numbers, times as RFC 3339, enumerations by name,
    /// bytes as base64, NaN and infinities as text; what is absent or an empty list is left out.
    pub fn decode_json(&self, data: &[u8]) -> Result<serde_json::Value, Damaged> {
        json::decode(&self.message, data)
    }

    /// Appends the stored bytes as JSON text like that of [`decode_json`](Self::decode_json), with the fields
    /// in the order in which they stand.
    pub(crate) fn write_json(&self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Damaged> {
        json_text::write(&self.message, data, out)
    }

    /// JSON Schema (draft 2020-12) of `data` in its usual form: declared names, integers as numbers.
    pub fn json_schema(&self) -> serde_json::Value {
        json_schema::of(self)
    }

    /// Gathers records of this type into Arrow batches with [`schema`](Self::schema).
    pub fn builder(&self) -> TableBuilder {
        TableBuilder::new(&self.name, self.schema.clone(), &self.message)
    }
}

/// Every declared signal type.
#[derive(Debug, Default)]
pub struct Catalogue {
    types: Vec<Arc<SignalType>>,
    by_name: HashMap<String, usize>,
    by_table: HashMap<String, usize>,
}

impl Catalogue {
    /// The built-in types and those declared by `*.proto` files below `dirs`.
    ///
    /// Files of one directory may import each other, `kairos/signal.proto`, google's well-known types and the
    /// built-in files. A directory given twice counts once.
    pub fn load(dirs: &[PathBuf]) -> Result<Catalogue, CatalogueError> {
        let mut sources = vec![Source::in_memory("built-in", builtin::FILES)];
        let mut problems = Vec::new();
        let mut read: Vec<PathBuf> = Vec::new();
        for dir in dirs {
            let same = dir.canonicalize().unwrap_or_else(|_| dir.clone());
            if read.contains(&same) {
                continue;
            }
            read.push(same);
            match Source::directory(dir) {
                Ok(source) => sources.push(source),
                Err(problem) => problems.push(problem),
            }
        }
        Self::from_sources(&sources, problems)
    }

    /// The built-in types and those declared by one set of files in memory (import name, text).
    pub fn parse(files: &[(&str, &str)]) -> Result<Catalogue, CatalogueError> {
        let sources = [Source::in_memory("built-in", builtin::FILES), Source::in_memory("", files)];
        Self::from_sources(&sources, Vec::new())
    }

    fn from_sources(sources: &[Source], mut problems: Vec<Problem>) -> Result<Catalogue, CatalogueError> {
        let mut types = Vec::new();
        for source in sources {
            let (pool, wrong) = source.compile();
            let before = problems.len();
            problems.extend(wrong);
            let declared = declare::types(source, &pool, &mut problems);
            if declared.is_empty() && !source.files.is_empty() && problems.len() == before {
                problems.push(Problem {
                    place: source.root.display().to_string(),
                    what:
                        "no file here declares a type; give a message `option (kairos.signal_type) = \"…\";`"
                            .to_owned(),
                });
            }
            types.extend(declared.into_iter().map(Arc::new));
        }
        problems.extend(declare::clashes(&types));
        if !problems.is_empty() {
            return Err(CatalogueError { problems });
        }
        let mut catalogue = Catalogue { types, ..Catalogue::default() };
        for (index, declared) in catalogue.types.iter().enumerate() {
            catalogue.by_table.insert(declared.table.clone(), index);
            for name in declared.aliases.iter().chain([&declared.name]) {
                catalogue.by_name.insert(name.clone(), index);
            }
        }
        Ok(catalogue)
    }

    /// The type with this name or alias. Store signals under its [`name`](SignalType::name).
    pub fn get(&self, kind: &str) -> Option<&Arc<SignalType>> {
        self.types.get(*self.by_name.get(kind)?)
    }

    /// The type with this table.
    pub fn by_table(&self, table: &str) -> Option<&Arc<SignalType>> {
        self.types.get(*self.by_table.get(table)?)
    }

    /// Every type: the built-in ones first, then by directory and file.
    pub fn types(&self) -> impl Iterator<Item = &Arc<SignalType>> {
        self.types.iter()
    }

    /// What other programs and stored signals rely on, for [`check_evolution`].
    pub fn outline(&self) -> Outline {
        Outline::of(self)
    }
}
