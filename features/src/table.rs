//! Values of many entities at one instant, side by side: what the read API answers.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanBuilder, Float64Builder, Int64Array, Int64Builder, ListArray, RecordBatch,
        StringArray, StringBuilder, StructArray, TimestampMillisecondArray, TimestampMillisecondBuilder,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Schema, TimeUnit},
};
use ingest::{Millis, log::Position};

use crate::{
    error::FeatureError,
    value::{FeatureRow, Value},
};

/// Names and types of the features of a table.
#[derive(Debug, Default)]
pub struct Columns {
    /// `view.feature_window`, in the order asked.
    pub names: Arc<[Arc<str>]>,
    /// Arrow types of their values.
    pub types: Vec<DataType>,
    /// Name and version of each view behind them.
    pub views: Vec<(Arc<str>, Arc<str>)>,
    /// For each feature `"name":` as JSON, so that an answer need not escape it again.
    pub keys: Vec<String>,
}

impl Columns {
    /// Columns of these names and types, from views of these names and versions.
    pub fn new(names: Arc<[Arc<str>]>, types: Vec<DataType>, views: Vec<(Arc<str>, Arc<str>)>) -> Columns {
        let keys = names.iter().map(|n| format!("{}:", serde_json::Value::from(&**n))).collect();
        Columns { names, types, views, keys }
    }
}

/// See the module. Values and ages lie row by row.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    /// Names and types.
    pub columns: Arc<Columns>,
    /// One for each row, in the order asked; repeats and unknown ones included.
    pub entities: Vec<String>,
    /// The instant the values hold for.
    pub as_of: Millis,
    /// Everything below it is in the values.
    pub position: Position,
    /// Rows times columns.
    pub values: Vec<Value>,
    /// For each value, how old the newest signal behind it is, in milliseconds; `None` when there is none.
    pub ages: Vec<Option<i64>>,
    /// For each row, whether its values may be older than they should be ([`FeatureRow::stale`]).
    pub stale: Vec<bool>,
}

impl FeatureTable {
    /// Puts rows side by side.
    pub fn from_rows(
        columns: Arc<Columns>,
        rows: Vec<FeatureRow>,
        as_of: Millis,
        position: Position,
    ) -> FeatureTable {
        let width = columns.names.len();
        let mut table = FeatureTable {
            entities: Vec::with_capacity(rows.len()),
            values: Vec::with_capacity(rows.len() * width),
            ages: Vec::with_capacity(rows.len() * width),
            stale: Vec::with_capacity(rows.len()),
            columns,
            as_of,
            position,
        };
        for row in rows {
            table.entities.push(row.entity);
            table.values.extend(row.values);
            table.ages.extend(row.age_ms);
            table.stale.push(row.stale);
        }
        table
    }

    /// Every row as of somebody without signals.
    pub fn empty(
        columns: Arc<Columns>,
        empty: &[Value],
        entities: Vec<String>,
        as_of: Millis,
    ) -> FeatureTable {
        let rows = entities.len();
        FeatureTable {
            ages: vec![None; rows * empty.len()],
            stale: vec![false; rows],
            values: std::iter::repeat_n(empty, rows).flatten().cloned().collect(),
            columns,
            entities,
            as_of,
            position: Position::default(),
        }
    }

    /// Entity, values and ages of each row.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &[Value], &[Option<i64>])> {
        let width = self.columns.names.len();
        self.entities.iter().enumerate().map(move |(i, entity)| {
            let cells = i * width..(i + 1) * width;
            (entity.as_str(), &self.values[cells.clone()], &self.ages[cells])
        })
    }

    /// As an Arrow batch: `entity`, `as_of`, a column for each feature by its name and type, and `age_ms`, a
    /// struct with an Int64 for each feature. The schema's metadata has `kairos.position` and, for each view,
    /// `kairos.version.<view>`; `kairos.stale` lists the numbers of the rows, from 0, that are stale, if any are.
    pub fn to_arrow(&self) -> Result<RecordBatch, FeatureError> {
        let wrong = |e: arrow::error::ArrowError| FeatureError::Damaged(format!("values as Arrow: {e}"));
        let (rows, width) = (self.entities.len(), self.columns.names.len());
        let as_of = TimestampMillisecondArray::from(vec![self.as_of; rows]).with_timezone("+00:00");
        let mut fields = vec![
            Field::new("entity", DataType::Utf8, false),
            Field::new("as_of", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
        ];
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from_iter_values(&self.entities)), Arc::new(as_of)];
        for (i, (name, kind)) in self.columns.names.iter().zip(&self.columns.types).enumerate() {
            fields.push(Field::new(&**name, kind.clone(), true));
            columns.push(array(kind, self.values.iter().skip(i).step_by(width))?);
        }
        let ages = |i: usize| Int64Array::from_iter(self.ages.iter().skip(i).step_by(width).copied());
        let age_fields: Fields =
            self.columns.names.iter().map(|n| Field::new(&**n, DataType::Int64, true)).collect();
        let age_columns: Vec<ArrayRef> = (0..width).map(|i| Arc::new(ages(i)) as _).collect();
        fields.push(Field::new("age_ms", DataType::Struct(age_fields.clone()), false));
        columns.push(Arc::new(
            StructArray::try_new_with_length(age_fields, age_columns, None, rows).map_err(wrong)?,
        ));
        let mut metadata = std::collections::HashMap::new();
        metadata.insert("kairos.position".to_owned(), self.position.to_string());
        for (view, version) in &self.columns.views {
            metadata.insert(format!("kairos.version.{view}"), version.to_string());
        }
        if self.stale.contains(&true) {
            let stale = self.stale.iter().enumerate().filter(|(_, stale)| **stale);
            let numbers: Vec<String> = stale.map(|(row, _)| row.to_string()).collect();
            metadata.insert("kairos.stale".to_owned(), numbers.join(","));
        }
        let schema = Schema::new_with_metadata(fields, metadata);
        RecordBatch::try_new(Arc::new(schema), columns).map_err(wrong)
    }
}

/// Values as an array of a kept type.
fn array<'v>(kind: &DataType, values: impl Iterator<Item = &'v Value>) -> Result<ArrayRef, FeatureError> {
    macro_rules! build {
        ($builder:expr, $($pattern:pat => $value:expr),+) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    Value::Null => builder.append_null(),
                    $($pattern => builder.append_value($value),)+
                    other => return Err(unfit(kind, other)),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    Ok(match kind {
        DataType::Int64 => build!(Int64Builder::new(), Value::Int(i) => *i),
        DataType::Float64 => build!(Float64Builder::new(), Value::Float(f) => *f),
        DataType::Boolean => build!(BooleanBuilder::new(), Value::Bool(b) => *b),
        DataType::Utf8 => build!(StringBuilder::new(), Value::Text(t) => &**t),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => build!(
            TimestampMillisecondBuilder::new().with_timezone_opt(zone.clone()),
            Value::Time(t) => *t
        ),
        DataType::List(item) => {
            let (mut lengths, mut valid, mut items) = (Vec::new(), Vec::new(), Vec::new());
            for value in values {
                let list: &[Value] = match value {
                    Value::Null => &[],
                    Value::List(list) => list,
                    other => return Err(unfit(kind, other)),
                };
                valid.push(*value != Value::Null);
                lengths.push(list.len());
                items.extend(list);
            }
            let items = array(item.data_type(), items.into_iter())?;
            let list = ListArray::try_new(
                item.clone(),
                OffsetBuffer::from_lengths(lengths),
                items,
                Some(NullBuffer::from(valid)),
            );
            Arc::new(list.map_err(|e| FeatureError::Damaged(format!("a list as Arrow: {e}")))?)
        }
        other => return Err(FeatureError::Damaged(format!("values of the type {other} have no Arrow form"))),
    })
}

fn unfit(kind: &DataType, value: &Value) -> FeatureError {
    FeatureError::Damaged(format!("a value of a feature of the type {kind} is {value:?}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn every_type_has_its_arrow_column() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let types =
            vec![DataType::Int64, DataType::Float64, DataType::Boolean, DataType::Utf8, time, list.clone()];
        let names: Arc<[Arc<str>]> = ["v.i", "v.f", "v.b", "v.t", "v.at", "v.l"].map(Arc::from).into();
        let columns = Arc::new(Columns::new(names, types.clone(), vec![("v".into(), "00ff".into())]));
        let full = vec![
            Value::Int(-1),
            Value::Float(f64::NAN),
            Value::Bool(true),
            Value::Text("żółw".into()),
            Value::Time(5),
            Value::List(vec![Value::Text("a".into()), Value::Null]),
        ];
        let table = FeatureTable {
            columns: columns.clone(),
            entities: vec!["ada".into(), "bo".into(), "ada".into()],
            as_of: 7,
            position: "0:3".parse().unwrap(),
            values: [full.clone(), vec![Value::Null; 6], full.clone()].concat(),
            ages: [vec![Some(3); 6], vec![None; 12]].concat(),
            stale: vec![true, false, true],
        };
        let batch = table.to_arrow().unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (3, 9));
        let schema = batch.schema();
        assert_eq!(schema.metadata()["kairos.position"], "0:3");
        assert_eq!(schema.metadata()["kairos.version.v"], "00ff");
        assert_eq!(schema.metadata()["kairos.stale"], "0,2");
        for (i, t) in types.iter().enumerate() {
            assert_eq!(schema.field(i + 2).data_type(), t);
            let column = batch.column(i + 2);
            assert_eq!((column.null_count(), column.is_null(1)), (1, true), "{t}");
            let back = crate::kernel::value_at(column, 2);
            if *t != list && *t != DataType::Float64 {
                assert_eq!(back, full[i]);
            }
        }
        let lists = batch.column(7).as_list::<i32>();
        assert_eq!(lists.value(0).as_string::<i32>().value(0), "a");
        assert_eq!((lists.value(2).len(), lists.value(1).len()), (2, 0));
        let ages = batch.column_by_name("age_ms").unwrap().as_struct();
        assert_eq!((ages.num_columns(), ages.column(0).null_count()), (6, 2));

        let wrong = FeatureTable { values: vec![Value::Bool(true); 18], ..table };
        assert!(wrong.to_arrow().unwrap_err().to_string().contains("Int64"));
        let none = FeatureTable::empty(columns, &full, Vec::new(), 0);
        assert_eq!(none.to_arrow().unwrap().num_rows(), 0);
    }
}
