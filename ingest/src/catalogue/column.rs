//! One Arrow column, filled value by value.

use std::{mem, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray,
        NullBufferBuilder, PrimitiveArray, StructArray,
    },
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{
        ArrowPrimitiveType, DataType, Field as ArrowField, FieldRef, Float32Type, Float64Type, Int32Type,
        Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type,
    },
};

use super::{
    arrow_types::{entries_field, fields_of, item_field, type_of},
    error::Damaged,
    rows::Rows,
    shape::{Cardinality, Kind},
    spans::Spans,
    text::millis,
    wire::{Raw, Value, elements, entry, value},
};

/// One column.
pub(crate) struct Column {
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
    pub(crate) fn new(cardinality: Cardinality, kind: &Kind) -> Self {
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
    pub(crate) fn take(
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
    pub(crate) fn end_row(&mut self, row: usize) {
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

    pub(crate) fn truncate(&mut self, len: usize) {
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

    pub(crate) fn finish(&mut self) -> ArrayRef {
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

/// A column of [`timestamp`](super::arrow_types::timestamp).
pub(crate) fn utc(millis: Vec<i64>, nulls: Option<NullBuffer>) -> PrimitiveArray<TimestampMillisecondType> {
    PrimitiveArray::new(millis.into(), nulls).with_timezone("+00:00")
}
