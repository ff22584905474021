//! From descriptors to declared types: the checks a declaration must pass.

use std::{collections::BTreeMap, sync::Arc};

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind as ProtoKind, MessageDescriptor, Syntax, Value,
};

use super::{
    ENVELOPE, SignalType, arrow_types,
    error::Problem,
    shape::{
        Cardinality, Enum, Field, FieldSet, Kind, MAX_COLUMNS, MAX_DEPTH, MAX_FIELDS, Message, Oneof, Scalar,
    },
    source::{self, Source},
};

/// Tables that are not a signal type's.
const RESERVED_TABLES: [&str; 3] = ["signals", "deliveries", "llm_calls"];

/// The types declared in the files of one source.
pub(crate) fn types(source: &Source, pool: &DescriptorPool, problems: &mut Vec<Problem>) -> Vec<SignalType> {
    let mut types = Vec::new();
    for file in pool.files().filter(|f| source.files.contains_key(f.name())) {
        let mut messages: Vec<MessageDescriptor> = file.messages().collect();
        while !messages.is_empty() {
            let nested = messages.iter().flat_map(|m| m.child_messages().collect::<Vec<_>>()).collect();
            types.extend(messages.iter().filter_map(|m| signal_type(source, m, problems)));
            messages = nested;
        }
    }
    types
}

fn signal_type(
    source: &Source,
    message: &MessageDescriptor,
    problems: &mut Vec<Problem>,
) -> Option<SignalType> {
    let options = message.options();
    let name = texts(message, &options, "kairos.signal_type").pop();
    let table = texts(message, &options, "kairos.table").pop();
    let aliases = texts(message, &options, "kairos.alias");
    let place = source.place(&message.parent_file(), message.path());
    let known = problems.len();
    let Some(name) = name else {
        if table.is_some() || !aliases.is_empty() {
            let what = "a table or an alias without a type; add `option (kairos.signal_type) = \"…\";`";
            problems.push(Problem { place, what: what.to_owned() });
        }
        return None;
    };
    for name in aliases.iter().chain([&name]) {
        if !name.split('.').all(is_word) || name.len() > 128 {
            let what = format!(
                "`{name}` is no type name; it is lower-case words (a-z, 0-9, _) joined by dots, such as \
                 `task.completed`"
            );
            problems.push(Problem { place: place.clone(), what });
        }
    }
    if let Some(table) = table.as_ref().filter(|table| !is_word(table)) {
        let what = format!("`{table}` is no table name; it is a lower-case word (a-z, 0-9, _)");
        problems.push(Problem { place: place.clone(), what });
    }
    let table = table.unwrap_or_else(|| name.replace('.', "_"));
    if RESERVED_TABLES.contains(&table.as_str()) || table.starts_with("features_") {
        let what = format!("the table `{table}` is the system's own; set another with `kairos.table`");
        problems.push(Problem { place: place.clone(), what });
    }
    let mut shaper = Shaper { source, problems, within: Vec::new(), columns: 0 };
    let shape = shaper.message(message);
    for field in message.fields().filter(|f| ENVELOPE.contains(&f.name())) {
        let what = format!(
            "the field `{}` has the name of a column every table has ({}); rename it",
            field.name(),
            ENVELOPE.join(", ")
        );
        problems.push(Problem { place: source.place(&message.parent_file(), field.path()), what });
    }
    let message = Arc::new(shape.filter(|_| problems.len() == known)?);
    let schema = arrow_types::schema(&message);
    let doc = message.doc.clone();
    Some(SignalType { name, table, aliases, doc, declared_at: place, schema, message })
}

/// The values of an option; none if it is not set.
fn texts(message: &MessageDescriptor, options: &DynamicMessage, option: &str) -> Vec<String> {
    let Some(extension) = message.parent_pool().get_extension_by_name(option) else { return Vec::new() };
    if !options.has_extension(&extension) {
        return Vec::new();
    }
    match options.get_extension(&extension).as_ref() {
        Value::String(text) => vec![text.clone()],
        Value::List(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// `[a-z][a-z0-9_]*`
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

struct Shaper<'a> {
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
    /// Full names of the messages we are inside of.
    within: Vec<String>,
    columns: usize,
}

impl Shaper<'_> {
    fn message(&mut self, message: &MessageDescriptor) -> Option<Message> {
        let file = message.parent_file();
        let wrong = |what: String| Problem { place: self.source.place(&file, message.path()), what };
        let name = message.full_name();
        if file.syntax() != Syntax::Proto3 {
            let what = format!("`{name}` is not proto3; begin the file with `syntax = \"proto3\";`");
            self.problems.push(wrong(what));
            return None;
        }
        let count = message.fields().len();
        if count == 0 {
            self.problems.push(wrong(format!("`{name}` has no fields; a type needs at least one")));
            return None;
        }
        if count > MAX_FIELDS {
            let what = format!("`{name}` has {count} fields; at most {MAX_FIELDS} fit, so split it");
            self.problems.push(wrong(what));
            return None;
        }
        if self.within.len() == MAX_DEPTH {
            let what = format!("`{name}` stands more than {MAX_DEPTH} messages deep; flatten it");
            self.problems.push(wrong(what));
            return None;
        }
        self.within.push(name.to_owned());
        let mut fields: Vec<Field> = message.fields().filter_map(|f| self.field(&f)).collect();
        self.within.pop();
        if fields.len() < count {
            return None;
        }
        for oneof in message.oneofs().filter(|o| !o.is_synthetic()) {
            let mut members = FieldSet::default();
            let numbers: Vec<u32> = oneof.fields().map(|f| f.number()).collect();
            let indexes: Vec<usize> =
                (0..fields.len()).filter(|i| numbers.contains(&fields[*i].number)).collect();
            for index in &indexes {
                members.insert(*index);
            }
            let oneof = Arc::new(Oneof { name: oneof.name().to_owned(), members });
            for index in indexes {
                fields[index].oneof = Some(oneof.clone());
            }
        }
        let mut names = hashbrown::HashMap::new();
        for (index, field) in message.fields().enumerate() {
            names.insert(field.json_name().to_owned(), index);
        }
        for (index, field) in fields.iter().enumerate() {
            names.insert(field.name.clone(), index);
        }
        Some(Message { doc: source::doc(&file, message.path()), fields, names })
    }

    fn field(&mut self, field: &FieldDescriptor) -> Option<Field> {
        let file = field.parent_message().parent_file();
        let place = self.source.place(&file, field.path());
        let name = field.name();
        self.columns += 1;
        if self.columns > MAX_COLUMNS {
            if self.columns == MAX_COLUMNS + 1 {
                let what = format!("more than {MAX_COLUMNS} columns, nested ones counted; split the type");
                self.problems.push(Problem { place, what });
            }
            return None;
        }
        if !is_word(name) {
            let what = format!(
                "`{name}` is no column name; it is a lower-case word (a-z, 0-9, _); in JSON the \
                 lowerCamelCase form is understood as well"
            );
            self.problems.push(Problem { place, what });
            return None;
        }
        let (cardinality, kind) = match field.kind() {
            ProtoKind::Message(entry) if field.is_map() => {
                let key = scalar(&entry.map_entry_key_field().kind())?;
                (Cardinality::Map(key), entry.map_entry_value_field().kind())
            }
            kind if field.is_list() => (Cardinality::List, kind),
            kind => (Cardinality::One, kind),
        };
        let kind = self.kind(&place, name, &kind)?;
        let doc = source::doc(&file, field.path());
        Some(Field { name: name.to_owned(), doc, number: field.number(), cardinality, kind, oneof: None })
    }

    fn kind(&mut self, place: &str, field: &str, kind: &ProtoKind) -> Option<Kind> {
        if let Some(scalar) = scalar(kind) {
            return Some(Kind::Scalar(scalar));
        }
        let message = match kind {
            ProtoKind::Enum(e) => {
                let values = e.values().map(|v| (v.name().to_owned(), v.number())).collect();
                return Some(Kind::Enum(Arc::new(Enum { values })));
            }
            ProtoKind::Message(message) => message,
            _ => return None,
        };
        let full = message.full_name();
        if let Some(known) = full.strip_prefix("google.protobuf.") {
            let kind = well_known(known);
            if kind.is_none() {
                let what = format!(
                    "`{field}` is a {full}, which has no columns; name its fields in a message of your own, or \
                     carry it as a string"
                );
                self.problems.push(Problem { place: place.to_owned(), what });
            }
            return kind;
        }
        if self.within.iter().any(|name| name == full) {
            let what = format!(
                "`{field}` makes `{full}` contain itself; a table has no recursive columns, so flatten it or \
                 carry it as a string"
            );
            self.problems.push(Problem { place: place.to_owned(), what });
            return None;
        }
        Some(Kind::Message(Arc::new(self.message(message)?)))
    }
}

fn scalar(kind: &ProtoKind) -> Option<Scalar> {
    Some(match kind {
        ProtoKind::Int32 => Scalar::Int32,
        ProtoKind::Int64 => Scalar::Int64,
        ProtoKind::Uint32 => Scalar::Uint32,
        ProtoKind::Uint64 => Scalar::Uint64,
        ProtoKind::Sint32 => Scalar::Sint32,
        ProtoKind::Sint64 => Scalar::Sint64,
        ProtoKind::Fixed32 => Scalar::Fixed32,
        ProtoKind::Fixed64 => Scalar::Fixed64,
        ProtoKind::Sfixed32 => Scalar::Sfixed32,
        ProtoKind::Sfixed64 => Scalar::Sfixed64,
        ProtoKind::Float => Scalar::Float,
        ProtoKind::Double => Scalar::Double,
        ProtoKind::Bool => Scalar::Bool,
        ProtoKind::String => Scalar::String,
        ProtoKind::Bytes => Scalar::Bytes,
        ProtoKind::Message(_) | ProtoKind::Enum(_) => return None,
    })
}

/// Types of google.protobuf that are a column.
fn well_known(name: &str) -> Option<Kind> {
    Some(match name {
        "Timestamp" => Kind::Timestamp,
        "Duration" => Kind::Duration,
        "DoubleValue" => Kind::Wrapped(Scalar::Double),
        "FloatValue" => Kind::Wrapped(Scalar::Float),
        "Int64Value" => Kind::Wrapped(Scalar::Int64),
        "UInt64Value" => Kind::Wrapped(Scalar::Uint64),
        "Int32Value" => Kind::Wrapped(Scalar::Int32),
        "UInt32Value" => Kind::Wrapped(Scalar::Uint32),
        "BoolValue" => Kind::Wrapped(Scalar::Bool),
        "StringValue" => Kind::Wrapped(Scalar::String),
        "BytesValue" => Kind::Wrapped(Scalar::Bytes),
        _ => return None,
    })
}

/// Finds names that two types claim.
pub(crate) fn clashes(types: &[Arc<SignalType>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<&str, &SignalType> = BTreeMap::new();
    let mut tables: BTreeMap<&str, &SignalType> = BTreeMap::new();
    for declared in types {
        for name in declared.aliases.iter().chain([&declared.name]) {
            if let Some(first) = names.insert(name, declared) {
                let what = format!(
                    "the type name `{name}` is taken by `{}` at {}; choose another",
                    first.name, first.declared_at
                );
                problems.push(Problem { place: declared.declared_at.clone(), what });
            }
        }
        if let Some(first) = tables.insert(&declared.table, declared).filter(|f| f.name != declared.name) {
            let what = format!(
                "the table `{}` is taken by `{}` at {}; set another with `option (kairos.table) = \"…\";`",
                declared.table, first.name, first.declared_at
            );
            problems.push(Problem { place: declared.declared_at.clone(), what });
        }
    }
    problems
}
