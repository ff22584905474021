//! What a declared message looks like, worked out once: everything that encoders and decoders branch on.

use std::sync::Arc;

use hashbrown::HashMap;

/// Most fields one message may have.
pub(crate) const MAX_FIELDS: usize = 256;
/// Most columns one type may have, those inside nested messages included.
pub(crate) const MAX_COLUMNS: usize = 1024;
/// How deep messages may nest.
pub(crate) const MAX_DEPTH: usize = 16;

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) doc: String,
    /// In the order of declaration.
    pub(crate) fields: Vec<Field>,
    /// Index by declared name and by lowerCamelCase name.
    pub(crate) names: HashMap<String, usize>,
}

impl Message {
    /// Index of the field with this name, declared or lowerCamelCase.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Index of the field with this number. Fields are mostly numbered 1, 2, 3 in order.
    pub(crate) fn numbered(&self, number: u32) -> Option<usize> {
        let guess = (number as usize).wrapping_sub(1);
        match self.fields.get(guess) {
            Some(field) if field.number == number => Some(guess),
            _ => self.fields.iter().position(|f| f.number == number),
        }
    }
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) number: u32,
    pub(crate) cardinality: Cardinality,
    /// What it holds: itself, each element, or each value of the map.
    pub(crate) kind: Kind,
    /// The group of fields of which at most one may be set.
    pub(crate) oneof: Option<Arc<Oneof>>,
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cardinality {
    One,
    List,
    /// With the kind of its keys.
    Map(Scalar),
}

/// What a field holds.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Enum(Arc<Enum>),
    /// google.protobuf.Timestamp
    Timestamp,
    /// google.protobuf.Duration
    Duration,
    /// A message of google/protobuf/wrappers.proto.
    Wrapped(Scalar),
    Message(Arc<Message>),
}

/// Protobuf's plain types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    Bool,
    String,
    Bytes,
}

/// An enumeration.
#[derive(Debug)]
pub(crate) struct Enum {
    /// Name and number, in the order of declaration.
    pub(crate) values: Vec<(String, i32)>,
}

impl Enum {
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, number)| *number)
    }

    /// The first name with this number.
    pub(crate) fn name(&self, number: i32) -> Option<&str> {
        self.values.iter().find(|(_, n)| *n == number).map(|(name, _)| name.as_str())
    }
}

/// A group of fields of which at most one may be set.
#[derive(Debug)]
pub(crate) struct Oneof {
    pub(crate) name: String,
    pub(crate) members: FieldSet,
}

/// A set of field indexes of one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FieldSet([u64; MAX_FIELDS / 64]);

impl FieldSet {
    /// Adds an index; whether it was new.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = (&mut self.0[index / 64], 1 << (index % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// The lowest index in both sets.
    pub(crate) fn first_common(&self, other: &FieldSet) -> Option<usize> {
        let mut words = self.0.iter().zip(other.0).map(|(a, b)| a & b).enumerate();
        words.find(|(_, w)| *w != 0).map(|(i, w)| i * 64 + w.trailing_zeros() as usize)
    }
}

impl Scalar {
    /// As written in a declaration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Uint32 => "uint32",
            Scalar::Uint64 => "uint64",
            Scalar::Sint32 => "sint32",
            Scalar::Sint64 => "sint64",
            Scalar::Fixed32 => "fixed32",
            Scalar::Fixed64 => "fixed64",
            Scalar::Sfixed32 => "sfixed32",
            Scalar::Sfixed64 => "sfixed64",
            Scalar::Float => "float",
            Scalar::Double => "double",
            Scalar::Bool => "bool",
            Scalar::String => "string",
            Scalar::Bytes => "bytes",
        }
    }

    /// Whether lists of it are packed into one length-delimited value.
    pub(crate) fn packs(self) -> bool {
        !matches!(self, Scalar::String | Scalar::Bytes)
    }
}

impl Kind {
    /// Whether lists of it are packed into one length-delimited value.
    pub(crate) fn packs(&self) -> bool {
        match self {
            Kind::Scalar(scalar) => scalar.packs(),
            Kind::Enum(_) => true,
            _ => false,
        }
    }
}
