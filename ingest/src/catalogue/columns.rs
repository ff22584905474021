//! Arrow columns of a message, filled straight from its protobuf bytes.

use std::{mem, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray,
        NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{
        ArrowPrimitiveType, DataType, Field as ArrowField, FieldRef, Fields as ArrowFields, Float32Type,
        Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType, UInt32Type,
        UInt64Type,
    },
};

use super::{
    error::Damaged,
    shape::{Cardinality, Kind, Message, Scalar},
    text::millis,
    wire::{Fields, Raw, Value, elements, entry, value},
};

/// Milliseconds since the Unix epoch.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
}

/// The envelope's columns, then the message's.
pub(crate) fn schema(message: &Message) -> SchemaRef {
    let required = |name: &str, data_type| ArrowField::new(name, data_type, false);
    let mut fields = vec![
        required("id", DataType::Utf8),
        required("source", DataType::Utf8),
        required("subject", DataType::Utf8),
        required("time", timestamp()),
        required("received_at", timestamp()),
        required("partition", DataType::UInt32),
        required("offset", DataType::UInt64),
    ];
    fields.extend(fields_of(message));
    Arc::new(Schema::new(fields))
}

fn fields_of(message: &Message) -> impl Iterator<Item = ArrowField> {
    message.fields.iter().map(|field| {
        let item = type_of(&field.kind);
        let data_type = match field.cardinality {
            Cardinality::One => item,
            Cardinality::List => DataType::List(item_field(item)),
            Cardinality::Map(key) => DataType::Map(entries_field(key, item), false),
        };
        ArrowField::new(&field.name, data_type, true)
    })
}

fn item_field(item: DataType) -> FieldRef {
    Arc::new(ArrowField::new_list_field(item, true))
}

fn entries_field(key: Scalar, value: DataType) -> FieldRef {
    let key = ArrowField::new("key", type_of(&Kind::Scalar(key)), false);
    let entry = ArrowFields::from(vec![key, ArrowField::new("value", value, true)]);
    Arc::new(ArrowField::new("entries", DataType::Struct(entry), false))
}

fn type_of(kind: &Kind) -> DataType {
    match kind {
        Kind::Scalar(scalar) | Kind::Wrapped(scalar) => match scalar {
            Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => DataType::Int32,
            Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => DataType::Int64,
            Scalar::Uint32 | Scalar::Fixed32 => DataType::UInt32,
            Scalar::Uint64 | Scalar::Fixed64 => DataType::UInt64,
            Scalar::Float => DataType::Float32,
            Scalar::Double => DataType::Float64,
            Scalar::Bool => DataType::Boolean,
            Scalar::String => DataType::Utf8,
            Scalar::Bytes => DataType::Binary,
        },
        Kind::Enum(_) => DataType::Utf8,
        Kind::Timestamp => timestamp(),
        Kind::Duration => DataType::Int64,
        Kind::Message(message) => DataType::Struct(fields_of(message).collect()),
    }
}

/// The columns of a message, one row a message. A row that fails leaves no trace.
pub(crate) struct Rows {
    message: Arc<Message>,
    columns: Vec<Column>,
    len: usize,
    growth: usize,
}

impl Rows {
    pub(crate) fn new(message: &Arc<Message>) -> Self {
        let columns = message.fields.iter().map(|f| Column::new(f.cardinality, &f.kind)).collect();
        Rows { message: message.clone(), columns, len: 0, growth: growth(message) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes a column of text may gain from one byte of a message: the longest name of an
    /// enumeration, which one byte may stand for.
    pub(crate) fn growth(&self) -> usize {
        self.growth
    }

    /// Adds a row from the encoding of a message. Fields not declared are skipped; of a single field that
    /// occurs several times the last counts.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let filled = self.fill(bytes);
        if filled.is_err() {
            for column in &mut self.columns {
                column.truncate(self.len);
            }
        }
        filled
    }

    fn fill(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let row = self.len;
        let message = self.message.as_ref();
        for found in Fields(bytes) {
            let (number, raw) = found?;
            let Some(index) = message.numbered(number) else { continue };
            let field = &message.fields[index];
            self.columns[index].take(row, field.cardinality, &field.kind, raw)?;
        }
        for column in &mut self.columns {
            column.end_row(row);
        }
        self.len += 1;
        Ok(())
    }

    /// Adds a row of NULLs.
    fn append_null(&mut self) {
        for column in &mut self.columns {
            column.end_row(self.len);
        }
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        for column in &mut self.columns {
            column.truncate(len);
        }
        self.len = len;
    }

    /// The columns so far; starts anew.
    pub(crate) fn finish(&mut self) -> Vec<ArrayRef> {
        self.len = 0;
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

fn growth(message: &Message) -> usize {
    let longest = message.fields.iter().map(|field| match &field.kind {
        // A number without a name is written out, at most as -2147483648.
        Kind::Enum(declared) => declared.values.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(11),
        Kind::Message(nested) => growth(nested),
        _ => 1,
    });
    longest.max().unwrap_or(1)
}

/// Texts or byte strings one after the other, with the end of each.
pub(crate) struct Spans {
    bytes: Vec<u8>,
    /// Begins with 0.
    ends: Vec<i32>,
}

impl Spans {
    pub(crate) fn new() -> Self {
        Spans { bytes: Vec::new(), ends: vec![0] }
    }

    pub(crate) fn push(&mut self, span: &[u8]) {
        self.bytes.extend_from_slice(span);
        self.ends.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let Spans { bytes, ends } = mem::replace(self, Spans::new());
        (OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes))
    }

    pub(crate) fn finish_text(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        let (offsets, bytes) = self.finish();
        StringArray::new(offsets, bytes, nulls)
    }
}

/// One column.
struct Column {
    values: Values,
    nulls: NullBufferBuilder,
}

enum Values {
    I32(Vec<i32>),
    I64(Vec<i64>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(BooleanBufferBuilder),
    Text(Spans),
    Binary(Spans),
    Millis(Vec<i64>),
    Struct(Rows),
    /// `ends` has the end of each row's elements; begins with 0.
    List {
        field: FieldRef,
        ends: Vec<i32>,
        items: Box<Column>,
    },
    /// `ends` has the end of each row's entries; begins with 0.
    Map {
        field: FieldRef,
        ends: Vec<i32>,
        keys: Box<Column>,
        values: Box<Column>,
    },
}

impl Column {
    fn new(cardinality: Cardinality, kind: &Kind) -> Self {
        let single = || Box::new(Column::single(kind));
        match cardinality {
            Cardinality::One => Column::single(kind),
            Cardinality::List => {
                let field = item_field(type_of(kind));
                Column::of(Values::List { field, ends: vec![0], items: single() })
            }
            Cardinality::Map(key) => {
                let field = entries_field(key, type_of(kind));
                let keys = Box::new(Column::single(&Kind::Scalar(key)));
                Column::of(Values::Map { field, ends: vec![0], keys, values: single() })
            }
        }
    }

    fn single(kind: &Kind) -> Self {
        Column::of(match (kind, type_of(kind)) {
            (Kind::Message(message), _) => Values::Struct(Rows::new(message)),
            (_, DataType::Int32) => Values::I32(Vec::new()),
            (_, DataType::Int64) => Values::I64(Vec::new()),
            (_, DataType::UInt32) => Values::U32(Vec::new()),
            (_, DataType::UInt64) => Values::U64(Vec::new()),
            (_, DataType::Float32) => Values::F32(Vec::new()),
            (_, DataType::Float64) => Values::F64(Vec::new()),
            (_, DataType::Boolean) => Values::Bool(BooleanBufferBuilder::new(0)),
            (_, DataType::Binary) => Values::Binary(Spans::new()),
            (_, DataType::Timestamp(..)) => Values::Millis(Vec::new()),
            _ => Values::Text(Spans::new()),
        })
    }

    fn of(values: Values) -> Self {
        Column { values, nulls: NullBufferBuilder::new(0) }
    }

    /// Takes one occurrence of the field within `row`.
    #[inline]
    fn take(
        &mut self,
        row: usize,
        cardinality: Cardinality,
        kind: &Kind,
        raw: Raw<'_>,
    ) -> Result<(), Damaged> {
        match (&mut self.values, cardinality) {
            (Values::List { items, .. }, _) => elements(kind, raw, |element| items.push(element)),
            (Values::Map { keys, values, .. }, Cardinality::Map(key)) => {
                let (key, value) = entry(key, kind, raw)?;
                keys.push(key)?;
                values.push(value)
            }
            _ => {
                if self.nulls.len() > row {
                    self.truncate(row);
                }
                self.push(value(kind, raw)?)
            }
        }
    }

    #[inline]
    fn push(&mut self, value: Value<'_>) -> Result<(), Damaged> {
        match (&mut self.values, value) {
            (Values::I64(column), Value::I64(v)) => column.push(v),
            (Values::F64(column), Value::F64(v)) => column.push(v),
            (Values::Text(column), Value::Text(v)) => column.push(v.as_bytes()),
            (Values::Bool(column), Value::Bool(v)) => column.append(v),
            (Values::I32(column), Value::I32(v)) => column.push(v),
            (Values::U32(column), Value::U32(v)) => column.push(v),
            (Values::U64(column), Value::U64(v)) => column.push(v),
            (Values::F32(column), Value::F32(v)) => column.push(v),
            (Values::Binary(column), Value::Bytes(v)) => column.push(v),
            (Values::Text(column), Value::Enum(declared, number)) => match declared.name(number) {
                Some(name) => column.push(name.as_bytes()),
                None => column.push(number.to_string().as_bytes()),
            },
            (Values::Millis(column), Value::Timestamp(seconds, nanos)) => {
                column.push(millis(seconds, nanos).ok_or_else(|| Damaged::new("a time out of range"))?);
            }
            (Values::I64(column), Value::Duration(seconds, nanos)) => {
                column.push(millis(seconds, nanos).ok_or_else(|| Damaged::new("a duration out of range"))?);
            }
            (Values::Struct(rows), Value::Message(bytes)) => rows.append(bytes)?,
            _ => return Err(Damaged::new("a value of another kind than declared")),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Ends a row: a list ends here, and a value that did not come is NULL.
    #[inline]
    fn end_row(&mut self, row: usize) {
        match &mut self.values {
            Values::List { ends, items, .. } => {
                ends.push(items.nulls.len() as i32);
                self.nulls.append_non_null();
            }
            Values::Map { ends, keys, .. } => {
                ends.push(keys.nulls.len() as i32);
                self.nulls.append_non_null();
            }
            _ if self.nulls.len() > row => {}
            _ => {
                match &mut self.values {
                    Values::I32(column) => column.push(0),
                    Values::I64(column) | Values::Millis(column) => column.push(0),
                    Values::U32(column) => column.push(0),
                    Values::U64(column) => column.push(0),
                    Values::F32(column) => column.push(0.0),
                    Values::F64(column) => column.push(0.0),
                    Values::Bool(column) => column.append(false),
                    Values::Text(column) | Values::Binary(column) => column.push(&[]),
                    Values::Struct(rows) => rows.append_null(),
                    Values::List { .. } | Values::Map { .. } => {}
                }
                self.nulls.append_null();
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        match &mut self.values {
            Values::I32(column) => column.truncate(len),
            Values::I64(column) | Values::Millis(column) => column.truncate(len),
            Values::U32(column) => column.truncate(len),
            Values::U64(column) => column.truncate(len),
            Values::F32(column) => column.truncate(len),
            Values::F64(column) => column.truncate(len),
            Values::Bool(column) => column.truncate(len),
            Values::Text(column) | Values::Binary(column) => column.truncate(len),
            Values::Struct(rows) => rows.truncate(len),
            Values::List { ends, items, .. } => {
                ends.truncate(len + 1);
                items.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Map { ends, keys, values, .. } => {
                ends.truncate(len + 1);
                let entries = ends.last().map_or(0, |end| *end as usize);
                keys.truncate(entries);
                values.truncate(entries);
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::I32(column) => primitive::<Int32Type>(column, nulls),
            Values::I64(column) => primitive::<Int64Type>(column, nulls),
            Values::U32(column) => primitive::<UInt32Type>(column, nulls),
            Values::U64(column) => primitive::<UInt64Type>(column, nulls),
            Values::F32(column) => primitive::<Float32Type>(column, nulls),
            Values::F64(column) => primitive::<Float64Type>(column, nulls),
            Values::Bool(column) => Arc::new(BooleanArray::new(column.finish(), nulls)),
            Values::Text(column) => Arc::new(column.finish_text(nulls)),
            Values::Binary(column) => {
                let (offsets, bytes) = column.finish();
                Arc::new(BinaryArray::new(offsets, bytes, nulls))
            }
            Values::Millis(column) => Arc::new(utc(mem::take(column), nulls)),
            Values::Struct(rows) => {
                Arc::new(StructArray::new(fields_of(&rows.message).collect(), rows.finish(), nulls))
            }
            Values::List { field, ends, items } => {
                let offsets = OffsetBuffer::new(mem::replace(ends, vec![0]).into());
                Arc::new(ListArray::new(field.clone(), offsets, items.finish(), nulls))
            }
            Values::Map { field, ends, keys, values } => {
                let (keys, values) = (keys.finish(), values.finish());
                let entries = StructArray::from(vec![
                    (Arc::new(ArrowField::new("key", keys.data_type().clone(), false)), keys),
                    (Arc::new(ArrowField::new("value", values.data_type().clone(), true)), values),
                ]);
                let offsets = OffsetBuffer::new(mem::replace(ends, vec![0]).into());
                Arc::new(MapArray::new(field.clone(), offsets, entries, nulls, false))
            }
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(column: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(mem::take(column)), nulls))
}

/// A column of [`timestamp`].
pub(crate) fn utc(millis: Vec<i64>, nulls: Option<NullBuffer>) -> PrimitiveArray<TimestampMillisecondType> {
    PrimitiveArray::new(millis.into(), nulls).with_timezone("+00:00")
}
