//! What ClickHouse makes of Arrow's types, and back.
//!
//! | Arrow | ClickHouse |
//! |---|---|
//! | Utf8, Binary | String |
//! | Timestamp | DateTime64 in UTC |
//! | numbers, Boolean, Date32, Decimal | the same |
//! | List, Map | Array, Map; which rows have NULL there stands in the column [`NULLS`] |
//! | Struct | Tuple, Nullable where the struct is |
//!
//! Each column's comment says its Arrow type, so that it reads as it was written.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, RecordBatch, RecordBatchOptions,
        StringArray, StructArray, make_array,
    },
    buffer::NullBuffer,
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};

use super::sql::{literal, quoted};

/// Names of the columns of a row that are NULL although their type cannot be.
pub(super) const NULLS: &str = "kairos_nulls";
/// Orders rows that replace one another.
pub(super) const ORDER: &str = "kairos_order";

/// Whether NULL in a column must be told by [`NULLS`].
pub(super) fn needs_nulls(field: &Field) -> bool {
    field.is_nullable() && matches!(field.data_type(), DataType::List(_) | DataType::Map(..))
}

/// A column as DDL writes it; an error names a type that ClickHouse has no place for.
pub(super) fn column(field: &Field) -> Result<String, String> {
    let repeats = ["source", "version"].contains(&field.name().as_str()) && !field.is_nullable();
    let mut kind = type_of(field.data_type(), field.is_nullable())?;
    if repeats && *field.data_type() == DataType::Utf8 {
        kind = "LowCardinality(String)".into();
    }
    let codec = match field.data_type() {
        DataType::Timestamp(..) => "Delta(8), ZSTD(1)",
        DataType::UInt64 if field.name() == "offset" => "Delta(8), ZSTD(1)",
        _ => "ZSTD(1)",
    };
    let comment = literal(&comment(field));
    Ok(format!("{} {kind} CODEC({codec}) COMMENT {comment}", quoted(field.name())))
}

/// What a column's comment says of its type.
pub(super) fn comment(field: &Field) -> String {
    let required = if field.is_nullable() { "" } else { "required " };
    format!("{required}{}", field.data_type())
}

/// The field of a column with this comment; `None` for a column that is not ours.
pub(super) fn field(name: &str, comment: &str) -> Option<Field> {
    let (kind, nullable) = match comment.strip_prefix("required ") {
        Some(kind) => (kind, false),
        None => (comment, true),
    };
    Some(Field::new(name, kind.parse::<DataType>().ok()?, nullable))
}

fn type_of(kind: &DataType, nullable: bool) -> Result<String, String> {
    let inner = |f: &Field| type_of(f.data_type(), f.is_nullable());
    let plain = match kind {
        DataType::List(item) => return Ok(format!("Array({})", inner(item)?)),
        DataType::Map(entry, _) => {
            let DataType::Struct(fields) = entry.data_type() else { return Err(kind.to_string()) };
            let [key, value] = &fields[..] else { return Err(kind.to_string()) };
            return Ok(format!("Map({}, {})", type_of(key.data_type(), false)?, inner(value)?));
        }
        DataType::Struct(fields) => {
            let parts: Vec<String> = fields
                .iter()
                .map(|f| Ok(format!("{} {}", quoted(f.name()), inner(f)?)))
                .collect::<Result<_, String>>()?;
            format!("Tuple({})", parts.join(", "))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => "String".into(),
        DataType::Boolean => "Bool".into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => kind.to_string(),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => kind.to_string(),
        DataType::Float32 | DataType::Float64 => kind.to_string(),
        DataType::Date32 => "Date32".into(),
        DataType::Decimal128(precision, scale @ 0..) => format!("Decimal({precision}, {scale})"),
        DataType::Timestamp(unit, _) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            format!("DateTime64({digits}, 'UTC')")
        }
        other => return Err(other.to_string()),
    };
    Ok(if nullable { format!("Nullable({plain})") } else { plain })
}

/// The batch with the column [`NULLS`], where its types need it.
pub(super) fn with_nulls(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let told: Vec<usize> = (0..batch.num_columns()).filter(|i| needs_nulls(schema.field(*i))).collect();
    if told.is_empty() {
        return Ok(batch.clone());
    }
    let mut names = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for row in 0..batch.num_rows() {
        for i in told.iter().filter(|i| batch.column(**i).is_null(row)) {
            names.values().append_value(schema.field(*i).name());
        }
        names.append(true);
    }
    let names = names.finish();
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(NULLS, names.data_type().clone(), false)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(names));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// What the server answered, as it was written: the columns of `target`, which stand first, and then perhaps
/// [`NULLS`].
pub(super) fn restore(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let nulls = batch.column_by_name(NULLS).map(|c| c.as_list::<i32>().clone());
    let column = |(i, field): (usize, &Arc<Field>)| {
        let column = array(batch.column(i), field.data_type())?;
        match &nulls {
            Some(nulls) if needs_nulls(field) => without(&column, nulls, field.name()),
            _ => Ok(column),
        }
    };
    let columns = target.fields().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(target.clone(), columns, &options)
}

/// The column, NULL in the rows that name it.
fn without(column: &ArrayRef, nulls: &ListArray, name: &str) -> Result<ArrayRef, ArrowError> {
    if nulls.values().is_empty() {
        return Ok(column.clone());
    }
    let named = |row: ArrayRef| row.as_binary::<i32>().iter().any(|n| n == Some(name.as_bytes()));
    let there: BooleanArray = nulls.iter().map(|row| Some(!row.is_some_and(named))).collect();
    let data = column.to_data().into_builder().nulls(Some(NullBuffer::new(there.values().clone())));
    Ok(make_array(data.build()?))
}

fn array(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), target) {
        (from, to) if from == to => Ok(array.clone()),
        (DataType::Binary, DataType::Utf8) => {
            Ok(Arc::new(StringArray::try_from_binary(array.as_binary::<i32>().clone())?))
        }
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) if a == b => {
            // The instants are the same, whatever the zone is called.
            Ok(make_array(array.to_data().into_builder().data_type(target.clone()).build()?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = self::array(list.values(), item.data_type())?;
            let offsets = list.offsets().clone();
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, list.nulls().cloned())?))
        }
        (DataType::Map(..), DataType::Map(entry, sorted)) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = self::array(&entries, entry.data_type())?.as_struct().clone();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(entry.clone(), offsets, entries, nulls, *sorted)?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let from = array.as_struct();
            let part = |(i, f): (usize, &Arc<Field>)| self::array(from.column(i), f.data_type());
            let parts = fields.iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
            let nulls = from.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), parts, nulls, from.len())?))
        }
        _ => cast(array, target),
    }
}
