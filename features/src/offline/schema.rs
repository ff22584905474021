//! Add-only growth of a table's columns: the union of two schemas, and batches brought to a wider one.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatchOptions, StructArray, new_null_array},
    datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
};

use super::{HistoryError, ScanFilter};

/// All columns of `old`, in their order, then what `new` adds. A column that only one side has may be NULL.
/// Refused when a column changed its type.
pub fn merge(table: &str, old: &SchemaRef, new: &SchemaRef) -> Result<SchemaRef, HistoryError> {
    if Arc::ptr_eq(old, new) || old.fields() == new.fields() {
        return Ok(old.clone());
    }
    let fields = merge_fields(old.fields(), new.fields()).map_err(|what| {
        HistoryError::Refused(format!(
            "table `{table}`: {what}; columns may be added but keep their type, so declare the new one under \
             another name"
        ))
    })?;
    Ok(if fields == *old.fields() { old.clone() } else { Arc::new(Schema::new(fields)) })
}

fn merge_fields(old: &Fields, new: &Fields) -> Result<Fields, String> {
    let optional = |f: &FieldRef| Arc::new(f.as_ref().clone().with_nullable(true));
    let mut merged = Vec::with_capacity(old.len().max(new.len()));
    for field in old {
        merged.push(match new.find(field.name()) {
            Some((_, other)) => merge_field(field, other)?,
            None => optional(field),
        });
    }
    merged.extend(new.iter().filter(|f| old.find(f.name()).is_none()).map(optional));
    Ok(merged.into())
}

fn merge_field(old: &FieldRef, new: &FieldRef) -> Result<FieldRef, String> {
    let kind = match (old.data_type(), new.data_type()) {
        (a, b) if a == b => a.clone(),
        (DataType::Struct(a), DataType::Struct(b)) => DataType::Struct(merge_fields(a, b)?),
        (DataType::List(a), DataType::List(b)) => DataType::List(merge_field(a, b)?),
        (DataType::Map(a, sorted), DataType::Map(b, _)) => DataType::Map(merge_field(a, b)?, *sorted),
        (a, b) => return Err(format!("column `{}` is stored as {a} and now comes as {b}", old.name())),
    };
    let nullable = old.is_nullable() || new.is_nullable();
    if kind == *old.data_type() && nullable == old.is_nullable() {
        return Ok(old.clone());
    }
    Ok(Arc::new(Field::new(old.name(), kind, nullable).with_metadata(old.metadata().clone())))
}

/// The batch with exactly the columns of `target`: by name, NULL where it lacks one.
pub fn adapt(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(batch.schema_ref(), target) || batch.schema_ref().fields() == target.fields() {
        return Ok(batch.clone());
    }
    let columns = target
        .fields()
        .iter()
        .map(|f| match batch.column_by_name(f.name()) {
            Some(column) => adapt_array(column, f.data_type()),
            None => Ok(new_null_array(f.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(target.clone(), columns, &options)
}

fn adapt_array(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    match target {
        DataType::Struct(fields) if matches!(array.data_type(), DataType::Struct(_)) => {
            Ok(Arc::new(adapt_struct(array.as_struct(), fields)?))
        }
        DataType::List(item) if matches!(array.data_type(), DataType::List(_)) => {
            let list = array.as_list::<i32>();
            let values = adapt_array(list.values(), item.data_type())?;
            Ok(Arc::new(ListArray::try_new(
                item.clone(),
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?))
        }
        DataType::Map(entry, sorted) if matches!(array.data_type(), DataType::Map(..)) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entry.data_type() else {
                return Err(ArrowError::SchemaError("the entries of a map are a struct".into()));
            };
            let entries = adapt_struct(map.entries(), fields)?;
            Ok(Arc::new(MapArray::try_new(
                entry.clone(),
                map.offsets().clone(),
                entries,
                map.nulls().cloned(),
                *sorted,
            )?))
        }
        _ => Err(ArrowError::SchemaError(format!("{} does not read as {target}", array.data_type()))),
    }
}

fn adapt_struct(array: &StructArray, fields: &Fields) -> Result<StructArray, ArrowError> {
    let children = fields
        .iter()
        .map(|f| match array.column_by_name(f.name()) {
            Some(child) => adapt_array(child, f.data_type()),
            None => Ok(new_null_array(f.data_type(), array.len())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new_with_length(fields.clone(), children, array.nulls().cloned(), array.len())
}

/// The columns a filter asks for, in its order.
pub(crate) fn projected(
    table: &str,
    schema: &SchemaRef,
    filter: &ScanFilter,
) -> Result<SchemaRef, HistoryError> {
    let Some(columns) = &filter.columns else { return Ok(schema.clone()) };
    let field = |name: &String| {
        schema.field_with_name(name).cloned().map_err(|_| {
            let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            HistoryError::Refused(format!(
                "table `{table}` has no column `{name}`; it has {}",
                known.join(", ")
            ))
        })
    };
    Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>, _>>()?)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn schema(fields: Vec<Field>) -> SchemaRef {
        Arc::new(Schema::new(fields))
    }

    fn nested(children: Vec<Field>) -> Field {
        let item = Field::new("item", DataType::Struct(children.into()), true);
        Field::new("parts", DataType::List(Arc::new(item)), true)
    }

    #[test]
    fn columns_are_added_and_older_batches_read_null() {
        let old = schema(vec![Field::new("a", DataType::Utf8, false)]);
        let new =
            schema(vec![Field::new("a", DataType::Utf8, false), Field::new("b", DataType::Int64, false)]);
        let merged = merge("t", &old, &new).unwrap();
        assert!(merged.field(1).is_nullable());
        let batch = RecordBatch::try_new(old, vec![Arc::new(StringArray::from(vec!["x"]))]).unwrap();
        let wide = adapt(&batch, &merged).unwrap();
        assert_eq!(wide.column(1).null_count(), 1);
        assert!(Arc::ptr_eq(&merge("t", &merged, &new).unwrap(), &merged));
    }

    #[test]
    fn a_changed_type_is_refused() {
        let old = schema(vec![Field::new("a", DataType::Utf8, false)]);
        let new = schema(vec![Field::new("a", DataType::Int64, false)]);
        let error = merge("t", &old, &new).unwrap_err().to_string();
        assert!(error.contains("`t`") && error.contains("`a` is stored as Utf8"), "{error}");
    }

    #[test]
    fn messages_inside_lists_grow_too() {
        let int = |n: &str| Field::new(n, DataType::Int64, true);
        let old = schema(vec![nested(vec![int("x")])]);
        let new = schema(vec![nested(vec![int("x"), int("y")])]);
        let merged = merge("t", &old, &new).unwrap();
        let DataType::List(item) = old.field(0).data_type() else { unreachable!() };
        let DataType::Struct(children) = item.data_type() else { unreachable!() };
        let values = StructArray::new(children.clone(), vec![Arc::new(Int64Array::from(vec![1, 2]))], None);
        let list = ListArray::new(
            item.clone(),
            arrow::buffer::OffsetBuffer::from_lengths([2]),
            Arc::new(values),
            None,
        );
        let batch = RecordBatch::try_new(old, vec![Arc::new(list)]).unwrap();
        let wide = adapt(&batch, &merged).unwrap();
        let inner = wide.column(0).as_list::<i32>().values().as_struct().clone();
        assert_eq!(inner.column_by_name("y").unwrap().null_count(), 2);
    }
}
